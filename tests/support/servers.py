"""
A server in memory, a store that answers when it is told to, and callers who write bytes as they like.
"""

# Twisted's transports in memory have no annotations.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from dcounter.errors import NotApplied
from dcounter.http.auth import OperatorToken, Token, Tokens
from dcounter.http.limits import HttpLimits
from dcounter.http.route import Route
from dcounter.http.server import Server, make_api
from dcounter.http.table import ROUTES
from dcounter.store import (
    Ack,
    ClusterStatus,
    Consistency,
    Count,
    Items,
    Readiness,
    Receipt,
    Store,
)
from tests.support.callers import LOCAL, Reply, Wire, replies


class SlowStore(Store):
    """
    A store that answers writes when it is told to, and counts at once.
    """

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []
        self.cancelled = 0

    async def store(
        self, items: Items, *, ack: Ack, after: str | None = None, changes: bool = False
    ) -> Receipt:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        try:
            await waiting
        except CancelledError:
            self.cancelled += 1
            if items.ids == [-1]:
                raise NotApplied("withdrawn", retry_after=1) from None
            if items.ids == [-2]:
                raise ZeroDivisionError from None
            raise
        return Receipt(len(items), ack, "here")

    async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
        return Count(len(tenant), "here")

    def join(self, first: str, second: str) -> str:
        return max(first, second)

    def latest_stamp(self) -> int:
        return 0

    def readiness(self) -> Readiness:
        return Readiness(ready=True, exact=True, missing=())

    def release(self) -> None:
        self.waiting.pop(0).callback(None)


class Nodes:
    def __init__(self) -> None:
        self.restarted: list[int] = []
        self.removed: list[int] = []
        self.compacted: list[int | None] = []

    async def restart(self, node: int) -> None:
        self.restarted.append(node)

    async def rebuild(self, node: int) -> None:
        raise AssertionError(node)

    def status(self) -> ClusterStatus:
        return ClusterStatus(primary=None, nodes=[], clock_skew_ms=0)

    async def remove(self, node: int) -> None:
        self.removed.append(node)

    async def compact(self, before: int | None) -> int:
        self.compacted.append(before)
        return 10**9 if before is None else before


class NoWay:
    """
    No short way: all requests are routed by Klein.
    """

    def find(self, method: bytes, target: bytes) -> None:
        return None


OUTSIDE = IPv4Address("TCP", "203.0.113.7", 8085)


class Connection:
    """
    One caller, who writes bytes as it likes.

    :param host: where the caller connected to.
    """

    def __init__(self, server: Any, peer: Any = LOCAL, host: Any = LOCAL, *interfaces: Any) -> None:
        self.protocol = server.buildProtocol(peer)
        self.wire = Wire(peer, host)
        self._there = True
        directlyProvides(self.wire, *interfaces)
        self.protocol.makeConnection(self.wire)

    def send(self, *data: bytes) -> list[Reply]:
        """
        Send bytes, and take what was answered since the last time.
        """
        for each in data:
            self.protocol.dataReceived(each)
        sent = self.wire.value()
        self.wire.clear()
        return list(replies(sent))

    def close_half(self) -> None:
        """
        Send no more, but read on.
        """
        self.protocol.readConnectionLost()

    def hang_up(self) -> None:
        if self._there:
            self._there = False
            self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def refused(self) -> bool:
        """
        Whether the other side said its last word and only waits for us to have read it.
        """
        return self.wire.half_closed


class CalledServer:
    """
    A server on a clock, and those who call it.
    """

    def __init__(
        self,
        *,
        names: Iterable[str] = (),
        origins: Iterable[str] = (),
        routes: Sequence[Route] = ROUTES,
        store: Store | None = None,
        tokens: Iterable[Token] | None = None,
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.tokens = None if tokens is None else Tokens(tokens, now=self._now, seconds=self.clock.seconds)
        self.store = store if isinstance(store, SlowStore) else SlowStore()
        self.nodes = Nodes()
        api = make_api(
            store or self.store,
            limits=HttpLimits(**limits),
            operator=self.nodes,
            token=OperatorToken("/token", b"0123456789abcdef"),
            tokens=self.tokens,
        )
        self.server = Server(
            api, reactor=self.clock, now=lambda: 0, names=names, origins=origins, routes=routes
        )
        self.server.doStart()
        self._connections: list[Connection] = []

    def _now(self) -> int:
        return int(self.clock.seconds() * 10**9)

    def connect(self, *args: Any) -> Connection:
        connection = Connection(self.server, *args)
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        for each in self._connections:
            each.hang_up()
        self.server.doStop()
        assert self.clock.getDelayedCalls() == []
        assert self.server.shared.connections == self.server.shared.watching == set()
        assert self.server.shared.body_bytes == 0


def turn(clock: Clock) -> None:
    """
    One turn of a reactor: what is due when it begins.
    """
    for call in [each for each in clock.calls if each.getTime() <= clock.seconds()]:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)


GET = b"GET /items/a/count HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    lines = [b"POST /items HTTP/1.1", b"Host: localhost", length, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    head = b"POST /items HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks)


ONE = b'[{"ID":1,"tenant":"a"}]'
