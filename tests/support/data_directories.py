"""
Data directories at rest, as a daemon leaves them.
"""

import json
from pathlib import Path

from dcounter.limits import Limits
from dcounter.protocol.handshake import journal_owner
from dcounter.store import Items
from dcounter.testing import Cluster

CLUSTER = "c0ffee"
NODES = 3


def make_data_directory(path: Path, *, seed: int = 3) -> Cluster:
    """
    Write what the nodes of a simulated daemon have on their disks when they were killed: segments, and
    snapshots on which more follows.

    :returns: the cluster, whose ledgers say what is in it.
    """
    limits = Limits(snapshot_bytes=10_000, segment_bytes=2_000)
    cluster = Cluster(NODES, seed=seed, disks=True, limits=limits).start()
    for first in range(0, 600, 12):
        tenants = [None if each % 5 == 0 else f"tenant-{each % 3}" for each in range(12)]
        items = Items(range(first, first + 12), tenants)
        cluster.result(cluster.coordinator.store(items, ack="all"))
    cluster.run(2)
    cluster.result(cluster.coordinator.stopService())
    path.mkdir()
    secret = {"version": 1, "cluster": CLUSTER, "secret": "ab" * 32, "members": [*range(NODES)]}
    (path / "cluster.json").write_text(json.dumps(secret))
    for node, disk in cluster.disks.items():
        (path / f"node-{node}").mkdir()
        for name in disk.list():
            (path / f"node-{node}" / name).write_bytes(disk.read(name))
        (path / f"node-{node}" / "owner").write_text(f"{journal_owner(node, CLUSTER)}\n")
    return cluster
