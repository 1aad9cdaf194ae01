"""
What watchers of a store are told: whose counts change, and what happens to the nodes.

This module is public (docs/extending.md).
"""

from collections.abc import Sequence
from typing import Literal, Protocol, Self

from msgspec import Struct

from dcounter.errors import NotSupportedHere


class Wanted(Struct, frozen=True):
    """
    Which events a watcher wants.

    :ivar tenants: those of these tenants; `None`: of all.
    :ivar prefixes: only those of tenants whose names begin with one of these; none: of all.
    :ivar nodes: whether it wants to know what happens to nodes.
    """

    tenants: tuple[str, ...] | None = None
    prefixes: tuple[str, ...] = ()
    nodes: bool = True


class CountChanged(Struct, frozen=True):
    """
    A tenant owns another number of items than before.

    :ivar counter: how many.
    """

    tenant: str
    counter: int


class NodeChanged(Struct, frozen=True, omit_defaults=True):
    """
    Something has happened to a node.

    :ivar change: it is connected; it is not, or silent; it is asked first; it takes no writes; it takes them
        again; it was removed.
    :ivar reason: why it takes no writes.
    """

    node: int
    change: Literal["up", "down", "primary", "refuses", "accepts", "removed"]
    reason: str | None = None


class Reset(Struct, frozen=True):
    """
    Events are missing: any count may have changed.

    :ivar position: later events tell of all changes after it.
    """

    position: str


class Dropped(Struct, frozen=True):
    """
    The last event.

    :ivar code: the watcher reads too slowly; its token is no longer valid; the daemon stops.
    :ivar detail: the same for people.
    """

    code: Literal["slow", "token", "stopping"]
    detail: str


Event = CountChanged | NodeChanged | Reset | Dropped


class News(Struct):
    """
    Some events, in their order.

    :ivar events: none: there is nothing new.
    :ivar id: where to go on after these; `None` if they do not say.
    :ivar shown: the same events as bytes, kept by the sender for its other watchers. The store
        does not use it.
    """

    events: Sequence[Event]
    id: str | None
    shown: bytes = b""


class Feed(Protocol):
    """
    The events for one watcher: iterate over it until it ends, or close it.

    From time to time it gives news without events. By sending these, the sender notices
    a watcher that is gone.

    :ivar position: the events tell of all changes after it.
    :ivar id: where the feed begins, as `watch` may be given it later.
    :ivar resumed: whether it goes on where another feed ended: no event is missing between them.
    """

    position: str
    id: str
    resumed: bool

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> News: ...

    def close(self) -> None:
        """
        End it: nobody wants its events any more.
        """


class Watchable(Protocol):
    """
    What tells watchers of its changes.
    """

    async def watch(self, wanted: Wanted, *, since: str | None = None) -> Feed:
        """
        Tell whose counts change from now on.

        Of several changes of one tenant only the last one need be told, and it is told in the end: after the
        last change, the last event of each tenant tells its count. If the store cannot tell which counts have
        changed, `Reset` says so.

        :param since: the `id` of news that were read before: go on after them, if that is possible.
        """
        raise NotSupportedHere("this store cannot tell what changes")
