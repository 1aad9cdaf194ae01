"""
What callers asked for, and between which bounds a count may lie.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dcounter.coordinator.service import Coordinator
from dcounter.protocol.token import TokenSeal
from dcounter.store import Ack, Change, Changes, Consistency, Items, Order

Row = tuple[int, str]
"""
A stamp and a tenant: the larger one wins.
"""

NO_ROW: Row = (0, "")


@dataclass(eq=False)
class Write:
    """
    One request to store, and what became of it.

    :ivar rows: ID -> the row that this request gives it; `None` until it got its stamps.
    :ivar all_rows: also those that others of the same request beat; a count may see them meanwhile.
    :ivar acked: when (s) it was answered as stored.
    :ivar void: it was answered that nothing of it is stored.
    :ivar at_risk: IDs whose row may have been only at nodes without disks that died.
    :ivar later_than: stamps that it must be beyond if it gets its own.
    :ivar must: what its receipt has to include, if it is exact; `None` if its caller wants none.
    :ivar repeat: sends it again, if its answer says with which stamp (`None`: with those that it has).
    """

    place: int
    coordinator: Coordinator
    items: Items
    ack: Ack
    asked: float
    later_than: int = 0
    rows: dict[int, Row] | None = None
    all_rows: list[tuple[int, Row]] = field(default_factory=list)
    acked: float | None = None
    void: bool = False
    at_risk: set[int] = field(default_factory=set)
    must: "Known | None" = None
    repeat: Callable[[int | None], None] = lambda _: None

    def must_be_stamped(self) -> bool:
        """
        Whether some of its items came without a stamp.
        """
        return self.items.stamps is None or None in self.items.stamps

    def kept(self, *, all_of_it: bool) -> dict[int, Row]:
        """
        The rows that must be there, with or without those at risk.
        """
        rows = self.rows or {}
        return rows if all_of_it else {item: row for item, row in rows.items() if item not in self.at_risk}

    def latest(self) -> int:
        """
        The largest stamp it has.
        """
        return max((stamp for _, (stamp, _) in self.all_rows), default=0)


@dataclass(eq=False)
class Known:
    """
    What an exact answer has to include.

    :ivar writes: requests that were acknowledged.
    :ivar floor: how many items the growing tenant was known to have.
    :ivar seen: ID -> the row that was shown.
    """

    writes: list[Write] = field(default_factory=list)
    floor: int = 0
    seen: dict[int, Row] = field(default_factory=dict)

    def join(self, other: "Known") -> "Known":
        """
        Both.
        """
        seen = dict(self.seen)
        for item, row in other.seen.items():
            seen[item] = max(row, seen.get(item, NO_ROW))
        writes = list(dict.fromkeys([*self.writes, *other.writes]))
        return Known(writes, max(self.floor, other.floor), seen)

    def latest(self) -> int:
        """
        The largest stamp among the writes.
        """
        return max((write.latest() for write in self.writes), default=0)


@dataclass(eq=False)
class Asked:
    """
    One question under way.

    :ivar carried: positions that its caller has sent, or that came with a cursor that it has sent.
    """

    coordinator: Coordinator
    consistency: Consistency
    must: Known
    carried: Sequence[str] = ()

    def is_out_of_date(self, seal: TokenSeal) -> bool:
        """
        Whether the coordinator no longer accepts the secret that sealed what was sent.

        :param seal: that of the coordinator.
        """
        try:
            for token in self.carried:
                seal.open(token)
        except ValueError:
            return True
        return False


def least(must: Iterable[Write], *, told_lost: bool) -> dict[int, Row]:
    """
    For each ID the smallest row that it may have, given what has to be included.

    :param must: writes that an answer has to include.
    :param told_lost: it may lack what was at risk.
    """
    found: dict[int, Row] = {}
    for write in must:
        for item, row in write.kept(all_of_it=not told_lost).items():
            found[item] = max(found.get(item, NO_ROW), row)
    return found


def possible(writes: Iterable[Write], must: Iterable[Write], *, told_lost: bool) -> dict[int, set[Row]]:
    """
    For each ID the rows that it may have, given what has to be included.

    :param writes: all that was ever asked for.
    :param must: those that an answer has to include.
    :param told_lost: it may lack what was at risk.
    """
    floor = least(must, told_lost=told_lost)
    found = {item: {row} for item, row in floor.items()}
    for write in writes:
        if not write.void:
            for item, row in write.all_rows:
                if row >= floor.get(item, NO_ROW):
                    found.setdefault(item, {NO_ROW}).add(row)
    return found


def impossible(write: Write, changes: Changes, rows: Mapping[int, set[Row]]) -> str | None:
    """
    Why a receipt cannot be true; `None` if it can.

    :param rows: ID -> the rows that it may have had before.
    """
    if len(changes.items) != len(write.items):
        return f"{len(changes.items)} changes of {len(write.items)} items"
    for item, tenant, change in zip(write.items.ids, write.items.tenants, changes.items, strict=True):
        mine = [row for other, row in write.all_rows if other == item and row[1] == (tenant or "")]
        before = rows.get(item, {NO_ROW}) | {row for other, row in write.all_rows if other == item}
        if not any(change == _change(old, new) for old in before for new in mine) and not (
            # Another item of the request with the same ID and stamp replaced it.
            change == "stale" and write.items.ids.count(item) > 1
        ):
            return f"ID {item} {change}"
    return None


def _change(old: Row, new: Row) -> Change:
    """
    What becomes of an update.
    """
    if new < old:
        return "stale"
    if new[1] == old[1]:
        return "unchanged"
    if not new[1]:
        return "deleted"
    return "moved" if old[1] else "created"


@dataclass(frozen=True, slots=True)
class TenantsPage:
    """
    Where a page of tenants ended.

    :ivar last: the last tenant on it, and how many items it owned.
    :ivar position: the one that came with it.
    """

    order: Order
    cursor: str
    last: tuple[str, int]
    position: str = ""


def bounds(
    writes: Iterable[Write], tenant: str, must: Iterable[Write], *, told_lost: bool
) -> tuple[int, int]:
    """
    The least and the most items a tenant may own, given what has to be included.

    :param writes: all that was ever asked for.
    :param must: those that a count has to include.
    :param told_lost: it may lack what was at risk.
    """
    names = [{name for _, name in rows} for rows in possible(writes, must, told_lost=told_lost).values()]
    return sum(each == {tenant} for each in names), sum(tenant in each for each in names)
