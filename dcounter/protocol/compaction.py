"""
The messages with which a coordinator has all members drop old tombstones, in journals too.

`docs/protocol.md` says in which order they come, and why that is safe.
"""

from msgspec import Struct

from dcounter.protocol.batch import RequestId
from dcounter.protocol.position import Position, Stamp


class Compacted(Struct, frozen=True):
    """
    Tombstones at or below a stamp are dropped, or may be.

    :ivar stamp: the stamp.
    :ivar position: covers all batches with items at or below it that any node ever accepted.
    """

    stamp: Stamp
    position: Position


class SetFloor(Struct, frozen=True, tag="floor"):
    """
    Asks to refuse from now on new items with this stamp or an older one.

    Answered by `Agreed`, once that is durable.
    """

    request: RequestId
    stamp: Stamp


class Compact(Struct, frozen=True, tag="compact"):
    """
    Says that tombstones with this stamp or an older one are to be dropped. Answered by `Agreed`.

    :ivar position: as in `Compacted`. A node that does not cover it, durably, refuses.
    """

    request: RequestId
    stamp: Stamp
    position: Position


class Agreed(Struct, frozen=True, tag="agreed", omit_defaults=True):
    """
    The answer to `SetFloor` and `Compact`.

    :ivar applied: what the node has accepted or applied.
    :ivar refused: why it did not do it; empty if it did.
    """

    request: RequestId
    applied: Position
    stamp: Stamp
    refused: str = ""
