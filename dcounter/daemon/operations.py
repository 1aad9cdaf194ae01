"""
What an operator may do to the nodes: to look at them, to restart one, to remove one.
"""

from typing import Protocol

from dcounter.coordinator.service import Coordinator
from dcounter.errors import NotSupported
from dcounter.store import ClusterStatus


class Restarter(Protocol):
    """
    What runs the nodes.
    """

    async def restart(self, node: int) -> None:
        """
        Stop a node and start it again.
        """


class Operations:
    """
    The `dcounter.store.Operator` of our own nodes.

    :param coordinator: knows the nodes, and removes them.
    :param restarter: `None` if the nodes run elsewhere.
    """

    def __init__(self, coordinator: Coordinator, restarter: Restarter | None) -> None:
        self._coordinator = coordinator
        self._restarter = restarter

    def status(self) -> ClusterStatus:
        return self._coordinator.status()

    async def restart(self, node: int) -> None:
        if self._restarter is None:
            raise NotSupported("this daemon did not start its nodes: restart them where they run")
        await self._restarter.restart(node)

    async def remove(self, node: int) -> None:
        await self._coordinator.remove(node)
