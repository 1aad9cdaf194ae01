"""
What the HTTP side counts, and how it shows it.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dcounter.errors import NotApplied
from dcounter.figures import Family, Samples, histogram
from dcounter.http.exposition import CONTENT_TYPE, exposed
from dcounter.http.figures import HttpFigures
from dcounter.http.limits import HttpLimits
from dcounter.http.routes import Found, ShortWay
from dcounter.http.server import Server, make_api
from dcounter.store import Ack, Items, Receipt
from dcounter.testing.http import MemoryStore
from tests.support.callers import LOCAL, Reply, Wire, replies

NOW = 1_700_000_000 * 10**9


class SlowStore(MemoryStore):
    """
    A store that stores when it is told to.
    """

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.go_on: Deferred[None] = Deferred()

    async def store(
        self, items: Items, *, ack: Ack, after: str | None = None, changes: bool = False
    ) -> Receipt:
        await self.go_on
        return await super().store(items, ack=ack, after=after, changes=changes)


class ByKlein:
    def find(self, method: bytes, target: bytes) -> Found | None:
        return None


class Daemon:
    """
    A server in memory, and the clock by which it takes times.
    """

    def __init__(
        self, store: MemoryStore, *, way: ShortWay | None = None, limits: HttpLimits | None = None
    ) -> None:
        self.clock = Clock()
        figures = HttpFigures(self.clock.seconds)
        api = make_api(store, figures=figures, limits=limits)
        self._server = Server(api, short_way=way, reactor=self.clock, now=lambda: NOW)

    def connect(self) -> tuple[Any, Wire]:
        channel: Any = self._server.buildProtocol(LOCAL)
        wire = Wire(LOCAL)
        channel.makeConnection(wire)
        return channel, wire

    def send(self, data: bytes, *, bodies: bool = True) -> Reply:
        channel, wire = self.connect()
        channel.dataReceived(data)
        # Loads give others their turns.
        self.clock.pump([0] * 10)
        [reply] = replies(wire.value(), bodies=bodies)
        channel.connectionLost(Failure(ConnectionDone()))
        return reply

    def ask(self, method: str, target: str, body: bytes = b"", more: str = "") -> Reply:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        return self.send(head.encode() + body, bodies=method != "HEAD")

    def scrape(self) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
        """
        Each sample of a scrape: name and labels -> value.
        """
        reply = self.ask("GET", "/metrics")
        assert (reply.status, reply.headers["content-type"]) == (200, CONTENT_TYPE)
        found = {}
        for family in parse(reply.text.decode()):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in found
                found[key] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float | None:
        return self.scrape().get((name, frozenset(labels.items())))


REQUESTS = "dcounter_http_requests_total"
DURATION = "dcounter_http_request_duration_seconds"


@pytest.fixture(params=[None, ByKlein()], ids=["short way", "Klein"])
def daemon(request: pytest.FixtureRequest) -> Daemon:
    return Daemon(MemoryStore(lambda: NOW), way=request.param)


def test_requests_are_counted_by_the_route_that_they_take(daemon: Daemon) -> None:
    for tenant in ("a", "b%2Fc", "d?consistency=eventual"):
        daemon.ask(
            "GET", f"/items/{tenant.replace('?', '/count?')}" if "?" in tenant else f"/items/{tenant}/count"
        )
    daemon.ask("GET", "/items/a/count?what=1")
    daemon.ask("HEAD", "/items/a/count")

    found = daemon.scrape()

    labels = {"method": "GET", "route": "/items/{tenant}/count"}
    assert found[REQUESTS, frozenset({*labels.items(), ("code", "200")})] == 3
    assert found[REQUESTS, frozenset({*labels.items(), ("code", "400")})] == 1
    assert (
        found[
            REQUESTS, frozenset({*labels.items(), ("method", "HEAD"), ("code", "200")} - {("method", "GET")})
        ]
        == 1
    )
    assert found[f"{DURATION}_count", frozenset(labels.items())] == 4
    assert found["dcounter_refusals_total", frozenset({("code", "bad_parameter")})] == 1


@pytest.mark.parametrize(
    ("data", "method", "code", "refusal"),
    [
        (b"GET /secret-path HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET", "404", "unknown_path"),
        (
            b"PUT /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
            "PUT",
            "405",
            "wrong_method",
        ),
        (b"GET /items/a#b HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET", "400", "bad_path"),
        (b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", "other", "400", "bad_request"),
        (b"GET /nothing HTTP/1.1\r\nHost: evil.example\r\n\r\n", "GET", "403", "unknown_host"),
    ],
)
def test_requests_without_a_route_share_one_name(
    daemon: Daemon, data: bytes, method: str, code: str, refusal: str
) -> None:
    assert daemon.send(data).problem == (int(code), refusal)

    assert daemon.value(REQUESTS, method=method, route="other", code=code) == 1
    assert daemon.value("dcounter_refusals_total", code=refusal) == 1


def test_a_request_takes_as_long_as_its_answer() -> None:
    store = SlowStore()
    daemon = Daemon(store)
    channel, _ = daemon.connect()
    body = b'[{"ID":1,"tenant":"a"},{"ID":2,"deleted":true}]'
    channel.dataReceived(b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
    daemon.clock.advance(0.25)
    channel.dataReceived(body)
    daemon.clock.advance(0.5)
    labels = {"method": "POST", "route": "/items"}
    assert daemon.value(f"{DURATION}_count", **labels) is None
    assert daemon.value("dcounter_items_stored_total") == 0

    store.go_on.callback(None)

    assert daemon.value(f"{DURATION}_sum", **labels) == 0.75
    assert daemon.value(f"{DURATION}_bucket", **labels, le="0.5") == 0
    assert daemon.value(f"{DURATION}_bucket", **labels, le="1.0") == 1
    assert daemon.value("dcounter_items_stored_total") == 2
    assert daemon.value("dcounter_http_requests_abandoned_total") == 0
    channel.connectionLost(Failure(ConnectionDone()))


def test_a_caller_that_hangs_up_is_counted() -> None:
    store = SlowStore()
    daemon = Daemon(store)
    channel, _ = daemon.connect()
    channel.dataReceived(b"DELETE /items/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")

    channel.connectionLost(Failure(ConnectionDone()))

    assert daemon.value("dcounter_http_requests_abandoned_total") == 1
    assert daemon.value("dcounter_items_stored_total") == 0


def test_one_that_watches_is_counted_when_it_comes_and_not_when_it_goes(daemon: Daemon) -> None:
    channel, _ = daemon.connect()
    channel.dataReceived(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    daemon.clock.advance(100)
    short = daemon.value(REQUESTS, method="GET", route="/events", code="200") == 1
    assert daemon.value("dcounter_http_watchers") == short

    channel.connectionLost(Failure(ConnectionDone()))

    assert daemon.value(REQUESTS, method="GET", route="/events", code="200") == 1
    assert daemon.value("dcounter_http_watchers") == 0
    # The one that scrapes.
    assert daemon.value("dcounter_http_connections") == 1
    if short:
        assert daemon.value(f"{DURATION}_sum", method="GET", route="/events") == 0
        assert daemon.value("dcounter_http_requests_abandoned_total") == 0


def test_all_ways_to_store_and_delete_are_counted() -> None:
    daemon = Daemon(MemoryStore(lambda: NOW))
    daemon.ask("POST", "/items", b'[{"ID":1,"tenant":"a"},{"ID":2,"tenant":"a"}]')
    daemon.ask(
        "POST",
        "/items",
        b'{"ID":3,"tenant":"b"}\n{"ID":4,"tenant":"b"}\n',
        "Content-Type: application/x-ndjson\r\n",
    )
    daemon.ask("POST", "/items?partial=1", b'[{"ID":5,"tenant":"c"},{"ID":6}]')
    daemon.ask("POST", "/items", b'[{"ID":5,"tenant":"c"},{"ID":6}]')
    daemon.ask("DELETE", "/items/3")
    daemon.ask("POST", "/items/delete", b"[4,5]")

    assert daemon.value("dcounter_items_stored_total") == 8


def test_what_the_store_refuses_is_no_item() -> None:
    store = MemoryStore(lambda: NOW)
    store.refusal = NotApplied("no", retry_after=1)
    daemon = Daemon(store)

    daemon.ask("POST", "/items", b'[{"ID":1,"tenant":"a"}]')

    assert daemon.value("dcounter_items_stored_total") == 0
    assert daemon.value("dcounter_refusals_total", code=NotApplied.code) == 1


def test_openmetrics_is_there_for_those_who_ask(daemon: Daemon) -> None:
    daemon.ask("GET", "/healthz")

    reply = daemon.ask("GET", "/metrics", more="Accept: application/openmetrics-text;version=1.0.0\r\n")

    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "dcounter_http_requests" in {each.name for each in parse_openmetrics(reply.text.decode())}


def _all(stream: AsyncGenerator[bytes, None]) -> list[bytes]:
    """
    The parts of a stream that waits for nothing.
    """
    found: list[bytes] = []

    async def read() -> None:
        found.extend([part async for part in stream])

    Deferred.fromCoroutine(read())
    return found


@given(values=st.lists(st.floats(min_value=0, max_value=20), max_size=30), label=st.text())
def test_what_is_read_is_what_was_counted(values: list[float], label: str) -> None:
    counted = histogram((0.5, 1.0, 10.0))
    for value in values:
        counted.add(value)
    family = Family("a_seconds", "histogram", "Some values.", ("what",))

    stream, _ = exposed([Samples(family, [((label,), counted)])])

    [found] = parse(b"".join(_all(stream)).decode())
    samples = {(each.name, each.labels.get("le")): each.value for each in found.samples}
    assert all(each.labels["what"] == label for each in found.samples)
    for bound in (0.5, 1.0, 10.0):
        assert samples["a_seconds_bucket", str(bound)] == sum(value <= bound for value in values)
    assert samples["a_seconds_bucket", "+Inf"] == samples["a_seconds_count", None] == len(values)
    assert samples["a_seconds_sum", None] == pytest.approx(sum(values))
