"""
What callers of the HTTP API are answered, over a store in memory.
"""

import gzip
import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, get_args
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dcounter import __version__
from dcounter.errors import (
    Incomplete,
    InvalidPosition,
    NoAnswer,
    NodeIsUp,
    NotApplied,
    NotReplicated,
    NotSupportedHere,
    OutcomeUnknown,
    PositionLost,
    Refusal,
    UnknownNode,
)
from dcounter.http import problems
from dcounter.http.auth import OperatorToken
from dcounter.http.figures import HttpFigures
from dcounter.http.limits import HttpLimits
from dcounter.http.openapi import document, refusals
from dcounter.http.routes import Found, PlainPaths, ShortWay
from dcounter.http.server import Server, make_api
from dcounter.http.table import ROUTES
from dcounter.store import (
    Ack,
    Capability,
    Changes,
    ClusterStatus,
    Consistency,
    Count,
    Items,
    NodeStatus,
    Operator,
    Readiness,
    Receipt,
    Store,
)
from tests.support.callers import LOCAL, Reply, Wire, replies
from tests.support.kinds import kinds

NOW = 1_700_000_000 * 10**9
CHANGES = "changes"
CREATED = Changes(["created"], {"a": 1})
READY = Readiness(ready=True, exact=True, missing=[])
EMPTY = ClusterStatus(primary=None, nodes=[], clock_skew_ms=0)


@dataclass
class MemoryStore(Store):
    """
    A store of one dictionary, which can be told to refuse.
    """

    tenants: dict[int, str | None] = field(default_factory=dict)
    asked: list[object] = field(default_factory=list)
    error: Exception | None = None
    complete: bool = True
    ready: Readiness = READY
    changes: Changes = CREATED
    capabilities: ClassVar[AbstractSet[Capability]] = frozenset(get_args(Capability))

    async def store(
        self, items: Items, *, ack: Ack, after: str | None = None, changes: bool = False
    ) -> Receipt:
        self.asked.append((items, ack, after, CHANGES) if changes else (items, ack, after))
        if self.error:
            raise self.error
        self.tenants.update(zip(items.ids, items.tenants, strict=True))
        return Receipt(items=len(items), ack=ack, position="here", changes=self.changes if changes else None)

    async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
        self.asked.append((tenant, consistency, after))
        if self.error:
            raise self.error
        number = list(self.tenants.values()).count(tenant)
        if self.complete:
            return Count(number, "here")
        return Count(number, "here", complete=False, missing=(2, 3))

    def join(self, first: str, second: str) -> str:
        return max(first, second)

    def latest_stamp(self) -> int:
        return NOW + 10 * 10**9

    def readiness(self) -> Readiness:
        return self.ready


class MemoryOperator:
    """
    Two nodes that can be restarted, and removed.
    """

    def __init__(self) -> None:
        self.cluster = EMPTY
        self.error: Exception | None = None
        self.restarted: list[int] = []
        self.rebuilt: list[int] = []
        self.removed: list[int] = []
        self.compacted: list[int | None] = []

    def status(self) -> ClusterStatus:
        if self.error:
            raise self.error
        return self.cluster

    async def restart(self, node: int) -> None:
        if node not in (0, 1):
            raise UnknownNode(f"there is no node {node}")
        self.restarted.append(node)

    async def rebuild(self, node: int) -> None:
        self.rebuilt.append(node)

    async def remove(self, node: int) -> None:
        if node == 0:
            raise NodeIsUp("node 0 is up")
        self.removed.append(node)

    async def compact(self, before: int | None) -> int:
        self.compacted.append(before)
        return 10**9 if before is None else before


SHORT = PlainPaths(ROUTES, HttpFigures(lambda: 0.0))

SOMETIMES = {
    # Of a deprecated path, which answers that come before the path is known do not have.
    *("deprecation", "link"),
    # Of a request that has a name, comes from a web page, or shows a token.
    *("x-request-id", "traceparent", "access-control-allow-origin", "ratelimit", "ratelimit-policy"),
}
"""
Headers that not all answers have of which the document tells.
"""
DOCUMENT = document(ROUTES)
DESCRIBED = {
    *("accept-encoding", "allow", "ratelimit", "ratelimit-policy", "retry-after", "www-authenticate"),
    *SOMETIMES,
}
"""
Headers that the OpenAPI document describes where they occur.
"""


class ByKlein:
    """
    No short way: all requests go by way of Klein.
    """

    def find(self, method: bytes, target: bytes) -> Found | None:
        return None


