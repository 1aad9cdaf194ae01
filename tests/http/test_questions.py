"""
Questions about items and tenants, over a store in memory.
"""

from typing import Any, get_args
from urllib.parse import quote

import msgspec
import pytest

from dcounter.erasing import Erasing
from dcounter.errors import NotSupportedHere
from dcounter.events import Wanted, Watchable
from dcounter.http.limits import HttpLimits
from dcounter.http.server import make_api
from dcounter.http.table import ROUTES
from dcounter.store import Capability, Questions
from dcounter.testing.http import MemoryStore
from tests.http.test_routes import SHORT, ByKlein, Caller

NOW = 1_700_000_000 * 10**9
ITEMS = (
    '[{"ID":1,"tenant":"a","lastUpdateDt":"2023-01-31T12:00:00.000000001Z"},'
    '{"ID":-5,"tenant":"b/ü"},{"ID":9223372036854775807,"tenant":"a"}]'
)
FIRST = {"ID": 1, "tenant": "a", "lastUpdateDt": "2023-01-31T12:00:00.000000001Z"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: NOW)


@pytest.fixture(params=[SHORT, ByKlein()])
def call(request: pytest.FixtureRequest, store: MemoryStore) -> Caller:
    caller = Caller(store, way=request.param)
    assert caller.post("/items", ITEMS).status == 200
    return caller


READS: list[tuple[str, str, str]] = [
    ("GET", "/items/1", ""),
    ("POST", "/items/lookup", "[1]"),
    ("POST", "/counts", '{"tenants":["a"]}'),
    ("GET", "/counts?prefix=a", ""),
    ("GET", "/tenants?sort=-count&limit=1", ""),
    ("GET", "/tenants/a/items?limit=1", ""),
    ("GET", "/stats", ""),
]
"""
A request of every kind.
"""


def test_all_kinds_of_questions_are_tested() -> None:
    # These have tests of their own: an export is no JSON; audits and events are asked at no position.
    others = {("GET", "/export"), ("GET", "/audit"), ("GET", "/events")}
    asked = {(method, path.partition("?")[0]) for method, path, _ in READS}
    patterns = {(route.method, route.path) for route in ROUTES if route.needs and not route.changes} - others
    assert len(asked) == len(READS) == len(patterns)


class TestEvery:
    @pytest.mark.parametrize(("method", "path", "body"), READS)
    def test_is_answered_at_a_position(self, call: Caller, method: str, path: str, body: str) -> None:
        reply = call.ask(method, path, body.encode(), {})
        assert reply.status == 200
        assert {"complete", "missing"}.isdisjoint(reply.json)
        mark = "&" if "?" in path else "?"
        again = call.ask(method, f"{path}{mark}after={reply.json['position']}", body.encode(), {})
        assert again.json == reply.json
        refused = call.ask(method, f"{path}{mark}after=none", body.encode(), {})
        assert (refused.status, refused.json["code"]) == (400, "position_invalid")

    @pytest.mark.parametrize(("method", "path", "body"), READS)
    def test_is_refused_if_it_is_not_exact(
        self, call: Caller, store: MemoryStore, method: str, path: str, body: str
    ) -> None:
        store.missing = (2, 3)
        refused = call.ask(method, path, body.encode(), {})
        assert (refused.status, refused.json["code"]) == (503, "incomplete")
        assert (refused.json["missing"], refused.json["counter_so_far"]) == ([2, 3], None)
        # It changes nothing, so it has no outcome.
        assert "outcome" not in refused.json
        mark = "&" if "?" in path else "?"
        reply = call.ask(method, f"{path}{mark}consistency=available", body.encode(), {})
        assert (reply.status, reply.json["complete"], reply.json["missing"]) == (200, False, [2, 3])
        reply = call.ask(method, f"{path}{mark}consistency=eventual", body.encode(), {})
        assert (reply.status, "complete" in reply.json) == (200, False)

    @pytest.mark.parametrize(("method", "path", "body"), READS)
    def test_is_a_capability(self, store: MemoryStore, method: str, path: str, body: str) -> None:
        store.capabilities = frozenset()
        call = Caller(store)
        assert call.get("/openapi.json").json["paths"].keys() == {
            route.path for route in ROUTES if route.needs is None
        }
        reply = call.ask(method, path, body.encode(), {})
        assert (reply.status, reply.json["code"]) == (501, "not_supported_here")


