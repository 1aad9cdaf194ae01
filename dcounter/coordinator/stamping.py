"""
Gives each item of a request its stamp.
"""

from collections.abc import Iterator, Sequence
from typing import cast

from msgspec import Struct

from dcounter.compaction_errors import StampTooOld
from dcounter.limits import ITEM_BYTES
from dcounter.protocol.clock import HybridClock
from dcounter.store import Items


class StampedItems(Struct, frozen=True):
    """
    Stamped items.

    :ivar base: the stamp of the first item, each further one a tick later, if `stamps` is `None`.
    :ivar stamps: else one stamp per item.
    :ivar given: the stamp of the items that came without one, if `stamps` is not `None`.
    :ivar kept: which items of the request these are, if later ones replace some of them.
    :ivar named: how many items the request had then.
    """

    ids: Sequence[int]
    tenants: Sequence[str | None]
    base: int
    stamps: Sequence[int] | None = None
    given: int | None = None
    kept: Sequence[int] | None = None
    named: int = 0

    def stamp_to_repeat(self) -> int | None:
        """
        The stamp with which all items that came without one can be stored again; `None` if all came with one.

        It is the largest that they have. So what is stored a second time wins over the first time, and of two
        items with one ID the later one still wins.
        """
        return self.base + len(self.ids) - 1 if self.stamps is None else self.given

    def cut(self, first: int, end: int) -> "StampedItems":
        """
        The items from `first` to `end` (exclusive).
        """
        stamps = None if self.stamps is None else self.stamps[first:end]
        return StampedItems(self.ids[first:end], self.tenants[first:end], self.base + first, stamps)

    def all_stamps(self) -> Sequence[int]:
        """
        One stamp per item.
        """
        return range(self.base, self.base + len(self.ids)) if self.stamps is None else self.stamps

    def size(self) -> int:
        """
        About the bytes these items take on the wire, and never less than a sixth of them.
        """
        try:
            characters = len("".join(cast("Sequence[str]", self.tenants)))
        except TypeError:
            characters = sum(len(tenant or "") for tenant in self.tenants)
        return characters + ITEM_BYTES * len(self.ids)

    def split(self, limit: int) -> Iterator["StampedItems"]:
        """
        The same items in as few parts as keep each within a size, unless one item alone is larger.
        """
        first = size = 0
        for i, tenant in enumerate(self.tenants):
            more = len(tenant or "") + ITEM_BYTES
            if size + more > limit and i > first:
                yield self.cut(first, i)
                first, size = i, 0
            size += more
        yield self.cut(first, len(self.ids))


def stamped(items: Items, clock: HybridClock) -> StampedItems:
    """
    Give each item of a request its stamp: its own, or the next one of the clock.

    Beside items with stamps of their own, the others get one stamp, which is later than all of those.
    """
    if items.stamps is None:
        return StampedItems(items.ids, items.tenants, clock.take(len(items)))
    clock.observe(max((own for own in items.stamps if own is not None), default=0))
    # The others get one stamp for all: with that, the caller can repeat exactly this request.
    given = clock.take(1) if None in items.stamps else None
    stamps = [cast(int, given if own is None else own) for own in items.stamps]
    # Of two items with the same ID and stamp the later one of the request wins, not the larger tenant.
    last = {key: i for i, key in enumerate(zip(items.ids, stamps, strict=True))}
    kept = sorted(last.values())
    return StampedItems(
        [items.ids[i] for i in kept],
        [items.tenants[i] for i in kept],
        0,
        [stamps[i] for i in kept],
        given,
        kept if len(kept) < len(items) else None,
        len(items),
    )


def require_late(oldest: int, floor: int) -> None:
    """
    Refuse a stamp that nodes do not take any more.

    :param floor: they take only later ones; 0: they take all.
    :raises StampTooOld: it is not.
    """
    if floor and oldest <= floor:
        raise StampTooOld(floor)
