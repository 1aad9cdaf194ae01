"""
Single nodes on the network in memory, for tests of what is around a node.
"""

from typing import Any

from dcounter.journal.memory import MemoryJournal
from dcounter.node.service import Node
from dcounter.testing import Cluster, ProcessClock


def make_node(cluster: Cluster, node: int, **changes: Any) -> Node:
    """
    A node that is not started, as `Cluster.start_node` makes it but for some of what is passed in.
    """
    process = f"node {node}"
    clock = ProcessClock(cluster.clock)
    given: dict[str, Any] = {
        "identity": cluster.identity,
        "address_book": cluster.processes.address_book("node", cluster.identity, process, clock, node),
        "listen": lambda port: cluster.network.listen(port, process),
        "journal": MemoryJournal(clock),
        "limits": cluster.limits,
        "clock": clock,
        "wall": cluster.wall,
        "nonce": lambda: cluster.random.randbytes(16).hex(),
        "jitter": lambda: 0.0,
        "pid": 0,
    }
    return Node(node, **{**given, **changes})