def test_receipts_are_a_capability(store: MemoryStore) -> None:
    store.capabilities = frozenset()
    refused = Caller(store).ask("POST", "/items?receipt=1", b'[{"ID":1,"tenant":"a"}]', {})
    assert (refused.status, refused.json["code"]) == (501, "not_supported_here")
    assert refused.json["outcome"] == "not_applied"
    assert store.tenants == {}
    assert Caller(store).ask("POST", "/items?receipt=0", b'[{"ID":1,"tenant":"a"}]', {}).status == 200


def test_what_a_store_does_not_define_it_cannot_do() -> None:
    class Nothing(Questions, Erasing, Watchable):
        pass

    assert not Nothing().capabilities
    assert all(hasattr(Nothing, each) for each in {*get_args(Capability)} - {"receipts"})
    calls: list[Any] = [
        Nothing().look_up([1], consistency="exact"),
        Nothing().count_many(["a"], consistency="exact"),
        Nothing().count_prefix("a", consistency="exact"),
        Nothing().list_tenants(order="name", limit=1, consistency="exact"),
        Nothing().list_items("a", limit=1, consistency="exact"),
        Nothing().statistics(consistency="exact"),
        Nothing().erase("a", ack="node"),
        Nothing().export(deleted=False, consistency="exact"),
        Nothing().audit(),
        Nothing().watch(Wanted()),
    ]
    for each in calls:
        with pytest.raises(NotSupportedHere):
            each.send(None)


class TestItem:
    def test_is_shown(self, call: Caller) -> None:
        reply = call.get("/items/1")
        assert (reply.status, reply.json) == (200, {**FIRST, "position": reply.json["position"]})
        reply = call.get("/items/-5")
        assert reply.json["tenant"] == "b/ü"
        assert reply.json["lastUpdateDt"] == "2023-11-14T22:13:20.000000000Z"
        assert call.get("/items/9223372036854775807").status == 200

    def test_that_no_tenant_owns_is_unknown(self, call: Caller, store: MemoryStore) -> None:
        reply = call.get("/items/7")
        assert (reply.status, reply.json["code"]) == (404, "unknown_item")
        assert "complete" not in reply.json
        assert call.get(f"/items/7?after={reply.json['position']}").status == 404
        store.missing = (2,)
        assert call.get("/items/7").status == 503
        reply = call.get("/items/7?consistency=available")
        assert (reply.status, reply.json["complete"], reply.json["missing"]) == (404, False, [2])

    @pytest.mark.parametrize(
        "text",
        ["x", "1.0", "9223372036854775808", "-9223372036854775809", "1" * 500, "%2B1", "1_0"],
    )
    def test_has_an_integer_as_its_id(self, call: Caller, text: str) -> None:
        reply = call.get(f"/items/{quote(text, safe='%')}")
        assert (reply.status, reply.json["code"]) == (400, "bad_path")
        assert "must be an integer" in reply.json["detail"]


class TestLookUp:
    def test_tells_items_and_unknown_ids_in_the_order_asked(self, call: Caller) -> None:
        reply = call.post("/items/lookup", "[7,9223372036854775807,1,8,1]")
        assert [each["ID"] for each in reply.json["items"]] == [9223372036854775807, 1, 1]
        assert reply.json["items"][1] == FIRST
        assert reply.json["unknown"] == [7, 8]
        assert call.post("/items/lookup", "[]").json["items"] == []

    @pytest.mark.parametrize("body", ["", "{}", "1", "null", "[1", "[1]x", "[" * 100_000, '{"1":2}'])
    def test_takes_an_array(self, call: Caller, body: str) -> None:
        reply = call.post("/items/lookup", body)
        assert (reply.status, reply.json["code"]) == (400, "malformed")

    def test_says_which_ids_are_invalid(self, call: Caller) -> None:
        reply = call.post("/items/lookup", '[1,"2",3.5,true,null,9223372036854775808,-9223372036854775808]')
        assert (reply.status, reply.json["code"]) == (422, "invalid_item")
        assert [each["index"] for each in reply.json["errors"]] == [1, 2, 3, 4, 5]
        assert len(call.post("/items/lookup", f"[{','.join(['null'] * 200)}]").json["errors"]) == 100

    def test_is_bounded(self, call: Caller) -> None:
        assert call.post("/items/lookup", f"[{','.join(['1'] * 1_000)}]").status == 200
        reply = call.post("/items/lookup", f"[{','.join(['1'] * 1_001)}]")
        assert (reply.status, reply.json["code"]) == (413, "too_many_items")


