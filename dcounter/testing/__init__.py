"""
A whole cluster in one test: nodes and coordinators on a network in memory and a clock that the test moves.

The nodes, links and coordinators are those of production; only what is passed in differs. Everything that
is left to chance comes from one seed, so that a failing test can be repeated.
"""

from dcounter.testing.clock import ProcessClock
from dcounter.testing.cluster import Cluster
from dcounter.testing.disk import DiskOperation, PowerLoss, SimulatedDisk, SimulatedWriter
from dcounter.testing.network import MemoryPort, MemoryTransport, Network
from dcounter.testing.parts import Parts

__all__ = [
    "Cluster",
    "DiskOperation",
    "MemoryPort",
    "MemoryTransport",
    "Network",
    "Parts",
    "PowerLoss",
    "ProcessClock",
    "SimulatedDisk",
    "SimulatedWriter",
]
