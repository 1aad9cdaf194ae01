"""
The HTTP client: what it sends, and what it makes of answers, refusals and silence.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import pytest_twisted
from msgspec import UNSET
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from dcounter.client import Answer, Client, Item, Refused, Unexpected, Unreachable
from dcounter.compaction_errors import CompactionStopped
from dcounter.errors import ItemError, NodeIsUp, NotApplied, OutcomeUnknown, Refusal
from dcounter.http.answer_bodies import Counted, LineError, Loaded, Stored
from dcounter.load_body import Encoding
from dcounter.store import Consistency, Count
from dcounter.testing.http import MemoryClient, MemoryOperator, MemoryStore

NOW = 1_700_000_000 * 10**9
ITEMS = [{"ID": 1, "tenant": "a"}, {"ID": 2, "tenant": "a/b ü"}]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def operator() -> MemoryOperator:
    return MemoryOperator()


@pytest.fixture
def client(store: MemoryStore, operator: MemoryOperator) -> Client:
    return MemoryClient(store, operator)


@pytest_twisted.ensureDeferred
async def test_stores_and_counts(client: Client, store: MemoryStore) -> None:
    stored = await client.store(ITEMS, ack="all")
    assert stored == Stored("OK", 2, "all", stored.position)
    assert store.tenants == {1: "a", 2: "a/b ü"}
    for tenant in ("a", "a/b ü"):
        counted = await client.count(tenant, after=stored.position)
        assert (counted.counter, counted.tenant) == (1, tenant)
    assert (await client.count("..")).counter == 0


async def each(*items: Item) -> AsyncIterator[Item]:
    for item in items:
        yield item


@pytest_twisted.ensureDeferred
async def test_loads(client: Client, store: MemoryStore) -> None:
    encodings: list[Encoding | None] = [None, "gzip", "zstd"]
    for encoding in encodings:
        loaded = await client.load(each(*ITEMS), ack="all", encoding=encoding)
        assert loaded == Loaded("OK", 2, 2, "all", loaded.position)
        assert store.tenants == {1: "a", 2: "a/b ü"}
        assert (await client.count("a", after=loaded.position)).counter == 1
    assert (await client.load(each())).items == 0


@pytest_twisted.ensureDeferred
async def test_loads_with_invalid_items(client: Client, store: MemoryStore) -> None:
    with pytest.raises(Refused, match="line 2, tenant: is missing") as refused:
        await client.load(each(ITEMS[0], {"ID": 3}, ITEMS[1]))
    assert (refused.value.code, refused.value.problem["next_line"]) == ("invalid_line", 2)
    loaded = await client.load(each({"ID": 3}, *ITEMS), partial=True)
    assert (loaded.status, loaded.items, loaded.invalid) == ("PARTIAL", 2, 1)
    assert loaded.errors == [LineError(1, "tenant", "is missing")]


@pytest_twisted.ensureDeferred
async def test_loads_of_items_that_fail(client: Client) -> None:
    async def items() -> AsyncIterator[Item]:
        yield ITEMS[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.load(items())


@pytest_twisted.ensureDeferred
async def test_loads_of_items_that_fail_end_the_request() -> None:
    from twisted.internet import reactor

    server = Factory.forProtocol(_Hears)
    listening = await TCP4ServerEndpoint(cast(Any, reactor), 0, interface="127.0.0.1").listen(server)
    client = Client(f"http://127.0.0.1:{listening.getHost().port}", cast(Any, reactor))

    async def items() -> AsyncIterator[Item]:
        yield ITEMS[0]
        await deferLater(cast(Any, reactor), 0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.load(items())
    await client.close()
    await listening.stopListening()


class _Hears(Protocol):
    """
    Listens and says nothing.
    """


@pytest_twisted.ensureDeferred
async def test_the_newest_update_wins(client: Client) -> None:
    late, early = "2026-01-31T12:00:02Z", "2026-01-31T12:00:01Z"
    await client.store([{"ID": 1, "tenant": "late", "lastUpdateDt": late}])
    await client.store([{"ID": 1, "tenant": "early", "lastUpdateDt": early}])
    assert (await client.count("late")).counter == 1
    await client.store([{"ID": 1, "tenant": "last"}])
    assert (await client.count("late")).counter == 0


@pytest_twisted.ensureDeferred
async def test_deletes(client: Client, store: MemoryStore) -> None:
    await client.store(ITEMS)
    deleted = await client.delete([2, 3], ack="all")
    assert deleted == Stored("OK", 2, "all", deleted.position)
    assert store.tenants == {1: "a"}
    await client.store([{"ID": 1, "deleted": True}, {"ID": 2, "tenant": "back"}], after=deleted.position)
    assert store.tenants == {2: "back"}


@pytest_twisted.ensureDeferred
async def test_deletes_a_tenant(client: Client, store: MemoryStore) -> None:
    await client.store([{"ID": 1, "tenant": "a/b"}, {"ID": 2, "tenant": "b"}])
    erased = await client.erase("a/b", ack="all")
    assert (erased.deleted, erased.tenant, erased.ack) == (1, "a/b", "all")
    assert store.tenants == {2: "b"}
    assert (await client.erase("b", stamp=1, after=erased.position)).deleted == 0


@pytest_twisted.ensureDeferred
async def test_stores_in_part(client: Client, store: MemoryStore) -> None:
    stored = await client.store([*ITEMS, {"ID": 5}], partial=True)
    assert (stored.status, stored.items, stored.invalid) == ("PARTIAL", 2, 1)
    assert stored.errors == [ItemError(2, "tenant", "is missing")]
    assert store.tenants.keys() == {1, 2}
    with pytest.raises(Refused, match="nothing of the request was stored") as refused:
        await client.store([{"ID": 5}])
    assert not refused.value.retryable
    store.refusal = NotApplied("no room", retry_after=1)
    with pytest.raises(Refused, match="no room") as refused:
        await client.store([{"ID": 5, "tenant": "a"}])
    assert refused.value.retryable


@pytest_twisted.ensureDeferred
async def test_receipts(client: Client) -> None:
    await client.store(ITEMS)
    told = await client.store(
        [
            {"ID": 1, "tenant": "b"},
            {"ID": 1, "tenant": "b"},
            {"ID": 3, "tenant": "b"},
            {"ID": 3, "tenant": "late", "lastUpdateDt": "2000-01-01T00:00:00Z"},
        ],
        receipt=True,
    )
    assert (told.receipts, told.complete) == (["stale", "moved", "created", "stale"], UNSET)
    assert told.counts == {"a": 0, "b": 2, "late": 0}
    told = await client.delete([1, 1, 4], receipt=True)
    assert (told.receipts, told.counts) == (["deleted", "unchanged", "unchanged"], {"b": 1})
    assert (await client.delete([3])).receipts is UNSET


@pytest_twisted.ensureDeferred
async def test_a_request_with_a_stamp_is_repeated_without_harm(client: Client, store: MemoryStore) -> None:
    first, later = NOW, NOW + 1
    await client.store([{"ID": 1, "tenant": "z"}, {"ID": 2, "tenant": "z"}], stamp=first)
    await client.delete([1], stamp=later)
    await client.store([{"ID": 2, "tenant": "a"}], stamp=later)
    await client.store([{"ID": 1, "tenant": "z"}, {"ID": 2, "tenant": "z"}], stamp=first)
    assert store.tenants == {2: "a"}
    await client.delete([2], stamp=first)
    assert store.tenants == {2: "a"}


@pytest_twisted.ensureDeferred
async def test_a_count_that_is_not_exact(client: Client, store: MemoryStore) -> None:
    store.missing = (3,)
    counted = await client.count("a", consistency="available")
    assert (counted.complete, counted.missing) == (False, [3])
    with pytest.raises(Refused) as refused:
        await client.count("a")
    assert (refused.value.code, refused.value.problem["counter_so_far"]) == ("incomplete", 0)


@pytest_twisted.ensureDeferred
async def test_looks_up_items_and_counts_many(client: Client, store: MemoryStore) -> None:
    stored = await client.store([*ITEMS, {"ID": 3, "tenant": "a", "lastUpdateDt": "2026-01-31T12:00:00Z"}])
    item = await client.item(3, after=stored.position)
    assert (item.ID, item.tenant, item.lastUpdateDt) == (3, "a", "2026-01-31T12:00:00.000000000Z")
    with pytest.raises(Refused) as refused:
        await client.item(7)
    assert (refused.value.status, refused.value.code) == (404, "unknown_item")
    found = await client.look_up([2, 7, 3])
    assert ([each.tenant for each in found.items], found.unknown) == (["a/b ü", "a"], [7])
    counted = await client.counts(["a", "b"])
    assert [(each.tenant, each.counter) for each in counted.counts] == [("a", 2), ("b", 0)]
    store.missing = (3,)
    assert (await client.look_up([2], consistency="available")).missing == [3]


@pytest_twisted.ensureDeferred
async def test_lists(client: Client) -> None:
    await client.store([*ITEMS, {"ID": 3, "tenant": "a/b ü"}])
    page = await client.tenants(limit=1)
    assert [(each.tenant, each.counter) for each in page.tenants] == [("a", 1)]
    assert page.cursor
    rest = await client.tenants(limit=1, cursor=page.cursor)
    assert ([each.tenant for each in rest.tenants], rest.cursor) == (["a/b ü"], UNSET)
    largest = await client.tenants(sort="-count", prefix="a", limit=1)
    assert [each.tenant for each in largest.tenants] == ["a/b ü"]
    items = await client.items_of("a/b ü", limit=1)
    assert items.IDs == [2]
    assert items.cursor
    assert (await client.items_of("a/b ü", cursor=items.cursor)).IDs == [3]
    total = await client.count_prefix("a/")
    assert (total.counter, total.tenants, (await client.count_prefix()).counter) == (2, 1, 3)
    assert (await client.statistics()).items == 3
    with pytest.raises(Refused, match="Unknown cursor"):
        await client.tenants(cursor="x")


@pytest_twisted.ensureDeferred
async def test_a_position_of_another_cluster(client: Client) -> None:
    with pytest.raises(Refused, match="Unknown position token"):
        await client.count("a", after="elsewhere")


@pytest_twisted.ensureDeferred
async def test_of_equal_stamps_the_larger_tenant_wins_but_in_one_request_the_later(client: Client) -> None:
    stamp = "2026-01-31T12:00:00Z"
    for tenant in ("b", "a"):
        await client.store([{"ID": 1, "tenant": tenant, "lastUpdateDt": stamp}])
    await client.store([{"ID": 2, "tenant": each, "lastUpdateDt": stamp} for each in ("b", "a")])
    assert [(await client.count(each)).counter for each in ("a", "b")] == [1, 1]


def test_a_store_that_answers_later() -> None:
    class LateStore(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.waiting: Deferred[None] = Deferred()

        async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
            await self.waiting
            return await super().count(tenant, consistency=consistency, after=after)

    store = LateStore()
    client = MemoryClient(store)
    asking = Deferred.fromCoroutine(client.count("a"))
    assert not asking.called
    store.waiting.callback(None)
    client.flush()
    found: list[Counted] = []
    asking.addCallback(found.append)
    assert found[0].counter == 0


@pytest_twisted.ensureDeferred
async def test_operates_on_nodes(client: Client, operator: MemoryOperator) -> None:
    assert (await client.restart(1)).node == 1
    assert (await client.remove(2)).node == 2
    assert (operator.restarted, operator.removed) == ([1], [2])
    assert [node.id for node in (await client.status()).nodes] == [0, 1, 3]
    with pytest.raises(Refused, match="there is no node 2"):
        await client.restart(2)
    operator.refusal = NodeIsUp("node 2 is up")
    with pytest.raises(Refused, match="Node is up: node 2 is up") as refused:
        await client.remove(1)
    assert (refused.value.status, refused.value.code) == (409, "node_is_up")


@pytest.mark.parametrize(
    ("tokens", "count", "restart"),
    [
        ({}, None, None),
        ({"operator_token": "o"}, None, "Bearer o"),
        ({"token": "t"}, "Bearer t", "Bearer t"),
        ({"token": "t", "operator_token": "o"}, "Bearer t", "Bearer o"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_operations_show_the_operators_token(
    tokens: dict[str, Any], count: str | None, restart: str | None
) -> None:
    shown = []

    class Watching:
        def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
            shown.append((url, how["headers"].get("Authorization")))
            return fail(ConnectionRefusedError())

    client = Client("http://h:1/", Clock(), http=Watching(), **tokens)
    calls: list[Callable[[], Any]] = [lambda: client.count("a"), lambda: client.restart(1)]
    for call in calls:
        with pytest.raises(Unreachable):
            await call()
    assert shown == [("http://h:1/items/a/count", count), ("http://h:1/cluster/restart", restart)]


@pytest_twisted.ensureDeferred
async def test_compacts(client: Client, operator: MemoryOperator) -> None:
    assert (await client.compact(before=5)).before == "1970-01-01T00:00:00.000000005Z"
    await client.compact()
    assert operator.compacted == [5, None]
    operator.refusal = CompactionStopped("node 2 did not answer", stamp=5)
    with pytest.raises(Refused) as caught:
        await client.compact(before=5)
    assert (caught.value.code, caught.value.outcome) == ("compaction_stopped", "unknown")
    assert caught.value.problem["before"] == "1970-01-01T00:00:00.000000005Z"
    bodies: list[Any] = [{"before": "soon"}, {"before": 5}, {"after": "1970-01-01T00:00:00Z"}, []]
    for body in bodies:
        assert (await client.ask("POST", "/compact", json=body)).code == "malformed"


@pytest_twisted.ensureDeferred
async def test_readiness(client: Client, store: MemoryStore) -> None:
    assert (await client.readiness()).exact
    store.ready = False
    with pytest.raises(Refused, match="Not ready"):
        await client.readiness()


@pytest.mark.parametrize(
    ("refusal", "status", "outcome"),
    [
        (NotApplied("no node takes items", retry_after=1), 503, "not_applied"),
        (OutcomeUnknown("late", position="here", items_stored=1), 504, "unknown"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals_say_what_became_of_the_request(
    client: Client, store: MemoryStore, refusal: Refusal, status: int, outcome: str
) -> None:
    store.refusal = refusal
    with pytest.raises(Refused) as refused:
        await client.store(ITEMS)
    assert (refused.value.status, refused.value.code) == (status, refusal.code)
    assert refused.value.outcome == outcome
    assert refused.value.problem["detail"] == str(refusal)
    with pytest.raises(Refused):
        (await client.ask("GET", "/items/a/count")).ok()


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (ConnectionRefusedError(), False),
        (DNSLookupError(), False),
        (ResponseNeverReceived([Failure(ConnectionLost())]), True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_answer_says_whether_the_request_was_sent(error: Exception, sent: bool) -> None:
    class Broken:
        def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
            return fail(error)

    with pytest.raises(Unreachable) as unreachable:
        await Client("http://h", Clock(), http=Broken()).store(ITEMS)
    assert unreachable.value.sent is sent


def test_silence_ends() -> None:
    class Silent:
        def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
            return Deferred()

    clock = Clock()
    waiting = Deferred.fromCoroutine(Client("http://h", clock, http=Silent(), timeout=3).count("a"))
    found: list[Failure] = []
    waiting.addErrback(found.append)
    clock.advance(2.9)
    assert not found
    clock.advance(0.2)
    [failure] = found
    assert isinstance(failure.value, Unreachable)
    assert failure.value.sent
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, b"<html>Bad gateway</html>"),
        (502, b""),
        (301, b""),
        (204, b""),
        (200, b"<html>It works</html>"),
        (200, b"{}"),
        (200, b'{"counter":"many"}'),
        (200, b"\xff"),
        (200, b"[" * 9_999),
        (201, b"{}"),
        (503, b"[]"),
        (503, b"null"),
        (401, b'{"error":"log in"}'),
        (401, b'{"code":1,"title":"x"}'),
    ],
)
def test_what_no_daemon_answers_is_unexpected(status: int, body: bytes) -> None:
    answer = Answer(status, body)
    with pytest.raises(Unexpected, match=f"status {status}") as unexpected:
        answer.read(Counted)
    assert (unexpected.value.status, unexpected.value.body) == (status, body)


class Slow(Protocol):
    """
    A server that sends the beginning of an answer.
    """

    def __init__(self, begun: Deferred[None], ended: Deferred[None], answer: bytes) -> None:
        self._begun = begun
        self._ended = ended
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        self._send()
        if not self._begun.called:
            self._begun.callback(None)

    def _send(self) -> None:
        assert self.transport is not None
        self.transport.write(self._answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended.callback(None)


@pytest.mark.parametrize("how", ["time-out", "cancelled"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}"])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_given_up_leaves_no_connection(how: str, answer: bytes) -> None:
    from twisted.internet import reactor

    begun: Deferred[None] = Deferred()
    ended: Deferred[None] = Deferred()
    listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        Factory.forProtocol(lambda: Slow(begun, ended, answer))
    )
    timeout = 0.2 if how == "time-out" else 60
    client = Client(f"http://127.0.0.1:{listening.getHost().port}", cast(Any, reactor), timeout=timeout)
    asking = Deferred.fromCoroutine(client.count("a"))
    await begun
    if how == "cancelled":
        asking.cancel()
    with pytest.raises(Unreachable if how == "time-out" else CancelledError) as error:
        await asking
    if isinstance(error.value, Unreachable):
        assert error.value.sent
    await ended
    await client.close()
    await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_given_up_was_not_sent(client: Client) -> None:
    class Connecting:
        def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
            return Deferred(lambda waiting: waiting.errback(ConnectingCancelledError(None)))

    clock = Clock()
    waiting = Deferred.fromCoroutine(Client("http://h", clock, http=Connecting(), timeout=3).count("a"))
    clock.advance(4)
    with pytest.raises(Unreachable) as unreachable:
        await waiting
    assert not unreachable.value.sent
    waiting = Deferred.fromCoroutine(Client("http://h", clock, http=Connecting()).count("a"))
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