class TestCounts:
    def test_are_in_the_order_asked(self, call: Caller) -> None:
        reply = call.post("/counts", '{"tenants":["c","b/ü","a","a"]}')
        assert reply.json["counts"] == [
            {"tenant": "c", "counter": 0},
            {"tenant": "b/ü", "counter": 1},
            {"tenant": "a", "counter": 2},
            {"tenant": "a", "counter": 2},
        ]

    @pytest.mark.parametrize(
        "body", ["", "[]", "null", "{}", '{"tenants":"a"}', '{"tenants":["a"],"more":1}', '{"tenants":null}']
    )
    def test_take_a_list_of_tenants(self, call: Caller, body: str) -> None:
        reply = call.post("/counts", body)
        assert (reply.status, reply.json["code"]) == (400, "malformed")

    def test_say_which_names_are_invalid(self, call: Caller) -> None:
        names = ["", "a", 1, None, "ü" * 128, "ü" * 129, "x" * 256]
        reply = call.post("/counts", msgspec.json.encode({"tenants": names}))
        assert (reply.status, reply.json["code"]) == (422, "invalid_item")
        assert [each["index"] for each in reply.json["errors"]] == [0, 2, 3, 5]

    def test_are_bounded(self, store: MemoryStore) -> None:
        call = Caller(store, limits=HttpLimits(max_listed=2))
        assert call.post("/counts", '{"tenants":["a","b"]}').status == 200
        assert call.post("/counts", '{"tenants":["a","b","c"]}').status == 413


TENANTS = ("a", "a/x", "a/y", "b", "é")


@pytest.fixture
def many(call: Caller) -> Caller:
    """
    Tenants of one to five items, those with larger names have more; "a" and "b/ü" have their own besides.
    """
    items = [{"ID": 100 * n + i, "tenant": tenant} for n, tenant in enumerate(TENANTS) for i in range(n + 1)]
    assert call.post("/items", msgspec.json.encode(items)).status == 200
    return call


class TestPrefix:
    def test_sums(self, many: Caller) -> None:
        reply = many.get("/counts?prefix=a%2F")
        assert reply.json == {"prefix": "a/", "counter": 5, "tenants": 2, "position": reply.json["position"]}
        assert [many.get("/counts").json[each] for each in ("prefix", "counter", "tenants")] == ["", 18, 6]
        assert many.get("/counts?prefix=nobody").json["counter"] == 0

    def test_an_empty_one_is_that_of_all(self, many: Caller) -> None:
        for path in ("/counts", "/tenants"):
            assert many.get(f"{path}?prefix=").json == many.get(path).json
            assert many.get(f"{path}?prefix=&prefix=").json["code"] == "bad_parameter"
        # What else may not be empty stays so.
        assert many.get("/tenants?cursor=").json["code"] == "bad_parameter"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/items/lookup", "[1.5]"),
        ("/items/lookup", "[1e999]"),
        ("/counts", '{"tenants":[""]}'),
        ("/counts", '{"tenants":[1]}'),
    ],
)
def test_a_question_that_is_refused_would_have_stored_nothing_anyway(
    many: Caller, path: str, body: str
) -> None:
    refused = many.post(path, body)
    assert (refused.status, refused.json["code"]) == (422, "invalid_item")
    assert "stored" not in refused.json["detail"]


