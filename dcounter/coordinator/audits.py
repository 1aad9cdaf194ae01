"""
The audits of a coordinator: asks all nodes, and tells the callers what was found.

What the answers mean is decided by `dcounter.coordinator.auditing`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, takewhile

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.audits import (
    Audited,
    AuditNotFinished,
    AuditRuns,
    AuditState,
    NotAudited,
    NotRepaired,
    Phase,
    Progress,
    Rebuild,
    WrongItem,
)
from dcounter.coordinator.audited_nodes import AuditedNodes, Disturbed, TooLarge
from dcounter.coordinator.auditing import (
    AT_ONCE,
    LISTED,
    MOST_GROUPS,
    Findings,
    Groups,
    bits_for,
    differing,
    next_to_repair,
    objection,
    tenants_of,
    wrong_items,
    wrong_tenants,
)
from dcounter.coordinator.view import View
from dcounter.errors import AnswerTooLarge, NotSupportedHere, Refusal
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol import questions
from dcounter.protocol.clock import HybridClock
from dcounter.protocol.position import NodeId, Position, join_all
from dcounter.protocol.token import TokenSeal

_log = Logger()

_ATTEMPTS = 5
"""
How often an audit begins anew after something has come between.
"""

_PAUSE = 1.0
"""
Pause (s) before it does.
"""

_REBUILT_S = 3600.0
"""
Time (s) within which a node that is made anew must have everything.
"""


class Audits:
    """
    The audits of one coordinator: one at a time.

    :param links: node -> the link to it; removed members are deleted from it.
    :param view: the coordinator's picture of the nodes.
    :param seal: makes the token of a position.
    :param wall: the wall clock (ns since 1970).
    :ivar view: the same.
    """

    def __init__(
        self,
        links: Mapping[NodeId, NodeLink],
        view: View,
        seal: TokenSeal,
        clock: HybridClock,
        wall: Callable[[], int],
        limits: Limits,
        time: IReactorTime,
    ) -> None:
        self._links = links
        self.view = view
        self._nodes = AuditedNodes(links, view, limits, time)
        self._seal = seal
        self._clock = clock
        self._wall = wall
        self._limits = limits
        self._time = time
        self._phase: Phase | None = None
        self._began = 0.0
        self._last: Audited | None = None
        self._last_at = 0.0
        self._failure: str | None = None

    def state(self) -> AuditState:
        """
        The audit that runs, and the last one.
        """
        now, running = self._time.seconds(), None
        if self._phase is not None:
            counted, rows = map(sum, zip(*self._nodes.progress.values(), (0, 0), strict=True))
            share = counted / rows if rows else 0.0
            running = Progress(self._phase, share, now - self._began)
        age = None if self._last is None else now - self._last_at
        return AuditState(running, self._last, age, self._failure)

    def warnings(self) -> list[str]:
        """
        What an operator must know of the last audit.
        """
        if self._last is None or self._last.differences is None:
            return []
        # Anyone may read warnings, also callers without a token: so they name no tenants and no IDs.
        words = _words(self._last, named=False)
        return [f"the last audit found a difference: {words}; see GET /audit"]

    def stop(self) -> None:
        """
        The coordinator stops: an audit that runs does not go on.
        """
        self._nodes.stopping = True

    async def run(self, tenants: Sequence[str], rebuild: Rebuild | None) -> Audited:
        """
        Audit all nodes that are up, and repair them if that is wanted.

        It goes on if the caller leaves.
        """
        if self._phase is not None:
            raise AuditRuns("an audit is under way: GET /audit shows how far it is")
        tenants = list(dict.fromkeys(tenants))
        if sum(map(len, tenants)) > self._limits.slice_bytes:
            raise AnswerTooLarge("the names of these tenants are too long for one question; name fewer")
        self._phase, self._began = "counting", self._time.seconds()
        told: Deferred[Audited] = Deferred()
        running = Deferred.fromCoroutine(self._run(tenants, rebuild))
        running.addBoth(self._ended)
        running.addBoth(told.callback)
        running.addErrback(lambda why: _log.failure("an audit has failed", why))
        # A caller that leaves cancels this, and not what runs.
        return await told

    def _ended(self, result: Audited | Failure) -> Audited | Failure:
        self._phase = None
        if isinstance(result, Failure):
            self._failure = result.getErrorMessage()
            level = _log.warn if result.check(AuditNotFinished, NotSupportedHere) else _log.error
            level("audit: {why}", why=self._failure)
        else:
            self._failure = None
        return result

    async def _run(self, tenants: Sequence[str], rebuild: Rebuild | None) -> Audited:
        repaired: list[NodeId] = []
        while True:
            audited, findings = await self._audit(tenants, repaired)
            if rebuild is None or audited.differences is None:
                return audited
            wrong = audited.differences.wrong_nodes
            changed = bool(repaired)
            why = objection(findings, audited.nodes, sorted(self._links))
            if why is None and (again := [node for node in wrong if node in repaired]):
                why = f"nodes {again} were made anew, and are wrong again"
            if why is not None:
                raise NotRepaired(f"{_words(audited)}. Nothing is repaired, because {why}", changed=changed)
            node = next_to_repair(findings)
            try:
                await self._repair(node, rebuild)
            except AuditNotFinished:
                raise
            except Refusal as error:
                if not changed:
                    raise
                raise NotRepaired(f"{error}. Nodes {repaired} were made anew before", changed=True) from error
            repaired.append(node)

    async def _repair(self, node: NodeId, rebuild: Rebuild) -> None:
        """
        Make a node anew, and wait until it has all that the others have.
        """
        _log.warn("audit: node {node} is made anew from the others", node=node)
        self._phase = "repairing"
        wanted = self.view.everything()
        await rebuild(node)
        until = self._time.seconds() + _REBUILT_S
        while not (node in self.view.readers() and self.view.applied(node).covers(wanted)):
            if node not in self._links:
                raise AuditNotFinished(f"node {node} was removed while it was made anew", changed=True)
            if self._time.seconds() >= until or self._nodes.stopping:
                raise AuditNotFinished(
                    f"node {node} was made anew, and does not have everything yet: audit again later",
                    changed=True,
                )
            await deferLater(self._time, self._limits.heartbeat_s)

    # One audit

    async def _audit(self, tenants: Sequence[str], repaired: Sequence[NodeId]) -> tuple[Audited, Findings]:
        why = ""
        for attempt in range(_ATTEMPTS):
            if attempt and not self._nodes.stopping:
                self._phase = "waiting"
                await deferLater(self._time, _PAUSE)
            if self._nodes.stopping:
                why = "the coordinator is stopping"
                break
            nodes, others = self._nodes.able()
            try:
                audited, findings = await self._attempt(nodes, others, tenants, repaired)
            except Disturbed as error:
                why = str(error)
                _log.info("audit: begins anew, because {why}", why=why)
            else:
                self._found(audited)
                return audited, findings
            finally:
                self._nodes.end(nodes)
        raise AuditNotFinished(f"the nodes could not be compared: {why}", changed=bool(repaired))

    def _found(self, audited: Audited) -> None:
        self._last, self._last_at = audited, self._time.seconds()
        if audited.differences is None:
            _log.info(
                "audit: nodes {nodes} are equal: {items} items, {tombstones} tombstones, in {seconds:.1f} s",
                nodes=list(audited.nodes),
                items=audited.items,
                tombstones=audited.tombstones,
                seconds=audited.duration_s,
            )
        else:
            _log.error("audit: DIFFERENCE FOUND: {words}; see GET /audit", words=_words(audited))

    async def _attempt(
        self,
        nodes: Sequence[NodeId],
        others: Sequence[NotAudited],
        tenants: Sequence[str],
        repaired: Sequence[NodeId],
    ) -> tuple[Audited, Findings]:
        if not nodes:
            raise Disturbed("no node is up and has loaded its ledger")
        self._phase = "counting"
        # Some may have dropped tombstones up to there, and others not yet.
        await self._nodes.count(nodes, self.view.floor or None)
        self._phase = "comparing"
        held = await self._nodes.hold(nodes)
        findings = Findings(
            {node: told.wrong for node, (told, _) in held.items()},
            {node: told.all_wrong for node, (told, _) in held.items()},
        )
        position = join_all(there for _, there in held.values())
        compared = await self._nodes.compare(nodes, position, 0)
        if len({each.sums for each in compared.values()}) > 1:
            bits = bits_for(max(each.items + each.tombstones for each in compared.values()))
            findings.groups = differing(bits, await self._nodes.compare(nodes, position, bits))
            findings.items = await self._differing_items(nodes, position, findings.groups)
        reliable = findings.reliable(nodes)
        source = (reliable or nodes)[0]
        named = self._named(tenants, tenants_of(findings.items[:LISTED], findings.counts))
        counts: list[tuple[str, int]] = []
        if named:
            what = questions.AuditTenants(named)
            found = await self._nodes.each(nodes, what, questions.AuditTenantsFound, position)
            findings.tenants = wrong_tenants(named, found, reliable)
            counts = list(zip(tenants, found[source].counted, strict=False))
        shown = compared[source]
        audited = Audited(
            position=self._seal.seal(position, self._clock.last),
            nodes=nodes,
            not_audited=others,
            items=shown.items,
            tombstones=shown.tombstones,
            digest=shown.sums[::-1].hex(),
            counts=counts,
            differences=findings.differences(),
            finished=self._wall(),
            duration_s=self._time.seconds() - self._began,
            repaired=list(repaired),
        )
        return audited, findings

    async def _differing_items(
        self, nodes: Sequence[NodeId], position: Position, groups: Groups
    ) -> list[WrongItem]:
        """
        Compare the rows of some groups that differ.
        """
        items: list[WrongItem] = []
        size = AT_ONCE
        while len(groups.compared) < min(MOST_GROUPS, len(groups.differing)):
            some = groups.differing[len(groups.compared) :][:size]
            what = questions.AuditRows(groups.bits, some)
            try:
                found = await self._nodes.each(nodes, what, questions.AuditRowsFound, position)
            except TooLarge:
                if size == 1:
                    break
                size = 1
            else:
                groups.compared += some
                items += wrong_items(found)
        return items

    def _named(self, tenants: Sequence[str], others: Sequence[str | None]) -> list[str | None]:
        """
        The tenants whose counts are compared: those that the caller names, and as many others as fit.
        """
        named: dict[str | None, None] = dict.fromkeys(tenants)
        sizes = accumulate(len(each or "") for each in others)
        fitting = sum(1 for _ in takewhile(self._limits.slice_bytes.__ge__, sizes))
        return list(named | dict.fromkeys(others[:fitting]))


def _words(audited: Audited, *, named: bool = True) -> str:
    """
    What is wrong, in a sentence.

    :param named: whether it names some tenants and IDs.
    """
    found = audited.differences
    if found is None:
        return "all nodes are equal"
    least = "at least " if found.more else ""
    parts = []
    if found.tenants:
        names = ["deleted IDs" if each.tenant is None else repr(each.tenant)[:80] for each in found.tenants]
        parts.append(f"wrong counts: {least}{found.all_tenants}{_some(names) if named else ''}")
    if found.all_items:
        ids = [str(each.id) for each in found.items]
        parts.append(f"IDs that differ: {least}{found.all_items}{_some(ids) if named else ''}")
    who = f"wrong nodes: {list(found.wrong_nodes)}"
    if not found.wrong_nodes:
        who = "it is not known which node is wrong"
    return "; ".join([who, *parts])


def _some(names: Sequence[str]) -> str:
    return f" ({', '.join([*names[:3], *['...'] * (len(names) > 3)])})"


class Auditing:
    """
    The part of a `Store` that audits our nodes.
    """

    _audits: Audits

    async def audit(self, tenants: Sequence[str] = (), rebuild: Rebuild | None = None) -> Audited:
        return await self._audits.run(tenants, rebuild)

    def audits(self) -> AuditState:
        return self._audits.state()

    def applied_at(self, node: NodeId) -> Position:
        """
        What a node has, as far as is known.
        """
        return self._audits.view.applied(node)

    def durable_elsewhere(self, node: NodeId) -> Position:
        """
        What the other nodes that are up have on their disks, together.
        """
        view = self._audits.view
        # What one said in a former life it may not have any more.
        others = [other for other in view.up() if other != node and view.has_reported(other)]
        return join_all(view.durable(other) for other in others)
