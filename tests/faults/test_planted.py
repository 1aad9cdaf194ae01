"""
The checker has teeth: each of these faults is found in a world that is biased to it.

A fault is a part of the cluster that is swapped for one that is wrong; nothing in the product is patched.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Any

import msgspec
import numpy as np
import pytest
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.coordinator.compacting import Compacting
from dcounter.coordinator.erasing import Erasing
from dcounter.coordinator.requests import Request
from dcounter.coordinator.view import View
from dcounter.coordinator.watches import Watches
from dcounter.daemon.rebuild import NodeJournal, Objections
from dcounter.journal.file import FileJournal
from dcounter.journal.framing import JournalEntry
from dcounter.journal.interface import JournalUser
from dcounter.journal.recovery import Recovery
from dcounter.journal.segments import Finished, Segments
from dcounter.ledger.export_lines import ExportedRows
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.receipts import Receipt
from dcounter.ledger.rows import Owners, Rows
from dcounter.ledger.touched import Touched
from dcounter.node.answers import Answers
from dcounter.node.auditing import Auditing
from dcounter.node.backlog import Backlog
from dcounter.node.compaction import Compaction
from dcounter.node.contents import Contents
from dcounter.node.durability import Durability, Own, Pending
from dcounter.node.effects import Effect
from dcounter.node.holders import Holders
from dcounter.node.receipts import Receipts
from dcounter.node.replica import Replica
from dcounter.node.restoring import Restoring
from dcounter.node.runs import Runs
from dcounter.node.waits import Question
from dcounter.protocol import copies, messages, questions
from dcounter.protocol.clock import HybridClock, SteadyWall
from dcounter.protocol.compaction import Compact
from dcounter.protocol.messages import Record, Report
from dcounter.protocol.position import LostRun, Position
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted
from dcounter.protocol.secrets import Secrets
from dcounter.testing.events.table import EVENTS
from dcounter.testing.parts import Parts
from dcounter.testing.play import play
from dcounter.testing.setting import Setting

_log = Logger()

_SEEDS = 200


@dataclass
class _Deaf:
    """
    Does not hear that lines are durable.
    """

    user: JournalUser

    def journal_synced(self, entries: Sequence[JournalEntry]) -> None:
        pass

    def journal_failed(self, entries: Sequence[JournalEntry], reason: str) -> None:
        self.user.journal_failed(entries, reason)

    def journal_doubted(self) -> None:
        self.user.journal_doubted()

    def journal_mended(self) -> None:
        self.user.journal_mended()


class EagerJournal(FileJournal):
    """
    Says that lines are durable when it has taken them.
    """

    def open(self, user: JournalUser) -> None:
        self._eager = user
        super().open(_Deaf(user))

    def append(self, entry: JournalEntry, *, waits: bool = True) -> None:
        super().append(entry, waits=waits)
        self._clock.callLater(0, self._eager.journal_synced, [entry])


class EagerReplica(Replica):
    """
    Applies and offers its own batches when it has taken them, and answers when they are durable.
    """

    def _append(self, line: Pending) -> None:
        super()._append(line)
        if isinstance(line, Own):
            self.contents.apply(line.record, line.batch, line.line)
            self._answer_and_offer()


class ContinuingReplica(Replica):
    """
    Goes on in its last run after a start and after a failure of its disk.
    """

    def receive(self, channel: int, message: Any, line: bytes, now: float) -> list[Effect]:
        mine = self.applied.of(self.node).runs
        if isinstance(message, messages.Store) and self._own.run == 0 and mine:
            last = max(mine)
            self._own.run, self._own._last = last, mine[last]  # noqa: SLF001 - the product cannot do it
        return super().receive(channel, message, line, now)


def skip(record: Record | JournalEntry, node: int, contents: Contents, durability: Durability) -> None:
    """
    Take all batches before one for applied and durable.
    """
    if record.number > 1 and record.node != node:
        before = (record.node, record.run, record.number - 1)
        contents.applied = contents.applied.advance(*before)
        durability.restored(durability.durable.advance(*before))


class CarelessRestoring(Restoring):
    """
    Accepts a batch although some before it are missing.
    """

    def restore(self, entry: JournalEntry) -> None:
        skip(entry, self._node, self._contents, self._durability)
        super().restore(entry)


class CarelessReplica(Replica):
    """
    Accepts a batch although some before it are missing.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.restoring = CarelessRestoring(
            self.node, self.contents, self._durability, self.members, self.empty_journal, self.catch_up
        )

    def _follow_record(self, channel: int, record: Record, line: bytes) -> None:
        skip(record, self.node, self.contents, self._durability)
        super()._follow_record(channel, record, line)


