import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.coordinator.dispatch import Dispatch
from dcounter.coordinator.requests import Request
from dcounter.coordinator.stamping import StampedItems
from dcounter.coordinator.windows import Flight
from dcounter.errors import NotApplied
from dcounter.limits import Limits
from dcounter.protocol.position import Position
from dcounter.protocol.receipts import ReceiptWanted

LIMITS = Limits()
ITEM = 25
"""
What an item with a tenant of one character takes.
"""


def columns(
    count: int, *, base: int = 1_000, first: int = 0, stamps: Sequence[int] | None = None
) -> StampedItems:
    ids = range(first, first + count)
    return StampedItems(list(ids), ["t"] * count, base, stamps)


class Desk:
    """
    A dispatch whose nodes are played by the test.
    """

    def __init__(self, nodes: int = 4, **limits: float) -> None:
        self.limits = replace(LIMITS, **limits)  # type: ignore[arg-type]
        self.writers = list(range(nodes))
        self.flush_asked = 0
        self.givers = self.writers
        self.dispatch = Dispatch(
            range(nodes),
            limits=self.limits,
            writers=lambda: self.writers,
            receipts=lambda: self.givers,
            flush_soon=self._flush_soon,
        )
        self.ended: list[Request] = []
        self.now = 0.0

    def _flush_soon(self) -> None:
        self.flush_asked += 1

    def admit(self, items: int | StampedItems, *, deadline: float = 5.0) -> Request:
        what = items if isinstance(items, StampedItems) else columns(items)
        request = Request(what, self.now + deadline, self.ended.append)
        self.dispatch.admit(request)
        return request

    def admit_whole(self, items: int, *, first: int = 0) -> Request:
        request = Request(columns(items, first=first), self.now + 5.0, self.ended.append)
        request.receipt = ReceiptWanted()
        self.dispatch.admit_whole(request)
        return request

    def launch(self) -> list[Flight]:
        self.flush_asked = 0
        return self.dispatch.launch(self.now)

    def stored(
        self, flight: Flight, *, refused: Collection[int] = (), number: int = 1, maybe_stored: bool = False
    ) -> None:
        position = Position().advance(flight.node, 7, number)
        self.dispatch.stored(flight, position, dict.fromkeys(refused, "full"), maybe_stored=maybe_stored)

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.dispatch.tick(self.now)

    def waiting(self) -> bool:
        return self.dispatch.waiting

    def is_empty(self) -> bool:
        """
        Whether every window has room for a batch that only an empty one takes.
        """
        return all(window.has_room(10**12) for window in self.dispatch._windows.values())  # noqa: SLF001


def sizes(flights: Collection[Flight]) -> dict[int, list[int]]:
    return {flight.node: [len(each.items.ids) for each in flight.slices] for flight in flights}


class TestPlacing:
    def test_11_items_over_4_nodes(self) -> None:
        desk = Desk()
        request = desk.admit(11)
        assert (request.maybe_stored, desk.waiting()) == (False, True)
        flights = desk.launch()
        assert sizes(flights) == {0: [3], 1: [3], 2: [3], 3: [2]}
        assert [flight.batch().ids for flight in flights] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]
        assert [flight.batch().bases for flight in flights] == [[1_000], [1_003], [1_006], [1_009]]
        assert (request.maybe_stored, desk.waiting()) == (True, False)
        assert desk.launch() == []
        for flight in flights:
            assert not request.over
            desk.stored(flight)
        assert request.over
        assert request.complete
        assert desk.ended == [request]
        assert request.position == Position(
            {node: Position().advance(node, 7, 1).of(node) for node in range(4)}
        )
        assert desk.is_empty()

    def test_small_requests_rotate(self) -> None:
        desk = Desk()
        nodes = []
        for _ in range(8):
            desk.admit(1)
            [flight] = desk.launch()
            nodes.append(flight.node)
            desk.stored(flight)
        assert sorted(nodes[:4]) == sorted(nodes[4:]) == [0, 1, 2, 3]

    def test_only_nodes_that_take_writes_are_used(self) -> None:
        desk = Desk()
        desk.writers = [1, 3]
        desk.admit(11)
        assert sizes(desk.launch()) == {1: [6], 3: [5]}

    def test_large_requests_are_cut_into_slices_that_fit(self) -> None:
        desk = Desk(2, slice_bytes=3 * ITEM)
        request = desk.admit(14)
        flights = desk.launch()
        assert sizes(flights) == {0: [3, 3, 1], 1: [3, 3, 1]}
        assert [item for flight in flights for item in flight.batch().ids] == list(range(14))
        for flight in flights:
            desk.stored(flight)
        assert request.complete

    def test_an_item_larger_than_a_slice_goes_alone(self) -> None:
        items = StampedItems([1, 2, 3], ["t", "x" * 1_000, None], 5)
        assert [(list(each.ids), each.base) for each in items.split(60)] == [([1], 5), ([2], 6), ([3], 7)]
        assert list(items.split(10_000)) == [items]
        # None is a tombstone.
        assert (items.size(), items.cut(0, 1).size()) == (3 * 24 + 1_001, 25)


