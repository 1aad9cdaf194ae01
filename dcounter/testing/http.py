"""
The HTTP API without a cluster: for tests of programs that call it.

`memory_client` is a `dcounter.client.Client` whose requests never leave the process. They pass through the
real routes, which check, refuse and answer them as those of a daemon do, and end in a `MemoryStore`.
"""

from collections.abc import Mapping
from typing import cast

from treq.testing import StubTreq
from twisted.internet.task import Clock

from dcounter.client import Client, Http
from dcounter.errors import Refusal, UnknownNode
from dcounter.http.auth import OperatorToken
from dcounter.http.routes import make_resource
from dcounter.http.site import make_api
from dcounter.http.table import ROUTES
from dcounter.store import (
    Ack,
    ClusterStatus,
    Consistency,
    Count,
    Items,
    Operator,
    Readiness,
    Receipt,
    Store,
)

_OPERATOR = "operator-of-the-memory"
_TEN_SECONDS = 10_000_000_000


class MemoryStore:
    """
    A `dcounter.store.Store` in one dictionary.

    :ivar now: the clock (ns since 1970): a test sets it.
    :ivar refusal: if there is one, every request is refused with it.
    :ivar missing: nodes whose items are unaccounted for: then no count is exact.
    :ivar ready: whether callers should be sent here.
    """

    def __init__(self, now: int = 0) -> None:
        self.now = now
        self.refusal: Refusal | None = None
        self.missing: tuple[int, ...] = ()
        self.ready = True
        self._winners: dict[int, tuple[int, str]] = {}
        self._last = 0

    @property
    def tenants(self) -> Mapping[int, str]:
        """
        Which tenant owns each ID.
        """
        return {item: tenant for item, (_, tenant) in self._winners.items()}

    async def store(self, items: Items, *, ack: Ack, after: str | None = None) -> Receipt:
        self._refuse()
        own = items.stamps or [None] * len(items)
        for item, tenant, stamp in zip(items.ids, items.tenants, own, strict=True):
            self._last = max(self.now, self._last + 1) if stamp is None else max(self._last, stamp)
            offered = (self._last if stamp is None else stamp, tenant)
            # The later of two items of a request with the same stamp wins.
            if item not in self._winners or self._winners[item][0] <= offered[0]:
                self._winners[item] = offered
        return Receipt(len(items), ack, self._position())

    async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
        self._refuse()
        number = sum(owner == tenant for _, owner in self._winners.values())
        return Count(number, self._position(), complete=not self.missing, missing=self.missing)

    def latest_stamp(self) -> int:
        return self.now + _TEN_SECONDS

    def readiness(self) -> Readiness:
        return Readiness(ready=self.ready, exact=not self.missing, missing=self.missing)

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def _position(self) -> str:
        return f"memory-{self._last}"


class MemoryOperator:
    """
    A `dcounter.store.Operator` of nodes that are only a list.

    :ivar restarted: nodes that were restarted, in order.
    :ivar removed: nodes that were removed, in order.
    :ivar refusal: if there is one, restarts and removals are refused with it.
    """

    def __init__(self, nodes: int = 4) -> None:
        self.refusal: Refusal | None = None
        self.restarted: list[int] = []
        self.removed: list[int] = []
        self._nodes = nodes

    def status(self) -> ClusterStatus:
        return ClusterStatus(primary=0, nodes=[], clock_skew_ms=0)

    async def restart(self, node: int) -> None:
        self._check(node)
        self.restarted.append(node)

    async def remove(self, node: int) -> None:
        self._check(node)
        self.removed.append(node)

    def _check(self, node: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        if not 0 <= node < self._nodes:
            raise UnknownNode(f"there is no node {node}")


def memory_client(store: Store, operator: Operator | None = None) -> Client:
    """
    A client of an API over a store in memory.

    :param operator: for `Client.status`, `Client.restart` and `Client.remove`.
    """
    api = make_api(store, operator=operator, token=OperatorToken("memory", _OPERATOR.encode()))
    # It has what the functions of treq are called, though no annotation says so.
    http = cast(Http, StubTreq(make_resource(api, ROUTES)))
    return Client("http://localhost", Clock(), http=http, token=_OPERATOR)
