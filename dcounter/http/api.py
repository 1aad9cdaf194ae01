"""
What each route does, as plain functions over a `Store`: bytes in, an `Answer` out.

Nothing here knows Klein or Twisted's requests, so that the hot routes may be reached by a shorter way.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol, cast, get_args

import msgspec

from dcounter.errors import MalformedBody, Refusal
from dcounter.http.auth import OperatorToken
from dcounter.http.items import parse_items
from dcounter.http.limits import HttpLimits
from dcounter.http.openapi import DOCUMENT
from dcounter.http.paths import decode_segment, parse_query
from dcounter.http.problems import Answer, Forbidden, NotReady, NotSupported, problem
from dcounter.protocol.clock import CLOCK_TOLERANCE
from dcounter.store import Ack, Consistency, Store

_NO_VALUES: Final = ()
_STORE_PARAMETERS: Final = {"ack": get_args(Ack), "after": _NO_VALUES}
_NO_PARAMETERS: Final[Mapping[str, Collection[str]]] = {}
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
    :param token: what callers must show who restart nodes or give them up; `None`: nobody may.
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
        token: OperatorToken | None,
        ack: Ack,
        consistency: Consistency,
    ) -> None:
        self._store = store
        self._now = now
        self._limits = limits
        self._operations = operations
        self._token = token
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

    def cluster(self, query: bytes) -> Answer:
        """
        `GET /cluster`
        """
        return _look(query, self._store.status)

    def healthz(self, query: bytes) -> Answer:
        """
        `GET /healthz`
        """
        return _look(query, lambda: {"status": "OK"})

    def readyz(self, query: bytes) -> Answer:
        """
        `GET /readyz`
        """

        def readiness() -> object:
            found = self._store.readiness()
            exact, missing, warnings = found.exact, found.missing, found.warnings
            if not found.ready:
                raise NotReady(exact=exact, missing=missing, warnings=warnings)
            return {"exact": exact, "missing": missing, "warnings": warnings}

        return _look(query, readiness)

    def openapi(self, query: bytes) -> Answer:
        """
        `GET /openapi.json`
        """
        return _look(query, lambda: DOCUMENT)

    async def restart(self, body: bytes, query: bytes, *, local: bool, authorization: bytes) -> Answer:
        """
        `POST /cluster/restart`

        :param local: whether the caller sits on this machine.
        :param authorization: the header of that name; it is to show the operator's token.
        """
        return await self._operate(
            lambda operations: operations.restart, body, query, local=local, authorization=authorization
        )

    async def forget(self, body: bytes, query: bytes, *, local: bool, authorization: bytes) -> Answer:
        """
        `POST /cluster/forget`

        :param local: whether the caller sits on this machine.
        :param authorization: the header of that name; it is to show the operator's token.
        """
        return await self._operate(
            lambda operations: operations.forget, body, query, local=local, authorization=authorization
        )

    async def _operate(
        self,
        which: Callable[[Operations], Callable[[int], Awaitable[None]]],
        body: bytes,
        query: bytes,
        *,
        local: bool,
        authorization: bytes,
    ) -> Answer:
        try:
            self._admit(authorization, local=local)
            parse_query(query, _NO_PARAMETERS)
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

    def _admit(self, authorization: bytes, *, local: bool) -> None:
        """
        See that it is the operator who calls.

        :raises Forbidden: nothing shows that; says what would.
        """
        if not local:
            raise Forbidden("this is only for callers on the machine on which the daemon runs")
        if self._token is None:
            raise Forbidden(
                "the daemon has no operator's token, because it has no data directory;"
                " start it with --operator-token-file FILE, and send the token in that file"
            )
        if not self._token.is_shown(authorization):
            raise Forbidden(
                "the header 'Authorization: Bearer TOKEN' is missing, or its token is not the one in the file"
                f" {self._token.path}"
            )


def _look(query: bytes, look: Callable[[], object]) -> Answer:
    """
    The answer to a question that takes no parameters.
    """
    try:
        parse_query(query, _NO_PARAMETERS)
        return _ok(look())
    except Refusal as refusal:
        return problem(refusal)


def _ok(content: object) -> Answer:
    return Answer(200, msgspec.json.encode(content))
