"""
Answers, and the refusals of HTTP itself. Every refusal becomes `application/problem+json` (RFC 9457).
"""

import math
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from dcounter.errors import Outcome, Refusal
from dcounter.store import Answered


class Parts(Protocol):
    """
    The body of an answer, made bit by bit, such as an asynchronous generator.
    """

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def aclose(self) -> Coroutine[Any, Any, None]:
        """
        End it: no more is wanted.
        """
        ...


class Answer(msgspec.Struct, frozen=True):
    """
    The answer to a request, whichever way it is sent.

    :ivar kept: whether a browser may keep it, and ask each time whether it is still the same. Such an
        answer has a header `ETag`.
    :ivar lasting: whether `stream` goes on for as long as the caller stays. Its connection is then used for
        nothing else, and does not count as one that is served.
    :ivar refusal: the code of the refusal that it tells of; empty if there is none.
    """

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()
    stream: Parts | None = None
    lasting: bool = False
    kept: bool = False
    refusal: str = ""

    def with_headers(self, added: Iterable[tuple[bytes, bytes]]) -> "Answer":
        """
        The same answer with further headers.
        """
        return msgspec.structs.replace(self, headers=[*self.headers, *added])


RETRY_SOON_S: Final = 1
"""
Seconds after which to retry, where no better value is known.
"""


class HttpRefusal(Refusal):
    """
    A refusal that concerns HTTP itself.
    """

    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """
        Further headers of the answer.
        """
        return ()


class BadRequest(HttpRefusal):
    """
    The bytes are not a valid HTTP/1 request.
    """

    code = "bad_request"
    status = 400
    title = "Malformed request"


class BadPath(HttpRefusal):
    """
    The path is not percent-encoded UTF-8, or a segment of it is not what it must be.
    """

    code = "bad_path"
    status = 400
    title = "Malformed path"


class BadParameter(HttpRefusal):
    """
    A query parameter is unknown or repeated, or has an invalid value.
    """

    code = "bad_parameter"
    status = 400
    title = "Invalid query parameter"


class Unauthenticated(HttpRefusal):
    """
    The request shows no token, or one that is not accepted.

    :param shown: whether it shows one.
    """

    code = "unauthenticated"
    status = 401
    title = "Token required"
    outcome = "not_applied"

    def __init__(self, message: str, *, shown: bool) -> None:
        super().__init__(message)
        self._shown = shown

    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        # RFC 6750, 3: no error code for callers that may not know that they need a token.
        error = b', error="invalid_token"' if self._shown else b""
        return [(b"WWW-Authenticate", b'Bearer realm="dcounter"' + error)]


class NoIdempotencyKey(HttpRefusal):
    """
    The request has a header `Idempotency-Key`, which is not needed, and would have no effect.
    """

    code = "no_idempotency_key"
    status = 400
    title = "Idempotency-Key is not supported"
    outcome = "not_applied"

    def __init__(self) -> None:
        super().__init__(
            "an item's ID and stamp already make a retry harmless, without the header Idempotency-Key: take"
            " the time once, add it to the query as lastUpdateDt, and repeat the request as often as needed"
            " (see Retries in docs/http.md)"
        )


class Forbidden(HttpRefusal):
    """
    The caller has proved its identity, or need not, but does not have the right to do this.
    """

    code = "forbidden"
    status = 403
    title = "Not permitted"


class ForeignOrigin(HttpRefusal):
    """
    A web page of another site sent the request through a browser.
    """

    code = "foreign_origin"
    status = 403
    title = "Request from another site's web page"
    outcome = "not_applied"

    def __init__(self, origin: str) -> None:
        super().__init__(f"a web page from {origin!r} sent this request; only the daemon's own may")


class UnknownHost(HttpRefusal):
    """
    The `Host` of the request is not a name of this daemon.
    """

    code = "unknown_host"
    status = 403
    title = "Unknown host name"
    outcome = "not_applied"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"the header Host is {host!r}, which is not a name of this daemon; its option --host adds names,"
            " for example that of a proxy in front of it"
        )


