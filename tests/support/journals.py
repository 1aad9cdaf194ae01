"""
What the tests of journals share: a user that remembers what it is told, and a journal on a simulated disk.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from os import strerror
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dcounter.journal.file import FileJournal
from dcounter.journal.framing import JournalEntry, scan
from dcounter.journal.interface import Journal
from dcounter.journal.segments import Segments
from dcounter.protocol import codec
from dcounter.testing import DiskOperation, SimulatedDisk, SimulatedWriter

_T = TypeVar("_T")


def line_of(line: bytes) -> JournalEntry:
    return JournalEntry(line, 1, 2, 3)


@dataclass
class User:
    """
    Uses a journal, and remembers.

    :ivar told: what it was told, in order.
    :ivar whenever: what it does when it is told something.
    """

    journal: Journal
    told: list[object] = field(default_factory=list)
    whenever: Callable[[], None] = lambda: None
    lines: int = 0

    def journal_synced(self, entries: Sequence[JournalEntry]) -> None:
        self.told.append(len(entries))
        self.whenever()

    def journal_doubted(self) -> None:
        self.told.append("doubted")

    def journal_failed(self, entries: Sequence[JournalEntry], reason: str) -> None:
        self.told.append((len(entries), reason))
        self.whenever()

    def journal_mended(self) -> None:
        self.told.append("mended")
        self.whenever()

    def append(self, *lines: bytes) -> None:
        for line in lines:
            self.journal.append(line_of(line))


def results(deferred: Deferred[bool] | Deferred[None]) -> list[object]:
    found: list[object] = []
    deferred.addCallback(found.append)
    return found


class WatchedWriter(SimulatedWriter):
    """
    Knows whether its thread is at work.
    """

    inside = False

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]:
        return super().__call__(partial(self._watch, work))

    def _watch(self, work: Callable[[], _T]) -> _T:
        self.inside = True
        try:
            return work()
        finally:
            self.inside = False


class Guarded(Segments):
    """
    Fails when any of its methods or attributes is touched outside of the writer's thread.

    :param inside: whether the writer's thread asks.
    :param touched: takes the names of what was touched by others.
    """

    def __init__(self, *args: Any, inside: Callable[[], bool], touched: set[str], **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.__dict__["guard"] = (inside, touched)

    def __getattribute__(self, name: str) -> Any:
        _check_thread(object.__getattribute__(self, "__dict__"), name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: object) -> None:
        _check_thread(object.__getattribute__(self, "__dict__"), name)
        super().__setattr__(name, value)


def _check_thread(attributes: Mapping[str, Any], name: str) -> None:
    # It is made by the reactor, and handed over then.
    if "guard" in attributes:
        inside, touched = attributes["guard"]
        if not inside():
            touched.add(name)
            raise AssertionError(f"{name} was touched outside of the writer's thread")


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
        segment_bytes: int = 1_000,
        snapshot_bytes: int = 10_000,
        pace_s: float = 0.0,
    ) -> None:
        self.disk = disk or CountingDisk()
        self.clock = Clock()
        self.thread = SimulatedWriter(self.clock, lambda: 0.25)
        self.journal = FileJournal(
            self.disk,
            is_chunk=codec.is_chunk,
            in_thread=self.thread,
            clock=self.clock,
            segment_bytes=segment_bytes,
            snapshot_bytes=snapshot_bytes,
            pace_s=pace_s,
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
        return results(self.journal.snapshot(iter(lines), ready))

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


def owned_journal(disk: SimulatedDisk, owner: str) -> tuple[FileJournal, User]:
    clock = Clock()
    journal = FileJournal(
        disk,
        is_chunk=codec.is_chunk,
        in_thread=SimulatedWriter(clock),
        clock=clock,
        segment_bytes=100,
        snapshot_bytes=100,
        owner=owner,
    )
    return journal, User(journal)


def reason_of(number: int) -> str:
    return f"[Errno {number}] {strerror(number)}"
