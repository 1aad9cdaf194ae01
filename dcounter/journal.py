"""
Where a node keeps the lines it must not forget.
"""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Journal(Protocol):
    """
    Takes lines in order and tells when they are durable, in the same order.
    """

    def open(self, synced: Callable[[int], None]) -> None:
        """
        Begin.

        :param synced: called with the number of further lines that are durable, never from `append`.
        """

    def append(self, line: bytes) -> None:
        """
        Take a line, without its end.
        """

    def close(self) -> Deferred[None]:
        """
        Finish what was taken; the Deferred fires when it is durable.
        """
        ...


class MemoryJournal:
    """
    A journal for nodes that may forget everything when they stop.

    It answers in the next turn of the reactor, for all lines of this turn together, as a disk would.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lines = 0
        self._flush: IDelayedCall | None = None

    def open(self, synced: Callable[[int], None]) -> None:
        self._synced = synced

    def append(self, line: bytes) -> None:
        self._lines += 1
        if self._flush is None:
            self._flush = self._clock.callLater(0, self._sync)

    def close(self) -> Deferred[None]:
        if self._flush is not None:
            self._flush.cancel()
            self._sync()
        return succeed(None)

    def _sync(self) -> None:
        self._flush = None
        lines, self._lines = self._lines, 0
        self._synced(lines)
