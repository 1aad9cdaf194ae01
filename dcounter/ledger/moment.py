"""
What the rows of a ledger were at one moment, while others are merged.

Only what changes afterwards is written down, just before it does. So the moment itself takes no time, and
memory only for the rows that have changed since.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.audit import group_of
from dcounter.ledger.entries import Entries
from dcounter.ledger.id_table import RowNumbers
from dcounter.ledger.rows import Ids
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.ledger.tenants import Tenants

Entry = tuple[int, str | None]
"""
Stamp and tenant of an ID.
"""


class Moment:
    """
    The rows of a ledger as they were when this was made.

    :param settle: merges the entries that wait; none does now.
    :ivar spoiled: a compaction came since: rows cannot be found any more.
    :ivar changed: how many rows have changed since.
    """

    def __init__(
        self, entries: Entries, tenants: Tenants, settle: Callable[[], None], sizes: StepSizes
    ) -> None:
        self._entries = entries
        self._tenants = tenants
        self._settle = settle
        self._sizes = sizes
        self._rows = len(entries)
        self._changed = np.zeros(self._rows, bool)
        self._before: dict[int, Entry] = {}
        # The numbers that tenants had which lost them since.
        self._renamed: dict[int, str | None] = {}
        self._numbers: dict[str, int] = {}
        self.spoiled = False
        entries.watchers.append(self)
        tenants.watchers.append(self)

    @property
    def changed(self) -> int:
        return len(self._before)

    def close(self) -> None:
        self._entries.watchers.remove(self)
        self._tenants.watchers.remove(self)

    # What happens to the ledger

    def renamed(self, number: int, old: str | None) -> None:
        if number not in self._renamed:
            self._renamed[number] = old
            if old is not None:
                self._numbers[old] = number

    def rows_renumbered(self) -> None:
        self.spoiled = True

    def rows_change(self, rows: RowNumbers) -> None:
        if self.spoiled:
            return
        rows = rows[rows < self._rows]
        rows = np.unique(rows[~self._changed[rows]])
        self._changed[rows] = True
        ids, stamps = self._entries.table.ids[rows].tolist(), self._entries.stamps[rows].tolist()
        names = self._tenants.names
        owners = [names[each] for each in self._entries.owners[rows].tolist()]
        self._before.update(zip(ids, zip(stamps, owners, strict=True), strict=True))

    # What was

    def number(self, tenant: str | None) -> int | None:
        """
        The number that a tenant had; `None` if it owned nothing.
        """
        if tenant is not None and tenant in self._numbers:
            return self._numbers[tenant]
        number = self._tenants.numbers.get(tenant)
        return None if number in self._renamed else number

    def name(self, number: int) -> str | None:
        """
        The tenant that had a number.
        """
        return self._renamed[number] if number in self._renamed else self._tenants.names[number]

    def find(self, ids: Sequence[int]) -> list[Entry | None]:
        """
        The entry that each ID had; `None` if it had none.
        """
        self._settle()
        rows = self._entries.table.find(np.array(ids, np.int64))
        stamps, owners = self._entries.stamps, self._entries.owners
        found: list[Entry | None] = []
        for item, row in zip(ids, rows.tolist(), strict=True):
            if not 0 <= row < self._rows:
                found.append(None)
            elif self._changed[row]:
                found.append(self._before[item])
            else:
                found.append((int(stamps[row]), self.name(int(owners[row]))))
        return found

    def ids_in(self, bits: int, groups: Iterable[int], more: Sequence[int]) -> Steps[list[int]]:
        """
        The IDs that had entries and are in some of 2 to the power of `bits` groups.

        :param more: other IDs, of which those in these groups are added.
        """
        wanted: NDArray[np.bool_] = np.zeros(1 << bits, bool)
        wanted[list(groups)] = True
        found: list[Ids] = []
        for first in range(0, self._rows, self._sizes.counted):
            if self.spoiled:
                break
            ids = self._entries.table.ids[first : min(first + self._sizes.counted, self._rows)]
            found.append(ids[wanted[group_of(ids, bits)]])
            yield
        others = np.array(more, np.int64)
        found.append(others[wanted[group_of(others, bits)]])
        return sorted({*chain.from_iterable(each.tolist() for each in found)})
