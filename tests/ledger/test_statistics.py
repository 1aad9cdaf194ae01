import tracemalloc

import pytest
from hypothesis import given

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import finish
from tests.support.entries import Row, batches, merge, model, recount


@given(batches)
def test_what_is_there(rows: list[Row]) -> None:
    ledger = Ledger()
    merge(ledger, rows)
    found = ledger.statistics()
    counts = recount(rows)
    assert (found.items, found.tenants) == (sum(counts.values()), len(counts))
    assert found.tombstones == len(model(rows)) - found.items


@pytest.mark.parametrize(("items", "tenants"), [(200_000, 100), (50_000, 50_000)])
def test_memory(items: int, tenants: int) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ledger = Ledger()
        for first in range(0, items, 5_000):
            ids = range(first, first + 5_000)
            ledger.merge(ids, ids, [f"a tenant's name {each % tenants}" for each in ids])
        finish(ledger.tenants_by_name())
        found = ledger.statistics()
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.bytes == pytest.approx(now - before, rel=0.1)


def test_ten_times_as_much() -> None:
    ledgers = []
    for items in (15_000, 150_000):
        ledger = Ledger()
        for first in range(0, items, 5_000):
            ids = range(first, first + 5_000)
            ledger.merge(ids, ids, [f"tenant {each % (items // 10)}" for each in ids])
        ledgers.append(ledger.statistics())
    small, large = ledgers
    assert small.bytes_for(10) == pytest.approx(large.bytes, rel=0.15)
    # Of what is there already, spare room does not count.
    assert small.bytes_for(1) <= small.bytes
