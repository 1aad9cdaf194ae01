"""
What a node tells of its rows at a position, although it has applied other batches as well.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import finish
from dcounter.node.auditing import Auditing
from dcounter.node.contents import Contents
from dcounter.protocol import codec, questions
from dcounter.protocol.batch import Batch, encode_batch
from dcounter.protocol.messages import Record
from dcounter.protocol.position import Position, join_all
from dcounter.protocol.questions import (
    AuditCompare,
    AuditCompared,
    AuditCount,
    AuditCounted,
    AuditEnd,
    AuditEnded,
    AuditRows,
    AuditRowsFound,
    AuditTenants,
    AuditTenantsFound,
    Declined,
    WrongCount,
)
from tests.support.entries import SMALL, Row, colliding, model
from tests.support.machines import Machines, has

RUN = 5
NOTHING = Position()


class Node:
    """
    What one node has, and its audit.
    """

    def __init__(self, room: int = 10**6) -> None:
        self.contents: Contents = Machines().contents
        self.contents.ledger = Ledger(sizes=SMALL)
        self.audit = Auditing(self.contents, room=room, most=1_000)

    def apply(self, node: int, number: int, rows: list[Row], *, packed: bool = False) -> None:
        batch = Batch(
            [len(rows)],
            [row.item for row in rows],
            [row.tenant for row in rows],
            stamps=[row.stamp for row in rows],
        )
        batch = batch.pack() if packed else batch
        record = Record(node, RUN, number, 0, Raw(encode_batch(batch)))
        self.contents.apply(record, batch, codec.encode(record))

    def ask(self, what: questions.AuditQuestion, at: Position = NOTHING, channel: int = 1) -> Any:
        return finish(self.audit.steps_to(channel, what, at))

    def hold(self) -> Position:
        """
        Begin an audit, and count everything.
        """
        told = self.ask(AuditCount(anew=True))
        while not (isinstance(told, AuditCounted) and told.held):
            told = self.ask(AuditCount(hold=True))
        return self.contents.applied


# Of three nodes, what each stores, batch by batch.
logs = st.lists(st.lists(st.lists(colliding, min_size=1, max_size=4), max_size=5), min_size=3, max_size=3)


@given(logs, st.booleans(), st.data())
def test_all_nodes_tell_the_same_of_a_position_in_whatever_order_batches_come(
    stored: list[list[list[Row]]], packed: bool, data: st.DataObject
) -> None:
    everything = [(origin, number) for origin, log in enumerate(stored) for number in range(1, len(log) + 1)]
    nodes = [Node() for _ in stored]
    rests: list[list[tuple[int, int]]] = []
    held = []
    for node in nodes:
        # In an order of its own, but each log from its beginning.
        order = sorted(data.draw(st.permutations(everything)))
        mixed = data.draw(st.permutations([origin for origin, _ in everything]))
        taken = {origin: iter([each for each in order if each[0] == origin]) for origin in range(3)}
        order = [next(taken[origin]) for origin in mixed]
        begin = data.draw(st.integers(0, len(order)))
        for origin, number in order[:begin]:
            node.apply(origin, number, stored[origin][number - 1], packed=packed)
        held.append(node.hold())
        rests.append(order[begin:])
    position = join_all(held)
    for node, rest in zip(nodes, rests, strict=True):
        # At least what is asked about, and perhaps more.
        least = sum(1 for origin, number in rest if position.number(origin, RUN) >= number)
        for done, (origin, number) in enumerate(rest):
            if done >= least and node.contents.applied.covers(position) and data.draw(st.booleans()):
                break
            node.apply(origin, number, stored[origin][number - 1], packed=packed)
        assert node.contents.applied.covers(position)
    there = [
        row
        for origin, log in enumerate(stored)
        for number, batch in enumerate(log, 1)
        if position.number(origin, RUN) >= number
        for row in batch
    ]
    winners = model(there).values()
    tenants = [None, "a", "b", "nobody"]
    for node in nodes:
        compared = node.ask(AuditCompare(4), position)
        assert compared == nodes[0].ask(AuditCompare(4), position)
        assert compared.items == sum(row.tenant is not None for row in winners)
        assert compared.tombstones == sum(row.tenant is None for row in winners)
        found = node.ask(AuditRows(1, [0, 1]), position)
        assert found == AuditRowsFound(*map(list, zip(*sorted(winners), strict=True))) if winners else True
        counts = [sum(row.tenant == each for row in winners) for each in tenants]
        assert node.ask(AuditTenants(tenants), position) == AuditTenantsFound(counts, counts)


def _sums(node: Node, position: Position) -> bytes:
    compared = node.ask(AuditCompare(0), position)
    assert isinstance(compared, AuditCompared)
    return compared.sums


@pytest.fixture
def node() -> Node:
    node = Node()
    node.apply(1, 1, [Row(1, 1, "a"), Row(2, 1, "a"), Row(3, 1, None)])
    return node


def test_counting_is_a_bit_at_a_time(node: Node) -> None:
    node.apply(1, 2, [Row(item, 2, "b") for item in range(10, 200)])
    told = node.ask(AuditCount(anew=True))
    steps = [told.counted]
    while (told := node.ask(AuditCount(hold=True))) and not told.held:
        assert told.rows == 193
        steps.append(told.counted)
    assert told == AuditCounted(193, 193, held=True)
    # Two in each step, and 16 steps for each question.
    assert all(0 < after - before <= 32 for before, after in zip([0, *steps], steps, strict=False))
    assert len(steps) >= 6


def test_all_rows_are_counted_but_none_is_held_before_that_is_asked(node: Node) -> None:
    assert node.ask(AuditCount(anew=True)) == AuditCounted(3, 3)
    assert node.contents.watcher is None
    assert node.ask(AuditCompare(0)) == Declined("closed")


def test_a_wrong_count_is_named(node: Node) -> None:
    tenants = node.contents.ledger._tenants  # noqa: SLF001 - a planted difference
    node.contents.ledger.settle()
    tenants.counts[tenants.numbers["a"]] += 5
    node.ask(AuditCount(anew=True))
    told = node.ask(AuditCount(hold=True))
    assert told.wrong == [WrongCount("a", 7, 2)]
    assert told.all_wrong == 1
    position = node.contents.applied
    # Both change with what comes, but not with what the position does not cover.
    node.apply(1, 2, [Row(9, 2, "a")])
    node.apply(1, 3, [Row(10, 2, "a")])
    assert node.ask(AuditTenants(["a"]), has((1, RUN, 2))) == AuditTenantsFound([8], [3])
    assert node.ask(AuditTenants(["a"]), position) == AuditTenantsFound([7], [2])


def test_another_coordinator_has_to_wait(node: Node) -> None:
    node.hold()
    assert node.ask(AuditCount(anew=True), channel=2) == Declined("taken")
    assert node.ask(AuditEnd(), channel=2) == Declined("taken")
    node.audit.disconnected(2)
    assert node.ask(AuditEnd()) == AuditEnded()
    assert isinstance(node.ask(AuditCount(anew=True), channel=2), AuditCounted)


@pytest.mark.parametrize("hold", [True, False])
def test_an_audit_ends_with_its_connection(node: Node, hold: bool) -> None:
    ledger = node.contents.ledger
    tenants = list(ledger._tenants.watchers)  # noqa: SLF001 - it shows nowhere else
    node.ask(AuditCount(anew=True))
    if hold:
        node.hold()
    node.audit.disconnected(1)
    assert ledger._tenants.watchers == tenants  # noqa: SLF001
    assert ledger._entries.watchers == []  # noqa: SLF001
    assert node.contents.watcher is None
    assert node.ask(AuditCompare(0)) == Declined("closed")
    assert node.ask(AuditCount()) == Declined("closed")


def test_an_audit_ends_if_nothing_is_asked(node: Node) -> None:
    node.hold()
    node.audit.tick(100.0)
    node.audit.tick(159.9)
    assert node.audit.is_open
    node.ask(AuditCompare(0), node.contents.applied)
    node.audit.tick(160.0)
    node.audit.tick(219.9)
    assert node.audit.is_open
    node.audit.tick(220.0)
    assert not node.audit.is_open


def test_a_position_that_is_not_applied_is_not_answered_and_not_kept(node: Node) -> None:
    node.hold()
    later = has((1, RUN, 2))
    assert node.ask(AuditCompare(0), later) == Declined("late")
    before = _sums(node, node.contents.applied)
    node.apply(1, 2, [Row(9, 2, "a")])
    assert _sums(node, later) != before
    assert _sums(node, has((1, RUN, 1))) == before


def test_rows_of_a_copy_disturb_it(node: Node) -> None:
    node.hold()
    node.contents.merge_rows((np.array([7]), np.array([1]), np.array([0], np.int32), ["a"]))
    assert node.ask(AuditCompare(0), node.contents.applied) == Declined("disturbed")


def test_a_compaction_disturbs_it(node: Node) -> None:
    node.hold()
    finish(node.contents.ledger.compact(9))
    assert node.ask(AuditCompare(0), node.contents.applied) == Declined("disturbed")


def test_too_many_writes_end_it() -> None:
    node = Node(room=1_000)
    node.apply(1, 1, [Row(1, 1, "a")])
    position = node.hold()
    for number in range(2, 20):
        node.apply(1, number, [Row(number, 1, "a")])
    assert node.ask(AuditCompare(0), position) == Declined("too_many_writes")
    held = node.audit._held  # noqa: SLF001 - it shows nowhere else
    assert held is not None
    assert held.batches == []


def test_rows_that_fit_no_message_are_not_told(node: Node) -> None:
    node.apply(1, 2, [Row(item, 2, "n" * 100) for item in range(10, 30)])
    position = node.hold()
    assert node.ask(AuditRows(0, [0]), position) == Declined("too_large")


def test_tombstones_below_the_floor_are_not_compared(node: Node) -> None:
    other = Node()
    # The same position, but this node has dropped the tombstone.
    other.apply(1, 1, [Row(1, 1, "a"), Row(2, 1, "a")])
    for each in (node, other):
        each.ask(AuditCount(anew=True, floor=1))
        each.ask(AuditCount(hold=True))
    assert _sums(node, has((1, RUN, 1))) == _sums(other, has((1, RUN, 1)))
    # One that comes later, and is as old.
    for each in (node, other):
        each.apply(1, 2, [Row(5, 1, None), Row(1, 2, "b")])
    assert _sums(node, has((1, RUN, 2))) == _sums(other, has((1, RUN, 2)))
    assert node.ask(AuditRows(0, [0]), has((1, RUN, 2))).ids == [1, 2]


def test_names_without_any_row_are_counted_in_several_questions() -> None:
    node = Node()
    tenants = [f"t{number}" for number in range(100)]
    node.apply(0, 1, [Row(number, 1, tenant) for number, tenant in enumerate(tenants)])
    node.apply(0, 2, [Row(number, 2, None) for number in range(len(tenants))])
    finish(node.contents.ledger.compact(3))
    told = node.ask(AuditCount(anew=True))
    # It has a message, which the coordinator can read, and is not over yet.
    assert 0 <= told.counted < told.rows
    node.hold()
