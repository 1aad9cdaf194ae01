"""
The messages that bring a copy of a ledger to a node, in journals too.
"""

import numpy as np
from msgspec import Struct

from dcounter.protocol.batch import INT, LONG, Natural, Packed, Tenant, check_columns, unknown_needs
from dcounter.protocol.compaction import Compacted
from dcounter.protocol.position import LostRun, NodeId, Opening, Position, Stamp


class Copy(Struct, frozen=True, tag="copy"):
    """
    Asks for a copy of the ledger.
    """


class CopyBegin(Struct, frozen=True, tag="copy_begin", omit_defaults=True):
    """
    A ledger follows in chunks, which include all of a position and may include more.

    :ivar entries: about how many follow.
    :ivar compacted: the giver's last compaction: it has no tombstones with its stamp or an older one.
    :ivar needs: names of additions without which the chunks would be misread, as in a batch.
    """

    position: Position
    openings: dict[NodeId, list[Opening]]
    lost: list[LostRun]
    entries: Natural = 0
    needs: list[str] = []
    compacted: Compacted | None = None

    def __post_init__(self) -> None:
        unknown = unknown_needs(self.needs) if self.needs else None
        if unknown:
            raise ValueError(
                f"this version of dcounter does not know what the copy needs: {', '.join(unknown)}"
            )


class CopyChunk(Struct, frozen=True, tag="copy_piece"):
    """
    Some entries of the ledger, as columns of little-endian numbers, in base64 in JSON.

    :ivar ids: 8 bytes per entry.
    :ivar stamps: 8 bytes per entry.
    :ivar owners: 4 bytes per entry: the index of the owner in `tenants`.
    :ivar tenants: names; `None` owns deleted IDs.
    :ivar position: nothing in this chunk lies beyond it.
    """

    ids: bytes
    stamps: bytes
    owners: bytes
    tenants: list[Tenant | None]
    position: Position

    def __post_init__(self) -> None:
        entries = len(self.owners) // 4
        if (len(self.ids), len(self.stamps), len(self.owners)) != (8 * entries, 8 * entries, 4 * entries):
            raise ValueError("columns of a chunk differ in length")
        check_columns(self.owners, self.tenants, self.stamps)

    @classmethod
    def of(cls, packed: Packed, position: Position) -> "CopyChunk":
        """
        Make a chunk of entries.
        """
        ids, stamps, owners, tenants = packed
        return cls(
            ids.astype(LONG, copy=False).tobytes(),
            stamps.astype(LONG, copy=False).tobytes(),
            owners.astype(INT, copy=False).tobytes(),
            list(tenants),
            position,
        )

    def packed(self) -> Packed:
        """
        The entries.
        """
        return (
            np.frombuffer(self.ids, LONG),
            np.frombuffer(self.stamps, LONG),
            np.frombuffer(self.owners, INT),
            self.tenants,
        )


class CopyEnd(Struct, frozen=True, tag="copy_end"):
    """
    The ledger is complete; nothing in its chunks lies beyond this position.
    """

    position: Position
    stamp: Stamp
