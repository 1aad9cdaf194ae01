from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.audit import Audit, Difference, Digest
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import finish
from tests.support.entries import SMALL, Row, Writer, anything, batches, colliding, merge, model


def _audited(rows: list[Row]) -> tuple[Ledger, Audit]:
    ledger = Ledger(sizes=SMALL)
    merge(ledger, rows)
    audit = ledger.audit()
    finish(audit.steps())
    return ledger, audit


def _total(rows: list[Row]) -> Digest:
    return _audited(rows)[1].total()


def _owned(rows: list[Row]) -> Counter[str | None]:
    return Counter(row.tenant for row in model(rows).values())


@given(batches, st.lists(batches, max_size=12), st.integers(0, 6))
def test_a_recount_beside_merges_is_that_of_one_moment(
    rows: list[Row], later: list[list[Row]], asked: int
) -> None:
    writer = Writer(rows, later)
    audit = writer.ledger.audit()
    for _ in range(1 + asked):
        # An audit that stays open can be asked again.
        writer.result(audit.steps())
        assert audit.wrong() == []
        _, other = _audited(writer.rows)
        assert audit.total() == other.total()
        owned = _owned(writer.rows)
        named: list[str | None] = [None, "a", "b", "nobody"]
        assert audit.of(named) == other.of(named)
        assert {each: digest.count for each, digest in audit.of(named).items()} == {
            each: owned[each] for each in named
        }
        if writer.later:
            writer.write(writer.later.pop())
    audit.close()
    assert audit not in writer.ledger._entries.watchers  # noqa: SLF001 - it shows nowhere else


@given(batches, st.lists(batches, max_size=6), st.integers(0, 8))
def test_a_compaction_in_the_middle_changes_nothing(
    rows: list[Row], later: list[list[Row]], steps: int
) -> None:
    writer = Writer(rows, later)
    audit = writer.ledger.audit()
    begun = audit.steps()
    for _ in range(steps):
        next(begun, None)
    finish(writer.ledger.compact(-1))
    writer.result(audit.steps())
    assert audit.wrong() == []
    assert audit.total() == _total(writer.rows)


@given(batches, batches)
def test_totals_are_equal_only_for_equal_entries(a: list[Row], b: list[Row]) -> None:
    assert (_total(a) == _total(b)) == (model(a) == model(b))
    assert (_total(a) == _total(b)) == (_audited(a)[0].digest() == _audited(b)[0].digest())


@given(st.lists(colliding | anything, min_size=1, max_size=8), st.data())
def test_each_part_of_an_entry_shows(rows: list[Row], data: st.DataObject) -> None:
    winners = model(rows)
    row = winners.pop(data.draw(st.sampled_from(list(winners))))
    others = list(winners.values())
    moved = row._replace(tenant="another" if row.tenant != "another" else None)
    later = row._replace(stamp=row.stamp + 1 if row.stamp < 2**62 else 0)

    totals = {_total([*others, each]) for each in (row, moved, later)}

    assert len(totals | {_total(others)}) == 4


@given(batches, st.integers(1, 6))
def test_groups_are_all_of_it(rows: list[Row], bits: int) -> None:
    _, audit = _audited(rows)
    groups = audit.groups(bits)
    found: dict[str | None, Digest] = {}
    for group, digest in enumerate(groups):
        members = audit.in_group(bits, group)
        assert (
            Digest(
                sum(each.count for each in members.values()),
                sum(each.sum for each in members.values()) % 2**64,
            )
            == digest
        )
        found |= members
    assert {tenant: digest.count for tenant, digest in found.items()} == _owned(rows)
    assert found == audit.of(found)
    assert audit.total() == Digest(
        sum(each.count for each in groups), sum(each.sum for each in groups) % 2**64
    )


def _count(ledger: Ledger) -> None:
    ledger._tenants.counts[ledger._tenants.numbers["b"]] += 1  # noqa: SLF001 - a planted difference


def _row(ledger: Ledger) -> None:
    [row] = ledger._entries.table.find(_ids(4))  # noqa: SLF001
    ledger._entries.owners[row] = ledger._tenants.numbers["a"]  # noqa: SLF001


def _tombstone(ledger: Ledger) -> None:
    [row] = ledger._entries.table.find(_ids(6))  # noqa: SLF001
    ledger._entries.stamps[row] -= 1  # noqa: SLF001


def _ids(*items: int) -> "np.typing.NDArray[np.int64]":
    return np.array(items, np.int64)


ROWS = [Row(1, 1, "a"), Row(2, 1, "a"), Row(3, 1, "b"), Row(4, 1, "b"), Row(5, 1, "c"), Row(6, 2, None)]


@pytest.mark.parametrize(
    ("plant", "wrong", "differing"),
    [
        (_count, [Difference("b", 3, 2)], set()),
        (_row, [Difference("a", 2, 3), Difference("b", 2, 1)], {"a", "b"}),
        (_tombstone, [], {None}),
    ],
)
def test_a_planted_difference_is_found_and_named(
    plant: Callable[[Ledger], None], wrong: list[Difference], differing: set[str | None]
) -> None:
    _, right = _audited(ROWS)
    ledger = Ledger(sizes=SMALL)
    merge(ledger, ROWS)
    ledger.settle()
    plant(ledger)
    audit = ledger.audit()
    finish(audit.steps())

    assert audit.wrong() == wrong
    assert (audit.total() != right.total()) == bool(differing)
    tenants: list[str | None] = ["a", "b", "c", None]
    ours, theirs = audit.of(tenants), right.of(tenants)
    assert {each for each in tenants if ours[each] != theirs[each]} == differing
    # As nodes find them: first the groups that differ, then the tenants in them.
    found = set()
    for group, (our, their) in enumerate(zip(audit.groups(3), right.groups(3), strict=True)):
        if our != their:
            mine, others = audit.in_group(3, group), right.in_group(3, group)
            found |= {each for each in {*mine, *others} if mine.get(each) != others.get(each)}
    assert found == differing


def test_tenants_that_come_go_and_get_each_others_numbers() -> None:
    ledger, audit = _audited([Row(1, 0, "first")])
    rows = [Row(1, 0, "first")]
    for stamp in range(1, 50):
        rows.append(Row(1, stamp, f"tenant {stamp}"))
        merge(ledger, rows[-1:])
        finish(audit.steps())
        assert audit.total() == _total(rows)
        assert audit.wrong() == []


def test_work_ends_although_each_step_finds_something_new() -> None:
    ledger = Ledger(sizes=replace(SMALL, names=8, counted=8))
    rows = [Row(item, 0, f"{item}") for item in range(50)]
    merge(ledger, rows)
    audit = ledger.audit()
    steps, taken = audit.steps(), 0
    while next(steps, "end") != "end":
        taken += 1
        # A tenant comes and one goes, an item moves, and one is new.
        rows += [Row(taken % 50, taken, f"new {taken}"), Row(1000 + taken, taken, "a")]
        merge(ledger, rows[-2:])
        assert taken < 300
    assert audit.total() == _total(rows)


def test_a_digest_never_changes_between_versions() -> None:
    # Nodes of different versions compare them.
    assert _total(ROWS) == Digest(6, 5046570175552916952)
