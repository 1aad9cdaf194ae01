"""
Copies of a data directory that are in use beside the original.
"""

from collections.abc import Mapping

from dcounter.coordinator.service import Coordinator
from dcounter.node.service import Node
from dcounter.protocol.handshake import Identity
from dcounter.testing.disk import SimulatedDisk
from dcounter.testing.processes import Processes


class Copy:
    """
    A copy of the data directory that was started beside the original.

    :param number: how many copies there were before.
    :param identity: that of the copy; it has a coordinator if its nodes are those of a daemon.
    :param disks: the disks that are copied.
    :ivar nodes: its nodes.
    :ivar coordinator: its coordinator; `None` if the nodes run by themselves.
    """

    def __init__(
        self, processes: Processes, number: int, identity: Identity, disks: Mapping[int, SimulatedDisk]
    ) -> None:
        self._processes = processes
        self._names: list[str] = []
        self.nodes: dict[int, Node] = {}
        self.coordinator: Coordinator | None = None
        for node, disk in disks.items():
            process = f"copy {number} of node {node}"
            self._names.append(process)
            self.nodes[node] = processes.make_node(node, process, identity, disk.copy())
            self.nodes[node].startService()
        if identity.boot:
            process = f"copy {number} of the coordinator"
            self._names.append(process)
            self.coordinator = processes.make_coordinator(process, identity)
            self.coordinator.startService()

    @property
    def in_use(self) -> bool:
        """
        Whether its processes are running.
        """
        return bool(self._names)

    def kill(self) -> None:
        """
        Kill all its processes.
        """
        while self._names:
            self._processes.die(self._names.pop())
