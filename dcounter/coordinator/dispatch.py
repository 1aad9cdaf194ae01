"""
How requests to store become batches at nodes: room, order, retries and deadlines.

Pure: it is told what happened and when. `dcounter.coordinator.service` does the sending.

A request waits until every one of its slices has room in the window of some node; then slices that are
placed at the same node share a batch. A slice that its node refused, or whose node is gone or slow, is placed
at another one with the same stamps, which is harmless even if both store it.

A batch costs every node about as much as some hundred items. So a request that is not large is loose: if
nothing is under way, it is cut evenly over all nodes; else it waits until as many wait as are under way and a
node has nothing under way, or is sent something anyway, and goes there as a whole, with all others that wait.
Under load batches become few and large, at rest nobody waits, and who is silent gets no more. The nodes take
turns, so all take about as much.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from dcounter.coordinator.slices import Columns, place
from dcounter.errors import NotApplied
from dcounter.limits import Limits
from dcounter.protocol.batch import Batch
from dcounter.protocol.position import Position

_AT_ONCE = 3
"""
Nodes that may have a slice under way at once: two that hang stop nobody, and when all are slow the work does
not multiply without end.
"""


_PATIENCE = 0.05
"""
Time (s) after which a batch that is still under way is no reason for others to wait.
"""


@dataclass(slots=True, eq=False)
class Request:
    """
    One caller's items on their way.

    :ivar deadline: when (s) the caller is answered at the latest.
    :ivar ended: called once, when all is stored or the deadline has passed.
    :ivar position: what is known to be stored.
    :ivar items_stored: how many items that is.
    :ivar size: about its bytes on the wire.
    """

    items: Columns
    deadline: float
    ended: Callable[["Request"], None]
    position: Position = field(default_factory=Position)
    items_stored: int = 0
    over: bool = False
    slices: list["Slice"] = field(default_factory=list)
    size: int = field(init=False)
    _was_doubtful: bool = False

    def __post_init__(self) -> None:
        self.size = self.items.size()

    @property
    def doubtful(self) -> bool:
        """
        Whether any of it is stored, or may be: a node was sent it and did not say that it refused it.
        """
        return self._was_doubtful or any(each.stored or each.doubts for each in self.slices)

    @property
    def complete(self) -> bool:
        """
        Whether all of it is stored.
        """
        return self.items_stored == len(self.items.ids)

    def end(self) -> None:
        """
        The caller is answered now.
        """
        self.over = True
        self._was_doubtful = self.doubtful
        # They name the request: left so, all items would wait for the garbage collector.
        self.slices = []
        self.ended(self)


@dataclass(slots=True, eq=False)
class Slice:
    """
    The part of a request that one node stores.

    :ivar tried: nodes that had their chance.
    :ivar flights: batches under way that hold this slice.
    :ivar doubts: batches that held it, of which no node said that it did not store it.
    :ivar waits: whether it is about to be sent: in an open batch, or waiting for room in one.
    """

    request: Request
    items: Columns
    size: int
    tried: set[int] = field(default_factory=set)
    flights: int = 0
    doubts: int = 0
    waits: bool = True
    stored: bool = False

    @property
    def settled(self) -> bool:
        """
        Whether nothing is left to be done about it.
        """
        return self.stored or self.request.over


@dataclass(slots=True, eq=False)
class Flight:
    """
    One batch on its way to a node.

    :ivar since: when (s) it was sent.
    :ivar slow: its slices were given to other nodes as well.
    """

    node: int
    slices: list[Slice] = field(default_factory=list)
    size: int = 0
    since: float = 0.0
    slow: bool = False

    def batch(self) -> Batch:
        """
        The batch as it goes over the wire.
        """
        parts = [each.items for each in self.slices]
        lengths = [len(part.ids) for part in parts]
        ids = list(chain.from_iterable([part.ids for part in parts]))
        tenants = list(chain.from_iterable([part.tenants for part in parts]))
        if all(part.stamps is None for part in parts):
            return Batch(lengths, ids, tenants, bases=[part.base for part in parts])
        return Batch(lengths, ids, tenants, stamps=[s for part in parts for s in part.all_stamps()])


class _Window:
    """
    What is under way to one node, and the batches that are being filled.
    """

    def __init__(self, node: int, limits: Limits) -> None:
        self._node = node
        self._limits = limits
        self._bytes = 0
        # In the order of their start, so that the same events have the same effects.
        self.flights: dict[Flight, None] = {}
        self.open: list[Flight] = []

    def has_room(self, size: int) -> bool:
        busy = len(self.flights) + len(self.open)
        if not busy:
            return True
        if self._bytes + size > self._limits.window_bytes:
            return False
        return self.fits_open(size) or busy < self._limits.window_batches

    def fits_open(self, size: int) -> bool:
        return bool(self.open) and self.open[-1].size + size <= self._limits.batch_bytes

    def add(self, piece: Slice) -> None:
        if not self.fits_open(piece.size):
            self.open.append(Flight(self._node))
        self.open[-1].slices.append(piece)
        self.open[-1].size += piece.size
        self._bytes += piece.size

    def withdraw(self, piece: Slice) -> None:
        for flight in self.open:
            if piece in flight.slices:
                flight.slices.remove(piece)
                flight.size -= piece.size
                self._bytes -= piece.size
        self.open = [flight for flight in self.open if flight.slices]

    def launch(self, now: float) -> list[Flight]:
        launched, self.open = self.open, []
        for flight in launched:
            flight.since = now
        self.flights.update(dict.fromkeys(launched))
        return launched

    def land(self, flight: Flight) -> None:
        del self.flights[flight]
        self._bytes -= flight.size


class Dispatch:
    """
    Places requests at nodes.

    :param nodes: ids of all nodes.
    :param writers: gives the nodes that take writes now.
    """

    def __init__(
        self, nodes: Collection[int], *, limits: Limits, writers: Callable[[], Sequence[int]]
    ) -> None:
        self._limits = limits
        self._writers = writers
        self._windows = {node: _Window(node, limits) for node in nodes}
        self._requests: dict[Request, None] = {}
        self._loose: deque[Request] = deque()
        self._loose_due = False
        self._overdue = 0
        self._queue: deque[Request] = deque()
        self._queued_bytes = 0
        self._again: deque[Slice] = deque()
        self._exhausted: list[Slice] = []
        self._turn = 0

    def admit(self, request: Request) -> None:
        """
        Take a request; it ends by `request.ended`.

        :raises NotApplied: too many are waiting.
        """
        if self._queue or self._again:
            self._wait(request, self._queue)
        elif len(request.items.ids) <= self._limits.loose:
            self._wait(request, self._loose)
        elif not self._place(request, writers := self._writers(), writers):
            self._wait(request, self._queue)
        self._requests[request] = None

    def launch(self, now: float) -> list[Flight]:
        """
        Close the open batches: what the coordinator sends now.
        """
        self._place_loose()
        flights = [flight for window in self._windows.values() for flight in window.launch(now)]
        for flight in flights:
            for piece in flight.slices:
                piece.flights += 1
                piece.doubts += 1
                piece.waits = False
        return flights

    @property
    def waiting(self) -> bool:
        """
        Whether there is a batch to launch.
        """
        if self._loose and self._whose_turn(self._writers()) is not None:
            return True
        return any(window.open for window in self._windows.values())

    @property
    def busy(self) -> bool:
        """
        Whether a request has not ended.
        """
        return bool(self._requests)

    def stored(
        self, flight: Flight, position: Position, refused: Mapping[int, str], *, doubtful: bool = False
    ) -> None:
        """
        A node answered.

        :param position: where in its log the batch is.
        :param refused: slice of the batch -> why it was not stored.
        :param doubtful: what was refused may be stored all the same, if the node dies.
        """
        self._windows[flight.node].land(flight)
        for place_, piece in enumerate(flight.slices):
            piece.flights -= 1
            if place_ in refused and not doubtful:
                piece.doubts -= 1
            if piece.settled:
                continue
            if place_ in refused:
                self._retry_alone(piece, flight.node)
                continue
            piece.stored = True
            request = piece.request
            request.position = request.position.join(position)
            request.items_stored += len(piece.items.ids)
            if request.complete:
                del self._requests[request]
                request.end()
        self._place_waiting()

    def lost(self, flight: Flight) -> None:
        """
        A node is gone, with or without the batch.
        """
        self._windows[flight.node].land(flight)
        for piece in flight.slices:
            piece.flights -= 1
            if not piece.settled:
                self._retry_alone(piece, flight.node)
        self._place_waiting()

    def left(self, node: int) -> None:
        """
        A node takes no more writes: what was not yet sent to it goes elsewhere.
        """
        window = self._windows[node]
        for piece in [piece for flight in window.open for piece in flight.slices]:
            window.withdraw(piece)
            self._retry(piece, node)
        self._place_waiting()

    def tick(self, now: float) -> None:
        """
        Time has passed: slow nodes, deadlines.
        """
        self._loose_due = bool(self._loose)
        self._overdue = sum(
            len(flight.slices)
            for window in self._windows.values()
            for flight in window.flights
            if now - flight.since >= _PATIENCE
        )
        for window in self._windows.values():
            for flight in window.flights:
                if not flight.slow and now - flight.since >= self._limits.slow:
                    flight.slow = True
                    for piece in flight.slices:
                        if not (piece.settled or piece.waits) and piece.flights < _AT_ONCE:
                            self._retry(piece, flight.node)
        exhausted, self._exhausted = self._exhausted, []
        for piece in exhausted:
            if piece.flights == 0:
                piece.tried.clear()
            if not piece.settled:
                self._again.append(piece)
        self._place_waiting()
        self._expire(request for request in list(self._requests) if request.deadline <= now)

    def stop(self) -> None:
        """
        Answer everybody now.
        """
        self._expire(list(self._requests))

    def end_unsent(self) -> None:
        """
        Answer those now of whose requests no part is stored, or may be.
        """
        self._expire([request for request in self._requests if not request.doubtful])

    def _expire(self, requests: Iterable[Request]) -> None:
        for request in requests:
            for window in self._windows.values():
                for piece in request.slices:
                    window.withdraw(piece)
            del self._requests[request]
            request.end()
        for waiting in (self._queue, self._loose):
            while waiting and waiting[0].over:
                self._queued_bytes -= waiting.popleft().size

    def _wait(self, request: Request, waiting: deque[Request]) -> None:
        """
        Let a request wait for a node.

        :raises NotApplied: too many do.
        """
        size = request.size
        limits = self._limits
        number = len(self._queue) + len(self._loose)
        if number >= limits.queue_requests:
            raise NotApplied(f"{number} requests are waiting for a node, the most allowed", retry_after=1)
        if number and self._queued_bytes + size > limits.queue_bytes:
            raise NotApplied(
                f"requests of more than {limits.queue_bytes} bytes are waiting for a node", retry_after=1
            )
        waiting.append(request)
        self._queued_bytes += size

    def _retry_alone(self, piece: Slice, node: int) -> None:
        """
        Place a slice again unless another node has it on its way.
        """
        piece.tried.add(node)
        if piece.flights == 0 and not piece.waits:
            self._retry(piece, node)

    def _retry(self, piece: Slice, node: int) -> None:
        piece.tried.add(node)
        piece.waits = True
        self._again.append(piece)

    def _place_waiting(self) -> None:
        """
        Place what waits, in order, slices that already had a node first.
        """
        for _ in range(len(self._again)):
            piece = self._again.popleft()
            if piece.settled:
                continue
            writers = self._writers()
            others = [node for node in writers if node not in piece.tried]
            if not others:
                self._exhausted.append(piece)
            elif self._add(piece, others[self._turn % len(others)], others) is None:
                self._again.append(piece)
        while self._queue:
            request = self._queue[0]
            writers = self._writers()
            if not request.over and not self._place(request, writers, writers):
                return
            self._queue.popleft()
            self._queued_bytes -= request.size

    def _whose_turn(self, writers: Sequence[int]) -> int | None:
        """
        The place of the node that takes what is loose; `None` if it waits, and not too long yet.
        """
        gathers = self._gathers() and not self._loose_due
        turns = [(self._turn + place_) % len(writers) for place_ in range(len(writers))]
        for turn in turns:
            window = self._windows[writers[turn]]
            if window.fits_open(self._loose[0].size) or not (window.open or gathers or window.flights):
                return turn
        return turns[0] if turns and self._loose_due else None

    def _gathers(self) -> bool:
        """
        Whether more loose requests are worth waiting for: callers who are answered together ask together.
        """
        waiting = len(self._loose)
        under_way = len(self._requests) - waiting - len(self._queue) - self._overdue
        return waiting < under_way and self._queued_bytes < self._limits.batch_bytes

    def _place_loose(self) -> None:
        """
        Give each node that is free a batch of loose requests, but a single one to all if they are idle.
        """
        idle = not any(window.flights or window.open for window in self._windows.values())
        alone = idle and len(self._loose) == 1
        writers = self._writers() if self._loose else ()
        while self._loose and (turn := self._whose_turn(writers)) is not None:
            if not self._fill(writers if alone else [writers[turn]], writers):
                return
            self._loose_due = False
            self._turn = (turn + 1) % len(writers)

    def _fill(self, nodes: Sequence[int], writers: Sequence[int]) -> bool:
        """
        Place loose requests at these nodes until the batch of the first is full; whether any was placed.
        """
        window = self._windows[nodes[0]]
        progress = False
        while self._loose and (not window.open or window.fits_open(self._loose[0].size)):
            request = self._loose.popleft()
            progress = True
            if request.over or (not self._queue and self._place(request, nodes, writers)):
                self._queued_bytes -= request.size
            else:
                self._queue.append(request)
        return progress

    def _place(self, request: Request, nodes: Sequence[int], writers: Sequence[int]) -> bool:
        """
        Find room for every slice of a request, or for none.

        :param nodes: those it is cut over.
        :param writers: those that take what these have no room for.
        """
        if not nodes:
            return False
        placed: list[tuple[int, Slice]] = []
        for preferred, part, size in self._cut(request, nodes):
            piece = Slice(request, part, size)
            node = self._add(piece, preferred, writers)
            if node is None:
                for where, other in placed:
                    self._windows[where].withdraw(other)
                return False
            placed.append((node, piece))
        request.slices = [piece for _, piece in placed]
        return True

    def _cut(self, request: Request, nodes: Sequence[int]) -> Iterator[tuple[int, Columns, int]]:
        """
        The slices of a request, the node each prefers and their sizes: one per node, or several large ones.
        """
        limit = self._limits.slice
        items = request.items
        for preferred, first, end in place(len(items.ids), nodes, self._turn):
            whole = len(nodes) == 1
            part = items if whole else items.cut(first, end)
            size = request.size if whole else part.size()
            if size <= limit:
                yield preferred, part, size
            else:
                for piece in part.pieces(limit):
                    yield preferred, piece, piece.size()

    def _add(self, piece: Slice, preferred: int, nodes: Sequence[int]) -> int | None:
        for node in (preferred, *nodes):
            if self._windows[node].has_room(piece.size):
                self._windows[node].add(piece)
                return node
        return None
