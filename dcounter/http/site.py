"""
The daemon's HTTP server: twisted.web with bounds, and problem+json even for malformed requests.
"""

# The channel and the request of twisted.web, which are extended here, have no annotations.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.http import Request as PlainRequest
from twisted.web.resource import IResource
from twisted.web.server import Site

from dcounter.errors import Refusal
from dcounter.http.auth import OperatorToken
from dcounter.http.call import Api
from dcounter.http.callers import Guard, is_loopback
from dcounter.http.limits import HttpLimits
from dcounter.http.openapi import document
from dcounter.http.problems import (
    BadRequest,
    BodyTooLarge,
    Overloaded,
    RequestTimeout,
    problem,
)
from dcounter.http.request import BoundedRequest, encode
from dcounter.http.routes import PlainPaths, ShortWay, make_resource
from dcounter.http.table import ROUTES
from dcounter.store import Ack, Consistency, Operator, Store

_log = Logger()

_SECOND: Final = 1_000_000_000


def make_api(
    store: Store,
    *,
    limits: HttpLimits | None = None,
    operator: Operator | None = None,
    token: OperatorToken | None = None,
    ack: Ack = "node",
    consistency: Consistency = "exact",
) -> Api:
    """
    Build what the functions of all routes share.

    :param operator: `None` if there are no nodes to operate on.
    :param token: the operator's token; `None` if there is none, and requests of operators are refused.
    :param ack: the default of the parameter `ack`.
    :param consistency: the default of the parameter `consistency`.
    """
    return Api(
        store=store,
        operator=operator,
        limits=limits or HttpLimits(),
        token=token,
        ack=ack,
        consistency=consistency,
        document=msgspec.json.encode(document(ROUTES)),
    )


def make_site(
    api: Api, *, reactor: IReactorTime, now: Callable[[], int], names: Iterable[str] = ()
) -> "BoundedSite":
    """
    Build the HTTP server of a daemon: a factory to listen with.

    :param now: the wall clock, ns since 1970.
    :param names: further host names of the daemon, besides `localhost` and the like.
    """
    return BoundedSite(
        api,
        make_resource(api, ROUTES),
        short_way=PlainPaths(ROUTES),
        reactor=reactor,
        now=now,
        guard=Guard(names),
    )


@dataclass(slots=True)
class _Ends:
    """
    The two ends of a connection.

    One object, because a channel with these as attributes of its own would have too many for Python to share
    their names between channels, and each request would cost a tenth more.

    :ivar inside: whether the caller connected to a loopback address.
    :ivar secure: whether the connection is encrypted.
    :ivar hosts: the last `Host` header that was accepted: callers repeat it with each request.
    """

    peer: IAddress
    host: IAddress
    inside: bool
    secure: bool
    hosts: list[bytes] | None = field(default_factory=list)


