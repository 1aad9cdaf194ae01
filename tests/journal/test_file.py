from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from errno import EIO, EMFILE, ENOSPC, EROFS
from itertools import chain
from os import strerror
from pathlib import Path
from random import Random
from typing import cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import Clock

from dcounter.errors import ConfigurationError, CorruptJournal
from dcounter.journal.disk import Disk, RealDisk
from dcounter.journal.file import FileJournal
from dcounter.journal.framing import Entry, frame, scan
from dcounter.journal.interface import Journal
from dcounter.journal.memory import MemoryJournal
from dcounter.journal.thread import WriterThread
from dcounter.protocol import codec
from dcounter.testing import DiskOperation, SimulatedDisk, SimulatedWriter


def _entry(line: bytes) -> Entry:
    return Entry(line, 1, 2, 3)


@dataclass
class User:
    """
    Whoever writes a journal.

    :ivar told: what it was told, in order.
    :ivar whenever: what it does when it is told something.
    """

    journal: Journal
    told: list[object] = field(default_factory=list)
    whenever: Callable[[], None] = lambda: None
    lines: int = 0

    def journalSynced(self, entries: Sequence[Entry]) -> None:
        self.told.append(len(entries))
        self.whenever()

    def journalDoubted(self) -> None:
        self.told.append("doubted")

    def journalFailed(self, entries: Sequence[Entry], reason: str) -> None:
        self.told.append((len(entries), reason))
        self.whenever()

    def journalMended(self) -> None:
        self.told.append("mended")
        self.whenever()

    def append(self, *lines: bytes) -> None:
        for line in lines:
            self.journal.append(_entry(line))


def _result(deferred: Deferred[bool] | Deferred[None]) -> list[object]:
    results: list[object] = []
    deferred.addCallback(results.append)
    return results


# In memory


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> User:
    user = User(MemoryJournal(clock))
    assert list(user.journal.recover()) == []
    user.journal.open(user)
    return user


def test_memory_never_answers_at_once(memory: User, clock: Clock) -> None:
    memory.append(b"a")
    assert memory.told == []
    clock.advance(0)
    assert memory.told == [1]


def test_memory_takes_all_lines_of_a_turn_together(memory: User, clock: Clock) -> None:
    memory.append(b"a", b"a", b"a")
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    memory.append(b"b")
    clock.advance(0)
    assert memory.told == [3, 1]
    assert clock.getDelayedCalls() == []


def test_lines_that_come_while_memory_tells_are_next(memory: User, clock: Clock) -> None:
    memory.whenever = lambda: memory.append(b"more", b"more") if len(memory.told) == 1 else None
    memory.append(b"a")
    clock.advance(0)
    clock.advance(0)
    assert memory.told == [1, 2]


def test_closing_memory_finishes_what_was_taken(memory: User, clock: Clock) -> None:
    memory.append(b"a", b"b")
    assert _result(memory.journal.close()) == [None]
    assert memory.told == [2]
    assert clock.getDelayedCalls() == []


def test_closing_idle_memory_tells_nothing(memory: User) -> None:
    assert _result(memory.journal.close()) == [None]
    assert memory.told == []


def test_memory_needs_no_snapshots(memory: User) -> None:
    assert not memory.journal.due
    assert _result(memory.journal.snapshot(iter([b"never looked at"]), lambda: False)) == [True]


# On a disk


