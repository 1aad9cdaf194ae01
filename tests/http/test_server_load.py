"""
Many callers, greedy ones and slow ones: each bound of the server, and that nobody pays for another.
"""

# Twisted's transports in memory have no annotations.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from dcounter.store import Consistency, Count
from tests.support.callers import Reply
from tests.support.servers import GET, ONE, CalledServer, Connection, SlowStore, chunked, post, turn

HEALTH = GET.replace(b"/items/a/count", b"/healthz")
NOTHING = GET.replace(b"/items/a/count", b"/nothing")


@pytest.fixture
def world() -> Iterator[CalledServer]:
    world = CalledServer()
    yield world
    world.close()


class Working(SlowStore):
    """
    A store that needs a third of a millisecond for a count.
    """

    clock: Clock

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[str] = []

    async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
        self.counted.append(tenant)
        self.clock.rightNow += 0.000_334
        return Count(1, "here")


class TestTurns:
    """
    A connection does not keep the reactor from others.
    """

    @pytest.fixture
    def store(self) -> Working:
        return Working()

    @pytest.fixture
    def world(self, store: Working) -> Iterator[CalledServer]:
        world = CalledServer(store=store)
        store.clock = world.clock
        yield world
        world.close()

    def test_a_pipeline_lets_others_have_their_turn(self, world: CalledServer, store: Working) -> None:
        greedy, modest = world.connect(), world.connect()
        heard = len(greedy.send(GET * 1_000))
        assert heard == 3
        assert greedy.wire.producerState == "paused"
        turns = 1
        while heard < 1_000:
            assert len(modest.send(GET.replace(b"/a/", b"/modest/"))) == 1
            turn(world.clock)
            now = len(greedy.send())
            assert 0 < now <= 3
            heard += now
            turns += 1
        assert turns == store.counted.count("modest") + 1 == 334
        assert greedy.wire.producerState == "producing"

    def test_what_comes_meanwhile_waits(self, world: CalledServer, store: Working) -> None:
        greedy = world.connect()
        assert len(greedy.send(GET * 4, GET, GET[:-2])) == 3
        turn(world.clock)
        assert len(greedy.send()) == 2
        assert len(greedy.send(b"\r\n")) == 1

    def test_a_caller_may_leave_between_turns(self, world: CalledServer, store: Working) -> None:
        greedy = world.connect()
        greedy.send(GET * 10)
        greedy.hang_up()
        turn(world.clock)
        assert len(store.counted) == 3

    def test_a_caller_may_close_its_half_between_turns(self, world: CalledServer, store: Working) -> None:
        greedy = world.connect()
        greedy.send(GET * 4)
        greedy.close_half()
        assert not greedy.wire.disconnecting
        turn(world.clock)
        assert len(greedy.send()) == 1
        assert greedy.wire.disconnecting

    def test_many_small_chunks_are_many_turns_as_well(self) -> None:
        world = CalledServer(turn_s=0.0)
        connection = world.connect()
        connection.send(chunked(b"[", b"]", b""))
        for _ in range(10):
            world.clock.advance(0)
        world.store.release()
        assert connection.send()[0].json["items"] == 0
        world.close()


def everything(number: int) -> tuple[bytes, int]:
    """
    One request of many kinds, and the status of its answer.
    """
    kinds = [
        (GET, 200),
        (HEALTH, 200),
        (NOTHING, 404),
        (post(ONE), 200),
        (post(b"{}"), 400),
        (chunked(ONE[:5], ONE[5:], b""), 200),
        (GET.replace(b" /", b" http://localhost/"), 200),
        (GET.replace(b"count", b"count?what"), 400),
        (GET.replace(b"/a/", b"/%zz/"), 400),
        (post(ONE).replace(b"/items", b"/cluster/restart"), 403),
    ]
    return kinds[number % len(kinds)]


