"""
A member that never comes back is removed, and the others go on without it.
"""

from errno import EIO

import pytest
from twisted.internet.defer import Deferred

from dcounter.errors import Incomplete, NoAnswer, NodeIsUp, NotApplied, UnknownNode
from dcounter.store import Count, Items
from dcounter.testing import Cluster


def count(cluster: Cluster, tenant: str = "t") -> Count:
    return cluster.result(cluster.coordinator.count(tenant, consistency="exact"))


def store(cluster: Cluster, first: int, ack: str = "node") -> None:
    items = Items(range(first, first + 8), ["t"] * 8)
    cluster.result(cluster.coordinator.store(items, ack=ack))  # type: ignore[arg-type]


@pytest.fixture
def bereft() -> Cluster:
    """
    A cluster whose node 3 is dead for good; the others have all it had.
    """
    cluster = Cluster(seed=5).start()
    store(cluster, 0, ack="all")
    cluster.kill_node(3)
    cluster.run(0.1)
    return cluster


def remove(cluster: Cluster, node: int) -> None:
    cluster.result(cluster.coordinator.remove(node))
    cluster.run(1.5)


def test_it_is_a_member_no_longer(bereft: Cluster) -> None:
    remove(bereft, 3)
    assert [node.id for node in bereft.coordinator.status().nodes] == [0, 1, 2]
    assert bereft.coordinator.readiness().missing == []
    store(bereft, 8, ack="all")
    assert count(bereft).counter == 16
    bereft.stop()


def test_every_node_knows_and_lets_it_in_no_more(bereft: Cluster) -> None:
    remove(bereft, 3)
    assert [node.replica.members.removed for node in bereft.nodes.values()] == [{3}] * 3
    returned = bereft.start_node(3)
    bereft.run(3)
    assert returned.replica.applied.nodes == {}
    assert returned.replica.status.refuses() is not None
    bereft.stop()


def test_one_that_was_away_is_told_when_it_is_back(bereft: Cluster) -> None:
    bereft.freeze("node 2")
    bereft.run(1.5)
    bereft.result(bereft.coordinator.remove(3))
    assert bereft.nodes[2].replica.members.removed == set()
    bereft.thaw("node 2")
    bereft.wait_for(lambda: bereft.nodes[2].replica.members.removed == {3})
    bereft.stop()


def test_a_coordinator_that_starts_later_does_not_miss_it(bereft: Cluster) -> None:
    remove(bereft, 3)
    later = bereft.start_coordinator()
    bereft.wait_for(lambda: later.readiness().exact)
    assert bereft.result(later.count("t", consistency="exact")).counter == 8
    bereft.stop()


def test_what_only_it_had_is_lost_and_reported(bereft: Cluster) -> None:
    cluster = Cluster(seed=7).start()
    for node in range(3):
        cluster.part(f"node {node}", "node 3")
    for first in range(0, 80, 8):
        store(cluster, first)
    cluster.kill_node(3)
    with pytest.raises(Incomplete):
        count(cluster)
    remove(cluster, 3)
    # A quarter of each request was node 3's.
    assert count(cluster).counter == 60
    assert [lost["node"] for lost in cluster.coordinator.status().lost] == [3]
    cluster.stop()
    bereft.stop()


def test_only_a_member_that_is_away(bereft: Cluster) -> None:
    with pytest.raises(NodeIsUp):
        bereft.result(bereft.coordinator.remove(1))
    with pytest.raises(UnknownNode):
        bereft.result(bereft.coordinator.remove(4))
    remove(bereft, 3)
    with pytest.raises(UnknownNode):
        bereft.result(bereft.coordinator.remove(3))
    bereft.stop()


def test_what_only_some_have_of_it_they_pass_on() -> None:
    cluster = Cluster(3, seed=5).start()
    cluster.part("node 1", "node 2")
    cluster.part("node 1", "node 0")
    for first in range(0, 40, 8):
        store(cluster, first)
    cluster.run(0.1)
    cluster.kill_node(2)
    cluster.run(0.1)
    cluster.result(cluster.coordinator.remove(2))
    cluster.heal("node 0", "node 1")
    cluster.wait_for(lambda: len({node.replica.ledger.digest() for node in cluster.nodes.values()}) == 1)
    assert count(cluster).counter == 40
    cluster.stop()


def test_nodes_that_do_not_know_are_told_again() -> None:
    cluster = Cluster(3, seed=5, disks=True).start()
    cluster.wipe(2)
    cluster.part("node 0", "node 1")
    cluster.part("coordinator", "node 0")
    cluster.run(0.1)
    # Node 1 tells the coordinator, but its power fails before it is durable.
    cluster.lags[1] = 0.2
    telling = Deferred.fromCoroutine(cluster.coordinator.remove(2))
    cluster.run(0.1)
    cluster.lose_power(1)
    with pytest.raises(NoAnswer):
        cluster.result(telling)
    cluster.lags.clear()
    cluster.heal("node 0", "node 1")
    cluster.heal("coordinator", "node 0")
    cluster.start_node(1)
    cluster.wait_for(lambda: cluster.coordinator.readiness().ready)
    assert [node.replica.members.removed for node in cluster.nodes.values()] == [set(), set()]
    cluster.result(cluster.coordinator.remove(2))
    cluster.run(1.0)
    assert [node.replica.members.removed for node in cluster.nodes.values()] == [{2}, {2}]
    with pytest.raises(UnknownNode):
        cluster.result(cluster.coordinator.remove(2))
    cluster.stop()


def test_nobody_is_there_to_be_told() -> None:
    cluster = Cluster(2, seed=5).start()
    for node in (0, 1):
        cluster.kill_node(node)
    cluster.run(0.1)
    with pytest.raises(NotApplied, match="no other node could be told"):
        cluster.result(cluster.coordinator.remove(1))
    cluster.stop()


@pytest.mark.parametrize("told_before", [False, True])
def test_a_disk_that_fails_keeps_nobody_waiting(told_before: bool) -> None:
    cluster = Cluster(3, seed=5, disks=True).start()
    cluster.wipe(2)
    cluster.run(0.1)
    disk = cluster.disks[0]
    disk.errors["sync"] = EIO
    if not told_before:
        # Its disk is known to fail; else it fails with the very line that says so.
        store(cluster, 0, ack="node")
    began = cluster.clock.seconds()
    cluster.result(cluster.coordinator.remove(2))
    assert cluster.clock.seconds() < began + 1
    assert [cluster.nodes[node].replica.members.removed for node in (0, 1)] == [{2}, {2}]
    disk.errors.clear()
    # A failed disk is tried again every second.
    cluster.run(3)
    cluster.kill_node(0)
    assert cluster.start_node(0).replica.members.removed == {2}
    cluster.stop()


def test_a_node_that_does_not_answer_keeps_nobody_waiting_for_ever() -> None:
    cluster = Cluster(3, seed=5, disks=True).start()
    cluster.wipe(2)
    cluster.run(0.1)
    cluster.lags[0] = 60.0
    began = cluster.clock.seconds()
    cluster.result(cluster.coordinator.remove(2))
    assert cluster.clock.seconds() < began + 6
    cluster.lags.clear()
    cluster.run(60)
    cluster.stop()


def test_somebody_must_be_there_to_be_told(bereft: Cluster) -> None:
    for node in range(3):
        bereft.kill_node(node)
    bereft.run(0.1)
    with pytest.raises(NotApplied):
        bereft.result(bereft.coordinator.remove(3))
    bereft.stop()
