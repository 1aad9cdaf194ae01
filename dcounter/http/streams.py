"""
The body of a request, as a route reads it while it arrives.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol, Self

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from dcounter.errors import Refusal
from dcounter.http.problems import BadRequest, RequestTimeout


class Body(Protocol):
    """
    A body that a route reads while it arrives: iterate over its parts, once.

    Iterating raises a `Refusal` if the rest of the body cannot be read, or stops arriving.
    """

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...

    def hold(self, size: int) -> None:
        """
        Count memory that reading it takes, besides what waits here.

        :raises Overloaded: there is not enough.
        """
        ...

    def next_turn(self) -> Deferred[None]:
        """
        Wait until others had their turn.
        """
        ...

    def abandon(self) -> None:
        """
        Read no more: iterating ends here.
        """
        ...


class IncomingBody:
    """
    A body that arrives over a connection.

    :param buffer_bytes: the connection is not read further while as much waits here.
    :param whole_s: the time that it may take.
    :param taken: is called with the size of each part that is taken out.
    :param hold: counts memory.
    :ivar ended: whether nothing more arrives.
    """

    def __init__(
        self,
        buffer_bytes: int,
        whole_s: float,
        *,
        taken: Callable[[int], None],
        hold: Callable[[int], None],
        call_later: Callable[..., IDelayedCall],
    ) -> None:
        self._buffer_bytes = buffer_bytes
        self._taken = taken
        self.hold = hold
        self._call_later = call_later
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._waiting: Deferred[None] | None = None
        self._refusal: Refusal | None = None
        self._timer: IDelayedCall | None = call_later(whole_s, self._too_late, whole_s)
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
        Nothing more arrives. What comes after that is not wanted.

        :param refusal: why the body is not whole.
        """
        if self.ended:
            return
        self.ended = True
        self._refusal = refusal
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def drop(self) -> None:
        """
        Let go of what waits here: nobody will take it out.
        """
        self._parts.clear()
        self._held = 0
        self.end(BadRequest("the connection ended before the body did"))

    def abandon(self) -> None:
        held = self._held
        self._parts.clear()
        self._held = 0
        self._refusal = None
        self.end()
        self._taken(held)

    def next_turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._call_later(0, turn.callback, None)
        return turn

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
        parts = self._parts
        # All that is here at once: chunks may be tiny.
        part = parts.popleft() if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._held = 0
        self._taken(len(part))
        return part

    def _too_late(self, whole_s: float) -> None:
        self._timer = None
        self.end(RequestTimeout(f"the body took longer than {whole_s:g} seconds"))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


class WholeBody:
    """
    A body that is here already.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body

    def hold(self, size: int) -> None:
        pass

    def next_turn(self) -> Deferred[None]:
        return succeed(None)

    def abandon(self) -> None:
        self._body = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body
