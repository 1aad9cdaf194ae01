from collections.abc import Callable, Sequence
from errno import EIO, ENOSPC
from functools import partial
from pathlib import Path
from random import Random
from threading import current_thread
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime

from dcounter.errors import ConfigurationError
from dcounter.journal.disk import Disk, RealDisk
from dcounter.journal.file import FileJournal
from dcounter.journal.framing import JournalEntry, frame
from dcounter.journal.thread import WriterThread
from dcounter.protocol import codec
from dcounter.testing import DiskOperation
from tests.support.journals import Guarded, Shell, User, line_of, reason_of, results


def test_a_line_is_kept_as_it_came(shell: Shell) -> None:
    shell.commit(b'{"a":1}')
    assert shell.told == [1]
    assert shell.disk.read("000000000001.journal") == frame(line_of(b'{"a":1}'))
    shell.disk.kill()
    assert list(Shell(shell.disk).journal.recover()) == [line_of(b'{"a":1}')]


def test_nothing_is_told_before_it_is_synced(shell: Shell) -> None:
    shell.append(b"a")
    shell.run(0.24)
    assert shell.told == []
    assert shell.calls == []
    shell.run(0.02)
    assert shell.calls == ["create", "sync names", "write", "sync"]
    assert shell.told == [1]


def test_all_that_comes_while_a_sync_runs_shares_the_next_one(shell: Shell) -> None:
    shell.append(b"a", b"b")
    shell.run(0.01)
    for line in (b"c", b"d", b"e"):
        shell.append(line)
        shell.run(0.01)
    shell.run(0.5)
    assert shell.told == [2, 3]
    assert shell.calls == ["create", "sync names", *(["write", "sync"] * 2)]
    assert shell.files == {"1.journal": [b"a", b"b", b"c", b"d", b"e"]}


def test_commits_and_the_lines_that_share_them_are_counted(shell: Shell) -> None:
    shell.append(b"a", b"b")
    shell.run(0.01)
    for line in (b"c", b"d", b"e"):
        shell.append(line)
    shell.run(1)
    figures = shell.journal.figures
    assert (sum(figures.lines.counts), figures.lines.total) == (2, 5)
    assert sum(figures.commits.counts) == sum(figures.syncs.counts) == 2
    # What the first commit takes is what it takes until the user is told.
    assert 0.25 < figures.commits.total < 0.6


def test_what_the_user_appends_when_told_is_next(shell: Shell) -> None:
    shell.user.whenever = lambda: shell.append(b"more") if len(shell.told) < 3 else None
    shell.commit(b"a")
    shell.run(2)
    assert shell.told == [1, 1, 1]


def test_a_segment_that_is_full_is_followed_by_another_one() -> None:
    shell = Shell(segment_bytes=30).start()
    for line in (b"a" * 40, b"b", b"c", b"d"):
        shell.commit(line)
    assert shell.files == {"1.journal": [b"a" * 40], "2.journal": [b"b", b"c"], "3.journal": [b"d"]}
    assert shell.again().recovered == [b"a" * 40, b"b", b"c", b"d"]


def test_another_life_begins_another_segment(shell: Shell) -> None:
    shell.commit(b"a")
    other = shell.again()
    other.commit(b"b")
    assert other.files == {"1.journal": [b"a"], "2.journal": [b"b"]}
    assert other.again().recovered == [b"a", b"b"]


def test_what_is_no_file_of_a_journal_stays(shell: Shell) -> None:
    shell.commit(b"a")
    names = ["lost+found", "notes.journal", "1.snapshot", "2024-backup.journal", "0000000000010.journal"]
    for name in names:
        shell.disk.create(name)
    other = shell.again()
    assert other.recovered == [b"a"]
    other.commit(b"b")
    assert {*names} <= set(shell.disk.list())


# Disk trouble


@pytest.mark.parametrize("operation", ["write", "sync", "create", "sync names"])
def test_lines_that_fail_are_told_once_and_those_behind_them_too(
    shell: Shell, operation: DiskOperation
) -> None:
    shell.disk.errors[operation] = EIO
    shell.append(b"a", b"b")
    shell.run(0.1)
    shell.append(b"c")
    shell.run(0.3)
    assert shell.told == [(3, reason_of(EIO))]
    shell.run(5)
    assert len(shell.told) == 1


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_what_failed_does_not_come_back(shell: Shell, operation: DiskOperation) -> None:
    shell.commit(b"before")
    shell.disk.errors[operation] = EIO
    shell.commit(b"failed", b"failed too")
    shell.disk.errors.clear()
    shell.run(2)
    shell.commit(b"after")
    assert shell.told == [1, (2, reason_of(EIO)), "mended", 1]
    assert shell.files == {"1.journal": [b"before"], "2.journal": [b"after"]}
    for seed in range(10):
        shell.disk.lose_power(Random(seed))
        shell = Shell(shell.disk).start()
        assert shell.recovered == [b"before", b"after"]


