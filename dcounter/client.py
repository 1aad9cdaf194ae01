"""
The HTTP client of a daemon: its API as coroutines, over treq.

This module is public (docs/extending.md).
"""

from collections.abc import AsyncIterable, Collection, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.web.client import RequestGenerationFailed

from dcounter.client_answers import Answer, Refused, Unexpected, Unreachable
from dcounter.client_audits import AuditCalls
from dcounter.client_bodies import Parts
from dcounter.client_errors import our_errors, too_late
from dcounter.client_events import Event, EventClient
from dcounter.client_export import ExportCutShort, Exported
from dcounter.client_requests import Http, of_store, target
from dcounter.client_upkeep import Upkeep
from dcounter.http.answer_bodies import (
    Counted,
    CountedMany,
    CountedPrefix,
    FoundItem,
    FoundItems,
    ListedItems,
    ListedTenants,
    Loaded,
    Operated,
    Ready,
    Statistics,
    Stored,
)
from dcounter.load_body import Encoding, LoadBody
from dcounter.store import Ack, ClusterStatus, Consistency, Order

__all__ = [
    "Answer",
    "Client",
    "Event",
    "ExportCutShort",
    "Exported",
    "Http",
    "Item",
    "Refused",
    "Unexpected",
    "Unreachable",
    "count_path",
    "target",
]

_LOAD_TIMEOUT: Final = 3_700.0
"""
Time (s) for a load: a little longer than a daemon takes to read it.
"""

_OK: Final = 200

_T = TypeVar("_T")

Item = Mapping[str, Any]
"""
An item to store: `ID`, `tenant` and perhaps `lastUpdateDt`. Or one to delete: `ID`, `deleted` and perhaps
`lastUpdateDt`.
"""


def count_path(tenant: str) -> str:
    """
    The path that counts a tenant's items.
    """
    return f"/items/{quote(tenant, safe='')}/count"


