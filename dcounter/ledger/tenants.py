"""
The tenants of a ledger: their names, numbers and counts.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.rows import Owners

TOMBSTONE = 0
"""
The number that owns deleted IDs.
"""


class NameWatcher(Protocol):
    """
    What must know when numbers of tenants get or lose their names.
    """

    def renamed(self, number: int, old: str | None) -> None:
        """
        A number gets another name, or none.

        :param old: the name that it had, if any.
        """


class CountWatcher(Protocol):
    """
    What must know whose counts change.
    """

    def counts_change(self, before: Owners, after: Owners) -> None:
        """
        Rows are about to go from these owners to those.
        """


class Tenants:
    """
    Numbers of tenants, which rows refer to. The number of a tenant that owns nothing any more is used again.

    :ivar numbers: of each tenant that owns items; `None` owns deleted IDs.
    :ivar names: the tenant that has each number; `None` for numbers that are free.
    :ivar counts: how many rows each number owns. It has spare room at its end, and grows in place: keep no
        view of it.
    :ivar watchers: are told of each name that comes or goes.
    :ivar count_watchers: are told whose counts change.
    """

    def __init__(self) -> None:
        self.numbers: dict[str | None, int] = {None: TOMBSTONE}
        self.names: list[str | None] = [None]
        self.counts: NDArray[np.int64] = np.zeros(1, np.int64)
        self.watchers: list[NameWatcher] = []
        self.count_watchers: list[CountWatcher] = []
        self._free: list[int] = []
        self._new: list[int] = []

    def __len__(self) -> int:
        """
        How many tenants own items.
        """
        return len(self.numbers) - 1

    def count(self, tenant: str | None) -> int:
        number = self.numbers.get(tenant)
        return 0 if number is None else int(self.counts[number])

    def numbers_of(self, tenants: Sequence[str | None]) -> Owners:
        """
        The number of each tenant; new ones get the next.
        """
        try:
            return np.fromiter(map(self.numbers.__getitem__, tenants), np.int32, len(tenants))
        except KeyError:
            return np.fromiter(map(self._number, tenants), np.int32, len(tenants))

    def _number(self, tenant: str | None) -> int:
        number = self.numbers.get(tenant)
        if number is None:
            if self._free:
                number = self._free.pop()
                self.names[number] = tenant
            else:
                number = len(self.names)
                self.names.append(tenant)
                if number == len(self.counts):
                    self.counts.resize(2 * number, refcheck=False)
            self.numbers[tenant] = number
            self._new.append(number)
            for watcher in tuple(self.watchers):
                watcher.renamed(number, None)
        return number

    def release(self, emptied: list[int]) -> None:
        """
        Drop tenants that own nothing: those that lost their last item, and new ones that never had one.
        """
        new, self._new = self._new, []
        for number in {*emptied, *new}:
            if self.counts[number] == 0 and number != TOMBSTONE:
                name = self.names[number]
                del self.numbers[name]
                self.names[number] = None
                self._free.append(number)
                for watcher in tuple(self.watchers):
                    watcher.renamed(number, name)
