"""
The answers of a `dcounter.store.Store` to questions; and exports.

It is public by way of `dcounter.store`, which exports all of it.
"""

from collections.abc import AsyncGenerator, Sequence

from msgspec import Struct


class Answered(Struct, frozen=True, kw_only=True):
    """
    What belongs to every answer but a single count, which has the same as a `Count`.

    :ivar position: the token with which later answers do not go back behind this one.
    :ivar complete: whether it includes every write that was answered before it was asked.
    :ivar missing: ids of the nodes whose items may be missing from it, if it is not complete.
    """

    position: str
    complete: bool = True
    missing: Sequence[int] = ()


class Item(Struct, frozen=True):
    """
    An item as it is stored.

    :ivar stamp: its `lastUpdateDt` (ns since 1970).
    """

    id: int
    tenant: str
    stamp: int


class Looked(Answered, frozen=True, kw_only=True):
    """
    Items that were looked up, all at the same moment.

    :ivar items: one for each ID, in the order asked; `None` if no tenant owns it.
    """

    items: Sequence[Item | None]


class Counts(Answered, frozen=True, kw_only=True):
    """
    Counts of many tenants, all at the same moment.

    :ivar counters: one for each tenant, in the order asked.
    """

    counters: Sequence[int]


class PrefixCount(Answered, frozen=True, kw_only=True):
    """
    What the tenants with a prefix own together.

    :ivar counter: their items.
    :ivar tenants: how many of them own any.
    """

    counter: int
    tenants: int


class TenantPage(Answered, frozen=True, kw_only=True):
    """
    A page of a list of tenants.

    :ivar tenants: names, and how many items each of them owns.
    :ivar cursor: with it the next page is asked for; `None` if this is the last one.
    """

    tenants: Sequence[tuple[str, int]]
    cursor: str | None


class ItemPage(Answered, frozen=True, kw_only=True):
    """
    A page of a list of the IDs that a tenant owns, in ascending order.

    :ivar cursor: with it the next page is asked for; `None` if this is the last one.
    """

    ids: Sequence[int]
    cursor: str | None


class Statistics(Answered, frozen=True, kw_only=True):
    """
    How much a store holds. Of our nodes, each holds everything: it is what one of them holds.

    :ivar items: IDs that a tenant owns.
    :ivar tenants: tenants that own items.
    :ivar tombstones: IDs that were deleted.
    :ivar memory_bytes: what they take in memory.
    :ivar memory_bytes_of_ten: about what ten times as much would take in memory.
    :ivar disk_bytes: what they take on the disk.
    """

    items: int
    tenants: int
    tombstones: int
    memory_bytes: int
    memory_bytes_of_ten: int
    disk_bytes: int


class ExportPiece(Struct, frozen=True):
    """
    Some items of an export.

    :ivar lines: a line of JSON for each of them, as `POST /items` takes it.
    :ivar rows: how many lines there are.
    """

    lines: bytes
    rows: int


class Export(Answered, frozen=True, kw_only=True):
    """
    Everything that is stored, piece by piece.

    Each item is there exactly once, as it was at `position` or later. IDs that are new since then may be
    missing.

    :ivar items: how many there will be, about; `None` if only some were asked for.
    :ivar pieces: the items. They are read no faster than they are taken. It raises `AnswerBroken` if the rest
        cannot be had; to be closed if no more is wanted.
    """

    items: int | None
    pieces: AsyncGenerator[ExportPiece, None]
