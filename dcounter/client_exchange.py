"""
One exchange of the HTTP client: what can go wrong with it, and the body of its answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionLost, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from dcounter.client_answers import Unreachable

_NOT_SENT: Final = (ConnectError, ConnectTimeout, DNSLookupError)
_BROKEN: Final = (ResponseNeverReceived, RequestTransmissionFailed, ResponseFailed, ConnectionLost)
"""
The errors before a byte of a request is written, and those afterwards.
"""


@contextmanager
def told_apart() -> Iterator[None]:
    """
    Tell errors before a request is sent from those afterwards.
    """
    try:
        yield
    except _NOT_SENT as error:
        raise Unreachable(error, sent=False) from error
    except ConnectingCancelledError as error:
        raise CancelledError from error
    except _BROKEN as error:
        if any(reason.check(CancelledError) for reason in getattr(error, "reasons", ())):
            raise CancelledError from error
        raise Unreachable(error, sent=True) from error


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
        # A body without a length ends with its connection.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)

    def _give_up(self, whole: Deferred[bytes]) -> None:
        if self.transport is not None:
            cast(IPushProducer, self.transport).stopProducing()


def body_of(response: IResponse) -> Deferred[bytes]:
    body = _Body()
    response.deliverBody(body)
    return body.whole


def too_late(result: object, seconds: float) -> NoReturn:
    """
    Turn the cancellation of a request that takes too long into an error that says whether it was sent.
    """
    cause = result.value.__cause__ if isinstance(result, Failure) and result.value else None
    connecting = isinstance(cause, ConnectingCancelledError)
    raise Unreachable(TimeoutError(f"no answer within {seconds:g} s"), sent=not connecting)
