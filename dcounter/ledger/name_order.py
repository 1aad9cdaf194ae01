"""
Tenants in the order of their names, kept only when someone asks for it.

An array of the tenants' numbers, sorted by name, takes 4 bytes per tenant. With it NumPy looks up a million
counts in a few milliseconds. Tenants that came or went since are kept aside until there are enough of them.
"""

from array import array
from bisect import bisect, bisect_left, bisect_right
from itertools import islice

import numpy as np

from dcounter.ledger.rows import Owners
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.ledger.tenants import Tenants

_PIECES = 1024
"""
In how many pieces a new order is sorted.
"""

_SAMPLED = 8
"""
Names per piece that are looked at to choose its borders.
"""


class NameOrder:
    """
    Numbers of tenants, sorted by name, and beside them those that changed since they were sorted.

    The order is made when it is wanted for the first time, and dropped when so much has changed since it was
    last wanted that making a new one is cheaper. While it is wanted it is never dropped, or it would never be
    ready beside writes that bring many new names.

    :ivar numbers: sorted by name, without those in `changed`, which may be anywhere in it.
    :ivar changed: numbers that got or lost names since, and what they were called when they were sorted.
    """

    def __init__(self, tenants: Tenants, sizes: StepSizes) -> None:
        self._tenants = tenants
        self._sizes = sizes
        self.numbers: Owners = np.empty(0, np.int32)
        self.changed: dict[int, str | None] = {}
        self._made = False
        # All questions that need the order share this work, so what a question did that gives up is not lost.
        self._making: Steps[None] | None = None
        self._wanted = 0
        # When more than this have changed and it is not wanted, it is dropped.
        self._most = 0

    def renamed(self, number: int, old: str | None) -> None:
        self.changed.setdefault(number, old)
        if not self._wanted and len(self.changed) > self._most:
            self._drop()

    def prepare(self) -> Steps[None]:
        """
        Make the order, or put into it what changed, until few are left.

        Each step puts in more than came since the one before, and with the last one few are left: so they
        end, whatever is written between them.
        """
        self._wanted += 1
        left = len(self.changed)
        try:
            while not self._made or len(self.changed) > self._sizes.aside:
                if self._made:
                    came = max(0, len(self.changed) - left)
                    self._put_in(self._sizes.put_in + 2 * came)
                else:
                    if self._making is None:
                        self._making = self._make()
                    next(self._making, None)
                left = len(self.changed)
                if self._made and left <= self._sizes.aside:
                    break
                yield
        finally:
            self._wanted -= 1
            self._most = len(self.changed) + self._sizes.aside + len(self._tenants.names) // 16

    def after(self, name: str) -> int:
        """
        The index of the first name that is larger.
        """
        return bisect_right(self.numbers, name, key=self._name)

    def range(self, prefix: str) -> tuple[int, int]:
        """
        The index of the first name with a prefix, and of the first behind those.
        """
        first = bisect_left(self.numbers, prefix, key=self._name)
        length = len(prefix)
        return first, bisect_right(self.numbers, prefix, first, key=lambda each: self._name(each)[:length])

    def aside(self, prefix: str) -> list[str]:
        """
        Names with a prefix that are not in the order.
        """
        names = self._tenants.names
        living = (name for name in map(names.__getitem__, self.changed) if name is not None)
        return [name for name in living if name.startswith(prefix)]

    def first(self, begin: int, end: int, limit: int) -> list[str]:
        """
        The first names in a range of the order, at most this many.
        """
        names, changed = self._tenants.names, self.changed
        numbers = self.numbers[begin : min(end, begin + limit + len(changed))].tolist()
        found = (names[number] for number in numbers if number not in changed)
        return [name for name in islice(found, limit) if name is not None]

    def _name(self, number: int) -> str:
        """
        By which name a number was sorted.
        """
        name = self.changed.get(number) or self._tenants.names[number]
        assert name is not None
        return name

    def _drop(self) -> None:
        self._tenants.watchers.remove(self)
        if self._making is not None:
            self._making.close()
        self.numbers, self.changed, self._made, self._making = np.empty(0, np.int32), {}, False, None

    def _make(self) -> Steps[None]:
        """
        Sort all names: first a sample, then by the sample into pieces, then each piece.
        """
        names = self._tenants.names
        self._tenants.watchers.append(self)
        total, size = len(names), self._sizes.names
        sample = sorted(name for name in names[:: total // (_SAMPLED * _PIECES) + 1] if name is not None)
        borders = sample[::_SAMPLED]
        pieces = [array("i") for _ in range(len(borders) + 1)]
        for begin in range(0, total, size):
            for number, name in enumerate(names[begin : min(begin + size, total)], begin):
                if name is not None:
                    pieces[bisect(borders, name)].append(number)
            yield
        numbers = np.empty(total, np.int32)
        length = 0
        done = 0
        for piece in pieces:
            # Those that changed have other names than they were put here by.
            known = sorted((each for each in piece if each not in self.changed), key=self._name)
            numbers[length : length + len(known)] = known
            length += len(known)
            del piece[:]
            done += len(known)
            if done >= size:
                done = 0
                yield
        numbers.resize(length, refcheck=False)
        self.numbers, self._made, self._making = numbers, True, None

    def _put_in(self, most: int) -> None:
        """
        Put some of those that changed where they belong now.
        """
        names = self._tenants.names
        some = list(islice(self.changed, most))
        living = sorted(
            (each for each in some if names[each] is not None), key=lambda each: names[each] or ""
        )
        indexes = [bisect(self.numbers, names[each] or "", key=self._name) for each in living]
        stale = np.zeros(len(names), bool)
        stale[some] = True
        numbers = np.insert(self.numbers, indexes, living)
        keep = ~stale[numbers]
        # The living ones are in it twice if they were in it before.
        keep[np.array(indexes, np.int64) + np.arange(len(living))] = True
        self.numbers = numbers[keep]
        for each in some:
            del self.changed[each]
