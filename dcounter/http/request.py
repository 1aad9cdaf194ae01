"""
A twisted.web request with bounds, whose answer is written in one piece.
"""

# The channel and the request of twisted.web, which are extended here, have no annotations.
# mypy: disable-error-code="no-untyped-call"

from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request

from dcounter.http.admission import answer as respond
from dcounter.http.call import Api, Call
from dcounter.http.problems import (
    Answer,
    BodyTooLarge,
    Overloaded,
)
from dcounter.http.routes import ShortWay, report_bug
from dcounter.http.table import Route

_log = Logger()

_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


def encode(answer: Answer, version: bytes, date: bytes, *, last: bool) -> bytes:
    """
    The bytes of an answer on the wire.

    :param version: the HTTP version of the request.
    :param date: the time in HTTP's format.
    :param last: whether the connection is closed afterwards.
    """
    more = [b"%s: %s\r\n" % header for header in answer.headers]
    if last:
        more.append(b"Connection: close\r\n")
    return b"%s %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s" % (
        version,
        answer.status,
        _REASONS[answer.status],
        date,
        answer.content_type,
        len(answer.body),
        b"".join(more),
        answer.body,
    )


class Shared(Protocol):
    """
    What the requests of all connections share: `dcounter.http.site.BoundedSite`.

    :ivar body_bytes: bytes of all bodies in memory.
    """

    api: Api
    short_way: ShortWay
    resource: IResource
    body_bytes: int

    def date(self) -> bytes:
        """
        The current time in HTTP's format.
        """


class BoundedRequest(Request):
    """
    A request whose body stays in memory and within the limits.
    """

    # Every answer sets its own Content-Type; none is HTML.
    defaultContentType = None

    content: BytesIO

    def __init__(self, channel: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(channel, *args, **kwargs)
        self._site: Shared = channel.site
        self._taken = 0
        self._answer: Deferred[None] | None = None
        self._gone = False
        self.awaited = False

    def getRequestHostname(self) -> bytes:
        """
        A constant, because no route depends on the Host header.

        Klein would decode the real one, and werkzeug would check it.
        """
        return b"localhost"

    def parseCookies(self) -> None:
        # No route uses cookies.
        pass

    def gotLength(self, length: int | None) -> None:
        # Twisted would spool bodies over 100 kB to a file.
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """
        Take a part of the body and count its bytes.

        :raises Refusal: a limit is exceeded; the channel catches this.
        """
        self._taken += len(data)
        self._site.body_bytes += len(data)
        limits = self._site.api.limits
        if self._taken > limits.max_body_bytes:
            raise BodyTooLarge(limits.max_body_bytes)
        if self._site.body_bytes > limits.max_bodies_bytes and self._taken > limits.small_body_bytes:
            raise Overloaded(f"request bodies in memory exceed {limits.max_bodies_bytes} bytes")
        self.content.write(data)

    def process(self) -> None:
        # Twisted's own version looks for a resource by the decoded path, and answers `*` itself.
        self.awaited = True
        found = self._site.short_way.find(self)
        if found is not None:
            self._answer = Deferred.fromCoroutine(self._respond(*found))
            return
        self.site = cast(Any, self._site)
        self.setHeader(b"Date", self._site.date())
        self.prepath = []
        self.postpath = []
        self.render(self._site.resource)

    async def _respond(self, route: Route, call: Call) -> None:
        """
        Await an answer and send it.

        Never fails, so that no callbacks are needed, which would cost more.
        """
        try:
            answer = await respond(self._site.api, route, call)
        except Exception as error:  # noqa: BLE001 - a bug, and the caller is told
            if self._gone and isinstance(error, CancelledError):
                return
            answer = report_bug(self, Failure())
        try:
            self._send(answer)
        except Exception:  # noqa: BLE001 - there is no other way to tell the caller
            _log.failure("an answer could not be sent")

    def _send(self, answer: Answer) -> None:
        """
        Write an answer in one piece, bypassing Twisted's way of assembling one.
        """
        if not self._gone:
            self.startedWriting = 1
            self.channel.write(
                encode(answer, self.clientproto, self._site.date(), last=not self.channel.persistent)
            )
            self.finish()

    def finish(self) -> None:
        self.release()
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        self._gone = True
        self.release()
        super().connectionLost(reason)
        if self._answer is not None:
            self._answer.cancel()

    def release(self) -> None:
        """
        Subtract the body from the bytes in memory.
        """
        self._site.body_bytes -= self._taken
        self._taken = 0
