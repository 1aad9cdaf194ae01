"""
Gathers the figures of a coordinator and of its nodes.
"""

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.interfaces import IReactorTime

from dcounter.coordinator.asking import Asking
from dcounter.coordinator.audits import Audits
from dcounter.coordinator.dispatch import Dispatch
from dcounter.coordinator.figures import (
    AUDIT_AGE,
    AUDIT_EQUAL,
    CONNECTED,
    EXACT,
    OPEN_QUESTIONS,
    QUESTION_RETRIES,
    READY,
    WARNINGS,
    Changes,
    of_dispatch,
    of_view,
)
from dcounter.coordinator.view import View
from dcounter.errors import LinkLost
from dcounter.figures import Samples
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol.abilities import SCRAPES
from dcounter.protocol.position import NodeId
from dcounter.protocol.scraping import Scrape, Scraped
from dcounter.store import Readiness


class Scraping:
    """
    The figures of one coordinator and its nodes.

    :param links: node -> the link to it; removed members are deleted from it.
    :param view: the coordinator's picture of the nodes.
    :param dispatch: what is on its way to them.
    :param asking: what they are asked.
    :param audits: the audits of the coordinator.
    :param readiness: gives whether the coordinator is ready.
    """

    def __init__(
        self,
        links: Mapping[NodeId, NodeLink],
        view: View,
        dispatch: Dispatch,
        asking: Asking,
        audits: Audits,
        *,
        readiness: Callable[[], Readiness],
        limits: Limits,
        time: IReactorTime,
        wall: Callable[[], int],
    ) -> None:
        self._links = links
        self._view = view
        self._dispatch = dispatch
        self._asking = asking
        self._audits = audits
        self._readiness = readiness
        self._limits = limits
        self._time = time
        self._wall = wall
        self._changes = Changes()
        self._connected = dict.fromkeys(links, 0)

    def connected(self, node: NodeId) -> None:
        """
        A node was connected.
        """
        self._connected[node] += 1

    async def measure(self) -> list[Samples]:
        """
        All figures. Those of a node that does not answer in time are missing.
        """
        up = [node for node in self._links if self._view.state(node) == "up" and self._links[node].up]
        able = [node for node in up if SCRAPES in self._links[node].peer.features]
        answers = await gatherResults([Deferred.fromCoroutine(self._ask(node)) for node in able])
        told = {node: answer for node, answer in zip(able, answers, strict=True) if answer is not None}
        found = [measured for answer in told.values() for measured in answer.measured]
        applied = {node: answer.applied for node, answer in told.items()}
        # A primary that was shown stays until it is gone.
        self._view.elect()
        self._changes.look(self._view.primary(), found)
        # An older node that is up has no figures to tell.
        shown = [node for node in up if node in told or node not in able]
        now = self._time.seconds()
        return [
            *self._of_coordinator(),
            *of_view(self._view, applied, shown, now, self._wall()),
            *of_dispatch(self._dispatch, self._limits),
            *self._changes.samples(),
            *found,
        ]

    def _of_coordinator(self) -> list[Samples]:
        readiness, audit = self._readiness(), self._audits.state()
        equal = [] if audit.last is None else [((), audit.last.differences is None)]
        age = [] if audit.age_s is None else [((), audit.age_s)]
        return [
            Samples(READY, [((), readiness.ready)]),
            Samples(EXACT, [((), readiness.exact)]),
            Samples(AUDIT_AGE, age),
            Samples(AUDIT_EQUAL, equal),
            Samples(WARNINGS, [((), len(readiness.warnings))]),
            Samples(OPEN_QUESTIONS, [((), self._asking.open)]),
            Samples(QUESTION_RETRIES, [((), self._asking.retries)]),
            Samples(CONNECTED, [((str(node),), self._connected[node]) for node in self._links]),
        ]

    async def _ask(self, node: NodeId) -> Scraped | None:
        """
        The figures of a node; `None` if it does not tell them in time.
        """
        try:
            return await self._links[node].ask(Scrape).addTimeout(self._limits.scrape_s, self._time)
        except (LinkLost, TimeoutError):
            return None