class Caller:
    """
    Calls the API without a network, and checks of every answer what holds for all of them.
    """

    def __init__(
        self,
        store: Store,
        *,
        operator: Operator | None = None,
        token: OperatorToken | None = None,
        limits: HttpLimits | None = None,
        ack: Ack = "node",
        consistency: Consistency = "exact",
        way: ShortWay | None = None,
    ) -> None:
        api = make_api(store, limits=limits, operator=operator, token=token, ack=ack, consistency=consistency)
        self.peer: object = LOCAL
        self.drain = api.drain
        self._server = Server(api, short_way=way, reactor=Clock(), now=lambda: NOW)
        self.documented = DOCUMENT

    def get(self, target: str, method: str = "GET", headers: dict[str, str] | None = None) -> Reply:
        return self.ask(method, target, b"", headers or {})

    def post(self, target: str, body: bytes | str, headers: dict[str, str] | None = None) -> Reply:
        return self.ask("POST", target, body.encode() if isinstance(body, str) else body, headers or {})

    def ask(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        lines = [f"{method} {target} HTTP/1.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in {"Host": "localhost", **headers}.items()]
        channel: Any = self._server.buildProtocol(LOCAL)
        wire = Wire(self.peer)
        channel.makeConnection(wire)
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        [reply] = replies(wire.value(), bodies=method != "HEAD")
        channel.connectionLost(Failure(ConnectionDone()))
        self._check(method, target, reply)
        return reply

    def _check(self, method: str, target: str, reply: Reply) -> None:
        if reply.text and reply.status not in {200, 207}:
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json["type"] == f"urn:problem-type:dcounter:{reply.json['code']}"
            assert reply.json["status"] == reply.status
            assert reply.json["detail"] == reply.json["message"] != ""
            assert reply.json["title"]
        else:
            expected = "json" if reply.status in {200, 207} else "problem+json"
            page = target == "/docs" and reply.status == 200
            assert reply.headers["content-type"] == (
                "text/html; charset=utf-8" if page else f"application/{expected}"
            )
        path = target.partition("?")[0]
        operation = self._operation(method, path)
        if operation is not None:
            response = operation["responses"][str(reply.status)]
            if "$ref" in response:
                name = response["$ref"].rpartition("/")[2]
                response = self.documented["components"]["responses"][name]
        elif reply.status in {404, 405}:
            name = "UnknownPath" if reply.status == 404 else "WrongMethod"
            response = self.documented["components"]["responses"][name]
        else:
            # HEAD, or a refusal before the path is known.
            return
        described = {name.lower() for name in response.get("headers", ())}
        found = reply.headers.keys() & DESCRIBED
        assert described - SOMETIMES <= found <= described

    def _operation(self, method: str, path: str) -> Any:
        """
        What the document says of a path; of several that fit, the one with the fewest variable segments.
        """
        paths = self.documented["paths"]
        path = path.removeprefix("http://localhost")
        if path in paths:
            return paths[path].get(method.lower())
        fitting = [each for each in paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), path)]
        for each in sorted(fitting, key=lambda each: each.count("{")):
            if method.lower() in paths[each]:
                return paths[each][method.lower()]
        return None


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def operator() -> MemoryOperator:
    return MemoryOperator()


@pytest.fixture(params=[SHORT, ByKlein()])
def call(request: pytest.FixtureRequest, store: MemoryStore, operator: MemoryOperator) -> Caller:
    """
    A caller whose requests take the short way where there is one, and one whose never do.
    """
    return Caller(store, operator=operator, way=request.param)


ONE = b'[{"ID":1,"tenant":"a"}]'


