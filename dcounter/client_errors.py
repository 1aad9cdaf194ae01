"""
The errors of Twisted's HTTP client, as those of `dcounter.client`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionLost, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived

from dcounter.client_answers import Unreachable

_NOT_SENT: Final = (ConnectError, ConnectTimeout, DNSLookupError)
_BROKEN: Final = (ResponseNeverReceived, RequestTransmissionFailed, ResponseFailed, ConnectionLost)
"""
The errors before a byte of a request is written, and those afterwards.
"""


@contextmanager
def our_errors() -> Iterator[None]:
    """
    Turns errors of Twisted into ours.
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


def too_late(result: object, seconds: float) -> NoReturn:
    """
    Turn the cancellation of a request that takes too long into an error that says whether it was sent.
    """
    cause = result.value.__cause__ if isinstance(result, Failure) and result.value else None
    connecting = isinstance(cause, ConnectingCancelledError)
    raise Unreachable(TimeoutError(f"no answer within {seconds:g} s"), sent=not connecting)
