from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.entries import Entries
from dcounter.ledger.ledger import Ledger, Winner
from dcounter.ledger.steps import finish
from tests.support.entries import Row, Writer, batches, merge, model, recount


def _assert_holds(ledger: Ledger, rows: Sequence[Row], stamp: int) -> None:
    """
    The ledger holds these rows, some of the tombstones at or below a stamp perhaps not.
    """
    winners = model(rows)
    missing = 0
    for item, row in winners.items():
        found = ledger.get(item)
        if found is None:
            assert row.tenant is None
            assert row.stamp <= stamp
            missing += 1
        else:
            assert found == Winner(row.stamp, row.tenant)
    assert ledger.known == len(winners) - missing
    assert dict(ledger.tenants()) == recount(rows)
    assert len(ledger) == sum(recount(rows).values())
    audit = ledger.audit()
    finish(audit.steps())
    assert audit.wrong() == []
    audit.close()


@given(batches, st.integers(-1, 4))
def test_exactly_the_old_tombstones_go(rows: list[Row], stamp: int) -> None:
    writer = Writer(rows)
    old = [row for row in model(rows).values() if row.tenant is None and row.stamp <= stamp]

    assert finish(writer.ledger.compact(stamp)) == len(old)

    left = [row for row in model(rows).values() if row not in old]
    assert writer.ledger.known == len(left)
    other = Ledger()
    merge(other, left)
    assert writer.ledger.digest() == other.digest()
    assert all(writer.ledger.get(row.item) is None for row in old)


@given(
    batches,
    st.lists(batches, max_size=10),
    batches,
    st.integers(-1, 4),
)
def test_merges_go_on_meanwhile(
    rows: list[Row], later: list[list[Row]], after: list[Row], stamp: int
) -> None:
    # What comes while old tombstones go is newer than they are.
    def newer(batch: list[Row]) -> list[Row]:
        return [row._replace(stamp=row.stamp + stamp + 1) for row in batch if row.stamp < 2**62]

    writer = Writer(rows, map(newer, later))
    before = sum(row.tenant is None and row.stamp <= stamp for row in model(rows).values())

    assert writer.result(writer.ledger.compact(stamp)) <= before

    _assert_holds(writer.ledger, writer.rows, stamp)
    writer.write(newer(after))
    _assert_holds(writer.ledger, writer.rows, stamp)


@given(batches, batches, st.integers(1, 3))
def test_it_waits_for_copies(rows: list[Row], more: list[Row], size: int) -> None:
    writer = Writer(rows)
    copy = Ledger()
    chunks = writer.ledger.chunks(size)
    begun = next(chunks, None)
    if begun is None:
        return
    copy.merge_rows(begun)
    steps = writer.ledger.compact(3)
    for _ in range(50):
        next(steps)
    writer.write([row._replace(stamp=row.stamp + 4) for row in more if row.stamp < 2**62])
    for chunk in chunks:
        copy.merge_rows(chunk)
    assert copy.digest() == writer.ledger.digest() or more

    merge(copy, writer.rows)
    assert copy.digest() == writer.ledger.digest()
    finish(steps)
    _assert_holds(writer.ledger, writer.rows, 3)


def test_a_copy_that_is_given_up_stops_nothing() -> None:
    writer = Writer([Row(1, 1, None), Row(2, 1, "a")])
    chunks = writer.ledger.chunks(1)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert finish(writer.ledger.compact(1)) == 1


@given(batches, st.lists(batches, max_size=8))
def test_two_at_once(rows: list[Row], later: list[list[Row]]) -> None:
    writer = Writer(rows)
    first, second = writer.ledger.compact(1), writer.ledger.compact(0)
    gone = False
    while not gone:
        gone = all(next(steps, "end") == "end" for steps in (first, second))
        if later:
            batch = later.pop()
            writer.write([row._replace(stamp=row.stamp + 2) for row in batch if row.stamp < 2**62])
    _assert_holds(writer.ledger, writer.rows, 1)


def test_it_ends_although_each_step_finds_something_new() -> None:
    writer = Writer([Row(item, 0, None if item % 2 else "a") for item in range(50)])
    steps, taken = writer.ledger.compact(0), 0
    while next(steps, "end") != "end":
        taken += 1
        writer.write([Row(taken % 50, taken, f"new {taken}")])
        assert taken < 300
    _assert_holds(writer.ledger, writer.rows, 0)


def test_memory_is_given_back() -> None:
    ledger = Ledger()
    items = list(range(100_000))
    ledger.merge(items, [1] * len(items), ["a"] * len(items))
    ledger.merge(items[:90_000], [2] * 90_000, [None] * 90_000)
    before = ledger.statistics()
    assert before.tombstones == 90_000

    assert finish(ledger.compact(2)) == 90_000

    after = ledger.statistics()
    assert (after.items, after.tombstones) == (10_000, 0)
    assert after.row_bytes < before.row_bytes / 4
    assert ledger.count("a") == 10_000


def test_nothing_grows_while_rows_are_copied() -> None:
    """
    Growing columns would clear much memory in one step.
    """
    entries = Entries()
    # So many that a table of the next smaller size would be nearly full.
    rows = 28_000
    entries.reserve(rows)
    sizes = [len(each) for each in entries.arrays()]
    steps = sum(1 for _ in entries.touch(1_000))
    assert steps == sum(-(-size // 1_000) for size in sizes)
    for first in range(0, rows, 1_000):
        entries.insert(np.arange(first, first + 1_000))
    assert [len(each) for each in entries.arrays()] == sizes
    assert sizes[-2:] == [rows, rows]
