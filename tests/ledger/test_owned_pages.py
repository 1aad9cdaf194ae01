from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.owned_pages import OwnedPage
from dcounter.ledger.steps import finish
from tests.support.entries import Row, Writer, batches, model

tenants = st.sampled_from(["a", "b", "ab", "nobody"])
until = st.integers(0, 4)


def _owned(writer: Writer, tenant: str, until: int) -> dict[int, int]:
    rows = model(writer.rows).items()
    return {item: row.stamp for item, row in rows if row.tenant == tenant and row.stamp <= until}


def _found(page: OwnedPage) -> dict[int, int]:
    found = dict(zip(page.ids.tolist(), page.stamps.tolist(), strict=True))
    assert len(found) == len(page.ids)
    return found


@given(batches, st.lists(batches, max_size=8), tenants, until, st.integers(0, 9), st.integers(1, 4))
def test_a_page_is_that_of_one_moment(
    rows: list[Row], later: list[list[Row]], tenant: str, until: int, begin: int, limit: int
) -> None:
    writer = Writer(rows, later)

    page = writer.result(writer.ledger.owned_by(tenant, until, begin, limit))

    found, owned = _found(page), _owned(writer, tenant, until)
    assert len(found) <= limit
    assert found.items() <= owned.items()
    if page.next is None and begin == 0 and len(found) < limit:
        assert found == owned


@given(batches, st.lists(batches, max_size=12), tenants, until, st.integers(1, 4))
def test_a_walk_meets_all_that_does_not_change(
    rows: list[Row], later: list[list[Row]], tenant: str, until: int, limit: int
) -> None:
    writer = Writer(rows, later)
    before = _owned(writer, tenant, until)
    met: dict[int, int] = {}
    begin: int | None = 0
    while begin is not None:
        page = writer.result(writer.ledger.owned_by(tenant, until, begin, limit))
        met |= _found(page)
        begin = page.next
        if writer.later:
            writer.write(writer.later.pop())

    assert met.items() >= (before.items() & _owned(writer, tenant, until).items())


@given(batches, st.lists(batches, max_size=6), tenants, st.integers(1, 4))
def test_a_compaction_in_the_middle_changes_nothing(
    rows: list[Row], later: list[list[Row]], tenant: str, limit: int
) -> None:
    writer = Writer(rows, later)
    steps = writer.ledger.owned_by(tenant, 3, 0, limit)
    next(steps, None)
    finish(writer.ledger.compact(-1))
    page = writer.result(steps)
    if page is not None:
        assert page.next is not None or len(page.ids) == limit or _found(page) == _owned(writer, tenant, 3)


def test_a_walk_looks_at_each_row_about_once() -> None:
    ledger = Ledger()
    items = list(range(100_000))
    ledger.merge(items, [1] * len(items), ["ab"[item % 2] for item in items])
    found: list[int] = []
    begin: int | None = 0
    pages = 0
    while begin is not None:
        page = finish(ledger.owned_by("a", 1, begin, 10_000))
        found += page.ids.tolist()
        begin = page.next
        pages += 1
    assert sorted(found) == list(range(0, 100_000, 2))
    assert pages in {5, 6}


def test_nothing_is_found_of_an_unknown_tenant_or_beyond_the_last_row() -> None:
    ledger = Ledger()
    assert finish(ledger.owned_by("a", 9)).next is None
    ledger.merge([1], [5], ["a"])
    for page in (
        finish(ledger.owned_by("b", 9)),
        finish(ledger.owned_by("a", 9, 7)),
        finish(ledger.owned_by("a", 4)),
    ):
        assert (page.ids.tolist(), page.next) == ([], None)
    assert ledger._entries.watchers == []  # noqa: SLF001
