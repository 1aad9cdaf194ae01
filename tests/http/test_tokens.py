"""
A daemon with a file of tokens: what each caller may do, and what it learns of others.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from dcounter.http.auth import Principal, Token, hash_token
from dcounter.http.rates import Rate
from dcounter.http.route import Route
from dcounter.http.table import ROUTES
from dcounter.store import Ack, Consistency, Count, Counts, Item, Items, Looked, Receipt
from dcounter.testing.http import MemoryStore
from tests.support.callers import LOCAL, Reply
from tests.support.servers import ONE, OUTSIDE, CalledServer, post

READER = "dct_reader"
WRITER = "dct_writer"
ADMIN = "dct_admin"
BOUND = "dct_bound"
SLOW = "dct_slow"
OPERATOR = "0123456789abcdef"

TOKENS = [
    Token(hash_token(b"dct_reader"), Principal("reader", frozenset({"read"}))),
    Token(hash_token(b"dct_writer"), Principal("writer", frozenset({"write"}))),
    Token(hash_token(b"dct_admin"), Principal("admin", frozenset({"admin", "read"}))),
    Token(hash_token(b"dct_bound"), Principal("bound", frozenset({"read"}), ("acme/", "tie-"))),
    Token(hash_token(b"dct_slow"), Principal("slow", frozenset({"read", "write"}), (), Rate(2.0, 3))),
    Token(hash_token(b"dct_old"), Principal("old", frozenset({"read"})), expires=10 * 10**9),
]

COUNT = "/items/acme%2F1/count"


class Asked(MemoryStore):
    """
    Remembers of which tenants it was asked, and stores at once. Two items are there, of one tenant each.
    """

    def __init__(self) -> None:
        super().__init__(lambda: 1)
        self.asked: list[str] = []

    async def store(
        self, items: Items, *, ack: Ack, after: str | None = None, changes: bool = False
    ) -> Receipt:
        self.asked += [tenant or "" for tenant in items.tenants]
        return Receipt(len(items), ack, "here")

    async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
        self.asked.append(tenant)
        return Count(len(tenant), "here")

    async def count_many(
        self, tenants: Sequence[str], *, consistency: Consistency, after: str | None = None
    ) -> Counts:
        self.asked += tenants
        return await super().count_many(tenants, consistency=consistency, after=after)

    async def look_up(
        self, ids: Sequence[int], *, consistency: Consistency, after: str | None = None
    ) -> Looked:
        owners = {1: "other", 2: "acme/1"}
        found = [Item(each, owners[each], 5) if each in owners else None for each in ids]
        return Looked(position="here", items=found)


@pytest.fixture
def store() -> Asked:
    return Asked()


@pytest.fixture
def world(store: Asked) -> Iterator[CalledServer]:
    world = CalledServer(tokens=TOKENS, store=store, max_body_bytes=100_000)
    yield world
    world.close()


def ask(
    world: CalledServer, method: str, target: str, token: str | None, body: bytes = b"", peer: Any = LOCAL
) -> Reply:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    [reply] = world.connect(peer).send("\r\n".join([*lines, "", ""]).encode() + body)
    return reply


BODIES = {
    "/cluster/restart": b'{"node":1}',
    "/cluster/remove": b'{"node":1}',
    "/compact": b"{}",
    "/cluster/forget": b'{"node":1}',
    "/items/lookup": b"[1]",
    "/counts": b'{"tenants":["other"]}',
}


def example(route: Route) -> tuple[str, str, bytes]:
    """
    Some request for a route.
    """
    body = BODIES.get(route.path, ONE)
    path = re.sub(r"\{\w+\}", "1", route.path.replace("{file}", "index.html"))
    return route.method, path, body if route.method == "POST" else b""


NAMED = [pytest.param(route, id=f"{route.method} {route.path}") for route in ROUTES]


@pytest.mark.parametrize("route", NAMED)
class TestEveryRoute:
    @pytest.mark.parametrize("token", [None, "dct_wrong", "dct_reader2", OPERATOR + "0"])
    def test_wants_a_token_or_is_open(
        self, world: CalledServer, store: Asked, route: Route, token: str | None
    ) -> None:
        method, target, body = example(route)
        reply = ask(world, method, target, token, body)
        if route.scope == "anyone":
            assert reply.status == 200
            return
        assert reply.problem == (401, "unauthenticated")
        error = "" if token is None else ', error="invalid_token"'
        assert reply.headers["www-authenticate"] == f'Bearer realm="dcounter"{error}'
        assert reply.json.get("outcome") == "not_applied"
        assert "dct_" not in reply.text.decode()
        assert store.asked == []

    @pytest.mark.parametrize(
        ("token", "scopes"),
        [
            (READER, {"read"}),
            (WRITER, {"write"}),
            (ADMIN, {"admin", "read"}),
            (OPERATOR, {"admin", "read"}),
        ],
    )
    def test_wants_the_right_one(
        self, world: CalledServer, route: Route, token: str, scopes: set[str]
    ) -> None:
        method, target, body = example(route)
        reply = ask(world, method, target, token, body)
        if route.scope in {"anyone", *scopes}:
            assert reply.status not in {401, 403}
            return
        assert reply.problem == (403, "forbidden")
        assert f"the scope '{route.scope}'" in reply.json["detail"]
        assert token not in reply.text.decode()

    def test_is_closed_to_a_bound_token_unless_it_says_otherwise(
        self, world: CalledServer, route: Route
    ) -> None:
        method, target, body = example(route)
        reply = ask(world, method, target, BOUND, body)
        # Items of others look as if they did not exist.
        if route.scope == "anyone" or route.path in {"/items/lookup", "/export", "/events"}:
            assert reply.status == 200
        else:
            assert reply.status in {403, 404}


FOREIGN: dict[str, list[str]] = {
    "GET /items/{tenant}/count": [
        "/items/other/count",
        "/items/acme/count",
        "/items/ACME%2F1/count",
        "/items/tie/count",
        "/items/%00acme%2F/count",
        "/items/other/count?consistency=eventual",
    ],
    "GET /tenants/{tenant}": ["/tenants/other", "/tenants/acme"],
    "GET /tenants/{tenant}/items": ["/tenants/other/items", "/tenants/acme/items?limit=5"],
    "GET /tenants": ["/tenants", "/tenants?sort=-count", "/tenants?prefix=acme"],
    "GET /counts": ["/counts", "/counts?prefix=other", "/counts?prefix=acme"],
    "GET /events": [
        "/events?prefix=other",
        "/events?prefix=acme",
        "/events?tenant=other",
        "/events?tenant=acme%2F1&tenant=other",
    ],
    # These look like items that do not exist, see below.
    "GET /items/{ID}": [],
    "POST /items/lookup": [],
    "POST /counts": [],
    # Deleted IDs have no tenant.
    "GET /export": ["/export?deleted=1"],
}
"""
For each route that answers bound tokens: requests that ask of tenants of others.
"""


def test_what_a_bound_token_may_ask_is_probed() -> None:
    # A new row needs an entry above. (What a body names is asked in a test of its own.)
    assert FOREIGN.keys() == {
        f"{each.method} {each.path}" for each in ROUTES if each.tenants or each.checks_tenants
    }


@pytest.mark.parametrize("target", [each for targets in FOREIGN.values() for each in targets])
def test_a_bound_token_learns_nothing_of_others(world: CalledServer, store: Asked, target: str) -> None:
    reply = ask(world, "GET", target, BOUND)
    assert reply.problem == (403, "forbidden")
    assert re.search("'acme/' or 'tie-'|give the parameter prefix|leave deleted=1 out", reply.json["detail"])
    assert store.asked == []
    # This goes by way of Klein.
    assert ask(world, "HEAD", target, BOUND).status == 403
    assert store.asked == []


def test_items_of_others_look_as_if_they_did_not_exist(world: CalledServer) -> None:
    others, none = ask(world, "GET", "/items/1", BOUND), ask(world, "GET", "/items/3", BOUND)
    assert others.problem == none.problem == (404, "unknown_item")
    assert others.text.replace(b"ID 1", b"ID 3") == none.text
    assert ask(world, "GET", "/items/2", BOUND).json["tenant"] == "acme/1"
    looked = ask(world, "POST", "/items/lookup", BOUND, b"[1,2,3]").json
    assert [each["ID"] for each in looked["items"]] == [2]
    assert looked["unknown"] == [1, 3]
    assert ask(world, "GET", "/items/1", READER).json["tenant"] == "other"


def test_counts_of_others_are_refused_together_with_its_own(world: CalledServer, store: Asked) -> None:
    reply = ask(world, "POST", "/counts", BOUND, b'{"tenants":["acme/1","other"]}')
    assert reply.problem == (403, "forbidden")
    assert "'other'" in reply.json["detail"]
    assert store.asked == []
    assert ask(world, "POST", "/counts", BOUND, b'{"tenants":["acme/1"]}').status == 200


def test_a_bound_token_reads_what_it_is_bound_to(world: CalledServer, store: Asked) -> None:
    assert ask(world, "GET", COUNT, BOUND).json["counter"] == 6
    assert ask(world, "GET", "/items/tie-1/count", BOUND).json["counter"] == 5
    assert store.asked == ["acme/1", "tie-1"]


def test_no_cluster_for_a_bound_token(world: CalledServer) -> None:
    reply = ask(world, "GET", "/cluster", BOUND)
    assert "the answer here is about all" in reply.json["detail"]
    assert ask(world, "GET", "/cluster", READER).status == 200


def test_an_old_token_says_so(world: CalledServer) -> None:
    assert ask(world, "GET", COUNT, "dct_old").status == 200
    world.clock.advance(10)
    reply = ask(world, "GET", COUNT, "dct_old")
    assert reply.problem == (401, "unauthenticated")
    assert "'old' has expired" in reply.json["detail"]


def test_two_headers_are_none(world: CalledServer) -> None:
    header = f"\r\nAuthorization: Bearer {READER}"
    [reply] = world.connect().send(
        f"GET {COUNT} HTTP/1.1\r\nHost: localhost{header}{header}\r\n\r\n".encode()
    )
    assert reply.problem == (401, "unauthenticated")
    assert "not 2" in reply.json["detail"]


def test_the_operators_token_counts_on_this_machine_only(world: CalledServer) -> None:
    assert ask(world, "POST", "/cluster/restart", OPERATOR, b'{"node":1}').status == 200
    assert ask(world, "POST", "/cluster/restart", OPERATOR, b'{"node":1}', OUTSIDE).status == 401
    assert ask(world, "POST", "/cluster/restart", ADMIN, b'{"node":2}', OUTSIDE).status == 200
    assert world.nodes.restarted == [1, 2]


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [("POST", "/items", ONE), ("POST", "/items/delete", b"[1]"), ("DELETE", "/items/1", b"")],
)
def test_receipts_tell_counts_and_so_need_the_right_to_count(
    world: CalledServer, store: Asked, method: str, target: str, body: bytes
) -> None:
    reply = ask(world, method, f"{target}?receipt=1", WRITER, body)
    assert reply.problem == (403, "forbidden")
    assert reply.json["outcome"] == "not_applied"
    assert "receipt=1 needs the scope 'read'" in reply.json["detail"]
    assert store.asked == []
    assert ask(world, method, f"{target}?receipt=0", WRITER, body).status == 200
    # This one may do both.
    assert ask(world, method, f"{target}?receipt=1", SLOW, body).status == 200


class TestLargeBodies:
    """
    Strangers must not fill the memory.
    """

    HEAD = "HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"

    @pytest.mark.parametrize("target", ["/items", "/items/", "/nothing"])
    def test_are_refused_before_they_are_read(self, world: CalledServer, target: str) -> None:
        connection = world.connect()
        [reply] = connection.send(f"POST {target} {self.HEAD}\r\n".encode() + b"[" * 10)
        assert reply.problem == (401, "unauthenticated")
        assert connection.refused
        assert world.server.shared.body_bytes == 0

    def test_are_refused_without_the_right(self, world: CalledServer) -> None:
        head = f"POST /items {self.HEAD}Authorization: Bearer {READER}\r\n\r\n"
        [reply] = world.connect().send(head.encode())
        assert reply.problem == (403, "forbidden")
        assert reply.json["outcome"] == "not_applied"

    def test_are_read_with_it(self, world: CalledServer, store: Asked) -> None:
        head = f"POST /items {self.HEAD}Authorization: Bearer {WRITER}\r\n\r\n"
        connection = world.connect()
        assert connection.send(head.encode(), ONE) == []
        [reply] = connection.send(b" " * (90_000 - len(ONE)))
        assert reply.status == 200

    def test_nobody_is_asked_to_continue_in_vain(self, world: CalledServer) -> None:
        [reply] = world.connect().send(f"POST /items {self.HEAD}Expect: 100-continue\r\n\r\n".encode())
        assert reply.problem == (401, "unauthenticated")


def test_small_bodies_cost_no_connection(world: CalledServer) -> None:
    connection = world.connect()
    [reply] = connection.send(post(ONE))
    assert reply.problem == (401, "unauthenticated")
    [reply] = connection.send(post(ONE, f"Authorization: Bearer {WRITER}".encode()))
    assert reply.status == 200


class TestRates:
    def test_too_many_requests_wait(self, world: CalledServer, store: Asked) -> None:
        for left in (2, 1, 0):
            reply = ask(world, "GET", COUNT, SLOW)
            assert reply.status == 200
            assert reply.headers["ratelimit-policy"] == '"requests";q=3;w=2'
            assert reply.headers["ratelimit"].startswith(f'"requests";r={left};')
        reply = ask(world, "POST", "/items", SLOW, ONE)
        assert reply.problem == (429, "too_many_requests")
        assert reply.json["outcome"] == "not_applied"
        assert (reply.headers["retry-after"], reply.headers["ratelimit"]) == ("1", '"requests";r=0;t=2')
        assert "wait 0.5 s" in reply.json["detail"]
        assert len(store.asked) == 3
        # Others are not concerned, and what needs no token is answered.
        for token, target in [(READER, COUNT), (None, "/healthz"), (SLOW, "/healthz")]:
            reply = ask(world, "GET", target, token)
            assert reply.status == 200
            assert "ratelimit" not in reply.headers
        world.clock.advance(0.5)
        assert ask(world, "GET", COUNT, SLOW).status == 200
        assert ask(world, "GET", COUNT, SLOW).status == 429

    def test_refused_requests_count(self, world: CalledServer) -> None:
        for _ in range(3):
            reply = ask(world, "GET", "/items/a/count?x=1", SLOW)
            assert reply.status == 400
            assert "ratelimit" in reply.headers
        assert ask(world, "GET", COUNT, SLOW).status == 429

    def test_a_large_body_counts_once_and_is_not_read_in_vain(self, world: CalledServer) -> None:
        head = f"POST /items HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SLOW}\r\n"
        for _ in range(3):
            connection = world.connect()
            assert connection.send(f"{head}Content-Length: 90000\r\n\r\n".encode()) == []
            [reply] = connection.send(ONE.ljust(90_000))
            assert reply.status == 200
        connection = world.connect()
        [reply] = connection.send(f"{head}Content-Length: 90000\r\n\r\n".encode())
        assert reply.problem == (429, "too_many_requests")
        assert reply.headers["ratelimit"].startswith('"requests";r=0;')
        assert connection.refused

    def test_a_file_that_is_read_again_gives_no_new_permits(self, world: CalledServer) -> None:
        for _ in range(3):
            assert ask(world, "GET", COUNT, SLOW).status == 200
        assert world.tokens is not None
        world.tokens.replace(TOKENS)
        assert ask(world, "GET", COUNT, SLOW).status == 429
        faster = Principal("slow", frozenset({"read"}), (), Rate(2.0, 4))
        world.tokens.replace([Token(hash_token(b"dct_slow"), faster)])
        assert ask(world, "GET", COUNT, SLOW).status == 200
