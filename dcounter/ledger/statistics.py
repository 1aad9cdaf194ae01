"""
How much a ledger holds, and how much memory that takes.
"""

import sys
from dataclasses import dataclass
from itertools import islice

from dcounter.ledger.entries import Entries
from dcounter.ledger.tenants import TOMBSTONE, Tenants

_SAMPLE = 1000
"""
Names that are measured; the rest is taken to be as long as these.
"""

_NUMBER = 32
"""
Bytes of an integer object.
"""

_ROW = 20
"""
Bytes of a row: ID, stamp and owner.
"""

_SLOT = 4
"""
Bytes of a slot of the hash table, of which there are two to four per row.
"""


@dataclass(frozen=True, slots=True)
class Statistics:
    """
    The size of a ledger.

    :ivar items: IDs that a tenant owns.
    :ivar tenants: tenants that own items.
    :ivar tombstones: IDs that are deleted.
    :ivar row_bytes: memory of the columns and the hash table, as allocated.
    :ivar tenant_bytes: memory of names and counts: what their containers take, and an estimate for the names.
    """

    items: int
    tenants: int
    tombstones: int
    row_bytes: int
    tenant_bytes: int

    @property
    def bytes(self) -> int:
        return self.row_bytes + self.tenant_bytes

    def bytes_for(self, times: int) -> int:
        """
        About how many bytes this many times as much of everything would take.
        """
        rows = times * (self.items + self.tombstones)
        # See `IdTable`: the table is doubled when it is half full.
        slots = 1 << (2 * rows).bit_length()
        return _ROW * rows + _SLOT * slots + times * self.tenant_bytes


def statistics(entries: Entries, tenants: Tenants, order_bytes: int) -> Statistics:
    """
    Of these columns.

    :param order_bytes: what an order of names takes.
    """
    tombstones = int(tenants.counts[TOMBSTONE])
    names = list(islice((name for name in tenants.numbers if name is not None), _SAMPLE))
    texts = sum(map(sys.getsizeof, names)) * len(tenants) // len(names) if names else 0
    return Statistics(
        items=len(entries) - tombstones,
        tenants=len(tenants),
        tombstones=tombstones,
        row_bytes=entries.table.nbytes + entries.stamps.nbytes + entries.owners.nbytes,
        tenant_bytes=sys.getsizeof(tenants.numbers)
        + sys.getsizeof(tenants.names)
        + tenants.counts.nbytes
        + order_bytes
        + texts
        + _NUMBER * len(tenants),
    )
