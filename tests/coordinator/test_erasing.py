"""
Deleting a tenant, over a whole cluster in memory.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from twisted.internet.defer import CancelledError, Deferred

from dcounter.coordinator.inquiries import Reply
from dcounter.errors import EraseStopped, Incomplete, NotApplied, NotReplicated, NotSupportedHere, Refusal
from dcounter.limits import Limits
from dcounter.protocol import questions
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.store import Ack, Erased, Items
from dcounter.testing.cluster import Cluster
from dcounter.testing.parts import Parts

OLD = Abilities(2, 2, [each for each in ABILITIES.features if each != "owned"])


class Erasing:
    """
    A cluster, and its first coordinator. A page has two entries.
    """

    def __init__(self, nodes: int = 2, *, old: Sequence[str] = ()) -> None:
        parts = Parts(abilities=lambda process: OLD if process in old else ABILITIES)
        self.cluster = Cluster(nodes, limits=Limits(erase_items=2), parts=parts)
        self.cluster.start()
        self.cluster.run(1)

    def store(
        self, ids: Sequence[int], tenants: str | Sequence[str | None], stamps: Sequence[int] | None = None
    ) -> str:
        storing = self.cluster.coordinator.store(Items(ids, list(tenants), stamps), ack="node")
        return self.cluster.result(storing).position

    def erase(self, tenant: str, ack: Ack = "node", **kw: Any) -> Deferred[Erased]:
        return Deferred.fromCoroutine(self.cluster.coordinator.erase(tenant, ack=ack, **kw))

    def erased(self, tenant: str, **kw: Any) -> Erased:
        return self.cluster.result(self.erase(tenant, **kw))

    def in_the_middle(self, **kw: Any) -> Deferred[Erased]:
        """
        Delete a tenant with 400 items; some of them are deleted already.
        """
        self.store(range(400), ["a"] * 400)
        self.cluster.run(1)
        erasing = self.erase("a", **kw)
        self.until_fewer(390)
        return erasing

    def left(self) -> int:
        return self.cluster.nodes[0].replica.ledger.count("a")

    def until_fewer(self, items: int) -> None:
        """
        Wait until fewer items are left at a node.
        """
        self.cluster.wait_for(lambda: self.left() < items)

    def count(self, tenant: str, after: str | None = None) -> int:
        asking = self.cluster.coordinator.count(tenant, consistency="exact", after=after)
        return self.cluster.result(asking).counter

    def failure(self, what: Any) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.cluster.result(what)
        return caught.value


@pytest.fixture
def world() -> Iterator[Erasing]:
    world = Erasing()
    yield world
    world.cluster.stop()


def test_everything_that_it_owns_is_deleted(world: Erasing) -> None:
    world.store(range(9), "aaabaaabb")
    done = world.erased("a")
    assert (done.deleted, done.ack) == (6, "node")
    assert (world.count("a"), world.count("b", done.position)) == (0, 3)
    assert world.erased("a").deleted == 0
    assert world.erased("nobody").deleted == 0


def test_each_tombstone_is_just_newer_than_what_it_deletes(world: Erasing) -> None:
    world.store([1, 2], "aa", [10, 20])
    world.erased("a")
    # A move to another tenant that the node did not know yet.
    world.store([1, 2], "bb", [11, 21])
    assert world.count("b") == 2


def test_what_is_stored_later_stays(world: Erasing) -> None:
    world.store([1, 2, 3], "aaa")
    first = world.erased("a")
    world.store([1, 4], "aa")
    assert world.count("a") == 2
    # And also if the request is repeated with its stamp.
    assert world.erased("a", stamp=first.stamp).deleted == 0
    assert world.count("a") == 2
    assert world.erased("a").deleted == 2


def test_what_was_stamped_before_and_is_under_way_is_deleted(world: Erasing) -> None:
    coordinator = world.cluster.coordinator
    storing = Deferred.fromCoroutine(coordinator.store(Items(range(9), ["a"] * 9), ack="node"))
    erasing = world.erase("a")
    world.cluster.result(storing)
    assert world.cluster.result(erasing).deleted == 9
    assert world.count("a") == 0


def test_a_caller_is_told_on_how_many_nodes_it_is_written(world: Erasing) -> None:
    world.store([1, 2, 3], "aaa")
    assert world.erased("a", ack="all").ack == "all"
    for node in world.cluster.nodes.values():
        assert node.replica.durable.covers(node.replica.applied)
        assert node.replica.ledger.count("a") == 0


def test_it_outlives_a_change_of_the_secret(world: Erasing) -> None:
    erasing = world.in_the_middle(after=world.store([1_000], "b"))
    secrets = world.cluster.processes.secrets
    for _ in range(3):
        secrets.begin_step()
        for process in secrets.behind:
            secrets.take_step(process)
        world.until_fewer(world.left() - 20)
    assert world.cluster.result(erasing).deleted == 400
    assert world.count("a") == 0


def test_an_ack_that_is_not_reached_is_told(world: Erasing) -> None:
    world.store([1, 2, 3], "aaa")
    world.cluster.run(1)
    world.cluster.kill_node(1)
    world.cluster.run(2)
    refusal = world.failure(world.erase("a", ack="all"))
    assert isinstance(refusal, NotReplicated)
    assert (refusal.items, refusal.reached) == (3, "primary")
    assert refusal.stamp is not None
    # To repeat it waits for the same.
    assert isinstance(world.failure(world.erase("a", ack="all", stamp=refusal.stamp)), NotReplicated)


def test_it_fails_closed(world: Erasing) -> None:
    world.store([1, 2, 3], "aaa")
    world.cluster.part("node 0", "node 1")
    for item in range(4, 12):
        world.store([item], "a")
    refusal = world.failure(world.erase("a"))
    assert isinstance(refusal, Incomplete)
    world.cluster.heal("node 0", "node 1")
    world.cluster.run(1)
    assert world.erased("a").deleted == 11


def test_a_failure_in_the_middle_says_how_far_it_came(world: Erasing) -> None:
    erasing = world.in_the_middle()
    for node in list(world.cluster.nodes):
        world.cluster.kill_node(node)
    refusal = world.failure(erasing)
    assert isinstance(refusal, EraseStopped)
    assert 0 < refusal.deleted < 400
    assert refusal.outcome in {"partial", "unknown"}
    assert refusal.details()["deleted"] == refusal.deleted


def test_a_caller_that_hangs_up_stops_it(world: Erasing) -> None:
    erasing = world.in_the_middle()
    erasing.cancel()
    with pytest.raises(CancelledError):
        world.cluster.result(erasing)
    world.cluster.run(2)
    left = world.count("a")
    assert left > 0
    world.cluster.run(2)
    assert world.count("a") == left
    assert world.erased("a").deleted == left


def test_a_coordinator_that_stops_ends_it_and_says_so() -> None:
    world = Erasing()
    erasing = world.in_the_middle()
    stopping = world.cluster.coordinator.stopService()
    refusal = world.failure(erasing)
    assert isinstance(refusal, EraseStopped)
    assert "the daemon is stopping" in str(refusal)
    assert 0 < refusal.deleted < 400
    world.cluster.result(stopping)
    assert isinstance(world.failure(world.erase("a")), NotApplied)


def test_many_at_once_delete_each_item_once(world: Erasing) -> None:
    world.store(range(60), "abc" * 20)
    erasing = [world.erase(tenant) for tenant in "abc"]
    assert [world.cluster.result(each).deleted for each in erasing] == [20, 20, 20]


def test_those_of_one_tenant_delete_each_item_once(world: Erasing) -> None:
    world.store(range(60), "a" * 60)
    erasing = [world.erase("a") for _ in range(9)]
    assert sum(world.cluster.result(each).deleted for each in erasing) == 60


def test_so_many_are_under_way_at_once_and_others_wait(world: Erasing) -> None:
    world.store(range(9), "abcdefghi")
    most = 0
    walks: list[int] = []
    ask = world.cluster.coordinator._erasing.ask  # noqa: SLF001

    async def counted(*words: Any, what: questions.ListOwned) -> Any:
        nonlocal most
        walks.append(1)
        most = max(most, len(walks))
        try:
            return await ask(*words, what=what)
        finally:
            walks.pop()

    world.cluster.coordinator._erasing.ask = counted  # noqa: SLF001
    erasing = [world.erase(tenant) for tenant in "abcdefghi"]
    # One that waits may leave.
    erasing[-1].cancel()
    with pytest.raises(CancelledError):
        world.cluster.result(erasing[-1])
    assert [world.cluster.result(each).deleted for each in erasing[:-1]] == [1] * 8
    assert most == Limits().erasures
    assert world.erased("i").deleted == 1


def test_entries_whose_deletion_was_under_way_when_a_node_answered_are_deleted_once(world: Erasing) -> None:
    """
    Another node goes on, whose rows have another order, and which does not have the latest tombstones yet.
    """
    position = world.store([1, 2, 3, 4, 5, 6], "a" * 6, range(10, 70, 10))
    pages = [[1, 2], [3, 4], [5, 6], [2, 1]]

    async def ask(*_: Any, what: questions.ListOwned) -> Reply:
        if not pages:
            return Reply(questions.OwnedListed(b"", b"", None), position, True, ())
        ids = np.array(pages.pop(0))
        page = questions.OwnedListed.of(ids, ids * 10, what.begin + 1 if pages else None)
        return Reply(page, position, True, ())

    world.cluster.coordinator._erasing.ask = ask  # noqa: SLF001
    assert world.erased("a").deleted == 6


@pytest.mark.parametrize("old", [["node 0", "node 1"], ["node 1"]])
def test_nodes_of_an_older_release_are_not_asked(old: Sequence[str]) -> None:
    world = Erasing(old=old)
    world.store([1, 2], "aa")
    world.cluster.run(1)
    if len(old) == 1:
        assert world.erased("a").deleted == 2
    else:
        assert isinstance(world.failure(world.erase("a")), NotSupportedHere)
        assert world.count("a") == 2
    world.cluster.stop()
