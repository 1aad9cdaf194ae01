"""
Has all members drop old tombstones, at or below a stamp.

1. Every member gets the floor: it durably refuses new items at or below the stamp. It answers with what it
   has.
2. All of that together is everything with such stamps that was ever accepted. The coordinator waits until
   every member has it durably. From then on no older entry can come.
3. Only then members are told to drop the tombstones. Those that miss this hear of it from the others.

If it stops after the first step, the floor stays, and nothing else has happened. The state is with the nodes,
so another coordinator may begin again at any time, and several at once do no harm.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dcounter.compaction_errors import CompactionStopped
from dcounter.coordinator.stamping import require_late
from dcounter.coordinator.view import View
from dcounter.errors import LinkLost, NotApplied, NotSupportedHere
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol import messages
from dcounter.protocol.abilities import COMPACTS
from dcounter.protocol.clock import HybridClock
from dcounter.protocol.compaction import Agreed, Compact, SetFloor
from dcounter.protocol.position import NodeId, Position, join_all

MARGIN_NS: Final = 3_600 * 1_000_000_000
"""
How old deletions must be that are dropped if nobody says so: updates with stamps of their own may be as late.
"""


@dataclass(frozen=True, slots=True)
class Tombstones:
    """
    How many tombstones there are, at the node that has most of them.

    :ivar share: their share among all IDs there.
    :ivar compacted: the stamp of the last compaction of any node; 0 if there was none.
    """

    number: int
    share: float
    compacted: int


class Compacting:
    """
    The compactions that a coordinator conducts.

    :param links: node -> the link to it; removed members are deleted from it.
    :param view: the coordinator's picture of the nodes.
    :ivar late_at: when (ns since 1970) an item last came whose stamp was so old that a compaction that begins
        by itself could have it refused; `None` if none did.
    """

    def __init__(
        self,
        links: Mapping[NodeId, NodeLink],
        view: View,
        *,
        clock: HybridClock,
        wall: Callable[[], int],
        limits: Limits,
        time: IReactorTime,
    ) -> None:
        self._links = links
        self._view = view
        self._clock = clock
        self._wall = wall
        self._limits = limits
        self._time = time
        self.late_at: int | None = None

    def admit(self, stamps: Sequence[int | None]) -> None:
        """
        Stamps came with items.

        :raises StampTooOld: nodes do not take one of them any more.
        """
        oldest = min((own for own in stamps if own is not None), default=None)
        if oldest is None:
            return
        require_late(oldest, self._view.floor)
        now = self._wall()
        if oldest < now - self._limits.compact_age_s * 1e9:
            self.late_at = now

    def tombstones(self) -> Tombstones:
        """
        How many tombstones there are.
        """
        found = [report for node in self._links if (report := self._view.report(node)) is not None]
        most = max(found, key=lambda report: report.tombstones, default=None)
        if most is None:
            return Tombstones(0, 0.0, 0)
        known = most.items + most.tombstones
        return Tombstones(most.tombstones, most.tombstones / known if known else 0.0, self._view.compacted)

    async def compact(self, before: int | None) -> int:
        """
        Have tombstones dropped.

        :param before: the stamp (ns since 1970) at or below which; `None`: one hour ago.
        :returns: the stamp.
        :raises NotSupportedHere: a member is of an older release.
        :raises NotApplied: not all members are up and know for certain what they have.
        :raises CompactionStopped: it began, and a member was lost.
        """
        members = sorted(self._links)
        self._require_all(members)
        now = self._wall()
        stamp = max(0, now - MARGIN_NS) if before is None else min(before, now)
        # What is stamped from now on is later.
        self._clock.observe(stamp)
        answers = await self._ask_all(members, lambda number: SetFloor(number, stamp), stamp)
        position = join_all([answer.applied for answer in answers])
        await self._until_durable(members, position, stamp)
        await self._tell(members, partial(Compact, stamp=stamp, position=position), stamp)
        return stamp

    def _require_all(self, members: Sequence[NodeId]) -> None:
        up = set(self._view.up())
        lacking = [node for node in members if node not in up or not self._links[node].up]
        if lacking or not members:
            raise NotApplied(f"nodes {lacking} are not up; nothing was compacted", retry_after=1)
        old = [node for node in members if COMPACTS not in self._links[node].peer.features]
        if old:
            raise NotSupportedHere(f"nodes {old} run a release of dcounter that cannot compact: upgrade them")
        unsound = {*members} - {*self._view.readers()} | {*self._view.unaccounted()}
        if unsound:
            raise NotApplied(
                f"nodes {sorted(unsound)} do not know for certain yet what they have; nothing was compacted",
                retry_after=1,
            )

    async def _ask_all(
        self, members: Sequence[NodeId], make: Callable[[int], messages.Request], stamp: int
    ) -> list[Agreed]:
        asked = [Deferred.fromCoroutine(self._ask(node, make, stamp)) for node in members]
        done = gatherResults(asked, consumeErrors=True)
        try:
            return await done
        except Exception as error:
            # The first one that failed says why.
            cause = getattr(error, "subFailure", None)
            if cause is None:
                raise
            raise cause.value from error

    async def _ask(self, node: NodeId, make: Callable[[int], messages.Request], stamp: int) -> Agreed:
        link = self._links.get(node)
        if link is None:
            raise CompactionStopped(f"node {node} was removed meanwhile", stamp=stamp)
        try:
            answer: Any = await link.ask(make).addTimeout(self._limits.request_s, self._time)
        except (LinkLost, TimeoutError) as error:
            raise CompactionStopped(f"node {node} did not answer", stamp=stamp) from error
        if isinstance(answer, Agreed) and answer.refused:
            raise CompactionStopped(f"node {node}: {answer.refused}", stamp=stamp)
        assert isinstance(answer, Agreed)
        return answer

    async def _until_durable(self, members: Sequence[NodeId], position: Position, stamp: int) -> None:
        """
        Wait until every member has all of a position durably.

        :raises CompactionStopped: one does not, in time.
        """
        until = self._time.seconds() + self._limits.compact_s
        while lacking := [node for node in members if not self._view.has_durable(node, position)]:
            gone = [node for node in members if node not in self._links or not self._links[node].up]
            if gone or self._time.seconds() >= until:
                raise CompactionStopped(
                    f"nodes {gone or lacking} do not have what was stored before, durably", stamp=stamp
                )
            await deferLater(self._time, self._limits.heartbeat_s)

    async def _tell(
        self, members: Sequence[NodeId], make: Callable[[int], messages.Request], stamp: int
    ) -> None:
        """
        Tell all members to drop the tombstones; that one of them does it is enough.
        """
        failures: list[CompactionStopped] = []
        for node in members:
            try:
                await self._ask(node, make, stamp)
            except CompactionStopped as failure:
                failures.append(failure)
        if len(failures) == len(members):
            raise failures[0]