def test_what_failed_is_not_read_by_the_next_process(shell: Shell) -> None:
    # Nor is it when the disk fails at the next start, and power takes then what was never synced.
    shell.commit(b"before")
    shell.disk.errors["sync"] = EIO
    shell.commit(b"failed")
    shell = shell.again()
    assert shell.recovered == [b"before"]
    assert shell.told == ["doubted", (0, reason_of(EIO))]
    shell.disk.errors.clear()
    for seed in range(10):
        shell.disk.lose_power(Random(seed))
        shell = Shell(shell.disk).start()
        # What was cut may come back: nobody was told that it is stored, nor that it is not.
        assert shell.recovered[:1] == [b"before"]


def test_an_empty_segment_that_failed_is_removed(shell: Shell) -> None:
    shell.disk.errors["write"] = EIO
    shell.commit(b"failed")
    shell.run(5)
    assert shell.files == {}
    shell.disk.errors.clear()
    shell.run(2)
    assert shell.told[-1] == "mended"
    assert shell.files == {"2.journal": []}


@pytest.mark.parametrize("operation", ["truncate", "remove", "create", "write", "sync", "sync names"])
def test_it_is_mended_when_all_it_takes_works_again(shell: Shell, operation: DiskOperation) -> None:
    shell.disk.errors["sync"] = EIO
    shell.commit(b"failed")
    shell.disk.errors.clear()
    shell.disk.errors[operation] = EIO
    shell.run(5)
    assert shell.told == [(1, reason_of(EIO))]
    shell.disk.errors.clear()
    shell.run(2)
    assert shell.told == [(1, reason_of(EIO)), "mended"]
    shell.commit(b"after")
    assert shell.told[-1] == 1
    assert shell.again().recovered == [b"after"]


