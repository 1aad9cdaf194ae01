"""
Deleting a tenant over HTTP, over a store in memory.
"""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from dcounter.errors import EraseStopped
from dcounter.store import Ack, Erased
from dcounter.testing.http import MemoryStore
from tests.http.test_routes import SHORT, ByKlein, Caller
from tests.support.servers import GET, CalledServer

NOW = 1_700_000_000 * 10**9
PAST = "2023-11-14T22:13:19.000000000Z"


class Store(MemoryStore):
    """
    Remembers what it was asked.
    """

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.asked: list[tuple[Any, ...]] = []
        self.failure: EraseStopped | None = None

    async def erase(
        self, tenant: str, *, ack: Ack, after: str | None = None, stamp: int | None = None
    ) -> Erased:
        self.asked.append((tenant, ack, after, stamp))
        if self.failure is not None:
            raise self.failure
        return await super().erase(tenant, ack=ack, after=None, stamp=stamp)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(params=[SHORT, ByKlein()])
def call(request: pytest.FixtureRequest, store: Store) -> Caller:
    return Caller(store, way=request.param)


def test_everything_that_a_tenant_owns_is_deleted(call: Caller, store: Store) -> None:
    call.post(
        "/items", b'[{"ID":1,"tenant":"b/\xc3\xbc"},{"ID":2,"tenant":"b/\xc3\xbc"},{"ID":3,"tenant":"b"}]'
    )
    reply = call.get("/tenants/b%2F%C3%BC", "DELETE")
    assert (reply.status, reply.json) == (
        200,
        {
            "status": "OK",
            "tenant": "b/ü",
            "deleted": 2,
            "lastUpdateDt": "2023-11-14T22:13:20.000000003Z",
            "ack": "node",
            "position": reply.json["position"],
        },
    )
    assert store.tenants == {3: "b"}
    assert store.asked == [("b/ü", "node", None, None)]
    # It is repeated without harm, and a tenant that is unknown is no error.
    assert call.get("/tenants/b%2F%C3%BC", "DELETE").json["deleted"] == 0
    assert call.get("/tenants/nobody", "DELETE").json["deleted"] == 0


def test_parameters_reach_the_store(call: Caller, store: Store) -> None:
    call.get(f"/tenants/a?ack=all&after=p&lastUpdateDt={PAST}", "DELETE")
    assert store.asked == [("a", "all", "p", NOW - 10**9)]


def test_what_was_stored_after_the_stamp_stays(call: Caller, store: Store) -> None:
    call.post(
        "/items", b'[{"ID":1,"tenant":"a","lastUpdateDt":"2023-11-14T22:13:19Z"},{"ID":2,"tenant":"a"}]'
    )
    assert call.get(f"/tenants/a?lastUpdateDt={PAST}", "DELETE").json["deleted"] == 1
    assert store.tenants == {2: "a"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("lastUpdateDt=2099-01-01T00:00:00Z", "bad_parameter"),
        ("lastUpdateDt=never", "bad_parameter"),
        ("receipt=1", "bad_parameter"),
        ("ack=most", "bad_parameter"),
    ],
)
def test_wrong_parameters_delete_nothing(call: Caller, store: Store, query: str, code: str) -> None:
    reply = call.get(f"/tenants/a?{query}", "DELETE")
    assert (reply.status, reply.json["code"], reply.json["outcome"]) == (400, code, "not_applied")
    assert store.asked == []


def test_a_failure_says_how_far_it_came_and_how_to_repeat_it(call: Caller, store: Store) -> None:
    store.failure = EraseStopped("no node", deleted=7, position="here", stamp=NOW, outcome="partial")
    reply = call.get("/tenants/a", "DELETE")
    shown = "2023-11-14T22:13:20.000000000Z"
    assert reply.status == 503
    assert (
        reply.json.items()
        >= {
            "code": "erase_stopped",
            "outcome": "partial",
            "deleted": 7,
            "position": "here",
            "lastUpdateDt": shown,
        }.items()
    )
    assert "7 items of the tenant are deleted so far; repeat" in reply.json["detail"]
    assert shown in reply.json["detail"]
    store.failure = EraseStopped("no node", deleted=0, position=None, stamp=NOW, outcome="unknown")
    reply = call.get("/tenants/a", "DELETE")
    assert reply.json["outcome"] == "unknown"
    assert "perhaps more" in reply.json["detail"]
    assert "position" not in reply.json


def test_an_idempotency_key_is_refused(call: Caller, store: Store) -> None:
    reply = call.ask("DELETE", "/tenants/a", b"", {"Idempotency-Key": "7"})
    assert (reply.status, reply.json["code"]) == (400, "no_idempotency_key")
    assert store.asked == []


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    observer = cast("ILogObserver", events.append)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def sentences(events: list[LogEvent]) -> list[str]:
    of_ours = [each for each in events if each.get("log_namespace") == "dcounter.http.api.erasing"]
    return [each["log_format"].format(**each) for each in of_ours]


def test_one_that_stops_is_logged_as_well(call: Caller, store: Store, logged: list[LogEvent]) -> None:
    store.failure = EraseStopped("no node", deleted=7, position="here", stamp=NOW, outcome="partial")
    call.ask("DELETE", "/tenants/a", b"", {"X-Request-ID": "7f3a"})
    (sentence,) = sentences(logged)
    assert sentence.startswith("anyone did not delete a tenant as asked: no node; 7 items of the tenant are")
    assert "7f3a" in sentence


class Waiting(MemoryStore):
    """
    Its deletions take for ever.
    """

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.cancelled = 0

    async def erase(
        self, tenant: str, *, ack: Ack, after: str | None = None, stamp: int | None = None
    ) -> Erased:
        try:
            await Deferred()
        except CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


@pytest.mark.parametrize("tenant", [b"a", b"a%2Fb"])
@pytest.mark.parametrize("pipelined", [False, True])
def test_a_caller_that_sends_no_more_stops_it(tenant: bytes, pipelined: bool, logged: list[LogEvent]) -> None:
    """
    A process that is killed closes its connection just like one that only ends its half of it.
    """
    store = Waiting()
    world = CalledServer(store=store)
    connection = world.connect()
    erase = GET.replace(b"GET /items/a/count", b"DELETE /tenants/" + tenant)
    assert connection.send(GET * pipelined + erase)[pipelined:] == []
    assert store.cancelled == 0
    connection.close_half()
    assert connection.wire.aborted
    connection.hang_up()
    assert store.cancelled == 1
    assert sentences(logged) == [
        "anyone hung up while a tenant was deleted: perhaps a part of its items is deleted"
    ]
    world.close()
