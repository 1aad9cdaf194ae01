"""
The entries that name a tenant, page by page, in order to delete them.

A page takes the entries in the order of their rows. So a walk over all pages looks at each row about once,
however many there are. It may meet an entry twice, or miss one that changes meanwhile. Only a page that began
with the first row and is the last one says for certain what there is.
"""

from dataclasses import dataclass

import numpy as np

from dcounter.ledger.entries import Entries
from dcounter.ledger.id_table import RowNumbers
from dcounter.ledger.item_pages import ChangedRows
from dcounter.ledger.rows import Ids, Stamps


@dataclass(frozen=True, slots=True, eq=False)
class OwnedPage:
    """
    Some entries that name a tenant, as at one moment.

    :ivar next: the row with which the next page begins; `None` if all rows were looked at.
    """

    ids: Ids
    stamps: Stamps
    next: int | None


class OwnedScan:
    """
    Looks for entries of a tenant, while entries are merged.

    :param until: only entries with this stamp or an older one count.
    :param begin: the first row.
    :param wanted: how many entries to find.
    :param size: rows that a step looks at.
    """

    def __init__(self, entries: Entries, until: int, begin: int, wanted: int, size: int) -> None:
        self._entries = entries
        self._until = until
        self._wanted = wanted
        self._size = size
        self._begin_at(min(begin, len(entries)))

    def _begin_at(self, row: int) -> None:
        self._next = row
        self._found: list[RowNumbers] = []
        self._room = self._wanted
        self._changed = ChangedRows()

    def rows_renumbered(self) -> None:
        self._begin_at(0)

    def rows_change(self, rows: RowNumbers) -> None:
        self._changed.note(rows[rows < self._next])

    @property
    def complete(self) -> bool:
        """
        Whether as many were found as are wanted, or all rows were looked at.
        """
        return not self._room or self._next == len(self._entries)

    def step(self, number: int | None) -> None:
        """
        Look at the next rows.

        :param number: the tenant's, at this moment.
        """
        begin, self._next = self._next, min(self._next + self._size, len(self._entries))
        if number is None:
            return
        owned = self._entries.owners[begin : self._next] == number
        owned &= self._entries.stamps[begin : self._next] <= self._until
        rows = begin + np.flatnonzero(owned)
        if len(rows) > self._room:
            rows = rows[: self._room]
            self._next = int(rows[-1]) + 1
        self._found.append(rows)
        self._room -= len(rows)

    def page(self, number: int | None) -> OwnedPage:
        """
        The page: of the entries that were found, and of those that changed since, what the tenant owns now.
        """
        rows = np.concatenate([*self._found, np.empty(0, np.int64)])
        if self._changed:
            rows = np.union1d(rows, self._changed.take())
        owned = self._entries.owners[rows] == (-1 if number is None else number)
        rows = rows[owned & (self._entries.stamps[rows] <= self._until)][: self._wanted]
        following = None if self._next == len(self._entries) else self._next
        return OwnedPage(self._entries.table.ids[rows], self._entries.stamps[rows], following)
