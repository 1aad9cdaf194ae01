import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.tally import Tally
from dcounter.ledger.tenants import TOMBSTONE


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.sampled_from([None, "a", "b"]))))
def test_what_becomes_of_each_id_is_counted(rows: list[tuple[int, int, str | None]]) -> None:
    ledger, moved, deleted = Ledger(), 0, 0
    for item, stamp, tenant in rows:
        before = ledger.get(item)
        ledger.merge([item], [stamp], [tenant])
        after = ledger.get(item)
        assert after is not None
        if before is not None and before.tenant is not None and before.tenant != after.tenant:
            deleted += after.tenant is None
            moved += after.tenant is not None
    assert (ledger.tally.moved, ledger.tally.deleted) == (moved, deleted)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_few_rows_and_many_are_counted_alike(rows: list[tuple[int, int]]) -> None:
    tally = Tally()
    before, after = (np.array([row[i] for row in rows], np.int32) for i in (0, 1))
    tally.add(before, after)
    left = [next_owner for owner, next_owner in rows if owner not in {TOMBSTONE, next_owner}]
    assert tally.deleted == left.count(TOMBSTONE)
    assert tally.moved == len(left) - tally.deleted
