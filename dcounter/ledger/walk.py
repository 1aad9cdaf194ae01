"""
A walk over all rows while entries are merged.
"""

import numpy as np

from dcounter.ledger.entries import Entries
from dcounter.ledger.id_table import RowNumbers


class Walk:
    """
    All rows, some at a time, and those again that change after they were taken.
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        # Rows before this were taken, but for those that changed since.
        self._next = 0
        self._taken = np.zeros(0, bool)
        self._again: list[RowNumbers] = []

    @property
    def complete(self) -> bool:
        """
        Whether no row is left.
        """
        return not self._again and self._next == len(self._entries)

    @property
    def taken(self) -> int:
        """
        How many rows were taken and have not changed since.
        """
        return self._next - sum(map(len, self._again))

    def again(self, rows: RowNumbers) -> RowNumbers:
        """
        Rows are about to change; returns those that were taken, each once. They will be taken again.
        """
        rows = rows[rows < self._next]
        rows = np.unique(rows[self._taken[rows]])
        if len(rows):
            self._taken[rows] = False
            self._again.append(rows)
        return rows

    def take(self, size: int) -> RowNumbers:
        """
        The next rows, at most this many.
        """
        begin, self._next = self._next, min(self._next + size, len(self._entries))
        if self._next > len(self._taken):
            self._taken.resize(len(self._entries.stamps), refcheck=False)
        parts = [np.arange(begin, self._next)]
        room = size - len(parts[0])
        while room and self._again:
            part = self._again.pop()
            if len(part) > room:
                self._again.append(part[room:])
            parts.append(part[:room])
            room -= len(parts[-1])
        rows = np.concatenate(parts)
        self._taken[rows] = True
        return rows
