from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from errno import EIO, EROFS
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.errors import ConfigurationError, CorruptJournal
from dcounter.journal.framing import JournalEntry, frame
from dcounter.journal.recovery import JournalReading, Recovery, TornTail
from dcounter.testing import DiskOperation, SimulatedDisk
from tests.support.journals import line_of, reason_of

_S1, _S2, _S3 = (f"00000000000{number}.journal" for number in (1, 2, 3))
_SNAP2 = "000000000002.snapshot"


def _file(*lines: bytes) -> bytes:
    return b"".join(frame(line_of(line)) for line in lines)


_A = len(_file(b"a"))


def _is_chunk(line: bytes) -> bool:
    return line.startswith(b"piece")


def _disk(files: Mapping[str, bytes]) -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.open()
    for name, data in files.items():
        file = disk.create(name)
        file.write(data)
        file.sync()
        file.close()
    disk.sync()
    disk.kill()
    return disk


@dataclass
class Read:
    lines: list[bytes]
    kept: JournalReading
    disk: SimulatedDisk
    recovery: Recovery

    @property
    def files(self) -> dict[str, bytes]:
        return {name: self.disk.read(name) for name in self.disk.list()}


def _read(
    files: Mapping[str, bytes], *, errors: Iterable[DiskOperation] = (), owner: str | None = None
) -> Read:
    disk = _disk(files)
    disk.errors.update(dict.fromkeys(errors, EIO))
    recovery = Recovery(disk, is_chunk=_is_chunk, owner=owner)
    lines = [entry.line for entry in recovery.read()]
    return Read(lines, recovery.kept, disk, recovery)


def _kept(last: int, *segments: tuple[str, int], **more: Any) -> JournalReading:
    return JournalReading(last=last, segments=segments, **{"snapshot_size": 0, **more})


@pytest.mark.parametrize(
    ("files", "lines", "kept", "left"),
    [
        pytest.param({}, [], _kept(0), {}, id="nothing"),
        pytest.param(
            {_S1: _file(b"a"), _S2: _file(b"b", b"c")},
            [b"a", b"b", b"c"],
            _kept(2, (_S1, _A), (_S2, 2 * _A)),
            {_S1: _file(b"a"), _S2: _file(b"b", b"c")},
            id="segments",
        ),
        pytest.param(
            {_S1: _file(b"gone"), _S2: _file(b"b"), _SNAP2: _file(b"A")},
            [b"A", b"b"],
            _kept(2, (_S2, _A), snapshot_size=_A),
            {_S2: _file(b"b"), _SNAP2: _file(b"A")},
            id="snapshot",
        ),
        pytest.param(
            {_S1: _file(b"a", b"b")[:-3]},
            [b"a"],
            _kept(1, (_S1, _A), torn=TornTail(_S1, _A - 3)),
            {_S1: _file(b"a")},
            id="torn tail",
        ),
        pytest.param(
            {_S1: _file(b"a"), _S2: b"garbage\nmore"},
            [b"a"],
            _kept(2, (_S1, _A), (_S2, 0), torn=TornTail(_S2, 12)),
            {_S1: _file(b"a"), _S2: b""},
            id="nothing but a torn tail",
        ),
        pytest.param(
            {_S1: _file(b"a")[:-3], _S2: b"", _S3: b""},
            [],
            _kept(3, (_S1, 0), torn=TornTail(_S1, _A - 3)),
            {_S1: b""},
            id="empty segments behind a torn tail",
        ),
        pytest.param(
            {"000000000005.unfinished": b"x", _S1: _file(b"a"), "owner": b"o\n", "notes": b""},
            [b"a"],
            _kept(5, (_S1, _A)),
            {_S1: _file(b"a"), "owner": b"o\n", "notes": b""},
            id="other files",
        ),
    ],
)
def test_what_counts(
    files: Mapping[str, bytes], lines: Sequence[bytes], kept: JournalReading, left: Mapping[str, bytes]
) -> None:
    read = _read(files)
    assert (read.lines, read.kept, read.files) == (lines, kept, left)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({_S1: b"x" + _file(b"a", b"b")}, f"{_S1}: damaged at byte 0, and valid lines follow"),
        ({_S1: _file(b"a")[:-1], _S2: _file(b"b")}, f"{_S1}: the end is damaged, but {_S2} follows"),
        ({_S1: _file(b"a")[:-1], _S2: b"garbage"}, f"{_S1}: the end is damaged, but {_S2} follows"),
        ({_SNAP2: b""}, f"{_SNAP2}: damaged at byte 0"),
        ({_SNAP2: _file(b"A", b"B")[:-1]}, f"{_SNAP2}: damaged at byte {_A}"),
        ({_SNAP2: _file(b"A") + b"x"}, f"{_SNAP2}: damaged at byte {_A}"),
        ({_SNAP2: _file(b"piece")[:-1]}, f"{_SNAP2}: damaged at byte 0"),
    ],
)
def test_what_is_corrupt(files: Mapping[str, bytes], why: str) -> None:
    with pytest.raises(CorruptJournal) as caught:
        _read(files)
    assert str(caught.value) == why


