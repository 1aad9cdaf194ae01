"""
Counts of tenants at `GET /metrics`: only of those that an option names, and never of more than 1,000.
"""

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.failure import Failure

from dcounter.daemon.option_table import MOST_TENANTS
from dcounter.errors import Refusal
from dcounter.figures import Family, Samples
from dcounter.store import Store

_ANY_END: Final = "*"
"""
What a prefix ends with, to tell it from the name of a tenant.
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
    :param patience_s: how long their counts are waited for.
    """

    def __init__(self, store: Store, wanted: Sequence[str], reactor: Any, *, patience_s: float) -> None:
        self._store = store
        self._reactor = reactor
        self._patience_s = patience_s
        self.use(wanted)

    def use(self, wanted: Sequence[str]) -> None:
        """
        Show the counts of other tenants from now on.
        """
        self._names = [each for each in wanted if not each.endswith(_ANY_END)]
        self._prefixes = [each.removesuffix(_ANY_END) for each in wanted if each.endswith(_ANY_END)]

    async def samples(self) -> Sequence[Samples]:
        """
        The counts; what is not known in time is missing. Names come first, then the largest with each prefix.

        They are those of the primary, which may lack the last moments: a scrape must not wait.
        """
        asked = [self._count(), *map(self._list, self._prefixes)] if self._names or self._prefixes else []
        waiting = [Deferred.fromCoroutine(each) for each in asked]
        for each in waiting:
            each.addTimeout(self._patience_s, self._reactor, _too_late)
        answers = await gatherResults(waiting)
        found: dict[str, int] = {}
        for tenant, number in (pair for answer in answers for pair in answer):
            if len(found) == MOST_TENANTS:
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
                order="-count", prefix=prefix, limit=MOST_TENANTS, consistency="eventual"
            )
        except Refusal:
            return ()
        return page.tenants


def _too_late(result: object, _: float) -> Sequence[tuple[str, int]]:
    if isinstance(result, Failure):
        result.trap(CancelledError, Refusal)
    return ()