class TestFlushing:
    def test_is_asked_for_once_when_there_is_something_to_launch(self) -> None:
        desk = Desk(1)
        desk.admit(1)
        desk.admit(2)
        assert desk.flush_asked == 1
        [flight] = desk.launch()
        desk.admit(3)
        # The node is busy.
        assert desk.flush_asked == 0
        desk.stored(flight)
        assert desk.flush_asked == 1

    def test_is_asked_for_when_a_slice_must_go_elsewhere(self) -> None:
        desk = Desk(2)
        desk.admit(2)
        [first, second] = desk.launch()
        desk.dispatch.flight_failed(first)
        assert desk.flush_asked == 1
        desk.launch()
        desk.tick(LIMITS.slow_after_s)
        # Node 0 gets a second chance, and both are slow.
        assert desk.flush_asked == 1
        assert second.node == 1

    def test_is_asked_for_when_other_nodes_take_writes(self) -> None:
        desk = Desk(2)
        desk.writers = []
        desk.admit(1)
        assert desk.flush_asked == 0
        desk.writers = [0]
        desk.dispatch.writers_changed()
        assert desk.flush_asked == 1


class TestCoalescing:
    def test_requests_of_one_turn_share_a_batch(self) -> None:
        desk = Desk(1)
        requests = [
            desk.admit(columns(2, base=50, first=0)),
            desk.admit(columns(1, base=90, first=10)),
        ]
        [flight] = desk.launch()
        batch = flight.batch()
        assert (batch.slices, batch.ids, batch.bases, batch.stamps) == ([2, 1], [0, 1, 10], [50, 90], None)
        desk.stored(flight)
        assert desk.ended == requests

    def test_own_stamps_make_one_stamp_per_item(self) -> None:
        desk = Desk(1)
        desk.admit(columns(3, base=50))
        desk.admit(columns(2, stamps=[7, 99], first=10))
        desk.admit(columns(1, base=70, first=20))
        [flight] = desk.launch()
        batch = flight.batch()
        assert batch.bases is None
        assert batch.stamps == [50, 51, 52, 7, 99, 70]
        assert batch.slices == [3, 2, 1]

    @given(
        st.lists(st.tuples(st.integers(1, 9), st.integers(0, 10**6), st.booleans()), min_size=1, max_size=6),
        st.integers(1, 4),
    )
    def test_columns_are_what_expanding_by_hand_gives(
        self, wanted: list[tuple[int, int, bool]], nodes: int
    ) -> None:
        desk = Desk(nodes)
        expected = []
        for place, (count, base, own) in enumerate(wanted):
            stamps = [base + 3 * item for item in range(count)] if own else None
            ids = [100 * place + item for item in range(count)]
            tenants = [f"t{item}" for item in ids]
            desk.admit(StampedItems(ids, tenants, base, stamps))
            expected += list(zip(ids, tenants, stamps or range(base, base + count), strict=True))
        found = []
        for flight in desk.launch():
            batch = flight.batch()
            assert sum(batch.slices) == len(batch.ids)
            found += list(zip(batch.ids, batch.tenants, batch.item_stamps(), strict=True))
        assert sorted(found) == sorted(expected)

    def test_an_open_batch_is_bounded(self) -> None:
        desk = Desk(1, batch_bytes=3 * ITEM, small_items=0)
        for _ in range(4):
            desk.admit(2)
        desk.admit(1)
        assert [[len(each.items.ids) for each in flight.slices] for flight in desk.launch()] == [
            [2],
            [2],
            [2],
            [2, 1],
        ]


