"""
The ledger of a node: which tenant owns each ID since when, and how many items each tenant owns.

The map is merged by the larger (stamp, tenant) and is therefore the same whatever the order, repetition or
division in which entries arrive (a last-writer-wins map, Shapiro et al., "Convergent and Commutative
Replicated Data Types", 2011). Counts are kept up to date entry by entry; a recount would give the same.

Entries are merged many at a time, column by column, which is two to three times as fast as one by one. So
small merges wait for one another until a query needs them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from math import inf

import numpy as np

from dcounter.ledger.audit import Audit
from dcounter.ledger.compaction import compact
from dcounter.ledger.entries import Entries
from dcounter.ledger.export_lines import ExportedRows, export_lines, fitting
from dcounter.ledger.id_table import RowNumbers
from dcounter.ledger.item_pages import ItemPage, Scan
from dcounter.ledger.moment import Moment
from dcounter.ledger.owned_pages import OwnedPage, OwnedScan
from dcounter.ledger.receipts import Receipt, changes
from dcounter.ledger.rows import Ids, Owners, Rows, Stamps
from dcounter.ledger.statistics import Statistics, statistics
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.ledger.tally import Tally
from dcounter.ledger.tenant_pages import PrefixSum, TenantPage, TenantPages
from dcounter.ledger.tenants import TOMBSTONE, Tenants
from dcounter.ledger.touched import Touched

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
    :param sizes: how much each step of long work does.
    :ivar tally: counts what becomes of its items.
    """

    def __init__(self, seed: int = 0, sizes: StepSizes | None = None) -> None:
        self._sizes = sizes or StepSizes()
        self.tally = Tally()
        self._entries = Entries(seed)
        self._tenants = Tenants()
        self._pages = TenantPages(self._tenants, self.settle, self._sizes)
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
        self.settle()
        return len(self._entries) - int(self._tenants.counts[TOMBSTONE])

    @property
    def known(self) -> int:
        """
        How many IDs are known, including deleted ones.
        """
        self.settle()
        return len(self._entries)

    def count(self, tenant: str) -> int:
        """
        How many items a tenant owns.
        """
        self.settle()
        number = self._tenants.numbers.get(tenant)
        return 0 if number is None else int(self._tenants.counts[number])

    def get(self, item: int) -> Winner | None:
        """
        The winning entry of an ID; `None` if it was never stored.
        """
        return self.find([item])[0]

    def find(self, items: Sequence[int]) -> list[Winner | None]:
        """
        The winning entry of each of these IDs; `None` if it was never stored.
        """
        self.settle()
        stamps, owners, names = self._entries.stamps, self._entries.owners, self._tenants.names
        return [
            None if row < 0 else Winner(int(stamps[row]), names[owners[row]])
            for row in self._entries.table.find(np.array(items, np.int64)).tolist()
        ]

    def tenants(self) -> Iterator[tuple[str, int]]:
        """
        Each tenant that owns items, and how many it owns.
        """
        self.settle()
        for tenant, number in self._tenants.numbers.items():
            if tenant is not None:
                yield tenant, int(self._tenants.counts[number])

    # Questions about many entries: see `Steps` for how to take their steps

    def tenants_by_name(self, after: str = "", prefix: str = "", limit: int = 1000) -> Steps[TenantPage]:
        """
        Tenants with a prefix, in the order of their names as UTF-8 bytes.

        :param after: only larger names.
        """
        return self._pages.by_name(after, prefix, limit)

    def tenants_by_count(
        self, after: tuple[int, str] | None = None, prefix: str = "", limit: int = 1000
    ) -> Steps[TenantPage]:
        """
        Tenants with a prefix, those that own most first; of those that own as many, in the order of names.

        :param after: count and name of the last tenant on the page before.
        """
        return self._pages.by_count(after, prefix, limit)

    def prefix_sum(self, prefix: str) -> Steps[PrefixSum]:
        """
        How many items tenants with a prefix own together, and how many such tenants there are.
        """
        return self._pages.prefix_sum(prefix)

    def items_of(self, tenant: str, after: int | None = None, limit: int = 1000) -> Steps[ItemPage]:
        """
        IDs that a tenant owns, in order.

        :param after: only larger IDs.
        """
        self.settle()
        scan = Scan(self._entries, after, limit + 1, self._sizes.compared)
        number = yield from self._scan(scan, tenant)
        return scan.page(number, limit)

    def owned_by(self, tenant: str, until: int, begin: int = 0, limit: int = 1000) -> Steps[OwnedPage]:
        """
        Entries that name a tenant, with this stamp or an older one.

        :param begin: the row with which to begin; a page says where the next one does.
        """
        self.settle()
        scan = OwnedScan(self._entries, until, begin, limit, self._sizes.compared)
        number = yield from self._scan(scan, tenant)
        return scan.page(number)

    def _scan(self, scan: Scan | OwnedScan, tenant: str) -> Steps[int | None]:
        """
        Scan for a tenant to the end; returns its number, as it is then.
        """
        self._entries.watchers.append(scan)
        try:
            while not scan.complete:
                scan.step(self._tenants.numbers.get(tenant))
                yield
                self.settle()
        finally:
            self._entries.watchers.remove(scan)
        return self._tenants.numbers.get(tenant)

    def statistics(self) -> Statistics:
        """
        How much the ledger holds, and how much memory that takes.
        """
        self.settle()
        return statistics(self._entries, self._tenants, self._pages.nbytes)

    def audit(self, floor: int = -1) -> Audit:
        """
        A recount beside merging. It costs each merge something until it is closed.

        :param floor: tombstones at or below this stamp are in no digest.
        """
        return Audit(self._entries, self._tenants, self.settle, self._sizes, floor)

    def moment(self) -> Moment:
        """
        Remember what the rows are now, while others are merged. Each merge costs more until it is closed.
        """
        self.settle()
        return Moment(self._entries, self._tenants, self.settle, self._sizes)

    def touched(self) -> Touched:
        """
        The tenants whose counts change from now on. It costs each merge something until it is closed.
        """
        return Touched(self._tenants, self.settle)

    def compact(self, stamp: int) -> Steps[int]:
        """
        Drop tombstones at or below a stamp; returns how many.

        An older entry for such an ID would win again afterwards: the caller sees to it that there is none.
        Until copies of the ledger (`chunks`) that are under way end, or are closed, the steps only wait.
        """
        return compact(self._entries, self._tenants, self.settle, stamp, self._sizes)

    def reserve(self, rows: int) -> None:
        """
        Make room for this many IDs at once, if there are few yet.
        """
        self.settle()
        self._entries.table.reserve(min(rows, _RESERVED))

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
        self.settle()
        rows = self._entries.table.find(np.array(ids, np.int64))
        there = rows >= 0
        winners = zip(
            self._entries.stamps[rows[there]].tolist(),
            map(self._tenants.names.__getitem__, self._entries.owners[rows[there]].tolist()),
            strict=True,
        )
        known = dict(zip(compress(ids, there.tolist()), winners, strict=True))
        touched: set[str | None] = set()
        told = changes(zip(ids, stamps, tenants, strict=True), known, touched)
        self.merge(ids, stamps, tenants)
        self.settle()
        # In an order that is the same in each process: simulated worlds repeat their stories.
        names = sorted(tenant for tenant in touched if tenant is not None)
        counts = {tenant: self._tenants.count(tenant) for tenant in names}
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
        self._entries.walkers += 1
        try:
            self.settle()
            while first < len(self._entries):
                chunk = self._rows(slice(first, min(first + size, len(self._entries))))
                some = chunk.fitting(limit)
                if some < len(chunk.ids):
                    chunk = self._rows(slice(first, first + some))
                yield chunk
                first += len(chunk.ids)
                self.settle()
        finally:
            self._entries.walkers -= 1

    @property
    def numbering(self) -> int:
        """
        Which numbers rows have: changes when a compaction gives them others.
        """
        return self._entries.numbering

    def succeed(self, other: "Ledger") -> None:
        """
        Take the place of another one, whose rows have other numbers.
        """
        self._entries.numbering = other.numbering + 1

    def export(
        self,
        first: int,
        last: int,
        *,
        deleted: bool = False,
        may_read: Callable[[str], bool] | None = None,
        limit: float = inf,
    ) -> ExportedRows:
        """
        Rows as lines of JSON, as they are now.

        An ID keeps its row as long as `numbering` is the same. So whoever takes all rows that there are at
        one moment, at whatever moments after it, gets each ID that was known then, with that entry or a newer
        one.

        :param first: the number of the first row.
        :param last: the number of the row behind the last one.
        :param deleted: whether deleted IDs have lines, too.
        :param may_read: whether the items of a tenant have lines; deleted IDs then have none. `None`: those
            of all tenants have.
        :param limit: how many bytes of lines, at most, unless one line alone is larger.
        """
        self.settle()
        last = min(last, first + self._sizes.exported, len(self._entries))
        owners = self._entries.owners[first:last]
        kept = np.flatnonzero(owners >= (TOMBSTONE if deleted else TOMBSTONE + 1))
        names = [name or "" for name in map(self._tenants.names.__getitem__, owners[kept].tolist())]
        if may_read is not None:
            wanted = [i for i, name in enumerate(names) if name and may_read(name)]
            kept, names = kept[wanted], [names[i] for i in wanted]
        some = fitting(names, limit)
        if some < len(names):
            last = first + int(kept[some])
            kept, names = kept[:some], names[:some]
        ids = self._entries.table.ids[first:][kept]
        lines = export_lines(ids, self._entries.stamps[first:][kept], names)
        return ExportedRows(lines, len(names), last)

    def _rows(self, rows: slice) -> Rows:
        numbers, owners = np.unique(self._entries.owners[rows], return_inverse=True)
        return Rows(
            self._entries.table.ids[rows].copy(),
            self._entries.stamps[rows].copy(),
            owners.astype(np.int32),
            [self._tenants.names[number] for number in numbers],
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
            self.settle()

    def settle(self) -> None:
        """
        Merge the entries that wait.
        """
        if not self._waiting:
            return
        columns = [
            (each.ids, each.stamps, self._tenants.numbers_of(each.tenants)[each.owners])
            for each in self._waiting_rows
        ]
        if self._waiting_ids:
            ids = np.array(self._waiting_ids, np.int64)
            stamps = np.array(self._waiting_stamps, np.int64)
            columns.append((ids, stamps, self._tenants.numbers_of(self._waiting_tenants)))
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
        entries, tenants = self._entries, self._tenants
        before = len(entries.table)
        rows = entries.insert(ids)
        added = len(entries.table) - before
        tenants.counts[TOMBSTONE] += added
        if added == len(ids):
            # All IDs are new, and none occurs twice.
            entries.stamps[rows] = stamps
            self._move(rows, numbers)
            tenants.release([])
            return
        newer = np.flatnonzero(stamps > entries.stamps[rows])
        emptied = self._merge_newer(rows[newer], stamps[newer], numbers[newer])
        ties = np.flatnonzero((stamps == entries.stamps[rows]) & (numbers != entries.owners[rows]))
        for row, number in zip(rows[ties].tolist(), numbers[ties].tolist(), strict=True):
            owner = int(entries.owners[row])
            if self._wins_tie(number, owner):
                emptied.append(owner)
                tied, given = np.array([row]), np.array([number], np.int32)
                entries.about_to_change(tied)
                self.tally.add(entries.owners[tied], given)
                self._move(tied, given)
        tenants.release(emptied)

    def _merge_newer(self, rows: RowNumbers, stamps: Stamps, numbers: Owners) -> list[int]:
        """
        Merge entries that are newer than those in the table; of several for one row, one of the newest.

        :returns: numbers of tenants that may own nothing any more.
        """
        entries = self._entries
        if entries.watchers:
            entries.about_to_change(rows)
        np.maximum.at(entries.stamps, rows, stamps)
        newest = np.flatnonzero(entries.stamps[rows] == stamps)
        rows, numbers = rows[newest], numbers[newest]
        before = entries.owners[rows]
        # Of several with the same stamp, the one whose mark remains is taken, so that no row counts twice.
        marks = np.arange(len(rows), dtype=np.int32)
        entries.owners[rows] = marks
        marked = entries.owners[rows] == marks
        entries.owners[rows] = before
        if not marked.all():
            rows, numbers, before = rows[marked], numbers[marked], before[marked]
        self.tally.add(before, numbers)
        self._move(rows, numbers)
        emptied: list[int] = before[self._tenants.counts[before] == 0].tolist()
        return emptied

    def _move(self, rows: RowNumbers, numbers: Owners) -> None:
        """
        Give rows other owners; each row occurs only once.
        """
        counts, owners = self._tenants.counts, self._entries.owners
        before = owners[rows]
        for watcher in self._tenants.count_watchers:
            watcher.counts_change(before, numbers)
        np.subtract.at(counts, before, 1)
        owners[rows] = numbers
        np.add.at(counts, numbers, 1)

    def _wins_tie(self, number: int, owner: int) -> bool:
        # Code points of two texts compare as their UTF-8 bytes do.
        tenant, known = self._tenants.names[number], self._tenants.names[owner]
        return tenant is not None and (known is None or tenant > known)
