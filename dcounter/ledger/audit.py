"""
A recount of a ledger that goes on beside merging, and digests of its entries.

The recount looks at every row, slice by slice. A row that changes after it was counted is taken out again,
and counted anew with one of the next slices. So whenever no row is left, counts and digests are those of the
rows at that moment, and are not made from the counts that the ledger keeps. An audit that stays open follows
each merge from then on, and can be asked again later.

A digest is the sum of one number per entry, mixed from ID, stamp and tenant: it does not depend on the order
of entries, and entries can be taken out. There is one for each group of IDs, so that two ledgers that differ
need compare only some of their rows. Chance hides a difference once in 2 to the power of 64. It is no
protection against someone who chooses entries in order to hide one.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.entries import Entries
from dcounter.ledger.id_table import RowNumbers
from dcounter.ledger.rows import Ids, Owners, Stamps
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.ledger.tenants import TOMBSTONE, Tenants
from dcounter.ledger.walk import Walk

Words = NDArray[np.uint64]

# Odd constants of splitmix64; see `dcounter.ledger.id_table`.
_MULTIPLIER_0 = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)

_BITS = 64

_DELETED = 0x6A09E667F3BCC909
"""
The hash of deleted IDs. Not 0: ID 0, deleted at stamp 0, would be in no digest.
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    A count that is wrong.

    :ivar tenant: `None` for deleted IDs, and for rows whose tenant has lost its name.
    :ivar kept: what the ledger says.
    :ivar counted: how many rows there are.
    """

    tenant: str | None
    kept: int
    counted: int


GROUP_BITS = 16
"""
IDs are in 2 to the power of this many groups, by a hash of theirs. Fewer groups are sums of several.
"""


class Audit:
    """
    Counts all rows anew. While one is open, each merge costs more; `close` ends it.

    The answers (`counts`, `sums`, `wrong`) are those of the moment at which `steps` came to its end, and must
    be taken before anything else is merged.

    :param settle: merges the entries that wait.
    :param floor: tombstones at or below this stamp are in no digest: a compaction may have dropped them.
    :ivar counts: how many rows each number of a tenant owns. It may be longer than the ledger's own.
    :ivar sums: the digest of each group of IDs.
    """

    counts: NDArray[np.int64]
    sums: Words

    def __init__(
        self,
        entries: Entries,
        tenants: Tenants,
        settle: Callable[[], None],
        sizes: StepSizes,
        floor: int = -1,
    ) -> None:
        self._entries = entries
        self._tenants = tenants
        self._settle = settle
        self._sizes = sizes
        self._floor = floor
        self._hashes: Words = np.zeros(len(tenants.counts), np.uint64)
        # Numbers below this have a hash, but for those that were renamed since.
        self._hashed = 0
        self._renamed: set[int] = set()
        self.rows_renumbered()
        settle()
        entries.watchers.append(self)
        tenants.watchers.append(self)

    def close(self) -> None:
        self._entries.watchers.remove(self)
        self._tenants.watchers.remove(self)

    # What happens to the ledger

    def renamed(self, number: int, old: str | None) -> None:
        if number < self._hashed:
            self._renamed.add(number)

    def rows_renumbered(self) -> None:
        self.counts = np.zeros(len(self._hashes), np.int64)
        self.sums = np.zeros(1 << GROUP_BITS, np.uint64)
        self._walk = Walk(self._entries)

    def rows_change(self, rows: RowNumbers) -> None:
        rows = self._walk.again(rows)
        if len(rows):
            owners, groups, mixed = self._mixed(rows)
            np.subtract.at(self.counts, owners, 1)
            np.subtract.at(self.sums, groups, mixed)

    # Counting

    def steps(self) -> Steps[None]:
        """
        Count until no row is left. Call it again to ask at a later moment: then only what changed is left.
        """
        self._settle()
        # Only the last step looks whether anything is left: merges go on between steps, and bring something.
        while not (self._hash() and self._count()):
            yield
            self._settle()

    def progress(self) -> tuple[int, int]:
        """
        How many rows were counted, and how many there are.
        """
        return self._walk.taken, len(self._entries)

    def wrong(self) -> list[int]:
        """
        Numbers of the tenants whose counts are not what their rows say.
        """
        size = len(self._tenants.names)
        found: list[int] = np.flatnonzero(self.counts[:size] != self._tenants.counts[:size]).tolist()
        return found

    def difference(self, number: int) -> Difference:
        """
        What the ledger says of a tenant, and what its rows say.
        """
        kept = int(self._tenants.counts[number])
        return Difference(self._tenants.names[number], kept, int(self.counts[number]))

    def _hash(self) -> bool:
        """
        Hash more names; whether all are hashed now.
        """
        names = self._tenants.names
        size = len(self._tenants.counts)
        if size > len(self._hashes):
            for column in (self._hashes, self.counts):
                column.resize(size, refcheck=False)
        some = [self._renamed.pop() for _ in range(min(self._sizes.names, len(self._renamed)))]
        more = range(self._hashed, min(self._hashed + self._sizes.names - len(some), len(names)))
        self._hashed += len(more)
        some += more
        if some:
            self._hashes[some] = [hash_of(names[each]) for each in some]
        return not self._renamed and self._hashed == len(names)

    def _count(self) -> bool:
        """
        Count more rows; whether all are counted now.
        """
        rows = self._walk.take(self._sizes.counted)
        owners, groups, mixed = self._mixed(rows)
        np.add.at(self.counts, owners, 1)
        np.add.at(self.sums, groups, mixed)
        return self._walk.complete

    def _mixed(self, rows: RowNumbers) -> tuple[Owners, RowNumbers, Words]:
        """
        The owner of each row, its group, and its part of the digest of that.
        """
        owners, stamps = self._entries.owners[rows], self._entries.stamps[rows]
        ids = self._entries.table.ids[rows]
        mixed = mix(ids, stamps, self._hashes[owners])
        mixed[(owners == TOMBSTONE) & (stamps <= self._floor)] = 0
        return owners, group_of(ids), mixed


def mix(ids: Ids, stamps: Stamps, hashes: Words) -> Words:
    """
    The part that each entry has in a digest.

    :param hashes: of the tenants, see `hash_of`.
    """
    mixed: Words = ids.view(np.uint64) * _MULTIPLIER_0
    mixed += hashes
    mixed = (mixed ^ (mixed >> _30)) * _MULTIPLIER_1
    mixed += stamps.view(np.uint64)
    mixed = (mixed ^ (mixed >> _27)) * _MULTIPLIER_2
    return mixed ^ (mixed >> _31)


def group_of(ids: Ids, bits: int = GROUP_BITS) -> RowNumbers:
    """
    The group of each ID, if there are 2 to the power of `bits` groups.
    """
    mixed: Words = ids.view(np.uint64) * _MULTIPLIER_1
    mixed = (mixed ^ (mixed >> _30)) * _MULTIPLIER_2
    groups: RowNumbers = (mixed >> np.uint64(_BITS - GROUP_BITS)).astype(np.int64)
    return groups >> (GROUP_BITS - bits)


def hash_of(tenant: str | None) -> int:
    """
    A number for a tenant, the same in all nodes and versions.
    """
    if tenant is None:
        return _DELETED
    return int.from_bytes(hashlib.blake2b(tenant.encode(), digest_size=_BITS // 8).digest())