class TooManyRequests(HttpRefusal):
    """
    The token permits fewer requests in this time.

    :param wait_s: after which time to send it again.
    :param headers: tell what the token permits.
    """

    code = "too_many_requests"
    status = 429
    title = "Too many requests"
    retryable = True
    outcome = "not_applied"

    def __init__(self, name: str, *, wait_s: float, headers: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(f"the token {name!r} permits no more requests at present; wait {wait_s:.3g} s")
        self.retry_after = wait_s
        self._headers = headers

    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return self._headers


class UnsupportedEncoding(HttpRefusal):
    """
    The body is encoded in a way that this path does not accept; most accept none.
    """

    code = "unsupported_encoding"
    status = 415
    title = "Unsupported content encoding"
    outcome = "not_applied"

    def __init__(self, encoding: str, accepted: Sequence[str] = ()) -> None:
        instead = (
            f"one of {', '.join(accepted)}, or without an encoding" if accepted else "without an encoding"
        )
        super().__init__(f"the header Content-Encoding is {encoding!r}; send the body {instead}")
        self._accepted = ", ".join([*accepted, "identity"])

    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return [(b"Accept-Encoding", self._accepted.encode())]


class UnknownPath(HttpRefusal):
    """
    No route has this path.
    """

    code = "unknown_path"
    status = 404
    title = "No such path"

    def __init__(self) -> None:
        super().__init__("no such path; see /openapi.json")


class WrongMethod(HttpRefusal):
    """
    No route has this path with this method.
    """

    code = "wrong_method"
    status = 405
    title = "Method not allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"this path has the methods {self.allowed}")

    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return [(b"Allow", self.allowed.encode())]


class UnknownMethod(HttpRefusal):
    """
    HTTP has no such method.
    """

    code = "unknown_method"
    status = 501
    title = "Unknown method"

    def __init__(self) -> None:
        super().__init__("HTTP has no such method, or spells it in upper case; see /openapi.json")


class UnknownItem(HttpRefusal):
    """
    No tenant owns this ID: it was never stored, or was deleted.
    """

    code = "unknown_item"
    status = 404
    title = "No such item"

    def __init__(self, item: int, answered: Answered) -> None:
        super().__init__(f"no tenant owns the ID {item}")
        self._answered = answered

    def details(self) -> Mapping[str, object]:
        found = {"position": self._answered.position}
        if self._answered.complete:
            return found
        return {**found, "complete": False, "missing": self._answered.missing}


class RequestTimeout(HttpRefusal):
    """
    The request stopped arriving before it was complete.
    """

    code = "request_timeout"
    status = 408
    title = "Request timeout"
    retryable = True
    outcome = "not_applied"


class BodyTooLarge(HttpRefusal):
    """
    The body is larger than the limit.
    """

    code = "body_too_large"
    status = 413
    title = "Body too large"
    outcome = "not_applied"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes; send the items in several requests")


class ExpandsTooMuch(HttpRefusal):
    """
    A compressed body is much larger than it looks.
    """

    code = "expands_too_much"
    status = 413
    title = "Body expands too much"
    outcome = "not_applied"


class Overloaded(HttpRefusal):
    """
    Too many connections are open, or too many bytes of bodies are in memory.
    """

    code = "overloaded"
    status = 503
    title = "Overloaded"
    retryable = True
    outcome = "not_applied"
    retry_after = RETRY_SOON_S


class TooManyWatchers(HttpRefusal):
    """
    As many watchers as may be are reading events.
    """

    code = "too_many_watchers"
    status = 503
    title = "Too many watchers"
    retryable = True
    retry_after = RETRY_SOON_S

    def __init__(self, most: int) -> None:
        super().__init__(f"too many watchers are connected; the limit is {most}")


class TooManyExports(HttpRefusal):
    """
    As many exports as may be are under way.
    """

    code = "too_many_exports"
    status = 503
    title = "Too many exports"
    retryable = True
    retry_after = 10

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} exports are under way, and that is the limit")


class Stopping(HttpRefusal):
    """
    The daemon is about to stop.
    """

    code = "stopping"
    status = 503
    title = "Stopping"
    retryable = True
    retry_after = RETRY_SOON_S

    def __init__(self) -> None:
        super().__init__("the daemon is about to stop: send requests elsewhere")


class NotReady(HttpRefusal):
    """
    The daemon is not ready for requests.
    """

    code = "not_ready"
    status = 503
    title = "Not ready"
    retryable = True
    retry_after = RETRY_SOON_S

    def __init__(self, *, exact: bool, missing: Sequence[int], warnings: Sequence[str] = ()) -> None:
        super().__init__("; ".join(["the cluster does not take writes, or no primary can answer", *warnings]))
        self.exact = exact
        self.missing = missing
        self.warnings = warnings

    def details(self) -> Mapping[str, object]:
        return {"exact": self.exact, "missing": self.missing, "warnings": self.warnings}


class InternalError(HttpRefusal):
    """
    A bug in dcounter; the log has the details.
    """

    code = "internal"
    status = 500
    title = "Internal error"

    def __init__(self) -> None:
        super().__init__("an unexpected error occurred; the daemon's log has the details")


def ok(content: object) -> Answer:
    """
    The answer to a successful request.

    :param content: anything that msgspec can encode.
    """
    return Answer(200, msgspec.json.encode(content))


def problem(refusal: Refusal, *, outcome: Outcome | None = None) -> Answer:
    """
    The answer for a refusal.

    :param outcome: the outcome, if the refusal has none of its own.
    """
    content: dict[str, Any] = {
        "type": f"urn:problem-type:dcounter:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": str(refusal),
        "code": refusal.code,
        "message": str(refusal),
        "retryable": refusal.retryable,
    }
    outcome = refusal.outcome or outcome
    if outcome is not None:
        content["outcome"] = outcome
    content.update(refusal.details())
    headers = []
    if refusal.retry_after is not None:
        headers.append(_retry_after(refusal.retry_after))
    if isinstance(refusal, HttpRefusal):
        headers.extend(refusal.headers())
    return Answer(
        status=refusal.status,
        body=msgspec.json.encode(content),
        content_type=b"application/problem+json",
        headers=headers,
        refusal=refusal.code,
    )


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    # The header takes whole seconds only, and 0 would make callers retry at once.
    return b"Retry-After", b"%d" % max(1, math.ceil(seconds))