@given(
    st.lists(st.lists(st.binary(max_size=5).map(bytes.hex), min_size=1, max_size=3), min_size=1, max_size=3),
    st.data(),
)
def test_a_last_segment_cut_anywhere_loses_only_what_is_behind_the_cut(
    segments: list[list[str]], data: st.DataObject
) -> None:
    files = {
        f"{number:012d}.journal": _file(*(line.encode() for line in lines))
        for number, lines in enumerate(segments, 1)
    }
    last = max(files)
    cut = data.draw(st.integers(0, len(files[last])))
    whole = files[last][:cut].count(b"\n")
    expected = [line.encode() for lines in segments[:-1] for line in lines]
    expected += [line.encode() for line in segments[-1][:whole]]
    read = _read(files | {last: files[last][:cut]})
    assert read.lines == expected
    # The next process finds the same, and nothing to truncate.
    again = _read(read.files)
    assert (again.lines, again.kept.torn) == (expected, None)


# What the ledger is made of


def test_pieces_and_batches_are_given_later() -> None:
    snapshot = b"".join(frame(JournalEntry(line)) for line in (b"begin", b"piece 1", b"piece 2", b"end"))
    segment = frame(line_of(b"batch")) + frame(JournalEntry(b"piece 3")) + frame(JournalEntry(b"removal"))
    read = _read({_SNAP2: snapshot, _S2: segment + b"torn"})
    assert read.lines == [b"begin", b"end", b"batch", b"removal"]
    loaded = [entry.line for entry in read.recovery.load()]
    assert loaded == [b"piece 1", b"piece 2", b"batch", b"piece 3"]


def test_what_is_appended_meanwhile_is_not_loaded() -> None:
    read = _read({_S1: _file(b"a")})
    rest = read.recovery.load()
    file = read.disk.create(_S2)
    file.write(_file(b"b"))
    assert [entry.line for entry in rest] == [b"a"]


# A disk that takes nothing new


@pytest.mark.parametrize("operation", ["create", "rename"])
def test_what_can_be_proved_in_place_is_not_doubted(operation: DiskOperation) -> None:
    read = _read({_S1: _file(b"a")}, errors=[operation])
    assert read.lines == [b"a"]
    assert read.kept == _kept(1, (_S1, _A), failure=reason_of(EIO), unproved=_S1)


@pytest.mark.parametrize("operation", ["write", "sync", "sync names"])
@pytest.mark.parametrize("files", [{_S1: _file(b"a")}, {_S1: _file(b"a"), _SNAP2: _file(b"A")}])
def test_what_cannot_be_proved_is_doubted(files: Mapping[str, bytes], operation: DiskOperation) -> None:
    if _SNAP2 in files and operation != "sync names":
        # Nothing needs to be written where the snapshot is all that counts.
        assert not _read(files, errors=[operation]).kept.doubted
        return
    kept = _read(files, errors=[operation]).kept
    assert (kept.doubted, kept.failure) == (True, reason_of(EIO))


def test_an_empty_directory_has_nothing_to_doubt() -> None:
    read = _read({}, errors=["create", "sync names"], owner="node 1")
    assert read.kept == _kept(0, failure=reason_of(EIO), not_removed=reason_of(EIO), unsigned="node 1")


def test_what_cannot_be_removed_is_named() -> None:
    read = _read({_S1: _file(b"a"), _S2: b"", "000000000007.unfinished": b""}, errors=["remove"])
    assert read.lines == [b"a"]
    assert (read.kept.not_removed, read.kept.empty) == (reason_of(EIO), (_S2,))


def test_a_disk_that_can_only_be_read_is_left_as_it_was() -> None:
    files = {_S1: _file(b"a") + b"torn", _S2: b"", "000000000007.unfinished": b"x"}
    disk = _disk(files)
    disk.read_only = True
    recovery = Recovery(disk, is_chunk=_is_chunk)
    assert [entry.line for entry in recovery.read()] == [b"a"]
    assert {name: disk.read(name) for name in disk.list()} == files
    assert (recovery.kept.failure, recovery.kept.doubted) == (reason_of(EROFS), True)


# Whose it is


def test_a_new_journal_becomes_its_owners() -> None:
    read = _read({}, owner="node 1")
    assert (read.files, read.kept.unsigned) == ({"owner": b"node 1\n"}, None)
    assert _read(read.files, owner="node 1").kept.unsigned is None


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"owner": b"node 2\n"}, "the journal belongs to node 2, not to node 1"),
        ({_S1: _file(b"a")}, "the journal names no owner: the file 'owner' is missing"),
        ({_SNAP2: _file(b"A")}, "the journal names no owner: the file 'owner' is missing"),
    ],
)
def test_another_owners_journal_is_refused_and_let_go(files: Mapping[str, bytes], why: str) -> None:
    disk = _disk(files)
    for _ in range(2):
        with pytest.raises(ConfigurationError) as caught:
            list(Recovery(disk, is_chunk=_is_chunk, owner="node 1").read())
        assert str(caught.value) == why
        assert not disk.used


def test_an_empty_segment_belongs_to_anyone() -> None:
    assert _read({_S1: b""}, owner="node 1").files == {"owner": b"node 1\n"}
