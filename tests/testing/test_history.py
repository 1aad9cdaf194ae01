"""
What callers are told that cannot be true is found.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dcounter.errors import Incomplete, InvalidCursor, InvalidPosition, PositionLost, UnknownNode
from dcounter.store import Ack, Count, Counts, Item, Items, Looked, Receipt
from dcounter.testing import Cluster
from dcounter.testing.asked import GROWING
from dcounter.testing.history import History
from dcounter.testing.requests import Known, TenantsPage, Write

ITEMS = ["a", "a", "b"]


@pytest.fixture
def history() -> Iterator[History]:
    """
    Two nodes, on which one request has stored three items.
    """
    cluster = Cluster(2, seed=3).start()
    history = History(cluster, lossy=False)
    history.watch(cluster.coordinator)
    cluster.result(_store(history, range(3)))
    assert history.problems == []
    yield history
    cluster.stop()


def _store(history: History, ids: range, ack: Ack = "node") -> Deferred[Any]:
    return history.store(history.cluster.coordinator, Items(list(ids), ITEMS[: len(ids)]), ack, None)


def _count(history: History, tenant: str = "a") -> Deferred[Any]:
    return history.count(history.cluster.coordinator, tenant, "exact", None)


def _look_up(history: History, *ids: int) -> Deferred[Any]:
    return history.look_up(history.cluster.coordinator, ids, "exact", None)


def _answers(history: History, method: str, answer: object) -> None:
    """
    From now on the coordinator answers this, whatever is there.
    """

    async def answering(*_: object, **__: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    vars(history.cluster.coordinator)[method] = answering


def _problems(history: History) -> list[str]:
    return [problem.partition(": ")[2].splitlines()[0] for problem in history.problems]


def test_the_truth_is_no_problem(history: History) -> None:
    for tenant, number in (("a", 2), ("b", 1), ("c", 0), (GROWING, 0)):
        assert history.cluster.result(_count(history, tenant)) is None
        assert history.log[-1].endswith(f"counted {tenant!r}: {number}")
    assert (history.problems, history.exact) == ([], 4)


@pytest.mark.parametrize("number", [1, 3])
def test_a_count_is_not_what_was_stored(history: History, number: int) -> None:
    _answers(history, "count", Count(number, ""))
    _count(history)
    assert _problems(history) == [f"'a' counts {number}, not between 2 and 2"]


@pytest.mark.parametrize(
    "count",
    [
        Count(9, "", complete=False, missing=[1]),
        Incomplete("too little", counter_so_far=9, missing=[1], retry_after=1),
    ],
)
def test_a_count_that_says_that_it_is_not_exact_may_be_wrong(history: History, count: object) -> None:
    _answers(history, "count", count)
    _count(history)
    assert (history.problems, history.exact) == ([], 0)


def test_a_count_goes_back(history: History) -> None:
    coordinator = history.cluster.coordinator
    history.known[coordinator] = history.known[coordinator].join(Known([], 2))
    _count(history, GROWING)
    history.cluster.run(1)
    assert _problems(history) == [f"0 items of {GROWING!r} after 2 were counted"]


@pytest.mark.parametrize("receipt", [Receipt(2, "node", ""), Receipt(3, "all", "")])
def test_a_receipt_is_not_for_what_was_asked(history: History, receipt: Receipt) -> None:
    _answers(history, "store", receipt)
    _store(history, range(3))
    assert _problems(history) == [f"asked node for 3 items and got {receipt}"]


def test_items_are_at_fewer_nodes_than_a_receipt_says(history: History) -> None:
    coordinator = history.cluster.coordinator

    async def pretending(items: Items, **_: object) -> Receipt:
        # They get their stamps, and are thrown away.
        coordinator._stamp(items, coordinator._clock)  # noqa: SLF001
        return Receipt(len(items), "all", "")

    vars(coordinator)["store"] = pretending
    _store(history, range(3), "all")
    assert _problems(history) == ["ack=all, but 0 nodes have it"]


@pytest.mark.parametrize("ask", [_count, lambda history: _store(history, range(3))])
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (PositionLost("lost"), "a position was lost although nothing was: "),
        (ZeroDivisionError(), "an answer that is no refusal: "),
    ],
)
def test_an_answer_that_nobody_may_get(
    history: History, ask: Callable[[History], Deferred[Any]], answer: Exception, problem: str
) -> None:
    for method in ("count", "store"):
        _answers(history, method, answer)
    ask(history)
    [found] = _problems(history)
    assert found.startswith(problem)


def test_a_position_that_a_removed_secret_has_sealed_is_refused(history: History) -> None:
    coordinator, secrets = history.cluster.coordinator, history.cluster.processes.secrets
    history.cluster.result(_count(history))
    position = history.tokens[-1]
    page = Deferred.fromCoroutine(coordinator.list_tenants(order="name", limit=1, consistency="exact"))
    found = history.cluster.result(page)
    assert found.cursor is not None
    last = TenantsPage("name", found.cursor, found.tenants[-1], found.position)

    def ask() -> list[str]:
        history.cluster.result(history.count(coordinator, "a", "exact", position))
        history.cluster.result(history.list_tenants(coordinator, "name", 1, last, "exact", None))
        return [line.partition(": ")[2].partition("(")[0] for line in history.log if "not counted" in line]

    for _ in range(3):
        assert ask() == []
        secrets.begin_step()
        for process in secrets.behind:
            secrets.take_step(process)
    assert ask() == ["InvalidPosition", "InvalidCursor"]
    assert history.problems == []


@pytest.mark.parametrize(
    ("method", "error"), [("count", InvalidPosition("wrong")), ("list_tenants", InvalidCursor("wrong"))]
)
def test_what_the_cluster_gave_out_is_refused(history: History, method: str, error: Exception) -> None:
    coordinator = history.cluster.coordinator
    history.cluster.result(_count(history))
    token = history.tokens[-1]
    _answers(history, method, error)
    if method == "count":
        history.count(coordinator, "a", "exact", token)
    else:
        page = TenantsPage("name", "", ("a", 2), token[0])
        history.list_tenants(coordinator, "name", 1, page, "exact", None)
    assert _problems(history) == ["what the cluster gave out was refused: wrong"]


def test_a_store_is_refused_as_only_other_requests_are(history: History) -> None:
    _answers(history, "store", UnknownNode("no node 7"))
    _store(history, range(3))
    [found] = _problems(history)
    assert found.startswith("a store was refused with UnknownNode(")


def test_a_request_is_answered_late_or_never(history: History) -> None:
    released: list[Deferred[Count]] = []

    def waiting(*_: object, **__: object) -> Awaitable[Count]:
        released.append(Deferred())

        async def wait() -> Count:
            return await released[-1]

        return wait()

    vars(history.cluster.coordinator)["count"] = waiting
    _count(history)
    history.cluster.run(history.cluster.limits.read_wait_s)
    history.overdue()
    assert history.problems == []
    history.cluster.run(1.5)
    history.overdue()
    assert _problems(history) == ["a request is not answered"]
    # Once is enough.
    history.overdue()
    assert len(history.problems) == 1
    released.pop().callback(Count(2, ""))

    _count(history)
    history.cluster.run(history.cluster.limits.read_wait_s + 1.5)
    released.pop().callback(Count(2, ""))
    assert _problems(history)[1].startswith("a request was answered later than it may: exact count asked at")
    assert not history.under_way


def test_a_stamp_is_not_after_what_the_caller_was_told(history: History) -> None:
    coordinator = history.cluster.coordinator
    ahead = history.cluster.wall() + 10**12
    told = Write(0, coordinator, Items([7], ["a"]), "node", 0.0, all_rows=[(7, (ahead, "a"))])
    history.known[coordinator] = history.known[coordinator].join(Known([told]))
    history.cluster.result(_store(history, range(3)))
    [found] = _problems(history)
    assert found.startswith("write 2 has the stamp ")
    assert found.endswith(f", which is not after {ahead}")


def test_a_node_takes_along_what_was_acknowledged(history: History) -> None:
    for node in (0, 1):
        history.cluster.kill_node(node)
    history.risk(allowed=False)
    assert _problems(history) == [f"a node took ID {item} of write 1 along" for item in (0, 1, 2)]


def _item(history: History, item: int) -> Item:
    """
    An item as it is stored.
    """
    stamp, tenant = (history.writes[0].rows or {})[item]
    return Item(item, tenant, stamp)


def test_looked_up_is_what_was_stored(history: History) -> None:
    history.cluster.result(_look_up(history, 2, 7, 0))
    assert (history.problems, history.exact) == ([], 1)
    coordinator = history.cluster.coordinator
    assert history.known[coordinator].seen == {
        item: (_item(history, item).stamp, tenant) for item, tenant in ((2, "b"), (0, "a"))
    }
    history.cluster.result(history.count_many(coordinator, ["b", "c", GROWING], "exact", None))
    assert (history.problems, history.exact) == ([], 2)


@pytest.mark.parametrize("how", ["nothing", "another tenant", "another stamp"])
def test_looked_up_is_not_what_was_stored(history: History, how: str) -> None:
    item = _item(history, 0)
    wrong = {
        "nothing": None,
        "another tenant": Item(0, "b", item.stamp),
        "another stamp": Item(0, "a", item.stamp - 1),
    }
    _answers(history, "look_up", Looked(items=[wrong[how]], position=""))
    _look_up(history, 0)
    [problem] = history.problems
    assert "ID 0 is" in problem


def test_looked_up_goes_back(history: History) -> None:
    coordinator, before = history.cluster.coordinator, _item(history, 0)
    # It may be stored or not, as far as its caller knows; then it was shown.
    moved = Write(2, coordinator, Items([0], ["z"]), "node", 0.0, all_rows=[(0, (before.stamp + 1, "z"))])
    history.writes.append(moved)
    for shown in (Item(0, "z", before.stamp + 1), before):
        _answers(history, "look_up", Looked(items=[shown], position=""))
        _look_up(history, 0)
    [problem] = history.problems
    assert f"ID 0 is {before}" in problem


def test_one_of_several_counts_is_not_what_was_stored(history: History) -> None:
    _answers(history, "count_many", Counts(counters=[2, 2], position=""))
    history.count_many(history.cluster.coordinator, ["a", "b"], "exact", None)
    assert _problems(history) == ["'b' counts 2, not between 1 and 1"]


def test_questions_that_say_that_they_are_not_exact_may_be_wrong(history: History) -> None:
    _answers(history, "look_up", Looked(items=[None], position="", complete=False, missing=[1]))
    _look_up(history, 0)
    assert (history.problems, history.exact) == ([], 0)
