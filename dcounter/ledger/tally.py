"""
Counts what becomes of the items of a ledger.
"""

from typing import Final

import numpy as np

from dcounter.ledger.rows import Owners
from dcounter.ledger.tenants import TOMBSTONE

_FEW: Final = 16
"""
Rows that are faster to count one by one.
"""


class Tally:
    """
    How often items of one ledger went elsewhere.

    :ivar moved: how often a tenant lost an ID to another one.
    :ivar deleted: how often an ID that had a tenant was deleted.
    """

    def __init__(self) -> None:
        self.moved = 0
        self.deleted = 0

    def add(self, before: Owners, after: Owners) -> None:
        """
        Count rows that go from these owners to those. New rows belong to nobody before.
        """
        if len(before) <= _FEW:
            for owner, next_owner in zip(before.tolist(), after.tolist(), strict=True):
                if owner not in {next_owner, TOMBSTONE}:
                    self.deleted += next_owner == TOMBSTONE
                    self.moved += next_owner != TOMBSTONE
            return
        owned = before != TOMBSTONE
        changed = int(np.count_nonzero(owned & (before != after)))
        if changed:
            deleted = int(np.count_nonzero(owned & (after == TOMBSTONE)))
            self.deleted += deleted
            self.moved += changed - deleted