class BoundedChannel(HTTPChannel):
    """
    A connection that refuses requests that are too large, too many or malformed, and then closes.
    """

    site: "BoundedSite"
    transport: Any
    _refused = False
    _cut: IDelayedCall | None = None
    _watch: IDelayedCall | None = None
    _heard = 0.0
    _ends: "_Ends | None" = None
    _unread = False
    # Twisted's annotation allows whole seconds only.
    timeOut: float | None  # type: ignore[assignment]

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels.add(self)
        most = self.site.limits.max_connections
        if len(self.site.channels) > most:
            self.refuse(Overloaded(f"too many connections are open; the limit is {most}"))

    def getPeer(self) -> IAddress:
        return (self._ends or self._look_at_ends()).peer

    def getHost(self) -> IAddress:
        return (self._ends or self._look_at_ends()).host

    def _look_at_ends(self) -> "_Ends":
        """
        Ask the socket once for what each request needs to know.

        Not before the first request has begun: behind `haproxy:` the addresses come with the first bytes.
        """
        host: IAddress = self.transport.getHost()
        # Browsers cannot reach Unix sockets, and a proxy in front of one is responsible for the name.
        self._ends = _Ends(self.transport.getPeer(), host, is_loopback(host), self.isSecure())
        return self._ends

    def setTimeout(self, period: float | None) -> float | None:
        """
        Start or stop watching for silence.

        Twisted's own version makes and cancels a timer for each request. Here each connection has one timer,
        which checks for silence when it fires.
        """
        previous, self.timeOut = self.timeOut, period
        self.resetTimeout()
        if period is not None and self._watch is None:
            self._watch = self.callLater(period, self._check_silence)
        return previous

    def resetTimeout(self) -> None:
        self._heard = self.site.seconds()

    def _check_silence(self) -> None:
        # While an answer is awaited there is no time-out, but there will be one afterwards.
        period = self.site.limits.idle_s if self.timeOut is None else self.timeOut
        since = self.site.seconds() if self.timeOut is None else self._heard
        left = since + period - self.site.seconds()
        if left > 0:
            self._watch = self.callLater(left, self._check_silence)
        else:
            self._watch = None
            self.timeoutConnection()

    def dataReceived(self, data: bytes) -> None:
        if not self._refused:
            super().dataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            # A Content-Length with more digits than Python converts.
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        # Before Twisted sends "100 Continue", and before a byte of the body is read. Not `getRawHeaders`,
        # which normalises the name: that would cost every request.
        given = self.requests[-1].requestHeaders._rawHeaders  # noqa: SLF001
        ends = self._ends
        if (
            ends is None
            or given.get(b"Host") != ends.hosts
            or b"Origin" in given
            or b"Content-Encoding" in given
            or (self.length and self.length > self.site.limits.max_body_bytes)
        ):
            refusal = self._objection()
            if refusal is not None:
                self.refuse(refusal, to_head=self._command == b"HEAD")
                # Twisted considers a request without a body complete, and would answer it.
                self.length = None
                return
        super().allHeadersReceived()

    def _objection(self) -> Refusal | None:
        """
        The reason to refuse the request whose headers have arrived; `None` if there is none.
        """
        ends = self._ends or self._look_at_ends()
        headers = self.requests[-1].requestHeaders
        refusal = self.site.guard.objection(
            headers, inside=ends.inside, secure=ends.secure, body=self.length != 0
        )
        if refusal is not None:
            return refusal
        ends.hosts = headers._rawHeaders.get(b"Host")  # noqa: SLF001
        limit = self.site.limits.max_body_bytes
        return BodyTooLarge(limit) if self.length and self.length > limit else None

    def requestDone(self, request: PlainRequest) -> None:
        """
        Go on to the next request, unless the caller does not read its answers: they would pile up.
        """
        if not (self._waitingForTransport and self.persistent):
            super().requestDone(request)
            return
        # Do what Twisted does, except for reading on: bytes that are here already stay in the buffer.
        self._unread = True
        self.requests.remove(request)
        self._networkProducer.pauseProducing()
        self.setTimeout(self._savedTimeOut)

    def resumeProducing(self) -> None:
        """
        Go on to the next request, now that the caller has read the earlier answers.
        """
        unread, self._unread = self._unread, False
        if unread:
            self._handlingRequest = False
            self.resetTimeout()
        super().resumeProducing()
        if unread:
            data, self._dataBuffer = b"".join(self._dataBuffer), []
            self.setLineMode(data)

    def rawDataReceived(self, data: bytes) -> None:
        try:
            super().rawDataReceived(data)
        except Refusal as refusal:
            self.refuse(refusal)

    def timeoutConnection(self) -> None:
        if self.requests:
            self.refuse(RequestTimeout(f"no data arrived for {self.site.limits.idle_s:g} seconds"))
        else:
            super().timeoutConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's own answer has no body, and there is no public way to give it one. If the name of this
        # method changes, Twisted's answer is back, and a test fails.
        self.refuse(
            BadRequest(
                "the request line, a header or a chunk of the body is malformed, Transfer-Encoding is not"
                f" chunked, or request line and headers exceed {self.totalHeadersSize} bytes"
            )
        )

    def end(self) -> None:
        """
        Close the connection, after the answer if one is awaited.
        """
        if any(request.awaited for request in self.requests):
            self.persistent = False
        else:
            self.loseConnection()

    def refuse(self, refusal: Refusal, *, to_head: bool = False) -> None:
        """
        Answer with a refusal and close the connection.

        Bytes that still arrive are discarded for a while: a connection that is closed while its caller is
        sending is reset, and the answer is lost with it.

        :param to_head: whether the method is HEAD, whose answers have no body.
        """
        self._refused = True
        self.clearLineBuffer()
        self.setTimeout(None)
        for request in self.requests:
            request.release()
            request.gotLength(0)
        answer = problem(refusal)
        whole = encode(answer, b"HTTP/1.1", self.site.date(), last=True)
        self.transport.write(whole[: -len(answer.body)] if to_head else whole)
        if self.isSecure() or not ITCPTransport.providedBy(self.transport):
            self.loseConnection()
        else:
            self.transport.loseWriteConnection()
            self._cut = self.callLater(self.site.limits.linger_s, self._cut_off)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.discard(self)
        for timer in (self._cut, self._watch):
            if timer is not None:
                timer.cancel()
        self._cut = self._watch = None
        super().connectionLost(reason)

    def _cut_off(self) -> None:
        self._cut = None
        self.transport.abortConnection()


