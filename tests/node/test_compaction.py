"""
One node's part in dropping old tombstones.
"""

from collections.abc import Sequence
from typing import TypeVar

import pytest
from msgspec import Raw

from dcounter.errors import MalformedMessage
from dcounter.ledger.ledger import Ledger, Winner
from dcounter.ledger.steps import finish
from dcounter.node.catch_up import Idle, Taking, Wanted
from dcounter.node.compaction import Compaction, accept, kept_lines
from dcounter.node.contents import Contents
from dcounter.node.durability import Agreement, Pending, PlainLine
from dcounter.node.effects import LogMessage, Send
from dcounter.node.inquiries import Inquiries
from dcounter.node.watching import Watching
from dcounter.protocol import codec, questions
from dcounter.protocol.batch import Batch, encode_batch
from dcounter.protocol.compaction import Agreed, Compact, Compacted, SetFloor
from dcounter.protocol.copies import CopyBegin, CopyChunk, CopyEnd
from dcounter.protocol.exports import Export, Exported
from dcounter.protocol.messages import JournalLine, Message, Record
from dcounter.protocol.position import Position
from dcounter.protocol.questions import AuditCount, AuditCounted, AuditTenants, Declined
from dcounter.protocol.watching import Changed, Watch
from tests.support.entries import Row
from tests.support.machines import Machines, has
from tests.support.replicas import WALL, End, Replicas, limits, ready

Told = TypeVar("Told")

BEFORE = has((1, 5, 2))
"""
What was accepted before all members had the floor.
"""

FLOOR = 20


class Member(Machines):
    """
    Node 0, with items and tombstones, durably.
    """

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        super().__init__()
        self.rows = rows or [Row(1, 5, "a"), Row(2, 10, None), Row(3, 20, None), Row(4, 21, None)]
        self.contents.ledger.merge(*zip(*self.rows, strict=True))
        self.appended: list[Pending] = []
        self.all = Compaction(
            self.out, self.contents, self.durability, self.members, self.catch_up, self.appended.append
        )
        self.applies(BEFORE)

    def applies(self, position: Position, *, durably: bool = True) -> None:
        self.contents.applied = position
        if durably:
            self.durability.restored(position)

    def asks(self, message: SetFloor | Compact) -> list[tuple[int, Message]]:
        """
        A coordinator asks, and whatever that puts into the journal is durable.
        """
        self.all.asked(1, message)
        lines, self.appended[:] = list(self.appended), []
        for line in lines:
            assert isinstance(line, Agreement)
            assert self.effects() == []
            self.all.kept(line, durable=True)
        return self.sent()

    def kept(self) -> list[JournalLine]:
        lines, self.appended[:] = list(self.appended), []
        assert all(isinstance(line, PlainLine) for line in lines)
        return [codec.decode_kept(line.line) for line in lines]

    def ticks(self) -> None:
        for _ in range(20):
            self.all.tick()

    @property
    def tombstones(self) -> int:
        return self.contents.ledger.known - len(self.contents.ledger)


@pytest.fixture
def node() -> Member:
    return Member()


