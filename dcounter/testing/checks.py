"""
What is wrong with an exact answer, if anything is.

An answer may show any state that the requests to store allow, given those that it has to include.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dcounter.store import Item, Order
from dcounter.testing.requests import NO_ROW, Known, Row, TenantsPage, Write, bounds, possible


@dataclass(frozen=True, slots=True)
class Check:
    """
    What an answer is compared with.

    :ivar writes: all that was ever asked for.
    :ivar must: what the answer has to include.
    :ivar told_lost: it may lack what was at risk.
    :ivar forgotten: deletions up to this stamp may be gone.
    """

    writes: Sequence[Write]
    must: Known
    told_lost: bool
    forgotten: int = 0

    def bounds(self, tenant: str) -> tuple[int, int]:
        """
        The least and the most items that a tenant may own.
        """
        return bounds(self.writes, tenant, self.must.writes, told_lost=self.told_lost)

    def rows(self, item: int) -> set[Row]:
        """
        The rows that an ID may have.
        """
        return self.all_rows().get(item, {NO_ROW})

    def all_rows(self) -> dict[int, set[Row]]:
        """
        The same for all IDs.
        """
        return possible(self.writes, self.must.writes, told_lost=self.told_lost)

    def count(self, tenant: str, counter: int) -> Iterator[str]:
        """
        Check a count.
        """
        least, most = self.bounds(tenant)
        if not least <= counter <= most:
            yield f"{tenant!r} counts {counter}, not between {least} and {most}"

    def item(self, item: int, found: Item | None) -> Iterator[str]:
        """
        Check an item that was looked up.
        """
        possible = self.rows(item)
        if not self.told_lost:
            possible = {row for row in possible if row >= self.must.seen.get(item, NO_ROW)}
        if found is None:
            if all(tenant for _, tenant in possible):
                yield f"ID {item} is not found; it may be any of {sorted(possible)}"
        elif (found.stamp, found.tenant) not in possible:
            yield f"ID {item} is {found}, which is none of {sorted(possible)}"

    def tenants(
        self, order: Order, found: Sequence[tuple[str, int]], before: TenantsPage | None, *, more: bool
    ) -> Iterator[str]:
        """
        Check a page of tenants, but for its counts.

        :param before: the page before.
        :param more: whether others follow.
        """

        def place(tenant: str, counter: int) -> tuple[int, str]:
            return (-counter if order == "-count" else 0, tenant)

        begin = [] if before is None else [place(*before.last)]
        places = [place(*each) for each in found]
        if _disordered([*begin, *places]):
            yield f"a list by {order} is not in order: {begin} {places}"
        if not all(counter for _, counter in found):
            yield f"a tenant that owns nothing is listed: {found}"
        names = {tenant for write in self.writes for tenant in write.items.tenants if tenant}
        for tenant in sorted(names.difference(tenant for tenant, _ in found)):
            least, most = self.bounds(tenant)
            possible = [place(tenant, least), place(tenant, most)]
            behind = not begin or min(possible) > begin[0]
            if least and behind and (not more or (places and max(possible) < places[-1])):
                yield f"{tenant!r} is not listed by {order}; it owns {least} to {most}"

    def ids(self, tenant: str, found: Sequence[int], *, more: bool) -> Iterator[str]:
        """
        Check the first page of the IDs that a tenant owns.

        :param more: whether others follow.
        """
        if _disordered(found):
            yield f"a list of items is not in order: {found}"
        rows = self.all_rows()
        for item in sorted({item for write in self.writes for item, _ in write.all_rows}.union(found)):
            owners = {owner for _, owner in rows.get(item, {NO_ROW})}
            if item in found:
                if tenant not in owners:
                    yield f"ID {item} is listed for {tenant!r}; it may be owned by {sorted(owners)}"
            elif owners == {tenant} and (not more or (found and item < found[-1])):
                yield f"ID {item} is not listed for {tenant!r}"

    def export(self, found: Mapping[int, Row], *, deleted: bool) -> Iterator[str]:
        """
        Check an export.

        :param found: the row of each ID; of those that are deleted, with an empty tenant.
        :param deleted: whether deleted IDs have to be there.
        """
        rows = self.all_rows()
        for item in sorted(rows.keys() | found.keys()):
            possible = rows.get(item, {NO_ROW})
            if not self.told_lost:
                possible = {row for row in possible if row >= self.must.seen.get(item, NO_ROW)}
            if item in found:
                if found[item] not in possible:
                    yield f"ID {item} is exported as {found[item]}, none of {sorted(possible)}"
            elif any(not tenant and stamp <= self.forgotten for stamp, tenant in possible):
                continue
            elif NO_ROW not in possible and (deleted or all(tenant for _, tenant in possible)):
                yield f"ID {item} is not exported; it may be any of {sorted(possible)}"


def _disordered(found: Iterable[tuple[int, str]] | Iterable[int]) -> bool:
    return any(one >= other for one, other in pairwise(found))  # type: ignore[operator]
