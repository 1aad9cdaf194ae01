"""
The IDs that a tenant owns, page by page.

No index: all owners are compared. NumPy does that for ten million in less time than a page may take.
"""

from dataclasses import dataclass

import numpy as np

from dcounter.ledger.entries import Entries
from dcounter.ledger.id_table import RowNumbers
from dcounter.ledger.rows import Ids

_NOTED = 2**16
"""
When more rows than this were noted, those that occur twice are dropped.
"""


@dataclass(frozen=True, slots=True)
class ItemPage:
    """
    Some IDs that a tenant owns, as at one moment.

    :ivar ids: in ascending order.
    :ivar after: the next page begins after this ID; `None` if there is none. A page may be shorter than was
        asked for, or even empty, and still have a next one.
    """

    ids: list[int]
    after: int | None


class ChangedRows:
    """
    Rows that changed after a scan looked at them; it takes bounded room however often they do.
    """

    def __init__(self) -> None:
        self._parts: list[RowNumbers] = []
        self._room = _NOTED

    def __bool__(self) -> bool:
        return bool(self._parts)

    def note(self, rows: RowNumbers) -> None:
        """
        These have changed.
        """
        if len(rows):
            self._parts.append(rows)
            self._room -= len(rows)
            if self._room < 0:
                self._parts = [self._all()]
                self._room = max(_NOTED, len(self._parts[0]))

    def take(self) -> RowNumbers:
        """
        All of them, each once; they are forgotten here.
        """
        rows = self._all()
        self._parts, self._room = [], _NOTED
        return rows

    def _all(self) -> RowNumbers:
        return np.unique(np.concatenate(self._parts))


class Scan:
    """
    Looks for the smallest IDs of a tenant, while entries are merged.

    Rows that change after it has looked at them are noted, and looked at again with the next step.

    :param after: only larger IDs count.
    :param wanted: how many IDs to find.
    :param size: rows that a step looks at.
    """

    def __init__(self, entries: Entries, after: int | None, wanted: int, size: int) -> None:
        self._entries = entries
        self._after = after
        self._wanted = wanted
        self._size = size
        self.rows_renumbered()

    def rows_renumbered(self) -> None:
        self._found: Ids = np.empty(0, np.int64)
        # Larger IDs were left out.
        self._largest: int | None = None
        self._next = 0
        self._changed = ChangedRows()

    def rows_change(self, rows: RowNumbers) -> None:
        self._changed.note(rows[rows < self._next])

    @property
    def complete(self) -> bool:
        """
        Whether all rows were looked at.
        """
        return self._next == len(self._entries)

    def step(self, number: int | None) -> None:
        """
        Look at the next rows.

        :param number: the tenant's, at this moment.
        """
        self._renew(number)
        begin, self._next = self._next, min(self._next + self._size, len(self._entries))
        if number is not None:
            ids = self._entries.table.ids[begin : self._next]
            owned = self._entries.owners[begin : self._next] == number
            if self._largest is not None and np.count_nonzero(owned) > len(owned) // 16:
                owned &= ids <= self._largest
            self._take(ids[np.flatnonzero(owned)])

    def page(self, number: int | None, limit: int) -> ItemPage:
        """
        The page, once all rows were looked at.
        """
        self._renew(number)
        self._found.sort()
        ids = self._found[:limit].tolist()
        if len(self._found) > limit:
            return ItemPage(ids, ids[-1])
        return ItemPage(ids, self._largest)

    def _renew(self, number: int | None) -> None:
        """
        Look at rows again that have changed since.
        """
        if not self._changed:
            return
        changed = self._changed.take()
        ids = self._entries.table.ids[changed]
        self._found = self._found[np.isin(self._found, ids, invert=True)]
        if number is not None:
            self._take(ids[self._entries.owners[changed] == number])

    def _take(self, ids: Ids) -> None:
        if self._after is not None:
            ids = ids[ids > self._after]
        if self._largest is not None:
            ids = ids[ids <= self._largest]
        found = np.concatenate([self._found, ids])
        if len(found) > self._wanted:
            found = np.partition(found, self._wanted - 1)[: self._wanted]
            self._largest = int(found.max())
        self._found = found
