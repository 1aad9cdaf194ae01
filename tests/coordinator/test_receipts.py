"""
Receipts of a coordinator: what its callers are told of the changes that they make.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dcounter.errors import NotApplied, NotSupportedHere, TooManyItems
from dcounter.limits import Limits
from dcounter.protocol.abilities import ABILITIES, GIVES_RECEIPTS
from dcounter.store import Changes, Items, Receipt
from tests.coordinator.test_service import CalledCluster


class Receiving(CalledCluster):
    def changing(self, items: Items, **kw: Any) -> Deferred[Receipt]:
        what = self.coordinator.store(items, ack=kw.pop("ack", "node"), changes=True, **kw)
        return Deferred.fromCoroutine(what)

    def change(
        self,
        ids: Sequence[int],
        tenants: Sequence[str | None],
        stamps: Sequence[int | None] | None = None,
        **kw: Any,
    ) -> Changes:
        receipt = self.cluster.result(self.changing(Items(ids, tenants, stamps), **kw))
        assert receipt.changes is not None
        return receipt.changes


@pytest.fixture
def world() -> Iterator[Receiving]:
    world = Receiving()
    yield world
    world.stop()


def test_each_item_is_told_of_as_if_those_before_it_were_stored(world: Receiving) -> None:
    world.store([1, 2, 3], ["a", "a", "b"])
    told = world.change([1, 2, 3, 4, 5, 5, 6], ["a", "b", None, None, "a", "c", "a"])
    assert told == Changes(
        ["unchanged", "moved", "deleted", "unchanged", "created", "moved", "created"],
        {"a": 2, "b": 1, "c": 1},
    )
    assert world.change([1], ["x"], [0]) == Changes(["stale"], {"x": 0})


def test_items_that_later_ones_replace_are_stale(world: Receiving) -> None:
    stamp = world.cluster.wall()
    told = world.change([1, 2, 1], ["z", "b", "a"], [stamp, stamp, stamp])
    assert told.items == ["stale", "created", "created"]
    assert told.counts == {"a": 1, "b": 1}


def test_what_was_answered_before_is_included_wherever_it_is(world: Receiving) -> None:
    for round_ in range(20):
        # Any node takes these; the one that gives the receipt waits until it has them.
        world.store([round_ * 2, round_ * 2 + 1])
        told = world.change([1000 + round_], ["a"])
        assert told == Changes(["created"], {"a": 3 * (round_ + 1)})


def test_a_later_count_does_not_go_back(world: Receiving) -> None:
    receipt = world.cluster.result(world.changing(Items([1, 2], ["a", "a"])))
    assert world.count() == 2
    assert world.count(by=world.cluster.start_coordinator(), after=receipt.position) == 2


def test_one_node_decides_about_all_items(world: Receiving) -> None:
    before = world.batches()
    told = world.change(range(1_000), ["a"] * 1_000)
    assert told.counts == {"a": 1_000}
    assert world.batches() == before + 1
    # Nor do others share the batch.
    waiting = [world.storing([2_000]), world.changing(Items([2_001], ["a"])), world.storing([2_002])]
    for each in waiting:
        world.cluster.result(each)
    assert world.taken()[0] >= 1_001


def test_nothing_changes_nothing(world: Receiving) -> None:
    assert world.change([], []) == Changes([], {})


def test_it_goes_to_another_node_if_the_primary_does_not_answer(world: Receiving) -> None:
    world.store([1], ["b"], ack="all")
    world.cluster.freeze("node 0")
    told = world.change([1], ["a"])
    assert told.items == ["moved"]
    world.cluster.thaw("node 0")
    world.cluster.run(3)
    assert (world.count("a"), world.count("b")) == (1, 0)


def test_a_receipt_of_a_node_that_lacks_something_says_so(world: Receiving) -> None:
    for node in (1, 2, 3):
        world.cluster.part("node 0", f"node {node}")
    # Each node takes one, and node 0 gets none of the others.
    world.store(range(4))
    told = world.change([9], ["a"])
    assert (told.items, told.complete, told.missing) == (["created"], False, [])
    assert told.counts is not None
    assert 2 <= told.counts["a"] < 5


def test_a_coordinator_that_has_not_heard_from_all_says_so() -> None:
    world = Receiving(disks=True)
    world.store([1], ack="all")
    world.cluster.kill_node(3)
    world.cluster.run(1)
    other = world.cluster.start_coordinator()
    world.cluster.run(6)
    receipt = world.cluster.result(
        Deferred.fromCoroutine(other.store(Items([2], ["a"]), ack="node", changes=True))
    )
    assert receipt.changes is not None
    assert (receipt.changes.complete, receipt.changes.missing) == (False, [3])
    world.stop()


def test_nodes_of_an_earlier_version_are_not_asked(world: Receiving) -> None:
    assert GIVES_RECEIPTS in ABILITIES.features
    links = world.coordinator._links  # noqa: SLF001 - the peers of a test are all of this version
    for node in (0, 1, 2):
        links[node].peer = replace(links[node].peer, features=frozenset())
    world.change(range(10), ["a"] * 10)
    world.cluster.run(1)
    assert world.taken() == [0, 0, 0, 10]
    links[3].peer = replace(links[3].peer, features=frozenset())
    error = world.refused(NotSupportedHere, world.changing(Items([1], ["a"])))
    assert "earlier version" in str(error)
    assert world.store([1]).items == 1


def test_more_than_one_node_takes_at_once_is_refused(world: Receiving) -> None:
    name = "x" * (Limits().slice_bytes // 2)
    world.refused(TooManyItems, world.changing(Items([1, 2], [name, name])))
    assert world.count(name) == 0


def test_without_a_node_nothing_is_stored(world: Receiving) -> None:
    world.freeze_all()
    world.cluster.run(3)
    assert world.refused(NotApplied, world.changing(Items([1], ["a"]))).outcome == "not_applied"
