"""
The HTTP API without a cluster: for tests of programs that call it.

`MemoryClient` is a `dcounter.client.Client` whose requests never leave the process. They pass through the
real routes, which check, refuse and answer them as those of a daemon do, and end in a `MemoryStore`.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from time import time_ns
from typing import Any, TypeVar, cast, get_args

import numpy as np
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from zope.interface import implementer

from dcounter.audits import Audited, AuditState, Rebuild
from dcounter.client import Client, Http
from dcounter.errors import Incomplete, InvalidCursor, InvalidPosition, Refusal, UnknownNode
from dcounter.events import CountChanged, Wanted
from dcounter.http.auth import OperatorToken
from dcounter.http.routes import make_resource
from dcounter.http.server import make_api
from dcounter.http.table import ROUTES, served
from dcounter.ledger.audit import hash_of, mix
from dcounter.ledger.export_lines import export_lines
from dcounter.load_body import LoadBody
from dcounter.protocol.secrets import Secrets
from dcounter.protocol.token import CursorSeal
from dcounter.store import (
    Ack,
    Capability,
    Change,
    Changes,
    ClusterStatus,
    Consistency,
    Count,
    Counts,
    Erased,
    Export,
    ExportPiece,
    Item,
    ItemPage,
    Items,
    Looked,
    NodeStatus,
    Operator,
    Order,
    PrefixCount,
    Readiness,
    Receipt,
    Statistics,
    Store,
    TenantPage,
)
from dcounter.testing.memory_feed import MemoryFeed

_OPERATOR = "operator-of-the-memory"
_POSITION = "memory-"
_TEN_SECONDS = 10_000_000_000
_ITEM_BYTES = 100
_K = TypeVar("_K")


class MemoryStore(Store):
    """
    A `dcounter.store.Store` in one dictionary.

    :param now: the clock (ns since 1970).
    :ivar refusal: if there is one, every request is refused with it.
    :ivar missing: nodes whose items are unaccounted for: then no count is exact.
    :ivar ready: whether callers should be sent here.
    :ivar capabilities: what it can do; to be changed before a client is made.
    """

    capabilities: AbstractSet[Capability] = frozenset(get_args(Capability))

    def __init__(self, now: Callable[[], int] = time_ns) -> None:
        self.refusal: Refusal | None = None
        self.missing: tuple[int, ...] = ()
        self.ready = True
        self._now = now
        self._winners: dict[int, tuple[int, str]] = {}
        """
        ID -> its stamp and tenant; an empty one if it is deleted.
        """
        self._last = 0
        self._feeds: dict[MemoryFeed, None] = {}
        self._cursors = CursorSeal(Secrets(b"memory"), "memory")
        self._audited: Audited | None = None

    @property
    def tenants(self) -> Mapping[int, str]:
        """
        Which tenant owns each ID.
        """
        return {item: tenant for item, (_, tenant) in self._winners.items() if tenant}

    async def store(
        self, items: Items, *, ack: Ack, after: str | None = None, changes: bool = False
    ) -> Receipt:
        self._check(after)
        keys = list(zip(items.ids, self._stamps(items), strict=True))
        # Of two in one request with the same ID and stamp, the later one is offered.
        last = {key: i for i, key in enumerate(keys)}
        told: list[Change] = []
        touched: set[str] = set()
        for i, ((item, stamp), tenant) in enumerate(zip(keys, items.tenants, strict=True)):
            before, offered = self._winners.get(item, (-1, "")), (stamp, tenant or "")
            if last[item, stamp] != i:
                told.append("stale")
                continue
            told.append(_change(before, offered))
            touched.add(offered[1])
            if told[-1] != "stale":
                touched.add(before[1])
                self._winners[item] = offered
        if not changes and not self._feeds:
            return Receipt(len(items), ack, self._position())
        owners = Counter(self.tenants.values())
        counts = {tenant: owners[tenant] for tenant in sorted(touched - {""})}
        for feed in list(self._feeds):
            events = [CountChanged(each, number) for each, number in counts.items() if feed.wants(each)]
            feed.tell(events, self._position())
        if not changes:
            return Receipt(len(items), ack, self._position())
        return Receipt(len(items), ack, self._position(), changes=Changes(told, counts))

    async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
        self._check(after)
        number = self._number(tenant)
        return Count(number, **self._gaps(consistency, number))

    async def look_up(
        self, ids: Sequence[int], *, consistency: Consistency, after: str | None = None
    ) -> Looked:
        self._check(after)
        owners = self.tenants
        items = [Item(item, owners[item], self._winners[item][0]) if item in owners else None for item in ids]
        return Looked(items=items, **self._gaps(consistency))

    async def count_many(
        self, tenants: Sequence[str], *, consistency: Consistency, after: str | None = None
    ) -> Counts:
        self._check(after)
        return Counts(counters=[self._number(each) for each in tenants], **self._gaps(consistency))

    async def count_prefix(
        self, prefix: str, *, consistency: Consistency, after: str | None = None
    ) -> PrefixCount:
        self._check(after)
        found = self._counts(prefix)
        counter = sum(found.values())
        return PrefixCount(counter=counter, tenants=len(found), **self._gaps(consistency))

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
        self._check(after)
        words = ("tenants", order, prefix)
        ranked = sorted(
            (-number if order == "-count" else 0, name) for name, number in self._counts(prefix).items()
        )
        if cursor is not None:
            place = self._open(words, cursor, tuple[int, str])
            ranked = [each for each in ranked if each > place]
        following = self._cursors.seal(words, ranked[limit - 1]) if len(ranked) > limit else None
        page = [(name, self._number(name)) for _, name in ranked[:limit]]
        return TenantPage(tenants=page, cursor=following, **self._gaps(consistency))

    async def list_items(
        self,
        tenant: str,
        *,
        limit: int,
        cursor: str | None = None,
        consistency: Consistency,
        after: str | None = None,
    ) -> ItemPage:
        self._check(after)
        words = ("items", tenant)
        ids = sorted(item for item, owner in self.tenants.items() if owner == tenant)
        if cursor is not None:
            place = self._open(words, cursor, int)
            ids = [item for item in ids if item > place]
        following = self._cursors.seal(words, ids[limit - 1]) if len(ids) > limit else None
        return ItemPage(ids=ids[:limit], cursor=following, **self._gaps(consistency))

    async def erase(
        self, tenant: str, *, ack: Ack, after: str | None = None, stamp: int | None = None
    ) -> Erased:
        self._check(after)
        stamp = self._take() if stamp is None else stamp
        owned = [item for item, (when, owner) in self._winners.items() if owner == tenant and when <= stamp]
        for item in owned:
            self._winners[item] = (self._winners[item][0] + 1, "")
        self._last = max(self._last, stamp + 1)
        return Erased(len(owned), stamp, ack, self._position())

    async def statistics(self, *, consistency: Consistency, after: str | None = None) -> Statistics:
        self._check(after)
        items = len(self.tenants)
        return Statistics(
            items=items,
            tenants=len(self._counts("")),
            tombstones=len(self._winners) - items,
            memory_bytes=_ITEM_BYTES * items,
            memory_bytes_of_ten=10 * _ITEM_BYTES * items,
            disk_bytes=0,
            **self._gaps(consistency),
        )

    async def watch(self, wanted: Wanted, *, since: str | None = None) -> MemoryFeed:
        self._check(None)
        feed = MemoryFeed(wanted, self._position(), self._feeds.pop)
        self._feeds[feed] = None
        return feed

    async def export(
        self,
        *,
        deleted: bool,
        prefixes: Sequence[str] = (),
        consistency: Consistency,
        after: str | None = None,
    ) -> Export:
        self._check(after)
        bound = tuple(prefixes)
        wanted = [
            (item, stamp, tenant)
            for item, (stamp, tenant) in self._winners.items()
            if (tenant.startswith(bound or "") if tenant else deleted and not bound)
        ]

        async def pieces() -> AsyncGenerator[ExportPiece, None]:
            if wanted:
                ids, stamps, tenants = zip(*wanted, strict=True)
                lines = export_lines(np.array(ids, np.int64), np.array(stamps, np.int64), tenants)
                yield ExportPiece(lines, len(wanted))

        items = None if bound else len(wanted)
        return Export(items=items, pieces=pieces(), **self._gaps(consistency))

    async def audit(self, tenants: Sequence[str] = (), rebuild: Rebuild | None = None) -> Audited:
        self._check(None)
        counts = Counter(self.tenants.values())
        self._audited = Audited(
            position=self._position(),
            nodes=[0],
            not_audited=[],
            items=len(self.tenants),
            tombstones=len(self._winners) - len(self.tenants),
            digest=self._digest(),
            counts=[(tenant, counts[tenant]) for tenant in dict.fromkeys(tenants)],
            differences=None,
            finished=self._now(),
            duration_s=0.0,
        )
        return self._audited

    def _digest(self) -> str:
        rows = [(item, stamp, tenant or None) for item, (stamp, tenant) in self._winners.items()]
        ids, stamps, owners = zip(*rows, strict=True) if rows else ((), (), ())
        hashes = np.array([hash_of(each) for each in owners], np.uint64)
        mixed = mix(np.array(ids, np.int64), np.array(stamps, np.int64), hashes)
        return f"{int(mixed.sum()):016x}"

    def audits(self) -> AuditState:
        age = None if self._audited is None else (self._now() - self._audited.finished) / 10**9
        return AuditState(None, self._audited, age, None)

    def _counts(self, prefix: str) -> Mapping[str, int]:
        return Counter(owner for owner in self.tenants.values() if owner.startswith(prefix))

    def _open(self, words: Sequence[str], cursor: str, kind: type[_K]) -> _K:
        try:
            return self._cursors.open(words, cursor, kind)
        except ValueError as error:
            raise InvalidCursor("the cursor is not from an earlier page of this list") from error

    def _number(self, tenant: str) -> int:
        return sum(owner == tenant for _, owner in self._winners.values())

    def _gaps(self, consistency: Consistency, counter: int | None = None) -> dict[str, Any]:
        """
        What an answer says of its position, and of what is missing.
        """
        if not self.missing or consistency == "eventual":
            return {"position": self._position()}
        if consistency == "exact":
            raise Incomplete(
                f"the items of nodes {list(self.missing)} are not accounted for",
                counter_so_far=counter,
                missing=self.missing,
                retry_after=1,
            )
        return {"position": self._position(), "complete": False, "missing": self.missing}

    def join(self, first: str, second: str) -> str:
        return f"{_POSITION}{max(int(each.removeprefix(_POSITION)) for each in (first, second))}"

    def latest_stamp(self) -> int:
        return self._now() + _TEN_SECONDS

    def readiness(self) -> Readiness:
        return Readiness(ready=self.ready, exact=not self.missing, missing=self.missing)

    def _check(self, after: str | None) -> None:
        if self.refusal is not None:
            raise self.refusal
        stamp = "" if after is None else after.removeprefix(_POSITION)
        if after is not None and not (stamp.isdecimal() and after.startswith(_POSITION)):
            raise InvalidPosition("the position is not of this cluster")

    def _stamps(self, items: Items) -> Sequence[int]:
        if items.stamps is None:
            return [self._take() for _ in items.ids]
        self._last = max([self._last, *(own for own in items.stamps if own is not None)])
        given = self._take() if None in items.stamps else 0
        return [given if own is None else own for own in items.stamps]

    def _take(self) -> int:
        self._last = max(self._now(), self._last + 1)
        return self._last

    def _position(self) -> str:
        return f"{_POSITION}{self._last}"


def _change(before: tuple[int, str], after: tuple[int, str]) -> Change:
    """
    What an update does to an ID: stamp and tenant before, and those that are offered.
    """
    if after < before:
        return "stale"
    if after[1] == before[1]:
        return "unchanged"
    if not after[1]:
        return "deleted"
    return "moved" if before[1] else "created"


class MemoryOperator:
    """
    A `dcounter.store.Operator` of nodes that are only a list: none is connected, so that each can be removed.

    :ivar restarted: nodes that were restarted, in order.
    :ivar rebuilt: nodes that were made anew, in order.
    :ivar removed: nodes that were removed, in order.
    :ivar compacted: the stamps of compactions, in order; `None` if the caller named none.
    :ivar refusal: if there is one, all of these are refused with it.
    """

    def __init__(self, nodes: int = 4) -> None:
        self.refusal: Refusal | None = None
        self.restarted: list[int] = []
        self.rebuilt: list[int] = []
        self.removed: list[int] = []
        self.compacted: list[int | None] = []
        self._nodes = list(range(nodes))

    def status(self) -> ClusterStatus:
        nodes = [
            NodeStatus(
                id=node,
                address=f"memory:{node}",
                pid=None,
                state="new",
                role="backup",
                run=None,
                items=0,
                items_taken=0,
                applied={},
                durable={},
                lag=0,
            )
            for node in self._nodes
        ]
        return ClusterStatus(primary=None, nodes=nodes, clock_skew_ms=0, cluster="memory")

    async def restart(self, node: int) -> None:
        self._check(node)
        self.restarted.append(node)

    async def rebuild(self, node: int) -> None:
        self._check(node)
        self.rebuilt.append(node)

    async def remove(self, node: int) -> None:
        self._check(node)
        self._nodes.remove(node)
        self.removed.append(node)

    async def compact(self, before: int | None) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.compacted.append(before)
        return 0 if before is None else before

    def _check(self, node: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        if node not in self._nodes:
            raise UnknownNode(f"there is no node {node}, only nodes {self._nodes}")


@implementer(IConsumer)
class _Collected:
    """
    A body as it is written.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def registerProducer(self, producer: object, streaming: bool) -> None:
        raise AssertionError(producer)

    def unregisterProducer(self) -> None:
        raise AssertionError

    def write(self, data: bytes) -> None:
        self.parts.append(data)


class _WholeBodies:
    """
    Sends requests in memory, where a body must be whole before it is sent.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._request(method, url, **how))

    async def _request(self, method: str, url: str, **how: Any) -> Any:
        body = how["data"]
        if isinstance(body, LoadBody):
            collected = _Collected()
            await body.startProducing(collected)
            how["data"] = b"".join(collected.parts)
        return await self._http.request(method, url, **how)


class MemoryClient(Client):
    """
    A client of an API in memory.

    :param store: what the API stores in.
    :param operator: for `status`, `restart` and `remove`.
    """

    def __init__(self, store: Store, operator: Operator | None = None) -> None:
        api = make_api(store, operator=operator, token=OperatorToken("memory", _OPERATOR.encode()))
        self._treq = StubTreq(make_resource(api, served(ROUTES, store.capabilities)))
        # It has what the functions of treq are called, though no annotation says so.
        http = _WholeBodies(cast(Http, self._treq))
        super().__init__("http://localhost", Clock(), http=http, operator_token=_OPERATOR)

    def flush(self) -> None:
        """
        Deliver what a store answers later than at once: to be called when it has.
        """
        self._treq.flush()