class TestAsked:
    def test_for_a_floor(self, node: Member) -> None:
        assert node.asks(SetFloor(7, FLOOR)) == [(1, Agreed(7, BEFORE, FLOOR))]
        assert node.contents.floor == FLOOR
        assert node.tombstones == 3

    def test_a_floor_never_falls(self, node: Member) -> None:
        node.asks(SetFloor(7, FLOOR))
        node.asks(SetFloor(8, FLOOR - 1))
        assert node.contents.floor == FLOOR

    def test_it_answers_only_when_it_is_durable(self, node: Member) -> None:
        node.all.asked(1, SetFloor(7, FLOOR))
        assert node.effects() == []
        [line] = node.appended
        assert isinstance(line, Agreement)
        node.all.kept(line, durable=False)
        assert node.sent() == [(1, Agreed(7, BEFORE, FLOOR, "the disk failed"))]

    def test_to_compact(self, node: Member) -> None:
        node.asks(SetFloor(7, FLOOR))
        assert node.asks(Compact(8, FLOOR, BEFORE)) == [(1, Agreed(8, BEFORE, FLOOR))]
        assert node.contents.compacted == Compacted(FLOOR, BEFORE)
        assert (node.tombstones, node.all.settled) == (3, False)
        node.ticks()
        assert (node.tombstones, node.all.settled) == (1, True)
        assert node.effects() == [LogMessage("info", "dropped 2 tombstones")]

    @pytest.mark.parametrize(
        ("floor", "durable", "why"),
        [
            (FLOOR - 1, BEFORE, "the node accepts items with such stamps"),
            (FLOOR, has((1, 5, 1)), "the node does not have durably what was accepted before"),
        ],
    )
    def test_to_compact_too_early(self, node: Member, floor: int, durable: Position, why: str) -> None:
        node.asks(SetFloor(7, floor))
        node.durability.restored(durable)
        assert node.asks(Compact(8, FLOOR, BEFORE)) == [(1, Agreed(8, BEFORE, floor, why))]
        node.ticks()
        assert node.tombstones == 3

    def test_while_it_loads(self, node: Member) -> None:
        node.contents.loading = True
        assert node.asks(SetFloor(7, FLOOR)) == [
            (1, Agreed(7, BEFORE, 0, "the node loads its ledger")),
        ]
        assert node.contents.floor == 0
        node.all.tick()
        assert node.kept() == []

    def test_while_others_compacted_what_it_lacks(self, node: Member) -> None:
        node.all.heard(FLOOR, Compacted(FLOOR, has((1, 5, 3))))
        node.kept()
        [(_, answer)] = node.asks(SetFloor(7, FLOOR + 1))
        assert isinstance(answer, Agreed)
        assert answer.refused == "the node lacks what others had when they compacted"


class TestHeard:
    """
    It missed the message, and others tell.
    """

    def test_it_does_the_same(self, node: Member) -> None:
        node.all.heard(FLOOR, Compacted(FLOOR, BEFORE))
        assert node.kept() == [SetFloor(0, FLOOR)]
        assert not node.all.settled
        node.ticks()
        assert node.kept() == [Compact(0, FLOOR, BEFORE)]
        assert (node.tombstones, node.all.settled) == (1, True)

    def test_what_it_knows_is_not_journalled_again(self, node: Member) -> None:
        node.all.heard(FLOOR, Compacted(FLOOR, BEFORE))
        node.ticks()
        node.kept()
        node.all.heard(FLOOR, Compacted(FLOOR, BEFORE))
        node.all.heard(FLOOR - 5, Compacted(FLOOR - 5, BEFORE))
        node.ticks()
        assert node.kept() == []
        assert node.contents.compacted == Compacted(FLOOR, BEFORE)

    def test_it_waits_until_it_has_durably_what_was_accepted_before(self, node: Member) -> None:
        node.all.heard(FLOOR, Compacted(FLOOR, has((1, 5, 3))))
        node.kept()
        assert node.contents.behind
        assert not node.all.tick()
        # It may need a copy.
        assert node.catch_up.state == Wanted()
        node.applies(has((1, 5, 3)), durably=False)
        assert node.all.tick(), "the ledger got sound"
        assert node.kept() == []
        node.applies(has((1, 5, 3)))
        assert not node.all.tick()
        assert node.kept() == [Compact(0, FLOOR, has((1, 5, 3)))]

    def test_a_copy_that_came_is_searched_for_tombstones_again(self, node: Member) -> None:
        node.all.heard(FLOOR, Compacted(FLOOR, BEFORE))
        node.ticks()
        assert node.tombstones == 1
        node.contents.ledger.merge([8], [9], [None])
        node.all.again()
        assert not node.all.settled
        node.ticks()
        assert (node.tombstones, node.all.settled) == (1, True)