class TestSmallRequests:
    """
    Requests that are not large.
    """

    def test_of_one_turn_go_to_one_node(self) -> None:
        desk = Desk(4)
        for first in range(6):
            desk.admit(columns(1, first=first))
        desk.admit(columns(2, first=6))
        assert desk.waiting()
        assert sizes(desk.launch()) == {0: [1, 1, 1, 1, 1, 1, 2]}

    def test_a_batch_that_is_full_leaves_the_rest_to_the_next_node(self) -> None:
        desk = Desk(3, batch_bytes=4 * ITEM)
        busy = desk.admit(1)
        [flight] = desk.launch()
        for first in range(1, 7):
            desk.admit(columns(2, first=first))
        # Node 0 is busy; what the others' batches have no room for waits.
        assert sizes(desk.launch()) == {1: [2, 2], 2: [2, 2]}
        desk.stored(flight)
        assert desk.ended == [busy]
        assert sizes(desk.launch()) == {0: [2, 2]}

    def test_one_alone_is_cut_over_all_if_they_are_idle(self) -> None:
        desk = Desk(2)
        desk.admit(4)
        one, other = desk.launch()
        assert sizes([one, other]) == {0: [2], 1: [2]}
        desk.stored(one)
        desk.admit(4)
        assert sizes(desk.launch()) == {0: [4]}

    def test_go_to_a_node_that_has_nothing_under_way(self) -> None:
        desk = Desk(3)
        desk.admit(1)
        [first] = desk.launch()
        desk.admit(1)
        [second] = desk.launch()
        desk.stored(first)
        desk.admit(1)
        [third] = desk.launch()
        desk.stored(third)
        desk.admit(1)
        [fourth] = desk.launch()
        assert [flight.node for flight in (first, second, third, fourth)] == [0, 1, 2, 0]

    def test_wait_together_until_a_node_has_answered(self) -> None:
        desk = Desk(2)
        busy = []
        for _ in range(2):
            desk.admit(1)
            busy += desk.launch()
        for first in (5, 6, 7):
            desk.admit(columns(1, first=first))
        assert not desk.waiting()
        assert desk.launch() == []
        desk.stored(busy[1])
        assert desk.waiting()
        [flight] = desk.launch()
        assert (flight.node, flight.batch().ids) == (1, [5, 6, 7])
        assert not desk.waiting()

    def test_wait_until_as_many_wait_as_are_under_way(self) -> None:
        desk = Desk(4)
        for first in range(3):
            desk.admit(columns(1, first=first))
        assert sizes(desk.launch()) == {0: [1, 1, 1]}
        desk.admit(columns(1, first=3))
        desk.admit(columns(1, first=4))
        assert not desk.waiting()
        assert desk.launch() == []
        desk.admit(columns(1, first=5))
        assert sizes(desk.launch()) == {1: [1, 1, 1]}

    def test_go_to_a_free_node_when_they_have_waited_long_enough(self) -> None:
        desk = Desk(3)
        flights = []
        for items in (range(3), range(3, 6), range(6, 12)):
            for item in items:
                desk.admit(columns(1, first=item))
            flights += desk.launch()
        desk.stored(flights[2])
        desk.admit(columns(1, first=12))
        assert desk.launch() == []
        desk.tick(0.02)
        assert [flight.node for flight in desk.launch()] == [2]

    def test_do_not_wait_for_a_batch_that_is_full(self) -> None:
        desk = Desk(2, small_items=2, batch_bytes=2 * ITEM)
        desk.admit(3)
        desk.admit(columns(1, first=3))
        assert sizes(desk.launch()) == {0: [2], 1: [1, 1]}

    def test_do_not_wait_for_what_is_overdue(self) -> None:
        desk = Desk(4)
        for first in range(3):
            desk.admit(columns(1, first=first))
        assert sizes(desk.launch()) == {0: [1, 1, 1]}
        desk.tick(0.05)
        for first in range(3, 6):
            desk.admit(columns(1, first=first))
            [flight] = desk.launch()
            assert flight.node != 0
            desk.stored(flight)

    def test_go_with_what_is_sent_anyway(self) -> None:
        desk = Desk(2, small_items=1)
        desk.admit(2)
        assert len(desk.launch()) == 2
        small = desk.admit(1)
        assert desk.launch() == []
        desk.admit(2)
        assert sizes(desk.launch()) == {0: [1, 1], 1: [1]}
        assert small.maybe_stored

    def test_do_not_wait_longer_than_a_tick(self) -> None:
        desk = Desk(2)
        desk.admit(2)
        assert len(desk.launch()) == 2
        small = desk.admit(1)
        desk.tick(0.05)
        assert desk.waiting()
        [flight] = desk.launch()
        assert flight.slices[0].request is small

    def test_a_silent_node_gets_no_more(self) -> None:
        desk = Desk(2)
        desk.admit(1)
        desk.launch()
        for _ in range(5):
            desk.admit(1)
            [flight] = desk.launch()
            assert flight.node == 1
            desk.stored(flight)

    def test_find_another_node_if_theirs_has_no_room(self) -> None:
        desk = Desk(2, window_bytes=3 * ITEM)
        for first in range(7):
            desk.admit(columns(1, first=first))
        assert sizes(desk.launch()) == {0: [1, 1, 1], 1: [1, 1, 1]}

    def test_too_many_are_refused(self) -> None:
        desk = Desk(2, queue_requests=2)
        desk.admit(2)
        desk.launch()
        desk.admit(1)
        desk.admit(1)
        with pytest.raises(NotApplied, match="2 requests are waiting for a node"):
            desk.admit(1)

    def test_that_are_over_are_not_sent(self) -> None:
        desk = Desk(2)
        desk.admit(2)
        desk.launch()
        stays = desk.admit(columns(1, first=5))
        over = desk.admit(columns(1, first=6), deadline=0.5)
        desk.tick(0.5)
        assert desk.ended == [over]
        assert [each.request for flight in desk.launch() for each in flight.slices] == [stays]
        assert not over.maybe_stored


