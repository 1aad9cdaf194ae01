"""
Nodes that start on a disk of which nobody knows whether it keeps what can be read there.
"""

from errno import EIO

import pytest

from dcounter.errors import DcounterError, Incomplete
from dcounter.store import Consistency, Items
from dcounter.testing import Cluster


def _cluster() -> Cluster:
    """
    Three nodes with 10 items each; node 0 stores 12 more, of which nobody else hears.
    """
    cluster = Cluster(3, disks=True).start()
    cluster.run(1)
    _store(cluster, *range(10))
    cluster.run(1)
    for node in (1, 2):
        cluster.part("node 0", f"node {node}")
    _store(cluster, *range(100, 112))
    cluster.run(1)
    assert not cluster.nodes[1].replica.applied.covers(cluster.nodes[0].replica.applied)
    return cluster


def _store(cluster: Cluster, *ids: int) -> None:
    cluster.result(cluster.coordinator.store(Items(list(ids), ["t"] * len(ids)), ack="node"))


def _count(cluster: Cluster, consistency: Consistency = "exact") -> int:
    return cluster.result(cluster.coordinator.count("t", consistency=consistency)).counter


def _start_badly(cluster: Cluster) -> None:
    cluster.kill_node(0)
    cluster.disks[0].errors["sync"] = EIO
    cluster.start_node(0)
    cluster.run(0.4)


def _heal(cluster: Cluster) -> None:
    for node in (1, 2):
        cluster.heal("node 0", f"node {node}")
    cluster.run(1)


def test_what_others_have_is_counted_at_once() -> None:
    cluster = _cluster()
    _heal(cluster)
    _start_badly(cluster)
    status = cluster.coordinator.status()
    assert [node.in_doubt for node in status.nodes] == [False, False, False]
    assert status.nodes[0].refuses is not None
    for node in (1, 2):
        cluster.kill_node(node)
    cluster.run(0.1)
    assert _count(cluster) == 22
    cluster.disks[0].errors.clear()
    cluster.stop()


@pytest.mark.parametrize("consistency", ["exact", "available", "eventual"])
def test_what_only_it_has_is_not_counted_before_the_disk_works(consistency: Consistency) -> None:
    cluster = _cluster()
    _start_badly(cluster)
    _heal(cluster)
    node = cluster.nodes[0].replica
    assert [each.in_doubt for each in cluster.coordinator.status().nodes] == [True, False, False]
    assert all(not each.applied.covers(node.applied) for each in (cluster.nodes[1].replica, node.report()))
    if consistency == "exact":
        with pytest.raises(Incomplete):
            _count(cluster)
    else:
        assert _count(cluster, consistency) < 22

    cluster.disks[0].errors.clear()
    assert _count(cluster) == 22
    cluster.run(2)
    assert len({each.replica.ledger.digest() for each in cluster.nodes.values()}) == 1
    assert all(each.replica.durable.covers(node.applied) for each in cluster.nodes.values())
    cluster.stop()


def test_a_coordinator_that_starts_meanwhile_knows_that_it_does_not_know() -> None:
    cluster = _cluster()
    _start_badly(cluster)
    _heal(cluster)
    cluster.kill_coordinator(cluster.coordinator)
    coordinator = cluster.start_coordinator()
    cluster.run(10)
    with pytest.raises(Incomplete):
        cluster.result(coordinator.count("t", consistency="exact"))
    cluster.disks[0].errors.clear()
    assert cluster.result(coordinator.count("t", consistency="exact")).counter == 22
    cluster.stop()


def test_what_power_takes_nobody_had_counted_and_nobody_calls_lost() -> None:
    cluster = _cluster()
    _heal(cluster)
    for other in (1, 2):
        cluster.kill_node(other)
    # Neither a batch is kept nor what was written of it taken back.
    cluster.disks[0].errors.update({"sync": EIO, "truncate": EIO})
    asked = cluster.coordinator.store(Items([200], ["t"]), ack="node")
    with pytest.raises(DcounterError):
        cluster.result(asked)
    _start_badly(cluster)
    node = cluster.nodes[0].replica
    assert node.ledger.get(200) is not None
    for other in (1, 2):
        cluster.start_node(other)
    cluster.run(3)
    assert node.report().in_doubt
    assert _count(cluster) == 22
    cluster.lose_power(0)
    cluster.disks[0].errors.clear()
    cluster.start_node(0)
    cluster.run(10)
    assert cluster.nodes[0].replica.ledger.get(200) is None
    assert _count(cluster) == 22
    assert cluster.coordinator.status().lost == []
    cluster.stop()


def test_copies_wait_until_it_is_over() -> None:
    cluster = _cluster()
    _start_badly(cluster)
    cluster.wipe(1)
    cluster.start_node(1)
    _heal(cluster)
    cluster.run(2)
    assert cluster.nodes[0].replica.report().in_doubt
    assert len(cluster.nodes[1].replica.ledger) < 22
    cluster.disks[0].errors.clear()
    cluster.run(5)
    assert len(cluster.nodes[1].replica.ledger) == 22
    cluster.stop()