def test_a_full_disk_is_mended_when_it_takes_as_much_as_it_refused(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.capacity = 200
    shell.commit(b"b" * 500)
    assert shell.told == [1, (1, reason_of(ENOSPC))]
    shell.run(10)
    assert shell.files == {"1.journal": [b"a"]}
    assert len(shell.told) == 2
    shell.disk.capacity = 1_000
    shell.run(2)
    shell.commit(b"b" * 500)
    assert shell.told[2:] == ["mended", 1]


def test_lines_that_come_while_it_is_broken_are_kept_when_it_is_mended(shell: Shell) -> None:
    shell.disk.errors["sync"] = EIO
    shell.commit(b"a")
    shell.append(b"b")
    shell.disk.errors.clear()
    shell.run(3)
    assert shell.told == [(1, reason_of(EIO)), "mended", 1]
    assert shell.again().recovered == [b"b"]


def test_lines_that_come_when_it_is_mended_are_kept(shell: Shell) -> None:
    shell.disk.errors["sync"] = EIO
    shell.user.whenever = lambda: shell.append(b"kept") if shell.told[-1] == "mended" else None
    shell.commit(b"a")
    shell.disk.errors.clear()
    shell.run(3)
    assert shell.told == [(1, reason_of(EIO)), "mended", 1]


def test_a_failing_close_is_no_failure(shell: Shell) -> None:
    shell = Shell(segment_bytes=10).start()
    shell.disk.errors["close"] = EIO
    shell.commit(b"a" * 20)
    shell.commit(b"b")
    assert shell.told == [1, 1]
    assert shell.files == {"1.journal": [b"a" * 20], "2.journal": [b"b"]}
    closed = results(shell.journal.close())
    shell.run(1)
    assert closed == [None]


def test_an_error_of_our_own_fails_the_lines_and_is_logged(
    shell: Shell, expected_failures: Callable[..., list[object]]
) -> None:
    # No bytes: a mistake of the caller's, which must not leave others waiting for ever.
    shell.journal.append(JournalEntry("text"))  # type: ignore[arg-type]
    shell.run(0.5)
    assert shell.told[0] == (
        1,
        "%b requires a bytes-like object, or an object that implements __bytes__, not 'str'",
    )
    assert len(expected_failures(TypeError)) == 1
    shell.run(2)
    shell.commit(b"a")
    assert shell.told[1:] == ["mended", 1]


def test_a_user_that_fails_stops_nothing(
    shell: Shell, expected_failures: Callable[..., list[object]]
) -> None:
    def fail() -> None:
        raise RuntimeError("the user failed")

    shell.user.whenever = fail
    shell.append(b"a")
    shell.run(0.1)
    shell.append(b"b")
    shell.run(1)
    shell.disk.errors["sync"] = EIO
    shell.commit(b"c")
    shell.disk.errors.clear()
    shell.run(2)
    assert shell.told == [1, 1, (1, reason_of(EIO)), "mended"]
    assert len(expected_failures(RuntimeError)) == 4
    closed = results(shell.journal.close())
    shell.run(1)
    assert closed == [None]


# Lines that nobody waits for


def test_lines_that_nobody_waits_for_keep_a_pace() -> None:
    shell = Shell(pace_s=10).start()
    shell.journal.append(line_of(b"a"), waits=False)
    shell.run(1)
    assert shell.told == [1]
    for line in (b"b", b"c"):
        shell.journal.append(line_of(line), waits=False)
        shell.run(4)
    assert shell.told == [1]
    shell.run(4)
    assert shell.told == [1, 2]


@pytest.mark.parametrize("how", ["a line that somebody waits for", "somebody who waits after all"])
def test_they_go_along_with_the_next_that_somebody_waits_for(how: str) -> None:
    shell = Shell(pace_s=10).start()
    shell.commit(b"a")
    shell.journal.append(line_of(b"b"), waits=False)
    shell.run(0.5)
    assert shell.told == [1]
    if how == "a line that somebody waits for":
        shell.journal.append(line_of(b"c"))
    else:
        shell.journal.flush()
    shell.run(0.5)
    assert sum(cast("list[int]", shell.told)) == (3 if how.startswith("a line") else 2)
    # There is nothing to flush.
    shell.journal.flush()
    assert shell.clock.getDelayedCalls() == []


# Closing


def test_closing_waits_for_what_was_taken(shell: Shell) -> None:
    shell.append(b"a")
    closed = results(shell.journal.close())
    shell.append(b"b")
    assert closed == []
    shell.run(2)
    assert (closed, shell.told) == ([None], [2])
    assert shell.thread.stopped
    assert Shell(shell.disk).start().recovered == [b"a", b"b"]


def test_closing_waits_for_the_sync_that_runs(shell: Shell) -> None:
    shell.append(b"a")
    shell.run(0.1)
    shell.append(b"b")
    closed = results(shell.journal.close())
    shell.run(2)
    assert (closed, shell.told) == ([None], [1, 1])


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 1.3])
def test_closing_with_a_broken_disk_ends_all_the_same(shell: Shell, seconds: float) -> None:
    shell.disk.errors["sync"] = EIO
    shell.append(b"a")
    shell.run(seconds)
    closed = results(shell.journal.close())
    shell.run(2)
    assert closed == [None]
    assert shell.told == [(1, reason_of(EIO))]
    assert shell.clock.getDelayedCalls() == []
    Shell(shell.disk).start()


def test_closing_while_the_disk_is_mended_keeps_what_comes_then(shell: Shell) -> None:
    shell.disk.errors["sync"] = EIO
    shell.user.whenever = lambda: shell.append(b"kept") if shell.told[-1] == "mended" else None
    shell.append(b"a")
    shell.run(1.3)
    shell.disk.errors.clear()
    closed = results(shell.journal.close())
    shell.run(2)
    assert closed == [None]
    assert shell.told == [(1, reason_of(EIO)), "mended", 1]
    assert Shell(shell.disk).start().recovered == [b"kept"]


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6, 2.0])
def test_closing_gives_up_a_snapshot(shell: Shell, seconds: float) -> None:
    shell.commit(b"a")
    kept = shell.take([b"A"] * 10, ready=lambda: False)
    shell.run(seconds)
    closed = results(shell.journal.close())
    shell.run(1)
    assert (kept, closed) == ([False], [None])
    assert shell.take([b"A"]) == [False]
    other = Shell(shell.disk).start()
    assert other.recovered == [b"a"]
    assert not [name for name in shell.disk.list() if name.endswith("unfinished")]


def test_closing_twice_is_no_mistake(shell: Shell) -> None:
    shell.commit(b"a")
    for _ in range(2):
        closed = results(shell.journal.close())
        shell.run(1)
        assert closed == [None]


def test_what_was_never_opened_can_be_closed(shell: Shell) -> None:
    shell.commit(b"a")
    other = Shell(shell.disk)
    with pytest.raises(ConfigurationError):
        next(other.journal.recover())
    assert results(other.journal.close()) == [None]


# The states

Step = Callable[[Shell], None]


def _append(shell: Shell) -> None:
    shell.append(b"awaited")


def _append_late(shell: Shell) -> None:
    shell.journal.append(line_of(b"not awaited"), waits=False)


def _flush(shell: Shell) -> None:
    shell.journal.flush()


def _fail(shell: Shell) -> None:
    shell.disk.errors["write"] = EIO


