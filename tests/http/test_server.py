"""
How the HTTP server treats connections: limits, bad bytes, and callers that stall or leave.
"""

# Twisted's transports in memory have no annotations.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterator
from typing import Any, Self

import pytest
import pytest_twisted
import treq
from twisted.internet import endpoints
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool

from dcounter import __version__
from dcounter.http.limits import HttpLimits
from dcounter.http.server import Server, make_api
from tests.support.callers import LOCAL, Wire, replies
from tests.support.servers import GET, ONE, OUTSIDE, CalledServer, Connection, NoWay, SlowStore, chunked, post


@pytest.fixture
def world() -> Iterator[CalledServer]:
    world = CalledServer(max_body_bytes=1_000)
    yield world
    world.close()


class TestBodies:
    def test_arrive_in_any_pieces(self, world: CalledServer) -> None:
        connection = world.connect()
        request = post(ONE)
        assert connection.send(*(request[i : i + 1] for i in range(len(request)))) == []
        world.store.release()
        assert connection.send()[0].json["items"] == 1

    @pytest.mark.parametrize(
        "kind",
        [
            b"application/x-www-form-urlencoded",
            b"multipart/form-data",
            b"multipart/form-data; boundary=x",
        ],
    )
    def test_are_not_parsed_as_forms(self, world: CalledServer, kind: bytes) -> None:
        connection = world.connect()
        connection.send(post(ONE, b"Content-Type: " + kind))
        world.store.release()
        assert connection.send()[0].json["items"] == 1

    def test_may_be_as_large_as_the_limit(self, world: CalledServer) -> None:
        padded = ONE.rjust(1_000)
        for request in (post(padded), chunked(padded[:500], padded[500:], b"")):
            connection = world.connect()
            connection.send(request)
            world.store.release()
            assert connection.send()[0].status == 200

    def test_too_large_is_refused_before_it_is_read(self, world: CalledServer) -> None:
        connection = world.connect()
        head = b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n"
        (reply,) = connection.send(head)
        assert reply.problem == (413, "body_too_large")
        assert reply.json["outcome"] == "not_applied"
        assert "1000 bytes" in reply.json["message"]
        assert reply.headers["connection"] == "close"
        assert connection.refused
        assert connection.send(b"x" * 1_001, GET) == []

    def test_too_large_is_refused_with_the_body_at_hand(self, world: CalledServer) -> None:
        connection = world.connect()
        (reply,) = connection.send(post(b"x" * 1_001) + GET)
        assert reply.status == 413

    def test_nobody_is_asked_to_continue_with_what_is_too_large(self, world: CalledServer) -> None:
        connection = world.connect()
        (reply,) = connection.send(
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n"
        )
        assert reply.status == 413

    def test_who_asks_may_continue_with_the_rest(self, world: CalledServer) -> None:
        connection = world.connect()
        head, _, body = post(ONE, b"Expect: 100-continue").partition(b"\r\n\r\n")
        (reply,) = connection.send(head + b"\r\n\r\n")
        assert reply.status == 100
        connection.send(body)
        world.store.release()
        assert connection.send()[0].status == 200

    def test_chunks_are_cut_off_when_they_are_too_many(self, world: CalledServer) -> None:
        connection = world.connect()
        assert connection.send(chunked(b"x" * 600)) == []
        assert world.server.shared.body_bytes == 600
        (reply,) = connection.send(b"191\r\n" + b"x" * 401)
        assert reply.problem == (413, "body_too_large")
        assert world.server.shared.body_bytes == 0
        assert connection.refused
        assert connection.send(b"\r\n0\r\n\r\n", GET) == []

    def test_chunks_are_cut_off_with_their_end_at_hand(self, world: CalledServer) -> None:
        connection = world.connect()
        (reply,) = connection.send(chunked(b"x" * 600, b"x" * 600, b"") + GET)
        assert reply.status == 413
        assert world.store.waiting == []

    def test_broken_chunks_are_refused(self, world: CalledServer) -> None:
        connection = world.connect()
        (reply,) = connection.send(chunked(b"[")[:-2] + b"zz\r\n")
        assert reply.problem == (400, "bad_request")
        assert connection.refused

    def test_all_together_are_bounded_but_small_ones_pass(self) -> None:
        world = CalledServer(max_bodies_bytes=1_000, small_body_bytes=100)
        head = b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n"
        first, second, third = world.connect(), world.connect(), world.connect()
        assert first.send(head.replace(b"900", b"1000") + b"x" * 999) == []
        # It makes them too much, but is small so far.
        assert second.send(head, b"x" * 100) == []
        (reply,) = second.send(b"x" * 50)
        assert reply.problem == (503, "overloaded")
        assert reply.json["outcome"] == "not_applied"
        assert reply.headers["retry-after"] == "1"
        assert third.send(post(ONE.rjust(100))) == []
        world.store.release()
        assert third.send()[0].status == 200
        first.hang_up()
        assert third.send(post(ONE.rjust(101))) == []
        assert world.server.shared.body_bytes == 101
        world.store.release()
        assert third.send()[0].status == 200
        assert world.server.shared.body_bytes == 0
        world.close()


