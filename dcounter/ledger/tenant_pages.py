"""
Questions about many tenants: pages by name and by count, and sums over prefixes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.name_order import NameOrder
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.ledger.tenants import Tenants

_BLOCK = 64
"""
Counts of which the largest is looked at first when many are compared.
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
        yield from self._prepare()
        order, count = self._order, self._tenants.count
        begin, end = order.range(prefix)
        counts = self._sorted_counts(begin, end)
        ranked = [(-count(name), name) for name in order.aside(prefix)]
        if after is not None:
            most, name = after
            ranked = [each for each in ranked if each > (-most, name)]
            # Of tenants with the same count, only those with larger names are left.
            middle = min(max(order.after(name), begin), end) - begin
            before, behind = counts[:middle], counts[middle:]
            before[before >= most] = 0
            behind[behind > most] = 0
        numbers = order.numbers[begin:end]
        found = _largest(counts, limit + 1)
        ranked += [
            (-most, self._tenants.names[number] or "")
            for most, number in zip(counts[found].tolist(), numbers[found].tolist(), strict=True)
        ]
        ranked.sort()
        return TenantPage([(name, -most) for most, name in ranked[:limit]], len(ranked) > limit)

    def prefix_sum(self, prefix: str) -> Steps[PrefixSum]:
        yield from self._prepare()
        counts = self._sorted_counts(*self._order.range(prefix))
        aside = [self._tenants.count(name) for name in self._order.aside(prefix)]
        return PrefixSum(int(counts.sum()) + sum(aside), int(np.count_nonzero(counts)) + len(aside))

    def _prepare(self) -> Steps[None]:
        self._settle()
        for _ in self._order.prepare():
            yield
            self._settle()

    def _sorted_counts(self, begin: int, end: int) -> NDArray[np.int64]:
        """
        A copy of the counts of a part of the order; 0 for those that are not in it any more.
        """
        order = self._order
        counts = self._tenants.counts
        if order.changed:
            counts = counts[: len(self._tenants.names)].copy()
            counts[list(order.changed)] = 0
        found: NDArray[np.int64] = counts[order.numbers[begin:end]]
        return found


def _largest(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """
    Where the largest counts above 0 are, at most this many; of those that are equal, the first ones.
    """
    least = 1
    blocks = len(counts) // _BLOCK
    if blocks > limit:
        # As many blocks have a count of at least `least`. So larger ones are in fewer blocks, and are few.
        least = max(1, _nth(counts[: blocks * _BLOCK].reshape(-1, _BLOCK).max(axis=1), limit))
    larger = counts[counts > least]
    if len(larger) > limit:
        least = _nth(larger, limit)
    places = np.flatnonzero(counts > least)
    return np.concatenate([places, np.flatnonzero(counts == least)[: limit - len(places)]])


def _nth(counts: NDArray[np.int64], n: int) -> int:
    """
    The n-th largest.
    """
    return int(np.partition(counts, -n)[-n])
