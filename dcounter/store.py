"""
All that HTTP sees: a `Store` holds the items, an `Operator` runs the nodes.

Our own nodes are both: the `Store` is in `dcounter.coordinator.service`, the `Operator` in
`dcounter.daemon.operations`. An engine over an existing database is a `Store` only. Positions are opaque
texts here: only the store that issued one can read it.

This module is public (docs/extending.md).
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, Protocol

from msgspec import Struct

from dcounter.answers import (
    Answered,
    Counts,
    Export,
    ExportPiece,
    Item,
    ItemPage,
    Looked,
    PrefixCount,
    Statistics,
    TenantPage,
)
from dcounter.audits import Auditable
from dcounter.erasing import Erased, Erasing
from dcounter.errors import NotSupportedHere
from dcounter.events import Watchable
from dcounter.words import Ack, Consistency, Order

# What comes from other modules and belongs to this interface.
__all__ = [
    "Ack",
    "Answered",
    "Consistency",
    "Counts",
    "Erased",
    "Export",
    "ExportPiece",
    "Item",
    "ItemPage",
    "Looked",
    "Order",
    "PrefixCount",
    "Statistics",
    "TenantPage",
]

Capability = Literal[
    "look_up",
    "count_many",
    "count_prefix",
    "list_tenants",
    "list_items",
    "statistics",
    "erase",
    "export",
    "audit",
    "watch",
    "receipts",
]
"""
What a store may be unable to do. `receipts` is to say what a request changes; each other one is the name of a
method of `Store`.
"""


class Items(Struct, frozen=True):
    """
    The items of one request, validated, as columns.

    :ivar ids: one signed 64-bit integer per item.
    :ivar tenants: one tenant name per item; `None` deletes the ID.
    :ivar stamps: the caller's own `lastUpdateDt` per item (ns since 1970), `None` where it sent none; no
        column if it sent none at all, which is the usual case.
    """

    ids: Sequence[int]
    tenants: Sequence[str | None]
    stamps: Sequence[int | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def stamped(self, stamp: int | None) -> "Items":
        """
        The same items, of which those without a stamp have this one.
        """
        if stamp is None:
            return self
        own = self.stamps or [None] * len(self.ids)
        return Items(self.ids, self.tenants, [stamp if each is None else each for each in own])


Change = Literal["created", "moved", "unchanged", "stale", "deleted"]
"""
What became of an item of a request, each as if those before it were stored already. No tenant had the ID
before; another tenant had it; the same tenant had it, or none had it and none has it; a newer update is
known; a tenant had the ID, and none has it now.
"""


class Changes(Struct, frozen=True):
    """
    What a request changed, as the node saw it that stored it in one piece.

    :ivar items: one for each item of the request.
    :ivar counts: of all tenants that the items name or were taken from, when all items were stored; `None` if
        that is too much for one answer.
    :ivar complete: whether the node had every write that was answered before this one was asked for.
    :ivar missing: ids of the nodes whose items it may have lacked, if it is not complete.
    """

    items: Sequence[Change]
    counts: Mapping[str, int] | None
    complete: bool = True
    missing: Sequence[int] = ()


class Receipt(Struct, frozen=True):
    """
    The answer to a store.

    Like `Count` it is a `Struct`: a frozen dataclass is slower to create.

    :ivar items: how many items the request held.
    :ivar ack: which nodes have written them: those that were requested, or more.
    :ivar position: the token with which a later read or write sees this one.
    :ivar warning: what the caller should know, although the items are stored; `None` if there is nothing.
    :ivar changes: what the request changed, if that was asked for.
    """

    items: int
    ack: Ack
    position: str
    warning: str | None = None
    changes: Changes | None = None


class Count(Struct, frozen=True):
    """
    The answer to a count.

    :ivar counter: items the tenant owns.
    :ivar complete: whether the number includes every write that was answered before it was asked.
    :ivar missing: ids of the nodes whose items may be missing from the count, if it is not complete.
    """

    counter: int
    position: str
    complete: bool = True
    missing: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Readiness:
    """
    Whether the store is ready for requests.

    :ivar ready: writes are taken and a primary answers.
    :ivar exact: counts are exact: the items of no member are missing.
    :ivar missing: ids of the members that have not reported since the start, or whose items no live node can
        account for.
    :ivar warnings: what an operator should look at, one sentence each.
    """

    ready: bool
    exact: bool
    missing: Sequence[int]
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """
    One node as the coordinator sees it.

    :ivar id: its number in the cluster.
    :ivar address: where it listens.
    :ivar pid: of its process; `None` if that is not known.
    :ivar state: `up`, `down` (no connection, or silent for too long) or `new` (never seen).
    :ivar role: `primary` or `backup`.
    :ivar run: the node's open run as text (it does not fit a JavaScript number); `None` if it has none.
    :ivar items: IDs that have a tenant in this node's ledger.
    :ivar items_taken: items this node stored straight from a coordinator since it started.
    :ivar applied: what counts here include: node id -> run -> highest number, keys as text.
    :ivar durable: what this node has journalled, in the same form.
    :ivar lag: batches this node misses from the join of all positions.
    :ivar reported_ms_ago: how old that is: milliseconds since the node reported last; `None` if it never has.
        A node reports at every heartbeat, and at once when something else than its items changes.
    :ivar refuses: why the node takes no writes at present; `None` if it takes them.
    :ivar loading: the node has started, and answers no exact count until it has loaded its ledger.
    :ivar tombstones: IDs that are deleted and still remembered in this node's ledger.
    :ivar compacted: deletions up to this stamp (RFC 3339) are forgotten here, or about to be; `None` if none
        are.
    :ivar in_doubt: the node has started on a failing disk, and answers no count until it is certain that the
        disk keeps the batches that only this node has.
    :ivar secrets_accepted: how many secrets of the cluster the node accepts; `None` if it has not reported.
    """

    id: int
    address: str
    pid: int | None
    state: str
    role: str
    run: str | None
    items: int
    items_taken: int
    applied: Mapping[str, Mapping[str, int]]
    durable: Mapping[str, Mapping[str, int]]
    lag: int
    reported_ms_ago: int | None = None
    refuses: str | None = None
    loading: bool = False
    in_doubt: bool = False
    secrets_accepted: int | None = None
    tombstones: int = 0
    compacted: str | None = None


@dataclass(frozen=True, slots=True)
class Software:
    """
    The software of the daemon that answers; nodes may have another one during an upgrade.

    :ivar version: of dcounter.
    :ivar commit: that it was made from; `None` if that is not known.
    :ivar protocol: the highest protocol between nodes that it speaks.
    :ivar lowest_protocol: the lowest one.
    :ivar journal_format: the highest format of journals and snapshots that it reads.
    """

    version: str
    commit: str | None
    protocol: int
    lowest_protocol: int
    journal_format: int


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """
    The cluster as the coordinator sees it.

    :ivar primary: the node asked for counts first; `None` if no node is up.
    :ivar secrets_accepted: how many secrets the coordinator accepts: 2 while the secret is being changed.
    :ivar nodes: its members.
    :ivar clock_skew_ms: how far the largest stamp seen is ahead of this machine's wall clock; 0 if it is not.
    :ivar cluster: the id of the cluster.
    :ivar lost: runs of which a part is lost for good: node id, run, and the last number that is left.
    :ivar warnings: what an operator should look at, one sentence each.
    :ivar software: of the daemon that answers; `None` if it does not say.
    """

    primary: int | None
    nodes: Sequence[NodeStatus]
    clock_skew_ms: int
    cluster: str = ""
    secrets_accepted: int = 1
    lost: Sequence[Mapping[str, int | str]] = field(default=())
    warnings: Sequence[str] = ()
    software: Software | None = None


class Questions(Auditable, Protocol):
    """
    What a store can be asked besides a single count.

    A store need not be able to answer all of it: `capabilities` names what it can do, and nothing else is
    asked. An engine that derives from `Store` need not define the rest.

    Every answer is exact, or says that it is not, as a count does. One that takes long may be computed while
    items are stored: what does not change meanwhile is in it exactly once.
    """

    @property
    def capabilities(self) -> AbstractSet[Capability]:
        """
        What the store can do.
        """
        return frozenset()

    async def look_up(
        self, ids: Sequence[int], *, consistency: Consistency, after: str | None = None
    ) -> Looked:
        """
        Look up items, at most 1,000.
        """
        raise NotSupportedHere("this store cannot look up items")

    async def count_many(
        self, tenants: Sequence[str], *, consistency: Consistency, after: str | None = None
    ) -> Counts:
        """
        Count the items of several tenants, at most 1,000.
        """
        raise NotSupportedHere("this store cannot count several tenants at once")

    async def count_prefix(
        self, prefix: str, *, consistency: Consistency, after: str | None = None
    ) -> PrefixCount:
        """
        Count the items of all tenants whose names begin with a prefix.
        """
        raise NotSupportedHere("this store cannot count by prefix")

    async def list_tenants(
        self,
        *,
        order: Order,
        prefix: str = "",
        limit: int,
        cursor: str | None = None,
        consistency: Consistency,
        after: str | None = None,
    ) -> TenantPage:
        """
        List the tenants that own items and whose names begin with a prefix.

        A walk over all pages meets each tenant that does not change meanwhile exactly once.

        :param limit: how many, at most 1,000; a page may have fewer and not be the last one.
        :param cursor: that of the page before, which was asked for with the same order and prefix.
        :raises InvalidCursor: it is not.
        """
        raise NotSupportedHere("this store cannot list tenants")

    async def list_items(
        self,
        tenant: str,
        *,
        limit: int,
        cursor: str | None = None,
        consistency: Consistency,
        after: str | None = None,
    ) -> ItemPage:
        """
        List the IDs that a tenant owns.

        :param limit: how many, at most 1,000; a page may have fewer, even none, and not be the last one.
        :param cursor: that of the page before, which was asked for with the same tenant.
        :raises InvalidCursor: it is not.
        """
        raise NotSupportedHere("this store cannot list items")

    async def statistics(self, *, consistency: Consistency, after: str | None = None) -> Statistics:
        """
        Tell how much the store holds.
        """
        raise NotSupportedHere("this store has no statistics")

    async def export(
        self,
        *,
        deleted: bool,
        prefixes: Sequence[str] = (),
        consistency: Consistency,
        after: str | None = None,
    ) -> Export:
        """
        Give everything that is stored.

        :param deleted: with the IDs that are deleted.
        :param prefixes: only items of tenants whose names begin with one of these, and no deleted IDs; none:
            of all.
        """
        raise NotSupportedHere("this store cannot be exported")


class Store(Questions, Erasing, Watchable, Protocol):
    """
    Stores items and counts them.

    Each call raises a `dcounter.errors.Refusal` if it cannot do what was asked.
    """

    async def store(
        self, items: Items, *, ack: Ack, after: str | None = None, changes: bool = False
    ) -> Receipt:
        """
        Store all items of a request; return when the nodes that `ack` asks for have written them.

        :param after: a position token: these items are newer than everything that it covers.
        :param changes: whether the receipt is to say what the request changed; only for a store that can, see
            `capabilities`.
        :raises NotSupportedHere: it cannot do so at present; nothing of the request is stored.
        """
        ...

    async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
        """
        Count a tenant's items; an unknown tenant has none.

        :param after: a position token: the count includes everything that it covers.
        """
        ...

    def join(self, first: str, second: str) -> str:
        """
        A position token that covers what each of two tokens covers.

        Both were answered by this store, since it started. Those of callers are not for this: it need not
        check them, and may not refuse what it no longer accepts from callers.
        """
        ...

    def latest_stamp(self) -> int:
        """
        The largest `lastUpdateDt` that an item may have now (ns since 1970).
        """
        ...

    def readiness(self) -> Readiness:
        """
        Whether the store is ready for requests.
        """
        ...


class Operator(Protocol):
    """
    What only our own nodes have: their state, and what an operator may do to them.
    """

    def status(self) -> ClusterStatus:
        """
        The state of the nodes.
        """
        ...

    async def restart(self, node: int) -> None:
        """
        Stop a node and start it again.

        :raises UnknownNode: there is no node with this id.
        :raises NodeIsBusy: it is being started or stopped.
        :raises NotSupported: this daemon did not start the nodes.
        """
        ...

    async def rebuild(self, node: int) -> None:
        """
        Let a node start empty, and be refilled by the others, if they have all that it has.

        :raises UnknownNode: there is no node with this id.
        :raises NodeIsBusy: it is being started or stopped.
        :raises NotSupported: this daemon did not start the nodes.
        :raises NotRepaired: the others do not have all of it, or that cannot be told.
        """
        ...

    async def remove(self, node: int) -> None:
        """
        Remove a node from the cluster for good.

        :raises UnknownNode: there is no node with this id.
        :raises NodeIsUp: it is connected.
        :raises NotApplied: no other node is connected that could be told.
        :raises NoAnswer: no other node confirmed it in time.
        """
        ...

    async def compact(self, before: int | None) -> int:
        """
        Have the nodes forget deletions up to a stamp; they take no items with such stamps any more.

        :param before: the stamp (ns since 1970); `None`: one hour ago.
        :returns: the stamp.
        :raises NotApplied: not all nodes are up and sound.
        :raises CompactionStopped: it began, and a node was lost.
        :raises NotSupportedHere: a node is of an older release.
        """
        ...
