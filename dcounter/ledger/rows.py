"""
Entries of a ledger as columns, the form in which they are merged, copied and kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcounter.limits import ITEM_BYTES

Ids = NDArray[np.int64]
Stamps = NDArray[np.int64]
Owners = NDArray[np.int32]

_SPARE = 2**16
"""
The most spare rows: new room is cleared at once, and takes 20 bytes per row.
"""


def _characters(tenant: str | None) -> int:
    # As JSON a character takes up to six bytes.
    return len(tenant or "")


def with_spare(rows: int) -> int:
    """
    For how many rows to make room when this many are needed. Spare ones let columns grow seldom.
    """
    return rows + min(rows // 8, _SPARE)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """
    Some entries of a ledger.

    :ivar ids: one ID per entry.
    :ivar stamps: one stamp per entry.
    :ivar owners: per entry, the index of its owner in `tenants`.
    :ivar tenants: names, each once; `None` owns deleted IDs.
    """

    ids: Ids
    stamps: Stamps
    owners: Owners
    tenants: Sequence[str | None]

    def packed(self) -> tuple[Ids, Stamps, Owners, Sequence[str | None]]:
        """
        The four columns.
        """
        return self.ids, self.stamps, self.owners, self.tenants

    def size(self) -> int:
        """
        About how many bytes the rows take on the wire, and never less than a sixth of that.
        """
        return ITEM_BYTES * len(self.ids) + sum(map(_characters, self.tenants))

    def fitting(self, limit: float) -> int:
        """
        How many of the first rows fit into a chunk of this size; at least one.
        """
        if self.size() <= limit:
            return len(self.ids)
        more = np.full(len(self.ids), ITEM_BYTES)
        # A name is included once, however many rows have it.
        owners, firsts = np.unique(self.owners, return_index=True)
        more[firsts] += [_characters(self.tenants[owner]) for owner in owners.tolist()]
        return max(1, int(np.searchsorted(np.cumsum(more), limit, side="right")))

    def entries(self) -> Iterator[tuple[int, int, str | None]]:
        """
        ID, stamp and tenant of each entry.
        """
        owners = (self.tenants[owner] for owner in self.owners.tolist())
        return zip(self.ids.tolist(), self.stamps.tolist(), owners, strict=True)
