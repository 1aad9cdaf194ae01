"""
A hash table from IDs to rows, for many IDs at once.

Open addressing with double hashing (Knuth, "The Art of Computer Programming", vol. 3, 6.4), each step done by
NumPy for all IDs that have not found their slot yet. A call costs some 50 µs, and 50 to 150 ns per ID; the
garbage collector has no objects to walk.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.rows import Ids, with_spare

RowNumbers = NDArray[np.int64]
_Hashes = NDArray[np.uint64]
_Table = NDArray[np.int32]

# The finalizer of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)

_NOTHING: _Table = np.empty(0, np.int32)

_SMALLEST = 10
"""
The smallest table has 2 to the power of this many slots.
"""

_MOVED = 4096
"""
Rows that each call moves while the table grows, besides two for each of its IDs. So a table is never full
before the one that it replaces is empty.
"""


class IdTable:
    """
    Rows of IDs, numbered 0, 1, ... in the order in which the IDs came.

    A growing table is moved to one of twice its size, a part at a time; until that is done, both are used.

    :param seed: makes the slots of IDs differ between processes, so that no caller can choose IDs that all
        want the same slot.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = np.uint64(seed)
        self._ids = np.zeros(1 << _SMALLEST, np.int64)
        self._length = 0
        # A slot holds a row + 1, or 0 if it is free.
        self._bits = _SMALLEST
        self._table: _Table = np.zeros(1 << _SMALLEST, np.int32)
        self._old: _Table | None = None
        self._spare, self._cleared = _NOTHING, 0
        self._moved = self._to_move = 0

    def __len__(self) -> int:
        return self._length

    @property
    def ids(self) -> Ids:
        """
        The ID of each row.
        """
        return self._ids[: self._length]

    @property
    def nbytes(self) -> int:
        """
        The memory of its arrays.
        """
        return sum(each.nbytes for each in self.arrays())

    def arrays(self) -> list[NDArray[Any]]:
        """
        All that it consists of.
        """
        return [self._ids, self._table, self._spare, *([] if self._old is None else [self._old])]

    def reserve(self, rows: int) -> None:
        """
        Make room for this many rows at once, if there are few yet.

        Then nothing has to be moved later, and no larger table is prepared.
        """
        bits = (8 * rows // 3).bit_length()
        if self._length > _MOVED or bits <= self._bits:
            return
        known, self._ids = self.ids, np.empty(rows, np.int64)
        self._ids[: self._length] = known
        self._bits, self._table = bits, np.zeros(1 << bits, np.int32)
        self._spare, self._cleared = _NOTHING, 0
        self._moved, self._to_move = 0, self._length
        self._move(self._length)

    def find(self, ids: Ids) -> RowNumbers:
        """
        The row of each ID, -1 if it has none.
        """
        hashes = self._hash(ids)
        rows = self._look_up(self._table, self._bits, ids, hashes)
        if self._old is not None:
            lost = np.flatnonzero(rows < 0)
            rows[lost] = self._look_up(self._old, self._bits - 1, ids[lost], hashes[lost])
        return rows

    def insert(self, ids: Ids) -> RowNumbers:
        """
        The row of each ID; one that has none gets the next.
        """
        self._make_room(len(ids))
        hashes = self._hash(ids)
        if self._old is None:
            return self._claim(ids, hashes)
        rows = self._look_up(self._old, self._bits - 1, ids, hashes)
        new = np.flatnonzero(rows < 0)
        rows[new] = self._claim(ids[new], hashes[new])
        return rows

    def _hash(self, ids: Ids) -> _Hashes:
        mixed: _Hashes = ids.view(np.uint64) ^ self._seed
        mixed = (mixed ^ (mixed >> _30)) * _MULTIPLIER_1
        mixed = (mixed ^ (mixed >> _27)) * _MULTIPLIER_2
        return mixed ^ (mixed >> _31)

    def _look_up(self, table: _Table, bits: int, ids: Ids, hashes: _Hashes) -> RowNumbers:
        slots, steps = _path(hashes, bits)
        rows = np.empty(len(ids), np.int64)
        # The indexes in `rows` of the IDs that have not found their slot; at first all.
        seeking: slice | RowNumbers = slice(None)
        while True:
            found = table[slots]
            rows[seeking] = found - 1
            wrong = np.flatnonzero((self._ids[found - 1] != ids) & (found != 0))
            if not len(wrong):
                return rows
            seeking = wrong if isinstance(seeking, slice) else seeking[wrong]
            ids, steps = ids[wrong], steps[wrong]
            slots = _next(slots[wrong], steps, bits)

    def _claim(self, ids: Ids, hashes: _Hashes) -> RowNumbers:
        """
        Look IDs up in the newest table, and take the first free slot for each that is not there.
        """
        slots, steps = _path(hashes, self._bits)
        rows = np.empty(len(ids), np.int64)
        seeking: slice | RowNumbers = slice(None)
        while True:
            found = self._table[slots]
            free = np.flatnonzero(found == 0)
            if len(free):
                self._take(slots[free], ids[free])
                found = self._table[slots]
            rows[seeking] = found - 1
            wrong = np.flatnonzero(self._ids[found - 1] != ids)
            if not len(wrong):
                return rows
            seeking = wrong if isinstance(seeking, slice) else seeking[wrong]
            ids, steps = ids[wrong], steps[wrong]
            slots = _next(slots[wrong], steps, self._bits)

    def _take(self, slots: RowNumbers, ids: Ids) -> None:
        """
        Give free slots new rows. If several IDs want the same slot, one of them gets it.
        """
        marks = np.arange(-len(slots), 0, dtype=np.int32)
        self._table[slots] = marks
        won = np.flatnonzero(self._table[slots] == marks)
        begin, self._length = self._length, self._length + len(won)
        self._ids[begin : self._length] = ids[won]
        self._table[slots[won]] = np.arange(begin + 1, self._length + 1, dtype=np.int32)

    def _make_room(self, more: int) -> None:
        most = self._length + more
        if most > len(self._ids):
            # The operating system moves large blocks without copying them.
            self._ids.resize(with_spare(most), refcheck=False)
        if self._old is not None:
            self._move(_MOVED + 2 * more)
        elif 8 * most > 3 * len(self._table):
            self._clear(_MOVED + 32 * more)
        while 2 * most > len(self._table):
            self._move(self._to_move)
            self._clear(2 * len(self._table))
            self._old, self._moved, self._to_move = self._table, 0, self._length
            self._bits += 1
            self._table, self._spare, self._cleared = self._spare, _NOTHING, 0

    def _clear(self, slots: int) -> None:
        """
        Clear the next slots of the table that will replace this one.

        Getting all the memory at once would take tens of milliseconds, because the operating system has to
        clear it.
        """
        if not len(self._spare):
            self._spare = np.empty(2 * len(self._table), np.int32)
        self._spare[self._cleared : self._cleared + slots] = 0
        self._cleared += slots

    def _move(self, rows: int) -> None:
        """
        Move the next rows of the old table to the new one.
        """
        begin, self._moved = self._moved, min(self._moved + rows, self._to_move)
        for first in range(begin, self._moved, _MOVED):
            numbers = np.arange(first + 1, min(first + _MOVED, self._moved) + 1, dtype=np.int32)
            slots, steps = _path(self._hash(self._ids[numbers - 1]), self._bits)
            while len(numbers):
                free = np.flatnonzero(self._table[slots] == 0)
                self._table[slots[free]] = numbers[free]
                wrong = np.flatnonzero(self._table[slots] != numbers)
                numbers, steps = numbers[wrong], steps[wrong]
                slots = _next(slots[wrong], steps, self._bits)
        if self._moved == self._to_move:
            self._old = None


def _path(hashes: _Hashes, bits: int) -> tuple[RowNumbers, RowNumbers]:
    """
    The first slot of each ID, and its step from slot to slot. Steps are odd, so that they reach all slots.
    """
    slots = (hashes >> np.uint64(64 - bits)).view(np.int64)
    return slots, hashes.view(np.int64) | 1


def _next(slots: RowNumbers, steps: RowNumbers, bits: int) -> RowNumbers:
    return (slots + steps) & ((1 << bits) - 1)
