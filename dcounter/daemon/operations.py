"""
What an operator can do with the nodes: see their status, restart one, remove one.
"""

from typing import Protocol

from dcounter.coordinator.service import Coordinator
from dcounter.errors import NotSupported
from dcounter.store import ClusterStatus


class Restarter(Protocol):
    """
    Runs the nodes, and can restart one.
    """

    async def restart(self, node: int) -> None:
        """
        Stop a node and start it again.
        """


class Operations:
    """
    The `dcounter.store.Operator` of the nodes of this cluster.

    :param coordinator: knows the status of the nodes, and removes nodes.
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

    async def compact(self, before: int | None) -> int:
        return await self._coordinator.compacting.compact(before)