def _repair(shell: Shell) -> None:
    shell.disk.errors.clear()


def _close(shell: Shell) -> None:
    shell.journal.close()


def _start(shell: Shell) -> None:
    shell.run(0.01)


def _finish(shell: Shell) -> None:
    shell.run(0.25)


def _pause(shell: Shell) -> None:
    shell.run(1)


def _keep_pace(shell: Shell) -> None:
    shell.run(9.8)


SCHEDULED = (_append, _start, _finish, _append_late)
COMMITTING = (_append, _start)
BROKEN = (*COMMITTING, _fail, _finish)
MENDING = (*BROKEN, _pause)


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ((), "Idle"),
        ((_append,), "Scheduled"),
        ((_close,), "Idle"),
        (SCHEDULED, "Scheduled"),
        ((*SCHEDULED, _start), "Scheduled"),
        ((*SCHEDULED, _flush, _start), "Committing"),
        ((*SCHEDULED, _append, _start), "Committing"),
        ((*SCHEDULED, _keep_pace), "Committing"),
        (COMMITTING, "Committing"),
        ((*COMMITTING, _close), "Committing"),
        ((*COMMITTING, _finish), "Idle"),
        ((*COMMITTING, _append, _finish), "Committing"),
        ((*COMMITTING, _append_late, _finish), "Scheduled"),
        (BROKEN, "Broken"),
        ((*BROKEN, _append), "Broken"),
        ((*BROKEN, _close, _keep_pace), "Broken"),
        (MENDING, "Mending"),
        ((*MENDING, _append), "Mending"),
        ((*MENDING, _finish), "Broken"),
        ((*MENDING, _finish, _pause), "Mending"),
        ((*MENDING, _close, _finish, _keep_pace), "Broken"),
        ((*MENDING, _repair, _finish), "Idle"),
        ((*MENDING, _repair, _append_late, _finish), "Scheduled"),
        ((*MENDING, _repair, _append, _finish, _start), "Committing"),
    ],
)
def test_each_step_leads_to_the_state_that_the_table_has(steps: Sequence[Step], state: str) -> None:
    shell = Shell(pace_s=10).start()
    for step in steps:
        step(shell)
    assert type(shell.journal._state).__name__ == f"_{state}"  # noqa: SLF001


# With a real disk and a real thread


def _real(disk: Disk, **parts: Any) -> tuple[FileJournal, User]:
    from twisted.internet import reactor

    thread = WriterThread(cast(IReactorFromThreads, reactor), "journal of a test")
    journal = FileJournal(
        disk,
        is_chunk=codec.is_chunk,
        in_thread=thread,
        clock=cast(IReactorTime, reactor),
        segment_bytes=300,
        snapshot_bytes=10_000,
        owner="node 1",
        **parts,
    )
    return journal, User(journal)


@pytest_twisted.ensureDeferred
async def test_a_real_thread_writes_a_real_disk(tmp_path: Path) -> None:
    touched: set[str] = set()
    reactors = current_thread()
    segments = partial(Guarded, inside=lambda: current_thread() is not reactors, touched=touched)
    journal, user = _real(RealDisk(str(tmp_path / "node-1")), segments=segments)
    assert list(journal.recover()) == []
    done: Deferred[None] = Deferred()

    def told() -> None:
        synced = [told for told in user.told if isinstance(told, int)]
        if sum(synced) == 200:
            done.callback(None)
        elif user.lines < 200:
            user.lines += 10
            user.append(*(b"%d" % line for line in range(user.lines, user.lines + 10)))

    user.whenever = told
    journal.open(user)
    told()
    await done
    ahead = [b"%d" % line for line in range(10, 210)]
    user.whenever = lambda: None
    assert await journal.snapshot(iter([b"all"]), lambda: True)
    user.append(b"last")
    await journal.close()
    assert touched == set()

    other, _ = _real(RealDisk(str(tmp_path / "node-1")))
    assert [entry.line for entry in other.recover()] == [b"all", b"last"]
    await other.close()
    assert len(ahead) == 200
    names = sorted(path.name for path in (tmp_path / "node-1").iterdir())
    assert [name.partition(".")[2] for name in names] == ["journal", "snapshot", ""]


@pytest_twisted.ensureDeferred
async def test_two_processes_do_not_share_a_real_disk(tmp_path: Path) -> None:
    journal, user = _real(RealDisk(str(tmp_path)))
    assert list(journal.recover()) == []
    journal.open(user)
    user.append(b"a")
    other, _ = _real(RealDisk(str(tmp_path)))
    with pytest.raises(ConfigurationError, match="is used by"):
        next(other.recover())
    await other.close()
    await journal.close()
    assert user.told == [1]
