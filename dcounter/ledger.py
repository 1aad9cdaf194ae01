"""
What a node knows: which tenant owns each ID since when, and so how many items each tenant owns.

The map is merged by the larger (stamp, tenant) and is therefore the same whatever the order, repetition or
division in which entries arrive (a last-writer-wins map, Shapiro et al., "Convergent and Commutative
Replicated Data Types", 2011). Counts are kept up to date entry by entry; a recount would give the same.
"""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOMBSTONE = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """
    The winning entry of one ID.

    :ivar tenant: the owner, or `None` if the ID was deleted.
    """

    stamp: int
    tenant: str | None


class Ledger:
    """
    The map of IDs and the counts per tenant.

    Entries are rows of columns, never removed, so that there is nothing for the garbage collector to walk
    and a copy can be taken piece by piece while merging goes on.
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._ids = array("q")
        self._stamps = array("q")
        self._owners = array("q")
        # Tenants are numbered; the number of a tenant that owns nothing any more is used again.
        self._numbers: dict[str | None, int] = {None: _TOMBSTONE}
        self._tenants: list[str | None] = [None]
        self._counts = [0]
        self._free: list[int] = []

    def __len__(self) -> int:
        """
        IDs that name a tenant.
        """
        return len(self._ids) - self._counts[_TOMBSTONE]

    @property
    def rows(self) -> int:
        """
        IDs known, deleted ones included.
        """
        return len(self._ids)

    def count(self, tenant: str) -> int:
        """
        How many items a tenant owns.
        """
        number = self._numbers.get(tenant)
        return 0 if number is None else self._counts[number]

    def get(self, item: int) -> Entry | None:
        """
        The winning entry of an ID; `None` if it was never stored.
        """
        row = self._rows.get(item)
        return None if row is None else Entry(self._stamps[row], self._tenants[self._owners[row]])

    def tenants(self) -> Iterator[tuple[str, int]]:
        """
        Each tenant that owns something, and how many items.
        """
        for tenant, number in self._numbers.items():
            if tenant is not None:
                yield tenant, self._counts[number]

    def merge(self, ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]) -> None:
        """
        Take in entries, columns of the same length; of two for one ID the larger (stamp, tenant) wins.
        """
        rows, all_stamps, owners, counts = self._rows, self._stamps, self._owners, self._counts
        for item, stamp, tenant in zip(ids, stamps, tenants, strict=True):
            row = rows.get(item)
            if row is None:
                number = self._number(tenant)
                rows[item] = len(self._ids)
                self._ids.append(item)
                all_stamps.append(stamp)
                owners.append(number)
                counts[number] += 1
                continue
            known = all_stamps[row]
            if stamp < known or (stamp == known and not self._wins_tie(tenant, owners[row])):
                continue
            all_stamps[row] = stamp
            old = owners[row]
            if self._tenants[old] != tenant:
                number = self._number(tenant)
                owners[row] = number
                counts[number] += 1
                counts[old] -= 1
                if counts[old] == 0 and old != _TOMBSTONE:
                    self._release(old)

    def pieces(self, size: int) -> Iterator[tuple[list[int], list[int], list[str | None]]]:
        """
        All entries as columns of at most `size` rows each, as they are when their piece is taken.

        Entries that come while this goes on are in a later piece or not at all; entries that change are
        given as they are then.
        """
        first = 0
        while first < len(self._ids):
            end = first + size
            yield (
                self._ids[first:end].tolist(),
                self._stamps[first:end].tolist(),
                [self._tenants[number] for number in self._owners[first:end]],
            )
            first = end

    def digest(self) -> str:
        """
        The same text for two ledgers that hold the same entries, whatever the order they came in.
        """
        total = 0
        for item, stamp, number in zip(self._ids, self._stamps, self._owners, strict=True):
            entry = repr((item, stamp, self._tenants[number])).encode()
            total ^= int.from_bytes(hashlib.blake2b(entry, digest_size=16).digest())
        return f"{len(self._ids)}-{total:032x}"

    def _wins_tie(self, tenant: str | None, owner: int) -> bool:
        # Code points of two texts compare as their UTF-8 bytes do.
        known = self._tenants[owner]
        return tenant is not None and (known is None or tenant > known)

    def _number(self, tenant: str | None) -> int:
        number = self._numbers.get(tenant)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._tenants[number] = tenant
            else:
                number = len(self._tenants)
                self._tenants.append(tenant)
                self._counts.append(0)
            self._numbers[tenant] = number
        return number

    def _release(self, number: int) -> None:
        del self._numbers[self._tenants[number]]
        self._tenants[number] = None
        self._free.append(number)
