"""
Audits over HTTP, over a store in memory: what is asked for, and what an answer shows.
"""

from collections.abc import Sequence

import pytest
import pytest_twisted

from dcounter.audits import (
    Audited,
    AuditNotFinished,
    AuditState,
    Differences,
    NodeCount,
    NodeRow,
    NotAudited,
    NotRepaired,
    Progress,
    Rebuild,
    Row,
    WrongItem,
    WrongTenant,
)
from dcounter.client import Refused
from dcounter.http.audit_bodies import HeldRow, RowAt
from dcounter.testing.http import MemoryClient, MemoryOperator, MemoryStore

AT = 1_700_000_000_123_456_789
SHOWN = "2023-11-14T22:13:20.123456789Z"

WRONG = Differences(
    wrong_nodes=[1],
    undecided=False,
    tenants=[WrongTenant(None, 2, [NodeCount(0, 2, 2), NodeCount(1, 1, 1)], [1])],
    all_tenants=1,
    items=[
        WrongItem(7, Row(None, AT), True, [NodeRow(0, Row(None, AT)), NodeRow(1, Row("a", 0))], [1]),
        WrongItem(8, Row("b", AT), False, [NodeRow(0, Row("b", AT)), NodeRow(1, Row(None, None))], []),
    ],
    all_items=2,
    more=True,
)


class WrongStore(MemoryStore):
    """
    A store that finds differences, and has a node rebuilt.
    """

    running: Progress | None = None
    failure: str | None = None

    async def audit(self, tenants: Sequence[str] = (), rebuild: Rebuild | None = None) -> Audited:
        if rebuild is not None:
            await rebuild(1)
        self.found = Audited(
            position="p",
            nodes=[0, 1],
            not_audited=[NotAudited(2, "it is down")],
            items=5,
            tombstones=2,
            digest="00ff",
            counts=[(each, 3) for each in tenants],
            differences=None if rebuild else WRONG,
            finished=AT,
            duration_s=1.2345,
            repaired=[1] if rebuild else [],
        )
        return self.found

    def audits(self) -> AuditState:
        return AuditState(self.running, self.found, 2.5, self.failure)


@pytest_twisted.ensureDeferred
async def test_a_difference_as_it_is_shown() -> None:
    store = WrongStore()
    client = MemoryClient(store, MemoryOperator())
    found = await client.audit(["a", "b"])
    assert not found.equal
    assert (found.finished, found.duration_ms, found.not_audited) == (
        SHOWN,
        1234,
        [NotAudited(2, "it is down")],
    )
    assert isinstance(found.counts, list)
    assert [(each.tenant, each.counter) for each in found.counts] == [("a", 3), ("b", 3)]
    wrong = found.differences
    assert wrong
    assert (wrong.wrong_nodes, wrong.all_items, wrong.more) == ([1], 2, True)
    first, second = wrong.items
    assert (first.ID, first.right, first.wrong) == (7, HeldRow("deleted", lastUpdateDt=SHOWN), [1])
    assert first.nodes[1] == RowAt(1, HeldRow("stored", "a", "1970-01-01T00:00:00.000000000Z"))
    assert (second.decided, second.nodes[1]) == (False, RowAt(1, HeldRow("unknown")))
    [count] = wrong.counts
    assert (count.tenant, count.right, count.nodes[1]) == (None, 2, NodeCount(1, 1, 1))
    raw = (await client.ask("GET", "/audit")).ok()
    # What there is not is left out.
    assert raw.keys() == {"last", "age_ms"}
    assert raw["last"].keys() == {
        *("equal", "position", "finished", "duration_ms", "nodes", "not_audited", "items", "tombstones"),
        *("digest", "counts", "differences"),
    }
    assert raw["last"]["differences"]["items"][1]["nodes"][1] == {"node": 1, "row": {"state": "unknown"}}


@pytest_twisted.ensureDeferred
async def test_one_that_runs_and_one_that_failed() -> None:
    store = WrongStore()
    client = MemoryClient(store, MemoryOperator())
    await client.audit()
    store.running, store.failure = Progress("counting", 0.12345, 0.5), "node 1 is gone"
    shown = await client.audits()
    assert shown.running
    assert (shown.running.phase, shown.running.counted, shown.running.running_ms) == ("counting", 0.123, 500)
    assert (shown.age_ms, shown.failure) == (2500, "node 1 is gone")


@pytest_twisted.ensureDeferred
async def test_only_what_asks_for_it_is_repaired() -> None:
    operator = MemoryOperator()
    client = MemoryClient(WrongStore(), operator)
    await client.audit()
    assert operator.rebuilt == []
    found = await client.audit(repair=True)
    assert (found.equal, found.repaired, operator.rebuilt) == (True, [1], [1])


@pytest_twisted.ensureDeferred
async def test_without_nodes_there_is_nothing_to_repair() -> None:
    client = MemoryClient(MemoryStore())
    assert (await client.audit()).equal
    with pytest.raises(Refused) as refused:
        await client.audit(repair=True)
    assert (refused.value.code, refused.value.outcome) == ("not_supported", "not_applied")


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (AuditNotFinished("a node is gone"), 503, "not_applied"),
        (AuditNotFinished("a node is gone", changed=True), 503, "partial"),
        (NotRepaired("it is not known which"), 409, "not_applied"),
        (NotRepaired("it is not known which", changed=True), 409, "partial"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals_say_whether_a_node_was_made_anew(
    error: AuditNotFinished | NotRepaired, status: int, outcome: str
) -> None:
    store = MemoryStore()
    store.refusal = error
    with pytest.raises(Refused) as refused:
        await MemoryClient(store, MemoryOperator()).audit()
    assert (refused.value.status, refused.value.outcome) == (status, outcome)


@pytest_twisted.ensureDeferred
async def test_a_store_without_audits() -> None:
    store = MemoryStore()
    store.capabilities = store.capabilities - {"audit"}
    client = MemoryClient(store, MemoryOperator())
    for method in ("GET", "POST"):
        answer = await client.ask(method, "/audit", json={} if method == "POST" else None)
        assert (answer.status, answer.code) == (501, "not_supported_here")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{}", 200, None),
        (b'{"repair":false,"tenants":[]}', 200, None),
        (b"", 400, "malformed"),
        (b"[]", 400, "malformed"),
        (b'{"repair":1}', 400, "malformed"),
        (b'{"tenant":["a"]}', 400, "malformed"),
        (b'{"tenants":[""]}', 422, "invalid_item"),
        (b'{"tenants":["a",null]}', 422, "invalid_item"),
        (b'{"tenants":[' + b'"a",' * 1_000 + b'"a"]}', 413, "too_many_items"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bodies(body: bytes, status: int, code: str | None) -> None:
    answer = await MemoryClient(MemoryStore(), MemoryOperator()).ask("POST", "/audit", body=body)
    assert (answer.status, answer.code) == (status, code)
