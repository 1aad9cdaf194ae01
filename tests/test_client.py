"""
The HTTP client: what it sends, and what it makes of answers, refusals and silence.
"""

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from dcounter.client import Client, Refused, Unreachable
from dcounter.errors import NodeIsUp, NotApplied, OutcomeUnknown, Refusal
from dcounter.http.answers import Stored
from dcounter.testing.http import MemoryOperator, MemoryStore, memory_client

ITEMS = [{"ID": 1, "tenant": "a"}, {"ID": 2, "tenant": "a/b ü"}]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def operator() -> MemoryOperator:
    return MemoryOperator()


@pytest.fixture
def client(store: MemoryStore, operator: MemoryOperator) -> Client:
    return memory_client(store, operator)


@pytest_twisted.ensureDeferred
async def test_stores_and_counts(client: Client, store: MemoryStore) -> None:
    stored = await client.store(ITEMS, ack="all")
    assert stored == Stored("OK", 2, "all", stored.position)
    assert store.tenants == {1: "a", 2: "a/b ü"}
    for tenant in ("a", "a/b ü"):
        counted = await client.count(tenant, after=stored.position)
        assert (counted.counter, counted.tenant) == (1, tenant)
    assert (await client.count("..")).counter == 0


@pytest_twisted.ensureDeferred
async def test_the_newest_update_wins(client: Client) -> None:
    late, early = "1970-01-01T00:00:02Z", "1970-01-01T00:00:01Z"
    await client.store([{"ID": 1, "tenant": "late", "lastUpdateDt": late}])
    await client.store([{"ID": 1, "tenant": "early", "lastUpdateDt": early}])
    assert (await client.count("late")).counter == 1
    await client.store([{"ID": 1, "tenant": "last"}])
    assert (await client.count("late")).counter == 0


@pytest_twisted.ensureDeferred
async def test_a_count_that_is_not_exact(client: Client, store: MemoryStore) -> None:
    store.missing = (3,)
    counted = await client.count("a", consistency="available")
    assert (counted.complete, counted.missing) == (False, [3])


@pytest_twisted.ensureDeferred
async def test_operates_on_nodes(client: Client, operator: MemoryOperator) -> None:
    assert (await client.restart(1)).node == 1
    assert (await client.remove(2)).node == 2
    assert (operator.restarted, operator.removed) == ([1], [2])
    assert (await client.status()).primary == 0
    operator.refusal = NodeIsUp("node 2 is up")
    with pytest.raises(Refused, match="Node is up: node 2 is up") as refused:
        await client.remove(2)
    assert (refused.value.status, refused.value.code) == (409, "node_is_up")


@pytest_twisted.ensureDeferred
async def test_only_operations_show_the_token(store: MemoryStore) -> None:
    shown = []

    class Watching:
        def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
            shown.append((url, "Authorization" in how["headers"]))
            return fail(ConnectionRefusedError())

    client = Client("http://h:1/", Clock(), http=Watching(), token="secret")
    calls: list[Callable[[], Any]] = [lambda: client.count("a"), lambda: client.restart(1)]
    for call in calls:
        with pytest.raises(Unreachable):
            await call()
    assert shown == [("http://h:1/items/a/count", False), ("http://h:1/cluster/restart", True)]


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
