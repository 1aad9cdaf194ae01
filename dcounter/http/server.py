"""
The daemon's HTTP server: HTTP/1 within bounds, which answers even the worst request with problem+json.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.web.http import datetimeToString
from zope.interface import implementer

from dcounter.figures import Samples
from dcounter.http.access import AccessLog, write_nothing
from dcounter.http.auth import OperatorToken, Tokens
from dcounter.http.call import Api
from dcounter.http.callers import Guard
from dcounter.http.connection import Connection
from dcounter.http.dashboard_files import dashboard_files
from dcounter.http.docs_page import docs_page
from dcounter.http.figures import HttpFigures
from dcounter.http.limits import HttpLimits
from dcounter.http.openapi import document
from dcounter.http.problems import Answer
from dcounter.http.route import Route
from dcounter.http.routes import PlainPaths, ShortWay, make_resource
from dcounter.http.shared import Shared
from dcounter.http.table import ROUTES, offered, served
from dcounter.store import Ack, Capability, Consistency, Operator, Store

_SECOND: Final = 1_000_000_000


def make_api(
    store: Store,
    *,
    limits: HttpLimits | None = None,
    operator: Operator | None = None,
    token: OperatorToken | None = None,
    ack: Ack = "node",
    consistency: Consistency = "exact",
    tokens: Tokens | None = None,
    figures: HttpFigures | None = None,
    access: AccessLog | None = None,
    measure: Callable[[], Awaitable[Sequence[Samples]]] | None = None,
) -> Api:
    """
    Bundle what the routes need.

    :param operator: `None` if there are no nodes to operate on.
    :param token: what an operator must show; `None` if no request is an operator's.
    :param ack: which nodes must have written the items before the answer, if the request does not say.
    :param consistency: what a count may answer, if the request does not say.
    :param tokens: what callers must show; `None` if anyone may store and count.
    :param access: logs the requests; `None`: none is logged.
    :param figures: what the HTTP side counts with; `None`: it takes no times.
    :param measure: gives the figures of the store, for `GET /metrics`; `None` if it has none.
    """
    limits = limits or HttpLimits()
    described, page = _documents(frozenset(store.capabilities), ack, consistency)
    return Api(
        store=store,
        operator=operator,
        limits=limits,
        token=token,
        ack=ack,
        consistency=consistency,
        document=described,
        page=page,
        figures=figures or HttpFigures(lambda: 0.0),
        access=access or AccessLog(write_nothing),
        measure=measure,
        dashboard=dashboard_files(),
        tokens=tokens,
        room_for_pieces=DeferredSemaphore(limits.loads_pieces),
        room_for_watchers=DeferredSemaphore(limits.max_watchers),
        room_for_exports=DeferredSemaphore(limits.exports),
    )


@lru_cache(maxsize=4)
def _documents(
    capabilities: frozenset[Capability], ack: Ack, consistency: Consistency
) -> tuple[bytes, Answer]:
    """
    The OpenAPI document of a daemon, and the page that is made from it. To make them takes 0.1 s.
    """
    routes = offered(ROUTES, capabilities)
    described = document(routes, {"ack": ack, "consistency": consistency})
    return msgspec.json.encode(described), docs_page(described, routes)


@implementer(IProtocolNegotiationFactory)
class Server(Factory):
    """
    The HTTP side of a daemon: a factory to listen with.

    :param api: what the routes answer from.
    :param now: the wall clock, ns since 1970.
    :param names: by which the daemon may be called on this machine, besides `localhost` and the like.
    :param origins: sites whose web pages may call.
    :param short_way: finds most routes; what it does not find is Klein's.
    :ivar shared: what the connections share.
    """

    noisy = False

    def __init__(
        self,
        api: Api,
        *,
        reactor: Any,
        now: Callable[[], int],
        names: Iterable[str] = (),
        origins: Iterable[str] = (),
        routes: Sequence[Route] = ROUTES,
        short_way: ShortWay | None = None,
    ) -> None:
        routes = served(routes, api.store.capabilities)
        self._reactor = reactor
        self._now = now
        self._second, self._date = -1, b""
        self.limits = api.limits
        self.shared = Shared(
            api,
            short_way=short_way or PlainPaths(routes, api.figures),
            resource=make_resource(api, routes),
            guard=Guard(names, origins),
            methods={each.method.encode() for each in routes},
            date=self._http_date,
            reactor=reactor,
        )

    def _http_date(self) -> bytes:
        """
        The time as HTTP writes it; made once for all answers of a second.
        """
        second = self._now() // _SECOND
        if second != self._second:
            self._second, self._date = second, datetimeToString(second)
        return self._date

    def buildProtocol(self, addr: IAddress | None) -> Connection | None:
        most = self.limits.max_connections + self.limits.reserved_connections
        here = len(self.shared.connections) - len(self.shared.watching)
        if here >= most and not self.shared.make_room(admitted=False):
            return None
        return Connection(self.shared)

    def acceptableProtocols(self) -> list[bytes]:
        """
        Speak HTTP/1.1 and nothing else where the endpoint is TLS.
        """
        return [b"http/1.1"]

    def stopFactory(self) -> None:
        """
        Close the connections whose callers await nothing; the others end with their answer.
        """
        for connection in tuple(self.shared.connections):
            connection.end()

    async def ended(self) -> None:
        """
        Wait until the last connection is closed, but not for callers who do not read their answer.
        """
        until = self._reactor.seconds() + self.limits.linger_s
        while self.shared.connections and self._reactor.seconds() < until:
            await deferLater(self._reactor, 0.05)
        for connection in tuple(self.shared.connections):
            connection.transport.abortConnection()