class TestStore:
    def test_answers_what_was_stored(self, call: Caller, store: MemoryStore) -> None:
        reply = call.post("/items", b'[{"ID":1,"tenant":"hello"},{"ID":2,"tenant":"publicsonar"}]')
        assert (reply.status, reply.json) == (
            200,
            {"status": "OK", "items": 2, "ack": "node", "position": "here"},
        )
        assert store.tenants == {1: "hello", 2: "publicsonar"}

    def test_nothing_is_stored_gladly(self, call: Caller) -> None:
        assert call.post("/items", b"[]").json["items"] == 0

    def test_parameters_reach_the_store(self, call: Caller, store: MemoryStore) -> None:
        for ack in ("node", "primary", "majority", "all"):
            assert call.post(f"/items?ack={ack}&after=a+b%2F=", ONE).json["ack"] == ack
            assert store.asked.pop() == (Items(ids=[1], tenants=["a"]), ack, "a+b/=")

    def test_the_default_ack_can_be_set(self, store: MemoryStore) -> None:
        assert Caller(store, ack="all").post("/items", ONE).json["ack"] == "all"
        assert Caller(store, ack="all").post("/items?ack=node", ONE).json["ack"] == "node"

    def test_a_stamp_in_the_query_is_that_of_all_items_without_one(
        self, call: Caller, store: MemoryStore
    ) -> None:
        body = b'[{"ID":1,"tenant":"a"},{"ID":2,"deleted":true,"lastUpdateDt":"1970-01-01T00:00:02Z"}]'
        for query, stamps in (
            ("1970-01-01T00:00:01.000000005Z", [1_000_000_005, 2 * 10**9]),
            ("1970-01-01T01:00:01+01:00", [10**9, 2 * 10**9]),
            ("0001-01-01T00:00:00Z", [None, 2 * 10**9]),
        ):
            assert call.post(f"/items?lastUpdateDt={query}", body).status == 200
            assert store.asked.pop() == (Items([1, 2], ["a", None], stamps), "node", None)
        call.post("/items?lastUpdateDt=1970-01-01T00:00:01Z", ONE)
        assert store.asked.pop() == (Items([1], ["a"], [10**9]), "node", None)

    @pytest.mark.parametrize(
        ("stamp", "why"),
        [
            ("yesterday", "is not an RFC 3339 time such as 2026-01-31T12:00:00.123456789Z"),
            ("1969-12-31T23:59:59Z", "is before 1970"),
            ("2023-11-14T22:13:30.000000001Z", "is too far ahead of this machine's clock"),
        ],
    )
    def test_a_bad_stamp_in_the_query_is_refused(
        self, call: Caller, store: MemoryStore, stamp: str, why: str
    ) -> None:
        for reply in (
            call.post(f"/items?lastUpdateDt={stamp}", ONE),
            call.post(f"/items/delete?lastUpdateDt={stamp}", b"[1]"),
            call.get(f"/items/1?lastUpdateDt={stamp}", "DELETE"),
        ):
            assert (reply.status, reply.json["code"]) == (400, "bad_parameter")
            assert (reply.json["detail"], reply.json["outcome"]) == (f"lastUpdateDt {why}", "not_applied")
        assert store.asked == []

    def test_an_idempotency_key_is_refused(self, call: Caller, store: MemoryStore) -> None:
        key = {"idempotency-KEY": "x"}
        for reply in (
            call.post("/items", ONE, key),
            call.post("/items/delete", b"[1]", key),
            call.get("/items/1", "DELETE", key),
        ):
            assert (reply.status, reply.json["code"]) == (400, "no_idempotency_key")
            assert reply.json["outcome"] == "not_applied"
            assert "lastUpdateDt" in reply.json["detail"]
        assert store.asked == []

    def test_stamps_may_lie_ten_seconds_ahead(self, call: Caller, store: MemoryStore) -> None:
        body = '[{"ID":1,"tenant":"a","lastUpdateDt":"2023-11-14T22:13:30%sZ"}]'
        assert call.post("/items", body % "").status == 200
        assert store.asked.pop() == (
            Items(ids=[1], tenants=["a"], stamps=[NOW + 10**10]),
            "node",
            None,
        )
        assert call.post("/items", body % ".000000001").status == 422

    def test_a_malformed_body_is_refused(self, call: Caller, store: MemoryStore) -> None:
        for body in (b"null", b"{}", b"[", b"", b"\xff", b"[" * 100_000):
            reply = call.post("/items", body)
            assert (reply.status, reply.json["code"]) == (400, "malformed")
            assert reply.json["outcome"] == "not_applied"
        assert store.asked == []

    def test_bad_items_are_named(self, call: Caller, store: MemoryStore) -> None:
        reply = call.post("/items", b'[{"ID":1,"tenant":"a"},{"ID":"2","tenant":""},5]')
        assert (reply.status, reply.json["code"]) == (422, "invalid_item")
        assert reply.json["outcome"] == "not_applied"
        assert reply.json["errors"] == [
            {
                "index": 1,
                "field": "ID",
                "message": "must be an integer from -2^63 to 2^63 - 1",
            },
            {"index": 1, "field": "tenant", "message": "must be 1 to 256 bytes of UTF-8"},
            {"index": 2, "field": "", "message": "is not an object"},
        ]
        assert store.asked == []

    def test_limits_of_items_are_stated(self, store: MemoryStore) -> None:
        call = Caller(store, limits=HttpLimits(max_items=2, max_tenant_bytes=3))
        reply = call.post("/items", b"[1,2,3]")
        assert (reply.status, reply.json["code"]) == (413, "too_many_items")
        assert reply.json["outcome"] == "not_applied"
        assert "the limit is 2" in reply.json["message"]
        reply = call.post("/items", b'[{"ID":1,"tenant":"abcd"}]')
        assert reply.status == 422
        assert "1 to 3 bytes" in reply.json["message"]

    @pytest.mark.parametrize(
        ("error", "status", "code", "more", "retry"),
        [
            (
                NotApplied("no node has room", retry_after=0.2),
                503,
                "unavailable",
                {"outcome": "not_applied"},
                "1",
            ),
            (
                OutcomeUnknown("the deadline passed", position="p", items_stored=3),
                504,
                "deadline",
                {"outcome": "unknown", "position": "p", "items_stored": 3},
                None,
            ),
            (
                NotReplicated("one of three", position="p", items=7, reached="node"),
                504,
                "ack_not_reached",
                {"outcome": "stored", "position": "p", "items": 7, "reached": "node"},
                None,
            ),
            (
                OutcomeUnknown("the deadline passed", position="p", items_stored=3, stamp=NOW + 5),
                504,
                "deadline",
                {"lastUpdateDt": "2023-11-14T22:13:20.000000005Z"},
                None,
            ),
            (
                NotReplicated("one of three", position="p", items=7, reached="node", stamp=NOW),
                504,
                "ack_not_reached",
                {"lastUpdateDt": "2023-11-14T22:13:20.000000000Z"},
                None,
            ),
            (NoAnswer("nobody answered"), 504, "no_answer", {"outcome": "unknown"}, None),
            (
                InvalidPosition("not ours"),
                400,
                "position_invalid",
                {"outcome": "not_applied"},
                None,
            ),
            (PositionLost("gone"), 410, "position_lost", {"outcome": "not_applied"}, None),
        ],
    )
    def test_refusals_of_the_store_are_told(
        self,
        call: Caller,
        store: MemoryStore,
        error: Refusal,
        status: int,
        code: str,
        more: dict[str, object],
        retry: str | None,
    ) -> None:
        store.error = error
        reply = call.post("/items", ONE)
        assert (reply.status, reply.json["code"]) == (status, code)
        assert ("lastUpdateDt" in reply.json) == ("lastUpdateDt" in more)
        assert reply.json.get("lastUpdateDt", "") in reply.json["detail"]
        assert reply.json["message"] == str(error)
        assert reply.json.items() >= more.items()
        assert reply.headers.get("retry-after") == retry

    def test_a_bug_is_logged_and_owned_up_to(
        self, call: Caller, store: MemoryStore, expected_failures: Any
    ) -> None:
        store.error = RuntimeError("oh no")
        reply = call.post("/items", ONE)
        assert (reply.status, reply.json["code"]) == (500, "internal")
        assert reply.json["outcome"] == "unknown"
        assert "oh no" not in reply.text.decode()
        assert len(expected_failures(RuntimeError)) == 1


class TestInPart:
    BODY = b'[{"ID":1,"tenant":"a"},{"ID":"2","tenant":"a"},{"ID":3,"deleted":true}]'

    def test_valid_items_are_stored_beside_invalid_ones_if_the_caller_wants_that(
        self, call: Caller, store: MemoryStore
    ) -> None:
        reply = call.post("/items?partial=1&ack=all&lastUpdateDt=1970-01-01T00:00:01Z", self.BODY)
        assert store.asked == [(Items([1, 3], ["a", None], [10**9, 10**9]), "all", None)]
        assert (reply.status, reply.json) == (
            207,
            {
                "status": "PARTIAL",
                "items": 2,
                "ack": "all",
                "position": "here",
                "invalid": 1,
                "errors": [
                    {"index": 1, "field": "ID", "message": "must be an integer from -2^63 to 2^63 - 1"}
                ],
            },
        )

    def test_if_all_are_valid_it_is_an_answer_like_any_other(self, call: Caller) -> None:
        reply = call.post("/items?partial=1", ONE)
        assert (reply.status, reply.json["status"], "invalid" in reply.json) == (200, "OK", False)

    def test_by_default_nothing_is_stored(self, call: Caller, store: MemoryStore) -> None:
        for query in ("", "?partial=0"):
            assert call.post(f"/items{query}", self.BODY).json["code"] == "invalid_item"
        assert store.asked == []

    def test_what_cannot_be_read_is_refused(self, call: Caller, store: MemoryStore) -> None:
        reply = call.post("/items?partial=1", b'[{"ID":1,"tenant":"a"}')
        assert (reply.status, reply.json["code"], store.asked) == (400, "malformed", [])

    def test_receipts_are_those_of_the_stored_items(self, call: Caller, store: MemoryStore) -> None:
        store.changes = Changes(["created", "deleted"], {"a": 1})
        reply = call.post("/items?partial=1&receipt=1", self.BODY)
        assert (reply.status, reply.json["receipts"]) == (207, ["created", "deleted"])


