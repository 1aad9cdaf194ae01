from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.touched import Touched
from tests.support.entries import Row, batches, merge, model

_ALL = 1_000_000


def _counts(rows: list[Row]) -> Counter[str]:
    return Counter(row.tenant for row in model(rows).values() if row.tenant is not None)


@given(batches, st.lists(st.tuples(batches, st.integers(0, 4)), max_size=8), st.integers(1, 12))
def test_who_applies_what_is_taken_knows_all_counts(
    rows: list[Row], later: list[tuple[list[Row], int]], most: int
) -> None:
    ledger = Ledger()
    merge(ledger, rows)
    touched = ledger.touched()
    known = Counter(dict(ledger.tenants()))
    for batch, limit in later:
        merge(ledger, batch)
        rows = rows + batch
        found = touched.take(limit, most)
        assert len(found) <= limit
        for tenant, number in found:
            known[tenant] = number
            assert number == _counts(rows)[tenant]
    for tenant, number in touched.take(_ALL, _ALL):
        known[tenant] = number
    assert +known == _counts(rows)
    assert touched.take(_ALL, _ALL) == []


def test_a_newer_entry_of_the_same_tenant_changes_no_count() -> None:
    ledger = Ledger()
    ledger.merge([1], [1], ["a"])
    touched = ledger.touched()
    ledger.merge([1], [2], ["a"])
    assert touched.take(_ALL, _ALL) == []


def test_a_tenant_that_went_is_told_by_its_name_although_another_has_its_number() -> None:
    ledger = Ledger()
    ledger.merge([1], [1], ["a"])
    touched = ledger.touched()
    ledger.merge([1], [2], [None])
    ledger.settle()
    ledger.merge([2], [3], ["b"])
    assert sorted(touched.take(_ALL, _ALL)) == [("a", 0), ("b", 1)]


def test_a_tenant_that_changes_all_the_time_does_not_keep_others_waiting() -> None:
    ledger = Ledger()
    tenants = [f"t{each}" for each in range(10)]
    ledger.merge(range(10), [1] * 10, tenants)
    touched = ledger.touched()
    met: set[str] = set()
    for moment in range(2, 12):
        ledger.merge([100 + moment, *range(10)], [moment] * 11, ["t0", *tenants[moment - 2 :], *tenants][:11])
        met.update(tenant for tenant, _ in touched.take(2, _ALL))
    assert met == set(tenants)


def test_of_many_tenants_each_is_told_once_and_those_that_wait_come_first() -> None:
    ledger = Ledger()
    touched = ledger.touched()
    # More than are looked at together.
    number = 70_000
    tenants = [f"t{each}" for each in range(number)]
    ledger.merge(range(number), [1] * number, tenants)
    told = [tenant for tenant, _ in touched.take(30_000, _ALL)]
    ledger.merge([number], [1], ["t0"])
    told += [tenant for _ in range(2) for tenant, _ in touched.take(20_000, _ALL)]
    assert sorted(told) == sorted(tenants)
    assert touched.take(_ALL, _ALL) == [("t0", 2)]


def test_names_that_are_long_come_a_few_at_a_time() -> None:
    ledger = Ledger()
    touched = ledger.touched()
    ledger.merge([1, 2, 3], [1, 1, 1], ["a" * 10, "b" * 10, "c" * 30])
    sizes = [len(touched.take(_ALL, 20)) for _ in range(3)]
    assert sizes == [2, 1, 0]
    ledger.merge([1, 2, 3], [2, 2, 2], [None] * 3)
    assert [len(touched.take(_ALL, 20)) for _ in range(3)] == [2, 1, 0]


def test_too_many_tenants_that_went_are_said_to_be_too_many() -> None:
    ledger = Ledger()
    ledger.merge([1, 2], [1, 1], ["a", "b"])
    ledger.settle()
    touched = Touched(ledger._tenants, ledger.settle, gone=1)  # noqa: SLF001 - the ledger has no such option
    ledger.merge([1], [2], [None])
    ledger.settle()
    assert not touched.overflown
    ledger.merge([2], [2], [None])
    ledger.settle()
    assert touched.overflown


@pytest.mark.parametrize("closed", [False, True])
def test_it_costs_nothing_once_it_is_closed(closed: bool) -> None:
    ledger = Ledger()
    touched = ledger.touched()
    if closed:
        touched.close()
    tenants = ledger._tenants  # noqa: SLF001 - it shows nowhere else
    watchers = [*tenants.watchers, *tenants.count_watchers]
    assert watchers.count(touched) == (0 if closed else 2)
