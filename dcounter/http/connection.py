"""
A connection of a caller: its bytes become requests, and all its waits are bounded.

Requests are answered one after the other, in order. While one waits for its answer, little of the next ones
is read; nothing is read while answers wait to be sent.
"""

from typing import Any, Final

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.errors import Refusal
from dcounter.http.callers import is_loopback
from dcounter.http.exchange import Exchange
from dcounter.http.marks import marked
from dcounter.http.problems import BadRequest, Overloaded, RequestTimeout, problem
from dcounter.http.reader import End, Head, RequestReader, check_host
from dcounter.http.routes import Found
from dcounter.http.sending import encode
from dcounter.http.shared import Shared
from dcounter.outlet import Outlet

_UNUSUAL: Final = frozenset({b"content-encoding", b"origin", b"traceparent", b"x-request-id"})
"""
Headers that few requests have, and that are looked at before the request is answered.
"""


@implementer(IHalfCloseableProtocol, IPushProducer)
class Connection(Protocol):
    """
    One connection.

    :param shared: what it shares with others.
    :ivar outlet: where answers go.
    :ivar persistent: whether another request may follow the present one.
    :ivar blocked: whether the caller has to read before more is sent.
    :ivar admitted: whether its requests are served.
    :ivar since: when the present wait began: for a request, for the rest of its head, for more of its body,
        or for the caller to read.
    """

    # Each caller has one.
    __slots__ = (
        "_cut_s",
        "_exchange",
        "_half_closed",
        "_host",
        "_hosts",
        "_in_head",
        "_inside",
        "_open",
        "_paused",
        "_peer",
        "_reader",
        "_shared",
        "_turn",
        "_watch",
        "_working",
        "admitted",
        "blocked",
        "outlet",
        "persistent",
        "since",
    )
    transport: Any

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._reader = RequestReader(shared.limits)
        self._exchange: Exchange | None = None
        self.since = 0.0
        self._watch: IDelayedCall | None = None
        self._turn: IDelayedCall | None = None
        # What is known of the two ends, and the `Host` that was found right last: callers repeat theirs.
        self._peer: IAddress | None = None
        self._host: IAddress | None = None
        self._inside = False
        self._hosts: object = ()
        # Whether requests are taken; if not, when the connection is cut although not all is sent.
        self._open = True
        self._cut_s = shared.limits.idle_s
        self.persistent = True
        self.admitted = False
        self.blocked = False
        self._in_head = self._half_closed = self._paused = self._working = False

    @property
    def peer(self) -> IAddress:
        if self._peer is None:
            self._look_at_ends()
        assert self._peer is not None
        return self._peer

    @property
    def host(self) -> IAddress:
        if self._host is None:
            self._look_at_ends()
        assert self._host is not None
        return self._host

    @property
    def secure(self) -> bool:
        return bool(ISSLTransport.providedBy(self.transport))

    @property
    def waits(self) -> bool:
        return self._open and self._exchange is None and not self.blocked

    def _look_at_ends(self) -> None:
        """
        Keep what each request wants to know, and would ask the socket.

        Not before the first request has begun: behind `haproxy:` the first bytes tell the transport.
        """
        self._peer, self._host = self.transport.getPeer(), self.transport.getHost()
        # Browsers do not reach Unix sockets, and a proxy that does vouches for the name.
        self._inside = is_loopback(self._host)

    # What Twisted calls.

    def connectionMade(self) -> None:
        self._shared.connections.add(self)
        self.since = self._shared.seconds()
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.outlet = Outlet(self.transport)
        self.transport.registerProducer(self, True)
        self._watch = self._shared.call_later(self._shared.limits.idle_s, self._look)

    def dataReceived(self, data: bytes) -> None:
        if not self._open:
            # The answer to a caller that was refused would be lost if the connection were closed at once.
            return
        self._reader.receive(data)
        if not self._in_head:
            self.since = self._shared.seconds()
        self.go_on()

    def pauseProducing(self) -> None:
        """
        Stop: the caller does not read what was sent.
        """
        self.blocked = True
        self.since = self._shared.seconds()

    def resumeProducing(self) -> None:
        """
        Go on: the caller has read what was sent.
        """
        self.blocked = False
        self.outlet.emptied()
        self.since = self._shared.seconds()
        if self._exchange is not None:
            self._exchange.writable()
        self.go_on()

    def stopProducing(self) -> None:
        pass

    def readConnectionLost(self) -> None:
        """
        Answer what is here: the caller sends no more, but may still read.

        An answer that lasts would keep the place of one that has left until much is written to it.
        """
        self._half_closed = True
        if self in self._shared.watching:
            self._close()
        elif self._open:
            self.go_on()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._open = False
        self.outlet.close()
        self.connected = 0
        self._shared.leave(self)
        for timer in (self._watch, self._turn):
            if timer is not None:
                timer.cancel()
        self._watch = self._turn = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel(reason)

    # From bytes to requests.

    def go_on(self) -> None:
        """
        Go on with what has come, for the share of a connection in a turn of the reactor.
        """
        if self._working:
            return
        self._working = True
        shared, reader = self._shared, self._reader
        until = shared.seconds() + shared.limits.turn_s
        try:
            while self._wants_more():
                event = reader.next_event()
                if event is None:
                    self._wait_for_more()
                    break
                if isinstance(event, Head):
                    self._begin(event)
                else:
                    assert self._exchange is not None
                    if event is End.END:
                        self._exchange.end_of_body()
                    else:
                        self._exchange.take(event)
                if reader.unread:
                    if shared.seconds() >= until:
                        self._turn = shared.call_later(0, self._next_turn)
                elif self._exchange is None and not self._half_closed:
                    break
        except Refusal as refusal:
            self._refuse(refusal)
        finally:
            self._working = False
        if self._open and not self._half_closed:
            self._steer()
        elif self._half_closed and self._exchange is not None and self._exchange.ends_with_caller:
            # TCP does not tell a caller that is gone from one that still reads.
            self.transport.abortConnection()

    def _next_turn(self) -> None:
        self._turn = None
        self.go_on()

    def _wants_more(self) -> bool:
        return (
            self._open
            and not self.blocked
            and self._turn is None
            and (self._exchange is None or self._exchange.flows)
        )

    def _wait_for_more(self) -> None:
        if self._half_closed:
            if self._exchange is None:
                self._close()
            else:
                raise BadRequest("the body ends before it is complete")
        elif self._exchange is None and not self._in_head and self._reader.in_head:
            # Its time runs from its first byte, however slowly the others come.
            self._in_head = True
            self._look_again()

    def _steer(self) -> None:
        """
        Read on, or read no more for now.
        """
        exchange = self._exchange
        full = False
        if exchange is not None and not exchange.flows:
            # A caller that hangs up is only noticed while it is read from.
            full = exchange.in_body or self._reader.unread > self._shared.limits.read_ahead_bytes
        paused = self.blocked or self._turn is not None or full
        if paused is not self._paused:
            self._paused = paused
            if paused:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _begin(self, head: Head) -> None:
        """
        Take a request of which the head is here.

        :raises Refusal: it is refused, and so is what follows it.
        """
        shared, headers = self._shared, head.headers
        self._in_head = False
        if not head.persistent or shared.api.drain.begun:
            self.persistent = False
        found = shared.short_way.find(head.method, head.target)
        exchange = self._exchange = Exchange(self, shared, head, found)
        if headers.get(b"host") != self._hosts or not _UNUSUAL.isdisjoint(headers):
            exchange = self._exchange = marked(exchange, self, shared)
            self._check(head)
        if not self.admitted:
            self._admit(found)
        if head.length == 0:
            exchange.answer(b"")
        elif head.body is not None:
            exchange.take_whole(head.body)
        else:
            exchange.expect(here=self._reader.unread > 0)
            if shared.api.tokens is not None and not exchange.answering:
                exchange.require_permitted()

    def _check(self, head: Head) -> None:
        """
        :raises Refusal: the request may come from a web page elsewhere, or its body cannot be read.
        """
        if self._peer is None:
            self._look_at_ends()
        check_host(head)
        assert self._exchange is not None
        # The route decodes a body of the encodings that it takes, and refuses others.
        body = head.length != 0 and not self._exchange.encodings
        refusal = self._shared.guard.objection(
            head.headers, inside=self._inside, secure=self.secure, body=body
        )
        if refusal is not None:
            raise refusal
        self._hosts = head.headers.get(b"host", ())

    def _admit(self, found: Found | None) -> None:
        """
        :raises Overloaded: there are too many connections.
        """
        if self._shared.admit(self):
            return
        if found is None or not found.route.vital:
            most = self._shared.limits.max_connections
            raise Overloaded(f"too many connections are open; the limit is {most}")
        # One answer, and the place is free again.
        self.persistent = False

    def lasts(self) -> None:
        self.persistent = False
        self._shared.lasts(self)
        if self._half_closed:
            self._close()

    def answered(self) -> None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        exchange.over()
        if exchange.in_body or (not self.persistent and self._reader.unread):
            self._linger()
        elif not self.persistent:
            self._close()
        else:
            self.since = self._shared.seconds()
            if self._reader.unread or self._paused or self._half_closed:
                self.go_on()

    # The end.

    def end(self) -> None:
        """
        Close the connection, after the answer if one is awaited.
        """
        if self._exchange is not None and self._exchange.answering:
            self.persistent = False
            self._exchange.stop()
        elif self._open:
            self._close()

    def _refuse(self, refusal: Refusal) -> None:
        """
        Answer, and end the connection without taking anything more from it.
        """
        exchange = self._exchange
        outcome = None
        to_head = False
        if exchange is not None:
            if exchange.fail(refusal):
                return
            self._exchange = None
            exchange.over()
            outcome = exchange.outcome
            to_head = exchange.head.method == b"HEAD"
        answer = problem(refusal, outcome=outcome)
        if exchange is None:
            figures = self._shared.figures
            figures.unrouted(b"", answer.status, answer.refusal, figures.seconds())
            if self._shared.access.on:
                self._shared.access.answered(self.peer, None, answer, 0.0)
        else:
            answer = exchange.marked(answer)
            exchange.count(answer)
        self.outlet.write(encode(answer, b"HTTP/1.1", self._shared.date(), last=True, to_head=to_head))
        self._linger()

    def _linger(self) -> None:
        """
        Say that nothing more follows, and throw away for a while what still comes.

        A connection that is closed while its caller is sending is reset, and the answer lost with it.
        """
        halves = ITCPTransport.providedBy(self.transport) and not self.secure
        if self._half_closed or not halves:
            self._close()
            return
        if self._paused:
            self.transport.resumeProducing()
        self._stop()
        self._cut_s = self._shared.limits.linger_s
        self.transport.loseWriteConnection()
        self._look_again()

    def _close(self) -> None:
        """
        Close the connection when all is sent.
        """
        self._stop()
        self.transport.loseConnection()

    def _stop(self) -> None:
        self._open = False
        self.since = self._shared.seconds()
        # It would wait for us to have nothing more to send.
        self.transport.unregisterProducer()

    # Time.

    def _left(self) -> float | None:
        """
        The seconds that the present wait may last; `None`: as long as it takes.
        """
        limits, exchange = self._shared.limits, self._exchange
        if not self._open:
            most = self._cut_s
        elif self.blocked:
            most = limits.idle_s
        elif exchange is None:
            most = limits.head_s if self._in_head else limits.idle_s
        elif exchange.flows:
            most = limits.idle_s
        else:
            return None
        return self.since + most - self._shared.seconds()

    def _look(self) -> None:
        """
        See whether it is over. A connection has one timer, which looks: to move it each time costs more.
        """
        self._watch = None
        left = self._left()
        if left is None:
            left = self._shared.limits.idle_s
        if left > 0:
            self._watch = self._shared.call_later(left, self._look)
            return
        self._expire()
        if self.connected:
            self._watch = self._shared.call_later(self._cut_s, self._look)

    def _look_again(self) -> None:
        """
        Look earlier: the present wait is shorter than others.
        """
        left = self._left()
        if self._watch is not None and left is not None:
            self._watch.reset(max(0, left))

    def _expire(self) -> None:
        limits = self._shared.limits
        if not self._open or self.blocked:
            self.transport.abortConnection()
        elif self._exchange is not None:
            self._refuse(RequestTimeout(f"no data arrived for {limits.idle_s:g} seconds"))
        elif self._in_head:
            self._refuse(RequestTimeout(f"line and headers took longer than {limits.head_s:g} seconds"))
        else:
            self._close()
