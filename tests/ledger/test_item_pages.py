from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.item_pages import ItemPage
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import finish
from tests.support.entries import Row, Writer, batches, model

tenants = st.sampled_from(["a", "b", "ab", "nobody"])


def _owned(rows: Sequence[Row], tenant: str) -> list[int]:
    return sorted(item for item, row in model(rows).items() if row.tenant == tenant)


@given(
    batches,
    st.lists(batches, max_size=8),
    tenants,
    st.none() | st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1),
    st.integers(1, 4),
)
def test_a_page_is_that_of_one_moment(
    rows: list[Row], later: list[list[Row]], tenant: str, after: int | None, limit: int
) -> None:
    writer = Writer(rows, later)

    page = writer.result(writer.ledger.items_of(tenant, after, limit))

    owned = [item for item in _owned(writer.rows, tenant) if after is None or item > after]
    assert len(page.ids) <= limit
    if page.after is None:
        assert page.ids == owned
    else:
        assert page.ids == [item for item in owned if item <= page.after]


@given(batches, st.lists(batches, max_size=12), tenants, st.integers(1, 4))
def test_pages_neither_skip_nor_repeat_an_item_that_did_not_change(
    rows: list[Row], later: list[list[Row]], tenant: str, limit: int
) -> None:
    writer = Writer(rows, later)
    seen: list[int] = []
    page: ItemPage | None = None
    while page is None or page.after is not None:
        page = writer.result(writer.ledger.items_of(tenant, page.after if page else None, limit))
        seen += page.ids
        if writer.later:
            writer.write(writer.later.pop())

    same = [item for item in _owned(writer.rows, tenant) if item not in writer.restless]
    assert [item for item in seen if item not in writer.restless] == same


@given(batches, st.lists(batches, max_size=6), tenants, st.integers(1, 4))
def test_a_compaction_in_the_middle_changes_nothing(
    rows: list[Row], later: list[list[Row]], tenant: str, limit: int
) -> None:
    writer = Writer(rows, later)
    page = writer.ledger.items_of(tenant, None, limit)
    next(page, None)
    finish(writer.ledger.compact(-1))
    found = writer.result(page)
    if found is not None:
        owned = _owned(writer.rows, tenant)
        assert found.ids == owned[: len(found.ids)]
        assert found.after is not None or found.ids == owned


def test_pages_of_many_items() -> None:
    ledger = Ledger()
    items = list(range(5_000, -5_000, -1))
    ledger.merge(items, [1] * len(items), ["ab"[item % 2] for item in items])
    found: list[int] = []
    after = None
    while True:
        page = finish(ledger.items_of("a", after, 999))
        found += page.ids
        if page.after is None:
            break
        assert len(page.ids) == 999
        after = page.after
    assert found == list(range(-4998, 5_001, 2))


def test_a_row_that_goes_and_comes_back_all_the_time_takes_bounded_room() -> None:
    ledger = Ledger()
    items = list(range(20_000))
    ledger.merge(items, [0] * len(items), ["a"] * len(items))
    steps = ledger.items_of("a", None, 10)
    next(steps)
    for stamp in range(1, 20):
        ledger.merge(items, [stamp] * len(items), ["ba"[stamp % 2]] * len(items))
    scan: Any = ledger._entries.watchers[0]  # noqa: SLF001 - it shows nowhere else
    assert sum(len(rows) for rows in scan._changed._parts) <= 3 * 2**16  # noqa: SLF001
    assert finish(steps) == ItemPage(list(range(10)), 9)
    assert ledger._entries.watchers == []  # noqa: SLF001