class TestTenants:
    def walk(self, call: Caller, query: str) -> list[tuple[str, int]]:
        """
        All pages of a list.
        """
        found: list[tuple[str, int]] = []
        cursor = ""
        while True:
            reply = call.get(f"/tenants?{query}{cursor}")
            assert reply.status == 200
            found += [(each["tenant"], each["counter"]) for each in reply.json["tenants"]]
            if "cursor" not in reply.json:
                return found
            cursor = f"&cursor={reply.json['cursor']}"

    @pytest.mark.parametrize("limit", [1, 2, 5, 6, 1_000])
    @pytest.mark.parametrize("prefix", ["", "a", "a/", "é", "nobody"])
    def test_are_listed_page_by_page(self, many: Caller, limit: int, prefix: str) -> None:
        counts = {"a": 3, "a/x": 2, "a/y": 3, "b": 4, "b/ü": 1, "é": 5}
        expected = [(name, counts[name]) for name in sorted(counts) if name.startswith(prefix)]
        query = f"limit={limit}" + (f"&prefix={quote(prefix)}" if prefix else "")
        assert self.walk(many, query) == self.walk(many, f"sort=name&{query}") == expected
        assert self.walk(many, f"sort=-count&{query}") == sorted(expected, key=lambda each: -each[1])

    def test_that_do_not_change_are_neither_skipped_nor_repeated(self, many: Caller) -> None:
        first = many.get("/tenants?limit=2").json
        assert [each["tenant"] for each in first["tenants"]] == ["a", "a/x"]
        many.post("/items", '[{"ID":1000,"tenant":"0"},{"ID":100,"tenant":"z"},{"ID":101,"tenant":"z"}]')
        second = many.get(f"/tenants?limit=9&cursor={first['cursor']}").json
        assert [each["tenant"] for each in second["tenants"]] == ["a/y", "b", "b/ü", "z", "é"]

    def test_one_is_shown_as_a_count(self, many: Caller) -> None:
        assert many.get("/tenants/a%2Fx").json == many.get("/items/a%2Fx/count").json
        assert many.get("/tenants/a%2Fx").json["counter"] == 2
        assert many.get("/tenants/nobody").json["counter"] == 0


class TestItemsOfATenant:
    @pytest.mark.parametrize("limit", [1, 3, 4, 5, 1_000])
    def test_are_listed_page_by_page(self, many: Caller, limit: int) -> None:
        found: list[int] = []
        cursor: str | None = ""
        while cursor is not None:
            reply = many.get(f"/tenants/%C3%A9/items?limit={limit}{cursor}").json
            assert reply["tenant"] == "é"
            assert len(reply["IDs"]) <= limit
            found += reply["IDs"]
            cursor = f"&cursor={reply['cursor']}" if "cursor" in reply else None
        assert found == [400, 401, 402, 403, 404]

    def test_of_an_unknown_tenant_are_none(self, many: Caller) -> None:
        reply = many.get("/tenants/nobody/items").json
        assert reply == {"tenant": "nobody", "IDs": [], "position": reply["position"]}


class TestPages:
    @pytest.mark.parametrize("path", ["/tenants", "/tenants/a/items"])
    @pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "1.5", "9" * 400])
    def test_have_limits(self, many: Caller, path: str, limit: str) -> None:
        reply = many.get(f"{path}?limit={limit}")
        assert (reply.status, reply.json["code"]) == (400, "bad_parameter")

    def test_have_a_hundred_by_default(self, store: MemoryStore) -> None:
        call = Caller(store)
        call.post("/items", msgspec.json.encode([{"ID": i, "tenant": str(i)} for i in range(101)]))
        assert len(call.get("/tenants").json["tenants"]) == 100
        fewer = Caller(store, limits=HttpLimits(max_listed=7))
        assert len(fewer.get("/tenants").json["tenants"]) == 7

    def test_have_cursors_that_fit_their_list_only(self, many: Caller) -> None:
        def refused(target: str) -> bool:
            reply = many.get(target)
            return (reply.status, reply.json["code"]) == (400, "cursor_invalid")

        cursor = many.get("/tenants?limit=1").json["cursor"]
        assert many.get(f"/tenants?limit=9&cursor={cursor}").status == 200
        for other in ("sort=-count", "prefix=a"):
            assert refused(f"/tenants?{other}&cursor={cursor}")
        assert refused(f"/tenants/a/items?cursor={cursor}")
        of_items = many.get("/tenants/a/items?limit=1").json["cursor"]
        assert refused(f"/tenants?cursor={of_items}")
        assert refused(f"/tenants/b/items?cursor={of_items}")
        position = many.get("/tenants").json["position"]
        for text in ("x", "%C3%A9", position, cursor[:-1], cursor + "A", cursor + "="):
            assert refused(f"/tenants?cursor={quote(text, safe='%')}")


def test_statistics(many: Caller) -> None:
    reply = many.get("/stats").json
    assert (reply["items"], reply["tenants"], reply["tombstones"]) == (18, 6, 0)
    assert reply["memory_bytes_of_ten"] == 10 * reply["memory_bytes"] > 0


def test_the_document_has_all_of_it(store: MemoryStore) -> None:
    found = msgspec.json.decode(make_api(store).document)
    assert found["paths"].keys() == {route.path for route in ROUTES}
