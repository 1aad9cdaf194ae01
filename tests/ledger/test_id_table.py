import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.id_table import IdTable
from tests.support import strategies


def _array(ids: list[int]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array(ids, np.int64)


@given(st.lists(st.lists(st.integers(-3, 3) | strategies.item_ids)), st.integers(0, 2**64 - 1))
def test_rows_are_numbered_as_ids_come_and_stay(calls: list[list[int]], seed: int) -> None:
    table = IdTable(seed)
    known: dict[int, int] = {}
    for ids in calls:
        assert table.find(_array(ids)).tolist() == [known.get(item, -1) for item in ids]
        rows = table.insert(_array(ids)).tolist()
        for item, row in zip(ids, rows, strict=True):
            assert known.setdefault(item, row) == row
        assert sorted(known.values()) == list(range(len(table)))
    assert dict(zip(table.ids.tolist(), range(len(table)), strict=True)) == known


@pytest.mark.parametrize("step", [1, 7, 1_000, 4_096, 50_000])
def test_grows_while_it_is_used(step: int) -> None:
    """
    The table grows several times; whatever was there is found before, during and after each move.
    """
    generator = np.random.default_rng(step)
    ids = generator.permutation(200_000 if step > 100 else 5_000).astype(np.int64) * 3
    table = IdTable()
    for first in range(0, len(ids), step):
        part = ids[first : first + step]
        # Each ID twice, and some that were there before.
        again = ids[generator.integers(0, first, 100)] if first else part[:0]
        rows = table.insert(np.concatenate([part, again, part]))
        assert np.array_equal(rows[: len(part)], rows[len(part) + len(again) :])
        assert np.array_equal(np.sort(rows[: len(part)]), np.arange(first, first + len(part)))
        assert np.array_equal(table.ids[rows[len(part) : len(part) + len(again)]], again)
    assert np.array_equal(table.ids[table.find(ids)], ids)
    assert (table.find(ids + 1) == -1).all()


@pytest.mark.parametrize("known", [0, 10, 3_000, 5_000])
def test_room_that_is_made_at_once_changes_nothing(known: int) -> None:
    table, ids = IdTable(), np.arange(60_000) * 3
    table.insert(ids[:known])
    table.reserve(50_000)
    table.reserve(10)
    for first in range(0, len(ids), 1_000):
        table.insert(ids[first : first + 1_000])
    assert len(table) == len(ids)
    assert np.array_equal(table.ids[table.find(ids)], ids)


def test_ids_that_want_the_same_slots_are_told_apart() -> None:
    """
    Neighbours, multiples of powers of two, and the ends of the range.
    """
    ids = [*range(-500, 500), *(k << 54 for k in range(-500, 500)), -(2**63), 2**63 - 1]
    table = IdTable()
    rows = table.insert(_array(ids))
    assert len(table) == len(set(ids))
    assert table.ids[rows].tolist() == ids


def test_a_call_about_nothing() -> None:
    table = IdTable()
    assert table.insert(_array([])).tolist() == []
    assert table.find(_array([])).tolist() == []
    assert len(table) == 0