class TestRoom:
    def test_another_node_when_one_has_none(self) -> None:
        desk = Desk(2, window_batches=1, small_items=1)
        desk.admit(1)
        [busy] = desk.launch()
        desk.admit(2)
        [flight] = desk.launch()
        assert flight.node != busy.node
        assert [len(each.items.ids) for each in flight.slices] == [1, 1]

    def test_bytes_are_bounded_too(self) -> None:
        desk = Desk(2, window_bytes=5 * ITEM, small_items=0)
        desk.writers = [0]
        desk.admit(4)
        desk.launch()
        desk.writers = [0, 1]
        request = desk.admit(4)
        # Two items would be one too many for node 0.
        assert sizes(desk.launch()) == {1: [2, 2]}
        assert request.maybe_stored

    def test_an_empty_window_takes_a_batch_of_any_size(self) -> None:
        desk = Desk(1, window_bytes=1)
        desk.admit(10)
        [flight] = desk.launch()
        later = desk.admit(1)
        assert desk.launch() == []
        desk.stored(flight)
        [flight] = desk.launch()
        desk.stored(flight)
        assert later.complete

    def test_reservation_is_all_or_nothing(self) -> None:
        # Node 0 has room for one slice, node 1 for none; the request has two.
        desk = Desk(2, window_batches=1, batch_bytes=ITEM, small_items=0)
        desk.writers = [1]
        desk.admit(1)
        [busy] = desk.launch()
        desk.writers = [0, 1]
        request = desk.admit(2)
        assert not desk.waiting()
        assert desk.launch() == []
        # What was reserved is free again for another.
        assert desk.dispatch._windows[0].has_room(10**9)  # noqa: SLF001
        desk.stored(busy)
        assert sizes(desk.launch()) == {0: [1], 1: [1]}
        assert request.maybe_stored

    def test_without_any_node_it_waits(self) -> None:
        desk = Desk(2)
        desk.writers = []
        request = desk.admit(3)
        assert desk.launch() == []
        desk.writers = [1]
        desk.tick()
        [flight] = desk.launch()
        desk.stored(flight)
        assert request.complete

    def test_those_that_wait_keep_their_order(self) -> None:
        desk = Desk(1, window_batches=1, batch_bytes=ITEM)
        first = desk.admit(1)
        [flight] = desk.launch()
        others = [desk.admit(columns(1, first=number)) for number in range(1, 5)]
        while not others[-1].over:
            desk.stored(flight)
            [flight] = desk.launch()
            if flight.slices[0].request is others[-1]:
                desk.stored(flight)
        assert desk.ended == [first, *others]

    def test_nobody_overtakes(self) -> None:
        # The first that waits is large; a small one for which there would be room waits behind it.
        desk = Desk(1, window_bytes=10 * ITEM)
        desk.admit(6)
        [flight] = desk.launch()
        large = desk.admit(8)
        small = desk.admit(1)
        assert desk.launch() == []
        desk.stored(flight)
        [flight] = desk.launch()
        assert [each.request for each in flight.slices] == [large, small]


class TestQueueBounds:
    def test_requests(self) -> None:
        desk = Desk(1, queue_requests=2)
        desk.writers = []
        desk.admit(1)
        desk.admit(1)
        with pytest.raises(
            NotApplied, match="2 requests are waiting for a node, the most allowed"
        ) as refused:
            desk.admit(1)
        assert refused.value.retry_after == 1
        # There is room again when those before it have ended.
        desk.tick(5.0)
        assert [request.maybe_stored for request in desk.ended] == [False, False]
        desk.admit(1)

    def test_bytes(self) -> None:
        desk = Desk(1, queue_bytes=3 * ITEM)
        desk.writers = []
        desk.admit(2)
        with pytest.raises(NotApplied, match=f"requests of more than {3 * ITEM} bytes are waiting"):
            desk.admit(2)
        desk.admit(1)
        desk.writers = [0]
        desk.tick()
        assert len(desk.launch()[0].slices) == 2
        desk.writers = []
        desk.admit(3)

    def test_one_request_may_be_larger_than_the_queue(self) -> None:
        desk = Desk(1, queue_bytes=1)
        desk.writers = []
        desk.admit(10)
        with pytest.raises(NotApplied):
            desk.admit(1)

    def test_a_refused_request_is_forgotten(self) -> None:
        desk = Desk(1, queue_requests=0)
        desk.writers = []
        with pytest.raises(NotApplied):
            desk.admit(1)
        desk.tick(10.0)
        assert desk.ended == []