class TestReceipts:
    def test_are_given_if_they_are_asked_for(self, call: Caller, store: MemoryStore) -> None:
        reply = call.post("/items?receipt=1", ONE)
        assert store.asked.pop() == (Items([1], ["a"]), "node", None, CHANGES)
        assert reply.json == {
            "status": "OK",
            "items": 1,
            "ack": "node",
            "position": "here",
            "receipts": ["created"],
            "counts": {"a": 1},
        }
        for reply in (call.post("/items/delete?receipt=1", b"[1]"), call.get("/items/1?receipt=1", "DELETE")):
            assert reply.json["receipts"] == ["created"]
            assert store.asked.pop() == (Items([1], [None]), "node", None, CHANGES)

    def test_are_not_given_otherwise(self, call: Caller, store: MemoryStore) -> None:
        reply = call.post("/items?receipt=0", ONE)
        assert store.asked.pop() == (Items([1], ["a"]), "node", None)
        assert not reply.json.keys() & {"receipts", "counts", "complete", "missing"}
        assert call.post("/items?receipt=yes", ONE).json["code"] == "bad_parameter"

    def test_say_that_they_are_not_exact(self, call: Caller, store: MemoryStore) -> None:
        store.changes = Changes(["stale"], None, complete=False, missing=[3])
        reply = call.post("/items?receipt=1", ONE)
        assert reply.json.items() >= {"receipts": ["stale"], "complete": False, "missing": [3]}.items()
        assert "counts" not in reply.json

    def test_of_many_items_are_refused(self, store: MemoryStore) -> None:
        call = Caller(store, limits=HttpLimits(max_receipt_items=2))
        assert call.post("/items/delete?receipt=1", b"[1,2]").status == 200
        store.asked.clear()
        reply = call.post("/items/delete?receipt=1", b"[1,2,3]")
        assert (reply.status, reply.json["code"]) == (413, "too_many_items")
        assert (reply.json["outcome"], store.asked) == ("not_applied", [])

    def test_cannot_be_given_by_every_store(self, call: Caller, store: MemoryStore) -> None:
        store.error = NotSupportedHere("no node can")
        reply = call.post("/items?receipt=1", ONE)
        assert (reply.status, reply.json["code"], reply.json["outcome"]) == (
            501,
            "not_supported_here",
            "not_applied",
        )


class TestDelete:
    def test_answers_how_many_ids_were_named(self, call: Caller, store: MemoryStore) -> None:
        for reply in (
            call.post("/items/delete", b"[-9223372036854775808, 9223372036854775807]"),
            call.post("/items", b'[{"ID":1,"deleted":true},{"ID":2,"tenant":"a"}]'),
        ):
            assert (reply.status, reply.json["items"]) == (200, 2)
        reply = call.get("/items/-7", "DELETE")
        assert reply.json == {"status": "OK", "items": 1, "ack": "node", "position": "here"}
        assert store.tenants == {-(2**63): None, 2**63 - 1: None, 1: None, 2: "a", -7: None}

    def test_parameters_reach_the_store(self, call: Caller, store: MemoryStore) -> None:
        query = "ack=all&after=p&lastUpdateDt=1970-01-01T00:00:01Z"
        call.post(f"/items/delete?{query}", b"[1,1]")
        assert store.asked.pop() == (Items([1, 1], [None, None], [10**9, 10**9]), "all", "p")
        call.get(f"/items/9223372036854775807?{query}", "DELETE")
        assert store.asked.pop() == (Items([2**63 - 1], [None], [10**9]), "all", "p")

    def test_nothing_is_deleted_gladly(self, call: Caller) -> None:
        assert call.post("/items/delete", b"[]").json["items"] == 0

    @pytest.mark.parametrize(
        "segment", ["", "x", "1.0", "+1", "%2B1", "1e3", "9223372036854775808", "--1", "1" * 5_000, "%31x"]
    )
    def test_what_is_no_id_is_a_bad_path(self, call: Caller, store: MemoryStore, segment: str) -> None:
        reply = call.get(f"/items/{segment}", "DELETE")
        if segment:
            assert (reply.status, reply.json["code"]) == (400, "bad_path")
            assert reply.json["detail"] == "ID must be an integer from -2^63 to 2^63 - 1"
            assert reply.json["outcome"] == "not_applied"
        else:
            assert reply.status == 404
        assert store.asked == []

    def test_an_id_in_a_path_may_be_percent_encoded(self, call: Caller, store: MemoryStore) -> None:
        call.get("/items/%31%30", "DELETE")
        assert store.tenants == {10: None}

    @pytest.mark.parametrize(
        ("body", "detail"),
        [
            (b"", "the body is not JSON"),
            (b"5", "the body is not an array of IDs"),
            (b'{"ID":1}', "the body is not an array of IDs"),
            (b'["\xff"]', "the body is not UTF-8 (byte 2)"),
            (b"[" * 100_000, "the body is nested too deeply"),
        ],
    )
    def test_a_malformed_body_is_refused(
        self, call: Caller, store: MemoryStore, body: bytes, detail: str
    ) -> None:
        reply = call.post("/items/delete", body)
        assert (reply.status, reply.json["code"], reply.json["outcome"]) == (400, "malformed", "not_applied")
        assert reply.json["detail"].startswith(detail)
        assert store.asked == []

    def test_what_is_no_id_is_named(self, call: Caller, store: MemoryStore) -> None:
        reply = call.post("/items/delete", b'[1,"2",3.0,null,{"ID":1},9223372036854775808]')
        assert (reply.status, reply.json["code"], reply.json["outcome"]) == (
            422,
            "invalid_item",
            "not_applied",
        )
        assert [each["index"] for each in reply.json["errors"]] == [1, 2, 3, 4, 5]
        assert len(call.post("/items/delete", b"[" + b"null," * 200 + b"1]").json["errors"]) == 100
        reply = call.post("/items/delete", b"[1," + b"9" * 5_000 + b"]")
        assert reply.json["errors"] == [
            {"index": 1, "field": "", "message": "contains a number that is out of range"}
        ]
        assert store.asked == []

    @pytest.mark.parametrize("body", [b"[1,2,3]", b'[1,2,"3"]'])
    def test_the_limit_of_items_is_stated(self, store: MemoryStore, body: bytes) -> None:
        reply = Caller(store, limits=HttpLimits(max_items=2)).post("/items/delete", body)
        assert (reply.status, reply.json["code"]) == (413, "too_many_items")
        assert store.asked == []

    @pytest.mark.parametrize("target", ["/items/delete", "/items/1"])
    def test_a_bug_is_logged_and_the_outcome_unknown(
        self, call: Caller, store: MemoryStore, target: str, expected_failures: Any
    ) -> None:
        store.error = RuntimeError("oh no")
        reply = call.get(target, "DELETE") if target == "/items/1" else call.post(target, b"[1]")
        assert (reply.status, reply.json["code"], reply.json["outcome"]) == (500, "internal", "unknown")
        assert len(expected_failures(RuntimeError)) == 1


