"""
Nodes that start serve what they have before their ledgers are loaded, and count nothing until then.
"""

from dataclasses import replace

import pytest

from dcounter.errors import Incomplete
from dcounter.limits import Limits
from dcounter.store import Consistency, Items
from dcounter.testing import Cluster

LIMITS = replace(
    Limits(), load_s=0.0, load_pause_s=0.5, chunk_rows=5, segment_bytes=2_000, snapshot_bytes=1_000
)
"""
A line of the journal at a time, and half a second in between.
"""


def _cluster(nodes: int = 2) -> Cluster:
    """
    Nodes with a snapshot of 40 items, and a batch or two behind it.
    """
    cluster = Cluster(nodes, limits=LIMITS, disks=True).start()
    cluster.run(1)
    for first in range(0, 40, 10):
        _store(cluster, *range(first, first + 10))
        cluster.run(2)
    assert all(any(name.endswith(".snapshot") for name in disk.list()) for disk in cluster.disks.values())
    _store(cluster, 40, 41)
    cluster.run(1)
    return cluster


def _store(cluster: Cluster, *ids: int) -> None:
    cluster.result(cluster.coordinator.store(Items(list(ids), ["t"] * len(ids)), ack="node"))


def _count(cluster: Cluster, consistency: Consistency = "exact") -> int:
    return cluster.result(cluster.coordinator.count("t", consistency=consistency)).counter


def _loaded(cluster: Cluster) -> None:
    cluster.wait_for(lambda: not any(node.replica.contents.loading for node in cluster.nodes.values()), 100)


def _restart(cluster: Cluster, *nodes: int) -> None:
    for node in nodes:
        cluster.kill_node(node)
    for node in nodes:
        cluster.start_node(node)
    cluster.run(0.4)
    assert all(cluster.nodes[node].replica.contents.loading for node in nodes)


def test_others_get_what_only_a_node_has_while_it_loads() -> None:
    cluster = _cluster(3)
    cluster.part("node 0", "node 1")
    cluster.part("node 0", "node 2")
    _store(cluster, *range(100, 112))
    cluster.run(1)
    before = cluster.nodes[0].replica.applied
    assert not cluster.nodes[1].replica.applied.covers(before)
    cluster.kill_node(0)
    for node in (1, 2):
        cluster.heal("node 0", f"node {node}")
    with pytest.raises(Incomplete):
        _count(cluster)

    begin = cluster.clock.seconds()
    cluster.start_node(0)
    assert _count(cluster) == 54
    assert cluster.nodes[1].replica.applied.covers(before)
    assert cluster.nodes[0].replica.contents.loading
    assert cluster.clock.seconds() - begin < 2

    # It takes writes, too.
    _store(cluster, 200, 201, 202)
    assert _count(cluster) == 57
    assert cluster.nodes[0].replica.contents.loading
    _loaded(cluster)
    cluster.run(1)
    assert len({node.replica.ledger.digest() for node in cluster.nodes.values()}) == 1
    cluster.stop()


def test_a_node_that_loads_is_shown_and_asked_for_no_counts() -> None:
    cluster = _cluster()
    assert cluster.coordinator.status().primary == 0
    _restart(cluster, 0)
    status = cluster.coordinator.status()
    assert [(node.state, node.loading) for node in status.nodes] == [("up", True), ("up", False)]
    assert status.primary == 1
    for consistency in ("exact", "available", "eventual"):
        assert _count(cluster, consistency) == 42
    _loaded(cluster)
    cluster.run(0.1)
    status = cluster.coordinator.status()
    assert [node.loading for node in status.nodes] == [False, False]
    # It stays until it is gone.
    assert status.primary == 1
    cluster.kill_node(1)
    cluster.run(0.1)
    assert _count(cluster) == 42
    cluster.stop()


@pytest.mark.parametrize("consistency", ["exact", "available", "eventual"])
def test_no_count_is_answered_while_all_load(consistency: Consistency) -> None:
    cluster = _cluster()
    _restart(cluster, 0, 1)
    with pytest.raises(Incomplete) as refusal:
        _count(cluster, consistency)
    assert refusal.value.counter_so_far is None
    readiness = cluster.coordinator.readiness()
    assert (readiness.ready, readiness.exact, readiness.missing) == (False, False, [0, 1])
    _loaded(cluster)
    assert _count(cluster, consistency) == 42
    assert cluster.coordinator.readiness().exact
    cluster.stop()


def test_a_count_that_waits_is_answered_when_the_ledger_is_loaded() -> None:
    cluster = _cluster(1)
    _restart(cluster, 0)
    replica = cluster.nodes[0].replica
    cluster.wait_for(lambda: len(replica.ledger) == 42)
    assert replica.contents.loading
    assert _count(cluster) == 42
    cluster.stop()


def test_no_snapshot_is_taken_before_all_is_loaded() -> None:
    cluster = _cluster()
    _restart(cluster, 0)
    names = set(cluster.disks[0].list())
    for first in range(100, 400, 30):
        _store(cluster, *range(first, first + 30))
    assert cluster.nodes[0].replica.contents.loading
    assert names <= set(cluster.disks[0].list())
    _loaded(cluster)
    cluster.run(3)
    assert not names <= set(cluster.disks[0].list())
    cluster.lose_power(0)
    cluster.start_node(0)
    _loaded(cluster)
    assert len(cluster.nodes[0].replica.ledger) == 342
    cluster.stop()


def test_one_that_loads_can_be_stopped() -> None:
    cluster = _cluster()
    _restart(cluster, 0)
    _store(cluster, 50, 51)
    cluster.stop_node(0)
    assert _count(cluster) == 44
    cluster.stop()
    assert not cluster.clock.getDelayedCalls()


def test_damage_that_is_found_late_ends_the_node_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    cluster = _cluster()
    cluster.kill_node(0)
    disk = cluster.disks[0]
    disk.open()
    [snapshot] = [name for name in disk.list() if name.endswith(".snapshot")]
    last = disk.read(snapshot).rindex(b"copy_piece")
    disk.close()
    disk.damage(snapshot, last + 30)
    node = cluster.start_node(0)
    cluster.run(0.4)
    assert node.replica.contents.loading
    _store(cluster, 50, 51, 52, 53)
    assert node.replica.report().items_taken == 2
    cluster.run(10)
    assert not cluster.network.ports.keys() & {8090}
    assert node.replica.contents.loading
    assert any(
        record.levelname == "ERROR"
        and "its journal is damaged: " in record.getMessage()
        and "--rebuild 0" in record.getMessage()
        for record in caplog.records
    )
    assert _count(cluster) == 46
    cluster.stop()
    assert not cluster.clock.getDelayedCalls()