def _batch(*stamps: int) -> Batch:
    return Batch([1] * len(stamps), list(range(len(stamps))), ["a"] * len(stamps), stamps=list(stamps))


class TestAccepting:
    def test_without_a_floor(self) -> None:
        batch = _batch(1, 2)
        assert accept(batch, 0).batch is batch

    def test_above_it(self) -> None:
        batch = _batch(FLOOR + 1)
        accepted = accept(batch, FLOOR)
        assert (accepted.batch, accepted.refused, accepted.whole) == (batch, {}, True)

    def test_slices_with_an_item_at_it_are_refused_and_others_are_not(self) -> None:
        accepted = accept(_batch(FLOOR, FLOOR + 1), FLOOR)
        assert accepted.batch is not None
        assert accepted.batch.smallest_stamp() == FLOOR + 1
        assert list(accepted.refused) == [0]
        assert f"the stamp {FLOOR}" in accepted.refused[0]
        assert not accepted.whole

    def test_nothing_is_left(self) -> None:
        assert accept(_batch(1, 2), FLOOR).batch is None


def test_what_came_later_and_is_too_old_is_left_out_everywhere(node: Member) -> None:
    """
    Only a node that lost what it had can have accepted it.
    """
    node.asks(SetFloor(7, FLOOR))
    node.asks(Compact(8, FLOOR, BEFORE))
    batch = _batch(FLOOR, FLOOR + 1)

    def record(number: int) -> Record:
        return Record(1, 5, number, 0, Raw(encode_batch(batch)))

    assert node.contents.without_compacted(record(2), batch) is batch
    assert node.contents.without_compacted(record(3), batch).smallest_stamp() == FLOOR + 1


def test_a_snapshot_has_the_floor_and_the_compaction(node: Member) -> None:
    assert kept_lines(node.contents) == []
    node.asks(SetFloor(7, FLOOR))
    node.asks(Compact(8, FLOOR, BEFORE))
    node.asks(SetFloor(9, FLOOR + 5))
    lines = kept_lines(node.contents)
    assert lines == [SetFloor(0, FLOOR + 5), Compact(0, FLOOR, BEFORE)]
    started = Machines()
    for line in lines:
        assert isinstance(line, SetFloor | Compact)
        started.contents.restored_compaction(line)
    assert (started.contents.floor, started.contents.compacted) == (FLOOR + 5, Compacted(FLOOR, BEFORE))


LACKED = has((1, 5, 3))
"""
What was accepted before the floor, and node 0 lost.
"""

OTHERS = [Row(1, 5, "a"), Row(6, 19, "b")]
"""
What others have: without the tombstones of 2 and 3.
"""


class Behind(Member):
    """
    Node 0 lost some of what it had, and gets a copy from a node that compacted.
    """

    def __init__(self) -> None:
        super().__init__([Row(1, 4, "b"), Row(2, 3, "a"), Row(5, 30, "c"), Row(7, 31, None)])
        self.inquiries = Inquiries(
            self.out,
            self.contents,
            includes=lambda ask: True,
            position=lambda: self.contents.applied,
            most=10_000,
            at_once=8,
            room=10_000,
        )
        self.watching = Watching(
            self.out,
            self.contents,
            includes=lambda required: True,
            position=lambda: self.contents.applied,
            limits=self.limits,
        )
        self.effects()

    def loses(self) -> None:
        self.all.heard(FLOOR, Compacted(FLOOR, LACKED))
        self.kept()
        self.all.tick()
        self.effects()

    def copied(self, position: Position = LACKED, rows: Sequence[Row] = OTHERS) -> None:
        """
        All of the copy comes.
        """
        before = self.contents.ledger
        self.takes(CopyBegin(position, {}, [], len(rows), compacted=Compacted(FLOOR, LACKED)))
        giver = Contents(self.contents.backlog, self.contents.runs, 1).ledger
        giver.merge(*zip(*rows, strict=True))
        for chunk in giver.chunks(1):
            self.takes(CopyChunk.of(chunk.packed(), position))
        assert self.contents.ledger is before
        self.takes(CopyEnd(position, 40))
        self.inquiries.begin_again()
        self.watching.begin_again()

    def takes(self, message: CopyBegin | CopyChunk | CopyEnd) -> None:
        self.catch_up.ask(1, able=True)
        self.effects()
        line = codec.encode(message)
        assert self.catch_up.take(1, message, line, self.contents) is None

    def asked(self, request: int, what: questions.Question) -> None:
        self.inquiries.begin(1, questions.Ask(request, what, Position()), 10.0)

    def told(self) -> questions.Answer:
        """
        The answer to the question, when it has all its steps.
        """
        for _ in range(50):
            for effect in self.inquiries.step(0.0):
                if isinstance(effect, Send):
                    message = codec.decode(effect.line)
                    assert isinstance(message, questions.Told)
                    return message.what
        raise AssertionError("no answer")


