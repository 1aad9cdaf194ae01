"""
What the callers of a cluster asked and were told, and whether it can all be true.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dcounter.compaction_errors import CompactionStopped, StampTooOld
from dcounter.coordinator.service import Coordinator
from dcounter.coordinator.stamping import StampedItems
from dcounter.errors import (
    EraseStopped,
    Incomplete,
    InvalidPosition,
    NotApplied,
    NotReplicated,
    OutcomeUnknown,
    PositionLost,
    Refusal,
)
from dcounter.ledger.ledger import Ledger
from dcounter.store import Ack, Changes, Erased, Items, Receipt
from dcounter.testing.asked import Questions
from dcounter.testing.cluster import Cluster
from dcounter.testing.erased import Erasure, Erasures
from dcounter.testing.requests import NO_ROW, Known, Row, Write, bounds, impossible, possible
from dcounter.testing.watchers import Watcher

YEAR = 365 * 86_400 * 1_000_000_000
"""
Nanoseconds by which no clock is off for longer than a moment.
"""

_SLACK = 1.0
"""
Time (s) beyond its deadline within which a request is answered all the same.
"""


_LONG = 60.0
"""
Time (s) within which a tenant is deleted; each page of it may have to wait for a node.
"""


class History(Questions):
    """
    All that the callers of one cluster asked and were told.

    :param lossy: nodes have no disks, and some die.
    :ivar under_way: requests that are not answered yet, and when (s) they have to be.
    :ivar problems: what cannot be true.
    :ivar log: the story.
    :ivar last_stop: when (s) a node last stopped or died.
    :ivar removed: members that were removed.
    :ivar watchers: callers that watch, or will again.
    :ivar erasures: deletions of tenants.
    """

    def __init__(self, cluster: Cluster, *, lossy: bool) -> None:
        super().__init__(cluster, lossy=lossy)
        self.under_way: dict[Deferred[Any], tuple[Coordinator, float]] = {}
        self.problems: list[str] = []
        self.log: list[str] = []
        self.answers: Counter[str] = Counter()
        self.last_stop = -1.0
        self.removed: set[int] = set()
        self.watchers: list[Watcher] = []
        self._inherited: dict[Coordinator, Known] = {}
        self._sleeps: dict[Coordinator, float] = {}
        self._unstamped: dict[int, Write] = {}
        self.erasures = Erasures(self.writes)
        cluster.processes.on_stamped = self.stamped

    @property
    def members(self) -> list[int]:
        """
        Nodes that are up or will come back.
        """
        return [node for node in self.cluster.identity.members if node not in self.removed]

    def note(self, text: str) -> None:
        """
        Add a line to the story.
        """
        self.log.append(f"{self.now:8.3f} {text}")

    def problem(self, text: str) -> None:
        """
        Record something that cannot be true.
        """
        self.note(f"PROBLEM {text}")
        self.problems.append(f"at {self.now:.3f} s: {text}")

    # Coordinators

    def watch(self, coordinator: Coordinator) -> Coordinator:
        """
        Record what a coordinator that starts now does.
        """
        acked = [] if self.lossy else [each for each in self.writes if each.acked is not None]
        told = Known()
        for each in [] if self.lossy else self.known.values():
            told = told.join(Known([], each.floor, each.seen))
        self._inherited[coordinator] = self.known[coordinator] = Known(acked, told.floor, told.seen)
        return coordinator

    def stamped(self, items: Items, columns: StampedItems) -> None:
        """
        Note the stamps that a coordinator gave: no caller is told them.
        """
        write = self._unstamped.pop(id(items), None)
        if write is None:
            # Otherwise they are no items of these callers: a copy of the data directory is in use.
            self.erasures.stamped(columns, self.floors)
            return
        rows: dict[int, Row] = {}
        for item, stamp, tenant in zip(columns.ids, columns.all_stamps(), columns.tenants, strict=True):
            row = (stamp, tenant or "")
            write.all_rows.append((item, row))
            rows[item] = max(rows.get(item, NO_ROW), row)
        write.rows = rows
        self._check_stamps(write, columns)

    def _check_stamps(self, write: Write, columns: StampedItems) -> None:
        after = write.later_than
        if not write.coordinator._view.unaccounted():  # noqa: SLF001 - decides what is promised
            after = max(after, self._inherited[write.coordinator].latest())
        if columns.stamps is None and columns.base <= after:
            self.problem(f"write {write.place} has the stamp {columns.base}, which is not after {after}")
        if write.latest() > self.cluster.wall.epoch + YEAR:
            self.problem(f"write {write.place} has a stamp of a clock that was off for a moment")

    def gone(self, coordinator: Coordinator) -> None:
        """
        Note that a coordinator was killed: the requests that it had are never answered.
        """
        del self.known[coordinator]
        self.watchers = [each for each in self.watchers if each.coordinator is not coordinator]
        self.erasures.gone(coordinator)
        self.under_way = {
            answer: (asked, until)
            for answer, (asked, until) in self.under_way.items()
            if asked != coordinator
        }

    def frozen(self, coordinator: Coordinator, seconds: float) -> None:
        """
        Note that a coordinator is frozen: requests that it has, or gets meanwhile, wait longer.
        """
        self._sleeps[coordinator] = self.now + seconds
        for answer, (asked, until) in self.under_way.items():
            if asked is coordinator:
                self.under_way[answer] = asked, until + seconds

    def running(self) -> list[Coordinator]:
        """
        Coordinators that take requests.
        """
        return [each for each in self.known if each.running]

    # Requests

    def _start(self, answer: Deferred[Any], coordinator: Coordinator, limit: float, what: str) -> None:
        asleep = max(0.0, self._sleeps.get(coordinator, 0.0) - self.now)
        self.under_way[answer] = coordinator, self.now + asleep + limit + _SLACK

        def ended(result: object) -> object:
            # A caller may hang up on a coordinator that was killed.
            if self.now > self.under_way.pop(answer, (coordinator, self.now))[1]:
                self.problem(f"a request was answered later than it may: {what}")
            return result

        answer.addBoth(ended)

    def overdue(self) -> None:
        """
        Report requests that should have been answered by now.
        """
        late = [answer for answer, (_, until) in self.under_way.items() if self.now > until]
        for answer in late:
            self.problem("a request is not answered")
            self.under_way[answer] = self.under_way[answer][0], float("inf")

    def hang_up(self, answer: Deferred[Any]) -> None:
        """
        A caller leaves without an answer.
        """
        if answer in self.under_way:
            answer.cancel()

    def store(
        self,
        coordinator: Coordinator,
        items: Items,
        ack: Ack,
        after: tuple[str, Known] | None,
        repeat: Callable[[int | None], None] = lambda _: None,
        *,
        changes: bool = False,
    ) -> Deferred[Any]:
        """
        Ask to store.

        :param repeat: see `Write`.
        :param changes: whether the caller wants to know what its request changes.
        """
        write = Write(len(self.writes) + 1, coordinator, items, ack, self.now, repeat=repeat)
        if changes:
            known = self.known[coordinator]
            write.must = known if after is None else known.join(after[1])
        write.later_than = max(
            (each.latest() for each in self.known[coordinator].writes if each.coordinator is coordinator),
            default=0,
        )
        if after is not None:
            write.later_than = max(write.later_than, after[1].latest())
        self.writes.append(write)
        self._unstamped[id(items)] = write
        self.note(f"store {write.place}: {len(items)} items, ack={ack}")
        answer = Deferred.fromCoroutine(
            coordinator.store(items, ack=ack, after=after and after[0], changes=changes)
        )
        self._start(answer, coordinator, self.cluster.limits.request_s, f"store {write.place}")
        answer.addCallbacks(self._stored, self._not_stored, (write,), {}, (write,), {})
        answer.addErrback(self.failed)
        return answer

    def _stored(self, receipt: Receipt, write: Write) -> None:
        self.note(f"stored {write.place}")
        self.answers["stored"] += 1
        self._acknowledged(write)
        if receipt.items != len(write.items) or receipt.ack != write.ack:
            self.problem(f"asked {write.ack} for {len(write.items)} items and got {receipt}")
        self._check_holders(write)
        must = Known([write])
        if write.must is not None:
            self._check_changes(receipt.changes, write, write.must)
            if receipt.changes is not None and receipt.changes.complete:
                must = must.join(Known(write.must.writes))
        self.tokens.append((receipt.position, must))

    def _check_holders(self, write: Write) -> None:
        """
        Whether as many nodes have a write as its caller asked for.
        """
        holders = len(self.holders(write))
        nodes = len(self.members)
        if holders < {"node": 0, "primary": 0, "majority": nodes // 2 + 1, "all": nodes}[write.ack]:
            # A node that stopped meanwhile had it.
            (self.note if self.last_stop >= write.asked else self.problem)(
                f"ack={write.ack}, but {holders} nodes have it"
            )

    def _check_changes(self, changes: Changes | None, write: Write, must: Known) -> None:
        """
        Whether the receipt of a write can be true.
        """
        if changes is None or changes.counts is None:
            self.problem(f"write {write.place} was to be told what it changed")
            return
        told_lost = bool(write.coordinator.status().lost)
        known = must.writes if changes.complete else []
        before = possible(self.writes, known, told_lost=told_lost)
        why = impossible(write, changes, before)
        if why is not None:
            self.problem(f"a receipt of write {write.place} cannot be true: {why}")
        self.note(f"changed by {write.place}: {changes}")
        for tenant, counter in changes.counts.items():
            least, most = bounds(self.writes, tenant, [*known, write], told_lost=told_lost)
            if not least <= counter <= most:
                self.problem(f"receipt {write.place}: {tenant!r} has {counter}, not {least} to {most}")
        if missing := {tenant for _, (_, tenant) in write.all_rows if tenant} - changes.counts.keys():
            self.problem(f"the receipt of write {write.place} lacks the counts of {missing}")

    def _acknowledged(self, write: Write) -> None:
        write.acked = self.now
        known = self.known[write.coordinator]
        self.known[write.coordinator] = known.join(Known([write]))

    def _not_stored(self, why: Failure, write: Write) -> None:
        self.note(f"not stored {write.place}: {why.value!r}")
        why.trap(Refusal, CancelledError)
        error = why.value
        self.answers[type(error).__name__] += 1
        if isinstance(error, NotReplicated):
            self._acknowledged(write)
        elif isinstance(error, NotApplied | InvalidPosition | PositionLost | StampTooOld):
            write.void = True
            self._lost_position(why)
        elif not isinstance(error, OutcomeUnknown | CancelledError):
            self.problem(f"a store was refused with {error!r}")
        if isinstance(error, NotReplicated | OutcomeUnknown):
            stamp = error.stamp
            if (stamp is not None) != write.must_be_stamped():
                self.problem(f"write {write.place} is to be repeated with the stamp {stamp}")
            elif write.items.stamps is None and stamp != write.latest():
                self.problem(f"write {write.place} is to be repeated with {stamp}, not {write.latest()}")
            write.repeat(stamp)

    def erase(
        self, coordinator: Coordinator, tenant: str, ack: Ack, after: tuple[str, Known] | None
    ) -> Deferred[Any]:
        """
        Ask to delete a tenant.
        """
        write = Write(len(self.writes) + 1, coordinator, Items([], []), ack, self.now)
        known = self.known[coordinator]
        erasure = self.erasures.begin(tenant, write, known if after is None else known.join(after[1]))
        self.writes.append(write)
        self.note(f"erase {tenant!r}, {write.place}, ack={ack}")
        answer = Deferred.fromCoroutine(coordinator.erase(tenant, ack=ack, after=after and after[0]))
        self._start(answer, coordinator, _LONG, f"erase {write.place}")

        def ended(result: object) -> object:
            if erasure in self.erasures.under_way:
                self.erasures.end(erasure)
            return result

        answer.addBoth(ended)
        answer.addCallbacks(self._erased, self._not_erased, (erasure,), {}, (erasure,), {})
        answer.addErrback(self.failed)
        return answer

    def _erased(self, told: Erased, erasure: Erasure) -> None:
        write = erasure.write
        self.note(f"erased {write.place}: {told.deleted} items at {told.stamp}")
        self.answers["erased"] += 1
        told_lost = bool(write.coordinator.status().lost)
        self._report(self.erasures.check(erasure, told, told_lost=told_lost))
        self._acknowledged(write)
        self._check_holders(write)
        self.tokens.append((told.position, Known([write])))

    def _not_erased(self, why: Failure, erasure: Erasure) -> None:
        self.note(f"not erased {erasure.write.place}: {why.value!r}")
        why.trap(Refusal, CancelledError)
        self.answers[type(why.value).__name__] += 1
        if isinstance(why.value, NotReplicated):
            self._acknowledged(erasure.write)
        elif isinstance(why.value, PositionLost):
            self._lost_position(why)
        elif not isinstance(
            why.value, CancelledError | EraseStopped | Incomplete | InvalidPosition | NotApplied
        ):
            self.problem(f"a deletion was refused with {why.value!r}")

    def compact(self, coordinator: Coordinator, before: int) -> None:
        """
        Ask to forget deletions up to a stamp.
        """
        # What the coordinator may choose at this moment.
        self.floors.append(min(before, coordinator._wall()))  # noqa: SLF001 - no answer need come
        self.note(f"compact up to {self.floors[-1]}")
        answer = Deferred.fromCoroutine(coordinator.compacting.compact(before))
        self._start(answer, coordinator, _LONG + self.cluster.limits.compact_s, "compaction")
        answer.addCallbacks(self._compacted, self._not_compacted)
        answer.addErrback(self.failed)

    def _compacted(self, stamp: int) -> None:
        self.note(f"compacted up to {stamp}")
        self.answers["compacted"] += 1

    def _not_compacted(self, why: Failure) -> None:
        why.trap(NotApplied, CompactionStopped, CancelledError)
        self.note(f"not compacted: {why.value!r}")
        self.answers[type(why.value).__name__] += 1

    def failed(self, why: Failure) -> None:
        """
        An error that no caller may get.
        """
        self.problem(f"an answer that is no refusal: {why.getTraceback()}")

    # What must hold

    def holders(self, write: Write) -> list[int]:
        """
        Live nodes that have all of a write, or something newer.
        """
        rows = (write.rows or {}).items()
        nodes = self.cluster.nodes
        return [node for node in nodes if all(self.has(node, item, row) for item, row in rows)]

    def has(self, node: int, item: int, row: Row) -> bool:
        """
        Whether a live node has a row, or a newer one.
        """
        return self.row_of(self.cluster.nodes[node].replica.ledger, item) >= row

    def row_of(self, ledger: Ledger, item: int) -> Row:
        """
        The row that a node has for an ID. If it has none, a tombstone may have been dropped.
        """
        entry = ledger.get(item)
        if entry is not None:
            return (entry.stamp, entry.tenant or "")
        dropped = (
            row
            for write in (self.writes if self.forgotten else ())
            for other, row in write.all_rows
            if other == item and not row[1] and row[0] <= self.forgotten and not write.void
        )
        return max(dropped, default=NO_ROW)

    def risk(self, *, allowed: bool) -> None:
        """
        Mark what no live node has, after one without a disk has died.
        """
        for write in self.writes:
            for item, row in (write.rows or {}).items():
                if item not in write.at_risk and not any(self.has(n, item, row) for n in self.cluster.nodes):
                    write.at_risk.add(item)
                    self.note(f"at risk: ID {item} of write {write.place}")
                    if write.acked is not None and not allowed:
                        self.problem(f"a node took ID {item} of write {write.place} along")