class CountingDisk(SimulatedDisk):
    """
    Remembers what was written and when it was synced.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    @contextmanager
    def doing(self, operation: DiskOperation) -> Iterator[None]:
        self.calls.append(operation)
        with super().doing(operation):
            yield


class Shell:
    """
    A journal on a simulated disk.
    """

    def __init__(
        self,
        disk: SimulatedDisk | None = None,
        *,
        segment: int = 1_000,
        most: int = 10_000,
        pace: float = 0.0,
    ) -> None:
        self.disk = disk or CountingDisk()
        self.clock = Clock()
        self.thread = SimulatedWriter(self.clock, lambda: 0.25)
        self.journal = FileJournal(
            self.disk,
            is_piece=codec.is_piece,
            in_thread=self.thread,
            clock=self.clock,
            segment=segment,
            most=most,
            pace=pace,
        )
        self.user = User(self.journal)
        self.told = self.user.told
        self.recovered: list[bytes] = []

    def start(self) -> "Shell":
        self.recovered = [entry.line for entry in self.journal.recover()]
        self.journal.open(self.user)
        if isinstance(self.disk, CountingDisk):
            self.disk.calls.clear()
        return self

    def append(self, *lines: bytes) -> None:
        self.user.append(*lines)

    def commit(self, *lines: bytes) -> None:
        self.append(*lines)
        self.run(0.5)

    def run(self, seconds: float) -> None:
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            calls = [call.getTime() for call in self.clock.getDelayedCalls()]
            self.clock.advance(max(0.0, min([*calls, until]) - self.clock.seconds()))

    def again(self) -> "Shell":
        """
        The process died; another one starts.
        """
        self.disk.kill()
        return Shell(self.disk).start()

    def take(self, lines: Iterable[bytes], *, ready: Callable[[], bool] = lambda: True) -> list[object]:
        return _result(self.journal.snapshot(iter(lines), ready))

    def due(self) -> bool:
        return self.journal.due

    @property
    def files(self) -> dict[str, list[bytes]]:
        return {
            name.lstrip("0"): [entry.line for entry, _ in scan([self.disk.read(name)]) if entry]
            for name in self.disk.list()
        }

    @property
    def calls(self) -> list[str]:
        assert isinstance(self.disk, CountingDisk)
        return self.disk.calls


@pytest.fixture
def shell() -> Shell:
    return Shell().start()


def test_a_line_is_kept_as_it_came(shell: Shell) -> None:
    shell.commit(b'{"a":1}')
    assert shell.told == [1]
    assert shell.disk.read("000000000001.journal") == frame(_entry(b'{"a":1}'))
    shell.disk.kill()
    assert list(Shell(shell.disk).journal.recover()) == [_entry(b'{"a":1}')]


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


def test_what_the_user_appends_when_told_is_next(shell: Shell) -> None:
    shell.user.whenever = lambda: shell.append(b"more") if len(shell.told) < 3 else None
    shell.commit(b"a")
    shell.run(2)
    assert shell.told == [1, 1, 1]


def test_a_segment_that_is_full_is_followed_by_another_one() -> None:
    shell = Shell(segment=30).start()
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


# Recovering


def test_a_torn_tail_is_cut_and_said(shell: Shell) -> None:
    shell.commit(b"a", b"b")
    shell.disk.truncate("000000000001.journal", 30)
    other = shell.again()
    assert other.recovered == [b"a"]
    assert shell.disk.read("000000000001.journal") == frame(_entry(b"a"))
    other.commit(b"c")
    assert other.again().recovered == [b"a", b"c"]


def test_what_was_read_is_durable_before_it_is_told(shell: Shell) -> None:
    shell.append(b"a")
    shell.disk.errors |= {"sync": EIO, "truncate": EIO}
    shell.run(0.5)
    assert shell.told == [(1, _broken(EIO))]
    shell.disk.errors.clear()
    # The process dies and could not cut that; the next one reads it.
    other = shell.again()
    assert other.recovered == [b"a"]
    assert other.told == []
    for seed in range(10):
        shell.disk.lose_power(Random(seed))
        assert Shell(shell.disk).start().recovered == [b"a"]


def test_damage_in_the_middle_is_corruption(shell: Shell) -> None:
    shell.commit(b"a", b"b")
    shell.disk.damage("000000000001.journal", 3)
    with pytest.raises(CorruptJournal, match=r"0001\.journal: damaged at byte 0, and valid lines follow"):
        shell.again()


def test_damage_at_the_end_of_a_segment_that_others_follow_is_corruption(shell: Shell) -> None:
    shell.commit(b"a")
    other = shell.again()
    other.commit(b"b")
    shell.disk.damage("000000000001.journal", 3)
    with pytest.raises(CorruptJournal, match=r"0001\.journal: the end is damaged, but 0+2\.journal follows"):
        other.again()


def test_a_torn_segment_may_be_followed_by_an_empty_one(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.create("000000000002.journal")
    shell.disk.truncate("000000000001.journal", 5)
    other = shell.again()
    assert other.recovered == []
    other.commit(b"b")
    assert other.files == {"1.journal": [], "3.journal": [b"b"]}


def test_a_segment_that_the_disk_does_not_give_back_is_corruption(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["read"] = EIO
    with pytest.raises(CorruptJournal, match=r"0001\.journal cannot be read: .*Input/output error"):
        shell.again()


def test_what_cannot_be_read_for_another_reason_is_not(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["read"] = EMFILE
    with pytest.raises(OSError, match="Too many open files"):
        shell.again()


def test_a_journal_that_is_used_is_refused(shell: Shell) -> None:
    with pytest.raises(ConfigurationError, match="is used by"):
        Shell(shell.disk).start()


def test_unfinished_files_are_removed(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.create("000000000000.unfinished")
    shell.disk.create("000000000007.unfinished")
    other = shell.again()
    assert other.files == {"1.journal": [b"a"]}
    other.commit(b"b")
    assert other.files == {"1.journal": [b"a"], "8.journal": [b"b"]}


def _owned(disk: SimulatedDisk, owner: str) -> tuple[FileJournal, User]:
    clock = Clock()
    journal = FileJournal(
        disk,
        is_piece=codec.is_piece,
        in_thread=SimulatedWriter(clock),
        clock=clock,
        segment=100,
        most=100,
        owner=owner,
    )
    return journal, User(journal)


def test_a_journal_knows_its_owner(shell: Shell) -> None:
    disk = SimulatedDisk()
    journal, user = _owned(disk, "node 1 of cluster c")
    assert list(journal.recover()) == []
    journal.open(user)
    assert user.told == []
    assert disk.read("owner") == b"node 1 of cluster c\n"
    for seed in range(5):
        disk.lose_power(Random(seed))
        assert list(_owned(disk, "node 1 of cluster c")[0].recover()) == []
    disk.kill()
    with pytest.raises(ConfigurationError, match="that of node 1 of cluster c, not that of node 2"):
        list(_owned(disk, "node 2 of cluster c")[0].recover())


def test_a_journal_that_does_not_say_whose_it_is_is_refused(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.kill()
    for _ in range(2):
        # Whoever waits for another owner's end is told the same again.
        with pytest.raises(ConfigurationError, match="does not say whose it is"):
            list(_owned(shell.disk, "node 1")[0].recover())
    shell.disk.open()
    assert shell.files == {"1.journal": [b"a"]}


def test_power_may_take_the_owner_and_leave_an_empty_segment() -> None:
    disk = SimulatedDisk()
    disk.open()
    disk.create("000000000001.journal")
    disk.sync()
    disk.kill()
    assert list(_owned(disk, "node 1")[0].recover()) == []
    assert disk.read("owner") == b"node 1\n"


# Disk trouble


def _broken(number: int) -> str:
    return f"[Errno {number}] {strerror(number)}"


@pytest.mark.parametrize("operation", ["write", "sync", "create", "sync names"])
def test_lines_that_fail_are_told_once_and_those_behind_them_too(
    shell: Shell, operation: DiskOperation
) -> None:
    shell.disk.errors[operation] = EIO
    shell.append(b"a", b"b")
    shell.run(0.1)
    shell.append(b"c")
    shell.run(0.3)
    assert shell.told == [(3, _broken(EIO))]
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
    assert shell.told == [1, (2, _broken(EIO)), "mended", 1]
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
    assert shell.told == ["doubted", (0, _broken(EIO))]
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
    assert shell.told == [(1, _broken(EIO))]
    shell.disk.errors.clear()
    shell.run(2)
    assert shell.told == [(1, _broken(EIO)), "mended"]
    shell.commit(b"after")
    assert shell.told[-1] == 1
    assert shell.again().recovered == [b"after"]


def test_a_full_disk_is_mended_when_it_takes_as_much_as_it_refused(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.capacity = 200
    shell.commit(b"b" * 500)
    assert shell.told == [1, (1, _broken(ENOSPC))]
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
    assert shell.told == [(1, _broken(EIO)), "mended", 1]
    assert shell.again().recovered == [b"b"]


def test_lines_that_come_when_it_is_mended_are_kept(shell: Shell) -> None:
    shell.disk.errors["sync"] = EIO
    shell.user.whenever = lambda: shell.append(b"kept") if shell.told[-1] == "mended" else None
    shell.commit(b"a")
    shell.disk.errors.clear()
    shell.run(3)
    assert shell.told == [(1, _broken(EIO)), "mended", 1]


def test_a_failing_close_is_no_failure(shell: Shell) -> None:
    shell = Shell(segment=10).start()
    shell.disk.errors["close"] = EIO
    shell.commit(b"a" * 20)
    shell.commit(b"b")
    assert shell.told == [1, 1]
    assert shell.files == {"1.journal": [b"a" * 20], "2.journal": [b"b"]}
    closed = _result(shell.journal.close())
    shell.run(1)
    assert closed == [None]


def test_an_error_of_our_own_fails_the_lines_and_is_logged(
    shell: Shell, expected_failures: Callable[..., list[object]]
) -> None:
    # No bytes: a mistake of the caller's, which must not leave others waiting for ever.
    shell.journal.append(Entry("text"))  # type: ignore[arg-type]
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
    assert shell.told == [1, 1, (1, _broken(EIO)), "mended"]
    assert len(expected_failures(RuntimeError)) == 4
    closed = _result(shell.journal.close())
    shell.run(1)
    assert closed == [None]


# Lines that nobody waits for


def test_lines_that_nobody_waits_for_keep_a_pace() -> None:
    shell = Shell(pace=10).start()
    shell.journal.append(_entry(b"a"), waits=False)
    shell.run(1)
    assert shell.told == [1]
    for line in (b"b", b"c"):
        shell.journal.append(_entry(line), waits=False)
        shell.run(4)
    assert shell.told == [1]
    shell.run(4)
    assert shell.told == [1, 2]


@pytest.mark.parametrize("how", ["a line that somebody waits for", "somebody who waits after all"])
def test_they_go_along_with_the_next_that_somebody_waits_for(how: str) -> None:
    shell = Shell(pace=10).start()
    shell.commit(b"a")
    shell.journal.append(_entry(b"b"), waits=False)
    shell.run(0.5)
    assert shell.told == [1]
    if how == "a line that somebody waits for":
        shell.journal.append(_entry(b"c"))
    else:
        shell.journal.hurry()
    shell.run(0.5)
    assert sum(cast("list[int]", shell.told)) == (3 if how.startswith("a line") else 2)
    # Nothing is there to hurry.
    shell.journal.hurry()
    assert shell.clock.getDelayedCalls() == []


# A disk that fails when the journal is opened


def test_a_disk_that_can_only_be_read_is_read(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.read_only = True
    other = shell.again()
    assert other.recovered == [b"a"]
    assert other.told == ["doubted", (0, _broken(EROFS))]
    other.run(5)
    assert len(other.told) == 2
    assert not other.journal.due
    shell.disk.read_only = False
    other.run(2)
    assert other.told[2:] == ["mended"]
    other.commit(b"b")
    for seed in range(10):
        shell.disk.lose_power(Random(seed))
        assert Shell(shell.disk).start().recovered == [b"a", b"b"]


@pytest.mark.parametrize("operation", ["create", "rename"])
def test_a_disk_that_takes_nothing_new_may_keep_what_it_has(shell: Shell, operation: DiskOperation) -> None:
    shell.commit(b"a")
    # Another process dies in the middle of a sync that fails.
    shell.disk.errors["sync"] = EIO
    with suppress(OSError):
        file = shell.disk.create("000000000002.journal")
        file.write(frame(_entry(b"b")))
        file.sync()
    shell.disk.errors.clear()
    shell.disk.sync()
    shell.disk.errors[operation] = ENOSPC
    other = shell.again()
    assert other.recovered == [b"a", b"b"]
    assert other.told == [(0, _broken(ENOSPC))]
    for seed in range(10):
        other.disk.lose_power(Random(seed))
        assert Shell(other.disk).start().recovered == [b"a", b"b"]


def test_a_snapshot_whose_name_may_be_lost_is_doubted(shell: Shell) -> None:
    shell.commit(b"a")

    def fails_from_now_on() -> bool:
        shell.disk.errors["sync names"] = EIO
        return True

    kept = shell.take([b"A"], ready=fails_from_now_on)
    shell.run(3)
    assert kept == [False]
    other = shell.again()
    assert other.recovered == [b"A"]
    assert other.told == ["doubted", (0, _broken(EIO))]
    other.disk.errors.clear()
    other.run(3)
    assert other.told[-1] == "mended"
    other.disk.lose_power(Random(1))
    assert other.again().recovered == [b"A"]


def test_a_copy_whose_name_may_be_lost_is_doubted(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["sync names"] = EIO
    other = shell.again()
    assert other.recovered == [b"a"]
    assert other.told == ["doubted", (0, _broken(EIO))]


def test_an_empty_disk_that_can_only_be_read_gets_its_owner_later() -> None:
    disk = SimulatedDisk()
    disk.read_only = True
    journal, user = _owned(disk, "node 1")
    assert list(journal.recover()) == []
    journal.open(user)
    assert user.told == [(0, _broken(EROFS))]
    assert disk.list() == []
    disk.read_only = False
    clock = journal._clock  # noqa: SLF001
    assert isinstance(clock, Clock)
    clock.pump([1, 1, 1])
    assert user.told[1:] == ["mended"]
    assert disk.read("owner") == b"node 1\n"


def test_a_torn_tail_on_a_full_disk_is_cut_when_there_is_room(shell: Shell) -> None:
    shell.commit(b"a" * 50, b"b")
    shell.disk.truncate("000000000001.journal", 75)
    shell.disk.capacity = 75
    other = shell.again()
    assert other.told == [(0, _broken(ENOSPC))]
    assert other.files == {"1.journal": [b"a" * 50]}
    shell.disk.capacity = None
    other.run(2)
    other.commit(b"c")
    assert other.again().recovered == [b"a" * 50, b"c"]


def test_files_that_cannot_be_removed_do_no_harm(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.create("000000000007.unfinished")
    shell.disk.errors["remove"] = EIO
    other = shell.again()
    assert other.recovered == [b"a"]
    assert "000000000007.unfinished" in shell.disk.list()
    other.commit(b"b")
    assert other.told == [1]


# Snapshots


def test_a_snapshot_takes_the_place_of_what_was_before(shell: Shell) -> None:
    shell.commit(b"a", b"b")
    kept = shell.take([b"A", b"B"])
    shell.append(b"c")
    shell.run(5)
    assert kept == [True]
    assert shell.files == {"2.journal": [b"c"], "2.snapshot": [b"A", b"B"]}
    assert shell.again().recovered == [b"A", b"B", b"c"]


def test_the_next_snapshot_takes_the_place_of_the_last(shell: Shell) -> None:
    shell.commit(b"a")
    for snapshot in (b"A", b"AB"):
        assert shell.take([snapshot]) == []
        shell.run(2)
        shell.commit(b"b")
    assert shell.files == {"3.journal": [b"b"], "3.snapshot": [b"AB"]}
    assert shell.again().recovered == [b"AB", b"b"]


def test_an_empty_segment_is_used_for_the_lines_after_a_snapshot(shell: Shell) -> None:
    for _ in range(3):
        kept = shell.take([b"A"])
        shell.run(2)
        assert kept == [True]
    assert shell.files == {"1.journal": [], "1.snapshot": [b"A"]}


def test_pieces_are_asked_for_one_after_the_other(shell: Shell) -> None:
    given: list[int] = []

    def pieces() -> Iterator[bytes]:
        for piece in range(3):
            given.append(piece)
            yield b"%d" % piece

    kept = shell.take(pieces())
    assert given == []
    shell.append(b"a")
    # One piece of work after the other: a segment is begun, the line committed, a file made.
    shell.run(0.8)
    assert (given, shell.told) == ([0], [1])
    shell.append(b"b")
    shell.run(0.25)
    assert (given, shell.told) == ([0, 1], [1])
    shell.run(0.25)
    assert (given, shell.told) == ([0, 1], [1, 1])
    shell.run(2)
    assert given == [0, 1, 2]
    assert kept == [True]


def test_a_snapshot_is_relied_on_only_when_it_is_ready(shell: Shell) -> None:
    shell.commit(b"a")
    ready = False
    kept = shell.take([b"A"], ready=lambda: ready)
    shell.run(5)
    assert kept == []
    assert shell.files == {"1.journal": [b"a"], "2.journal": [], "2.unfinished": [b"A"]}
    assert shell.again().recovered == [b"a"]


def test_a_snapshot_is_finished_when_it_becomes_ready(shell: Shell) -> None:
    shell.commit(b"a")
    answers = iter([False, False, True])
    kept = shell.take([b"A"], ready=lambda: next(answers))
    shell.run(5)
    assert kept == [True]
    assert shell.files == {"2.journal": [], "2.snapshot": [b"A"]}


def test_one_snapshot_at_a_time(shell: Shell) -> None:
    first = shell.take([b"A"])
    assert shell.take([b"B"]) == [False]
    shell.run(5)
    assert first == [True]
    assert shell.take([b"B"]) == []
    shell.run(5)
    assert shell.files == {"1.journal": [], "1.snapshot": [b"B"]}


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename", "sync names"])
def test_a_snapshot_that_fails_leaves_nothing_and_harms_nothing(
    shell: Shell, operation: DiskOperation
) -> None:
    shell.commit(b"a")
    shell.disk.errors[operation] = EIO
    kept = shell.take([b"A"])
    shell.run(5)
    assert kept == [False]
    shell.disk.errors.clear()
    assert not [name for name in shell.disk.list() if name.endswith("unfinished")]
    shell.commit(b"b")
    assert shell.told == [1, 1]
    for seed in range(5):
        shell.disk.lose_power(Random(seed))
        assert Shell(shell.disk).start().recovered in ([b"a", b"b"], [b"A", b"b"])


def test_a_snapshot_that_does_not_fit_leaves_room_for_lines(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.capacity = 100
    kept = shell.take([b"A" * 20, b"A" * 50])
    shell.run(5)
    assert kept == [False]
    shell.commit(b"b")
    assert shell.told == [1, 1]
    assert shell.files == {"1.journal": [b"a"], "2.journal": [b"b"]}


def test_an_unfinished_snapshot_that_cannot_be_removed_is_written_over(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors.update({"rename": EIO, "remove": EIO})
    kept = shell.take([b"A"])
    shell.run(5)
    assert kept == [False]
    assert "000000000002.unfinished" in shell.disk.list()
    shell.disk.errors.clear()
    shell.run(20)
    kept = shell.take([b"B"])
    shell.run(5)
    assert kept == [True]
    assert shell.files == {"2.journal": [], "2.snapshot": [b"B"]}


def test_after_a_snapshot_that_failed_none_is_taken_for_a_while(shell: Shell) -> None:
    shell.disk.errors["rename"] = EIO
    kept = shell.take([b"A"])
    shell.run(2)
    assert kept == [False]
    shell.disk.errors.clear()
    assert shell.take([b"A"]) == [False]
    shell.run(10)
    kept = shell.take([b"A"])
    shell.run(2)
    assert kept == [True]


def test_a_snapshot_during_which_lines_failed_is_given_up(shell: Shell) -> None:
    shell.commit(b"a")
    kept = shell.take([b"%d" % piece for piece in range(20)])
    shell.run(2)
    # The file of the snapshot works, the segment does not: only the size of the disk tells them apart.
    shell.disk.capacity = 600
    shell.append(b"b" * 500)
    shell.run(1.5)
    assert shell.told == [1, (1, _broken(ENOSPC))]
    assert kept == [False]
    assert shell.take([b"A"]) == [False]
    shell.disk.capacity = None
    shell.run(2)
    assert shell.files == {"1.journal": [b"a"], "3.journal": []}


def test_a_snapshot_that_waits_is_given_up_when_lines_fail(shell: Shell) -> None:
    shell.commit(b"a")
    ready = False
    kept = shell.take([b"A"], ready=lambda: ready)
    shell.run(2)
    shell.disk.errors["write"] = EIO
    shell.commit(b"b")
    ready = True
    shell.run(1)
    assert kept == [False]
    shell.disk.errors.clear()
    shell.run(2)
    assert shell.again().recovered == [b"a"]


def test_lines_that_fail_while_a_snapshot_is_finished_are_not_in_it(shell: Shell) -> None:
    shell.commit(b"a")
    kept = shell.take([b"A"])
    # Pieces: split, create, write; then this is in the thread just before the snapshot is finished.
    shell.run(0.8)
    shell.disk.capacity = 100
    shell.append(b"b" * 500)
    shell.run(0.1)
    shell.disk.errors["write"] = EIO
    shell.run(5)
    assert shell.told[-1] == (1, _broken(EIO))
    assert kept == [False]


def test_no_segment_is_begun_behind_one_that_failed() -> None:
    shell = Shell()
    shell.thread = SimulatedWriter(shell.clock, lambda: 0.1, lambda: 1.0)
    shell.journal = FileJournal(
        shell.disk,
        is_piece=codec.is_piece,
        in_thread=shell.thread,
        clock=shell.clock,
        segment=1_000,
        most=1_000,
    )
    shell.user.journal = shell.journal
    shell.start()
    shell.append(b"a")
    shell.run(3)
    shell.disk.errors["sync"] = EIO
    shell.append(b"b")
    shell.run(0.01)
    # It failed, but only the thread knows.
    kept = shell.take([b"A"])
    shell.run(0.15)
    shell.disk.errors.clear()
    shell.run(3)
    assert kept == [False]
    shell.run(3)
    shell.append(b"c")
    shell.run(3)
    assert shell.told == [1, (1, _broken(EIO)), "mended", 1]
    assert shell.again().recovered == [b"a", b"c"]


def test_old_files_that_cannot_be_removed_are_not_used(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["remove"] = EIO
    kept = shell.take([b"A"])
    shell.run(2)
    assert kept == [True]
    assert not shell.journal.due
    shell.commit(b"b")
    assert shell.files == {"1.journal": [b"a"], "2.journal": [b"b"], "2.snapshot": [b"A"]}
    shell.disk.errors.clear()
    other = shell.again()
    assert other.recovered == [b"A", b"b"]
    assert other.files == {"2.journal": [b"b"], "2.snapshot": [b"A"]}


def test_nothing_is_removed_before_the_snapshot_is_durable(shell: Shell) -> None:
    shell.commit(b"a")
    kept = shell.take([b"A"])
    shell.run(2)
    assert kept == [True]
    assert shell.calls[-3:] == ["rename", "sync names", "remove"]


def test_a_large_file_is_removed_in_parts_and_lines_are_written_meanwhile(shell: Shell) -> None:
    shell.commit(b"a")
    shell.take([b"A" * 40 * 2**20])
    shell.run(3)
    shell.commit(b"b")
    [large] = [name for name, size in shell.disk.sizes().items() if size > 2**20]
    shell.take([b"B"])
    while (size := shell.disk.sizes()[large]) > 30 * 2**20:
        shell.run(0.25)
    told = len(shell.told)
    shell.commit(b"c")
    assert shell.told[told:]
    assert 0 < shell.disk.sizes()[large] < size
    shell.run(3)
    assert large not in shell.disk.sizes()
    assert shell.again().recovered == [b"B", b"c"]


def test_a_snapshot_whose_name_is_not_durable_is_made_so_before_anything_is_removed(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["sync names"] = EIO
    shell.disk.create("000000000002.unfinished").write(frame(Entry(b"A")))
    shell.disk.rename("000000000002.unfinished", "000000000002.snapshot")
    shell.disk.kill()
    other = Shell(shell.disk).start()
    assert other.recovered == [b"A"]
    assert "000000000001.journal" in shell.disk.list()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_snapshot_is_corruption(shell: Shell, damage: str) -> None:
    shell.take([b"A", b"B"])
    shell.run(5)
    name = "000000000001.snapshot"
    if damage == "flip":
        shell.disk.damage(name, 30)
    else:
        shell.disk.truncate(name, 30 if damage == "cut" else 0)
    with pytest.raises(CorruptJournal, match=r"0001\.snapshot: damaged at byte"):
        shell.again()


def test_a_large_snapshot_is_synced_part_by_part(shell: Shell) -> None:
    shell.commit(b"a")
    shell.calls.clear()
    kept = shell.take([b"A" * 300_000] * 9)
    shell.run(10)
    assert kept == [True]
    written = [call for call in shell.calls if call in ("write", "sync", "rename")]
    four = ["write"] * 4 + ["sync"]
    # All of it, before it gets its name.
    assert written == [*four, *four, "write", "sync", "rename"]


# Pieces of the ledger


_PIECES = [b'{"type":"copy_piece","ids":"%s"}' % (b"x" * size) for size in (0, 50, 300)]


def _with_pieces(shell: Shell) -> Shell:
    """
    A snapshot with pieces in it, and a segment with a piece and a batch.
    """
    taken = shell.take([b"begin", *_PIECES, b"end"])
    shell.run(3)
    assert taken == [True]
    shell.commit(b"batch")
    shell.user.journal.append(Entry(_PIECES[1]))
    shell.user.journal.append(Entry(b"more"))
    shell.run(0.5)
    return shell


def test_pieces_of_the_ledger_are_given_later(shell: Shell) -> None:
    _with_pieces(shell).disk.kill()
    other = Shell(shell.disk)
    assert list(other.journal.recover()) == [Entry(b"begin"), Entry(b"end"), _entry(b"batch"), Entry(b"more")]
    other.journal.open(other.user)
    rest = iter(other.journal.load())
    found = [next(rest)]
    # What is written meanwhile is not loaded.
    other.commit(b"new")
    assert [*found, *rest] == [*map(Entry, _PIECES), _entry(b"batch"), Entry(_PIECES[1])]


def test_damage_to_a_piece_is_found_when_it_is_loaded(shell: Shell) -> None:
    disk = _with_pieces(shell).disk
    name = "000000000001.snapshot"
    disk.damage(name, disk.read(name).index(b"xxx") + 1)
    other = shell.again()
    assert other.recovered == [b"begin", b"end", b"batch", b"more"]
    with pytest.raises(CorruptJournal, match=r"0001\.snapshot: damaged at byte"):
        list(other.journal.load())


def test_a_piece_that_the_disk_does_not_give_back_is_corruption(shell: Shell) -> None:
    other = _with_pieces(shell).again()
    other.disk.errors["read"] = EIO
    with pytest.raises(CorruptJournal, match="cannot be read"):
        list(other.journal.load())


def test_a_snapshot_that_ends_within_a_piece_is_corruption(shell: Shell) -> None:
    disk = _with_pieces(shell).disk
    name = "000000000001.snapshot"
    whole = disk.read(name)
    for size in range(whole.index(_PIECES[0]), whole.index(_PIECES[2]) + 300):
        if whole[size - 1 : size] == b"\n":
            continue
        disk.truncate(name, size)
        disk.kill()
        other = Shell(disk)
        with pytest.raises(CorruptJournal):
            list(chain(other.journal.recover(), other.journal.load()))
        disk.truncate(name, 0)
        file = disk.create("new")
        file.write(whole)
        disk.rename("new", name)


def test_memory_has_nothing_to_load(memory: User) -> None:
    assert list(memory.journal.load()) == []


def test_a_snapshot_is_due_when_segments_outgrow_the_last_one() -> None:
    shell = Shell(most=100).start()
    assert not shell.due()
    shell.commit(b"a" * 50)
    assert not shell.due()
    shell.commit(b"a" * 50)
    assert shell.due()
    kept = shell.take([b"A" * 300])
    assert not shell.due()
    shell.run(5)
    assert kept == [True]
    assert not shell.due()
    shell.commit(b"a" * 100)
    assert not shell.due()
    shell.commit(b"a" * 100)
    assert shell.due()
    # What was recovered counts as well.
    shell.disk.kill()
    other = Shell(shell.disk, most=100).start()
    assert other.due()
    shell.disk.kill()
    assert not Shell(shell.disk, most=100_000).start().due()


def test_a_snapshot_whose_maker_fails_is_the_makers_failure(shell: Shell) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"A"
        raise RuntimeError("the ledger failed")

    failures: list[object] = []
    shell.journal.snapshot(pieces(), lambda: True).addErrback(lambda why: failures.append(why.type))
    shell.run(5)
    assert failures == [RuntimeError]
    assert shell.files == {"1.journal": []}
    # Nor is another one begun at once.
    assert not shell.journal.due
    shell.run(10)
    kept = shell.take([b"A"])
    shell.run(5)
    assert kept == [True]


# Closing


def test_closing_waits_for_what_was_taken(shell: Shell) -> None:
    shell.append(b"a")
    closed = _result(shell.journal.close())
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
    closed = _result(shell.journal.close())
    shell.run(2)
    assert (closed, shell.told) == ([None], [1, 1])


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 1.3])
def test_closing_with_a_broken_disk_ends_all_the_same(shell: Shell, seconds: float) -> None:
    shell.disk.errors["sync"] = EIO
    shell.append(b"a")
    shell.run(seconds)
    closed = _result(shell.journal.close())
    shell.run(2)
    assert closed == [None]
    assert shell.told == [(1, _broken(EIO))]
    assert shell.clock.getDelayedCalls() == []
    Shell(shell.disk).start()


def test_closing_while_the_disk_is_mended_keeps_what_comes_then(shell: Shell) -> None:
    shell.disk.errors["sync"] = EIO
    shell.user.whenever = lambda: shell.append(b"kept") if shell.told[-1] == "mended" else None
    shell.append(b"a")
    shell.run(1.3)
    shell.disk.errors.clear()
    closed = _result(shell.journal.close())
    shell.run(2)
    assert closed == [None]
    assert shell.told == [(1, _broken(EIO)), "mended", 1]
    assert Shell(shell.disk).start().recovered == [b"kept"]


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6, 2.0])
def test_closing_gives_up_a_snapshot(shell: Shell, seconds: float) -> None:
    shell.commit(b"a")
    kept = shell.take([b"A"] * 10, ready=lambda: False)
    shell.run(seconds)
    closed = _result(shell.journal.close())
    shell.run(1)
    assert (kept, closed) == ([False], [None])
    assert shell.take([b"A"]) == [False]
    other = Shell(shell.disk).start()
    assert other.recovered == [b"a"]
    assert not [name for name in shell.disk.list() if name.endswith("unfinished")]


def test_closing_twice_is_no_mistake(shell: Shell) -> None:
    shell.commit(b"a")
    for _ in range(2):
        closed = _result(shell.journal.close())
        shell.run(1)
        assert closed == [None]


def test_what_was_never_opened_can_be_closed(shell: Shell) -> None:
    shell.commit(b"a")
    other = Shell(shell.disk)
    with pytest.raises(ConfigurationError):
        next(other.journal.recover())
    assert _result(other.journal.close()) == [None]


# With a real disk and a real thread


def _real(disk: Disk, most: int = 10_000) -> tuple[FileJournal, User]:
    from twisted.internet import reactor

    thread = WriterThread(cast(IReactorFromThreads, reactor), "journal of a test")
    journal = FileJournal(
        disk,
        is_piece=codec.is_piece,
        in_thread=thread,
        clock=cast(IReactorTime, reactor),
        segment=300,
        most=most,
        owner="node 1",
    )
    return journal, User(journal)


@pytest_twisted.ensureDeferred
async def test_a_real_thread_writes_a_real_disk(tmp_path: Path) -> None:
    journal, user = _real(RealDisk(str(tmp_path / "node-1")))
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
