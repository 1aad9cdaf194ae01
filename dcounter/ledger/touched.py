"""
Which tenants' counts have changed since they were last asked for.

One flag per tenant's number is enough, however often counts change: a merge sets flags, and the counts are
looked up when the names are taken. Nothing is kept of a ledger that nobody watches.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dcounter.ledger.rows import Owners
from dcounter.ledger.tenants import TOMBSTONE, Tenants

_GONE = 100_000
"""
The most names that are kept of tenants that own nothing any more.
"""

_SOME = 2**16
"""
Flags that are looked at together. All at once would take 8 bytes for each that is set.
"""


class Touched:
    """
    The tenants whose counts changed, from now until `close`.

    :param settle: merges the entries that wait.
    :ivar overflown: too many tenants have gone since the last look, so that some may be missing.
    """

    def __init__(self, tenants: Tenants, settle: Callable[[], None], gone: int = _GONE) -> None:
        settle()
        self._tenants = tenants
        self._settle = settle
        self._most_gone = gone
        self._flags: NDArray[np.bool_] = np.zeros(len(tenants.counts), np.bool_)
        # In the order in which they went: simulated worlds repeat their stories.
        self._gone: dict[str, None] = {}
        self._next = 0
        self.overflown = False
        tenants.watchers.append(self)
        tenants.count_watchers.append(self)

    def close(self) -> None:
        self._tenants.watchers.remove(self)
        self._tenants.count_watchers.remove(self)

    # What happens to the ledger

    def counts_change(self, before: Owners, after: Owners) -> None:
        if len(self._flags) < len(self._tenants.counts):
            self._flags.resize(len(self._tenants.counts), refcheck=False)
        moved = before != after
        self._flags[before[moved]] = True
        self._flags[after[moved]] = True

    def renamed(self, number: int, old: str | None) -> None:
        if old is None or number >= len(self._flags) or not self._flags[number]:
            return
        self._flags[number] = False
        if len(self._gone) < self._most_gone:
            self._gone[old] = None
        else:
            self.overflown = True

    # What is asked

    def take(self, limit: int, most: int) -> list[tuple[str, int]]:
        """
        Some of these tenants and their counts; those that are left come with the next calls.

        :param limit: how many, at most.
        :param most: the most characters of names, unless one alone is longer.
        """
        self._settle()
        self._flags[TOMBSTONE] = False
        counts, names = self._tenants.counts, self._tenants.names
        found: list[tuple[str, int]] = []
        size = 0
        for name in list(islice(self._gone, limit)):
            size += len(name)
            if found and size > most:
                return found
            del self._gone[name]
            # It may own something again.
            found.append((name, self._tenants.count(name)))
        for number in islice(self._flagged(), limit - len(found)):
            tenant = names[number]
            if tenant is None:
                self._flags[number] = False
                continue
            size += len(tenant)
            if found and size > most:
                break
            self._flags[number] = False
            self._next = number + 1
            found.append((tenant, int(counts[number])))
        return found

    def _flagged(self) -> Iterator[int]:
        """
        Numbers with a flag. Those that were not reached last time come first.
        """
        for begin, end in [(self._next, len(self._flags)), (0, self._next)]:
            for first in range(begin, end, _SOME):
                some = self._flags[first : min(first + _SOME, end)]
                yield from (first + np.flatnonzero(some)).tolist()
