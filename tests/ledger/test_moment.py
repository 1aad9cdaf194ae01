import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.audit import group_of
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import finish
from tests.support.entries import SMALL, Row, batches, merge, model

NAMED = [None, "a", "b", "ab", "nobody"]


def _entries(rows: list[Row], items: list[int]) -> list[tuple[int, str | None] | None]:
    winners = model(rows)
    return [(winners[item].stamp, winners[item].tenant) if item in winners else None for item in items]


@given(batches, st.lists(batches, max_size=6))
def test_rows_are_those_of_the_moment_whatever_is_merged_later(
    rows: list[Row], later: list[list[Row]]
) -> None:
    ledger = Ledger(sizes=SMALL)
    merge(ledger, rows)
    moment = ledger.moment()
    items = sorted({row.item for row in sum(later, rows)} | {77})
    numbers = {each: moment.number(each) for each in NAMED}
    for batch in later:
        merge(ledger, batch)
        assert moment.find(items) == _entries(rows, items)
    assert {each: moment.number(each) for each in NAMED} == numbers
    assert not moment.spoiled
    assert moment.changed <= len({row.item for row in rows})
    moment.close()
    assert moment not in ledger._entries.watchers  # noqa: SLF001 - it shows nowhere else
    assert moment not in ledger._tenants.watchers  # noqa: SLF001


@given(batches, batches, st.integers(0, 3), st.data())
def test_ids_in_groups_are_those_of_the_moment(
    rows: list[Row], later: list[Row], bits: int, data: st.DataObject
) -> None:
    ledger = Ledger(sizes=SMALL)
    merge(ledger, rows)
    moment = ledger.moment()
    steps = moment.ids_in(bits, wanted := data.draw(st.sets(st.integers(0, 2**bits - 1))), [78, -9])
    merge(ledger, later)
    found = finish(steps)
    known = {row.item for row in rows} | {78, -9}
    assert found == sorted(item for item in known if _group(item, bits) in wanted)


def _group(item: int, bits: int) -> int:
    return int(group_of(np.array([item]), bits)[0])


def test_a_compaction_spoils_it() -> None:
    ledger = Ledger()
    merge(ledger, [Row(1, 1, "a"), Row(2, 1, None), Row(3, 1, "b")])
    moment = ledger.moment()
    finish(ledger.compact(1))
    merge(ledger, [Row(3, 2, "a")])
    assert moment.spoiled
    assert finish(moment.ids_in(0, [0], ())) == []
