"""
The audit that takes place at one node: a recount of its rows, and what they are at a position.

Nodes can be compared only at one position, and while items are stored no two nodes are ever at the same one.
So a node remembers its rows at some moment (`dcounter.ledger.moment`) and, from then on, the batches that it
applies. When it has applied the position that is asked for, the rows there are those of that moment with the
batches merged that the position covers, whatever else it has applied by then.

There is one audit at a time. It belongs to the connection of one coordinator, and is closed with it, or when
nothing was asked for a while.

What holds, after each call:

- unless an audit is held, no batch is remembered;
- what is told of a position is what any other node that has exactly that must tell, too.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import assert_never

import numpy as np

from dcounter.ledger.audit import GROUP_BITS, Audit, Difference, Words, group_of, hash_of, mix
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.moment import Entry, Moment
from dcounter.ledger.steps import Steps
from dcounter.limits import ITEM_BYTES
from dcounter.node.contents import Contents, merge
from dcounter.protocol import codec, questions
from dcounter.protocol.batch import decode_batch
from dcounter.protocol.messages import Record
from dcounter.protocol.position import Position

_SLICES = 16
"""
How many steps of a recount one question gets: about 50 ms of work.
"""

IDLE_S = 60.0
"""
Time (s) without a question after which an audit is closed: longer than a coordinator waits for other nodes.
"""

_WRONG = 100
"""
The most wrong counts that are named.
"""

_CHUNK = 256
"""
How many rows are looked at in one step.
"""


@dataclass(slots=True, eq=False)
class AtPosition:
    """
    What the rows are at a position, as far as they differ from those of the moment that is held.

    :ivar rows: the entries there of all IDs that batches name which came between.
    :ivar sums: what is to be added to the digest of each group.
    :ivar counts: what is to be added to the count of each tenant.
    """

    rows: Ledger
    sums: Words = field(default_factory=lambda: np.zeros(1 << GROUP_BITS, np.uint64))
    counts: Counter[str | None] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class Held:
    """
    The rows of a moment, and what was applied since.

    :ivar sums: the digest of each group of IDs at that moment.
    :ivar counts: how many rows each number of a tenant owned.
    :ivar wrong: the first counts that were wrong.
    :ivar all_wrong: how many were.
    :ivar room: how many more bytes of batches, and of rows that change, may be remembered.
    :ivar batches: node, run, number and line of each batch.
    """

    moment: Moment
    audit: Audit
    wrong: dict[str | None, Difference]
    all_wrong: int
    room: int
    batches: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    spoiled: bool = False
    at: tuple[Position, AtPosition] | None = None

    def refusal(self) -> questions.Declined | None:
        if self.spoiled or self.moment.spoiled:
            return questions.Declined("disturbed")
        if self.room < 100 * self.moment.changed:
            return questions.Declined("too_many_writes")
        return None


class Auditing:
    """
    The audit of one node.

    :param contents: what the node has in memory.
    :param room: how many bytes may be remembered.
    :param most: the most bytes of names in an answer.
    """

    def __init__(self, contents: Contents, *, room: int, most: int) -> None:
        self._contents = contents
        self._room = room
        self._most = most
        self._channel: int | None = None
        self._asked_at = 0.0
        self._floor = -1
        self._audit: Audit | None = None
        self._held: Held | None = None

    @property
    def is_open(self) -> bool:
        """
        Whether there is an audit.
        """
        return self._audit is not None

    def tick(self, now: float) -> None:
        """
        Time has passed: close an audit that no one asks for.
        """
        # The first tick after a question takes down when that was: questions know no time.
        self._asked_at = self._asked_at or now
        if now - self._asked_at >= IDLE_S:
            self.close()

    def disconnected(self, channel: int) -> None:
        """
        A connection is gone, and its audit with it.
        """
        if channel == self._channel:
            self.close()

    def close(self) -> None:
        """
        End the audit, if there is one.
        """
        if self._held is not None:
            self._held.moment.close()
        elif self._audit is not None:
            self._audit.close()
        self._channel = self._audit = self._held = self._contents.watcher = None
        self._asked_at = 0.0

    # What is put into the ledger

    def applied(self, node: int, run: int, number: int, line: bytes) -> None:
        held = self._held
        if held is not None and held.room >= 0:
            held.room -= len(line)
            held.batches.append((node, run, number, line))
            if held.room < 0:
                held.batches.clear()

    def chunk_merged(self) -> None:
        if self._held is not None:
            self._held.spoiled = True

    # Questions

    def steps_to(
        self, channel: int, what: questions.AuditQuestion, position: Position
    ) -> Steps[questions.Answer]:
        """
        The steps to the answer of a question.

        :param position: the position that it asks about. The node has applied it, unless it counts rows.
        """
        self._asked_at = 0.0
        if self._audit is not None and channel != self._channel:
            yield from ()
            return questions.Declined("taken")
        match what:
            case questions.AuditCount():
                return (yield from self._count(channel, what))
            case questions.AuditEnd():
                self.close()
                return questions.AuditEnded()
            case _:
                pass
        held = self._held
        if held is None:
            return questions.Declined("closed")
        if not self._contents.applied.covers(position):
            return questions.Declined("late")
        refusal = held.refusal()
        if refusal is not None:
            return refusal
        answer = yield from self._at_position(held, what, position)
        if self._held is not held:
            return questions.Declined("closed")
        return held.refusal() or answer

    def _at_position(
        self,
        held: Held,
        what: questions.AuditCompare | questions.AuditRows | questions.AuditTenants,
        position: Position,
    ) -> Steps[questions.Answer]:
        at = yield from self._at(held, position)
        match what:
            case questions.AuditCompare():
                return self._compare(held, at, what.bits)
            case questions.AuditRows():
                return (yield from self._rows(held, at, what))
            case questions.AuditTenants():
                return self._tenants(held, at, what.tenants)
            case _:
                assert_never(what)

    def _count(self, channel: int, what: questions.AuditCount) -> Steps[questions.Answer]:
        if what.anew:
            self.close()
            self._channel = channel
            self._floor = -1 if what.floor is None else what.floor
            self._audit = self._contents.ledger.audit(self._floor)
        audit = self._audit
        if audit is None or self._held is not None:
            return questions.Declined("closed")
        steps = audit.steps()
        for _ in range(_SLICES):
            try:
                next(steps)
            except StopIteration:
                counted, rows = audit.progress()
                if not what.hold:
                    return questions.AuditCounted(counted, rows)
                held = self._hold(audit)
                wrong = [questions.WrongCount(e.tenant, e.kept, e.counted) for e in held.wrong.values()]
                return questions.AuditCounted(rows, rows, True, wrong, held.all_wrong)
            yield
            if self._audit is not audit:
                return questions.Declined("closed")
        counted, rows = audit.progress()
        # It may be all of them, or there is none, but for names that have yet to be hashed.
        rows = max(rows, 1)
        return questions.AuditCounted(min(counted, rows - 1), rows)

    def _hold(self, audit: Audit) -> Held:
        numbers = audit.wrong()
        named = [audit.difference(number) for number in numbers[:_WRONG]]
        fitting, size = 0, 0
        for each in named:
            size += len(each.tenant or "")
            fitting += size <= self._most
        wrong = {each.tenant: each for each in named[:fitting]}
        audit.close()
        self._held = Held(self._contents.ledger.moment(), audit, wrong, len(numbers), self._room)
        self._contents.watcher = self
        return self._held

    def _at(self, held: Held, position: Position) -> Steps[AtPosition]:
        """
        What the rows are at a position; computed once.
        """
        if held.at is not None and held.at[0] == position:
            return held.at[1]
        at = AtPosition(self._contents.new_ledger())
        # More may be applied meanwhile, but nothing that this position covers.
        for node, run, number, line in list(held.batches):
            if position.number(node, run) >= number:
                record = codec.decode(line)
                assert isinstance(record, Record)
                merge(at.rows, decode_batch(record.batch))
                yield
        named = iter([item for chunk in at.rows.chunks(_CHUNK) for item in chunk.ids.tolist()])
        while ids := list(islice(named, _CHUNK)):
            before = held.moment.find(ids)
            self._add(at, ids, before, -1)
            known = [(item, *each) for item, each in zip(ids, before, strict=True) if each is not None]
            if known:
                at.rows.merge(*zip(*known, strict=True))
            self._add(at, ids, _entries(at.rows, ids), 1)
            yield
        held.at = position, at
        return at

    def _add(self, at: AtPosition, ids: Sequence[int], entries: Sequence[Entry | None], sign: int) -> None:
        """
        Add entries to what is counted, or take them away.
        """
        rows = [(item, *each) for item, each in zip(ids, entries, strict=True) if each is not None]
        for _, _, tenant in rows:
            at.counts[tenant] += sign
        compared = [each for each in rows if each[2] is not None or each[1] > self._floor]
        if compared:
            items, stamps, tenants = zip(*compared, strict=True)
            columns = np.array(items, np.int64), np.array(stamps, np.int64)
            hashes = {tenant: hash_of(tenant) for tenant in {*tenants}}
            mixed = mix(*columns, np.array([hashes[each] for each in tenants], np.uint64))
            change = np.add if sign > 0 else np.subtract
            change.at(at.sums, group_of(columns[0]), mixed)

    def _compare(self, held: Held, at: AtPosition, bits: int) -> questions.Answer:
        sums = (held.audit.sums + at.sums).reshape(1 << bits, -1).sum(axis=1, dtype=np.uint64)
        tombstones = self._counted(held, at, None)
        items = int(held.audit.counts.sum()) + at.counts.total() - tombstones
        return questions.AuditCompared(items, tombstones, sums.astype("<u8").tobytes())

    def _rows(self, held: Held, at: AtPosition, what: questions.AuditRows) -> Steps[questions.Answer]:
        new = [item for chunk in at.rows.chunks(_CHUNK) for item in chunk.ids.tolist()]
        found = iter((yield from held.moment.ids_in(what.bits, what.groups, new)))
        rows: list[tuple[int, int, str | None]] = []
        while ids := list(islice(found, _CHUNK)):
            entries = zip(_entries(at.rows, ids), held.moment.find(ids), strict=True)
            for item, (later, before) in zip(ids, entries, strict=True):
                entry = later or before
                if entry is not None and (entry[1] is not None or entry[0] > self._floor):
                    rows.append((item, *entry))
            yield
        if sum(ITEM_BYTES + len(tenant or "") for _, _, tenant in rows) > self._most:
            return questions.Declined("too_large")
        return questions.AuditRowsFound(
            [item for item, _, _ in rows], [stamp for _, stamp, _ in rows], [tenant for _, _, tenant in rows]
        )

    def _tenants(
        self, held: Held, at: AtPosition, tenants: Sequence[str | None]
    ) -> questions.AuditTenantsFound:
        counted = [self._counted(held, at, tenant) for tenant in tenants]
        wrong = (held.wrong.get(tenant) for tenant in tenants)
        # Nothing but a merge has changed a count since, and a merge changes both alike.
        more = [0 if each is None else each.kept - each.counted for each in wrong]
        return questions.AuditTenantsFound([a + b for a, b in zip(counted, more, strict=True)], counted)

    def _counted(self, held: Held, at: AtPosition, tenant: str | None) -> int:
        number = held.moment.number(tenant)
        before = 0 if number is None else int(held.audit.counts[number])
        return before + at.counts[tenant]


def _entries(ledger: Ledger, ids: Sequence[int]) -> list[Entry | None]:
    found = ledger.find(ids)
    return [None if each is None else (each.stamp, each.tenant) for each in found]
