"""
The ledger of a node: which tenant owns each ID since when, and how many items each tenant owns.

The map is merged by the larger (stamp, tenant) and is therefore the same whatever the order, repetition or
division in which entries arrive (a last-writer-wins map, Shapiro et al., "Convergent and Commutative
Replicated Data Types", 2011). Counts are kept up to date entry by entry; a recount would give the same.

Entries are merged many at a time, column by column, which is two to three times as fast as one by one. So
small merges wait for one another until a query needs them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from math import inf

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.id_table import IdTable, RowNumbers
from dcounter.ledger.receipts import Receipt, changes
from dcounter.ledger.rows import Ids, Owners, Rows, Stamps, with_spare

_TOMBSTONE = 0

_NEVER = -1
"""
The stamp of a row that has no entry yet: smaller than any.
"""

_WAITING = 4096
"""
The most entries that wait to be merged.
"""

_RESERVED = 2**27
"""
The most IDs for which room is made at once: a peer that announces more may be wrong.
"""


@dataclass(frozen=True, slots=True)
class Winner:
    """
    The winning entry of one ID.

    :ivar tenant: the owner, or `None` if the ID was deleted.
    """

    stamp: int
    tenant: str | None


class Ledger:
    """
    The map of IDs and the counts per tenant.

    Entries are rows of columns and are never removed. So the garbage collector has nothing to walk, and a
    copy can be taken chunk by chunk while merging goes on.

    :param seed: see `IdTable`.
    """

    def __init__(self, seed: int = 0) -> None:
        self._table = IdTable(seed)
        self._stamps: Stamps = np.empty(0, np.int64)
        self._owners: Owners = np.empty(0, np.int32)
        # Tenants have numbers; that of a tenant that owns nothing any more is used again.
        self._numbers: dict[str | None, int] = {None: _TOMBSTONE}
        self._tenants: list[str | None] = [None]
        self._counts: NDArray[np.int64] = np.zeros(1, np.int64)
        self._free: list[int] = []
        self._new: list[int] = []
        # Entries that wait to be merged together: rows, and plain ones.
        self._waiting = 0
        self._waiting_rows: list[Rows] = []
        self._waiting_ids: list[int] = []
        self._waiting_stamps: list[int] = []
        self._waiting_tenants: list[str | None] = []

    def __len__(self) -> int:
        """
        How many IDs have a tenant.
        """
        self._merge_waiting()
        return len(self._table) - int(self._counts[_TOMBSTONE])

    @property
    def known(self) -> int:
        """
        How many IDs are known, including deleted ones.
        """
        self._merge_waiting()
        return len(self._table)

    def count(self, tenant: str) -> int:
        """
        How many items a tenant owns.
        """
        self._merge_waiting()
        number = self._numbers.get(tenant)
        return 0 if number is None else int(self._counts[number])

    def get(self, item: int) -> Winner | None:
        """
        The winning entry of an ID; `None` if it was never stored.
        """
        self._merge_waiting()
        row = int(self._table.find(np.array([item], np.int64))[0])
        return None if row < 0 else Winner(int(self._stamps[row]), self._tenants[self._owners[row]])

    def tenants(self) -> Iterator[tuple[str, int]]:
        """
        Each tenant that owns items, and how many it owns.
        """
        self._merge_waiting()
        for tenant, number in self._numbers.items():
            if tenant is not None:
                yield tenant, int(self._counts[number])

    def reserve(self, rows: int) -> None:
        """
        Make room for this many IDs at once, if there are few yet.
        """
        self._merge_waiting()
        self._table.reserve(min(rows, _RESERVED))

    def merge(self, ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]) -> None:
        """
        Merge entries, given as columns. Of two entries for one ID, the larger (stamp, tenant) wins.

        :raises ValueError: the columns differ in length.
        """
        if not len(ids) == len(stamps) == len(tenants):
            raise ValueError("columns differ in length")
        self._waiting_ids.extend(ids)
        self._waiting_stamps.extend(stamps)
        self._waiting_tenants.extend(tenants)
        self._wait(len(ids))

    def merge_with_receipt(
        self, ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]
    ) -> Receipt:
        """
        Merge entries like `merge`, at once, and tell what each of them changed.

        :raises ValueError: the columns differ in length.
        """
        if not len(ids) == len(stamps) == len(tenants):
            raise ValueError("columns differ in length")
        self._merge_waiting()
        rows = self._table.find(np.array(ids, np.int64))
        there = rows >= 0
        winners = zip(
            self._stamps[rows[there]].tolist(),
            map(self._tenants.__getitem__, self._owners[rows[there]].tolist()),
            strict=True,
        )
        known = dict(zip(compress(ids, there.tolist()), winners, strict=True))
        touched: set[str | None] = set()
        told = changes(zip(ids, stamps, tenants, strict=True), known, touched)
        self.merge(ids, stamps, tenants)
        self._merge_waiting()
        # In an order that is the same in each process: simulated worlds repeat their stories.
        names = sorted(tenant for tenant in touched if tenant is not None)
        counts = {tenant: self.count(tenant) for tenant in names}
        return Receipt(told, counts)

    def merge_rows(self, chunk: Rows) -> None:
        """
        Merge entries that are NumPy columns already.
        """
        if len(chunk.ids):
            self._waiting_rows.append(chunk)
            self._wait(len(chunk.ids))

    def chunks(self, size: int, limit: float = inf) -> Iterator[Rows]:
        """
        All entries in chunks, each as it is when its chunk is made.

        An ID that is added meanwhile is in a later chunk or in none.

        :param size: rows in a chunk, at most.
        :param limit: size (`Rows.size`) of a chunk, at most, unless one row alone is larger.
        """
        first = 0
        self._merge_waiting()
        while first < len(self._table):
            chunk = self._rows(slice(first, min(first + size, len(self._table))))
            fitting = chunk.fitting(limit)
            if fitting < len(chunk.ids):
                chunk = self._rows(slice(first, first + fitting))
            yield chunk
            first += len(chunk.ids)
            self._merge_waiting()

    def _rows(self, rows: slice) -> Rows:
        numbers, owners = np.unique(self._owners[rows], return_inverse=True)
        return Rows(
            self._table.ids[rows].copy(),
            self._stamps[rows].copy(),
            owners.astype(np.int32),
            [self._tenants[number] for number in numbers],
        )

    def digest(self) -> str:
        """
        A text that is the same for two ledgers with the same entries, in whatever order they arrived.
        """
        total = 0
        for chunk in self.chunks(_WAITING):
            for entry in chunk.entries():
                code = hashlib.blake2b(repr(entry).encode(), digest_size=16).digest()
                total ^= int.from_bytes(code)
        return f"{self.known}-{total:032x}"

    # Merging

    def _wait(self, more: int) -> None:
        self._waiting += more
        if self._waiting >= _WAITING:
            self._merge_waiting()

    def _merge_waiting(self) -> None:
        if not self._waiting:
            return
        columns = [
            (each.ids, each.stamps, self._numbers_of(each.tenants)[each.owners])
            for each in self._waiting_rows
        ]
        if self._waiting_ids:
            ids = np.array(self._waiting_ids, np.int64)
            stamps = np.array(self._waiting_stamps, np.int64)
            columns.append((ids, stamps, self._numbers_of(self._waiting_tenants)))
            self._waiting_ids, self._waiting_stamps, self._waiting_tenants = [], [], []
        self._waiting, self._waiting_rows = 0, []
        if len(columns) == 1:
            self._merge(*columns[0])
        else:
            ids, stamps, numbers = map(np.concatenate, zip(*columns, strict=True))
            self._merge(ids, stamps, numbers)

    def _merge(self, ids: Ids, stamps: Stamps, numbers: Owners) -> None:
        """
        Merge entries whose tenants are given as numbers.
        """
        before = len(self._table)
        rows = self._insert(ids)
        if len(self._table) == before + len(ids):
            # All IDs are new, and none occurs twice.
            self._stamps[rows] = stamps
            self._move(rows, numbers)
            self._release([])
            return
        newer = np.flatnonzero(stamps > self._stamps[rows])
        emptied = self._merge_newer(rows[newer], stamps[newer], numbers[newer])
        ties = np.flatnonzero((stamps == self._stamps[rows]) & (numbers != self._owners[rows]))
        for row, number in zip(rows[ties].tolist(), numbers[ties].tolist(), strict=True):
            if self._wins_tie(number, int(self._owners[row])):
                emptied.append(int(self._owners[row]))
                self._move(np.array([row]), np.array([number], np.int32))
        self._release(emptied)

    def _insert(self, ids: Ids) -> RowNumbers:
        """
        The row of each ID. A new row is a tombstone that is older than any stamp.
        """
        before = len(self._table)
        rows = self._table.insert(ids)
        now = len(self._table)
        if now > len(self._stamps):
            self._stamps.resize(with_spare(now), refcheck=False)
            self._owners.resize(with_spare(now), refcheck=False)
        self._stamps[before:now] = _NEVER
        self._owners[before:now] = _TOMBSTONE
        self._counts[_TOMBSTONE] += now - before
        return rows

    def _merge_newer(self, rows: RowNumbers, stamps: Stamps, numbers: Owners) -> list[int]:
        """
        Merge entries that are newer than those in the table; of several for one row, one of the newest.

        :returns: numbers of tenants that may own nothing any more.
        """
        np.maximum.at(self._stamps, rows, stamps)
        newest = np.flatnonzero(self._stamps[rows] == stamps)
        rows, numbers = rows[newest], numbers[newest]
        before = self._owners[rows]
        # Of several with the same stamp, the one whose mark remains is taken, so that no row counts twice.
        marks = np.arange(len(rows), dtype=np.int32)
        self._owners[rows] = marks
        marked = self._owners[rows] == marks
        self._owners[rows] = before
        if not marked.all():
            rows, numbers, before = rows[marked], numbers[marked], before[marked]
        self._move(rows, numbers)
        emptied: list[int] = before[self._counts[before] == 0].tolist()
        return emptied

    def _move(self, rows: RowNumbers, numbers: Owners) -> None:
        """
        Give rows other owners; each row occurs only once.
        """
        np.subtract.at(self._counts, self._owners[rows], 1)
        self._owners[rows] = numbers
        np.add.at(self._counts, numbers, 1)

    def _wins_tie(self, number: int, owner: int) -> bool:
        # Code points of two texts compare as their UTF-8 bytes do.
        tenant, known = self._tenants[number], self._tenants[owner]
        return tenant is not None and (known is None or tenant > known)

    # Tenants

    def _numbers_of(self, tenants: Sequence[str | None]) -> Owners:
        try:
            return np.fromiter(map(self._numbers.__getitem__, tenants), np.int32, len(tenants))
        except KeyError:
            return np.fromiter(map(self._number, tenants), np.int32, len(tenants))

    def _number(self, tenant: str | None) -> int:
        number = self._numbers.get(tenant)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._tenants[number] = tenant
            else:
                number = len(self._tenants)
                self._tenants.append(tenant)
                if number == len(self._counts):
                    self._counts.resize(2 * number, refcheck=False)
            self._numbers[tenant] = number
            self._new.append(number)
        return number

    def _release(self, emptied: list[int]) -> None:
        """
        Drop tenants that own nothing: those that lost their last item, and new ones that never had one.
        """
        new, self._new = self._new, []
        for number in {*emptied, *new}:
            if self._counts[number] == 0 and number != _TOMBSTONE:
                del self._numbers[self._tenants[number]]
                self._tenants[number] = None
                self._free.append(number)