class TestBadRequests:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\r\n",
            b"GET /\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nb\0d: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
            b"GET /" + b"x" * 20_000,
            b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 600 + b"\r\n",
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        ],
        ids=range(15),
    )
    def test_are_told_so_and_cut_off(self, world: CalledServer, data: bytes) -> None:
        connection = world.connect()
        (reply,) = connection.send(data)
        assert reply.problem == (400, "bad_request")
        assert "16384 bytes" in reply.json["message"]
        assert connection.refused
        assert connection.send(GET) == []

    @pytest.mark.parametrize("host", [b"", b"evil.example:80", b"[2001:db8::1]", b"x" * 300])
    def test_the_host_does_not_matter_elsewhere(self, world: CalledServer, host: bytes) -> None:
        request = b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        (reply,) = world.connect(OUTSIDE, OUTSIDE).send(request)
        assert reply.status == 200

    @pytest.mark.parametrize(
        "hosts",
        [
            [],
            [b"localhost", b"localhost"],
            [b"localhost", b"evil.example"],
            [b"\xff\xfe"],
            [b"<script>"],
            [b"a b:c:d"],
            [b"a b"],
            [b"a\tb"],
            [b"a:80x"],
            [b"a:-80"],
            [b"a?b"],
            [b"a#b"],
            [b"a\\b"],
            [b"http://localhost"],
            [b"localhost localhost"],
            [b"", b"localhost"],
            [b"::1"],
            [b"[::1]x"],
            [b"a/b"],
            [b"user@a"],
            [b"localhost:80:80"],
            [b"localhost, localhost"],
            [b"[::1"],
        ],
    )
    @pytest.mark.parametrize("where", [LOCAL, OUTSIDE])
    def test_there_is_one_host(self, world: CalledServer, hosts: list[bytes], where: Any) -> None:
        connection = world.connect(where, where)
        assert connection.send(GET)[0].status == 200
        lines = [b"GET /healthz HTTP/1.1", *(b"Host: " + host for host in hosts), b"", b""]
        (reply,) = connection.send(b"\r\n".join(lines))
        assert reply.problem == (400, "bad_request")
        assert "Host" in reply.json["message"]
        assert connection.refused

    def test_callers_of_http_1_0_need_not_name_a_host(self, world: CalledServer) -> None:
        (reply,) = world.connect().send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert reply.status == 200
        (reply,) = world.connect().send(b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n")
        assert reply.status == 400

    @pytest.mark.parametrize(
        ("target", "problem"),
        [
            (b"/items/\x80/count", (400, "bad_path")),
            (b"/items/\xa9/count?after=\xa9", (400, "bad_path")),
            (b"*", (400, "bad_path")),
            (b"example.org:80", (400, "bad_path")),
            (b"ftp://x/items/a/count", (400, "bad_path")),
            (b"//items/a/count", (404, "unknown_path")),
            (b"/items/a#b/count", (400, "bad_path")),
            (b"/items/a/count#b", (400, "bad_path")),
            (b"/items/a/count?after=#", (400, "bad_path")),
            (b"/healthz#/../cluster", (400, "bad_path")),
            (b"http://localhost#/healthz", (400, "bad_path")),
            (b"http://evil.example/healthz", (400, "bad_request")),
            (b"http://localhost@evil.example/healthz", (400, "bad_request")),
            (b"http:///healthz", (400, "bad_request")),
            (b"/items/%zz/count", (400, "bad_path")),
            (b"http://localhost/nothing", (404, "unknown_path")),
        ],
    )
    def test_odd_targets(self, world: CalledServer, target: bytes, problem: tuple[int, str]) -> None:
        (reply,) = world.connect().send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reply.problem == problem

    @pytest.mark.parametrize("origin", [b"http://localhost", b"HTTPS://LocalHost"])
    def test_the_target_may_be_absolute(self, world: CalledServer, origin: bytes) -> None:
        rest = b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        (reply,) = world.connect().send(b"GET " + origin + b"/nothing/a%2F..?/count" + rest)
        assert reply.status == 404
        path = b"/items/a%2F../count?consistency=exact"
        (reply,) = world.connect().send(b"GET " + origin + path + rest)
        assert reply.json["tenant"] == "a/.."


class TestConnections:
    def test_are_kept_and_answer_in_order(self, world: CalledServer) -> None:
        connection = world.connect()
        first, second, third, fourth = (
            *connection.send(GET + GET.replace(b"/a/", b"/bb/")),
            *connection.send(GET, GET),
        )
        assert [each.json["counter"] for each in (first, second, third, fourth)] == [1, 2, 1, 1]

    def test_pipelined_requests_wait_for_the_one_before(self, world: CalledServer) -> None:
        connection = world.connect()
        assert connection.send(post(ONE) + GET) == []
        world.store.release()
        assert [each.status for each in connection.send()] == [200, 200]

    def test_a_pipelined_request_may_be_refused(self, world: CalledServer) -> None:
        connection = world.connect()
        assert connection.send(post(ONE) + post(b"x" * 1_001)) == []
        world.store.release()
        assert [each.status for each in connection.send()] == [200, 413]

    def test_end_when_the_caller_says_so(self, world: CalledServer) -> None:
        for request in (
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET /healthz HTTP/1.0\r\n\r\n",
            b"GET /items/a/count HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET /items/a/count HTTP/1.0\r\n\r\n",
        ):
            connection = world.connect()
            (reply,) = connection.send(request)
            assert len(reply.text) == int(reply.headers["content-length"])
            assert connection.wire.disconnecting

    def test_speak_the_version_of_the_caller(self, world: CalledServer) -> None:
        for version in (b"HTTP/1.0", b"HTTP/1.1"):
            connection = world.connect()
            connection.protocol.dataReceived(
                b"GET /items/a/count " + version + b"\r\nHost: localhost\r\n\r\n"
            )
            assert connection.wire.value().startswith(version + b" 200 OK\r\n")

    def test_a_bug_costs_one_answer_only(self, world: CalledServer, expected_failures: Any) -> None:
        connection = world.connect()
        connection.send(post(ONE))
        world.store.waiting.pop(0).errback(RuntimeError("oh no"))
        (reply,) = connection.send()
        assert reply.problem == (500, "internal")
        assert reply.json["outcome"] == "unknown"
        assert connection.send(GET)[0].status == 200
        assert len(expected_failures(RuntimeError)) == 1

    def test_each_answer_names_its_server(self, world: CalledServer) -> None:
        (reply,) = world.connect().send(GET)
        assert reply.headers["server"] == f"dcounter/{__version__}"

    def test_each_connection_ends_with_its_next_answer_when_the_daemon_is_about_to_stop(
        self, world: CalledServer
    ) -> None:
        connection = world.connect()
        (reply,) = connection.send(GET)
        assert "connection" not in reply.headers
        world.server.shared.api.drain.begin()
        (reply,) = connection.send(GET)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert connection.wire.disconnecting
        assert "date" in reply.headers

    def test_idle_ones_are_closed(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(GET)
        world.clock.advance(74)
        assert not connection.wire.disconnecting
        world.clock.advance(1)
        assert connection.wire.disconnecting

    def test_are_idle_from_the_last_byte_or_answer_on(self, world: CalledServer) -> None:
        connection = world.connect()
        world.clock.advance(40)
        connection.send(GET)
        world.clock.advance(74)
        assert not connection.wire.disconnecting
        connection.send(post(ONE))
        world.clock.advance(200)
        world.store.release()
        assert connection.send()[0].status == 200
        world.clock.advance(74)
        assert not connection.wire.disconnecting
        world.clock.advance(1)
        assert connection.wire.disconnecting

    def test_stalled_requests_are_told_and_cut_off(self, world: CalledServer) -> None:
        connection = world.connect()
        assert connection.send(post(ONE)[:-1]) == []
        world.clock.advance(75)
        (reply,) = connection.send()
        assert reply.problem == (408, "request_timeout")
        assert reply.json["outcome"] == "not_applied"
        assert connection.refused

    def test_waiting_for_the_store_is_not_idle(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(post(ONE))
        world.clock.advance(1_000)
        world.store.release()
        assert connection.send()[0].status == 200

    def test_a_refused_caller_has_time_to_read(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.send(b"nonsense\r\n")
        world.clock.advance(1.9)
        assert connection.send(b"more nonsense\r\n") == []
        assert not connection.wire.aborted
        world.clock.advance(0.1)
        assert connection.wire.aborted

    def test_a_refused_caller_over_tls_is_closed_at_once(self, world: CalledServer) -> None:
        connection = world.connect(LOCAL, LOCAL, ISSLTransport)
        connection.send(b"nonsense\r\n")
        assert connection.wire.disconnecting
        assert not connection.wire.half_closed

    def test_too_many_are_told_and_more_are_closed(self) -> None:
        world = CalledServer(max_connections=2, reserved_connections=1)
        first, second, third = world.connect(), world.connect(), world.connect()
        assert first.send(GET)[0].status == second.send(GET)[0].status == 200
        assert world.server.buildProtocol(LOCAL) is None
        (reply,) = third.send(GET)
        assert reply.problem == (503, "overloaded")
        assert "the limit is 2" in reply.json["message"]
        assert third.refused
        assert third.send(GET) == []
        assert first.send(GET)[0].status == second.send(GET)[0].status == 200
        third.hang_up()
        second.hang_up()
        assert world.connect().send(GET)[0].status == 200
        world.close()

    def test_none_outlives_its_site(self, world: CalledServer) -> None:
        connection = world.connect()
        world.server.doStop()
        assert connection.wire.disconnecting
        world.server.doStart()

    def test_the_end_of_its_site_waits_for_answers_but_not_for_those_who_do_not_read(
        self, world: CalledServer
    ) -> None:
        answered, waiting = world.connect(), world.connect()
        answered.send(post(ONE))
        waiting.send(post(ONE))
        world.server.doStop()
        ended = Deferred.fromCoroutine(world.server.ended())
        world.store.release()
        assert answered.send()[0].status == 200
        assert answered.wire.disconnecting
        answered.hang_up()
        world.clock.pump([0.05] * 39)
        early = waiting.wire.aborted
        world.clock.pump([0.05] * 2)
        assert (early, waiting.wire.aborted) == (False, True)
        assert ended.called
        world.server.doStart()

    def test_no_other_protocol_is_negotiated(self, world: CalledServer) -> None:
        assert world.server.acceptableProtocols() == [b"http/1.1"]


class TestHangingUp:
    def test_before_the_answer_harms_nobody(self, world: CalledServer) -> None:
        gone, there = world.connect(), world.connect()
        gone.send(post(ONE))
        there.send(post(ONE))
        gone.hang_up()
        assert world.store.cancelled == 1
        world.store.waiting.pop(0)
        world.store.release()
        assert there.send()[0].status == 200

    def test_by_way_of_klein_too(self, world: CalledServer) -> None:
        world.server.shared.short_way = NoWay()
        gone, there = world.connect(), world.connect()
        gone.send(post(ONE))
        there.send(post(ONE))
        gone.hang_up()
        assert world.store.cancelled == 1
        world.store.waiting.pop(0)
        world.store.release()
        assert there.send()[0].status == 200

    def test_even_if_the_store_then_refuses(self, world: CalledServer) -> None:
        gone = world.connect()
        gone.send(post(ONE.replace(b"1", b"-1")))
        gone.hang_up()
        assert world.store.cancelled == 1

    def test_a_bug_that_nobody_hears_of_is_logged(self, world: CalledServer, expected_failures: Any) -> None:
        gone = world.connect()
        gone.send(post(ONE.replace(b"1", b"-2")))
        gone.hang_up()
        assert len(expected_failures(ZeroDivisionError)) == 1

    def test_in_the_middle_of_a_body(self, world: CalledServer) -> None:
        gone = world.connect()
        gone.send(post(ONE)[:-1])
        gone.hang_up()


class TestRestart:
    REQUEST = post(b'{"node":1}', b"Authorization: Bearer 0123456789abcdef").replace(
        b"/items", b"/cluster/restart"
    )

    @pytest.mark.parametrize(
        "peer",
        [
            LOCAL,
            IPv6Address("TCP", "::1", 1),
            IPv6Address("TCP", "::ffff:127.0.0.1", 1),
            UNIXAddress(None),
        ],
        ids=["IPv4", "IPv6", "both", "Unix"],
    )
    def test_is_for_callers_on_this_machine(self, world: CalledServer, peer: Any) -> None:
        (reply,) = world.connect(peer).send(self.REQUEST)
        assert reply.json == {"status": "OK", "node": 1}
        assert world.nodes.restarted == [1]

    @pytest.mark.parametrize(
        "peer",
        [
            IPv4Address("TCP", "10.0.0.1", 1),
            IPv6Address("TCP", "fe80::1", 1),
            IPv6Address("TCP", "::ffff:10.0.0.1", 1),
        ],
        ids=["IPv4", "IPv6", "both"],
    )
    def test_is_not_for_others(self, world: CalledServer, peer: Any) -> None:
        (reply,) = world.connect(peer).send(self.REQUEST)
        assert reply.problem == (403, "forbidden")
        assert world.nodes.restarted == []


class TestBehindAProxy:
    """
    The PROXY protocol: the first bytes of a connection say who the caller of the proxy is.
    """

    @pytest.fixture
    def connection(self, world: CalledServer) -> Iterator[Connection]:
        reactor = MemoryReactorClock()
        endpoints.serverFromString(reactor, "haproxy:tcp:8085").listen(world.server)
        connection = Connection(reactor.tcpServers[0][1])
        yield connection
        connection.hang_up()

    @pytest.mark.parametrize(
        ("header", "status"),
        [
            (b"PROXY TCP4 203.0.113.7 203.0.113.1 5000 80\r\n", 403),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 80\r\n", 403),
            (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 5000 80\r\n", 403),
            (b"PROXY TCP4 nonsense 203.0.113.1 5000 80\r\n", 403),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 5000 80\r\n", 200),
        ],
    )
    def test_the_peer_is_the_caller(
        self, world: CalledServer, connection: Connection, header: bytes, status: int
    ) -> None:
        (reply,) = connection.send(header, TestRestart.REQUEST)
        assert reply.status == status
        assert world.nodes.restarted == [1] * (status == 200)
        (again,) = connection.send(TestRestart.REQUEST)
        assert again.status == status

    def test_the_header_may_come_with_the_request(self, connection: Connection) -> None:
        header = b"PROXY TCP4 203.0.113.7 203.0.113.1 5000 80\r\n"
        assert connection.send(header + TestRestart.REQUEST)[0].status == 403

    def test_the_host_is_what_the_caller_of_the_proxy_says(self, connection: Connection) -> None:
        header = b"PROXY TCP4 203.0.113.7 203.0.113.1 5000 80\r\n"
        outer = GET.replace(b"localhost", b"counter.example.org")
        assert connection.send(header, outer)[0].status == 200


class TestWebPages:
    HEAD = b"POST /items HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n"

    def test_are_refused_before_the_body_is_read(self, world: CalledServer) -> None:
        for more in (
            b"Content-Length: 900\r\n",
            b"Content-Length: 1001\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: 900\r\nExpect: 100-continue\r\n",
        ):
            connection = world.connect()
            (reply,) = connection.send(self.HEAD + more + b"\r\n", b"x" * 100)
            assert reply.problem == (403, "foreign_origin")
            assert world.server.shared.body_bytes == 0
            assert connection.refused
            assert connection.send(GET) == []

    def test_may_not_hide_behind_others(self, world: CalledServer) -> None:
        connection = world.connect()
        assert connection.send(post(ONE) + self.HEAD + b"\r\n" + GET) == []
        world.store.release()
        assert [each.status for each in connection.send()] == [200, 403]
        assert world.store.waiting == []

    def test_names_may_be_added(self) -> None:
        world = CalledServer(names=["counter.example.org"])
        request = GET.replace(b"localhost", b"Counter.example.org:8085")
        assert world.connect().send(request)[0].status == 200
        assert world.connect().send(GET.replace(b"localhost", b"example.org"))[0].status == 403
        world.close()

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            (LOCAL, 403),
            (IPv6Address("TCP", "::1", 1), 403),
            (IPv6Address("TCP", "::ffff:127.0.0.1", 1), 403),
            (OUTSIDE, 200),
            (UNIXAddress("/run/x"), 200),
        ],
        ids=["IPv4", "IPv6", "both", "elsewhere", "Unix"],
    )
    def test_the_name_counts_where_the_caller_reached_this_machine_by_itself(
        self, world: CalledServer, host: Any, status: int
    ) -> None:
        connection = world.connect(LOCAL, host)
        assert connection.send(GET.replace(b"localhost", b"evil.example"))[0].status == status


class Reader(Wire):
    """
    The end of a caller who reads nothing at first: the transport asks to stop as a real one does.
    """

    bound = 1_000
    # Whom it asks to stop.
    producer: Any

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.streaming and len(self.value()) > self.bound:
            self.producer.pauseProducing()

    def read(self) -> bytes:
        """
        Read all that is there.
        """
        sent: bytes = self.value()
        self.clear()
        if self.producer is not None:
            self.producer.resumeProducing()
        return sent


class TestUnreadAnswers:
    OPENAPI = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"

    @pytest.fixture
    def channel(self, world: CalledServer) -> Iterator[Any]:
        channel: Any = world.server.buildProtocol(LOCAL)
        yield channel
        channel.connectionLost(Failure(ConnectionDone()))

    @pytest.fixture
    def reader(self, channel: Any) -> Reader:
        reader = Reader(LOCAL)
        channel.makeConnection(reader)
        return reader

    @pytest.mark.parametrize(
        "request_",
        [
            OPENAPI,
            GET,
            b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET //nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
            post(b"[]").replace(b"/items", b"/items?no=1"),
            post(b"{}"),
        ],
        ids=["long", "counts", "unknown", "odd", "parameters", "bad"],
    )
    def test_are_bounded(self, channel: Any, reader: Any, request_: bytes) -> None:
        most = 0
        channel.dataReceived(request_ * 50)
        heard = b""
        while reader.value():
            # More than the bound by one answer.
            most = max(most, len(reader.value()))
            heard += reader.read()
        answers = list(replies(heard))
        assert len(answers) == 50
        assert most <= 1_000 + len(heard) / 50 + 1
        assert len({each.text for each in answers}) == 1
        assert reader.producerState == "producing"

    def test_nothing_more_is_read_meanwhile(self, world: CalledServer, channel: Any, reader: Any) -> None:
        channel.dataReceived(self.OPENAPI)
        assert reader.producerState == "paused"
        # What was on its way.
        channel.dataReceived(post(ONE))
        assert world.store.waiting == []
        assert reader.producerState == "paused"
        reader.read()
        assert reader.producerState == "producing"
        world.store.release()
        assert b'"items":1' in reader.read()

    def test_answers_that_come_later_are_bounded_too(
        self, world: CalledServer, channel: Any, reader: Any
    ) -> None:
        reader.bound = 100
        channel.dataReceived(post(ONE) * 3)
        for _ in range(3):
            assert len(world.store.waiting) == 1
            world.store.release()
            assert len(world.store.waiting) == 0
            assert reader.read().count(b"HTTP/1.1 200") == 1
        assert world.store.waiting == []

    def test_who_never_reads_is_closed(self, world: CalledServer, channel: Any, reader: Any) -> None:
        channel.dataReceived(self.OPENAPI * 2)
        world.clock.advance(world.server.limits.idle_s - 1)
        assert not reader.disconnecting
        world.clock.advance(1)
        assert reader.disconnecting
        assert len(list(replies(reader.value()))) == 1
        reader.read()
        world.clock.advance(15)
        assert reader.aborted is True

    def test_who_reads_at_last_is_not_idle(self, world: CalledServer, channel: Any, reader: Any) -> None:
        channel.dataReceived(self.OPENAPI)
        world.clock.advance(world.server.limits.idle_s - 1)
        reader.read()
        world.clock.advance(world.server.limits.idle_s - 1)
        assert not reader.disconnecting

    def test_the_end_of_the_site_ends_them(self, world: CalledServer, channel: Any, reader: Any) -> None:
        channel.dataReceived(self.OPENAPI * 2)
        world.server.doStop()
        assert reader.disconnecting
        world.server.doStart()


class Talker(Protocol):
    """
    A caller over a real socket, who sends all it has and then listens.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.heard = b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._data)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self.heard)


class Listening:
    """
    A site on a real port.
    """

    def __init__(self, reactor: Any, **limits: Any) -> None:
        self._reactor = reactor
        self.store = SlowStore()
        self.server = Server(
            make_api(self.store, limits=HttpLimits(**limits)), reactor=reactor, now=lambda: 0
        )
        self._port: Any = None
        self._pool: Any = HTTPConnectionPool(reactor, persistent=False)

    async def __aenter__(self) -> Self:
        endpoint = endpoints.TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
        self._port = await endpoint.listen(self.server)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._port.stopListening()
        await self._pool.closeCachedConnections()

    async def talk(self, data: bytes) -> Talker:
        endpoint = endpoints.TCP4ClientEndpoint(self._reactor, "127.0.0.1", self._port.getHost().port)
        talker = Talker(data)
        await endpoints.connectProtocol(endpoint, talker)
        return talker

    async def get(self, path: str) -> Any:
        response = await treq.get(
            f"http://127.0.0.1:{self._port.getHost().port}{path}",
            agent=Agent(self._reactor, pool=self._pool),
        )
        return await treq.json_content(response)


@pytest_twisted.ensureDeferred
async def test_a_refused_caller_reads_the_answer_although_it_was_sending() -> None:
    from twisted.internet import reactor

    async with Listening(reactor, max_body_bytes=1_000) as listening:
        body = b"x" * 5_000_000
        for request in (post(body), chunked(body)):
            talker = await listening.talk(request)
            (reply,) = replies(await talker.done)
            assert reply.problem == (413, "body_too_large")


@pytest_twisted.ensureDeferred
async def test_300_stalled_requests_stop_nobody() -> None:
    from twisted.internet import reactor

    async with Listening(reactor) as listening:
        stalled = [await listening.talk(post(ONE)[:-1]) for _ in range(150)]
        stalled += [await listening.talk(post(ONE)) for _ in range(150)]
        reply = await listening.get("/items/hello/count")
        assert reply == {"counter": 5, "tenant": "hello", "position": "here"}
        assert len(listening.server.shared.connections) >= 300
        for talker in stalled:
            assert talker.transport is not None
            # Without a reset, a caller that has sent a whole request may still be reading.
            ITCPTransport(talker.transport).abortConnection()
        await gatherResults([talker.done for talker in stalled])
