"""
What is under way to each node: batches, and how much of them a node may have at once.
"""

from dataclasses import dataclass, field
from itertools import chain

from dcounter.coordinator.requests import Slice
from dcounter.limits import Limits
from dcounter.protocol.batch import Batch


@dataclass(slots=True, eq=False)
class Flight:
    """
    One batch to a node: being filled, or on its way.

    :ivar since: when (s) it was sent.
    :ivar slow: its slices were given to other nodes as well.
    :ivar full: it takes no further slice.
    """

    node: int
    slices: list[Slice] = field(default_factory=list)
    size: int = 0
    since: float = 0.0
    slow: bool = False
    full: bool = False

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


class Window:
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

    @property
    def batches(self) -> int:
        """
        How many batches are under way, or being filled.
        """
        return len(self.flights) + len(self.open)

    @property
    def size(self) -> int:
        """
        Their bytes.
        """
        return self._bytes

    def has_room(self, size: int) -> bool:
        busy = self.batches
        if not busy:
            return True
        if self._bytes + size > self._limits.window_bytes:
            return False
        return self.fits_open(size) or busy < self._limits.window_batches

    def fits_open(self, size: int) -> bool:
        if not self.open or self.open[-1].full:
            return False
        return self.open[-1].size + size <= self._limits.batch_bytes

    def add(self, slice_: Slice) -> None:
        if not self.fits_open(slice_.size):
            self.open.append(Flight(self._node))
        self.open[-1].slices.append(slice_)
        self.open[-1].size += slice_.size
        self._bytes += slice_.size

    def add_alone(self, slice_: Slice) -> None:
        """
        Add a slice that shares its batch with no other.
        """
        self.open.append(Flight(self._node, [slice_], slice_.size, full=True))
        self._bytes += slice_.size

    def withdraw(self, slice_: Slice) -> None:
        for flight in self.open:
            if slice_ in flight.slices:
                flight.slices.remove(slice_)
                flight.size -= slice_.size
                self._bytes -= slice_.size
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
