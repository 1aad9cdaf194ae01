"""
Questions that a coordinator asks its nodes, over a whole cluster in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
from twisted.internet.defer import CancelledError, Deferred

from dcounter.coordinator.service import Coordinator
from dcounter.errors import (
    AnswerTooLarge,
    Incomplete,
    InvalidCursor,
    InvalidPosition,
    NotSupportedHere,
    Refusal,
)
from dcounter.limits import Limits
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.store import Capability, Consistency, Item, Items, Looked, Order
from dcounter.testing.cluster import Cluster
from dcounter.testing.parts import Parts

OLD = Abilities(2, 2, ["needs"])
Asking = Callable[[Coordinator, Consistency, str | None], Any]


class Questioned:
    """
    A cluster, and its first coordinator.

    :param old: processes of an older release.
    """

    def __init__(self, nodes: int = 2, *, old: Sequence[str] = (), limits: Limits | None = None) -> None:
        parts = Parts(abilities=lambda process: OLD if process in old else ABILITIES)
        self.cluster = Cluster(nodes, limits=limits, parts=parts)
        self.cluster.start()
        self.cluster.run(1)

    def store(
        self,
        ids: Sequence[int],
        tenants: str,
        stamps: Sequence[int] | None = None,
        after: str | None = None,
    ) -> str:
        items = Items(ids, list(tenants), stamps)
        storing = self.cluster.coordinator.store(items, ack="node", after=after)
        return self.cluster.result(storing).position

    def look_up(self, *ids: int, **kw: Any) -> Deferred[Looked]:
        coordinator = kw.pop("by", self.cluster.coordinator)
        kw = {"consistency": "exact", **kw}
        return Deferred.fromCoroutine(coordinator.look_up(ids, **kw))

    def split(self) -> None:
        """
        Nodes hear nothing of each other.
        """
        self.cluster.part("node 0", "node 1")

    def heal(self) -> None:
        self.cluster.heal("node 0", "node 1")

    def failure(self, what: Any) -> Refusal:
        """
        Why there is no answer.
        """
        with pytest.raises(Refusal) as caught:
            self.cluster.result(what)
        return caught.value


@pytest.fixture
def world() -> Iterator[Questioned]:
    world = Questioned()
    yield world
    world.cluster.stop()


def test_items_are_looked_up_in_the_order_asked(world: Questioned) -> None:
    world.store([1, 2, 3], "aba", [10, 20, 30])
    found = world.cluster.result(world.look_up(3, 7, 1, 3))
    assert found.items == [Item(3, "a", 30), None, Item(1, "a", 10), Item(3, "a", 30)]
    assert (found.complete, found.missing) == (True, [])
    assert world.cluster.result(world.look_up()).items == []


def test_many_tenants_are_counted(world: Questioned) -> None:
    world.store([1, 2, 3], "aba")
    asking = world.cluster.coordinator.count_many(["b", "c", "a", "b"], consistency="exact")
    assert world.cluster.result(asking).counters == [1, 0, 2, 1]


def look_up(by: Coordinator, how: Consistency, after: str | None) -> Any:
    return by.look_up([1], consistency=how, after=after)


def count_many(by: Coordinator, how: Consistency, after: str | None) -> Any:
    return by.count_many(["a"], consistency=how, after=after)


def count_prefix(by: Coordinator, how: Consistency, after: str | None) -> Any:
    return by.count_prefix("", consistency=how, after=after)


def list_tenants(by: Coordinator, how: Consistency, after: str | None) -> Any:
    return by.list_tenants(order="-count", limit=1, consistency=how, after=after)


def list_items(by: Coordinator, how: Consistency, after: str | None) -> Any:
    return by.list_items("a", limit=1, consistency=how, after=after)


def statistics(by: Coordinator, how: Consistency, after: str | None) -> Any:
    return by.statistics(consistency=how, after=after)


def export(by: Coordinator, how: Consistency, after: str | None) -> Any:
    return by.export(deleted=True, consistency=how, after=after)


QUESTIONS = [look_up, count_many, count_prefix, list_tenants, list_items, statistics, export]


def test_all_questions_are_tested() -> None:
    # These are no questions at a position, and have tests of their own.
    others = {"erase", "audit", "watch", "receipts"}
    assert {each.__name__ for each in QUESTIONS} == set(get_args(Capability)) - others


@pytest.mark.parametrize("ask", QUESTIONS)
class TestPosition:
    def test_what_was_acknowledged_is_waited_for(self, world: Questioned, ask: Asking) -> None:
        world.split()
        # Each of the nodes has one of them only.
        world.store([1], "a")
        world.store([2], "a")
        coordinator = world.cluster.coordinator
        refused = world.failure(ask(coordinator, "exact", None))
        assert isinstance(refused, Incomplete)
        available = world.cluster.result(ask(coordinator, "available", None))
        # Together they have all of it.
        assert (available.complete, available.missing) == (False, [])
        assert world.cluster.result(ask(coordinator, "eventual", None)).complete
        world.heal()
        assert world.cluster.result(ask(coordinator, "exact", None)).complete

    def test_tokens_are_honoured_across_coordinators(self, world: Questioned, ask: Asking) -> None:
        other = world.cluster.start_coordinator()
        world.cluster.run(1)
        world.split()
        token = world.store([2], "a", after=world.store([1], "a"))
        assert isinstance(world.failure(ask(other, "exact", token)), Incomplete)
        world.heal()
        answered = world.cluster.result(ask(other, "exact", token))
        assert world.cluster.result(ask(world.cluster.coordinator, "exact", answered.position)).complete
        assert isinstance(world.failure(ask(other, "exact", "none")), InvalidPosition)


class TestPages:
    def test_of_tenants_lead_from_one_to_the_next(self, world: Questioned) -> None:
        world.store(range(6), "abcaba")
        coordinator = world.cluster.coordinator
        orders: dict[Order, list[tuple[str, int]]] = {
            "name": [("a", 3), ("b", 2), ("c", 1)],
            "-count": [("a", 3), ("b", 2), ("c", 1)],
        }
        for order, expected in orders.items():
            found: list[tuple[str, int]] = []
            cursor: str | None = None
            while True:
                asking = coordinator.list_tenants(order=order, limit=1, cursor=cursor, consistency="exact")
                page = world.cluster.result(asking)
                found += page.tenants
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == expected

    def test_of_items_lead_from_one_to_the_next(self, world: Questioned) -> None:
        world.store([5, -3, 7], "aaa")
        coordinator = world.cluster.coordinator
        first = world.cluster.result(coordinator.list_items("a", limit=2, consistency="exact"))
        assert first.ids == [-3, 5]
        asking = coordinator.list_items("a", limit=2, cursor=first.cursor, consistency="exact")
        second = world.cluster.result(asking)
        assert (second.ids, second.cursor) == ([7], None)

    def test_have_cursors_for_all_coordinators_and_one_list(self, world: Questioned) -> None:
        world.store([1, 2], "ab")
        coordinator, other = world.cluster.coordinator, world.cluster.start_coordinator()
        world.cluster.run(1)
        first = world.cluster.result(coordinator.list_tenants(order="name", limit=1, consistency="exact"))
        asking = other.list_tenants(order="name", limit=1, cursor=first.cursor, consistency="exact")
        assert world.cluster.result(asking).tenants == [("b", 1)]
        wrong: list[Any] = [
            coordinator.list_tenants(order="-count", limit=1, cursor=first.cursor, consistency="exact"),
            coordinator.list_items("a", limit=1, cursor=first.cursor, consistency="exact"),
            coordinator.list_tenants(order="name", limit=1, cursor=first.position, consistency="exact"),
        ]
        for each in wrong:
            assert isinstance(world.failure(each), InvalidCursor)


def test_sums_and_statistics(world: Questioned) -> None:
    world.store(range(6), "abcaba")
    coordinator = world.cluster.coordinator
    total = world.cluster.result(coordinator.count_prefix("a", consistency="exact"))
    assert (total.counter, total.tenants) == (3, 1)
    found = world.cluster.result(coordinator.statistics(consistency="exact"))
    assert (found.items, found.tenants, found.tombstones, found.disk_bytes) == (6, 3, 0, 0)
    assert found.memory_bytes > 0
    assert found.memory_bytes_of_ten > 0


class TestOlderNodes:
    def test_are_not_asked_what_they_do_not_know(self) -> None:
        world = Questioned(old=["node 0"])
        world.store([1], "a")
        assert world.cluster.coordinator.status().primary == 0
        assert [each is not None for each in world.cluster.result(world.look_up(1)).items] == [True]
        world.cluster.stop()

    def test_alone_cannot_answer(self) -> None:
        world = Questioned(old=["node 0", "node 1"])
        world.store([1], "a")
        refused = world.failure(world.look_up(1))
        assert isinstance(refused, NotSupportedHere)
        assert "nodes [0, 1]" in str(refused)
        # Counts are older.
        counting = world.cluster.coordinator.count_many(["a"], consistency="exact")
        assert world.cluster.result(counting).counters == [1]
        world.cluster.stop()

    def test_are_waited_for_while_others_may_come_back(self) -> None:
        world = Questioned(old=["node 0"])
        world.cluster.kill_node(1)
        begun = world.cluster.clock.seconds()
        refused = world.failure(world.look_up(1))
        assert isinstance(refused, NotSupportedHere)
        assert world.cluster.clock.seconds() - begun >= 2
        world.cluster.stop()


def test_names_that_do_not_fit_a_line_are_refused() -> None:
    world = Questioned(limits=Limits(slice_bytes=10))
    world.cluster.result(world.cluster.coordinator.store(Items([1, 2], ["a" * 6, "b" * 6]), ack="all"))
    assert isinstance(world.failure(world.look_up(1, 2)), AnswerTooLarge)
    assert world.cluster.result(world.look_up(1)).complete
    counting = world.cluster.coordinator.count_many(["a" * 6, "b" * 6], consistency="exact")
    assert isinstance(world.failure(counting), AnswerTooLarge)
    world.cluster.stop()


def test_a_coordinator_that_stops_answers(world: Questioned) -> None:
    asking = world.look_up(1)
    world.cluster.stop()
    assert asking.called
    assert isinstance(world.failure(world.look_up(1)), Incomplete)


def test_nodes_that_are_too_slow_are_not_said_to_lack_items() -> None:
    world = Questioned(limits=Limits(suspicion_s=60.0))
    world.store([1], "a")
    world.cluster.run(1)
    for node in ("node 0", "node 1"):
        world.cluster.freeze(node)
    refused = world.failure(world.look_up(1))
    assert isinstance(refused, Incomplete)
    assert "none has answered" in str(refused)
    assert refused.missing == ()
    world.cluster.stop()


class TestTooMuch:
    """
    Questions that nobody waits for, too many questions, and questions that nodes cannot answer.
    """

    def test_one_whose_caller_has_left_is_withdrawn_from_the_nodes(self, world: Questioned) -> None:
        world.split()
        world.store([1], "a")
        world.store([2], "b")
        asking: list[Deferred[Any]] = [
            world.look_up(1),
            Deferred.fromCoroutine(
                world.cluster.coordinator.list_tenants(order="name", limit=5, consistency="exact")
            ),
        ]
        world.cluster.run(0.5)
        waits = [each.replica._answers._waits._waiting for each in world.cluster.nodes.values()]  # noqa: SLF001
        assert [len(each) for each in waits] == [2, 2]
        for each in asking:
            each.addErrback(lambda why: why.trap(CancelledError) and None)
            each.cancel()
        world.cluster.run(0.01)
        assert not any(
            each.replica._answers._waits._waiting  # noqa: SLF001
            for each in world.cluster.nodes.values()
        )
        assert not world.cluster.coordinator._asking.busy  # noqa: SLF001
        assert not any(
            link._answers  # noqa: SLF001
            for link in world.cluster.coordinator._links.values()  # noqa: SLF001
        )
        world.heal()
        assert world.cluster.result(world.look_up(1)).items[0] is not None

    def test_an_answer_of_one_node_ends_the_question_at_the_other(self, world: Questioned) -> None:
        token = world.store([1], "a")
        world.cluster.run(1)
        primary = world.cluster.coordinator.status().primary
        assert primary is not None
        slow = (f"node {primary}", "coordinator")
        world.cluster.network.slow[slow] = 0.6
        assert world.cluster.result(world.look_up(1, after=token)).complete
        assert not world.cluster.coordinator._asking.busy  # noqa: SLF001
        # The answer that comes late is no mistake of the node.
        world.cluster.run(1.5)
        assert [each.state for each in world.cluster.coordinator.status().nodes] == ["up", "up"]
        assert not world.cluster.coordinator._links[primary]._answers  # noqa: SLF001

    def test_more_than_the_nodes_take_are_refused_at_once(self) -> None:
        world = Questioned(limits=replace(Limits(), questions=2))
        world.store([1], "a")
        began = world.cluster.clock.seconds()
        asking = [
            Deferred.fromCoroutine(
                world.cluster.coordinator.list_tenants(order="name", limit=5, consistency=consistency)
            )
            for consistency in get_args(Consistency) * 5
        ]
        answers: list[Any] = []
        refusals: list[Any] = []
        for each in asking:
            each.addCallbacks(answers.append, lambda why: refusals.append(why.value))
        world.cluster.wait_for(lambda: len(answers) + len(refusals) == len(asking))
        assert world.cluster.clock.seconds() - began < 0.2
        assert len(answers) >= 2
        assert refusals
        for refusal in refusals:
            assert isinstance(refusal, Incomplete)
            assert "nodes have too many questions to answer" in str(refusal)
            assert refusal.retry_after == 1
        world.cluster.stop()

    @pytest.mark.parametrize("wrong", [[0], [0, 1]])
    def test_what_a_node_cannot_compute_another_one_answers(
        self, world: Questioned, wrong: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.store([1], "a")
        world.cluster.run(1)

        def fail(prefix: str) -> Any:
            yield from ()
            raise ZeroDivisionError(prefix)

        primary = world.cluster.coordinator.status().primary
        assert primary is not None
        for each in wrong:
            node = world.cluster.nodes[primary if each == 0 else 1 - primary]
            monkeypatch.setattr(node.replica.ledger, "prefix_sum", fail)
        began = world.cluster.clock.seconds()
        counting = world.cluster.coordinator.count_prefix("", consistency="exact")
        if len(wrong) == 1:
            assert world.cluster.result(counting).counter == 1
        else:
            why = world.failure(counting)
            assert isinstance(why, Incomplete)
            assert "nodes could not compute the answer, and have logged why" in str(why)
        assert world.cluster.clock.seconds() - began < 0.1
