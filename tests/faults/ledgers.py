"""
What nodes keep on disk, read when they have stopped.
"""

import time
from pathlib import Path

from dcounter.journal.disk import Disk, RealDisk
from dcounter.journal.recovery import Recovery
from dcounter.ledger.ledger import Ledger
from dcounter.limits import Limits
from dcounter.node.replica import Replica
from dcounter.protocol import codec


def read_ledger(directory: Path, node: int, nodes: int = 4) -> Ledger:
    """
    The ledger that a node would have if it started now.
    """
    disk = RealDisk(str(directory))
    try:
        return ledger_on(disk, node, nodes)
    finally:
        disk.close()


def ledger_on(disk: Disk, node: int, nodes: int) -> Ledger:
    """
    The ledger that a node would have if it started now on a disk.
    """
    limits = Limits()
    recovery = Recovery(disk, is_chunk=codec.is_chunk)
    replica = Replica(node, range(nodes), wall=time.time_ns, limits=limits)
    for entry in recovery.read():
        replica.restoring.restore(entry)
    for entry in recovery.load():
        replica.restoring.load(entry)
    return replica.ledger


def read_ledgers(data: Path, nodes: int = 4) -> list[Ledger]:
    """
    The ledgers of all nodes of a daemon that has stopped.
    """
    return [read_ledger(data / f"node-{node}", node, nodes) for node in range(nodes)]
