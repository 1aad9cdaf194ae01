"""
The HTTP client of a daemon: its API as coroutines, over treq.

This module is public (docs/extending.md).
"""

import typing
from collections.abc import AsyncIterable, Collection, Mapping
from typing import Any, Final, NoReturn, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionLost, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from dcounter.errors import DcounterError
from dcounter.http.answer_bodies import Counted, Loaded, Operated, Ready, Stored
from dcounter.load_body import Encoding, LoadBody
from dcounter.stamps import show_stamp
from dcounter.store import Ack, ClusterStatus, Consistency

_TIMEOUT: Final = 30.0
"""
Time (s) for a request. A daemon answers sooner; a request that is never answered must not block its caller.
"""

_LOAD_TIMEOUT: Final = 3_700.0
"""
Time (s) for a load: a little longer than a daemon takes to read it.
"""

_CONNECT_TIMEOUT: Final = 10.0
"""
Time (s) for a connection.
"""

_CONNECTIONS: Final = 32
"""
Idle connections to keep for later requests.
"""

_NOT_SENT: Final = (ConnectError, ConnectTimeout, DNSLookupError)
_BROKEN: Final = (ResponseNeverReceived, RequestTransmissionFailed, ResponseFailed, ConnectionLost)
"""
The errors before a byte of a request is written, and those afterwards.
"""

_SUCCESSES: Final = frozenset({200, 207})
_SHOWN_BYTES: Final = 100
"""
How much of an unexpected body an error repeats.
"""

_T = TypeVar("_T")

Item = Mapping[str, Any]
"""
An item to store: `ID`, `tenant` and perhaps `lastUpdateDt`. Or one to delete: `ID`, `deleted` and perhaps
`lastUpdateDt`.
"""


class Refused(DcounterError):
    """
    The daemon refused a request.

    :ivar status: the HTTP status.
    :ivar code: the kind of refusal, for programs.
    :ivar outcome: what became of a request that changes something; `None` for other requests.
    :ivar problem: the whole problem document.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{problem.get('title')}: {problem.get('detail')}")
        self.status = status
        self.code = str(problem.get("code"))
        self.outcome = problem.get("outcome")
        self.problem = problem


class Unreachable(DcounterError):
    """
    The daemon did not answer.

    :ivar sent: whether the daemon may have received the request; its outcome is unknown then.
    """

    def __init__(self, error: BaseException, *, sent: bool) -> None:
        super().__init__(f"no answer: {error!r}")
        self.sent = sent


class Unexpected(DcounterError):
    """
    The answer is none that a daemon gives: a proxy or another program answered. Its outcome is unknown.

    :ivar status: the HTTP status.
    :ivar body: the whole body (bytes).
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}, and not as dcounter answers: {body[:_SHOWN_BYTES]!r}")
        self.status = status
        self.body = body


