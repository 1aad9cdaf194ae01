"""
The body of a request, as a route reads it while it arrives.
"""

from collections import deque
from collections.abc import Callable
from typing import Self

from twisted.internet.defer import Deferred

from dcounter.errors import Refusal
from dcounter.http.problems import BadRequest


class IncomingBody:
    """
    A body that arrives: iterate over its parts, once.

    Iterating raises a `Refusal` if the rest of the body cannot be read, or stops arriving.

    :param buffer_bytes: the connection is not read further while as much waits here.
    :param taken: is called with the size of each part that is taken out.
    """

    def __init__(self, buffer_bytes: int, taken: Callable[[int], None]) -> None:
        self._buffer_bytes = buffer_bytes
        self._taken = taken
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._waiting: Deferred[None] | None = None
        self._refusal: Refusal | None = None
        self.ended = False

    @property
    def full(self) -> bool:
        """
        Whether as much waits here as may.
        """
        return self._held >= self._buffer_bytes

    def feed(self, data: bytes) -> None:
        """
        Add what arrived.
        """
        self._parts.append(data)
        self._held += len(data)
        self._wake()

    def end(self, refusal: Refusal | None = None) -> None:
        """
        Nothing more arrives.

        :param refusal: why the body is not whole.
        """
        self.ended = True
        self._refusal = refusal
        self._wake()

    def drop(self) -> None:
        """
        Let go of what waits here: nobody will take it out.
        """
        self._parts.clear()
        self._held = 0
        if not self.ended:
            self.end(BadRequest("the connection ended before the body did"))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self._refusal is not None:
                raise self._refusal
            if self.ended:
                raise StopAsyncIteration
            self._waiting = Deferred()
            await self._waiting
        part = self._parts.popleft()
        self._held -= len(part)
        self._taken(len(part))
        return part

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)
