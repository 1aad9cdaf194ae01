"""
Events of a store in memory.
"""

from collections.abc import Callable, Iterable
from typing import Self

from twisted.internet.defer import Deferred

from dcounter.events import Event, News, Wanted


class MemoryFeed:
    """
    The events for one watcher. It never goes on where another feed ended.

    :param left: is called when the watcher goes.
    """

    def __init__(self, wanted: Wanted, position: str, left: Callable[["MemoryFeed"], object]) -> None:
        self.position = self.id = position
        self.resumed = False
        self._wanted = wanted
        self._left = left
        self._events: list[Event] = []
        self._waiting: Deferred[None] | None = None
        self._open = True

    def wants(self, tenant: str) -> bool:
        """
        Whether the watcher wants the events of a tenant.
        """
        tenants, prefixes = self._wanted.tenants, self._wanted.prefixes
        return tenant.startswith(prefixes or "") if tenants is None else tenant in tenants

    def tell(self, events: Iterable[Event], id: str) -> None:
        """
        Something has happened.
        """
        self._events += events
        self.id = id
        if self._events:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> News:
        while self._open:
            if self._events:
                events, self._events = self._events, []
                return News(events, self.id)
            self._waiting = Deferred()
            await self._waiting
        raise StopAsyncIteration

    def close(self) -> None:
        if self._open:
            self._open = False
            self._left(self)
            self._wake()
