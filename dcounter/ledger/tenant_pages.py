"""
Questions about many tenants: pages by name and by count, and sums over prefixes.
"""

from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.name_order import NameOrder
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.ledger.tenants import TOMBSTONE, Tenants

Counts = NDArray[np.int64]

_PART = 2**16
"""
Counts that are looked up at once: few enough for the processor's cache.
"""

_TIED = 2**13
"""
The most tenants with the same count that are sorted without an order of names.
"""

_ANY = 2**63 - 1
"""
More than any count.
"""


@dataclass(frozen=True, slots=True)
class TenantPage:
    """
    Some tenants and how many items they own, as at one moment.

    :ivar tenants: names and counts, in the order that was asked for.
    :ivar more: whether others follow.
    """

    tenants: list[tuple[str, int]]
    more: bool


@dataclass(frozen=True, slots=True)
class PrefixSum:
    """
    How many items the tenants with a prefix own together, as at one moment.

    :ivar tenants: how many such tenants there are.
    """

    items: int
    tenants: int


class TenantPages:
    """
    Answers from an order of names, which is made when it is needed for the first time.

    :param settle: merges the entries that wait.
    """

    def __init__(self, tenants: Tenants, settle: Callable[[], None], sizes: StepSizes) -> None:
        self._tenants = tenants
        self._settle = settle
        self._order = NameOrder(tenants, sizes)

    @property
    def nbytes(self) -> int:
        """
        The memory of the order.
        """
        return self._order.numbers.nbytes

    def by_name(self, after: str, prefix: str, limit: int) -> Steps[TenantPage]:
        yield from self._prepare()
        order = self._order
        begin, end = order.range(prefix)
        aside = sorted(name for name in order.aside(prefix) if name > after)
        names = order.first(max(begin, order.after(after)), end, limit + 1) + aside[: limit + 1]
        names.sort()
        count = self._tenants.count
        return TenantPage([(name, count(name)) for name in names[:limit]], len(names) > limit)

    def by_count(self, after: tuple[int, str] | None, prefix: str, limit: int) -> Steps[TenantPage]:
        self._settle()
        page = None if prefix else self._by_count_alone(after, limit)
        if page is not None:
            return page
        yield from self._prepare()
        order = self._order
        most, last = after or (_ANY, "")
        begin, end = order.range(prefix)
        # Of tenants with the same count as the last one, only those with larger names are left.
        middle = min(max(order.after(last), begin), end)
        best = Largest(limit + 1)
        for places, counts in self._sorted_counts(begin, end):
            counts[counts > most] = 0
            before = counts[: max(0, middle - places.start)]
            before[before == most] = 0
            best.add(places.start, counts)
        names = [self._tenants.names[number] or "" for number in order.numbers[best.places].tolist()]
        return self._ranked([*names, *order.aside(prefix)], after, limit)

    def prefix_sum(self, prefix: str) -> Steps[PrefixSum]:
        yield from self._prepare()
        tenants, order = self._tenants, self._order
        begin, end = order.range(prefix)
        size = len(order.numbers)
        if end - begin <= size // 2:
            items, number = self._sum(begin, end)
            aside = order.aside(prefix)
            return PrefixSum(items + sum(map(tenants.count, aside)), number + len(aside))
        # Fewer counts have to be looked up if the others are taken from the sum of all.
        left, right = self._sum(0, begin), self._sum(end, size)
        others = [name for name in order.aside("") if not name.startswith(prefix)]
        items = int(tenants.counts.sum()) - int(tenants.counts[TOMBSTONE])
        return PrefixSum(
            items - left[0] - right[0] - sum(map(tenants.count, others)),
            len(tenants) - left[1] - right[1] - len(others),
        )

    def _by_count_alone(self, after: tuple[int, str] | None, limit: int) -> TenantPage | None:
        """
        Without an order of names, unless so many tenants have the same count that one is needed.
        """
        tenants = self._tenants
        counts = tenants.counts[: len(tenants.names)]
        best = Largest(limit + 1)
        for begin in range(TOMBSTONE + 1, len(counts), _PART):
            part = counts[begin : begin + _PART]
            best.add(begin, part if after is None else np.where(part < after[0], part, 0))
        # All of those with the smallest count on the page, and with the one where it begins.
        least = best.least
        numbers = best.places[best.counts > least]
        for count in (least, after[0] if after else 0):
            if count:
                numbers = np.concatenate([numbers, np.flatnonzero(counts == count)])
                if len(numbers) > _TIED:
                    return None
        names = [tenants.names[number] for number in numbers.tolist()]
        return self._ranked([name for name in names if name is not None], after, limit)

    def _ranked(self, names: list[str], after: tuple[int, str] | None, limit: int) -> TenantPage:
        """
        The page that begins with the first of these tenants.
        """
        count = self._tenants.count
        ranked = sorted((-count(name), name) for name in names)
        if after is not None:
            ranked = ranked[bisect(ranked, (-after[0], after[1])) :]
        return TenantPage([(name, -negative) for negative, name in ranked[:limit]], len(ranked) > limit)

    def _sum(self, begin: int, end: int) -> tuple[int, int]:
        """
        How many items the tenants in a part of the order own, and how many tenants these are.
        """
        items = number = 0
        for _, counts in self._sorted_counts(begin, end):
            items += int(counts.sum())
            number += int(np.count_nonzero(counts))
        return items, number

    def _prepare(self) -> Steps[None]:
        self._settle()
        for _ in self._order.prepare():
            yield
            self._settle()

    def _sorted_counts(self, begin: int, end: int) -> Iterator[tuple[range, Counts]]:
        """
        Copies of the counts of a part of the order, some at a time; 0 for those that are not in it any more.
        """
        order, counts = self._order, self._tenants.counts
        changed = np.zeros(len(counts), bool)
        changed[list(order.changed)] = True
        for first in range(begin, end, _PART):
            places = range(first, min(first + _PART, end))
            numbers = order.numbers[first : places.stop]
            found: Counts = counts[numbers]
            if order.changed:
                found[changed[numbers]] = 0
            yield places, found


class Largest:
    """
    The largest of many counts, which come some at a time. Of those that are equal, the first ones; none is 0.

    :param limit: how many are wanted.
    :ivar counts: the largest so far.
    :ivar places: where they are, in ascending order.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.counts: Counts = np.empty(0, np.int64)
        self.places: NDArray[np.int64] = np.empty(0, np.int64)

    @property
    def least(self) -> int:
        """
        The smallest of them, 0 if there is room for more.
        """
        return int(self.counts.min()) if len(self.counts) == self._limit else 0

    def add(self, begin: int, counts: Counts) -> None:
        """
        Look at the counts of the places that begin here.
        """
        larger = np.flatnonzero(counts > self.least)
        found = np.concatenate([self.counts, counts[larger]])
        places = np.concatenate([self.places, larger + begin])
        if len(found) > self._limit:
            least = np.partition(found, -self._limit)[-self._limit]
            above = np.flatnonzero(found > least)
            equal = np.flatnonzero(found == least)[: self._limit - len(above)]
            best = np.sort(np.concatenate([above, equal]))
            found, places = found[best], places[best]
        self.counts, self.places = found, places
