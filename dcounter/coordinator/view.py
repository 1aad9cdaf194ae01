"""
A coordinator's picture of the nodes: which are up, which is preferred, what an answer must include.

Pure: it is told what happened and when, and answers questions. Commands change it, queries never do.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dcounter.coordinator import lost_runs
from dcounter.limits import Limits
from dcounter.protocol.clock import HybridClock
from dcounter.protocol.messages import Report
from dcounter.protocol.position import LostRun, Position, join_all

_NOWHERE = Position()


@dataclass(slots=True)
class _Member:
    """
    One node as it was last heard of.

    :ivar up: connected, and not silent for too long.
    :ivar since: when (s) it was connected.
    :ivar heard: when (s) it was last heard of.
    :ivar reported: whether it has reported since it was connected.
    :ivar reported_at: when (s) it last did.
    :ivar accounted: whether all that it may have held when we started is known and required.
    :ivar answered: what its answers since it was connected said that it has applied.
    """

    up: bool = False
    since: float = 0.0
    heard: float = 0.0
    reported: bool = False
    reported_at: float = float("-inf")
    accounted: bool = False
    report: Report | None = None
    answered: Position = _NOWHERE


class View:
    """
    What one coordinator knows of all nodes.

    :param members: ids of all nodes.
    :param clock: the coordinator's clock, moved past every stamp that a node has heard of.
    :param now: the time (s) at which the coordinator starts.
    :ivar failovers: how often another node became primary.
    """

    def __init__(self, members: Collection[int], *, clock: HybridClock, limits: Limits, now: float) -> None:
        self._members = {node: _Member() for node in sorted(members)}
        self._clock = clock
        self._limits = limits
        self._started = self._last_look = now
        self._takes_writes = False
        self._primary: int | None = None
        self._former_primary: int | None = None
        self.failovers = 0
        # Before every member had the chance to report, the first to do so would be preferred.
        self._settled = False
        self.required = Position()
        self.lost: set[LostRun] = set()
        self.removed: set[int] = set()
        self._folded_away: dict[tuple[int, int], int] = {}

    def _member(self, node: int) -> _Member:
        # Nothing more is noted of a removed member.
        return self._members.get(node) or _Member()

    # What happened

    def connected(self, node: int, now: float) -> None:
        """
        A node is connected.
        """
        member = self._member(node)
        member.up = True
        member.since = member.heard = now
        member.answered = _NOWHERE
        member.reported = False

    def disconnected(self, node: int) -> None:
        """
        A node is not connected any more, or silent for too long.
        """
        self._member(node).up = False
        if node == self._primary:
            self._primary = None
            self.elect()

    def reported(self, report: Report, now: float) -> list[LostRun]:
        """
        A node reported.

        :returns: what is now known to be lost: it is required no longer.
        """
        for node in report.removed:
            self.removed.add(node)
            self._members.pop(node, None)
        if report.node not in self._members:
            return []
        member = self._members[report.node]
        member.heard = now
        member.report = report
        member.reported = True
        member.reported_at = now
        self._clock.observe(report.stamp)
        if not member.accounted:
            # What only a coordinator before this one was told of is required all the same.
            self.require(report.applied.join(report.durable))
            member.accounted = not report.in_doubt
        self._settled = not self.unaccounted() or now - self._started >= self._limits.startup_s
        if not self.unaccounted():
            self._takes_writes = True
        return self._drop_lost(now)

    def answered(self, node: int, position: Position) -> None:
        """
        A node answered that it has applied this.
        """
        member = self._member(node)
        member.answered = member.answered.join(position)

    def look(self, now: float) -> None:
        """
        Time has passed; to be called at least once per heartbeat.
        """
        # After a pause of our own, the nodes' silence proves nothing.
        slept = max(0.0, now - self._last_look - self._limits.heartbeat_s)
        self._last_look = now
        for member in self._members.values():
            member.heard += slept

    def require(self, position: Position) -> None:
        """
        From now on answers must include this.
        """
        for node, run, number in self.required.entries():
            if run < position.of(node).folded:
                # Complete, or lost with what was folded away: the node that folded it will say so.
                self._folded_away[node, run] = number
        self.required = self.required.join(position)

    def begin_writes(self, now: float) -> None:
        """
        A caller wants to store: take writes from now on if the members that have not reported had their time.
        """
        patience = min(self._limits.suspicion_s, self._limits.startup_s)
        if not self._takes_writes and now - self._started >= patience:
            # A member that has not reported may have heard of any stamp that was allowed.
            self._clock.observe(self._clock.latest_allowed())
            self._takes_writes = True

    def elect(self) -> None:
        """
        A primary is needed: choose one if there is none. It stays until it is gone.

        At the start none is chosen before all members had the chance to report.
        """
        if self._settled:
            self._primary = self.primary()
            if self._primary is not None:
                self.failovers += self._former_primary not in {None, self._primary}
                self._former_primary = self._primary

    def members(self) -> list[int]:
        """
        All nodes that were not removed.
        """
        return list(self._members)

    # Starting

    def takes_writes(self) -> bool:
        """
        Whether stamps can be given out: the clock is known to be past all that were.
        """
        return self._takes_writes

    def unaccounted(self) -> list[int]:
        """
        Members that have not reported since the start, or hold something that may not be on a disk.
        """
        return [node for node, member in self._members.items() if not member.accounted]

    # Who

    def silent(self, now: float) -> list[int]:
        """
        Nodes that are connected but have not been heard of for too long.
        """
        return [
            node
            for node, member in self._members.items()
            if member.up and now - member.heard > self._limits.suspicion_s
        ]

    def up(self) -> list[int]:
        """
        Nodes that are connected and not silent, and have reported.
        """
        return [node for node, member in self._members.items() if member.up and member.report]

    def has_reported(self, node: int) -> bool:
        """
        Whether a node has reported since it was connected.
        """
        return self._member(node).reported

    def writers(self) -> list[int]:
        """
        Nodes that take writes.
        """
        return [
            node
            for node, member in self._members.items()
            if member.up and member.report and member.report.refuses is None
        ]

    def refusals(self) -> dict[int, str]:
        """
        Why each node takes no writes, if none does and none will by itself soon; empty if one may.
        """
        found = {}
        for node, member in self._members.items():
            report = member.report
            if not (member.up and member.reported and report) or report.refuses is None or report.passing:
                return {}
            found[node] = report.refuses
        return found

    def readers(self) -> list[int]:
        """
        Nodes that can be asked: their ledgers are loaded and not in doubt.
        """
        return [
            node
            for node, member in self._members.items()
            # What it said in a former life says nothing about this.
            if member.up and member.reported and member.report and member.report.ledger_sound
        ]

    def primary(self) -> int | None:
        """
        The node to ask first: the one that was elected, or the one that would be.

        That is the node that misses the fewest batches. Those that load their ledgers come last.
        """
        return self._first_of(self.readers() or self.up())

    def _first_of(self, able: Sequence[int]) -> int | None:
        if self._primary in able:
            return self._primary
        everything = self.everything()
        return min(able, key=lambda node: (self.lag(node, everything), node), default=None)

    def candidates(self, required: Position) -> list[int]:
        """
        Nodes to ask, best first: the primary, then those that miss the least of what is required.
        """
        readers = self.readers()
        primary = self._first_of(readers)
        return sorted(
            readers,
            key=lambda node: (
                node != primary,
                sum(self.applied(node).missing(required).values()),
                node,
            ),
        )

    # What they have

    def report(self, node: int) -> Report | None:
        """
        What a node said last; `None` if it has not been heard of.
        """
        return self._member(node).report

    def report_age(self, node: int, now: float) -> float | None:
        """
        How long ago (s) a node reported; `None` if it has not been heard of.
        """
        member = self._member(node)
        return None if member.report is None else now - member.reported_at

    def state(self, node: int) -> str:
        """
        `up`, `down` or `new` (never seen).
        """
        member = self._member(node)
        if member.report is None:
            return "new"
        return "up" if member.up else "down"

    @property
    def floor(self) -> int:
        """
        The largest stamp at or below which some node takes no new items.
        """
        return max((report.floor for report in self._reports().values()), default=0)

    @property
    def compacted(self) -> int:
        """
        The largest stamp at or below which tombstones are dropped: every node had what was stored before.
        """
        found = [report.compacted for report in self._reports().values()]
        return max((each.stamp for each in found if each), default=0)

    def applied(self, node: int) -> Position:
        """
        What a node's answers include, as far as is known.
        """
        member = self._member(node)
        return member.answered if member.report is None else member.report.applied.join(member.answered)

    def durable(self, node: int) -> Position:
        """
        What a node has journalled, as far as is known.
        """
        report = self._member(node).report
        return Position() if report is None else report.durable

    def has_durable(self, node: int, position: Position) -> bool:
        """
        Whether a node that is up has journalled all of a position, as far as is known, and nothing is lost.
        """
        member = self._member(node)
        if not (member.up and member.reported):
            # What it said in a former life it may not have any more.
            return False
        return self.durable(node).covers(position) and not lost_runs.reported_lost(
            self._reports().values(), position.entries()
        )

    def everything(self) -> Position:
        """
        What all live nodes have together.
        """
        return join_all(self.applied(node) for node in self.up())

    def lag(self, node: int, everything: Position) -> int:
        """
        Batches a node misses.
        """
        return sum(self.applied(node).missing(everything).values())

    def missing(self, required: Position) -> list[int]:
        """
        Members that have not reported since the start, or whose items no live node can account for.
        """
        known = join_all(self.applied(node) for node in self.readers())
        return sorted({*self.unaccounted(), *known.missing(required)})

    # What is lost

    def lost_of(self, position: Position, now: float, *, since: float = float("-inf")) -> list[LostRun]:
        """
        What a position names that the cluster has lost for good.

        A node's batch is lost once that node came back without it and, all members having been connected
        for a while and having reported since, none has it.

        :param since: when (s) a caller brought the position: what was reported before may be older than the
            position, and then says nothing about it unless the node has opened a later run since.
        """
        reports = self._reports()
        found = lost_runs.reported_lost(reports.values(), position.entries())
        for member in self._members.values():
            settled = member.up and now - member.since >= self._limits.suspicion_s
            if not settled or not member.reported:
                return found
        newer = all(member.reported_at > since for member in self._members.values())
        return found + lost_runs.concluded(reports, position, self.everything(), newer=newer, already=found)

    def _reports(self) -> dict[int, Report]:
        return {node: member.report for node, member in self._members.items() if member.report}

    def _drop_lost(self, now: float) -> list[LostRun]:
        found = self.lost_of(self.required, now)
        if self._folded_away:
            reports = self._reports().values()
            entries = ((n, run, number) for (n, run), number in self._folded_away.items())
            found += lost_runs.reported_lost(reports, entries)
            for node, run in list(self._folded_away):
                if any(run < report.applied.of(node).folded for report in reports):
                    del self._folded_away[node, run]
        for lost in found:
            self.lost.add(lost)
            self.required = self.required.without(lost.node, lost.run, lost.last)
            if self.required.of(lost.node).folded == lost.until:
                self.required = self.required.unfold(lost.node, lost.run)
        return found

    # Skew

    def clock_skew_ms(self, wall: int) -> int:
        """
        How far (ms) the largest stamp heard of is ahead of the wall clock.

        :param wall: the wall clock (ns).
        """
        return max(0, self._clock.last - wall) // 1_000_000