class TestCount:
    def test_counts(self, call: Caller) -> None:
        call.post("/items", ONE)
        reply = call.get("/items/a/count")
        assert (reply.status, reply.json) == (
            200,
            {"counter": 1, "tenant": "a", "position": "here"},
        )
        assert call.get("/items/b/count").json["counter"] == 0

    def test_parameters_reach_the_store(self, call: Caller, store: MemoryStore) -> None:
        for consistency in ("exact", "available", "eventual"):
            assert call.get(f"/items/a/count?after=p&consistency={consistency}").status == 200
            assert store.asked.pop() == ("a", consistency, "p")

    def test_the_default_consistency_can_be_set(self, store: MemoryStore) -> None:
        Caller(store, consistency="eventual").get("/items/a/count")
        assert store.asked == [("a", "eventual", None)]

    def test_an_incomplete_number_says_so(self, call: Caller, store: MemoryStore) -> None:
        store.complete = False
        reply = call.get("/items/a/count?consistency=available")
        assert (reply.status, reply.json) == (
            200,
            {
                "counter": 0,
                "tenant": "a",
                "position": "here",
                "complete": False,
                "missing": [2, 3],
            },
        )

    @pytest.mark.parametrize("so_far", [17, None])
    def test_what_cannot_be_exact_is_refused(
        self, call: Caller, store: MemoryStore, so_far: int | None
    ) -> None:
        store.error = Incomplete("node 3 is away", counter_so_far=so_far, missing=[3], retry_after=2)
        reply = call.get("/items/a/count")
        assert (reply.status, reply.json["code"]) == (503, "incomplete")
        assert reply.json["counter_so_far"] == so_far
        assert reply.json["missing"] == [3]
        assert reply.headers["retry-after"] == "2"
        assert "outcome" not in reply.json

    def test_bad_positions_are_refused(self, call: Caller, store: MemoryStore) -> None:
        store.error = InvalidPosition("not ours")
        assert call.get("/items/a/count?after=x").status == 400
        store.error = PositionLost("gone")
        reply = call.get("/items/a/count?after=x")
        assert reply.status == 410
        assert "outcome" not in reply.json

    @pytest.mark.parametrize(
        ("segment", "tenant"),
        [
            ("..", ".."),
            (".", "."),
            ("%2E%2E", ".."),
            ("a%2Fb", "a/b"),
            ("%2F", "/"),
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("%09", "\t"),
            ("%00", "\0"),
            ("%F0%9F%98%80", "😀"),
            ("%25", "%"),
            ("%252F", "%2F"),
            ("a%3Fb%23", "a?b#"),
            ("a;b=c", "a;b=c"),
            ("count", "count"),
            ("<script>", "<script>"),
        ],
    )
    def test_any_text_names_a_tenant(
        self, call: Caller, store: MemoryStore, segment: str, tenant: str
    ) -> None:
        store.tenants[1] = tenant
        reply = call.get(f"/items/{segment}/count")
        assert (reply.json["tenant"], reply.json["counter"]) == (tenant, 1)

    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50))
    def test_every_tenant_comes_through_the_path(self, tenant: str) -> None:
        call = Caller(MemoryStore({1: tenant}))
        assert call.get(f"/items/{quote(tenant, safe='')}/count").json["counter"] == 1

    @pytest.mark.parametrize("segment", ["%", "%z", "%zz", "a%2", "%FF", "%ED%A0%80", "%C3"])
    def test_what_stands_for_no_text_is_refused(self, call: Caller, segment: str) -> None:
        reply = call.get(f"/items/{segment}/count")
        assert (reply.status, reply.json["code"]) == (400, "bad_path")


@pytest.mark.parametrize(
    "query",
    [
        "ack=most",
        "ack=",
        "ack",
        "ack=NODE",
        "ack=node&ack=node",
        "after=a&after=b",
        "after=",
        "ack=%zz",
        "after=%FF",
        "%FF=a",
        "akc=all",
        "consistency=exact",
    ],
)
def test_bad_parameters_of_a_store_are_refused(call: Caller, store: MemoryStore, query: str) -> None:
    reply = call.post(f"/items?{query}", ONE)
    assert (reply.status, reply.json["code"]) == (400, "bad_parameter")
    assert reply.json["outcome"] == "not_applied"
    assert store.asked == []