class Answer(msgspec.Struct, frozen=True):
    """
    Any answer.

    Each method raises `Unexpected` if it is none that a daemon gives.
    """

    status: int
    body: bytes

    @property
    def content(self) -> Any:
        """
        The JSON of the body.
        """
        return self._decoded(Any)

    @property
    def code(self) -> str | None:
        """
        The kind of refusal, for programs; `None` if the answer is a success.
        """
        return None if self.status in _SUCCESSES else self._refused().code

    def ok(self) -> Any:
        """
        The content of a success.

        :raises Refused: the answer is not a success.
        """
        return self.read(Any)

    def read(self, kind: type[_T]) -> _T:
        """
        The content of a success, decoded as its type. Fields that newer daemons add are ignored.

        :raises Refused: the answer is not a success.
        """
        if self.status not in _SUCCESSES:
            raise self._refused()
        return self._decoded(kind)

    def _refused(self) -> Refused:
        problem = self._decoded(dict[str, Any])
        if not isinstance(problem.get("code"), str) or not isinstance(problem.get("title"), str):
            raise Unexpected(self.status, self.body)
        return Refused(self.status, problem)

    def _decoded(self, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unexpected(self.status, self.body) from error


def count_path(tenant: str) -> str:
    """
    The path that counts a tenant's items.
    """
    return f"/items/{quote(tenant, safe='')}/count"


def target(path: str, parameters: Mapping[str, str | None]) -> str:
    """
    A path with its query.

    :param path: percent-encoded.
    :param parameters: one that is `None` is left out.
    """
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{path}?{query}" if query else path


class Http(typing.Protocol):
    """
    Sends requests: treq, or a double of it in tests.
    """

    def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
        """
        Send a request, as `treq.request` does.
        """


class Client:
    """
    Calls one daemon. Each request is sent once; the caller decides whether to send it again.

    Each coroutine raises `Refused` if the daemon refuses, `Unreachable` if there is no answer, and
    `Unexpected` if another program answers.

    :param base: the URL of the daemon, such as `http://127.0.0.1:8085`.
    :param http: sends the requests, instead of the client's own connections.
    :param token: the token that every request shows.
    :param operator_token: the operator's token, which only `restart` and `remove` show.
    :param timeout: time (s) for a request and its answer.
    """

    def __init__(
        self,
        base: str,
        reactor: IReactorTime,
        *,
        http: Http | None = None,
        token: str | None = None,
        operator_token: str | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._base = base.rstrip("/")
        self._clock = reactor
        self._token = token
        self._operator_token = operator_token
        self._timeout = timeout
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = _CONNECTIONS
        # A request is sent once.
        self._pool.retryAutomatically = False
        self._http = http or HTTPClient(Agent(reactor, connectTimeout=_CONNECT_TIMEOUT, pool=self._pool))

    async def close(self) -> None:
        """
        Close the client's connections.
        """
        await self._pool.closeCachedConnections()

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
            **_of_store(ack, after, stamp, receipt=receipt),
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
        parameters = _of_store(ack, after, stamp, receipt=receipt)
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
        body = LoadBody(items, encoding)
        headers = {"Content-Type": "application/x-ndjson"}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        parameters = {**_of_store(ack, after, stamp, receipt=False), "partial": "1" if partial else None}
        url = self._base + target("/items", parameters)
        exchange = Deferred.fromCoroutine(self._exchange("POST", url, headers=headers, data=body))
        try:
            answer = await exchange.addTimeout(within, self._clock, _too_late)
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

    async def ask(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str | None] | None = None,
        json: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """
        Send any request, and return the daemon's answer, whatever it is.

        :param path: percent-encoded.
        :param parameters: those of the query; one that is `None` is left out.
        :param json: the body, still to be encoded.
        :param body: the encoded body, instead of `json`.
        :param headers: headers that are added to the usual ones, or replace them.
        :raises Unreachable: there was no answer.
        """
        if json is not None:
            body = msgspec.json.encode(json)
        sent = {"Content-Type": "application/json"}
        token = self._operator_token if path.startswith("/cluster/") else None
        token = token or self._token
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        sent |= headers or {}
        exchange = Deferred.fromCoroutine(
            self._exchange(
                method,
                self._base + target(path, parameters or {}),
                headers=sent,
                data=body,
            )
        )
        return await exchange.addTimeout(self._timeout, self._clock, _too_late)

    async def _exchange(self, method: str, url: str, **how: Any) -> Answer:
        try:
            # Unbuffered, so that giving up an answer that does not end closes its connection.
            response = await self._http.request(method, url, allow_redirects=False, unbuffered=True, **how)
            return Answer(response.code, await _body_of(response))
        except _NOT_SENT as error:
            raise Unreachable(error, sent=False) from error
        except ConnectingCancelledError as error:
            raise CancelledError from error
        except _BROKEN as error:
            if any(reason.check(CancelledError) for reason in getattr(error, "reasons", ())):
                raise CancelledError from error
            raise Unreachable(error, sent=True) from error


def _of_store(
    ack: Ack | None, after: str | None, stamp: int | None, *, receipt: bool
) -> Mapping[str, str | None]:
    """
    The parameters of a request to store or to delete.
    """
    return {
        "ack": ack,
        "after": after,
        "lastUpdateDt": None if stamp is None else show_stamp(stamp),
        "receipt": "1" if receipt else None,
    }


class _Body(Protocol):
    """
    Collects a body. To give it up closes its connection, on which the rest would come.
    """

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(self._give_up)
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        # A body without a length ends with its connection.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)

    def _give_up(self, whole: Deferred[bytes]) -> None:
        if self.transport is not None:
            cast(IPushProducer, self.transport).stopProducing()


def _body_of(response: IResponse) -> Deferred[bytes]:
    body = _Body()
    response.deliverBody(body)
    return body.whole


def _too_late(result: object, seconds: float) -> NoReturn:
    """
    Turn the cancellation of a request that takes too long into an error that says whether it was sent.
    """
    cause = result.value.__cause__ if isinstance(result, Failure) and result.value else None
    connecting = isinstance(cause, ConnectingCancelledError)
    raise Unreachable(TimeoutError(f"no answer within {seconds:g} s"), sent=not connecting)