@pytest.fixture
def behind() -> Behind:
    return Behind()


class TestReplacing:
    def test_a_copy_takes_the_place_of_what_is_old(self, behind: Behind) -> None:
        behind.loses()
        behind.copied()
        ledger = behind.contents.ledger
        assert {tenant: count for tenant, count in ledger.tenants() if count} == {"a": 1, "b": 1, "c": 1}
        # 2 was deleted, and the tombstone dropped; newer entries stay, and so does a newer tombstone.
        assert ledger.get(2) is None
        assert ledger.known == 4
        assert not behind.contents.behind
        assert behind.contents.compacted == Compacted(FLOOR, LACKED)
        assert behind.contents.floor == FLOOR
        assert behind.catch_up.state == Idle()

    def test_until_it_is_complete_the_old_one_stays(self, behind: Behind) -> None:
        behind.loses()
        behind.takes(CopyBegin(LACKED, {}, [], 2, compacted=Compacted(FLOOR, LACKED)))
        assert isinstance(behind.catch_up.state, Taking)
        assert behind.contents.ledger.count("a") == 1
        assert behind.contents.behind
        behind.catch_up.disconnected(1)
        behind.copied()
        assert not behind.contents.behind

    def test_if_it_breaks_off_and_logs_bring_the_rest_tombstones_are_dropped(self, behind: Behind) -> None:
        behind.loses()
        behind.takes(CopyBegin(LACKED, {}, [], 2, compacted=Compacted(FLOOR, LACKED)))
        behind.catch_up.disconnected(1)
        behind.contents.ledger.merge([8], [12], [None])
        behind.applies(LACKED)
        assert behind.all.tick(), "the ledger got sound"
        assert behind.catch_up.covered()
        behind.ticks()
        assert behind.contents.fresh is None
        assert behind.contents.ledger.get(8) is None
        assert behind.all.settled

    @pytest.mark.parametrize("chunks", [0, 1, 2])
    @pytest.mark.parametrize("receipt", [False, True])
    def test_what_comes_meanwhile_is_in_it(self, behind: Behind, chunks: int, receipt: bool) -> None:
        """
        Of what is there already, a part is put beside the copy with each of its chunks.
        """
        rows = list(range(100, 30_100))
        behind.contents.ledger.merge(rows, [50] * len(rows), ["e"] * len(rows))
        behind.loses()
        behind.takes(CopyBegin(LACKED, {}, [], 2, compacted=Compacted(FLOOR, LACKED)))
        for row in OTHERS[:chunks]:
            giver = Ledger()
            giver.merge([row.item], [row.stamp], [row.tenant])
            [chunk] = giver.chunks(1)
            behind.takes(CopyChunk.of(chunk.packed(), LACKED))
        # The last one is older than the compaction: if it were still true, it would be in the copy.
        tenants = [None if row % 2 else "f" for row in rows]
        stamps = [60] * len(rows)
        batch = Batch([len(rows) + 1], [*rows, 9], [*tenants, "f"], stamps=[*stamps, FLOOR])
        record = Record(2, 9, 1, 60, Raw(encode_batch(batch)))
        apply = behind.contents.apply_with_receipt if receipt else behind.contents.apply
        apply(record, batch, codec.encode(record))
        behind.takes(CopyEnd(LACKED, 70))
        ledger = behind.contents.ledger
        assert (ledger.count("e"), ledger.count("f")) == (0, 15_000)
        assert (ledger.get(9), ledger.get(101)) == (None, Winner(60, None))
        assert behind.contents.applied == LACKED.join(has((1, 5, 3), (2, 9, 1)))

    @pytest.mark.parametrize("packed", [False, True])
    def test_what_the_journal_still_has_to_load_does_not_come_back(
        self, behind: Behind, packed: bool
    ) -> None:
        behind.loses()
        behind.contents.loading = True
        behind.copied()
        batch = Batch([2], [2, 77], ["a", "g"], stamps=[7, 70])
        if packed:
            loaded = Ledger()
            loaded.merge(*batch.rows())
            [rows] = loaded.chunks(10)
            behind.contents.load_rows(rows.packed())
        else:
            behind.contents.load(batch)
        assert behind.contents.ledger.get(2) is None
        assert behind.contents.ledger.count("g") == 1

    def test_one_that_lacks_what_this_node_had_when_it_compacted_is_refused(self, node: Member) -> None:
        node.asks(SetFloor(7, FLOOR))
        node.asks(Compact(8, FLOOR, BEFORE))
        node.catch_up.want()
        node.catch_up.ask(1, able=True)
        begin = CopyBegin(has((1, 5, 1)), {}, [])
        with pytest.raises(MalformedMessage, match="a copy that lacks what was there"):
            node.catch_up.take(1, begin, codec.encode(begin), node.contents)

    def test_a_question_that_waits_is_answered_from_the_new_one(self, behind: Behind) -> None:
        behind.asked(1, questions.ListItems("b", 10))
        behind.loses()
        behind.copied()
        assert behind.told() == questions.ItemsListed([6], None)

    def test_an_audit_ends(self, behind: Behind) -> None:
        behind.asked(1, AuditCount(anew=True, hold=True))
        counted = behind.told()
        assert isinstance(counted, AuditCounted)
        assert counted.held
        behind.loses()
        behind.asked(2, AuditTenants(["a"]))
        behind.copied()
        assert behind.told() == Declined("closed")
        assert not behind.inquiries.audits.is_open
        assert behind.contents.watcher is None

    def test_an_audit_that_is_about_to_begin_counts_the_new_one(self, behind: Behind) -> None:
        behind.loses()
        behind.asked(1, AuditCount(anew=True, hold=True))
        behind.copied()
        counted = behind.told()
        assert isinstance(counted, AuditCounted)
        assert (counted.rows, counted.wrong) == (4, [])

    def test_an_export_that_is_under_way_cannot_go_on(self, behind: Behind) -> None:
        behind.asked(1, Export(0, 2))
        first = behind.told()
        assert isinstance(first, Exported)
        behind.loses()
        behind.asked(2, Export(first.next, 2, first.numbering))
        behind.copied()
        assert behind.told() == Declined("renumbered")
        behind.asked(3, Export(first.next, 2, first.numbering))
        assert behind.told() == Declined("renumbered")
        behind.asked(4, Export(0, 10))
        again = behind.told()
        assert isinstance(again, Exported)
        assert (again.rows, again.numbering) == (3, first.numbering + 1)

    def test_who_watches_is_told_to_begin_anew(self, behind: Behind) -> None:
        behind.watching.take(1, Watch(1, False, Position(), 1_000), 0.0)
        behind.effects()
        behind.watching.take(1, Watch(2, True, Position(), 1_000), 0.1)
        behind.loses()
        behind.copied()
        behind.watching.tick(0.2)
        [(_, told)] = behind.sent()
        assert isinstance(told, Changed)
        assert (told.request, told.begins, told.tenants) == (2, True, [])
        # And it hears of changes of the new one.
        behind.contents.ledger.merge([9], [50], ["d"])
        behind.watching.take(1, Watch(3, True, Position(), 1_000), 0.3)
        [(_, told)] = behind.sent()
        assert isinstance(told, Changed)
        assert (told.tenants, told.counts) == (["d"], [1])

    def test_what_is_dropped_meanwhile_is_dropped_from_the_new_one(self, behind: Behind) -> None:
        behind.loses()
        behind.copied(rows=[*OTHERS, Row(8, 12, None)])
        behind.all.again()
        for _ in range(20):
            behind.all.tick()
        assert behind.contents.ledger.get(8) is None
        assert finish(behind.contents.ledger.compact(FLOOR)) == 0


