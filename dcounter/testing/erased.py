"""
The deletions of tenants that the callers of a cluster asked for, and whether their answers can be true.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from dcounter.coordinator.service import Coordinator
from dcounter.coordinator.stamping import StampedItems
from dcounter.store import Erased
from dcounter.testing.requests import NO_ROW, Known, Write, least, possible


@dataclass(eq=False)
class Erasure:
    """
    One deletion of a tenant.

    :ivar write: its tombstones, like those of any other write.
    :ivar must: what was answered before, and has to be deleted.
    :ivar stored: how many tombstones were sent to nodes.
    """

    tenant: str
    write: Write
    must: Known
    stored: int = 0


@dataclass
class Erasures:
    """
    All deletions of tenants.

    :ivar under_way: those that have not ended.
    """

    writes: Sequence[Write]
    under_way: list[Erasure] = field(default_factory=list)

    def begin(self, tenant: str, write: Write, must: Known) -> Erasure:
        """
        A caller asks for one.
        """
        erasure = Erasure(tenant, write, must)
        self.under_way.append(erasure)
        return erasure

    def is_under_way(self, tenant: str) -> bool:
        """
        Whether one of this tenant has not ended. Of two at once, the tombstones could not be told apart.
        """
        return any(each.tenant == tenant for each in self.under_way)

    def end(self, erasure: Erasure) -> None:
        """
        One has ended: it sends nothing more.
        """
        self.under_way.remove(erasure)

    def gone(self, coordinator: Coordinator) -> None:
        """
        A coordinator was killed, and all that it did has ended.
        """
        self.under_way = [each for each in self.under_way if each.write.coordinator is not coordinator]

    def stamped(self, columns: StampedItems, floors: Collection[int]) -> bool:
        """
        A coordinator has given stamps to tombstones of a deletion; whether they belong to one.

        Each must be one tick after an entry that names the tenant, or after the floor above it.

        :param floors: stamps up to which nodes may take no items.
        """
        rows = list(zip(columns.ids, columns.all_stamps(), strict=True))
        for erasure in self.under_way:
            if all(self._follows(item, stamp - 1, erasure.tenant, floors) for item, stamp in rows):
                write = erasure.write
                write.rows = write.rows or {}
                for item, stamp in rows:
                    write.all_rows.append((item, (stamp, "")))
                    write.rows[item] = max(write.rows.get(item, NO_ROW), (stamp, ""))
                erasure.stored += len(rows)
                return True
        return False

    def _follows(self, item: int, stamp: int, tenant: str, floors: Collection[int]) -> bool:
        stored = {
            row[0]
            for write in self.writes
            for other, row in write.all_rows
            if other == item and row[1] == tenant
        }
        return stamp in stored or (stamp in floors and any(each <= stamp for each in stored))

    def check(self, erasure: Erasure, told: Erased, *, told_lost: bool) -> Iterator[str]:
        """
        Whether an answer can be true.
        """
        if told.deleted > erasure.stored:
            yield f"{told.deleted} items of {erasure.tenant!r} were deleted, with {erasure.stored} tombstones"
        later = possible(self.writes, erasure.must.writes, told_lost=told_lost)
        for item, row in least(erasure.must.writes, told_lost=told_lost).items():
            if row[1] != erasure.tenant or row[0] > told.stamp:
                continue
            if not any(other > row for other in later[item]):
                yield f"ID {item} of {erasure.tenant!r}, stored at {row[0]}, was not deleted at {told.stamp}"
