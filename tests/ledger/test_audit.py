from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.audit import GROUP_BITS, Audit, Difference, group_of
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import finish
from tests.support.entries import SMALL, Row, Writer, anything, batches, colliding, merge
from tests.support.entries import model as _winners


def _audited(rows: list[Row]) -> tuple[Ledger, Audit]:
    ledger = Ledger(sizes=SMALL)
    merge(ledger, rows)
    audit = ledger.audit()
    finish(audit.steps())
    return ledger, audit


def _total(audit: Audit) -> int:
    return int(audit.sums.sum(dtype=np.uint64))


def _total_of(rows: list[Row]) -> int:
    return _total(_audited(rows)[1])


def _counts(ledger: Ledger, audit: Audit) -> dict[str | None, int]:
    numbers = ledger._tenants.numbers.items()  # noqa: SLF001
    return {tenant: int(audit.counts[number]) for tenant, number in numbers if audit.counts[number]}


def _same(one: Audit, other: Audit) -> bool:
    return bool((one.sums == other.sums).all())


def _owned(rows: list[Row]) -> Counter[str | None]:
    return Counter(row.tenant for row in _winners(rows).values())


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
        assert _same(audit, _audited(writer.rows)[1])
        assert _counts(writer.ledger, audit) == _owned(writer.rows)
        assert audit.progress() == (len(_winners(writer.rows)), len(_winners(writer.rows)))
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
    assert _same(audit, _audited(writer.rows)[1])


@given(batches, batches)
def test_totals_are_equal_only_for_equal_entries(a: list[Row], b: list[Row]) -> None:
    assert (_total_of(a) == _total_of(b)) == (_winners(a) == _winners(b))
    assert _same(_audited(a)[1], _audited(b)[1]) == (_audited(a)[0].digest() == _audited(b)[0].digest())


@given(st.lists(colliding | anything, min_size=1, max_size=8), st.data())
def test_each_part_of_an_entry_shows(rows: list[Row], data: st.DataObject) -> None:
    winners = _winners(rows)
    row = winners.pop(data.draw(st.sampled_from(list(winners))))
    others = list(winners.values())
    moved = row._replace(tenant="another" if row.tenant != "another" else None)
    later = row._replace(stamp=row.stamp + 1 if row.stamp < 2**62 else 0)

    totals = {_total_of([*others, each]) for each in (row, moved, later)}

    assert len(totals | {_total_of(others)}) == 4


@given(batches, batches)
def test_only_groups_of_ids_that_differ_have_other_digests(a: list[Row], b: list[Row]) -> None:
    one, other = _winners(a), _winners(b)
    differing = {item for item in {*one, *other} if one.get(item) != other.get(item)}
    groups = set(group_of(_ids(*differing)).tolist())
    found = np.flatnonzero(_audited(a)[1].sums != _audited(b)[1].sums).tolist()
    assert set(found) == groups


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.integers(0, GROUP_BITS))
def test_fewer_groups_are_several_together(items: list[int], bits: int) -> None:
    assert (group_of(_ids(*items), bits) == group_of(_ids(*items)) >> (GROUP_BITS - bits)).all()


def test_groups_of_ids_that_follow_each_other_are_about_equal() -> None:
    sizes = np.bincount(group_of(np.arange(2**14), 7), minlength=2**7)
    assert sizes.min() > 80
    assert sizes.max() < 180


@given(batches, st.integers(-1, 4))
def test_old_tombstones_are_in_no_digest(rows: list[Row], floor: int) -> None:
    ledger = Ledger(sizes=SMALL)
    merge(ledger, rows)
    audit = ledger.audit(floor)
    finish(audit.steps())
    kept = [row for row in _winners(rows).values() if row.tenant is not None or row.stamp > floor]
    assert _same(audit, _audited(kept)[1])


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
        (_count, [Difference("b", 3, 2)], []),
        (_row, [Difference("a", 2, 3), Difference("b", 2, 1)], [4]),
        (_tombstone, [], [6]),
    ],
)
def test_a_planted_difference_is_found(
    plant: Callable[[Ledger], None], wrong: list[Difference], differing: list[int]
) -> None:
    _, right = _audited(ROWS)
    ledger = Ledger(sizes=SMALL)
    merge(ledger, ROWS)
    ledger.settle()
    plant(ledger)
    audit = ledger.audit()
    finish(audit.steps())

    assert [audit.difference(number) for number in audit.wrong()] == wrong
    groups = np.flatnonzero(audit.sums != right.sums).tolist()
    assert groups == sorted(group_of(_ids(*differing)).tolist())


def test_tenants_that_come_go_and_get_each_others_numbers() -> None:
    ledger, audit = _audited([Row(1, 0, "first")])
    rows = [Row(1, 0, "first")]
    for stamp in range(1, 50):
        rows.append(Row(1, stamp, f"tenant {stamp}"))
        merge(ledger, rows[-1:])
        finish(audit.steps())
        assert _total(audit) == _total_of(rows)
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
    assert _total(audit) == _total_of(rows)


def test_a_digest_never_changes_between_versions() -> None:
    # Nodes of different versions compare them.
    assert _total_of(ROWS) == 18101240799420010178
    assert group_of(_ids(1, 2, -1, 2**62)).tolist() == [31767, 43881, 13722, 54065]