class BoundedSite(Site):
    """
    The factory of connections, and what they share.

    There is no access log: formatting a line costs more than answering a count.

    :param api: what the routes answer from.
    :param resource: answers the requests that the short way does not route.
    :param now: the wall clock, ns since 1970.
    :param guard: refuses requests that web pages of other sites send.
    :ivar channels: the open connections.
    :ivar body_bytes: bytes of all bodies in memory.
    """

    requestFactory = BoundedRequest
    # Twisted's own class is a proxy that may switch to HTTP/2.
    protocol = BoundedChannel  # type: ignore[assignment]

    def __init__(
        self,
        api: Api,
        resource: IResource,
        *,
        short_way: ShortWay,
        reactor: IReactorTime,
        now: Callable[[], int],
        guard: Guard | None = None,
    ) -> None:
        limits = api.limits
        # Forms are not parsed: curl -d declares any body to be a form, also JSON.
        super().__init__(resource, parsePOSTFormSubmission=False, timeout=limits.idle_s, reactor=reactor)
        self._reactor = reactor
        self.seconds = reactor.seconds
        self.api = api
        self.short_way = short_way
        self._now = now
        self._second, self._date = -1, b""
        self.limits = limits
        self.guard = guard or Guard()
        self.channels: set[BoundedChannel] = set()
        self.body_bytes = 0

    def date(self) -> bytes:
        """
        The current time in HTTP's format, made once per second.
        """
        second = self._now() // _SECOND
        if second != self._second:
            self._second, self._date = second, datetimeToString(second)
        return self._date

    def buildProtocol(self, addr: IAddress | None) -> Any:
        most = self.limits.max_connections + self.limits.spare_connections
        if len(self.channels) >= most:
            return None
        return super().buildProtocol(addr)

    def acceptableProtocols(self) -> list[bytes]:
        """
        Only HTTP/1.1, also over TLS: the channel of HTTP/2 does not have our limits.
        """
        return [b"http/1.1"]

    def startFactory(self) -> None:
        # Twisted's own version opens the access log and starts its clock.
        pass

    def stopFactory(self) -> None:
        """
        Close idle connections; the others close after their answer.
        """
        super().stopFactory()
        for channel in tuple(self.channels):
            channel.end()

    async def ended(self) -> None:
        """
        Wait until the last connection is closed, but no longer than `linger_s`.
        """
        until = self.seconds() + self.limits.linger_s
        while self.channels and self.seconds() < until:
            await deferLater(self._reactor, 0.05)
        for channel in tuple(self.channels):
            channel.transport.abortConnection()

    def log(self, request: PlainRequest) -> None:
        pass
