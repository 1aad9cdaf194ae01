"""
The answers to successful requests. Functions of routes make them, and `dcounter.client` reads them.

This module is public (docs/extending.md).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from dcounter.errors import ItemError
from dcounter.store import Ack, Change


class Hello(Struct, frozen=True):
    """
    The first event for a watcher.

    :ivar position: the events tell of all changes after it.
    :ivar version: of the events.
    :ivar resumed: whether no event is missing since the one that the watcher named in `Last-Event-ID`.
    :ivar tenants: the events are only of these tenants; `None`: they are not chosen by name.
    :ivar prefixes: the events are only of tenants whose names begin with one of these; `None`: they are not
        chosen by prefix.
    :ivar nodes: whether there are events of nodes.
    """

    position: str
    version: int
    resumed: bool
    tenants: Sequence[str] | None
    prefixes: Sequence[str] | None
    nodes: bool


class Stored(Struct, frozen=True):
    """
    The answer to a request to store or to delete.

    :ivar status: `PARTIAL` if items were invalid, and skipped.
    :ivar items: how many items the request named; without those that were skipped.
    :ivar ack: which nodes have written them.
    :ivar position: the token with which a later read or write sees this one.
    :ivar warning: what the caller should know, although the items are stored.
    :ivar receipts: with `receipt=1`: what became of each item that was not skipped.
    :ivar counts: with `receipt=1`: how many items each tenant owns that the request names or took items from;
        left out if that is too much for one answer.
    :ivar complete: `False` if receipts and counts are not exact; left out otherwise.
    :ivar missing: ids of the nodes whose items may be missing from them; left out if they are exact.
    :ivar invalid: how many items were skipped; left out if none was.
    :ivar errors: the first 100 mistakes in them; left out if none was skipped.
    """

    status: Literal["OK", "PARTIAL"]
    items: int
    ack: Ack
    position: str
    warning: str | UnsetType = UNSET
    receipts: Sequence[Change] | UnsetType = UNSET
    counts: Mapping[str, int] | UnsetType = UNSET
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET
    invalid: int | UnsetType = UNSET
    errors: Sequence[ItemError] | UnsetType = UNSET


class LineError(Struct, frozen=True):
    """
    What is wrong with a line of a load.

    :ivar line: its number, from 1.
    :ivar field: the JSON field, or an empty text if the line as a whole is wrong.
    """

    line: int
    field: str
    message: str


class Loaded(Struct, frozen=True):
    """
    The answer to a load.

    :ivar status: `PARTIAL` if lines were invalid, and skipped.
    :ivar items: how many items are stored.
    :ivar lines: how many lines the load had, empty ones included.
    :ivar ack: which nodes have written them.
    :ivar position: the token with which a later read or write sees all of them.
    :ivar warning: what the caller should know, although the items are stored.
    :ivar invalid: how many lines were skipped; left out if none was.
    :ivar errors: what is wrong with the first 100 of them; left out if none was.
    """

    status: Literal["OK", "PARTIAL"]
    items: int
    lines: int
    ack: Ack
    position: str
    warning: str | UnsetType = UNSET
    invalid: int | UnsetType = UNSET
    errors: Sequence[LineError] | UnsetType = UNSET


class Erased(Struct, frozen=True):
    """
    The answer to the deletion of a tenant.

    :ivar deleted: how many items it owned.
    :ivar lastUpdateDt: the stamp of the request, RFC 3339 with nine fractional digits: what the tenant owned
        then is deleted.
    :ivar ack: which nodes have written that.
    :ivar position: the token with which a later read or write sees it.
    """

    status: Literal["OK"]
    tenant: str
    deleted: int
    lastUpdateDt: str
    ack: Ack
    position: str


class Counted(Struct, frozen=True):
    """
    The answer to a count.

    :ivar complete: `False` if the count is not exact; left out if it is.
    :ivar missing: ids of the nodes whose items may be missing from the count; left out if it is exact.
    """

    counter: int
    tenant: str
    position: str
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class StoredItem(Struct, frozen=True):
    """
    An item as it is stored.

    :ivar lastUpdateDt: its stamp, RFC 3339 with nine fractional digits.
    """

    ID: int
    tenant: str
    lastUpdateDt: str


class FoundItem(Struct, frozen=True):
    """
    The answer to a question for one item.

    :ivar lastUpdateDt: its stamp, RFC 3339 with nine fractional digits.
    :ivar complete: `False` if the answer is not exact; left out if it is. So it is in the answers below.
    :ivar missing: ids of the nodes whose items may be missing; left out if the answer is exact.
    """

    ID: int
    tenant: str
    lastUpdateDt: str
    position: str
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class FoundItems(Struct, frozen=True):
    """
    The answer to a question for many items.

    :ivar items: those that a tenant owns, in the order asked.
    :ivar unknown: the other IDs: they were never stored, or were deleted.
    """

    items: Sequence[StoredItem]
    unknown: Sequence[int]
    position: str
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class CountOf(Struct, frozen=True):
    """
    How many items a tenant owns.
    """

    tenant: str
    counter: int


class CountedMany(Struct, frozen=True):
    """
    The answer to a question for many counts.

    :ivar counts: one for each tenant, in the order asked.
    """

    counts: Sequence[CountOf]
    position: str
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class CountedPrefix(Struct, frozen=True):
    """
    The answer to a question for the items of all tenants with a prefix.

    :ivar prefix: what was asked for.
    :ivar counter: how many items they own together.
    :ivar tenants: how many of them own items.
    """

    prefix: str
    counter: int
    tenants: int
    position: str
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class ListedTenants(Struct, frozen=True):
    """
    A page of tenants.

    :ivar tenants: names and counts, in the order asked for.
    :ivar cursor: for the next page; left out on the last one.
    """

    tenants: Sequence[CountOf]
    position: str
    cursor: str | UnsetType = UNSET
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class ListedItems(Struct, frozen=True):
    """
    A page of the IDs that a tenant owns, in ascending order.

    :ivar IDs: those of this page.
    :ivar cursor: for the next page; left out on the last one.
    """

    tenant: str
    IDs: Sequence[int]
    position: str
    cursor: str | UnsetType = UNSET
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class Statistics(Struct, frozen=True):
    """
    How much the store holds.

    :ivar items: IDs that a tenant owns.
    :ivar tenants: tenants that own items.
    :ivar tombstones: IDs that were deleted.
    :ivar memory_bytes: what the items take in the memory of a node.
    :ivar memory_bytes_of_ten: about what ten times as many of everything would take there.
    :ivar disk_bytes: what the items take on the disk of a node.
    """

    items: int
    tenants: int
    tombstones: int
    memory_bytes: int
    memory_bytes_of_ten: int
    disk_bytes: int
    position: str
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class Operated(Struct, frozen=True):
    """
    The answer to an operation on a node.
    """

    status: Literal["OK"]
    node: int


class Compacted(Struct, frozen=True):
    """
    The answer to a request to compact.

    :ivar before: deletions up to this time are being forgotten, RFC 3339; items with such stamps are refused.
    """

    status: Literal["OK"]
    before: str


class Check(Struct, frozen=True):
    """
    Something that is checked.

    :ivar name: what it is, for programs: it does not change.
    :ivar ok: whether it is well.
    :ivar detail: the same in words.
    """

    name: str
    ok: bool
    detail: str


class Alive(Struct, frozen=True, omit_defaults=True):
    """
    The answer of a running process.

    :ivar checks: what was checked, if the request asks for it.
    """

    status: Literal["OK"]
    checks: Sequence[Check] | UnsetType = UNSET


class Ready(Struct, frozen=True):
    """
    The answer of a daemon that is ready for requests.

    :ivar exact: whether counts are exact.
    :ivar missing: ids of the members that have not reported since the start, or whose items no live node can
        account for.
    :ivar warnings: what an operator should look at, one sentence each.
    """

    exact: bool
    missing: Sequence[int]
    warnings: Sequence[str]
