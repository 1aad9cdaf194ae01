"""
Counts the items of a backup while they pass, and makes the digest of an audit of them.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from dcounter.ledger.audit import hash_of, mix
from dcounter.ledger.rows import Rows, with_spare

_MASK: Final = 2**64 - 1


class Summary:
    """
    What a backup holds. Each ID must come once: that, only a ledger can tell.

    :ivar rows: how many IDs there are, deleted ones included.
    :ivar tombstones: how many are deleted.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._numbers: dict[str | None, int] = {None: 0}
        self._hashes = [hash_of(None)]
        self._counts = np.zeros(1, np.int64)
        self._digest = 0

    @property
    def tombstones(self) -> int:
        return int(self._counts[0])

    @property
    def items(self) -> int:
        """
        How many IDs have a tenant.
        """
        return self.rows - self.tombstones

    @property
    def tenants(self) -> int:
        """
        How many tenants own any.
        """
        return len(self._numbers) - 1

    @property
    def digest(self) -> str:
        """
        As `dcounter.audits.Audited` has it.
        """
        return f"{self._digest:016x}"

    @property
    def counts(self) -> Mapping[str, int]:
        """
        How many items each tenant owns.
        """
        counts = self._counts.tolist()
        return {name: counts[number] for name, number in self._numbers.items() if name is not None}

    def add(self, rows: Rows) -> None:
        """
        Count rows.
        """
        numbers, hashes = self._numbers, self._hashes
        here = [numbers.setdefault(name, len(numbers)) for name in rows.tenants]
        if len(numbers) > len(hashes):
            # Of new tenants, in the order of their numbers.
            known = len(hashes)
            hashes += [
                hash_of(name) for name, number in zip(rows.tenants, here, strict=True) if number >= known
            ]
        if len(numbers) > len(self._counts):
            self._counts.resize(with_spare(len(numbers)), refcheck=False)
        self._counts[here] += np.bincount(rows.owners, minlength=len(here))
        of_names = np.array([hashes[number] for number in here], np.uint64)
        mixed = mix(rows.ids, rows.stamps, of_names[rows.owners])
        self._digest = (self._digest + int(mixed.sum())) & _MASK
        self.rows += len(rows.ids)
