"""
The bodies of answers, as `dcounter.client` reads them: whole ones, and those that are read while they arrive.
"""

from collections import deque
from typing import Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

_BUFFER_BYTES: Final = 256 * 1024
"""
How much may wait to be taken before the connection is not read any further.
"""

_ENDS: Final = (ResponseDone, PotentialDataLoss)
"""
How whole bodies end: one without a length ends with its connection.
"""


class _Body(Protocol):
    """
    Collects a body. To give it up closes its connection, on which the rest would come.
    """

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(self._give_up)
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if reason.check(*_ENDS):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)

    def _give_up(self, whole: Deferred[bytes]) -> None:
        if self.transport is not None:
            cast(IPushProducer, self.transport).stopProducing()


def body_of(response: IResponse) -> Deferred[bytes]:
    """
    The whole body of an answer.
    """
    body = _Body()
    response.deliverBody(body)
    return body.whole


class Parts(Protocol):
    """
    A body that is read while it arrives, no faster than its parts are taken.
    """

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._end: Failure | None = None
        self._waiting: Deferred[None] | None = None

    @property
    def _producer(self) -> IPushProducer:
        return cast(IPushProducer, self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _BUFFER_BYTES and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    async def take(self) -> bytes:
        """
        What has arrived, at least one byte; nothing at the end of the body.

        :raises Exception: the connection broke before that.
        """
        while not self._parts:
            if self._end is not None:
                if not self._end.check(*_ENDS):
                    self._end.raiseException()
                return b""
            self._waiting = Deferred()
            await self._waiting
        part = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._paused and self._end is None:
            self._paused = False
            self._producer.resumeProducing()
        return part

    def stop(self) -> None:
        """
        Read no more, and close the connection.
        """
        self._parts.clear()
        if self._end is None and self.transport is not None:
            self._producer.stopProducing()