class TestRetrying:
    def test_a_refused_slice_goes_elsewhere(self) -> None:
        desk = Desk(3)
        request = desk.admit(1)
        nodes = []
        for _ in range(3):
            [flight] = desk.launch()
            nodes.append(flight.node)
            desk.stored(flight, refused=[0])
        # Never back to one that refused while others remain.
        assert sorted(nodes) == [0, 1, 2]
        assert desk.launch() == []
        # Then any may have changed its mind.
        desk.tick()
        [flight] = desk.launch()
        desk.stored(flight)
        assert request.complete
        assert request.position == Position().advance(flight.node, 7, 1)

    def test_slice_by_slice(self) -> None:
        desk = Desk(2)
        desk.writers = [0]
        kept = desk.admit(columns(1, first=1))
        refused = desk.admit(columns(2, first=2, base=500))
        [flight] = desk.launch()
        desk.writers = [0, 1]
        desk.stored(flight, refused=[1])
        assert desk.ended == [kept]
        [again] = desk.launch()
        assert again.node == 1
        # With the same stamps.
        assert (again.batch().ids, again.batch().bases) == ([2, 3], [500])
        desk.stored(again)
        assert desk.ended == [kept, refused]

    def test_a_lost_batch_goes_elsewhere(self) -> None:
        desk = Desk(2)
        request = desk.admit(2)
        first, second = desk.launch()
        desk.writers = [1]
        desk.dispatch.flight_failed(first)
        [again] = desk.launch()
        assert (again.node, again.batch().ids) == (1, [0])
        desk.stored(second)
        desk.stored(again, number=2)
        assert request.complete
        assert desk.is_empty()

    def test_a_slow_batch_goes_elsewhere_as_well(self) -> None:
        desk = Desk(4)
        request = desk.admit(1)
        [slow] = desk.launch()
        desk.tick(0.9)
        assert desk.launch() == []
        desk.tick(0.1)
        [other] = desk.launch()
        assert other.node != slow.node
        assert other.batch() == slow.batch()
        # A third is asked when that one is slow, too, and no more.
        desk.tick(1.0)
        [third] = desk.launch()
        assert len({flight.node for flight in (slow, other, third)}) == 3
        for _ in range(20):
            desk.tick(0.1)
        assert desk.launch() == []
        desk.stored(third)
        assert request.complete
        assert request.items_stored == 1
        # Late answers are counted no more, and free their windows.
        desk.stored(slow)
        desk.stored(other)
        assert request.items_stored == 1
        assert desk.ended == [request]
        assert desk.is_empty()

    def test_the_slow_one_may_be_first_after_all(self) -> None:
        desk = Desk(2)
        request = desk.admit(2)
        slow, quick = desk.launch()
        desk.stored(quick)
        desk.tick(1.0)
        [again] = desk.launch()
        desk.stored(slow)
        assert request.complete
        desk.dispatch.flight_failed(again)
        assert desk.launch() == []
        assert desk.is_empty()

    def test_a_lost_batch_that_was_slow_is_under_way_elsewhere_already(self) -> None:
        desk = Desk(3)
        desk.admit(1)
        [slow] = desk.launch()
        desk.tick(1.0)
        [again] = desk.launch()
        desk.dispatch.flight_failed(slow)
        assert desk.launch() == []
        desk.dispatch.flight_failed(again)
        assert len(desk.launch()) == 1

    def test_a_slow_batch_waits_if_no_other_node_is_there(self) -> None:
        desk = Desk(2)
        desk.writers = [0]
        request = desk.admit(1)
        [slow] = desk.launch()
        desk.tick(1.0)
        desk.tick(0.1)
        assert desk.launch() == []
        desk.writers = [0, 1]
        desk.tick(0.1)
        [again] = desk.launch()
        assert again.node == 1
        desk.stored(again)
        desk.stored(slow)
        assert request.items_stored == 1

    def test_a_slice_that_waits_to_be_sent_again_is_sent_once(self) -> None:
        # It was slow, found no room elsewhere, and then its node was gone as well.
        desk = Desk(2, window_batches=2, batch_bytes=ITEM, small_items=0)
        desk.writers = [1]
        desk.admit(columns(1, first=1))
        desk.admit(columns(1, first=2))
        busy = desk.launch()
        assert len(busy) == 2
        desk.writers = [0, 1]
        desk.now = 0.5
        request = desk.admit(columns(1, first=7))
        [slow] = desk.launch()
        desk.writers = [1]
        desk.tick(1.0)
        assert desk.launch() == []
        desk.dispatch.flight_failed(slow)
        for flight in busy:
            desk.stored(flight)
        flights = desk.launch()
        assert [each.request for flight in flights for each in flight.slices] == [request]
        desk.stored(flights[0])
        assert desk.launch() == []
        assert desk.is_empty()

    def test_a_slice_that_is_about_to_be_sent_again_is_sent_once(self) -> None:
        # It was slow, has a place in an open batch, and then its node was gone as well.
        desk = Desk(3)
        request = desk.admit(1)
        [slow] = desk.launch()
        desk.tick(1.0)
        assert desk.waiting()
        desk.dispatch.flight_failed(slow)
        flights = desk.launch()
        assert [each.request for flight in flights for each in flight.slices] == [request]

    def test_what_was_not_sent_to_a_node_that_leaves_goes_elsewhere(self) -> None:
        desk = Desk(2)
        request = desk.admit(2)
        desk.writers = [0]
        desk.dispatch.writer_gone(1)
        [flight] = desk.launch()
        assert flight.node == 0
        assert flight.batch().ids == [0, 1]
        desk.stored(flight)
        assert request.complete
        assert desk.is_empty()

    def test_new_requests_come_after_slices_that_wait_for_another_node(self) -> None:
        desk = Desk(1, window_batches=1, batch_bytes=ITEM)
        first = desk.admit(1)
        [flight] = desk.launch()
        waiting = desk.admit(columns(1, first=5))
        desk.stored(flight, refused=[0])
        assert not first.over
        # The refused slice has no other node: the one behind it goes ahead.
        [flight] = desk.launch()
        assert flight.slices[0].request is waiting
        desk.tick()
        desk.stored(flight)
        [flight] = desk.launch()
        assert flight.slices[0].request is first