@pytest.mark.parametrize(
    "query", ["consistency=strong", "consistency=exact&consistency=exact", "after=", "ack=all"]
)
def test_bad_parameters_of_a_count_are_refused(call: Caller, store: MemoryStore, query: str) -> None:
    reply = call.get(f"/items/a/count?{query}")
    assert (reply.status, reply.json["code"]) == (400, "bad_parameter")
    assert store.asked == []


@pytest.mark.parametrize("query", ["verbose", "a=1&b=2", "after=p", "node=1", "%zz", "=", "ack=all"])
@pytest.mark.parametrize("path", ["/cluster", "/metrics", "/readyz", "/openapi.json"])
def test_paths_without_parameters_refuse_any(call: Caller, store: MemoryStore, path: str, query: str) -> None:
    store.ready = Readiness(ready=False, exact=False, missing=[])
    store.error = RuntimeError("nobody is to be asked")
    reply = call.get(f"{path}?{query}")
    assert (reply.status, reply.json["code"]) == (400, "bad_parameter")
    assert call.get(f"{path}?{query}", "HEAD").status == 400


def test_the_refusal_of_a_parameter_says_what_there_is(call: Caller) -> None:
    assert call.get("/readyz?verbose").json["detail"] == "unknown parameter 'verbose'; this path has none"
    assert call.get("/items/a/count?ack=all").json["detail"].endswith("; this path has consistency, after")


def test_empty_parameters_are_none(call: Caller) -> None:
    assert call.get("/healthz?&").status == 200
    assert call.get("/items/a/count?").status == 200
    assert call.get("/items/a/count?&&").status == 200


class TestStatus:
    def test_the_cluster_is_shown_whole(self, call: Caller, operator: MemoryOperator) -> None:
        node = NodeStatus(
            id=0,
            address="127.0.0.1:8090",
            pid=123,
            state="up",
            role="primary",
            run="1700000000000000000",
            items=5,
            items_taken=3,
            applied={"0": {"1700000000000000000": 7}},
            durable={},
            lag=0,
            refuses="disk full",
        )
        operator.cluster = ClusterStatus(
            primary=0,
            nodes=[node],
            clock_skew_ms=12,
            cluster="c",
            lost=[{"node": 1, "run": "1", "last": 2}],
            warnings=["node 3 cannot start"],
        )
        reply = call.get("/cluster")
        assert (reply.status, reply.json) == (200, asdict(operator.cluster))
        assert next(iter(reply.json)) == "primary"

    @pytest.mark.parametrize("path", ["/healthz", "/livez"])
    def test_the_process_lives(self, call: Caller, path: str) -> None:
        for query in ("", "?verbose=0"):
            assert call.get(f"{path}{query}").json == {"status": "OK"}
        reply = call.get(f"{path}?verbose=2")
        assert (reply.status, reply.json["code"]) == (400, "bad_parameter")

    @pytest.mark.parametrize("query", ["verbose", "verbose=1"])
    def test_what_health_consists_of(self, call: Caller, store: MemoryStore, query: str) -> None:
        store.ready = Readiness(ready=False, exact=False, missing=[1, 2])
        process = {"name": "process", "ok": True, "detail": f"dcounter {__version__} answers"}
        assert call.get(f"/livez?{query}").json == {"status": "OK", "checks": [process]}
        reply = call.get(f"/healthz?{query}")
        assert (reply.status, reply.json["status"]) == (200, "OK")
        assert reply.json["checks"][0] == process
        assert [(each["name"], each["ok"]) for each in reply.json["checks"][1:]] == [
            *(("stopping", True), ("ready", False), ("exact", False))
        ]
        assert "nodes 1, 2" in reply.json["checks"][3]["detail"]
        store.ready = Readiness(ready=True, exact=True, missing=[])
        assert all(each["ok"] for each in call.get(f"/healthz?{query}").json["checks"])

    def test_a_daemon_that_is_about_to_stop_says_so_and_answers(self, call: Caller) -> None:
        assert call.get("/readyz").status == 200
        call.drain.begin()
        for path in ("/healthz", "/healthz?verbose", "/readyz"):
            reply = call.get(path)
            assert (reply.status, reply.json["code"]) == (503, "stopping")
        assert call.get("/livez").json == {"status": "OK"}
        assert call.get("/items/a/count").status == 200

    @pytest.mark.parametrize(("exact", "missing"), [(True, []), (False, [3])])
    def test_is_ready(self, call: Caller, store: MemoryStore, exact: bool, missing: list[int]) -> None:
        store.ready = Readiness(ready=True, exact=exact, missing=missing, warnings=["node 3 cannot start"])
        reply = call.get("/readyz")
        assert reply.status == 200
        assert reply.json == {"exact": exact, "missing": missing, "warnings": ["node 3 cannot start"]}

    def test_is_not_ready(self, call: Caller, store: MemoryStore) -> None:
        store.ready = Readiness(ready=False, exact=False, missing=[0, 1], warnings=["no node can start"])
        reply = call.get("/readyz")
        assert (reply.status, reply.json["code"]) == (503, "not_ready")
        assert (reply.json["exact"], reply.json["missing"]) == (False, [0, 1])
        assert reply.json["warnings"] == ["no node can start"]
        assert "no node can start" in reply.json["detail"]
        assert reply.headers["retry-after"] == "1"

    def test_a_bug_where_nothing_was_to_be_stored(
        self, call: Caller, operator: MemoryOperator, expected_failures: Any
    ) -> None:
        operator.error = RuntimeError("oh no")
        reply = call.get("/cluster")
        assert reply.status == 500
        assert "outcome" not in reply.json
        assert len(expected_failures(RuntimeError)) == 1


TOKEN = OperatorToken("/data/operator-token", b"0123456789abcdef")
SHOWN = {"Authorization": "Bearer 0123456789abcdef"}


