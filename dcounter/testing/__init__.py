"""
A whole cluster in one test: nodes and coordinators on a network in memory and a clock that the test moves.

The nodes, links and coordinators are those of production; only what is passed in differs. Everything that
is left to chance comes from one seed, so that a failing test can be repeated.

What this module exports is public, and so are `dcounter.testing.http` (the HTTP API without a cluster) and
the command line of `python -m dcounter.testing`, which plays simulated worlds from seeds. Everything else in
this package, and the argument `parts` of `Cluster`, is for our own tests and may change at any time.
"""

from dcounter.testing.clock import ProcessClock
from dcounter.testing.cluster import Cluster
from dcounter.testing.disk import DiskOperation, PowerLoss, SimulatedDisk, SimulatedWriter
from dcounter.testing.network import MemoryPort, MemoryTransport, Network

__all__ = [
    "Cluster",
    "DiskOperation",
    "MemoryPort",
    "MemoryTransport",
    "Network",
    "PowerLoss",
    "ProcessClock",
    "SimulatedDisk",
    "SimulatedWriter",
]
