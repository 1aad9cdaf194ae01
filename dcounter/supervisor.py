"""
Keeps a daemon's own nodes running.
"""

from collections.abc import Callable, Collection

from twisted.application.service import MultiService
from twisted.logger import Logger

from dcounter.errors import UnknownNode
from dcounter.node import Node

_log = Logger()


class InlineSupervisor(MultiService):
    """
    Nodes as services of this process.

    :param nodes: their ids.
    :param make: makes the service of a node, each time anew.
    """

    def __init__(self, nodes: Collection[int], make: Callable[[int], Node]) -> None:
        super().__init__()
        self._make = make
        self._nodes: dict[int, Node] = {}
        for node in nodes:
            self._add(node)

    def _add(self, node: int) -> None:
        service = self._nodes[node] = self._make(node)
        service.setServiceParent(self)

    async def restart(self, node: int) -> None:
        """
        Stop a node, once its peers have all it has, and start it again.

        :raises UnknownNode: it is not one of ours.
        """
        if node not in self._nodes:
            raise UnknownNode(f"there is no node {node}, only nodes {sorted(self._nodes)}")
        service = self._nodes[node]
        if service.parent is None:
            raise UnknownNode(f"node {node} is being restarted already")
        _log.info("restarting node {node}", node=node)
        stopped = service.disownServiceParent()
        if stopped is not None:
            await stopped
        if self.running:
            self._add(node)
