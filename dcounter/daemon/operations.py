"""
What an operator can do with the nodes: see their status, restart one, make one anew, remove one.
"""

from dataclasses import replace

from dcounter.coordinator.service import Coordinator
from dcounter.daemon.rebuilding import Rebuilding, Restarter
from dcounter.errors import NotSupported
from dcounter.store import ClusterStatus, Software


class Operations:
    """
    The `dcounter.store.Operator` of the nodes of this cluster.

    :param coordinator: knows the status of the nodes, and removes nodes.
    :param restarter: `None` if the nodes run elsewhere.
    :param rebuilding: `None` if the nodes run elsewhere.
    :param software: of this daemon.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        restarter: Restarter | None,
        rebuilding: Rebuilding | None = None,
        *,
        software: Software | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._restarter = restarter
        self._rebuilding = rebuilding
        self._software = software

    def status(self) -> ClusterStatus:
        return replace(self._coordinator.status(), software=self._software)

    def state(self) -> tuple[bool, str]:
        """
        Whether the daemon is ready for requests, and its state in a few words.
        """
        readiness, status = self._coordinator.readiness(), self._coordinator.status()
        up = sum(node.state == "up" for node in status.nodes)
        words = [
            "ready" if readiness.ready else "not ready",
            "counts are exact" if readiness.exact else "counts are not exact",
            f"{up} of {len(status.nodes)} nodes are up",
        ]
        return readiness.ready, ", ".join(words)

    async def restart(self, node: int) -> None:
        if self._restarter is None:
            raise NotSupported("this daemon did not start its nodes: restart them where they run")
        await self._restarter.restart(node)

    async def rebuild(self, node: int) -> None:
        if self._rebuilding is None:
            raise NotSupported(
                f"this daemon did not start its nodes: stop node {node} where it runs, set its directory "
                "aside (keep it), and start it again"
            )
        await self._rebuilding.rebuild(node)

    async def remove(self, node: int) -> None:
        await self._coordinator.remove(node)

    async def compact(self, before: int | None) -> int:
        return await self._coordinator.compacting.compact(before)
