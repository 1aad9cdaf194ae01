"""
Dropping old tombstones, over a whole cluster in memory.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dcounter.compaction_errors import CompactionStopped, StampTooOld
from dcounter.coordinator.compacting import Tombstones
from dcounter.errors import NotApplied, NotSupportedHere, Refusal
from dcounter.limits import Limits
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.store import Items
from dcounter.testing.cluster import Cluster
from dcounter.testing.parts import Parts

OLD = Abilities(2, 2, [each for each in ABILITIES.features if each != "compact"])


class Compacting:
    """
    A cluster of three nodes with disks, and its first coordinator.
    """

    def __init__(self, *, old: Sequence[str] = (), limits: Limits | None = None) -> None:
        parts = Parts(abilities=lambda process: OLD if process in old else ABILITIES)
        self.cluster = Cluster(3, disks=True, limits=limits, parts=parts)
        self.cluster.start()
        self.cluster.run(1)

    def store(self, ids: Sequence[int], tenant: str | None, stamp: int | None = None) -> None:
        stamps = None if stamp is None else [stamp] * len(ids)
        items = Items(ids, [tenant] * len(ids), stamps)
        self.cluster.result(self.cluster.coordinator.store(items, ack="all"))

    def compact(self, before: int | None) -> int:
        return self.cluster.result(self.cluster.coordinator.compacting.compact(before))

    def now(self) -> int:
        return self.cluster.coordinator.latest_stamp() - 10 * 10**9

    def tombstones(self) -> list[int]:
        ledgers = [each.replica.ledger for _, each in sorted(self.cluster.nodes.items())]
        return [ledger.known - len(ledger) for ledger in ledgers]

    def count(self, tenant: str) -> int:
        return self.cluster.result(self.cluster.coordinator.count(tenant, consistency="exact")).counter

    def failure(self, what: Any) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.cluster.result(what)
        return caught.value


@pytest.fixture
def world() -> Iterator[Compacting]:
    world = Compacting()
    yield world
    world.cluster.stop()


def test_tombstones_are_dropped_on_every_node_and_counts_stay(world: Compacting) -> None:
    world.store(range(10), "a")
    world.store(range(6), None)
    assert world.tombstones() == [6, 6, 6]
    floor = world.compact(world.now())
    world.cluster.run(2)
    assert world.tombstones() == [0, 0, 0]
    assert world.count("a") == 4
    nodes = world.cluster.coordinator.status().nodes
    assert [node.tombstones for node in nodes] == [0, 0, 0]
    assert all(node.compacted is not None for node in nodes)
    assert floor <= world.now()


def test_newer_tombstones_stay(world: Compacting) -> None:
    world.store([1, 2], None, 10)
    world.store([3], None)
    world.compact(20)
    world.cluster.run(2)
    assert world.tombstones() == [1, 1, 1]


def test_what_is_an_hour_old_is_dropped_if_nobody_says_more(world: Compacting) -> None:
    world.store([1], None, world.now() - 3_601 * 10**9)
    world.store([2], None, world.now() - 3_000 * 10**9)
    world.compact(None)
    world.cluster.run(2)
    assert world.tombstones() == [1, 1, 1]


def test_older_items_are_refused_afterwards(world: Compacting) -> None:
    world.store([1], "a", 5)
    world.store([1], None, 10)
    assert world.compact(20) == 20
    world.cluster.run(1)
    for items in (Items([1], ["a"], [5]), Items([2, 3], ["a", "a"], [None, 20])):
        refusal = world.failure(world.cluster.coordinator.store(items, ack="node"))
        assert isinstance(refusal, StampTooOld)
        assert (refusal.floor, refusal.outcome) == (20, "not_applied")
    world.store([3], "a", 21)
    world.store([4], "a")
    assert world.count("a") == 2


def test_a_coordinator_that_starts_later_knows_the_floor(world: Compacting) -> None:
    world.compact(20)
    other = world.cluster.start_coordinator()
    world.cluster.run(2)
    refusal = world.failure(other.store(Items([1], ["a"], [20]), ack="node"))
    assert isinstance(refusal, StampTooOld)


def test_a_tenant_with_old_items_can_still_be_deleted(world: Compacting) -> None:
    world.store([1, 2], "a", 5)
    world.compact(20)
    world.cluster.run(1)
    assert world.cluster.result(world.cluster.coordinator.erase("a", ack="all")).deleted == 2
    assert world.count("a") == 0


def test_while_a_node_is_missing_nothing_happens(world: Compacting) -> None:
    world.store([1], None, 10)
    world.cluster.kill_node(2)
    world.cluster.run(2)
    refusal = world.failure(world.cluster.coordinator.compacting.compact(20))
    assert isinstance(refusal, NotApplied)
    assert all(node.replica.contents.floor == 0 for node in world.cluster.nodes.values())


def test_what_a_node_said_before_it_was_connected_anew_is_not_relied_on(world: Compacting) -> None:
    coordinator = world.cluster.coordinator
    coordinator._view.connected(1, world.cluster.clock.seconds())  # noqa: SLF001 - no report between
    refusal = world.failure(coordinator.compacting.compact(20))
    assert isinstance(refusal, NotApplied)
    assert "nodes [1] do not know for certain" in str(refusal)
    assert all(node.replica.contents.floor == 0 for node in world.cluster.nodes.values())
    world.cluster.run(1)
    assert world.compact(20) == 20


def test_a_node_that_lacks_something_stops_it() -> None:
    world = Compacting(limits=Limits(compact_s=2.0))
    world.store([1], None, 10)
    for other in ("node 0", "node 1"):
        world.cluster.part("node 2", other)
    for item in range(2, 12):
        items = Items([item], ["a"])
        world.cluster.result(world.cluster.coordinator.store(items, ack="node"))
    refusal = world.failure(world.cluster.coordinator.compacting.compact(world.now()))
    assert isinstance(refusal, CompactionStopped)
    world.cluster.run(2)
    # The floor is there, and no tombstone is gone.
    assert world.tombstones() == [1, 1, 1]
    assert all(node.replica.contents.floor for node in world.cluster.nodes.values())
    for other in ("node 0", "node 1"):
        world.cluster.heal("node 2", other)
    world.cluster.run(2)
    world.compact(world.now())
    world.cluster.run(2)
    assert world.tombstones() == [0, 0, 0]
    world.cluster.stop()


def test_while_it_runs_a_tenant_with_older_items_is_not_deleted() -> None:
    world = Compacting()
    cluster = world.cluster
    other, third = cluster.start_coordinator(), cluster.start_coordinator()
    world.store([1], "a", 10)
    assert world.count("a") == 1
    cluster.run(1)
    for node in ("node 0", "node 1"):
        cluster.part("node 2", node)
        cluster.part(cluster.name(1), node)
    cluster.run(10)
    # Only node 2 has it, and the first coordinator does not know that.
    cluster.result(other.store(Items([1], ["b"], [20]), ack="node"))
    compacting = Deferred.fromCoroutine(third.compacting.compact(30))
    cluster.run(1)
    refusal = world.failure(cluster.coordinator.erase("a", ack="node"))
    assert isinstance(refusal, NotApplied)
    assert "compaction" in str(refusal)
    for node in ("node 0", "node 1"):
        cluster.heal("node 2", node)
    cluster.result(compacting)
    cluster.run(2)
    assert cluster.result(cluster.coordinator.erase("a", ack="node")).deleted == 0
    assert world.count("b") == 1
    cluster.stop()


def test_a_node_that_is_removed_meanwhile_stops_it() -> None:
    world = Compacting(limits=Limits(compact_s=2.0))
    world.store([1], None, 10)
    for other in ("node 0", "node 1"):
        world.cluster.part("node 2", other)
    world.cluster.result(world.cluster.coordinator.store(Items([2], ["a"]), ack="node"))
    compacting = Deferred.fromCoroutine(world.cluster.coordinator.compacting.compact(world.now()))
    world.cluster.run(0.5)
    world.cluster.kill_node(2)
    world.cluster.wait_for(lambda: world.cluster.coordinator.status().nodes[2].state != "up")
    world.cluster.result(world.cluster.coordinator.remove(2))
    refusal = world.failure(compacting)
    assert isinstance(refusal, CompactionStopped)
    assert "nodes [2]" in str(refusal)
    world.cluster.stop()


def test_it_survives_a_restart_of_everything(world: Compacting) -> None:
    world.store(range(10), "a")
    world.store(range(6), None)
    floor = world.compact(world.now())
    for node in range(3):
        world.cluster.lose_power(node)
    for node in range(3):
        world.cluster.start_node(node)
    world.cluster.run(5)
    assert world.tombstones() == [0, 0, 0]
    contents = [node.replica.contents for node in world.cluster.nodes.values()]
    assert [(each.floor, each.compacted_stamp) for each in contents] == [(floor, floor)] * 3
    assert world.count("a") == 4


def test_a_directory_that_was_put_back_brings_nothing_back() -> None:
    # Logs are short, so that the node needs a copy.
    limits = Limits(backlog_bytes=300, segment_bytes=100, snapshot_bytes=300)
    world = Compacting(limits=limits)
    world.store(range(10), "a")
    kept = world.cluster.disks[1].copy()
    world.store(range(6), None)
    world.store(range(20, 40), "b")
    world.compact(world.now())
    world.cluster.run(2)
    world.cluster.lose_power(1)
    world.cluster.disks[1].put_back(kept)
    world.cluster.start_node(1)
    world.cluster.run(10)
    digests = {node.replica.ledger.digest() for node in world.cluster.nodes.values()}
    assert len(digests) == 1
    assert world.count("a") == 4
    assert world.tombstones() == [0, 0, 0]
    # And it stays so: the copy is in the journal.
    world.cluster.lose_power(1)
    world.cluster.start_node(1)
    world.cluster.run(5)
    assert {node.replica.ledger.digest() for node in world.cluster.nodes.values()} == digests
    world.cluster.stop()


def test_an_empty_node_is_refilled(world: Compacting) -> None:
    world.store(range(10), "a")
    world.store(range(6), None)
    floor = world.compact(world.now())
    world.cluster.run(2)
    world.cluster.wipe(1)
    world.cluster.start_node(1)
    world.cluster.run(10)
    assert world.tombstones() == [0, 0, 0]
    assert world.cluster.nodes[1].replica.contents.floor == floor
    assert len({node.replica.ledger.digest() for node in world.cluster.nodes.values()}) == 1


def test_an_older_release_in_the_cluster_is_no_part_of_it() -> None:
    world = Compacting(old=["node 1"])
    world.store([1], None, 10)
    assert isinstance(world.failure(world.cluster.coordinator.compacting.compact(20)), NotSupportedHere)
    assert world.tombstones() == [1, 1, 1]
    world.cluster.stop()


def test_a_coordinator_tells_how_many_tombstones_there_are(world: Compacting) -> None:
    coordinator = world.cluster.coordinator
    world.store(range(10), "a")
    world.store(range(4), None)
    world.cluster.run(1)
    assert coordinator.compacting.tombstones() == Tombstones(4, 0.4, 0)
    floor = world.compact(world.now())
    world.cluster.run(2)
    assert coordinator.compacting.tombstones() == Tombstones(0, 0.0, floor)


def test_without_anything_there_are_none(world: Compacting) -> None:
    assert world.cluster.coordinator.compacting.tombstones() == Tombstones(0, 0.0, 0)


def test_it_remembers_when_updates_came_late(world: Compacting) -> None:
    def late_at() -> int | None:
        return world.cluster.coordinator.compacting.late_at

    day, minute = 86_400 * 10**9, 60 * 10**9
    world.store([1], "a")
    world.store([1], "a", world.now() - day + minute)
    assert late_at() is None
    world.store([1], "a", world.now() - day - minute)
    first = late_at()
    assert first is not None
    world.cluster.run(5)
    world.store([1], "a", world.now())
    assert late_at() == first
    world.store([1], "a", 7)
    assert (late_at() or 0) > first