class TestReplicas:
    """
    Node 1 misses deletions and the compaction after them, and the logs that tell of the deletions.
    """

    ITEMS = 40

    def _missed(self) -> tuple[Replicas, End]:
        world = ready(2, limits=limits(backlog_bytes=600, chunk_rows=7))
        near, far = world.coordinator(0), world.coordinator(1)
        for item in range(self.ITEMS):
            world.store(near, item, base=1_000 + item)
        world.settle()
        assert len(world.digests()) == 1
        world.part(0, 1)
        world.store(far, 999, tenant="later", base=WALL)
        for item in range(self.ITEMS - 5):
            world.store(near, item, tenant=None, base=2_000 + item)
        world.settle()
        applied = world.replicas[0].applied
        # What a coordinator would not do: node 1 is not there.
        world.say(near, SetFloor(1, 3_000))
        world.settle()
        world.say(near, Compact(2, 3_000, applied))
        world.settle()
        assert self._tombstones(world) == [0, 0]
        assert [len(world.replicas[node].ledger) for node in (0, 1)] == [5, self.ITEMS + 1]
        return world, far

    def _tombstones(self, world: Replicas) -> list[int]:
        ledgers = [world.replicas[node].ledger for node in (0, 1)]
        return [ledger.known - len(ledger) for ledger in ledgers]

    def _heard(self, end: End, kind: type[Told]) -> list[Told]:
        return [message for message in end.received if isinstance(message, kind)]

    def test_the_copy_deletes_what_was_deleted(self) -> None:
        world, _ = self._missed()
        world.connect_all()
        world.settle(rounds=6)
        assert len(world.digests()) == 1
        assert len(world.replicas[1].ledger) == 6
        assert world.replicas[1].ledger.count("later") == 1
        floors = [world.replicas[node].contents.floor for node in (0, 1)]
        assert floors == [3_000, 3_000]

    def test_what_looked_at_the_old_ledger_begins_anew(self) -> None:
        world, coordinator = self._missed()
        world.say(coordinator, questions.Ask(5, AuditCount(anew=True, hold=True), Position()))
        world.say(coordinator, Watch(6, False, Position(), 60_000))
        world.settle()
        [counted] = self._heard(coordinator, questions.Told)
        assert isinstance(counted.what, AuditCounted)
        assert (counted.what.held, counted.what.rows) == (True, self.ITEMS + 1)
        [begun] = self._heard(coordinator, Changed)
        assert begun.begins
        world.say(coordinator, Watch(7, True, Position(), 60_000))

        world.connect_all()
        world.settle(rounds=6)

        assert not world.replicas[1].inquiries.audits.is_open
        changed = self._heard(coordinator, Changed)[-1]
        assert (changed.request, changed.complete, changed.begins) == (7, True, True)
        world.say(coordinator, Watch(8, True, Position(), 60_000))
        world.store(coordinator, 3, tenant="t", base=WALL + 1)
        world.settle()
        changed = self._heard(coordinator, Changed)[-1]
        assert (changed.request, changed.tenants, changed.counts) == (8, ["t"], [6])
