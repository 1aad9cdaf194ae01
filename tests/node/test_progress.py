"""
What a node tells of its start, as a line and as a sentence.
"""

import errno

import pytest

from dcounter.errors import ConfigurationError, CorruptJournal, NewerJournal
from dcounter.node.progress import Progress, reason

_REMEDY = "Set it aside."


@pytest.mark.parametrize(
    "progress",
    [
        Progress("up"),
        Progress("waits", "/data/node-1 is used by process 4711"),
        Progress("cannot start", "it is damaged: at byte 0: really"),
    ],
)
def test_what_is_written_is_read(progress: Progress) -> None:
    line = progress.to_line()
    assert line.endswith(b"\n")
    assert Progress.from_line(line.removesuffix(b"\n")) == progress


def test_a_reason_of_several_lines_is_one_line() -> None:
    line = Progress("cannot start", "no\n\troom\r\n").to_line()
    assert line == b"cannot start: no room\n"


def test_a_path_that_is_no_utf_8_is_written_all_the_same() -> None:
    line = Progress("cannot start", "/data/\udcff").to_line()
    assert Progress.from_line(line) == Progress("cannot start", "/data/\\udcff")


@pytest.mark.parametrize("line", [b"", b"hello", b"upwards: no", b"Up: ", b"\xff\xfe: x", b": up"])
def test_what_is_none_of_ours_is_nothing(line: bytes) -> None:
    assert Progress.from_line(line) is None


def test_the_sentence_names_the_node() -> None:
    assert Progress("waits", "for a lock").sentence(3) == "node 3 waits: for a lock"


def test_a_damaged_journal_has_the_remedy() -> None:
    error = CorruptJournal("000000000001.journal: damaged at byte 0")
    assert reason(error, place="/data/node-3", remedy=_REMEDY) == (
        "its journal is damaged: 000000000001.journal: damaged at byte 0 (in /data/node-3). Set it aside."
    )


def test_a_newer_journal_has_no_advice_that_deletes() -> None:
    text = reason(NewerJournal("a line of type 'x'"), place="/data/node-3", remedy=_REMEDY)
    assert text == (
        "its journal was written by a newer version of dcounter: a line of type 'x' (in /data/node-3); "
        "start it with that version or a newer one"
    )


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "; see that it and all in it can be written by the user that runs dcounter"),
        (errno.EPERM, "; see that it and all in it can be written by the user that runs dcounter"),
        (errno.ENOSPC, "; make room on that disk"),
        (errno.EDQUOT, "; make room for this user on that disk"),
        (errno.EROFS, "; mount it so that it can be written"),
        (errno.EEXIST, "; if it is a link, mount what it leads to; if it is a file, move it away"),
        (errno.ENOTDIR, "; move the file that is in the place of a directory away"),
        (errno.EMFILE, "; raise the limit of open files"),
        (errno.ENFILE, "; raise the limit of open files"),
        (errno.EIO, ""),
    ],
)
def test_an_error_of_the_operating_system_says_what_to_do(number: int, advice: str) -> None:
    error = OSError(number, "No", "/data/node-3/000000000001.journal")
    text = reason(error, place="/data/node-3", remedy=_REMEDY)
    # The path is there once.
    assert text == (
        f"its journal cannot be used: [Errno {number}] No: '/data/node-3/000000000001.journal'{advice}"
    )


def test_an_error_that_names_nothing_gets_the_directory() -> None:
    text = reason(OSError(errno.ENOSPC, "No"), place="/data/node-3", remedy=_REMEDY)
    assert text == (
        f"its journal cannot be used: [Errno {errno.ENOSPC}] No (in /data/node-3); make room on that disk"
    )


def test_an_error_without_a_number_has_no_advice() -> None:
    assert reason(OSError("odd"), place="", remedy=_REMEDY) == "its journal cannot be used: odd"


def test_the_journal_of_another_node_is_not_to_be_used() -> None:
    text = reason(ConfigurationError("the journal belongs to node 2"), place="/data/node-3", remedy=_REMEDY)
    assert text == (
        "its journal cannot be used: the journal belongs to node 2 (in /data/node-3); "
        "put this node's own directory in its place, or start it with its own id and secret"
    )