class EndLabelContents(Contents):
    """
    Takes what a copy holds for what its end says.
    """

    def copied(self, begin: copies.CopyBegin, end: copies.CopyEnd) -> None:
        super().copied(copies.CopyBegin(end.position, begin.openings, begin.lost), end)


class UnhiddenExcess(Segments):
    """
    Leaves what a failed sync refused to the process that reads the file next.
    """

    def _hide_excess(self, name: str) -> None:
        pass


class HastySegments(Segments):
    """
    Removes segments that were begun while a snapshot was taken.
    """

    def finish_snapshot(self) -> Finished:
        finished = super().finish_snapshot()
        for name in self._disk.list():
            if name.endswith(".journal") and name != self._name:
                self._disk.remove(name)
        return replace(finished, obsolete=())


class TiesToTheFirst(Ledger):
    """
    Lets the entry that came first win a tie.
    """

    def _wins_tie(self, number: int, owner: int) -> bool:
        return False


class TieReplica(Replica):
    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.contents.ledger = TiesToTheFirst()


class HastyAnswers(Answers):
    """
    Takes every question but a count for one that can be answered.
    """

    def _can_answer(self, question: Question) -> bool:
        return isinstance(question, questions.Ask) or super()._can_answer(question)


class LateTombstones(Erasing):
    """
    Gives tombstones the stamp of now.
    """

    def store(self, ids: list[int], stamps: list[int], ended: Callable[[Request], None]) -> None:
        super().store(ids, [self._clock.last] * len(ids), ended)


class HastyCompacting(Compacting):
    """
    Has tombstones dropped before every member has what was stored before.
    """

    async def _until_durable(self, members: Sequence[int], position: Position, stamp: int) -> None:
        pass


class CredulousCompaction(Compaction):
    """
    Drops tombstones when it is told to, whatever it has.
    """

    def _why_not(self) -> str:
        return ""

    def _why_not_compact(self, message: Compact) -> str:
        return ""


class CredulousReplica(Replica):
    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        state = (self.contents, self._durability, self.members, self.catch_up)
        self.compaction = CredulousCompaction(self._out, *state, self._append)


class MergingContents(Contents):
    """
    Merges a copy although its giver has dropped tombstones that are needed here.
    """

    @property
    def behind(self) -> bool:
        return False


class FloorlessContents(Contents):
    """
    Takes new items however old they are.
    """

    def raise_floor(self, stamp: int) -> None:
        self.observe(stamp)


class FloorlessCompaction(Compaction):
    """
    Does not ask whether the floor is there.
    """

    def _why_not_compact(self, message: Compact) -> str:
        self._contents.floor = message.stamp
        why = super()._why_not_compact(message)
        self._contents.floor = 0
        return why


class FloorlessReplica(Replica):
    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, contents=FloorlessContents, **kw)
        state = (self.contents, self._durability, self.members, self.catch_up)
        self.compaction = FloorlessCompaction(self._out, *state, self._append)


class HastyReader(Replica):
    """
    Answers look-ups without waiting for what they require.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._answers = HastyAnswers(
            self._out, self.contents, self._durability, self.members, self.catch_up, self._limits
        )
        self.inquiries = self._answers.inquiries


class CarelessAuditing(Auditing):
    """
    Tells what the rows are now, whatever position it is asked about.
    """

    def steps_to(self, channel: int, what: Any, position: Position) -> Any:
        return super().steps_to(channel, what, self._contents.applied)


class CarelessAuditor(Replica):
    """
    Takes part in audits with whatever rows it has.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.inquiries.audits = CarelessAuditing(self.contents, room=2**20, most=2**20)


class UndisturbedAuditing(Auditing):
    """
    Goes on although it took rows of a copy in the middle of an audit.
    """

    def chunk_merged(self) -> None:
        pass


