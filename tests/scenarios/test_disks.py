"""
Clusters with disks: what kills, losses of power and wiped disks leave.
"""

from errno import EIO

import pytest

from dcounter.errors import NotApplied, OutcomeUnknown
from dcounter.store import Items
from dcounter.testing import Cluster

ITEMS = Items([1, 2, 3, 4, 5], ["a", "b", "a", "a", "c"], None)


def _cluster(nodes: int = 4) -> Cluster:
    return Cluster(nodes, disks=True, seed=1).start()


def _count(cluster: Cluster, tenant: str) -> int:
    return cluster.result(cluster.coordinator.count(tenant, consistency="exact")).counter


def test_all_machines_go_off_and_on_again() -> None:
    cluster = _cluster()
    for _ in range(3):
        cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
        for node in range(4):
            cluster.lose_power(node)
        for node in range(4):
            cluster.start_node(node)
        assert _count(cluster, "a") == 3
    cluster.stop()


def test_a_process_that_is_killed_keeps_what_it_acknowledged() -> None:
    cluster = _cluster()
    cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
    for node in range(4):
        for _ in range(3):
            cluster.kill_node(node)
            cluster.start_node(node)
    assert _count(cluster, "a") == 3
    cluster.stop()


def test_the_power_fails_in_the_middle_of_a_write() -> None:
    cluster = _cluster(1)
    cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
    disk = cluster.disks[0]
    disk.power_fails_at = disk.points + 1
    with pytest.raises((OutcomeUnknown, NotApplied)):
        cluster.result(cluster.coordinator.store(Items([1], ["z"], None), ack="node"))
    assert not cluster.nodes
    cluster.start_node(0)
    assert _count(cluster, "b") == 1
    cluster.stop()


def test_a_wiped_node_is_filled_by_the_others() -> None:
    cluster = _cluster(3)
    cluster.result(cluster.coordinator.store(ITEMS, ack="all"))
    cluster.wipe(1)
    cluster.start_node(1)
    cluster.wait_for(lambda: cluster.nodes[1].replica.ledger.count("a") == 3)
    cluster.stop()


def test_a_wiped_node_that_dies_while_it_is_filled_knows_that_it_was_wiped() -> None:
    cluster = _cluster(3)
    cluster.result(cluster.coordinator.store(ITEMS, ack="all"))
    cluster.part("node 1", "node 2")
    cluster.wipe(1)
    for _ in range(2):
        cluster.start_node(1)
        cluster.wait_for(lambda: cluster.nodes[1].replica.ledger.count("a") == 3)
        refuses = cluster.nodes[1].replica.status.refuses()
        assert refuses == "the node starts empty and has not heard from nodes [2]"
        cluster.lose_power(1)
    cluster.stop()


def test_a_disk_that_fails_and_works_again() -> None:
    cluster = _cluster(1)
    cluster.disks[0].errors["sync"] = EIO
    with pytest.raises((OutcomeUnknown, NotApplied)):
        cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
    cluster.disks[0].errors.clear()
    cluster.lags[0] = 0.1
    cluster.wait_for(lambda: cluster.coordinator.readiness().ready)
    cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
    assert _count(cluster, "a") == 3
    cluster.stop()
