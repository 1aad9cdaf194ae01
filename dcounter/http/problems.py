"""
Every error a caller may see, as `application/problem+json` (RFC 9457), and which status it has.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from dcounter.errors import (
    Incomplete,
    InvalidItems,
    InvalidPosition,
    MalformedBody,
    NoAnswer,
    NodeIsBusy,
    NodeIsUp,
    NotApplied,
    NotReplicated,
    Outcome,
    OutcomeUnknown,
    PositionLost,
    Refusal,
    TooManyItems,
    UnknownNode,
)


class Answer(msgspec.Struct, frozen=True):
    """
    What a caller is sent, whichever way it is sent.
    """

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


class BadRequest(Refusal):
    """
    The bytes that came are no request of HTTP/1.
    """

    code = "bad_request"


class BadPath(Refusal):
    """
    The path does not stand for any text.
    """

    code = "bad_path"


class BadParameter(Refusal):
    """
    A query parameter is unknown, repeated, or has a value it cannot have.
    """

    code = "bad_parameter"


class Forbidden(Refusal):
    """
    Only the operator may do that, from this machine.
    """

    code = "forbidden"


class ForeignOrigin(Refusal):
    """
    A web page of another site had a browser send the request.
    """

    code = "foreign_origin"
    outcome = "not_applied"

    def __init__(self, origin: str) -> None:
        super().__init__(f"a web page from {origin!r} sent this; only the daemon's own pages may")


class UnknownHost(Refusal):
    """
    The request came to this machine under a name that the daemon does not have.
    """

    code = "unknown_host"
    outcome = "not_applied"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"this daemon is not called {host!r}, as the header Host says; its option --host gives it"
            " further names, for example that of a proxy in front of it"
        )


class UnsupportedEncoding(Refusal):
    """
    The body is compressed, or encoded in another way.
    """

    code = "unsupported_encoding"
    outcome = "not_applied"

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"the body is encoded as {encoding!r}, as the header Content-Encoding says; send it as it is"
        )


class UnknownPath(Refusal):
    """
    There is nothing at that path.
    """

    code = "unknown_path"

    def __init__(self) -> None:
        super().__init__("there is nothing at this path; /openapi.json lists what there is")


class WrongMethod(Refusal):
    """
    The path does not take that method.
    """

    code = "wrong_method"

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"this path takes {self.allowed}")


class RequestTimeout(Refusal):
    """
    The request stopped arriving before it was complete.
    """

    code = "request_timeout"
    outcome = "not_applied"


class NotSupported(Refusal):
    """
    This daemon cannot do that.
    """

    code = "not_supported"


class BodyTooLarge(Refusal):
    """
    The body is larger than one body may be.
    """

    code = "body_too_large"
    outcome = "not_applied"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes; send the items in several requests")


class Overloaded(Refusal):
    """
    The HTTP side has as much in its hands as it may.
    """

    code = "overloaded"
    outcome = "not_applied"


class NotReady(Refusal):
    """
    Callers should not be sent here at present.
    """

    code = "not_ready"

    def __init__(self, *, exact: bool, missing: Sequence[int], warnings: Sequence[str] = ()) -> None:
        super().__init__("; ".join(["writes are not taken, or no primary answers", *warnings]))
        self.exact = exact
        self.missing = missing
        self.warnings = warnings


class InternalError(Refusal):
    """
    Something went wrong that is no fault of the caller's; the log says what.
    """

    code = "internal"

    def __init__(self) -> None:
        super().__init__("something went wrong in dcounter; its log says what")


KINDS: Final[Mapping[type[Refusal], tuple[HTTPStatus, str]]] = {
    BadRequest: (HTTPStatus.BAD_REQUEST, "The request cannot be read"),
    BadPath: (HTTPStatus.BAD_REQUEST, "The path cannot be read"),
    BadParameter: (HTTPStatus.BAD_REQUEST, "A query parameter is not what it must be"),
    MalformedBody: (HTTPStatus.BAD_REQUEST, "The body is not what it must be"),
    InvalidPosition: (HTTPStatus.BAD_REQUEST, "The position is none of this cluster's"),
    Forbidden: (HTTPStatus.FORBIDDEN, "Only for the operator, on this machine"),
    ForeignOrigin: (HTTPStatus.FORBIDDEN, "Not for web pages of other sites"),
    UnknownHost: (HTTPStatus.FORBIDDEN, "The daemon does not have this name"),
    UnknownPath: (HTTPStatus.NOT_FOUND, "There is nothing at this path"),
    UnknownNode: (HTTPStatus.NOT_FOUND, "There is no such node"),
    WrongMethod: (HTTPStatus.METHOD_NOT_ALLOWED, "The path does not take this method"),
    RequestTimeout: (HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time"),
    NotSupported: (HTTPStatus.CONFLICT, "This daemon cannot do that"),
    NodeIsBusy: (HTTPStatus.CONFLICT, "The node is being started or stopped"),
    NodeIsUp: (HTTPStatus.CONFLICT, "The node is up"),
    PositionLost: (HTTPStatus.GONE, "The position names items that are lost"),
    BodyTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    TooManyItems: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request holds too many items"),
    UnsupportedEncoding: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The encoding of the body is not supported"),
    InvalidItems: (HTTPStatus.UNPROCESSABLE_ENTITY, "An item is not what it must be"),
    InternalError: (HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong"),
    NotApplied: (HTTPStatus.SERVICE_UNAVAILABLE, "Nothing can be stored at present"),
    Overloaded: (HTTPStatus.SERVICE_UNAVAILABLE, "Too much at once"),
    NotReady: (HTTPStatus.SERVICE_UNAVAILABLE, "Not ready"),
    Incomplete: (HTTPStatus.SERVICE_UNAVAILABLE, "No exact count can be given at present"),
    NoAnswer: (HTTPStatus.GATEWAY_TIMEOUT, "No node answered in time"),
    OutcomeUnknown: (HTTPStatus.GATEWAY_TIMEOUT, "Nobody can say what was stored"),
    NotReplicated: (HTTPStatus.GATEWAY_TIMEOUT, "Stored, but not as widely as asked"),
}

_RETRY_SOON: Final = 1
"""Seconds after which it is worth asking again, where nobody knows better."""


def problem(refusal: Refusal, *, outcome: Outcome | None = None) -> Answer:
    """
    The answer that tells a caller of a refusal.

    :param outcome: what became of the request to store, where the refusal itself does not say.
    """
    status, title = KINDS[type(refusal)]
    content: dict[str, Any] = {
        "type": f"urn:problem-type:dcounter:{refusal.code}",
        "title": title,
        "status": status.value,
        "detail": str(refusal),
        "code": refusal.code,
        "message": str(refusal),
    }
    outcome = refusal.outcome or outcome
    if outcome is not None:
        content["outcome"] = outcome
    headers: list[tuple[bytes, bytes]] = []
    match refusal:
        case InvalidItems():
            content["errors"] = refusal.errors
        case OutcomeUnknown():
            content.update(position=refusal.position, items_stored=refusal.items_stored)
        case NotReplicated():
            content.update(position=refusal.position, items=refusal.items, reached=refusal.reached)
        case NotApplied():
            headers.append(_retry_after(refusal.retry_after))
        case Incomplete():
            content.update(counter_so_far=refusal.counter_so_far, missing=refusal.missing)
            headers.append(_retry_after(refusal.retry_after))
        case NotReady():
            content.update(exact=refusal.exact, missing=refusal.missing, warnings=refusal.warnings)
            headers.append(_retry_after(_RETRY_SOON))
        case Overloaded():
            headers.append(_retry_after(_RETRY_SOON))
        case UnsupportedEncoding():
            headers.append((b"Accept-Encoding", b"identity"))
        case WrongMethod():
            headers.append((b"Allow", refusal.allowed.encode()))
        case _:
            pass
    return Answer(
        status=status,
        body=msgspec.json.encode(content),
        content_type=b"application/problem+json",
        headers=headers,
    )


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    # The header knows whole seconds only; at once is never worth it.
    return b"Retry-After", b"%d" % max(1, math.ceil(seconds))
