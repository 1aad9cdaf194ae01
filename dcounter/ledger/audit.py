"""
A recount of a ledger that goes on beside merging, and digests of what each tenant owns.

The recount looks at every row, slice by slice. A row that changes after it was counted is taken out again,
and counted anew with one of the next slices. So whenever no row is left, counts and digests are those of the
rows at that moment, and are not made from the counts that the ledger keeps. An audit that stays open follows
each merge from then on, and can be asked again later: that is how nodes compare at one position.

A digest is the sum of one number per entry, mixed from ID, stamp and tenant: it does not depend on the order
of entries, and entries can be taken out. Chance hides a difference once in 2 to the power of 64. It is no
protection against someone who chooses entries in order to hide one.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.entries import Entries
from dcounter.ledger.id_table import RowNumbers
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.ledger.tenants import TOMBSTONE, Tenants
from dcounter.ledger.walk import Walk

_Words = NDArray[np.uint64]

# Odd constants of splitmix64; see `dcounter.ledger.id_table`.
_MULTIPLIER_0 = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)

_BITS = 64


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


@dataclass(frozen=True, slots=True)
class Digest:
    """
    What some entries are, in short.

    :ivar count: how many there are.
    :ivar sum: equal for equal entries.
    """

    count: int
    sum: int


class Audit:
    """
    Counts all rows anew. While one is open, each merge costs more; `close` ends it.

    The answers (`wrong`, `total`, `of`, `groups`, `in_group`) are those of the moment at which `steps` came
    to its end, and must be taken before anything else is merged.

    :param settle: merges the entries that wait.
    """

    def __init__(
        self, entries: Entries, tenants: Tenants, settle: Callable[[], None], sizes: StepSizes
    ) -> None:
        self._entries = entries
        self._tenants = tenants
        self._settle = settle
        self._sizes = sizes
        self._hashes: _Words = np.zeros(len(tenants.counts), np.uint64)
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
        self._counts: NDArray[np.int64] = np.zeros(len(self._hashes), np.int64)
        self._sums: _Words = np.zeros(len(self._hashes), np.uint64)
        self._walk = Walk(self._entries)

    def rows_change(self, rows: RowNumbers) -> None:
        rows = self._walk.again(rows)
        if len(rows):
            owners, mixed = self._mixed(rows)
            np.subtract.at(self._counts, owners, 1)
            np.subtract.at(self._sums, owners, mixed)

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

    def wrong(self) -> list[Difference]:
        """
        Counts that the ledger keeps, and that are not what its rows say.
        """
        size = len(self._tenants.names)
        kept, names = self._tenants.counts, self._tenants.names
        differing = np.flatnonzero(self._counts[:size] != kept[:size]).tolist()
        return [Difference(names[each], int(kept[each]), int(self._counts[each])) for each in differing]

    def total(self) -> Digest:
        """
        Of all entries, including deleted ones.
        """
        return Digest(int(self._counts.sum()), int(self._sums.sum()))

    def of(self, tenants: Iterable[str | None]) -> dict[str | None, Digest]:
        """
        Of these tenants; `None` stands for deleted IDs.
        """
        numbers = self._tenants.numbers
        return {each: self._digest(numbers[each]) if each in numbers else Digest(0, 0) for each in tenants}

    def groups(self, bits: int) -> list[Digest]:
        """
        Of tenants in groups, by the first bits of their hashes: nodes that differ compare these first.
        """
        groups = self._groups(bits)
        counts, sums = np.zeros(1 << bits, np.int64), np.zeros(1 << bits, np.uint64)
        np.add.at(counts, groups, self._counts[: self._hashed])
        np.add.at(sums, groups, self._sums[: self._hashed])
        return [Digest(count, each) for count, each in zip(counts.tolist(), sums.tolist(), strict=True)]

    def in_group(self, bits: int, group: int) -> dict[str | None, Digest]:
        """
        Of each tenant in a group.
        """
        members = (self._groups(bits) == group) & (self._counts[: self._hashed] != 0)
        return {self._tenants.names[each]: self._digest(each) for each in np.flatnonzero(members).tolist()}

    def _groups(self, bits: int) -> NDArray[np.int64]:
        groups: NDArray[np.int64] = (self._hashes[: self._hashed] >> np.uint64(_BITS - bits)).astype(np.int64)
        return groups

    def _digest(self, number: int) -> Digest:
        return Digest(int(self._counts[number]), int(self._sums[number]))

    def _hash(self) -> bool:
        """
        Hash more names; whether all are hashed now.
        """
        names = self._tenants.names
        size = len(self._tenants.counts)
        if size > len(self._hashes):
            for column in (self._hashes, self._counts, self._sums):
                column.resize(size, refcheck=False)
        some = [self._renamed.pop() for _ in range(min(self._sizes.names, len(self._renamed)))]
        more = range(self._hashed, min(self._hashed + self._sizes.names - len(some), len(names)))
        self._hashed += len(more)
        some += more
        if some:
            self._hashes[some] = [_hash_of(names[each]) for each in some]
        return not self._renamed and self._hashed == len(names)

    def _count(self) -> bool:
        """
        Count more rows; whether all are counted now.
        """
        rows = self._walk.take(self._sizes.counted)
        owners, mixed = self._mixed(rows)
        np.add.at(self._counts, owners, 1)
        np.add.at(self._sums, owners, mixed)
        return self._walk.complete

    def _mixed(self, rows: RowNumbers) -> tuple[NDArray[np.int32], _Words]:
        """
        The owner of each row, and its part of the digest.
        """
        owners = self._entries.owners[rows]
        mixed: _Words = self._entries.table.ids[rows].view(np.uint64) * _MULTIPLIER_0
        mixed += self._hashes[owners]
        mixed = (mixed ^ (mixed >> _30)) * _MULTIPLIER_1
        mixed += self._entries.stamps[rows].view(np.uint64)
        mixed = (mixed ^ (mixed >> _27)) * _MULTIPLIER_2
        return owners, mixed ^ (mixed >> _31)


def _hash_of(tenant: str | None) -> int:
    if tenant is None:
        return TOMBSTONE
    return int.from_bytes(hashlib.blake2b(tenant.encode(), digest_size=_BITS // 8).digest())