class TestPipelines:
    def test_of_a_thousand_mixed_requests(self, world: CalledServer) -> None:
        connection = world.connect()
        found: list[Reply] = connection.send(b"".join(everything(number)[0] for number in range(1_000)))
        while len(found) < 1_000:
            if world.store.waiting:
                world.store.release()
            else:
                world.clock.advance(0)
            found += connection.send()
        assert [each.status for each in found] == [everything(number)[1] for number in range(1_000)]
        assert world.store.waiting == []

    def test_little_is_read_ahead(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(post(ONE))
        sent = 0
        while connection.wire.producerState == "producing":
            sent += 1
            assert sent < 10_000
            assert connection.send(GET) == []
        assert 64 * 1024 < sent * len(GET) <= 64 * 1024 + len(GET)
        world.store.release()
        assert len(connection.send()) == sent + 1
        assert connection.wire.producerState == "producing"

    def test_requests_behind_the_last_one_are_not_answered(self, world: CalledServer) -> None:
        last = GET.replace(b"\r\n\r\n", b"\r\nConnection: x, close\r\n\r\n")
        connection = world.connect()
        (reply,) = connection.send(last + GET)
        assert reply.headers["connection"] == "close"
        # The caller is sending: it would lose the answer if the connection were closed at once.
        assert connection.refused
        assert not connection.wire.disconnecting
        assert connection.send(GET) == []
        world.clock.advance(2)
        assert connection.wire.aborted


class TestHalfClosed:
    def test_callers_are_answered(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(GET + post(ONE) + GET)
        connection.close_half()
        assert not connection.wire.disconnecting
        world.store.release()
        assert [each.status for each in connection.send()] == [200, 200]
        assert connection.wire.disconnecting

    @pytest.mark.parametrize("rest", [b"", GET[:10], post(ONE)[:-1], chunked(ONE)])
    def test_what_is_not_whole_is_not_answered(self, world: CalledServer, rest: bytes) -> None:
        connection = world.connect()
        assert len(connection.send(GET + rest)) == 1
        connection.close_half()
        assert connection.wire.disconnecting
        assert world.store.waiting == []

    def test_a_refused_caller_that_has_read_its_answer(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(b"nonsense\r\n")
        connection.close_half()
        assert connection.wire.disconnecting


class TestOldCallers:
    OLD = GET.replace(b"HTTP/1.1", b"HTTP/1.0")

    def test_may_keep_a_connection(self, world: CalledServer) -> None:
        connection = world.connect()
        request = self.OLD.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive\r\n\r\n")
        for reply in connection.send(request + request):
            assert reply.headers["connection"] == "keep-alive"
        (reply,) = connection.send(self.OLD)
        assert reply.headers["connection"] == "close"
        assert connection.wire.disconnecting

    def test_get_the_same_by_way_of_klein(self, world: CalledServer) -> None:
        connection = world.connect()
        request = self.OLD.replace(b"/items/a/count", b"/nothing")
        (reply,) = connection.send(request.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
        assert (reply.status, reply.headers["connection"]) == (404, "keep-alive")
        (reply,) = connection.send(request)
        assert (reply.status, reply.headers["connection"]) == (404, "close")
        assert connection.wire.disconnecting


class TestExpectations:
    ASKING = b"Expect: 100-continue"

    def ask(self, world: CalledServer, path: bytes, *headers: bytes) -> tuple[Connection, list[Reply]]:
        connection = world.connect()
        head, _, _ = post(b'{"node":1}', self.ASKING, *headers).partition(b"\r\n\r\n")
        return connection, connection.send(head.replace(b"/items", path) + b"\r\n\r\n")

    def test_are_met_where_the_request_is_allowed(self, world: CalledServer) -> None:
        connection, [reply] = self.ask(world, b"/cluster/restart", b"Authorization: Bearer 0123456789abcdef")
        assert reply.status == 100
        assert connection.send(b'{"node":1}')[0].status == 200

    def test_are_not_where_the_operator_is_asked_for(self, world: CalledServer) -> None:
        connection, [reply] = self.ask(world, b"/cluster/restart")
        assert reply.problem == (403, "forbidden")
        assert reply.json["outcome"] == "not_applied"
        assert connection.refused
        assert world.nodes.restarted == []

    @pytest.mark.parametrize(("path", "status"), [(b"/nothing", 404), (b"/healthz", 405), (b"*", 400)])
    def test_are_not_where_nothing_is(self, world: CalledServer, path: bytes, status: int) -> None:
        connection, [reply] = self.ask(world, path)
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        assert connection.refused

    def test_are_none_where_the_body_comes_already(self, world: CalledServer) -> None:
        connection = world.connect()
        assert connection.send(post(ONE, self.ASKING)) == []
        world.store.release()
        assert connection.send()[0].status == 200


class TestSlowCallers:
    def test_a_thousand_of_them_leave_room_for_who_has_a_request(self) -> None:
        world = CalledServer()
        slow = []
        for _ in range(1_000):
            if world.server.buildProtocol(None) is not None:
                slow.append(world.connect())
                slow[-1].send(GET[:20])
        assert len(slow) == 864
        world.clock.advance(1)
        caller = world.connect()
        assert caller.send(GET)[0].status == 200
        assert sum(each.wire.disconnecting for each in slow) == 1
        assert caller.send(HEALTH)[0].status == 200
        for each in slow:
            each.hang_up()
        assert caller.send(GET)[0].status == 200
        world.close()

    def test_one_that_was_served_makes_room_for_one_that_asks(self) -> None:
        world = CalledServer(max_connections=2, reserved_connections=1)
        first, second, third = world.connect(), world.connect(), world.connect()
        first.send(GET)
        world.clock.advance(0.5)
        second.send(GET)
        world.clock.advance(0.7)
        assert third.send(GET)[0].status == 200
        assert first.wire.disconnecting
        assert second.send(GET)[0].status == 200
        world.close()

    def test_one_that_waits_for_its_answer_does_not(self) -> None:
        world = CalledServer(max_connections=1, reserved_connections=2)
        first, second, third = world.connect(), world.connect(), world.connect()
        first.send(post(ONE))
        world.clock.advance(10)
        assert second.send(GET)[0].status == 503
        # Who asks how we are is always told, and leaves.
        (reply,) = third.send(HEALTH)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert third.wire.disconnecting
        world.store.release()
        assert first.send()[0].status == 200
        world.close()

    def test_one_in_the_middle_of_a_body_does_not(self) -> None:
        world = CalledServer(max_connections=1, reserved_connections=1)
        first, second = world.connect(), world.connect()
        first.send(post(ONE)[:-1])
        world.clock.advance(10)
        assert second.send(GET)[0].status == 503
        world.close()

    def test_a_flood_is_not_looked_through_each_time(self) -> None:
        world = CalledServer(max_connections=1, reserved_connections=0)
        first = world.connect()
        first.send(GET)
        world.clock.advance(0.95)
        assert world.server.buildProtocol(None) is None
        world.clock.advance(0.06)
        assert world.server.buildProtocol(None) is None
        world.clock.advance(0.05)
        assert world.connect().send(GET)[0].status == 200
        world.close()

    def test_a_head_has_its_time_however_it_comes(self, world: CalledServer) -> None:
        connection = world.connect()
        world.clock.advance(50)
        for i in range(20):
            assert connection.send(GET[i : i + 1]) == []
            world.clock.advance(0.999)
        assert not connection.refused
        world.clock.advance(0.1)
        (reply,) = connection.send()
        assert reply.problem == (408, "request_timeout")
        assert "20 seconds" in reply.json["message"]
        assert connection.refused

    def test_a_head_in_time_starts_anew(self, world: CalledServer) -> None:
        connection = world.connect()
        for _ in range(5):
            assert connection.send(GET[:5]) == []
            world.clock.advance(15)
            assert connection.send(GET[5:])[0].status == 200
            world.clock.advance(70)
        assert not connection.refused

    def test_line_ends_between_requests_are_no_request(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(GET + b"\r\n")
        world.clock.advance(70)
        assert not connection.refused
        assert connection.send(GET)[0].status == 200

    def test_a_body_may_come_slowly_but_not_stop(self, world: CalledServer) -> None:
        connection = world.connect()
        request = post(ONE)
        connection.send(request[:-10])
        for i in range(-10, -1):
            world.clock.advance(74)
            assert connection.send(request[i : i + 1]) == []
        world.clock.advance(75)
        assert connection.send()[0].problem == (408, "request_timeout")


class TestTheEnd:
    def test_an_answer_that_is_not_read_does_not_keep_a_connection(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert connection.wire.disconnecting
        world.clock.advance(74)
        assert not connection.wire.aborted
        world.clock.advance(1)
        assert connection.wire.aborted

    def test_bodies_of_many_parts_are_kept_in_one(self, world: CalledServer) -> None:
        connection = world.connect()
        body = b"[" + b" " * 10_000 + b"]"
        connection.send(chunked(*(body[i : i + 2] for i in range(0, len(body), 2)), b""))
        for _ in range(1_000):
            world.clock.advance(0)
        world.store.release()
        assert connection.send()[0].json["items"] == 0