class TestEnding:
    def test_leaves_no_circle_to_the_garbage_collector(self) -> None:
        desk = Desk(2)
        stored, expired = desk.admit(4), desk.admit(4, deadline=0.5)
        flights = desk.launch()
        desk.tick(0.5)
        for flight in flights:
            desk.stored(flight)
        assert desk.ended == [expired, stored]
        assert stored.slices == expired.slices == []

    def test_what_was_never_sent_is_not_applied(self) -> None:
        desk = Desk(1)
        request = desk.admit(1, deadline=1.0)
        desk.tick(1.0)
        assert desk.ended == [request]
        assert not request.maybe_stored
        assert not request.complete
        # It was in an open batch: it is withdrawn, and never sent.
        assert desk.launch() == []
        assert not request.maybe_stored
        assert desk.is_empty()

    def test_the_others_of_an_open_batch_stay(self) -> None:
        desk = Desk(1)
        desk.admit(columns(1, first=1), deadline=1.0)
        stays = desk.admit(columns(2, first=2))
        desk.tick(1.0)
        [flight] = desk.launch()
        assert [each.request for each in flight.slices] == [stays]
        desk.stored(flight)
        assert stays.complete
        assert desk.is_empty()

    def test_what_was_sent_is_known_in_part(self) -> None:
        desk = Desk(2)
        request = desk.admit(5)
        first, second = desk.launch()
        desk.stored(first)
        desk.tick(4.0)
        assert not request.over
        desk.tick(1.0)
        assert desk.ended == [request]
        assert request.maybe_stored
        assert not request.complete
        assert request.items_stored == 3
        assert request.position == Position().advance(0, 7, 1)
        # Late answers are harmless.
        desk.stored(second)
        assert request.items_stored == 3
        assert desk.ended == [request]

    @pytest.mark.parametrize("maybe_stored", [False, True])
    def test_what_every_node_refused_is_not_applied_if_they_are_sure(self, maybe_stored: bool) -> None:
        desk = Desk(2)
        request = desk.admit(2, deadline=1.0)
        for flight in desk.launch():
            desk.stored(flight, refused=[0], maybe_stored=maybe_stored)
        desk.writers = []
        desk.dispatch.end_unsent()
        assert request.over is not maybe_stored
        desk.tick(1.0)
        assert desk.ended == [request]
        assert request.maybe_stored is maybe_stored

    def test_what_is_under_way_waits_for_its_answer(self) -> None:
        desk = Desk(2)
        sent = desk.admit(2)
        flights = desk.launch()
        open_ = desk.admit(2)
        desk.dispatch.end_unsent()
        assert desk.ended == [open_]
        for flight in flights:
            desk.stored(flight)
        assert desk.ended == [open_, sent]
        assert desk.launch() == []

    def test_one_that_waits_behind_another_ends_too(self) -> None:
        desk = Desk(1)
        desk.writers = []
        first = desk.admit(1, deadline=5.0)
        second = desk.admit(1, deadline=1.0)
        desk.tick(1.0)
        assert desk.ended == [second]
        desk.writers = [0]
        desk.tick()
        [flight] = desk.launch()
        assert [each.request for each in flight.slices] == [first]

    def test_stop_answers_everybody(self) -> None:
        desk = Desk(2)
        sent = desk.admit(2)
        desk.launch()
        open_ = desk.admit(2)
        desk.writers = []
        queued = desk.admit(2)
        desk.dispatch.stop()
        assert desk.ended == [sent, open_, queued]
        assert [request.maybe_stored for request in desk.ended] == [True, False, False]
        assert desk.launch() == []

    def test_a_slice_refused_after_the_end_is_not_sent_again(self) -> None:
        desk = Desk(2)
        desk.admit(1, deadline=1.0)
        [flight] = desk.launch()
        desk.tick(1.0)
        desk.stored(flight, refused=[0])
        desk.tick()
        assert desk.launch() == []
        assert desk.is_empty()

    def test_slices_that_wait_end_with_their_request(self) -> None:
        desk = Desk(2, window_batches=1, batch_bytes=ITEM, small_items=0)
        desk.writers = [1]
        desk.admit(1, deadline=9.0)
        desk.launch()
        desk.writers = [0, 1]
        request = desk.admit(1, deadline=1.0)
        [flight] = desk.launch()
        desk.dispatch.flight_failed(flight)
        desk.writers = [1]
        assert desk.launch() == []
        desk.tick(1.0)
        assert desk.ended == [request]
        desk.tick()
        assert desk.launch() == []