class UndisturbedAuditor(Replica):
    """
    Takes part in audits in the middle of a copy.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.inquiries.audits = UndisturbedAuditing(self.contents, room=2**20, most=2**20)


class NothingRequired(View):
    """
    Requires nothing of a count.
    """

    def require(self, position: Position) -> None:
        pass


class NothingInherited(View):
    """
    Requires of a count what was told since its own start only.
    """

    def reported(self, report: Report, now: float) -> list[LostRun]:
        before = self.required
        lost = super().reported(report, now)
        self.required = before
        return lost


class AnswersNotJoined(View):
    """
    Requires what was stored through it and what was reported at its start, and forgets what it answered.
    """

    _reporting = False

    def reported(self, report: Report, now: float) -> list[LostRun]:
        self._reporting = True
        lost = super().reported(report, now)
        self._reporting = False
        return lost

    def require(self, position: Position) -> None:
        # The position of what was stored names one batch, that of an answer all.
        if self._reporting or sum(1 for _ in position.entries()) == 1:
            super().require(position)


class BehindClock(HybridClock):
    """
    Knows nothing of the stamps that were given out before its start.
    """

    def observe(self, stamp: int) -> None:
        if self._last:
            super().observe(stamp)


class CredulousWall(SteadyWall):
    """
    Believes any wall clock.
    """

    def __call__(self) -> int:
        return self._wall()


class UncutTail(Recovery):
    """
    Leaves the end of the last segment as it is.
    """

    def _renew(self, name: str) -> None:
        pass


class ExpiringReplica(Replica):
    """
    Forgets deletions that are a second old, although older items may come yet.
    """

    def tick(self, now: float) -> list[Effect]:
        effects = super().tick(now)
        kept = Ledger()
        for piece in self.ledger.chunks(1_000):
            for item, stamp, tenant in piece.entries():
                if tenant is not None or stamp > self.contents.stamp - 1_000_000_000:
                    kept.merge([item], [stamp], [tenant])
        self.contents.ledger = kept
        return effects


class LedgerWithoutOldDeletions(Ledger):
    """
    Leaves deletions out of the copies that it gives, to other nodes and to its own journal.
    """

    def chunks(self, size: int, limit: float = inf) -> Iterator[Rows]:
        for chunk in super().chunks(size, limit):
            # Without a limit it is compared, not copied.
            kept = [i for i, owner in enumerate(chunk.owners.tolist()) if chunk.tenants[owner] is not None]
            if len(kept) == len(chunk.ids) or limit == inf:
                yield chunk
            else:
                yield Rows(chunk.ids[kept], chunk.stamps[kept], chunk.owners[kept], chunk.tenants)


class LedgerThatTellsTooEarly(Ledger):
    """
    Tells what entries change as if none of them were merged before the others, and counts before it merges.
    """

    def merge_with_receipt(
        self, ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]
    ) -> Receipt:
        before = {tenant: self.count(tenant) for tenant in tenants if tenant is not None}
        told = super().merge_with_receipt(ids, stamps, tenants)
        return Receipt(told.changes, {**told.counts, **before})


class LedgerThatForgetsOwners(Ledger):
    """
    Takes every ID of a batch with a receipt for a new one.
    """

    def merge_with_receipt(
        self, ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]
    ) -> Receipt:
        told = super().merge_with_receipt(ids, stamps, tenants)
        alone = Ledger().merge_with_receipt(ids, stamps, tenants)
        return Receipt(alone.changes, told.counts)


class LedgerThatHidesWhatMoves(Ledger):
    """
    Leaves out of an export what has changed since it began.
    """

    _began = 0

    def export(self, first: int, last: int, **how: Any) -> ExportedRows:
        stamps = self._entries.stamps[: self.known]
        if first == 0:
            self._began = int(stamps.max(initial=0))
        if (stamps[first:last] > self._began).any():
            return ExportedRows(b"", 0, min(last, first + 1))
        return super().export(first, last, **how)


class HastyReceipts(Receipts):
    """
    Calls every receipt complete.
    """

    def apply(self, own: Own, wanted: ReceiptWanted) -> ReceiptGiven:
        return msgspec.structs.replace(super().apply(own, wanted), complete=True)


class HastyReplica(Replica):
    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        limits = replace(self._limits, waits=0)
        self._receipts = HastyReceipts(self.contents, self._durability, self._answers, self.status, limits)
        self._own_batches._receipts = self._receipts  # noqa: SLF001 - the product cannot do it


def with_ledger(make: Callable[[int], Ledger]) -> Callable[[Backlog, Runs, int], Contents]:
    """
    Makes what a node has in memory, with another ledger.
    """

    def contents(backlog: Backlog, runs: Runs, seed: int) -> Contents:
        made = Contents(backlog, runs, seed)
        made.ledger = make(seed)
        return made

    return contents


class WatchesWithoutReset(Watches):
    """
    Does not tell watchers to ask anew when another node is watched.
    """

    def _begin_at(self, node: int) -> None:
        if self._board.last == 0:
            super()._begin_at(node)
        else:
            self._source = node


class TouchedByGains(Touched):
    """
    Does not notice tenants that lose items.
    """

    def counts_change(self, before: Owners, after: Owners) -> None:
        moved = before != after
        super().counts_change(np.zeros(moved.sum(), np.int32), after[moved])


class LedgerThatTellsOnlyOfGains(Ledger):
    """
    Tells only of counts that grow.
    """

    def touched(self) -> Touched:
        return TouchedByGains(self._tenants, self.settle)


def no_objections(kept: Mapping[int, NodeJournal], chosen: Collection[int]) -> Objections:
    """
    Lets any nodes be rebuilt.
    """
    return Objections()


class BlindHolders(Holders):
    """
    Lets every process in, whatever others hold its node id.
    """

    def note_rival(self, node: int, instance: str) -> str | None:
        return None


class SecretsOneAtATime(Secrets):
    """
    Accepts only the secret that it uses itself.
    """

    def made(self, code: bytes, make: Callable[[bytes], bytes]) -> bool:
        return make(self.used) == code


@dataclass(frozen=True)
class Fault:
    parts: Parts
    often: Mapping[str, int]
    nodes: Sequence[int] = (2, 3)
    limits: Mapping[str, Any] = field(default_factory=dict)
    events: int = 60
    deleted: float = 0.1
    daemon: bool | None = None

    def setting(self) -> Setting:
        frequencies = {**dict.fromkeys(EVENTS, 0), "store": 30, "count": 20, **self.often}
        return Setting(
            events=self.events,
            frequencies=frequencies,
            parts=self.parts,
            nodes=self.nodes,
            limits=self.limits,
            deleted=self.deleted,
            daemon=self.daemon,
        )


_OFF = {"lose_power": 10, "lose_power_soon": 5, "slow_disk": 5}

FAULTS: Mapping[str, Fault] = {
    "acknowledge before fsync": Fault(Parts(journal=EagerJournal), _OFF),
    "offer to followers before fsync": Fault(Parts(replica=EagerReplica), _OFF),
    "reuse numbers after a cut tail": Fault(
        Parts(replica=ContinuingReplica),
        {"lose_tail": 15, "part": 5, "silence": 5},
        (2,),
        limits={"snapshot_bytes": 10**6},
        events=120,
    ),
    "accept a hole": Fault(
        Parts(replica=CarelessReplica),
        {"store": 60, "mend_badly": 5},
        limits={"backlog_bytes": 300, "chunk_rows": 1},
    ),
    "snapshot labelled with its end position": Fault(
        Parts(replica=partial(Replica, contents=EndLabelContents)),
        {"store": 60, "wipe": 6, "kill": 8, "slow": 5},
        limits={"backlog_bytes": 300, "chunk_rows": 1, "stream_bytes": 400},
        events=120,
    ),
    "count without a required position": Fault(
        Parts(view=NothingRequired), {"part": 5, "slow": 8, "silence": 5}
    ),
    "look up without the required position": Fault(
        Parts(replica=HastyReader), {"count": 0, "look_up": 30, "part": 5, "slow": 8, "silence": 5}
    ),
    "a tenant deleted without the required position": Fault(
        Parts(replica=HastyReader), {"count": 0, "erase": 15, "part": 5, "slow": 8, "silence": 5}
    ),
    "a tenant deleted as of now": Fault(Parts(erasing=LateTombstones), {"erase": 10}),
    "audits that compare other positions": Fault(
        Parts(replica=CarelessAuditor), {"audit": 30, "slow": 8, "store": 90}
    ),
    "audits in the middle of a copy": Fault(
        Parts(replica=UndisturbedAuditor),
        {"audit": 60, "slow": 8, "store": 90, "part": 20, "wipe": 0},
        limits={"backlog_bytes": 300, "chunk_rows": 1, "stream_bytes": 400},
        events=100,
    ),
    "tombstones dropped before all nodes have what was stored before": Fault(
        Parts(compacting=HastyCompacting, replica=CredulousReplica),
        {"store": 60, "compact": 10, "part": 8, "slow": 8, "silence": 5},
        events=100,
        deleted=0.4,
    ),
    "a copy merged after a compaction that was missed": Fault(
        Parts(replica=partial(Replica, contents=MergingContents)),
        {"store": 60, "compact": 15, "keep_directory": 8, "put_back": 10, "erase": 5},
        limits={"backlog_bytes": 300, "segment_bytes": 100, "snapshot_bytes": 300},
        events=120,
        deleted=0.4,
    ),
    "no floor at a compaction": Fault(
        Parts(replica=FloorlessReplica), {"store": 60, "compact": 10}, events=100, deleted=0.4
    ),
    "required position forgotten at a coordinator's restart": Fault(
        Parts(view=NothingInherited),
        {"kill_coordinator": 10, "slow": 5, "silence": 20, "count": 60},
        (2,),
        events=100,
    ),
    "answered positions not joined": Fault(
        Parts(view=AnswersNotJoined), {"count": 3, "store": 3, "split": 10}, events=100
    ),
    "tie-break dropped": Fault(Parts(replica=TieReplica), {"slow": 3}),
    "clock not advanced at the start": Fault(Parts(clock=BehindClock), {"kill_coordinator": 8, "jump": 10}),
    "log cut too early": Fault(
        Parts(journal=partial(FileJournal, segments=HastySegments)),
        {"kill": 5, "slow_disk": 5},
        limits={"segment_bytes": 100, "snapshot_bytes": 300},
    ),
    "refused lines left in place": Fault(
        Parts(journal=partial(FileJournal, segments=UnhiddenExcess)),
        {"start_badly": 15, "part": 4, "kill": 2, "count": 40},
        (1, 2, 3),
    ),
    "tombstones expired by age": Fault(
        Parts(replica=ExpiringReplica), {"part": 8, "silence": 8, "slow": 5}, deleted=0.3
    ),
    "tombstones lost in copies and snapshots": Fault(
        Parts(replica=partial(Replica, contents=with_ledger(LedgerWithoutOldDeletions))),
        {"store": 60, "wipe": 4, "kill": 6, "lose_power": 4, "part": 4},
        limits={"backlog_bytes": 300, "segment_bytes": 100, "snapshot_bytes": 300},
        deleted=0.3,
    ),
    "receipts that count before they merge": Fault(
        Parts(replica=partial(Replica, contents=with_ledger(LedgerThatTellsTooEarly))), {}
    ),
    "receipts that know no earlier owner": Fault(
        Parts(replica=partial(Replica, contents=with_ledger(LedgerThatForgetsOwners))), {}
    ),
    "receipts of a node that lacks what was required": Fault(
        Parts(replica=HastyReplica), {"store": 60, "slow": 5, "part": 5, "silence": 5}
    ),
    "another node watched without a reset": Fault(
        Parts(watches=WatchesWithoutReset), {"watch": 10, "kill": 8, "cut": 8}
    ),
    "events that do not tell of losses": Fault(
        Parts(replica=partial(Replica, contents=with_ledger(LedgerThatTellsOnlyOfGains))), {"watch": 10}
    ),
    "exports that hide what moves meanwhile": Fault(
        Parts(replica=partial(Replica, contents=with_ledger(LedgerThatHidesWhatMoves))),
        {"store": 60, "export": 20},
    ),
    "exports without the required position": Fault(
        Parts(replica=HastyReader), {"count": 0, "export": 30, "part": 5, "slow": 8, "silence": 5}
    ),
    "a wall clock's jump believed at once": Fault(Parts(wall=CredulousWall), {"jump_briefly": 10}),
    "any node may be rebuilt": Fault(Parts(objections=no_objections), {"rebuild": 5, "part": 5}),
    "a copy of the data directory taken for the daemon itself": Fault(
        Parts(copies_boot=False), {"copy_directory": 5, "kill": 3}, daemon=True
    ),
    "two processes of one node let in": Fault(
        Parts(holders=BlindHolders), {"copy_directory": 10}, events=100, daemon=False
    ),
    "only the secret in use accepted": Fault(
        Parts(secrets=SecretsOneAtATime), {"change_secret": 10, "kill": 5, "cut": 5}
    ),
    "torn tail left in place": Fault(
        Parts(journal=partial(FileJournal, recovery=UncutTail)), {**_OFF, "kill": 10}
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, expected_failures: Callable[..., list[Failure]]) -> None:
    setting = FAULTS[name].setting()
    found = next((seed for seed in range(_SEEDS) if play(seed, setting).problems), None)
    expected_failures()
    assert found is not None, f"not found within {_SEEDS} seeds: {name}"
    _log.info("{name}: found after {seeds} seeds", name=name, seeds=found + 1)
