"""
The stamps of requests, and requests that are repeated.
"""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dcounter.coordinator.stamping import StampedItems, stamped
from dcounter.ledger.ledger import Ledger
from dcounter.protocol.clock import HybridClock
from dcounter.store import Items

START = 1_000

stamps = st.integers(0, START - 1)
owners = st.sampled_from(["a", "b", "c", None])
requests = st.lists(st.tuples(st.integers(0, 3), owners), min_size=1, max_size=6)
some_stamped = st.lists(st.tuples(st.integers(0, 3), owners, st.none() | stamps), min_size=1, max_size=6)


def items(rows: Sequence[tuple[int, str | None]]) -> Items:
    return Items([item for item, _ in rows], [owner for _, owner in rows])


def store(ledger: Ledger, what: StampedItems) -> None:
    ledger.merge(what.ids, what.all_stamps(), what.tenants)


@given(st.lists(st.tuples(requests, stamps), min_size=1, max_size=5), st.data())
def test_however_often_and_in_whatever_order_requests_with_stamps_come_the_end_is_the_same(
    sent: list[tuple[list[tuple[int, str | None]], int]], data: st.DataObject
) -> None:
    clock = HybridClock(lambda: START)
    once, often = Ledger(), Ledger()
    for rows, stamp in sent:
        store(once, stamped(items(rows).stamped(stamp), clock))
    numbers = range(len(sent))
    repeats = data.draw(st.lists(st.sampled_from(numbers), max_size=8).map(lambda more: [*numbers, *more]))
    for number in data.draw(st.permutations(repeats)):
        rows, stamp = sent[number]
        whole = stamped(items(rows).stamped(stamp), clock)
        # One of its slices may be stored long after the other.
        cut = data.draw(st.integers(0, len(whole.ids)))
        slices = [whole.cut(0, cut), whole.cut(cut, len(whole.ids))]
        for slice_ in data.draw(st.permutations(slices)):
            store(often, slice_)
    assert often.digest() == once.digest()


@given(some_stamped, st.data(), requests)
def test_a_request_that_was_stored_in_part_is_repeated_with_the_stamp_that_it_got(
    rows: list[tuple[int, str | None, int | None]], data: st.DataObject, later: list[tuple[int, str | None]]
) -> None:
    clock = HybridClock(lambda: START)
    request = Items([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    if data.draw(st.booleans()):
        request = Items(request.ids, request.tenants)
    first = stamped(request, clock)
    stamp = first.stamp_to_repeat()
    assert (stamp is None) == (request.stamps is not None and None not in request.stamps)
    again = request.stamped(stamp)
    alone, both = Ledger(), Ledger()
    # What others store in between has later stamps, and stays.
    between = stamped(items(later), clock)
    for ledger in (alone, both):
        store(ledger, between)
        store(ledger, stamped(again, HybridClock(lambda: 0)))
    kept = data.draw(st.lists(st.sampled_from(range(len(first.ids))), unique=True).map(sorted))
    for i in kept:
        store(both, first.cut(i, i + 1))
    assert both.digest() == alone.digest()


def test_beside_stamped_items_all_others_get_one_stamp_that_is_later() -> None:
    clock = HybridClock(lambda: START)
    found = stamped(Items([1, 2, 3, 4], ["a"] * 4, [None, START + 5, None, 7]), clock)
    assert found.all_stamps() == [START + 6, START + 5, START + 6, 7]
    assert (found.stamp_to_repeat(), clock.last) == (START + 6, START + 6)


def test_of_items_with_one_id_and_stamp_only_the_last_is_kept() -> None:
    clock = HybridClock(lambda: START)
    found = stamped(Items([1, 2, 1], ["z", "b", "a"], [7, 7, 7]), clock)
    assert (found.ids, found.tenants, found.kept, found.named) == ([2, 1], ["b", "a"], [1, 2], 3)