class TestOperating:
    @pytest.fixture
    def call(self, store: MemoryStore, operator: MemoryOperator) -> Caller:
        return Caller(store, operator=operator, token=TOKEN)

    def test_restarts_a_node(self, call: Caller, operator: MemoryOperator) -> None:
        reply = call.post("/cluster/restart", b'{"node":1}', SHOWN)
        assert (reply.status, reply.json) == (200, {"status": "OK", "node": 1})
        assert operator.restarted == [1]

    def test_an_unknown_node(self, call: Caller) -> None:
        reply = call.post("/cluster/restart", b'{"node":2}', SHOWN)
        assert (reply.status, reply.json["code"]) == (404, "unknown_node")

    @pytest.mark.parametrize(
        "body",
        [b"", b"null", b"{}", b'{"node":"1"}', b'{"node":1,"x":1}', b'{"\xff":1}', b"[" * 9_999],
    )
    def test_a_malformed_body(self, call: Caller, body: bytes) -> None:
        reply = call.post("/cluster/restart", body, SHOWN)
        assert (reply.status, reply.json["code"]) == (400, "malformed")

    def test_a_daemon_that_cannot(self, store: MemoryStore) -> None:
        reply = Caller(store, token=TOKEN).post("/cluster/restart", b'{"node":1}', SHOWN)
        assert (reply.status, reply.json["code"]) == (409, "not_supported")

    def test_removes_a_node(self, call: Caller, operator: MemoryOperator) -> None:
        reply = call.post("/cluster/remove", b'{"node":1}', SHOWN)
        assert (reply.status, reply.json) == (200, {"status": "OK", "node": 1})
        assert operator.removed == [1]

    def test_the_old_name_says_that_it_goes(self, call: Caller, operator: MemoryOperator) -> None:
        for node, status in [(1, 200), (0, 409)]:
            reply = call.post("/cluster/forget", b'{"node":%d}' % node, SHOWN)
            assert reply.status == status
            assert reply.headers["deprecation"] == "@1795910400"
            assert reply.headers["link"] == '</cluster/remove>; rel="successor-version"'
        assert operator.removed == [1]
        assert "deprecation" not in call.post("/cluster/remove", b'{"node":1}', SHOWN).headers

    def test_a_node_that_is_up_is_not_removed(self, call: Caller, operator: MemoryOperator) -> None:
        reply = call.post("/cluster/remove", b'{"node":0}', SHOWN)
        assert (reply.status, reply.json["code"]) == (409, "node_is_up")
        assert operator.removed == []


@pytest.mark.parametrize("path", ["/cluster/restart", "/cluster/remove"])
class TestWhoOperates:
    @pytest.fixture
    def operator(self) -> Iterator[MemoryOperator]:
        operator = MemoryOperator()
        yield operator
        assert operator.restarted == operator.removed == []

    @pytest.fixture
    def call(self, store: MemoryStore, operator: MemoryOperator) -> Caller:
        return Caller(store, operator=operator, token=TOKEN)

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer 0123456789abcdeX"},
            {"Authorization": "Basic 0123456789abcdef"},
            {"Authorization": "Bearer 0123456789abcdef\r\nAuthorization: Bearer 0123456789abcdef"},
            # What proxies add, and what they are given.
            {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Via": "1.1 x"},
            {"X-Forwarded-Proto": "https"},
        ],
    )
    def test_it_needs_the_token(self, call: Caller, path: str, headers: dict[str, str]) -> None:
        reply = call.post(path, b'{"node":1}', headers)
        assert (reply.status, reply.json["code"]) == (403, "forbidden")
        # The file is named, its content is not.
        assert "/data/operator-token" in reply.json["detail"]
        assert "0123456789abcde" not in reply.text.decode()

    @pytest.mark.parametrize(
        "peer", [IPv4Address("TCP", "203.0.113.7", 1), IPv6Address("TCP", "::ffff:203.0.113.7", 1)]
    )
    def test_the_token_is_not_enough_elsewhere(self, call: Caller, path: str, peer: object) -> None:
        call.peer = peer
        reply = call.post(path, b'{"node":1}', SHOWN)
        assert (reply.status, reply.json["code"]) == (403, "forbidden")
        assert "only callers on the daemon's own machine" in reply.json["detail"]
        assert "operator-token" not in reply.json["detail"]

    def test_a_daemon_without_a_token_says_how_to_get_one(
        self, store: MemoryStore, operator: MemoryOperator, path: str
    ) -> None:
        for headers in ({}, SHOWN, {"Authorization": "Bearer "}):
            reply = Caller(store, operator=operator).post(path, b'{"node":1}', headers)
            assert (reply.status, reply.json["code"]) == (403, "forbidden")
            assert "--operator-token-file FILE" in reply.json["detail"]

    def test_parameters_are_refused(self, call: Caller, path: str) -> None:
        reply = call.post(f"{path}?node=1", b'{"node":1}', SHOWN)
        assert (reply.status, reply.json["code"]) == (400, "bad_parameter")


PLACES = [
    ("POST", "/items"),
    ("GET", "/items/a/count"),
    ("GET", "/items/%61/count"),
    ("HEAD", "/items/a/count"),
    ("GET", "/cluster"),
    ("POST", "/cluster/restart"),
    ("POST", "/cluster/remove"),
    ("POST", "/cluster/forget"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("DELETE", "/items"),
    ("OPTIONS", "/items"),
    ("GET", "//"),
]


@pytest.mark.parametrize(("method", "path"), PLACES)
class TestWebPages:
    """
    Pages elsewhere reach nothing, whatever they ask for.
    """

    def ask(self, call: Caller, method: str, path: str, headers: dict[str, str], body: bytes = ONE) -> Reply:
        return call.ask(method, path, body if method == "POST" else b"", headers)

    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({"Host": "localhost:8085", "Origin": "https://evil.example"}, "foreign_origin"),
            ({"Host": "localhost:8085", "Origin": "null"}, "foreign_origin"),
            ({"Host": "evil.example:8085", "Origin": "http://evil.example:8085"}, "unknown_host"),
            ({"Host": "evil.example:8085"}, "unknown_host"),
        ],
    )
    def test_are_refused(
        self, call: Caller, store: MemoryStore, method: str, path: str, headers: dict[str, str], code: str
    ) -> None:
        store.error = RuntimeError("nobody is to be asked")
        reply = self.ask(call, method, path, headers)
        assert reply.status == 403
        assert reply.headers["connection"] == "close"
        if method != "HEAD":
            assert reply.json["code"] == code
            assert reply.json["outcome"] == "not_applied"

    def test_of_our_own_are_answered(self, call: Caller, method: str, path: str) -> None:
        own = {"Host": "localhost:8085", "Origin": "http://localhost:8085"}
        assert self.ask(call, method, path, own).status == self.ask(call, method, path, {}).status


