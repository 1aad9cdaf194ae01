"""
What the HTTP side counts: requests, how long they take, refusals, and the items that callers stored.

All of it is kept in plain numbers, because every request pays for it. `GET /metrics` gives them names.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from dcounter.figures import SECONDS, Family, Samples, histogram

OTHER: Final = "other"
"""
The route of requests for which there is none, and the method of those whose method no route has.
"""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REQUESTS: Final = Family(
    "dcounter_http_requests_total",
    "counter",
    "Requests that were answered, by the route that the API has for them.",
    ("method", "route", "code"),
)
DURATIONS: Final = Family(
    "dcounter_http_request_duration_seconds",
    "histogram",
    "Time from the last byte of a request's head to the last byte of its answer; to the first byte if the"
    " answer goes on for as long as the caller stays.",
    ("method", "route"),
)
REFUSALS: Final = Family(
    "dcounter_refusals_total",
    "counter",
    "Requests that were refused, by the code in the answer.",
    ("code",),
)
ABANDONED: Final = Family(
    "dcounter_http_requests_abandoned_total",
    "counter",
    "Requests whose callers hung up before the whole answer was written.",
)
CONNECTIONS: Final = Family(
    "dcounter_http_connections", "gauge", "Connections that are open, those of watchers not included."
)
CONNECTIONS_LIMIT: Final = Family(
    "dcounter_http_limit_connections", "gauge", "The most connections that are served at once."
)
WATCHERS: Final = Family("dcounter_http_watchers", "gauge", "Connections that read events (GET /events).")
BODIES: Final = Family("dcounter_http_body_bytes", "gauge", "Bytes of bodies of requests that are in memory.")
STORED: Final = Family(
    "dcounter_items_stored_total",
    "counter",
    "Items in requests that were answered as stored, those that delete IDs among them.",
)
FAMILIES: Final = (
    *(REQUESTS, DURATIONS, REFUSALS, ABANDONED, STORED),
    *(CONNECTIONS, CONNECTIONS_LIMIT, WATCHERS, BODIES),
)


class Connections(Struct, frozen=True):
    """
    How many connections there are.

    :ivar open: those that are open, without those that watch.
    :ivar limit: the most that are served at once.
    :ivar watching: those that read events.
    :ivar body_bytes: bytes of bodies that are held in memory.
    """

    open: int
    limit: int
    watching: int
    body_bytes: int


class RouteFigures:
    """
    The figures of one method of one route.

    :ivar codes: how many answers had each status.
    :ivar durations: how long they took (s).
    """

    __slots__ = ("codes", "durations")

    def __init__(self) -> None:
        self.codes: dict[int, int] = defaultdict(int)
        self.durations = histogram()

    def answered(self, status: int, took_s: float) -> None:
        """
        Count a request that is answered.

        :param took_s: the time (s) since its head was complete.
        """
        self.codes[status] += 1
        # `Histogram.add` without the call: every request pays for it.
        durations = self.durations
        durations.counts[bisect_left(SECONDS, took_s)] += 1
        durations.total += took_s


class HttpFigures:
    """
    The figures of one server.

    :param seconds: a clock that never goes back.
    :ivar connections: gives how many connections there are; the server sets it.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.connections: Callable[[], Connections] = lambda: Connections(0, 0, 0, 0)
        self._routes: dict[tuple[str, str], RouteFigures] = defaultdict(RouteFigures)
        self._refusals: dict[str, int] = defaultdict(int)
        self._abandoned = 0
        self._stored = 0

    def of(self, method: str, route: str) -> RouteFigures:
        """
        The figures of a route.

        :param route: its path, with the variable segments open.
        """
        return self._routes[method, route]

    def answered(self, method: str, route: str, status: int, refusal: str, since: float) -> None:
        """
        Count a request that is answered, whose route's figures are not at hand.

        :param refusal: the code of the refusal; empty if it was not refused.
        :param since: when (s) its head was complete.
        """
        self.of(method, route).answered(status, self.seconds() - since)
        if refusal:
            self.refused(refusal)

    def refused(self, code: str) -> None:
        """
        Count a refusal.
        """
        self._refusals[code] += 1

    def unrouted(self, method: bytes, status: int, refusal: str, since: float) -> None:
        """
        Count a request for which there is no route, or none was looked for.
        """
        name = method.decode("latin-1")
        self.answered(name if name in _METHODS else OTHER, OTHER, status, refusal, since)

    def abandoned(self) -> None:
        """
        Count a request whose caller hung up.
        """
        self._abandoned += 1

    def stored(self, items: int) -> None:
        """
        Count the items of a request that are stored.
        """
        self._stored += items

    def samples(self) -> Sequence[Samples]:
        """
        All figures, with their names.
        """
        routes = sorted((key, each) for key, each in self._routes.items() if each.codes)
        connections = self.connections()
        return [
            Samples(
                REQUESTS,
                [((*key, str(code)), number) for key, each in routes for code, number in each.codes.items()],
            ),
            Samples(DURATIONS, [(key, each.durations) for key, each in routes]),
            Samples(REFUSALS, [((code,), number) for code, number in sorted(self._refusals.items())]),
            Samples(ABANDONED, [((), self._abandoned)]),
            Samples(STORED, [((), self._stored)]),
            Samples(CONNECTIONS, [((), connections.open)]),
            Samples(CONNECTIONS_LIMIT, [((), connections.limit)]),
            Samples(WATCHERS, [((), connections.watching)]),
            Samples(BODIES, [((), connections.body_bytes)]),
        ]
