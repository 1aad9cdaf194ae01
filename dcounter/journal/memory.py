"""
A journal in memory: it keeps nothing.
"""

from collections.abc import Callable, Iterable, Iterator

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dcounter.journal.framing import JournalEntry
from dcounter.journal.interface import JournalUser


class MemoryJournal:
    """
    A journal for nodes that may forget everything when they stop.

    In the next turn of the reactor it says, as a disk would, that all lines of this turn are durable.
    """

    due = False

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._entries: list[JournalEntry] = []
        self._flush: IDelayedCall | None = None
        # The next line of a snapshot that is being taken, and who waits for its end.
        self._taking: IDelayedCall | None = None
        self._taken: Deferred[bool] | None = None

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
        taken: Deferred[bool] = Deferred()
        self._taken = taken

        def take() -> None:
            self._taking = self._clock.callLater(0, take)
            if next(lines, None) is None:
                self._end_snapshot(kept=ready())

        take()
        return taken

    @property
    def size(self) -> int:
        return 0

    def close(self) -> Deferred[None]:
        if self._flush is not None:
            self._flush.cancel()
            self._sync()
        self._end_snapshot(kept=False)
        return succeed(None)

    def _end_snapshot(self, *, kept: bool) -> None:
        taking, taken = self._taking, self._taken
        self._taking = self._taken = None
        if taking is not None and taken is not None:
            taking.cancel()
            taken.callback(kept)

    def _sync(self) -> None:
        self._flush = None
        entries, self._entries = self._entries, []
        self._user.journal_synced(entries)
