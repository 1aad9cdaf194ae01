"""
What each route does, as plain functions over a `Store`: bytes in, an `Answer` out.

Nothing here knows Klein or Twisted's requests, so that the hot routes may be reached by a shorter way.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast, get_args

import msgspec

from dcounter.clock import CLOCK_TOLERANCE
from dcounter.errors import MalformedBody, Refusal
from dcounter.http.limits import HttpLimits
from dcounter.http.openapi import DOCUMENT
from dcounter.http.paths import decode_segment, parse_query
from dcounter.http.problems import Answer, Forbidden, NotReady, NotSupported, problem
from dcounter.items import parse_items
from dcounter.store import Ack, Consistency, Store

_NO_VALUES: Final = ()
_STORE_PARAMETERS: Final = {"ack": get_args(Ack), "after": _NO_VALUES}
_COUNT_PARAMETERS: Final = {"consistency": get_args(Consistency), "after": _NO_VALUES}


class Operations(Protocol):
    """
    What an operator may do to the nodes of this daemon.
    """

    async def restart(self, node: int) -> None:
        """
        Stop a node and start it again.

        :raises UnknownNode: there is no node of that number.
        """
        ...

    async def forget(self, node: int) -> None:
        """
        Give up a node for good.

        :raises UnknownNode: there is no node of that number.
        :raises NodeIsUp: it is connected.
        """
        ...


class _OneNode(msgspec.Struct, forbid_unknown_fields=True):
    """
    The body of a request about a node.
    """

    node: int


_one_node = msgspec.json.Decoder(_OneNode)


class Api:
    """
    The routes. Each turns a refusal into an answer; what else it raises is a bug.

    :param now: the wall clock, ns since 1970.
    :param operations: `None` if the nodes are not this daemon's to restart.
    :param ack: how wide a store must be durable if the caller does not say.
    :param consistency: what a count may answer if the caller does not say.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], int],
        limits: HttpLimits,
        operations: Operations | None,
        ack: Ack,
        consistency: Consistency,
    ) -> None:
        self._store = store
        self._now = now
        self._limits = limits
        self._operations = operations
        self._ack = ack
        self._consistency = consistency

    async def store_items(self, body: bytes, query: bytes) -> Answer:
        """
        `POST /items`
        """
        try:
            parameters = parse_query(query, _STORE_PARAMETERS)
            items = parse_items(
                body,
                latest=self._now() + CLOCK_TOLERANCE,
                max_items=self._limits.max_items,
                max_tenant_bytes=self._limits.max_tenant_bytes,
            )
            receipt = await self._store.store(
                items,
                ack=cast("Ack", parameters.get("ack", self._ack)),
                after=parameters.get("after"),
            )
        except Refusal as refusal:
            # Whoever is refused without an outcome of its own was refused before anything was sent.
            return problem(refusal, outcome="not_applied")
        content = {
            "status": "OK",
            "items": receipt.items,
            "ack": receipt.ack,
            "position": receipt.position,
        }
        if receipt.warning is not None:
            content["warning"] = receipt.warning
        return _ok(content)

    async def count_items(self, segment: str, query: bytes) -> Answer:
        """
        `GET /items/{tenant}/count`

        :param segment: the tenant, percent-encoded as it came.
        """
        try:
            tenant = decode_segment(segment)
            parameters = parse_query(query, _COUNT_PARAMETERS)
            count = await self._store.count(
                tenant,
                consistency=cast("Consistency", parameters.get("consistency", self._consistency)),
                after=parameters.get("after"),
            )
        except Refusal as refusal:
            return problem(refusal)
        content: dict[str, object] = {"counter": count.counter, "tenant": tenant, "position": count.position}
        if not count.complete:
            content |= {"complete": False, "missing": count.missing}
        return _ok(content)

    def cluster(self) -> Answer:
        """
        `GET /cluster`
        """
        return _ok(self._store.status())

    def healthz(self) -> Answer:
        """
        `GET /healthz`
        """
        return _ok({"status": "OK"})

    def readyz(self) -> Answer:
        """
        `GET /readyz`
        """
        readiness = self._store.readiness()
        exact, missing, warnings = readiness.exact, readiness.missing, readiness.warnings
        if not readiness.ready:
            return problem(NotReady(exact=exact, missing=missing, warnings=warnings))
        return _ok({"exact": exact, "missing": missing, "warnings": warnings})

    def openapi(self) -> Answer:
        """
        `GET /openapi.json`
        """
        return _ok(DOCUMENT)

    async def restart(self, body: bytes, *, local: bool) -> Answer:
        """
        `POST /cluster/restart`

        :param local: whether it is certain that the caller sits on this machine.
        """
        return await self._operate(lambda operations: operations.restart, body, local=local)

    async def forget(self, body: bytes, *, local: bool) -> Answer:
        """
        `POST /cluster/forget`

        :param local: whether it is certain that the caller sits on this machine.
        """
        return await self._operate(lambda operations: operations.forget, body, local=local)

    async def _operate(
        self,
        which: Callable[[Operations], Callable[[int], Awaitable[None]]],
        body: bytes,
        *,
        local: bool,
    ) -> Answer:
        try:
            if not local:
                raise Forbidden("this is only for callers on the machine on which the daemon runs")
            if self._operations is None:
                raise NotSupported("this daemon cannot operate on its nodes")
            try:
                node = _one_node.decode(body).node
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise MalformedBody(f'the body must be {{"node": <number>}}: {error}') from error
            await which(self._operations)(node)
        except Refusal as refusal:
            return problem(refusal)
        return _ok({"status": "OK", "node": node})


def _ok(content: object) -> Answer:
    return Answer(200, msgspec.json.encode(content))
