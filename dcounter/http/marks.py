"""
What an answer repeats of its request: names by which logs can be searched, and permissions for web pages.

Few requests have any, so the others do not pass through here.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from dcounter.http.exchange import Caller, Exchange
from dcounter.http.problems import Answer
from dcounter.http.reader import Head
from dcounter.http.routes import Found
from dcounter.http.shared import Shared
from dcounter.http.tracing import names

Fields = Sequence[tuple[bytes, bytes]]

_EXPOSED: Final = b"RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
_ALLOWED_HEADERS: Final = b"Authorization, Content-Type, Last-Event-ID, X-Request-ID, traceparent"
_MAX_AGE_S: Final = 600
"""
How long a browser remembers what a page may do. Long enough to save a request before each request.
"""


class MarkedExchange(Exchange):
    """
    An exchange whose answer repeats something of its request.

    :param marks: the headers to add to the answer, whatever it is.
    """

    __slots__ = ("_marks",)

    def __init__(
        self, caller: Caller, shared: Shared, head: Head, found: Found | None, marks: Fields
    ) -> None:
        super().__init__(caller, shared, head, found)
        self._marks = marks

    def marked(self, answer: Answer) -> Answer:
        return answer.with_headers(self._marks)

    def encode_head(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        return super().encode_head(status, [*fields, *self._marks])

    def _write(self, answer: Answer) -> None:
        super()._write(self.marked(answer))


class Preflight(MarkedExchange):
    """
    The question of a browser whether a page may send a request (Fetch Standard, CORS preflight).
    """

    __slots__ = ()

    def answer(self, body: bytes) -> None:
        self.answering = True
        permits = [
            (b"Access-Control-Allow-Methods", b", ".join(sorted(self._shared.methods))),
            (b"Access-Control-Allow-Headers", _ALLOWED_HEADERS),
            (b"Access-Control-Max-Age", b"%d" % _MAX_AGE_S),
        ]
        self._write(Answer(200, b"{}", headers=permits))
        self._caller.answered()


def marked(exchange: Exchange, caller: Caller, shared: Shared) -> Exchange:
    """
    The same exchange, so that its answer repeats what it should.
    """
    head = exchange.head
    marks = names(head.headers)
    origin = shared.guard.permitted_page(head.headers)
    if origin is not None:
        marks += [
            (b"Access-Control-Allow-Origin", origin),
            (b"Access-Control-Expose-Headers", _EXPOSED),
            (b"Vary", b"Origin"),
        ]
        if head.method == b"OPTIONS" and b"access-control-request-method" in head.headers:
            return Preflight(caller, shared, head, exchange.found, marks)
    return MarkedExchange(caller, shared, head, exchange.found, marks) if marks else exchange
