"""
Requests to store on their way, and the slices they are cut into.

Pure: `dcounter.coordinator.dispatch` decides where they go. Each request makes them, so they are Structs: a
dataclass takes several times as long.
"""

from collections.abc import Callable

from msgspec import Struct

from dcounter.coordinator.stamping import StampedItems
from dcounter.protocol.position import Position
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted

_NOWHERE = Position()


class Request(Struct, eq=False):
    """
    One caller's items on their way.

    :ivar deadline: when (s) the caller is answered at the latest.
    :ivar ended: called once, when all is stored or the deadline has passed.
    :ivar position: what is known to be stored.
    :ivar items_stored: how many items that is.
    :ivar size: about its bytes on the wire.
    :ivar receipt: the receipt that its caller wants; it then goes to one node, in a batch of its own.
    :ivar given: that receipt.
    """

    items: StampedItems
    deadline: float
    ended: Callable[["Request"], None]
    position: Position = _NOWHERE
    items_stored: int = 0
    over: bool = False
    slices: list["Slice"] = []
    size: int = 0
    receipt: ReceiptWanted | None = None
    given: ReceiptGiven | None = None
    _was_maybe_stored: bool = False

    def __post_init__(self) -> None:
        self.size = self.items.size()

    @property
    def maybe_stored(self) -> bool:
        """
        Whether any of it is stored, or may be: a node was sent it and did not say that it refused it.
        """
        return self._was_maybe_stored or any(each.stored or each.unrefused for each in self.slices)

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
        self._was_maybe_stored = self.maybe_stored
        # Slices refer to their request: without this, all items would wait for the garbage collector.
        self.slices = []
        self.ended(self)


class Slice(Struct, eq=False):
    """
    The part of a request that one node stores.

    :ivar tried: nodes that had their chance.
    :ivar flights: batches under way that hold this slice.
    :ivar unrefused: batches that held it, of which no node said that it did not store it.
    :ivar waits: whether it is about to be sent: in an open batch, or waiting for room in one.
    """

    request: Request
    items: StampedItems
    size: int
    tried: set[int] = set()
    flights: int = 0
    unrefused: int = 0
    waits: bool = True
    stored: bool = False

    @property
    def settled(self) -> bool:
        """
        Whether nothing is left to be done about it.
        """
        return self.stored or self.request.over
