"""
A journal in memory: it keeps nothing.
"""

from collections.abc import Callable, Iterable, Iterator

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from dcounter.journal.figures import JournalFigures
from dcounter.journal.framing import JournalEntry
from dcounter.journal.interface import JournalUser


class MemoryJournal:
    """
    A journal for nodes that may forget everything when they stop.

    In the next turn of the reactor it says, as a disk would, that all lines of this turn are durable.
    """

    due = False

    def __init__(self, clock: IReactorTime) -> None:
        self.figures = JournalFigures()
        self._clock = clock
        self._entries: list[JournalEntry] = []
        self._flush: IDelayedCall | None = None
        # Takes the next line of a snapshot in each turn.
        self._taking: LoopingCall | None = None

    def recover(self) -> Iterable[JournalEntry]:
        return ()

    def load(self) -> Iterable[JournalEntry]:
        return ()

    def open(self, user: JournalUser) -> None:
        self._user = user

    def append(self, entry: JournalEntry, *, waits: bool = True) -> None:
        self._entries.append(entry)
        if self._flush is None:
            self._flush = self._clock.callLater(0, self._sync)

    def flush(self) -> None:
        pass

    def snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> Deferred[bool]:
        # Whoever makes the lines learns from them what the snapshot holds.
        if self._taking is not None:
            return succeed(False)
        kept = False

        def take() -> None:
            nonlocal kept
            if next(lines, None) is None:
                kept = ready()
                taking.stop()

        def over(result: LoopingCall | Failure) -> bool | Failure:
            self._taking = None
            return result if isinstance(result, Failure) else kept

        self._taking = taking = LoopingCall(take)
        taking.clock = self._clock
        return taking.start(0).addBoth(over)

    @property
    def size(self) -> int:
        return 0

    def close(self) -> Deferred[None]:
        if self._flush is not None:
            self._flush.cancel()
            self._sync()
        if self._taking is not None:
            self._taking.stop()
        return succeed(None)

    def _sync(self) -> None:
        self._flush = None
        entries, self._entries = self._entries, []
        self._user.journal_synced(entries)
