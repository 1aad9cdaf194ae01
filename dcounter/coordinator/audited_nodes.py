"""
Asks nodes the questions of an audit.

What comes between two of them, such as the end of a connection or a copy that a node takes, disturbs the
audit: it has to begin anew.
"""

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.audits import NotAudited
from dcounter.coordinator.view import View
from dcounter.errors import LinkLost, NotSupportedHere
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol import questions
from dcounter.protocol.abilities import AUDITS
from dcounter.protocol.position import NodeId, Position

_log = Logger()
_A = TypeVar("_A")
_R = TypeVar("_R")

_ASK_AGAIN_S = 10.0
"""
Time (s) after which a node that has counted its rows is asked again while others count. It counts what has
changed meanwhile, and would close an audit for which nothing is asked (`IDLE_S` in `dcounter.node.auditing`).
"""

_SHORT_S = 0.001
"""
Time (s) between the first two looks whether others still count. It grows: most audits take milliseconds.
"""

_DECLINED = {
    "too_large": "the names at node {node} are too long for one answer",
    "failed": "node {node} made a mistake, and has logged it",
    "taken": "node {node} takes part in an audit of another coordinator",
    "closed": "node {node} has ended the audit",
    "disturbed": "node {node} caught up or compacted in the middle of the audit",
    "too_many_writes": "too much was written until node {node} was compared",
}


class Disturbed(Exception):
    """
    Something came between: the audit has to begin anew.
    """


class TooLarge(Disturbed):
    """
    An answer does not fit a message.
    """


