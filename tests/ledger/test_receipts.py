from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.receipts import Change, Receipt
from tests.support.entries import Row, batches, merge, model, recount


def _receipt(ledger: Ledger, rows: Sequence[Row]) -> Receipt:
    return ledger.merge_with_receipt(*([row[column] for row in rows] for column in range(3)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "entry", "change"),
    [
        ([], (5, "a"), Change.CREATED),
        ([], (5, None), Change.UNCHANGED),
        ([(4, "b")], (5, "a"), Change.MOVED),
        ([(4, "a")], (5, "a"), Change.UNCHANGED),
        ([(4, "a")], (5, None), Change.DELETED),
        ([(4, None)], (5, "a"), Change.CREATED),
        ([(4, None)], (5, None), Change.UNCHANGED),
        # The same request again.
        ([(5, "a")], (5, "a"), Change.UNCHANGED),
        ([(5, None)], (5, None), Change.UNCHANGED),
        ([(6, "a")], (5, "a"), Change.STALE),
        ([(6, "a")], (5, "b"), Change.STALE),
        ([(6, "a")], (5, None), Change.STALE),
        ([(6, None)], (5, "a"), Change.STALE),
        # A tie goes to the larger tenant.
        ([(5, "a")], (5, "b"), Change.MOVED),
        ([(5, "b")], (5, "a"), Change.STALE),
        ([(5, None)], (5, "a"), Change.CREATED),
        ([(5, "a")], (5, None), Change.STALE),
        ([(5, "\uffff")], (5, "\U00010000"), Change.MOVED),
    ],
)
def test_changes(before: list[tuple[int, str | None]], entry: tuple[int, str | None], change: Change) -> None:
    ledger = Ledger()
    merge(ledger, [Row(1, *each) for each in before])
    assert _receipt(ledger, [Row(1, *entry)]).changes == [change]


def test_a_receipt_decides_in_order_and_counts_at_the_end() -> None:
    ledger = Ledger()
    merge(ledger, [Row(1, 1, "a"), Row(2, 1, "a"), Row(3, 1, "b"), Row(4, 1, "untouched")])

    receipt = _receipt(
        ledger,
        [Row(1, 2, "c"), Row(1, 3, None), Row(1, 2, "a"), Row(1, 4, "c"), Row(5, 1, "c"), Row(3, 0, "d")],
    )

    assert receipt.changes == ["moved", "deleted", "stale", "created", "created", "stale"]
    assert receipt.counts == {"a": 1, "c": 2, "d": 0}


@given(st.lists(st.tuples(st.booleans(), batches), max_size=5))
def test_a_receipt_says_what_the_ledger_shows(merges: list[tuple[bool, list[Row]]]) -> None:
    ledger, plain = Ledger(), Ledger()
    rows: list[Row] = []
    for told, batch in merges:
        merge(plain, batch)
        if not told:
            merge(ledger, batch)
            rows += batch
            continue
        receipt = _receipt(ledger, batch)
        touched = {row.tenant for row in batch}
        for row, change in zip(batch, receipt.changes, strict=True):
            before, after = (model(each).get(row.item) for each in (rows, [*rows, row]))
            owner, now = (each.tenant if each else None for each in (before, after))
            touched |= {owner} if owner != now else set()
            assert (change is Change.CREATED) == (owner is None and now is not None)
            assert (change is Change.DELETED) == (owner is not None and now is None)
            assert (change is Change.MOVED) == (owner != now and None not in {owner, now})
            assert (change is Change.STALE) == (after != row)
            rows.append(row)
        counts = recount(rows)
        assert receipt.counts == {each: counts.get(each, 0) for each in touched if each is not None}
    assert ledger.digest() == plain.digest()


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        Ledger().merge_with_receipt([1, 2], [1, 2], ["a"])
