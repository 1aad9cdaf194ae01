"""
Gathers what `GET /metrics` shows besides requests: the nodes, this process, and the tenants that are named.
"""

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred, gatherResults

from dcounter.coordinator.service import Coordinator
from dcounter.daemon.process_figures import ProcessFigures, build
from dcounter.daemon.tenant_figures import TenantFigures
from dcounter.figures import Samples


def measuring(
    coordinator: Coordinator, process: ProcessFigures, tenants: TenantFigures
) -> Callable[[], Awaitable[Sequence[Samples]]]:
    """
    What gives the figures. It waits for nodes and for tenants at the same time, less than a second.
    """

    async def measure() -> Sequence[Samples]:
        waiting = [coordinator.scraping.measure(), tenants.samples()]
        of_nodes, of_tenants = await gatherResults([Deferred.fromCoroutine(each) for each in waiting])
        return [build(), *of_nodes, *process.samples(), *of_tenants]

    return measure
