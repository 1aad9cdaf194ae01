"""
Dropping old tombstones: the columns are made anew beside the old ones, while entries are merged.
"""

from collections.abc import Callable

import numpy as np

from dcounter.ledger.entries import Entries
from dcounter.ledger.id_table import RowNumbers
from dcounter.ledger.rows import with_spare
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.ledger.tenants import TOMBSTONE, Tenants
from dcounter.ledger.walk import Walk


class Compaction:
    """
    The columns without tombstones at or below a stamp.

    :param into: new and empty.
    """

    def __init__(self, entries: Entries, into: Entries, stamp: int, sizes: StepSizes) -> None:
        self._entries = entries
        self._into = into
        self._stamp = stamp
        self._sizes = sizes
        self._walk = Walk(entries)

    def rows_change(self, rows: RowNumbers) -> None:
        self._walk.again(rows)

    def rows_renumbered(self) -> None:
        """
        Another compaction came first: begin again.
        """
        self._into = Entries(self._into.seed)
        self._walk = Walk(self._entries)

    def step(self) -> bool:
        """
        Copy more rows; whether all are copied now.
        """
        self._copy(self._walk.take(self._sizes.copied))
        return self._walk.complete

    def swap(self) -> int:
        """
        Put the new columns in the place of the old ones; returns how many rows are gone.
        """
        dropped = len(self._entries) - len(self._into)
        self._entries.swap(self._into)
        return dropped

    def free(self) -> Steps[None]:
        """
        Give the memory of the old columns back.
        """
        old = self._into
        columns = old.arrays()
        # Nothing else may refer to a column that changes its size.
        self._into = Entries(old.seed)
        del old
        for column in columns:
            while len(column):
                column.resize(max(0, len(column) - self._sizes.freed), refcheck=False)
                yield

    def _copy(self, rows: RowNumbers) -> None:
        old, new = self._entries, self._into
        ids, stamps, owners = old.table.ids[rows], old.stamps[rows], old.owners[rows]
        wanted = (owners != TOMBSTONE) | (stamps > self._stamp)
        # What was copied already is brought up to date, whatever it has become.
        unwanted = np.flatnonzero(~wanted)
        if len(unwanted):
            wanted[unwanted] = new.table.find(ids[unwanted]) >= 0
        to = new.insert(ids[wanted])
        new.stamps[to] = stamps[wanted]
        new.owners[to] = owners[wanted]


def compact(
    entries: Entries, tenants: Tenants, settle: Callable[[], None], stamp: int, sizes: StepSizes
) -> Steps[int]:
    """
    Drop tombstones at or below a stamp; returns how many.

    While something walks over the rows by their numbers, such as a copy of the ledger, it only waits.
    """
    settle()
    into = Entries(entries.seed)
    # Spare room is for rows that are added meanwhile.
    into.reserve(with_spare(len(entries) - int(tenants.counts[TOMBSTONE])))
    yield from into.touch(sizes.touched)
    settle()
    work = Compaction(entries, into, stamp, sizes)
    entries.watchers.append(work)
    try:
        while not work.step() or entries.walkers:
            yield
            settle()
    finally:
        entries.watchers.remove(work)
    dropped = work.swap()
    tenants.counts[TOMBSTONE] -= dropped
    yield from work.free()
    return dropped
