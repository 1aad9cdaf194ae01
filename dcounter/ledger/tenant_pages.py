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
        self._sizes = sizes
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
        if prefix:
            yield from self._prepare()
        names = self._first_by_count(after, prefix, limit + 1, ordered=bool(prefix))
        if names is None:
            yield from self._prepare()
            names = self._first_by_count(after, prefix, limit + 1, ordered=True)
        count = self._tenants.count
        ranked = sorted((-count(name), name) for name in names or ())
        if after is not None:
            ranked = ranked[bisect(ranked, (-after[0], after[1])) :]
        return TenantPage([(name, -negative) for negative, name in ranked[:limit]], len(ranked) > limit)

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

    def _first_by_count(
        self, after: tuple[int, str] | None, prefix: str, limit: int, *, ordered: bool
    ) -> set[str] | None:
        """
        At least the tenants with which a page begins, and perhaps some more.

        :param ordered: whether names are in order. If they are not, and so many tenants have the same count
            that it takes an order to tell which come first, there is no answer.
        """
        counts, names = self._tenants.counts[: len(self._tenants.names)], self._tenants.names
        inside = self._inside(prefix)
        best = Largest(limit)
        size = self._sizes.gathered
        for begin in range(0, len(counts), size):
            part = counts[begin : begin + size]
            wanted = inside[begin : begin + size]
            best.add(begin, np.where(wanted if after is None else wanted & (part < after[0]), part, 0))
        least = best.least
        found = {names[number] for number in best.places[best.counts > least].tolist()}
        # Of the tenants with the smallest count on the page, and of those with the count where it begins, the
        # names decide.
        for count, last in ((least, ""), after or (0, "")):
            tied = np.flatnonzero((counts == count) & inside) if count else ()
            if len(tied) <= self._sizes.tied:
                behind = (name for number in tied if (name := names[number]) is not None and name > last)
                found.update(sorted(behind)[:limit])
            elif ordered:
                found.update(self._first_with(count, last, prefix, limit))
            else:
                return None
        return {name for name in found if name is not None}

    def _inside(self, prefix: str) -> NDArray[np.bool_]:
        """
        Per number, whether its tenant has a prefix.
        """
        names, order = self._tenants.names, self._order
        if not prefix:
            inside = np.ones(len(names), bool)
            inside[TOMBSTONE] = False
            return inside
        inside = np.zeros(len(names), bool)
        begin, end = order.range(prefix)
        inside[order.numbers[begin:end]] = True
        for number in order.changed:
            inside[number] = (names[number] or "").startswith(prefix)
        return inside

    def _first_with(self, count: int, last: str, prefix: str, limit: int) -> list[str]:
        """
        The first tenants with a count and a prefix that come after a name, and those that are not in order.
        """
        order, names = self._order, self._tenants.names
        begin, end = order.range(prefix)
        found = order.aside(prefix)
        limit += len(found)
        for places, counts in self._sorted_counts(max(begin, order.after(last)), end):
            tied = order.numbers[places.start : places.stop][counts == count]
            found += [names[number] or "" for number in tied[: limit - len(found)].tolist()]
            if len(found) >= limit:
                break
        return found

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
        for first in range(begin, end, self._sizes.gathered):
            places = range(first, min(first + self._sizes.gathered, end))
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
