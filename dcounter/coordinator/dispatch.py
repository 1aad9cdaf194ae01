"""
How requests to store become batches at nodes: room, order, retries and deadlines.

Pure: it is told what happened and when. `dcounter.coordinator.service` does the sending.

A request waits until every one of its slices has room in the window of some node; then slices that are
placed at the same node share a batch. A slice that its node refused, or whose node is gone or slow, is placed
at another one with the same stamps, which is harmless even if both store it.

A batch costs every node about as much as some hundred items. So a small request is cut evenly over all nodes
only if nothing is under way. Otherwise it waits until as many wait as are under way and a node has nothing
under way, or is sent something anyway, and goes there as a whole, with all others that wait. Under load
batches become few and large, at rest no request waits, and a silent node gets no more. The nodes take turns,
so all take about as much.

A batch is filled during a turn of the reactor and closed at its end: when there is one to launch, the
dispatch asks for that itself (`flush_soon`), once. Overdue requests that a launch leaves over go with the
next one, after the next event or tick.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from dcounter.coordinator.requests import Request, Slice
from dcounter.coordinator.slices import assign
from dcounter.coordinator.stamping import StampedItems
from dcounter.coordinator.windows import Flight, Window
from dcounter.errors import NotApplied
from dcounter.figures import NUMBERS, Histogram, histogram
from dcounter.limits import Limits
from dcounter.protocol.position import Position

_AT_ONCE = 3
"""
Nodes that may have a slice under way at once: two that hang block nothing, and when all are slow the work
does not multiply without end.
"""

_PATIENCE = 0.05
"""
Time (s) after which a batch that is still under way is no reason for others to wait.
"""


Reason = Literal["refused", "lost", "slow", "unsent"]
"""
Why a slice is placed at another node: the first one refused it, is gone, takes long, or takes no more writes.
"""


class Dispatch:
    """
    Places requests at nodes.

    :param nodes: ids of all nodes.
    :param writers: gives the nodes that take writes now.
    :param receipts: gives those of them that give receipts, the preferred one first.
    :param flush_soon: asks for `launch` at the end of this turn of the reactor.
    :ivar batch_items: how many items the batches had that were sent; whoever sends them says so.
    :ivar retries: how often a slice was placed again, by the reason.
    """

    def __init__(
        self,
        nodes: Collection[int],
        *,
        limits: Limits,
        writers: Callable[[], Sequence[int]],
        receipts: Callable[[], Sequence[int]],
        flush_soon: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._writers = writers
        self._receipts = receipts
        self._flush_soon = flush_soon
        self._flush_asked = False
        self._windows = {node: Window(node, limits) for node in nodes}
        self._requests: dict[Request, None] = {}
        self._small: deque[Request] = deque()
        self._small_due = False
        self._slow_slices = 0
        self._queue: deque[Request] = deque()
        self._queued_bytes = 0
        self._again: deque[Slice] = deque()
        self._exhausted: list[Slice] = []
        self._rotation = 0
        self.batch_items: Histogram = histogram(NUMBERS)
        self.retries: dict[Reason, int] = {"refused": 0, "lost": 0, "slow": 0, "unsent": 0}

    def admit(self, request: Request) -> None:
        """
        Take a request; it ends by `request.ended`.

        :raises NotApplied: too many are waiting.
        """
        if self._queue or self._again:
            self._wait(request, self._queue)
        elif len(request.items.ids) <= self._limits.small_items:
            self._wait(request, self._small)
        elif not self._place(request, writers := self._writers(), writers):
            self._wait(request, self._queue)
        self._requests[request] = None
        self._ask_for_flush()

    def admit_whole(self, request: Request) -> None:
        """
        Take a request that wants a receipt: it goes to one node, in a batch of its own.

        :raises NotApplied: too many are waiting.
        """
        if self._queue or self._again or not self._place_whole(request):
            self._wait(request, self._queue)
        self._requests[request] = None
        self._ask_for_flush()

    def launch(self, now: float) -> list[Flight]:
        """
        Close the open batches: what the coordinator sends now.
        """
        self._flush_asked = False
        self._place_small()
        flights = [flight for window in self._windows.values() for flight in window.launch(now)]
        for flight in flights:
            for slice_ in flight.slices:
                slice_.flights += 1
                slice_.unrefused += 1
                slice_.waits = False
        return flights

    @property
    def waiting(self) -> bool:
        """
        Whether there is a batch to launch.
        """
        for window in self._windows.values():
            if window.open:
                return True
        return bool(self._small) and not self._gathers() and self._next_place(self._writers()) is not None

    @property
    def windows(self) -> Mapping[int, Window]:
        """
        Node -> what is under way to it.
        """
        return self._windows

    @property
    def queued(self) -> int:
        """
        How many requests wait for a node.
        """
        return len(self._queue) + len(self._small)

    @property
    def queued_bytes(self) -> int:
        """
        About the bytes that they take on the wire.
        """
        return self._queued_bytes

    def _ask_for_flush(self) -> None:
        if not self._flush_asked and self.waiting:
            self._flush_asked = True
            self._flush_soon()

    @property
    def busy(self) -> bool:
        """
        Whether a request has not ended.
        """
        return bool(self._requests)

    def requests(self) -> list[Request]:
        """
        Those that have not ended.
        """
        return list(self._requests)

    def stored(
        self, flight: Flight, position: Position, refused: Mapping[int, str], *, maybe_stored: bool = False
    ) -> None:
        """
        A node answered.

        :param position: where in its log the batch is.
        :param refused: slice of the batch -> why it was not stored.
        :param maybe_stored: what was refused may be stored all the same, if the node dies.
        """
        self._windows[flight.node].land(flight)
        for i, slice_ in enumerate(flight.slices):
            slice_.flights -= 1
            if i in refused and not maybe_stored:
                slice_.unrefused -= 1
            if slice_.settled:
                continue
            if i in refused:
                self._retry_alone(slice_, flight.node, "refused")
                continue
            slice_.stored = True
            request = slice_.request
            request.position = request.position.join(position)
            request.items_stored += len(slice_.items.ids)
            if request.complete:
                del self._requests[request]
                request.end()
        self._place_waiting()
        self._ask_for_flush()

    def flight_failed(self, flight: Flight) -> None:
        """
        A node is gone, with or without the batch.
        """
        self._windows[flight.node].land(flight)
        for slice_ in flight.slices:
            slice_.flights -= 1
            if not slice_.settled:
                self._retry_alone(slice_, flight.node, "lost")
        self._place_waiting()
        self._ask_for_flush()

    def writer_gone(self, node: int) -> None:
        """
        A node takes no more writes: what was not yet sent to it goes elsewhere.
        """
        window = self._windows[node]
        for slice_ in [slice_ for flight in window.open for slice_ in flight.slices]:
            window.withdraw(slice_)
            self._retry(slice_, node, "unsent")
        self._place_waiting()
        self._ask_for_flush()

    def writers_changed(self) -> None:
        """
        Other nodes may take writes now than before.
        """
        self._ask_for_flush()

    def tick(self, now: float) -> None:
        """
        Time has passed: slow nodes, deadlines.
        """
        self._small_due = bool(self._small)
        self._slow_slices = sum(
            len(flight.slices)
            for window in self._windows.values()
            for flight in window.flights
            if now - flight.since >= _PATIENCE
        )
        for window in self._windows.values():
            for flight in window.flights:
                if not flight.slow and now - flight.since >= self._limits.slow_after_s:
                    flight.slow = True
                    for slice_ in flight.slices:
                        if not (slice_.settled or slice_.waits) and slice_.flights < _AT_ONCE:
                            self._retry(slice_, flight.node, "slow")
        exhausted, self._exhausted = self._exhausted, []
        for slice_ in exhausted:
            if slice_.flights == 0:
                slice_.tried.clear()
            if not slice_.settled:
                self._again.append(slice_)
        self._place_waiting()
        self._expire(request for request in list(self._requests) if request.deadline <= now)
        self._ask_for_flush()

    def stop(self) -> None:
        """
        Answer all callers now.
        """
        self._expire(list(self._requests))

    def end_unsent(self) -> None:
        """
        Answer the callers now of whose requests no part is stored, or may be.
        """
        self._expire([request for request in self._requests if not request.maybe_stored])

    def _expire(self, requests: Iterable[Request]) -> None:
        for request in requests:
            for window in self._windows.values():
                for slice_ in request.slices:
                    window.withdraw(slice_)
            del self._requests[request]
            request.end()
        for waiting in (self._queue, self._small):
            while waiting and waiting[0].over:
                self._queued_bytes -= waiting.popleft().size

    def _wait(self, request: Request, waiting: deque[Request]) -> None:
        """
        Let a request wait for a node.

        :raises NotApplied: too many requests do.
        """
        size = request.size
        limits = self._limits
        number = self.queued
        if number >= limits.queue_requests:
            raise NotApplied(f"{number} requests are waiting for a node, the most allowed", retry_after=1)
        if number and self._queued_bytes + size > limits.queue_bytes:
            raise NotApplied(
                f"requests of more than {limits.queue_bytes} bytes are waiting for a node", retry_after=1
            )
        waiting.append(request)
        self._queued_bytes += size

    def _retry_alone(self, slice_: Slice, node: int, why: Reason) -> None:
        """
        Place a slice again unless another node has it on its way.
        """
        slice_.tried.add(node)
        if slice_.flights == 0 and not slice_.waits:
            self._retry(slice_, node, why)

    def _retry(self, slice_: Slice, node: int, why: Reason) -> None:
        self.retries[why] += 1
        slice_.tried.add(node)
        slice_.waits = True
        self._again.append(slice_)

    def _place_waiting(self) -> None:
        """
        Place what waits, in order, slices that already had a node first.
        """
        for _ in range(len(self._again)):
            slice_ = self._again.popleft()
            if slice_.settled:
                continue
            whole = slice_.request.receipt is not None
            writers = self._receipts() if whole else self._writers()
            others = [node for node in writers if node not in slice_.tried]
            if not others:
                self._exhausted.append(slice_)
            elif whole:
                if self._add_alone(slice_, others) is None:
                    self._again.append(slice_)
            elif self._add(slice_, others[self._rotation % len(others)], others) is None:
                self._again.append(slice_)
        # Without a node that gives receipts, those that want one let the others pass.
        passed: list[Request] = []
        while self._queue:
            request = self._queue[0]
            if request.over or self._place_queued(request):
                self._queued_bytes -= request.size
            elif request.receipt is not None and not self._receipts():
                passed.append(request)
            else:
                break
            self._queue.popleft()
        self._queue.extendleft(reversed(passed))

    def _next_place(self, writers: Sequence[int]) -> int | None:
        """
        The index in `writers` of the node that takes the small requests.

        :returns: `None` if they wait, and not too long yet.
        """
        gathers = self._gathers()
        places = [(self._rotation + i) % len(writers) for i in range(len(writers))]
        for place in places:
            window = self._windows[writers[place]]
            if window.fits_open(self._small[0].size) or not (window.open or gathers or window.flights):
                return place
        return places[0] if places and self._small_due else None

    def _gathers(self) -> bool:
        """
        Whether more small requests are worth waiting for: callers that are answered together ask together.
        """
        if self._small_due:
            return False
        waiting = len(self._small)
        # Slices are taken off requests: of a request that was cut over several slow nodes each slice counts,
        # so that this errs towards not waiting.
        under_way = len(self._requests) - waiting - len(self._queue) - self._slow_slices
        return waiting < under_way and self._queued_bytes < self._limits.batch_bytes

    def _place_small(self) -> None:
        """
        Give each node that is free a batch of small requests, but a single one to all if they are idle.
        """
        idle = not any(window.flights or window.open for window in self._windows.values())
        alone = idle and len(self._small) == 1
        writers = self._writers() if self._small else ()
        while self._small and (place := self._next_place(writers)) is not None:
            if not self._fill(writers if alone else [writers[place]], writers):
                return
            self._small_due = False
            self._rotation = (place + 1) % len(writers)

    def _fill(self, nodes: Sequence[int], writers: Sequence[int]) -> bool:
        """
        Place small requests at these nodes until the batch of the first is full; whether any was placed.
        """
        window = self._windows[nodes[0]]
        progress = False
        while self._small and (not window.open or window.fits_open(self._small[0].size)):
            request = self._small.popleft()
            progress = True
            if request.over or (not self._queue and self._place(request, nodes, writers)):
                self._queued_bytes -= request.size
            else:
                self._queue.append(request)
        return progress

    def _place(self, request: Request, nodes: Sequence[int], writers: Sequence[int]) -> bool:
        """
        Find room for every slice of a request, or for none.

        :param nodes: the nodes it is cut over.
        :param writers: the nodes that take what these have no room for.
        """
        if not nodes:
            return False
        placed: list[tuple[int, Slice]] = []
        for preferred, part, size in self._cut(request, nodes):
            slice_ = Slice(request, part, size)
            node = self._add(slice_, preferred, writers)
            if node is None:
                for where, other in placed:
                    self._windows[where].withdraw(other)
                return False
            placed.append((node, slice_))
        request.slices = [slice_ for _, slice_ in placed]
        return True

    def _place_queued(self, request: Request) -> bool:
        if request.receipt is not None:
            return self._place_whole(request)
        writers = self._writers()
        return self._place(request, writers, writers)

    def _place_whole(self, request: Request) -> bool:
        """
        Find room at one node for a batch that holds this request only.
        """
        slice_ = Slice(request, request.items, request.size)
        if self._add_alone(slice_, self._receipts()) is None:
            return False
        request.slices = [slice_]
        return True

    def _cut(self, request: Request, nodes: Sequence[int]) -> Iterator[tuple[int, StampedItems, int]]:
        """
        The slices of a request, the node each prefers and their sizes: one per node, or several large ones.
        """
        limit = self._limits.slice_bytes
        items = request.items
        if len(nodes) == 1 and request.size <= limit:
            yield nodes[0], items, request.size
            return
        for preferred, first, end in assign(len(items.ids), nodes, self._rotation):
            part = items.cut(first, end)
            size = part.size()
            if size <= limit:
                yield preferred, part, size
            else:
                for slice_ in part.split(limit):
                    yield preferred, slice_, slice_.size()

    def _add(self, slice_: Slice, preferred: int, nodes: Sequence[int]) -> int | None:
        for node in (preferred, *nodes):
            if self._windows[node].has_room(slice_.size):
                self._windows[node].add(slice_)
                return node
        return None

    def _add_alone(self, slice_: Slice, nodes: Iterable[int]) -> int | None:
        for node in nodes:
            if self._windows[node].has_room(slice_.size):
                self._windows[node].add_alone(slice_)
                return node
        return None
