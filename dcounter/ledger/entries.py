"""
The entries of a ledger, row by row, and what must know when rows change while it walks over them.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.id_table import IdTable, RowNumbers
from dcounter.ledger.rows import Ids, Owners, Stamps, with_spare
from dcounter.ledger.steps import Steps
from dcounter.ledger.tenants import TOMBSTONE

_NEVER = -1
"""
The stamp of a row that has no entry yet: smaller than any.
"""


class RowWatcher(Protocol):
    """
    What walks over rows while entries are merged.
    """

    def rows_change(self, rows: RowNumbers) -> None:
        """
        These rows, some of them perhaps several times, are about to change.

        Rows that get their first entry need not be among them.
        """

    def rows_renumbered(self) -> None:
        """
        Rows have other numbers now: what was found so far is worth nothing.
        """


class Entries:
    """
    Which tenant owns each ID since when, as columns.

    Rows are only added, until a compaction gives all of them other numbers.

    :param seed: see `IdTable`.
    :ivar seed: the same.
    :ivar table: the ID of each row, and the row of each ID.
    :ivar stamps: of each row. This column and the next have spare room at their ends, and grow in place:
        keep no view of them.
    :ivar owners: the number of each row's tenant.
    :ivar watchers: are told which rows are about to change.
    :ivar numbering: how often rows got other numbers.
    :ivar walkers: how many walks are under way that rows must keep their numbers for.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.table = IdTable(seed)
        self.stamps: Stamps = np.empty(0, np.int64)
        self.owners: Owners = np.empty(0, np.int32)
        self.watchers: list[RowWatcher] = []
        self.numbering = 0
        self.walkers = 0

    def __len__(self) -> int:
        return len(self.table)

    def reserve(self, rows: int) -> None:
        """
        Make room for this many rows while there are none. Then no column has to grow later.
        """
        self.table.reserve(rows)
        self.stamps, self.owners = np.empty(rows, np.int64), np.empty(rows, np.int32)

    def arrays(self) -> list[NDArray[Any]]:
        """
        All that they consist of.
        """
        return [*self.table.arrays(), self.stamps, self.owners]

    def touch(self, places: int) -> Steps[None]:
        """
        Use the memory that was reserved for the first time, this many places of a column in each step.

        Otherwise the first rows would do that, and wait until the operating system has cleared it.
        """
        for column in self.arrays():
            for first in range(0, len(column), places):
                column[first : first + places] = 0
                yield

    def insert(self, ids: Ids) -> RowNumbers:
        """
        The row of each ID. A new row is a tombstone that is older than any stamp.
        """
        before = len(self.table)
        rows = self.table.insert(ids)
        now = len(self.table)
        if now == before:
            return rows
        if now > len(self.stamps):
            self.stamps.resize(with_spare(now), refcheck=False)
            self.owners.resize(with_spare(now), refcheck=False)
        self.stamps[before:now] = _NEVER
        self.owners[before:now] = TOMBSTONE
        return rows

    def about_to_change(self, rows: RowNumbers) -> None:
        for watcher in self.watchers:
            watcher.rows_change(rows)

    def swap(self, other: "Entries") -> None:
        """
        Exchange all columns with others. Watchers stay, and are told.
        """
        self.table, other.table = other.table, self.table
        self.stamps, other.stamps = other.stamps, self.stamps
        self.owners, other.owners = other.owners, self.owners
        self.numbering += 1
        for watcher in self.watchers:
            watcher.rows_renumbered()