class AuditedNodes:
    """
    The nodes of an audit.

    :param links: node -> the link to it; removed members are deleted from it.
    :param view: the coordinator's picture of the nodes.
    :ivar progress: node -> how many rows it has counted, and how many it has.
    :ivar stopping: the coordinator stops: no further question is asked.
    """

    def __init__(
        self, links: Mapping[NodeId, NodeLink], view: View, limits: Limits, time: IReactorTime
    ) -> None:
        self._links = links
        self._view = view
        self._limits = limits
        self._time = time
        self.progress: dict[NodeId, tuple[int, int]] = {}
        self.stopping = False

    def able(self) -> tuple[list[NodeId], list[NotAudited]]:
        """
        The nodes that can be audited, and why the others cannot.

        :raises NotSupportedHere: none can, because they are of an older release.
        """
        readers = self._view.readers()
        able = [node for node in readers if AUDITS in self._links[node].peer.features]
        if readers and not able:
            raise NotSupportedHere("all nodes run a release of dcounter without audits: upgrade them")
        others = []
        for node in sorted(self._links):
            if node in readers and node not in able:
                others.append(NotAudited(node, "it runs a release of dcounter without audits"))
            elif node not in readers:
                up = self._view.state(node) == "up"
                why = "it has not loaded its ledger, or its disk fails" if up else "it is down"
                others.append(NotAudited(node, why))
        return able, others

    async def count(self, nodes: Sequence[NodeId], floor: int | None) -> None:
        """
        Let nodes count all their rows.

        :param floor: tombstones at or below this stamp are not compared.
        """
        self.progress.clear()
        counting = {*nodes}
        await self._all(nodes, lambda node: self._count(node, floor, counting))

    async def _count(self, node: NodeId, floor: int | None, counting: set[NodeId]) -> None:
        """
        :param counting: the nodes that have rows left.
        """
        what = questions.AuditCount(anew=True, floor=floor)
        try:
            while True:
                began = self._time.seconds()
                told, _ = await self._ask(node, what, questions.AuditCounted)
                self.progress[node] = told.counted, told.rows
                what = questions.AuditCount()
                if told.counted >= told.rows:
                    counting.discard(node)
                    await self._wait_for_others(counting)
                    if not counting:
                        return
                    continue
                # As much time for other work as this took, at least.
                pause = max(self._limits.audit_pause_s, self._time.seconds() - began)
                await deferLater(self._time, pause)
        finally:
            counting.discard(node)

    async def _wait_for_others(self, counting: Collection[NodeId]) -> None:
        """
        Wait until the others have no rows left, or it is time to ask a node again, which would forget us.
        """
        until, pause = self._time.seconds() + _ASK_AGAIN_S, _SHORT_S
        while counting and self._time.seconds() < until and not self.stopping:
            await deferLater(self._time, pause)
            pause = min(2 * pause, self._limits.audit_pause_s)

    async def hold(self, nodes: Sequence[NodeId]) -> dict[NodeId, tuple[questions.AuditCounted, Position]]:
        """
        Let each node remember its rows at some moment; returns what it then had.
        """
        return await self._all(nodes, self._hold)

    async def _hold(self, node: NodeId) -> tuple[questions.AuditCounted, Position]:
        until = self._time.seconds() + self._limits.audit_wait_s
        while True:
            told, position = await self._ask(
                node, questions.AuditCount(hold=True), questions.AuditCounted, exact=True
            )
            if told.held:
                return told, position
            if self._time.seconds() >= until:
                raise Disturbed(f"node {node} is given more to count than it can count")

    async def each(
        self, nodes: Sequence[NodeId], what: questions.AuditQuestion, kind: type[_A], position: Position
    ) -> dict[NodeId, _A]:
        """
        Ask all nodes what they have at a position.
        """

        async def ask(node: NodeId) -> _A:
            told, _ = await self._ask(node, what, kind, position)
            return told

        return await self._all(nodes, ask)

    async def _all(
        self, nodes: Sequence[NodeId], make: Callable[[NodeId], Coroutine[Any, Any, _R]]
    ) -> dict[NodeId, _R]:
        """
        Do the same with all nodes at once.

        :raises Disturbed: something came between at one of them; nothing is under way any more.
        """
        results = await DeferredList(
            [Deferred.fromCoroutine(make(node)) for node in nodes], consumeErrors=True
        )
        told: dict[NodeId, _R] = {}
        for node, (_, result) in zip(nodes, results, strict=True):
            if isinstance(result, Failure):
                result.raiseException()
            told[node] = result
        return told

    async def _ask(
        self,
        node: NodeId,
        what: questions.AuditQuestion,
        kind: type[_A],
        position: Position | None = None,
        *,
        exact: bool = False,
    ) -> tuple[_A, Position]:
        """
        Ask one node.

        :param position: what it must have applied; it gets some time for that.
        :param exact: whether its ledger must hold exactly what it says that it has applied.
        """
        until = self._time.seconds() + self._limits.audit_wait_s
        wait = 0 if position is None else round(1000 * self._limits.read_wait_s)
        required = position or Position()
        while True:
            if self.stopping:
                raise Disturbed("the coordinator is stopping")
            link = self._links.get(node)
            try:
                if link is None:
                    raise LinkLost(f"node {node} was removed")
                told = await link.ask(lambda number: questions.Ask(number, what, required, wait))
            except LinkLost as error:
                raise Disturbed(str(error)) from error
            answer = told.what
            late = not told.complete and position is not None
            if answer == questions.Declined("too_large"):
                raise TooLarge(_DECLINED["too_large"].format(node=node))
            if isinstance(answer, questions.Declined) and answer.why not in ("late", "busy"):
                raise Disturbed(_DECLINED[answer.why].format(node=node))
            if not late and not isinstance(answer, questions.Declined):
                if exact and not told.complete:
                    raise Disturbed(f"node {node} is catching up")
                assert isinstance(answer, kind)
                return answer, told.position
            if self._time.seconds() >= until:
                raise Disturbed(
                    f"node {node} has not reached the position of the others "
                    f"within {self._limits.audit_wait_s:g} s"
                )
            await deferLater(self._time, self._limits.heartbeat_s / 4)

    def end(self, nodes: Sequence[NodeId]) -> None:
        """
        Let the nodes forget the audit; those that do not hear it close it by themselves.
        """
        for node in nodes:
            link = self._links.get(node)
            if link is not None and link.up:
                ended = link.ask(lambda number: questions.Ask(number, questions.AuditEnd()))
                ended.addErrback(lambda why: why.trap(LinkLost))
                ended.addErrback(lambda why: _log.failure("an audit was not ended", why))

    async def compare(
        self, nodes: Sequence[NodeId], position: Position, bits: int
    ) -> dict[NodeId, questions.AuditCompared]:
        """
        Ask all nodes for digests of their rows at a position.
        """
        what = questions.AuditCompare(bits)
        return await self.each(nodes, what, questions.AuditCompared, position)
