"""
Bodies that a route reads while they arrive, and answers that are sent while they are made.
"""

# Twisted's transports in memory have no annotations.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import h11
import pytest
from twisted.internet.defer import Deferred

from dcounter.http.call import Api, Call
from dcounter.http.problems import Answer, ok
from dcounter.http.route import Route
from tests.support.servers import CalledServer, Connection, NoWay, turn


class Bench:
    """
    Routes that stream, and what they have seen.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.gates: list[Deferred[bytes]] = []
        self.hold: Deferred[None] | None = None
        self.closed = 0
        self.work: Callable[[], object] = lambda: None
        post: Any = {"method": "POST", "summary": "", "answer": Any, "body": Any, "streams_body": True}
        get: Any = {"method": "GET", "summary": "", "answer": Any}
        post["scope"] = get["scope"] = "anyone"
        self.routes = [
            Route(path="/sum", function=self.sum, **post),
            Route(path="/first", function=self.first, **post),
            Route(path="/none", function=self.none, **post),
            Route(path="/echo", function=self.echo, **post),
            Route(path="/secret", function=self.sum, **{**post, "scope": "admin"}),
            Route(path="/events", function=self.events, **get),
            Route(path="/many", function=self.many, **get),
            Route(path="/plain", function=self.plain, **get),
        ]

    async def sum(self, api: Api, call: Call) -> Answer:
        assert call.stream is not None
        assert call.body == b""
        if self.hold is not None:
            await self.hold
        async for part in call.stream:
            self.parts.append(part)
        return ok(sum(map(len, self.parts)))

    async def first(self, api: Api, call: Call) -> Answer:
        assert call.stream is not None
        async for part in call.stream:
            return ok(len(part))
        return ok(0)

    async def none(self, api: Api, call: Call) -> Answer:
        self.parts.append(b"")
        return ok("none")

    async def echo(self, api: Api, call: Call) -> Answer:
        stream = call.stream
        assert stream is not None

        async def parts() -> AsyncGenerator[bytes, None]:
            async for part in stream:
                yield part

        return Answer(200, b"", b"text/plain", stream=parts())

    async def events(self, api: Api, call: Call) -> Answer:
        async def parts() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    gate: Deferred[bytes] = Deferred()
                    self.gates.append(gate)
                    part = await gate
                    if part == b"end":
                        return
                    yield part
            finally:
                self.closed += 1

        return Answer(200, b"", b"text/event-stream", [(b"Cache-Control", b"no-store")], parts())

    async def many(self, api: Api, call: Call) -> Answer:
        async def parts() -> AsyncGenerator[bytes, None]:
            for number in range(1_000):
                self.parts.append(b"%d" % number)
                self.work()
                yield b"x" * 100
            yield b""

        return Answer(200, b"", stream=parts())

    async def plain(self, api: Api, call: Call) -> Answer:
        return ok("plain")

    def give(self, part: bytes) -> None:
        self.gates.pop().callback(part)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def world(bench: Bench) -> Iterator[CalledServer]:
    world = CalledServer(routes=bench.routes, max_body_bytes=100, stream_buffer_bytes=1_000)
    yield world
    world.close()


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([line + " HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


CHUNKED = "Transfer-Encoding: chunked"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def heard(connection: Connection, method: str = "GET") -> tuple[int, bytes, bool]:
    """
    The one answer that was sent, as an independent parser reads it; whether it is whole.
    """
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "localhost")]))
    client.send(h11.EndOfMessage())
    client.receive_data(connection.wire.value())
    if connection.wire.disconnecting or connection.refused:
        client.receive_data(b"")
    status, body = 0, b""
    while True:
        match client.next_event():
            case h11.Response(status_code=status):
                pass
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                return status, body, True
            case h11.NEED_DATA:
                return status, body, False
            case other:
                raise AssertionError(other)


class TestBodies:
    def test_are_read_while_they_arrive(self, world: CalledServer, bench: Bench) -> None:
        for framing, wrap in (("Content-Length: 300", bytes), (CHUNKED, chunk)):
            bench.parts.clear()
            connection = world.connect()
            connection.protocol.dataReceived(head("POST /sum", framing))
            for number in range(3):
                assert connection.wire.value() == b""
                connection.protocol.dataReceived(wrap(b"x" * 100))
                assert len(bench.parts) == number + 1
                assert world.server.shared.body_bytes == 0
            if wrap is chunk:
                connection.protocol.dataReceived(b"0\r\n\r\n")
            assert heard(connection) == (200, b"300", True)
            assert not connection.refused

    @pytest.mark.parametrize(
        "request_",
        [
            head("POST /sum", CHUNKED) + b"0\r\n\r\n",
            head("POST /sum", "Content-Length: 0"),
            head("POST /sum"),
        ],
    )
    def test_one_that_is_empty(self, world: CalledServer, request_: bytes) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(request_)
        assert heard(connection) == (200, b"0", True)
        assert not connection.refused

    def test_the_next_request_comes_after_it(self, world: CalledServer) -> None:
        replies = world.connect().send(
            head("POST /sum", "Content-Length: 3") + b"abc" + head("GET /plain") * 2
        )
        assert [each.text for each in replies] == [b"3", b'"plain"', b'"plain"']

    @pytest.mark.parametrize(
        ("path", "status", "text", "parts"),
        [("first", 200, b"3", 0), ("none", 200, b'"none"', 1), ("secret", 403, b"", 0)],
    )
    def test_a_small_one_that_the_route_does_not_read_to_its_end(
        self, world: CalledServer, bench: Bench, path: str, status: int, text: bytes, parts: int
    ) -> None:
        request = head(f"POST /{path}", "Content-Length: 3") + b"abc"
        first, second = world.connect().send(request + head("GET /plain"))
        assert first.status == status
        assert first.text == text or not text
        assert second.text == b'"plain"'
        assert len(bench.parts) == parts
        assert world.server.shared.body_bytes == 0

    def test_what_waits_for_the_route_is_bounded(self, world: CalledServer, bench: Bench) -> None:
        bench.hold = Deferred()
        connection = world.connect()
        connection.send(head("POST /sum", "Content-Length: 10000"))
        sent = 0
        while connection.wire.producerState == "producing":
            connection.send(b"x" * 300)
            sent += 300
        assert sent == 1_200
        # What was on its way.
        connection.send(b"x" * 300)
        assert world.server.shared.body_bytes == 1_200
        bench.hold.callback(None)
        assert sum(map(len, bench.parts)) == 1_500
        assert connection.wire.producerState == "producing"
        assert world.server.shared.body_bytes == 0
        connection.protocol.dataReceived(b"x" * 8_500)
        assert heard(connection) == (200, b"10000", True)

    def test_what_a_route_does_not_want_is_thrown_away(self, world: CalledServer) -> None:
        connection = world.connect()
        (reply,) = connection.send(head("POST /first", "Content-Length: 1000"), b"x" * 100)
        assert (reply.text, reply.headers["connection"]) == (b"100", "close")
        assert connection.refused
        assert connection.send(b"x" * 900 + head("GET /plain")) == []
        world.clock.advance(2)
        assert connection.wire.aborted

    @pytest.mark.parametrize("bad", [b"zz\r\n", b"1\nx\r\n"])
    def test_the_route_is_told_of_what_cannot_be_read(
        self, world: CalledServer, bench: Bench, bad: bytes
    ) -> None:
        connection = world.connect()
        (reply,) = connection.send(head("POST /sum", CHUNKED) + chunk(b"abc") + bad)
        assert reply.problem == (400, "bad_request")
        assert reply.json["outcome"] == "not_applied"
        assert reply.headers["connection"] == "close"
        assert bench.parts == [b"abc"]
        assert connection.wire.disconnecting or connection.refused

    def test_the_route_is_told_of_what_does_not_come(self, world: CalledServer) -> None:
        connection = world.connect()
        assert connection.send(head("POST /sum", "Content-Length: 9"), b"x") == []
        world.clock.advance(74)
        assert connection.send(b"x") == []
        world.clock.advance(74)
        assert connection.send() == []
        world.clock.advance(1)
        (reply,) = connection.send()
        assert reply.problem == (408, "request_timeout")

    def test_a_route_that_takes_its_time_is_no_silence(self, world: CalledServer, bench: Bench) -> None:
        bench.hold = Deferred()
        connection = world.connect()
        connection.send(head("POST /sum", "Content-Length: 2000"), b"x" * 1_500)
        world.clock.advance(500)
        assert connection.send() == []
        bench.hold.callback(None)
        connection.protocol.dataReceived(b"x" * 500)
        assert heard(connection) == (200, b"2000", True)

    def test_half_a_body_and_no_more(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(head("POST /sum", "Content-Length: 9"), b"x")
        connection.close_half()
        (reply,) = connection.send()
        assert reply.problem == (400, "bad_request")
        assert connection.wire.disconnecting

    def test_who_hangs_up_leaves_nothing(self, world: CalledServer, bench: Bench) -> None:
        bench.hold = Deferred()
        connection = world.connect()
        connection.send(head("POST /sum", "Content-Length: 900"), b"x" * 500)
        assert world.server.shared.body_bytes == 500
        connection.hang_up()
        assert world.server.shared.body_bytes == 0
        assert bench.hold.called
        gone = world.connect()
        bench.hold = None
        gone.send(head("POST /sum", "Content-Length: 900"), b"x")
        gone.hang_up()

    def test_who_may_not_send_it_is_told_before(self, world: CalledServer, bench: Bench) -> None:
        connection = world.connect()
        (reply,) = connection.send(head("POST /secret", CHUNKED, "Expect: 100-continue"))
        assert reply.problem == (403, "forbidden")
        assert connection.refused
        token = "Authorization: Bearer 0123456789abcdef"
        (reply,) = world.connect().send(head("POST /secret", CHUNKED, "Expect: 100-continue", token))
        assert reply.status == 100

    def test_in_a_target_that_klein_routes_it_comes_in_one_part(self, world: CalledServer) -> None:
        world.server.shared.short_way = NoWay()
        (reply,) = world.connect().send(head("POST /sum", "Content-Length: 3") + b"abc")
        assert reply.json == 3
        (reply,) = world.connect().send(head("POST /first", "Content-Length: 0"))
        assert reply.json == 0


class TestAnswers:
    def test_are_sent_as_they_are_made(self, world: CalledServer, bench: Bench) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(head("GET /events"))
        assert heard(connection) == (200, b"", False)
        bench.give(b"one")
        assert heard(connection) == (200, b"one", False)
        # An empty part is no end.
        bench.give(b"")
        bench.give(b"two")
        assert heard(connection) == (200, b"onetwo", False)
        world.clock.advance(1_000)
        bench.give(b"end")
        assert heard(connection) == (200, b"onetwo", True)
        assert b"Cache-Control: no-store\r\n" in connection.wire.value()
        connection.wire.clear()
        assert connection.send(head("GET /plain"))[0].json == "plain"
        assert bench.closed == 1

    def test_go_to_callers_of_http_1_0_until_the_end(self, world: CalledServer, bench: Bench) -> None:
        connection = world.connect()
        request = head("GET /events", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
        connection.protocol.dataReceived(request)
        bench.give(b"one")
        bench.give(b"end")
        sent = connection.wire.value()
        assert b"Transfer-Encoding" not in sent
        assert b"Connection: close\r\n" in sent
        assert sent.endswith(b"\r\n\r\none")
        assert connection.wire.disconnecting

    def test_have_no_body_for_head(self, world: CalledServer, bench: Bench) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(head("HEAD /events"))
        assert heard(connection, "HEAD") == (200, b"", True)
        connection.wire.clear()
        assert connection.send(head("GET /plain"))[0].json == "plain"

    def test_by_way_of_klein_they_come_too(self, world: CalledServer, bench: Bench) -> None:
        world.server.shared.short_way = NoWay()
        connection = world.connect()
        connection.protocol.dataReceived(head("GET /events"))
        bench.give(b"one")
        bench.give(b"end")
        assert heard(connection) == (200, b"one", True)

    def test_stop_where_the_caller_stops_reading(
        self, world: CalledServer, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connection = world.connect()
        write = connection.wire.write

        def full(data: bytes) -> None:
            write(data)
            connection.protocol.pauseProducing()

        monkeypatch.setattr(connection.wire, "write", full)
        connection.protocol.dataReceived(head("GET /many"))
        for made in range(1, 50):
            assert len(bench.parts) == made
            connection.protocol.resumeProducing()
        # Who reads nothing is cut off, and the route hears of it.
        world.clock.advance(75)
        assert connection.wire.aborted

    def test_a_long_one_lets_others_have_their_turn(self, world: CalledServer, bench: Bench) -> None:
        """
        However fast its caller reads: then the kernel takes all that is sent.
        """

        def work() -> None:
            world.clock.rightNow += 0.000_4

        bench.work = work
        connection = world.connect()
        connection.protocol.dataReceived(head("GET /many"))
        made, turns = len(bench.parts), 1
        assert made == 3
        while made < 1_000:
            turn(world.clock)
            assert 0 < len(bench.parts) - made <= 3
            made, turns = len(bench.parts), turns + 1
        turn(world.clock)
        assert heard(connection) == (200, b"x" * 100_000, True)
        assert turns == 334
        gone = world.connect()
        gone.protocol.dataReceived(head("GET /many"))
        gone.hang_up()
        turn(world.clock)
        assert len(bench.parts) == 1_003

    def test_a_caller_that_hangs_up_ends_them(self, world: CalledServer, bench: Bench) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(head("GET /events"))
        bench.give(b"one")
        connection.hang_up()
        assert bench.closed == 1

    def test_half_of_one_is_no_answer(
        self, world: CalledServer, bench: Bench, expected_failures: Any
    ) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(head("GET /events"))
        bench.give(b"one")
        bench.gates.pop().errback(ZeroDivisionError())
        assert connection.wire.aborted
        assert connection.wire.value().endswith(b"\r\n\r\n3\r\none\r\n")
        assert len(expected_failures(ZeroDivisionError)) == 1

    def test_a_body_may_be_read_while_its_answer_is_sent(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(head("POST /echo", CHUNKED))
        assert heard(connection) == (200, b"", False)
        connection.protocol.dataReceived(chunk(b"one"))
        assert heard(connection) == (200, b"one", False)
        connection.protocol.dataReceived(chunk(b"two") + b"0\r\n\r\n")
        assert heard(connection) == (200, b"onetwo", True)

    def test_the_end_of_the_server_ends_the_connection_with_them(
        self, world: CalledServer, bench: Bench
    ) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(head("GET /events"))
        world.server.stopFactory()
        assert not connection.wire.disconnecting
        bench.give(b"end")
        assert connection.wire.disconnecting