class Storm:
    """
    Nodes that refuse, answer late, lose batches and go away, from one seed.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.desk = Desk(
            self.random.randint(1, 4),
            window_batches=self.random.randint(1, 4),
            window_bytes=self.random.choice([3 * ITEM, 20 * ITEM, 10**9]),
            batch_bytes=self.random.choice([ITEM, 5 * ITEM, 10**9]),
            queue_requests=self.random.randint(0, 6),
            queue_bytes=self.random.choice([5 * ITEM, 10**9]),
            slice_bytes=self.random.choice([2 * ITEM, 10**9]),
        )
        self.nodes = len(self.desk.writers)
        self.requests: list[Request] = []
        self.refused: list[Request] = []
        self.flights: list[Flight] = []
        self.stored: dict[Request, set[int]] = {}
        self.sent: dict[Request, set[int]] = {}
        self.unrefused: dict[Request, set[tuple[Flight, int]]] = defaultdict(set)
        self.items = 0

    def admit(self) -> None:
        count = self.random.randint(1, 9)
        items = columns(count, first=self.items, base=self.items + 1)
        self.items += count
        request = Request(items, self.desk.now + self.random.choice([0.5, 2.0, 5.0]), self.end)
        try:
            self.desk.dispatch.admit(request)
        except NotApplied:
            self.refused.append(request)
        else:
            self.requests.append(request)

    def end(self, request: Request) -> None:
        assert request.over
        self.desk.ended.append(request)
        # Told at that moment: what is not maybe_stored is never sent later.
        assert request.maybe_stored == bool(self.unrefused[request])

    def launch(self) -> None:
        for flight in self.desk.launch():
            assert flight.slices
            self.flights.append(flight)
            for place, each in enumerate(flight.slices):
                assert each.request.maybe_stored
                assert each.request not in self.refused
                assert not each.request.over or each.request in self.sent
                self.unrefused[each.request].add((flight, place))
                self.sent.setdefault(each.request, set()).update(each.items.ids)

    def land(self) -> None:
        if not self.flights:
            return
        flight = self.flights.pop(self.random.randrange(len(self.flights)))
        if self.random.random() < 0.3:
            self.desk.dispatch.flight_failed(flight)
            return
        refused = {place for place in range(len(flight.slices)) if self.random.random() < 0.2}
        maybe_stored = self.random.random() < 0.3
        for place, each in enumerate(flight.slices):
            if place not in refused and not each.request.over:
                self.stored.setdefault(each.request, set()).update(each.items.ids)
            if place in refused and not maybe_stored:
                self.unrefused[each.request].discard((flight, place))
        self.desk.stored(flight, refused=refused, maybe_stored=maybe_stored)

    def change(self) -> None:
        self.desk.writers = [node for node in range(self.nodes) if self.random.random() < 0.7]
        if self.random.random() < 0.5:
            self.desk.dispatch.writer_gone(self.random.randrange(self.nodes))
        else:
            self.desk.dispatch.writers_changed()

    def tick(self) -> None:
        self.desk.tick(self.random.choice([0.05, 0.3, 1.0]))

    def check(self) -> None:
        for request in self.requests:
            assert request.items_stored == len(self.stored.get(request, ())), "each item is counted once"
            assert request.complete == (self.stored.get(request) == set(request.items.ids))
            assert request.over or not request.complete
        assert len(set(self.desk.ended)) == len(self.desk.ended), "each request ends once"
        assert self.desk.flush_asked <= 1, "a flush is asked for once"

    def run(self, steps: int) -> None:
        actions = [self.admit, self.launch, self.launch, self.land, self.land, self.change, self.tick]
        left_over = False
        for _ in range(steps):
            action = self.random.choice(actions)
            action()
            if action == self.launch:
                left_over = self.desk.waiting()
            self.check()
            assert self.desk.flush_asked or left_over or not self.desk.waiting(), "a flush is asked for"
        self.desk.tick(10.0)
        self.launch()
        while self.flights:
            self.land()
            self.launch()
        self.desk.tick(10.0)
        self.launch()
        self.check()
        assert sorted(map(id, self.desk.ended)) == sorted(map(id, self.requests))
        assert not self.desk.waiting()
        for window in self.desk.dispatch._windows.values():  # noqa: SLF001
            assert (window._bytes, window.flights, window.open) == (0, {}, [])  # noqa: SLF001
        assert self.desk.dispatch._queued_bytes == 0  # noqa: SLF001
        assert not self.desk.dispatch._queue  # noqa: SLF001
        assert not self.desk.dispatch._small  # noqa: SLF001


@given(st.integers(0, 2**32))
def test_whatever_nodes_do_each_request_ends_once(seed: int) -> None:
    Storm(seed).run(120)


class TestReceipts:
    def test_a_request_that_wants_one_goes_whole_and_alone_to_the_preferred_node(self) -> None:
        desk = Desk()
        desk.givers = [2, 0, 1, 3]
        desk.admit(2)
        desk.admit_whole(100, first=50)
        desk.admit(2)
        sent = [(flight.node, len(flight.slices), flight.batch().items) for flight in desk.launch()]
        assert (2, 1, 100) in sent
        assert sum(items for *_, items in sent) == 104

    def test_it_ends_when_that_node_has_stored_it(self) -> None:
        desk = Desk()
        request = desk.admit_whole(5)
        [flight] = desk.launch()
        desk.dispatch.stored(flight, Position().advance(0, 1, 1), {})
        assert (desk.ended, request.items_stored, desk.dispatch.busy) == ([request], 5, False)

    def test_it_is_placed_again_only_at_nodes_that_give_receipts(self) -> None:
        desk = Desk()
        desk.givers = [1, 3]
        desk.admit_whole(5)
        [flight] = desk.launch()
        assert flight.node == 1
        desk.dispatch.stored(flight, Position(), {0: "the node is stopping"})
        [flight] = desk.launch()
        assert (flight.node, len(flight.slices)) == (3, 1)
        desk.dispatch.flight_failed(flight)
        # Both had their chance; after a tick they get another one.
        assert desk.launch() == []
        desk.dispatch.tick(desk.now)
        [flight] = desk.launch()
        assert flight.node in desk.givers

    def test_it_waits_in_the_queue_while_no_node_can_take_it(self) -> None:
        desk = Desk()
        desk.givers = []
        request = desk.admit_whole(5)
        assert desk.launch() == []
        later = desk.admit(3000)
        assert desk.launch() == []
        desk.givers = [0]
        desk.dispatch.tick(desk.now)
        flights = desk.launch()
        assert {each.request for flight in flights for each in flight.slices} == {request, later}
        assert [flight.node for flight in flights if flight.slices[0].request is request] == [0]

    def test_what_was_never_placed_is_not_stored(self) -> None:
        desk = Desk()
        desk.givers = []
        request = desk.admit_whole(5)
        desk.dispatch.tick(request.deadline)
        assert desk.ended == [request]
        assert not request.maybe_stored

    def test_while_no_node_gives_any_the_others_pass(self) -> None:
        desk = Desk()
        desk.givers = []
        waiting = [desk.admit_whole(5), desk.admit_whole(5)]
        later = desk.admit(3000)
        desk.dispatch.tick(desk.now)
        assert {each.request for flight in desk.launch() for each in flight.slices} == {later}
        desk.givers = [0]
        desk.dispatch.tick(desk.now)
        assert [flight.slices[0].request for flight in desk.launch()] == waiting


def test_why_slices_went_to_other_nodes_is_counted() -> None:
    desk = Desk(3)
    desk.admit(3)
    refusing, lost, slow = desk.launch()
    desk.stored(refusing, refused=[0])
    desk.dispatch.flight_failed(lost)
    desk.tick(LIMITS.slow_after_s)
    assert desk.dispatch.retries == {"refused": 1, "lost": 1, "slow": 1, "unsent": 0}
    assert slow.slow
    other = Desk(2)
    other.admit(LIMITS.small_items + 1)
    other.dispatch.writer_gone(0)
    assert other.dispatch.retries == {"refused": 0, "lost": 0, "slow": 0, "unsent": 1}
