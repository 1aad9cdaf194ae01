"""
Counts of tenants at `GET /metrics`: only of those that an option names, and never of more than 1,000.
"""

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.failure import Failure

from dcounter.errors import Refusal
from dcounter.figures import Family, Samples
from dcounter.store import Store

MOST: Final = 1_000
"""
The most tenants that are shown: each is a series that Prometheus keeps.
"""

_ANY_END: Final = "*"
"""
What a prefix ends with, to tell it from the name of a tenant.
"""

_PATIENCE_S: Final = 0.8
"""
How long a scrape waits for the counts.
"""

ITEMS: Final = Family(
    "dcounter_tenant_items",
    "gauge",
    "Items of a tenant that the option `--metrics-tenants` names.",
    ("tenant",),
)
FAMILIES: Final = (ITEMS,)


class TenantFigures:
    """
    The counts of some tenants.

    :param wanted: names of tenants; one that ends in `*` stands for all that begin so.
    """

    def __init__(self, store: Store, wanted: Sequence[str], reactor: Any) -> None:
        self._store = store
        self._reactor = reactor
        self._names = [each for each in wanted if not each.endswith(_ANY_END)][:MOST]
        self._prefixes = [each.removesuffix(_ANY_END) for each in wanted if each.endswith(_ANY_END)]

    async def samples(self) -> Sequence[Samples]:
        """
        The counts; what is not known in time is missing. Names come first, then the largest with each prefix.

        They are those of the primary, which may lack the last moments: a scrape must not wait.
        """
        asked = [self._count(), *map(self._list, self._prefixes)] if self._names or self._prefixes else []
        answers = await gatherResults(
            [Deferred.fromCoroutine(each).addTimeout(_PATIENCE_S, self._reactor, _too_late) for each in asked]
        )
        found: dict[str, int] = {}
        for tenant, number in (pair for answer in answers for pair in answer):
            if len(found) == MOST:
                break
            found.setdefault(tenant, number)
        return [Samples(ITEMS, [((tenant,), number) for tenant, number in found.items()])] if asked else []

    async def _count(self) -> Sequence[tuple[str, int]]:
        if not self._names:
            return ()
        try:
            counts = await self._store.count_many(self._names, consistency="eventual")
        except Refusal:
            return ()
        return list(zip(self._names, counts.counters, strict=True))

    async def _list(self, prefix: str) -> Sequence[tuple[str, int]]:
        try:
            page = await self._store.list_tenants(
                order="-count", prefix=prefix, limit=MOST, consistency="eventual"
            )
        except Refusal:
            return ()
        return page.tenants


def _too_late(result: object, _: float) -> Sequence[tuple[str, int]]:
    if isinstance(result, Failure):
        result.trap(CancelledError, Refusal)
    return ()