class Client(AuditCalls, Upkeep, EventClient):
    """
    Calls one daemon. Each request is sent once; the caller decides whether to send it again.

    Each coroutine raises `Refused` if the daemon refuses, `Unreachable` if there is no answer, and
    `Unexpected` if another program answers.

    :param base: the URL of the daemon, such as `http://127.0.0.1:8085`; or its Unix socket, as `unix:PATH`.
    :param http: sends the requests, instead of the client's own connections.
    :param token: the token that every request shows.
    :param operator_token: the operator's token, which only audits, `compact`, `restart` and `remove`
        show.
    :param timeout: time (s) for a request and its answer.
    :param certificate: to show over HTTPS where it is asked for, with its private key (PEM).
    """

    async def store(
        self,
        items: Collection[Item],
        *,
        ack: Ack | None = None,
        after: str | None = None,
        stamp: int | None = None,
        receipt: bool = False,
        partial: bool = False,
    ) -> Stored:
        """
        Store items.

        :param ack: which nodes must have written them before the answer.
        :param after: a position: these items are newer than everything that it covers.
        :param stamp: the stamp (ns since 1970) of all items that have no `lastUpdateDt`: with it, the same
            call can be repeated without harm.
        :param receipt: whether the answer is to say what became of each item, with the new counts.
        :param partial: store the valid items, although others are invalid; the answer lists the first
            mistakes.
        """
        parameters = {
            **of_store(ack, after, stamp, receipt=receipt),
            "partial": "1" if partial else None,
        }
        return (await self.ask("POST", "/items", parameters=parameters, json=[*items])).read(Stored)

    async def delete(
        self,
        ids: Collection[int],
        *,
        ack: Ack | None = None,
        after: str | None = None,
        stamp: int | None = None,
        receipt: bool = False,
    ) -> Stored:
        """
        Delete items; the parameters are those of `store`.
        """
        parameters = of_store(ack, after, stamp, receipt=receipt)
        return (await self.ask("POST", "/items/delete", parameters=parameters, json=[*ids])).read(Stored)

    async def load(
        self,
        items: AsyncIterable[Item],
        *,
        ack: Ack | None = None,
        after: str | None = None,
        stamp: int | None = None,
        partial: bool = False,
        encoding: Encoding | None = None,
        within: float = _LOAD_TIMEOUT,
    ) -> Loaded:
        """
        Store any number of items in one request, which is sent while they are made.

        An error that `items` raises ends the request, and is raised here; items before it may be stored.

        `ack`, `after` and `stamp` are those of `store`.

        :param partial: skip invalid items; the answer lists the first of them.
        :param encoding: compress the items.
        :param within: time (s) for the request and its answer.
        """
        parameters = {**of_store(ack, after, stamp), "partial": "1" if partial else None}
        return await self._load(items, parameters, encoding, within)

    async def restore(
        self,
        parts: AsyncIterable[bytes],
        *,
        ack: Ack | None = None,
        encoding: Encoding | None = None,
        within: float = _LOAD_TIMEOUT,
    ) -> Loaded:
        """
        Store the items of an export; the parameters are those of `load`.

        :param parts: of the whole export, from its first line to its last one.
        """
        return await self._load(parts, {"ack": ack}, encoding, within)

    async def _load(
        self,
        lines: AsyncIterable[Item | bytes],
        parameters: Mapping[str, str | None],
        encoding: Encoding | None,
        within: float,
    ) -> Loaded:
        body = LoadBody(lines, encoding)
        headers = self._with_token({"Content-Type": "application/x-ndjson"})
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        url = self._base + target("/items", parameters)
        exchange = Deferred.fromCoroutine(self._exchange("POST", url, headers=headers, data=body))
        try:
            answer = await exchange.addTimeout(within, self._clock, too_late)
        except RequestGenerationFailed:
            if body.failure is None:
                raise
            body.failure.raiseException()
        finally:
            # The daemon may answer before it has read everything.
            body.finish()
        return answer.read(Loaded)

    async def count(
        self, tenant: str, *, consistency: Consistency | None = None, after: str | None = None
    ) -> Counted:
        """
        Count a tenant's items.

        :param consistency: what to answer if the exact count is not available.
        :param after: a position: the count includes everything that it covers.
        """
        parameters = {"consistency": consistency, "after": after}
        answer = await self.ask("GET", count_path(tenant), parameters=parameters)
        return answer.read(Counted)

    async def item(
        self, item: int, *, consistency: Consistency | None = None, after: str | None = None
    ) -> FoundItem:
        """
        Look up an item; raises `Refused` with the code `unknown_item` if no tenant owns its ID.

        :param consistency: as for a count; so is `after`, and so are both in the methods below.
        """
        return await self._read(FoundItem, "GET", f"/items/{item}", consistency, after)

    async def look_up(
        self, ids: Collection[int], *, consistency: Consistency | None = None, after: str | None = None
    ) -> FoundItems:
        """
        Look up items, at most 1,000.
        """
        return await self._read(FoundItems, "POST", "/items/lookup", consistency, after, json=[*ids])

    async def counts(
        self, tenants: Collection[str], *, consistency: Consistency | None = None, after: str | None = None
    ) -> CountedMany:
        """
        Count the items of several tenants, at most 1,000, all at the same moment.
        """
        body = {"tenants": [*tenants]}
        return await self._read(CountedMany, "POST", "/counts", consistency, after, json=body)

    async def count_prefix(
        self, prefix: str = "", *, consistency: Consistency | None = None, after: str | None = None
    ) -> CountedPrefix:
        """
        Count the items of all tenants whose names begin with a prefix.
        """
        return await self._read(CountedPrefix, "GET", "/counts", consistency, after, prefix=prefix or None)

    async def tenants(
        self,
        *,
        sort: Order | None = None,
        prefix: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        consistency: Consistency | None = None,
        after: str | None = None,
    ) -> ListedTenants:
        """
        A page of the tenants whose names begin with a prefix.

        :param cursor: that of the page before; the last page has none.
        """
        page = {
            "sort": sort,
            "prefix": prefix or None,
            "limit": None if limit is None else str(limit),
            "cursor": cursor,
        }
        return await self._read(ListedTenants, "GET", "/tenants", consistency, after, **page)

    async def items_of(
        self,
        tenant: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        consistency: Consistency | None = None,
        after: str | None = None,
    ) -> ListedItems:
        """
        A page of the IDs that a tenant owns.

        :param cursor: that of the page before; the last page has none.
        """
        path = f"/tenants/{quote(tenant, safe='')}/items"
        page = {"limit": None if limit is None else str(limit), "cursor": cursor}
        return await self._read(ListedItems, "GET", path, consistency, after, **page)

    async def statistics(
        self, *, consistency: Consistency | None = None, after: str | None = None
    ) -> Statistics:
        """
        How much is stored, and what that takes.
        """
        return await self._read(Statistics, "GET", "/stats", consistency, after)

    async def _read(
        self,
        kind: type[_T],
        method: str,
        path: str,
        consistency: Consistency | None,
        after: str | None,
        *,
        json: Any = None,
        **parameters: str | None,
    ) -> _T:
        parameters |= {"consistency": consistency, "after": after}
        return (await self.ask(method, path, parameters=parameters, json=json)).read(kind)

    async def export(
        self, *, deleted: bool = False, consistency: Consistency | None = None, after: str | None = None
    ) -> Exported:
        """
        Everything that is stored: iterate over its parts; `close` it if that does not come to its end.

        :param deleted: with the IDs that are deleted.
        """
        parameters = {"deleted": "1" if deleted else None, "consistency": consistency, "after": after}
        url = self._base + target("/export", parameters)
        opening = Deferred.fromCoroutine(self._open(url))
        status, parts = await opening.addTimeout(self._timeout, self._clock, too_late)
        exported = Exported(parts, timeout=self._timeout, clock=self._clock)
        if status == _OK:
            return exported
        raise Answer(status, await exported.whole()).refused()

    async def status(self) -> ClusterStatus:
        """
        The state of the nodes.
        """
        return (await self.ask("GET", "/cluster")).read(ClusterStatus)

    async def readiness(self) -> Ready:
        """
        Whether the daemon is ready for requests; raises `Refused` if not.
        """
        return (await self.ask("GET", "/readyz")).read(Ready)

    async def restart(self, node: int) -> Operated:
        """
        Stop a node and start it again.
        """
        return (await self.ask("POST", "/cluster/restart", json={"node": node})).read(Operated)

    async def remove(self, node: int) -> Operated:
        """
        Remove a node for good.
        """
        return (await self.ask("POST", "/cluster/remove", json={"node": node})).read(Operated)

    async def _open(self, url: str) -> tuple[int, Parts]:
        """
        The status of an answer, and its body, which is still to be read.
        """
        with our_errors():
            response = await self._request("GET", url, headers=self._with_token({}), data=None)
            parts = Parts()
            response.deliverBody(parts)
            return response.code, parts