@pytest.mark.parametrize("path", ["/items", "/cluster/restart", "/cluster/remove"])
def test_encoded_bodies_are_refused(call: Caller, store: MemoryStore, path: str) -> None:
    reply = call.post(path, gzip.compress(ONE), {"Content-Encoding": "gzip"})
    assert (reply.status, reply.json["code"]) == (415, "unsupported_encoding")
    assert reply.json["outcome"] == "not_applied"
    assert "'gzip'" in reply.json["detail"]
    assert reply.headers["accept-encoding"] == "identity"
    assert store.asked == []
    assert call.post("/items", ONE, {"Content-Encoding": "identity"}).status == 200


class TestPaths:
    @pytest.mark.parametrize(
        "target",
        [
            "/index.html",
            "/dashboard",
            "/dashboard/",
            "/dashboard/..%2Fopenapi.py",
            "/item",
            "/items/",
            "/items/a/",
            "/items//count",
            "/items/a/count/",
            "/items/a/b/count",
            "/items%2Fa/count",
            "//items/a/count",
            "//healthz",
            "/ITEMS",
            "/cluster/",
        ],
    )
    def test_there_is_nothing_there(self, call: Caller, target: str) -> None:
        reply = call.get(target)
        assert (reply.status, reply.json["code"]) == (404, "unknown_path")
        assert "location" not in reply.headers

    @pytest.mark.parametrize(
        ("method", "target", "allow"),
        [
            ("GET", "/items", "POST"),
            ("HEAD", "/items", "POST"),
            ("DELETE", "/items/a/count", "GET, HEAD"),
            ("TRACE", "/cluster", "GET, HEAD"),
            ("OPTIONS", "/healthz", "GET, HEAD"),
            ("PROPFIND", "/readyz", "GET, HEAD"),
            ("GET", "/cluster/restart", "POST"),
            ("PUT", "/openapi.json", "GET, HEAD"),
            ("PUT", "/items/delete", "POST"),
            ("PUT", "/items/lookup?x=1", "POST"),
            ("PUT", "/items/1", "DELETE, GET, HEAD"),
            # These are no items whose IDs are words.
            ("GET", "/items/lookup", "POST"),
            ("HEAD", "/items/lookup", "POST"),
            ("GET", "/items/lookup?x=1", "POST"),
            ("DELETE", "/items/delete", "POST"),
            ("GET", "http://localhost/items/delete", "POST"),
        ],
    )
    def test_the_wrong_method(self, call: Caller, method: str, target: str, allow: str) -> None:
        reply = call.get(target, method)
        assert reply.status == 405
        assert reply.headers["allow"] == allow
        if method != "HEAD":
            assert reply.json["code"] == "wrong_method"

    def test_methods_that_http_does_not_have(self, call: Caller) -> None:
        reply = call.get("/readyz", "BREW")
        assert (reply.status, reply.json["code"]) == (501, "unknown_method")

    @pytest.mark.parametrize("target", ["/items/a/count", "/cluster", "/healthz", "/readyz", "/openapi.json"])
    def test_head_is_get_without_the_body(self, call: Caller, target: str) -> None:
        reply, head = call.get(target), call.get(target, "HEAD")
        assert (head.status, head.text) == (200, b"")
        assert head.headers["content-length"] == str(len(reply.text))
        assert head.headers["content-type"] == reply.headers["content-type"]


@pytest.mark.parametrize("lone", [r"\ud800", r"\udfff", r"\ud83dx", r"\ud800\ud800"])
@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/items", '[{"ID":1,"tenant":"LONE"}]'),
        ("/items", '[{"ID":1,"tenant":"a","LONE":1,"Id":2}]'),
        ("/items", '[{"ID":1,"tenant":"a","lastUpdateDt":"LONE"}]'),
        ("/items?partial=1", '[{"ID":1,"tenant":"LONE"},{"ID":2,"tenant":"b"}]'),
        ("/items?partial=1", '[{"ID":1,"Tenant":"LONE"},{"ID":"2","tenant":"b"}]'),
        ("/items/delete", '["LONE"]'),
        ("/items/lookup", '["LONE"]'),
        ("/counts", '{"tenants":["LONE"]}'),
        ("/cluster/restart", '{"node":"LONE"}'),
    ],
)
def test_half_of_a_pair_of_surrogates_is_refused(call: Caller, target: str, body: str, lone: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN.value.decode()}"}
    reply = call.post(target, body.replace("LONE", lone), headers)
    assert 400 <= reply.status < 500
    assert reply.json["outcome"] == "not_applied"


@pytest.mark.parametrize("target", ["/items/%ED%A0%80/count", "/items/a/count?after=%ED%A0%80"])
def test_a_surrogate_as_bytes_is_refused(call: Caller, target: str) -> None:
    assert call.get(target).status == 400


def test_each_refusal_has_a_status_and_a_code_of_its_own() -> None:
    found = set(kinds())
    assert all(400 <= kind.status < 600 and kind.title for kind in found)
    # Each can be met on some route, or where there is none.
    assert found - {problems.WrongMethod, problems.UnknownMethod} == {
        kind for route in ROUTES for kind in refusals(route)
    }
    assert len({kind.code for kind in found}) == len(found)
    # What tells when to come again may be sent again.
    assert all(kind.retryable for kind in found if kind.retry_after is not None)
