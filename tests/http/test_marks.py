"""
What answers repeat of their requests: names for logs, and permissions for web pages.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from dcounter.http.tracing import in_words, names
from tests.support.callers import Reply
from tests.support.servers import ONE, CalledServer

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PAGE = "https://app.example"


@pytest.fixture
def world() -> Iterator[CalledServer]:
    world = CalledServer(origins=[PAGE, "http://localhost:3000"], max_body_bytes=1_000)
    yield world
    world.close()


def ask(world: CalledServer, method: str, target: str, *headers: str, body: bytes = b"") -> Reply:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    connection = world.connect()
    found = connection.send("\r\n".join([*lines, "", ""]).encode() + body)
    if not found:
        world.store.release()
        found = connection.send()
    [reply] = found
    return reply


class TestNames:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({}, ""),
            ({b"x-request-id": [b"7f3a"]}, ", X-Request-ID 7f3a"),
            ({b"x-request-id": [b"~" * 128]}, ", X-Request-ID " + "~" * 128),
            ({b"traceparent": [TRACE.encode()]}, f", traceparent {TRACE}"),
            (
                {b"traceparent": [TRACE.encode()], b"x-request-id": [b"a"]},
                f", X-Request-ID a, traceparent {TRACE}",
            ),
            ({b"x-request-id": [b""]}, ""),
            ({b"x-request-id": [b"a", b"a"]}, ""),
            ({b"x-request-id": [b"a b"]}, ""),
            ({b"x-request-id": [b"a\xff"]}, ""),
            ({b"x-request-id": [b"~" * 129]}, ""),
            ({b"traceparent": [TRACE.upper().encode()]}, ""),
            ({b"traceparent": [TRACE.encode() + b"-00"]}, ""),
        ],
    )
    def test_are_well_formed(self, headers: dict[bytes, list[bytes]], expected: str) -> None:
        assert in_words(names(headers)) == expected

    @pytest.mark.parametrize(
        ("method", "target", "body", "status"),
        [
            ("GET", "/items/a/count", b"", 200),
            ("HEAD", "/items/a/count", b"", 200),
            ("POST", "/items", ONE, 200),
            ("POST", "/items", b"nothing", 400),
            ("POST", "/items", b"x" * 1_001, 413),
            ("GET", "/nothing", b"", 404),
            ("PUT", "/items", b"", 405),
            ("POST", "/cluster/restart", b"{}", 403),
        ],
    )
    def test_come_back(self, world: CalledServer, method: str, target: str, body: bytes, status: int) -> None:
        reply = ask(world, method, target, "X-Request-ID: 7f3a", f"Traceparent: {TRACE}", body=body)
        assert reply.status == status
        assert (reply.headers["x-request-id"], reply.headers["traceparent"]) == ("7f3a", TRACE)
        assert reply.headers["cache-control"] == "no-store"
        reply = ask(world, method, target, body=body)
        assert reply.status == status
        assert reply.headers["cache-control"] == "no-store"
        assert not reply.headers.keys() & {"x-request-id", "traceparent", "vary"}

    def test_come_back_with_a_refusal_of_a_page(self, world: CalledServer) -> None:
        reply = ask(world, "GET", "/healthz", "X-Request-ID: 7f3a", "Origin: https://evil.example")
        assert reply.problem == (403, "foreign_origin")
        assert reply.headers["x-request-id"] == "7f3a"

    def test_are_of_one_request(self, world: CalledServer) -> None:
        connection = world.connect()
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        [reply] = connection.send(request + b"X-Request-ID: a\r\n\r\n")
        assert reply.headers["x-request-id"] == "a"
        [reply] = connection.send(request + b"\r\n")
        assert "x-request-id" not in reply.headers

    @pytest.mark.parametrize("method", ["POST", "HEAD"])
    def test_are_in_the_log_of_a_bug(
        self, world: CalledServer, expected_failures: Any, caplog: pytest.LogCaptureFixture, method: str
    ) -> None:
        target = "/items" if method == "POST" else "/cluster"

        def broken(*args: Any, **how: Any) -> Any:
            raise ZeroDivisionError

        world.store.store = broken  # type: ignore[method-assign]
        world.nodes.status = broken  # type: ignore[method-assign]
        reply = ask(world, method, target, "X-Request-ID: 7f3a", body=ONE if method == "POST" else b"")
        assert (reply.status, reply.headers["x-request-id"]) == (500, "7f3a")
        assert f"{method} {target} failed, X-Request-ID 7f3a" in caplog.text
        assert len(expected_failures(ZeroDivisionError)) == 1

    def test_are_in_the_log_of_an_operation(
        self, world: CalledServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        token = "Authorization: Bearer 0123456789abcdef"
        with caplog.at_level("INFO"):
            reply = ask(world, "POST", "/cluster/restart", token, "X-Request-ID: a", body=b'{"node":1}')
            assert reply.status == 200
            assert ask(world, "POST", "/cluster/remove", token, body=b'{"node":2}').status == 200
        assert [record.getMessage() for record in caplog.records if "asked to" in record.getMessage()] == [
            "operator at 127.0.0.1 asked to restart node 1, X-Request-ID a",
            "operator at 127.0.0.1 asked to remove node 2",
        ]
        assert "0123456789abcdef" not in caplog.text


class TestPages:
    @pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000", "https://APP.example"])
    @pytest.mark.parametrize(
        ("method", "target", "status"),
        [
            ("GET", "/items/a/count", 200),
            ("HEAD", "/items/a/count", 200),
            ("POST", "/items", 200),
            ("GET", "/nothing", 404),
            ("DELETE", "/healthz", 405),
            ("OPTIONS", "/items", 405),
            ("POST", "/cluster/restart", 403),
        ],
    )
    def test_of_a_permitted_site_are_answered(
        self, world: CalledServer, origin: str, method: str, target: str, status: int
    ) -> None:
        body = ONE if method == "POST" else b""
        reply = ask(world, method, target, f"Origin: {origin}", body=body)
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == origin
        assert reply.headers["vary"] == "Origin"
        assert "Retry-After" in reply.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in reply.headers

    @pytest.mark.parametrize("target", ["/items", "/items/a/count", "/nothing", "*"])
    def test_may_ask_first(self, world: CalledServer, target: str) -> None:
        asked = (f"Origin: {PAGE}", "Access-Control-Request-Method: POST", "X-Request-ID: a")
        reply = ask(world, "OPTIONS", target, *asked)
        assert (reply.status, reply.text) == (200, b"{}")
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert set(reply.headers["access-control-allow-methods"].split(", ")) >= {"GET", "POST"}
        assert "Authorization" in reply.headers["access-control-allow-headers"]
        assert reply.headers["access-control-max-age"] == "600"
        assert reply.headers["x-request-id"] == "a"
        assert world.store.waiting == []

    def test_need_no_token_to_ask_first(self) -> None:
        world = CalledServer(origins=[PAGE], tokens=[])
        asked = (f"Origin: {PAGE}", "Access-Control-Request-Method: POST")
        assert ask(world, "OPTIONS", "/items", *asked).status == 200
        reply = ask(world, "POST", "/items", f"Origin: {PAGE}", body=ONE)
        assert reply.problem == (401, "unauthenticated")
        assert reply.headers["access-control-allow-origin"] == PAGE
        world.close()

    @pytest.mark.parametrize(
        "origins",
        [
            ["https://evil.example"],
            ["null"],
            ["http://app.example"],
            ["https://app.example:8443"],
            ["https://app.example.evil.example"],
            [PAGE, PAGE],
            [""],
        ],
    )
    def test_of_other_sites_are_not(self, world: CalledServer, origins: list[str]) -> None:
        headers = [f"Origin: {origin}" for origin in origins]
        for method, more in [("GET", []), ("OPTIONS", ["Access-Control-Request-Method: POST"])]:
            reply = ask(world, method, "/items/a/count", *headers, *more)
            assert reply.problem == (403, "foreign_origin")
            assert not [name for name in reply.headers if name.startswith("access-control")]

    def test_of_a_permitted_site_must_know_the_name(self, world: CalledServer) -> None:
        [reply] = world.connect().send(
            f"GET /healthz HTTP/1.1\r\nHost: evil.example\r\nOrigin: {PAGE}\r\n\r\n".encode()
        )
        assert reply.problem == (403, "unknown_host")
