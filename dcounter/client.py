"""
The HTTP client of a daemon: its API as coroutines, over treq.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)

from dcounter.errors import DcounterError
from dcounter.http.answers import Counted, Operated, Ready, Stored
from dcounter.store import Ack, ClusterStatus, Consistency

_TIMEOUT: Final = 30.0
"""
Time (s) for a request. A daemon answers sooner; a request that is never answered must not block its caller.
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

_T = TypeVar("_T")

Item = Mapping[str, Any]
"""
An item to store: `ID`, `tenant` and perhaps `lastUpdateDt`.
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


class Answer(msgspec.Struct, frozen=True):
    """
    Any answer of a daemon.
    """

    status: int
    body: bytes

    @property
    def content(self) -> Any:
        """
        The JSON of the body.
        """
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str | None:
        """
        The kind of refusal, for programs; `None` if the answer is a success.
        """
        return None if self.status == 200 else str(self.content["code"])

    def ok(self) -> Any:
        """
        The content of a success.

        :raises Refused: the answer is not a success.
        """
        if self.status != 200:
            raise Refused(self.status, self.content)
        return self.content

    def read(self, kind: type[_T]) -> _T:
        """
        The content of a success, decoded as its type. Fields that newer daemons add are ignored.

        :raises Refused: the answer is not a success.
        """
        if self.status != 200:
            raise Refused(self.status, self.content)
        return msgspec.json.decode(self.body, type=kind)


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


class Http(Protocol):
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

    Each coroutine raises `Refused` if the daemon refuses, and `Unreachable` if there is no answer.

    :param base: the URL of the daemon, such as `http://127.0.0.1:8085`.
    :param http: sends the requests, instead of the client's own connections.
    :param token: the operator's token, for `restart` and `remove`.
    :param timeout: time (s) for a request and its answer.
    """

    def __init__(
        self,
        base: str,
        reactor: IReactorTime,
        *,
        http: Http | None = None,
        token: str | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._base = base.rstrip("/")
        self._clock = reactor
        self._token = token
        self._timeout = timeout
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = _CONNECTIONS
        # A request is sent once.
        self._pool.retryAutomatically = False
        self._http = http or HTTPClient(Agent(reactor, pool=self._pool))

    async def close(self) -> None:
        """
        Close the client's connections.
        """
        await self._pool.closeCachedConnections()

    async def store(
        self, items: Collection[Item], *, ack: Ack | None = None, after: str | None = None
    ) -> Stored:
        """
        Store items.

        :param ack: which nodes must have written them before the answer.
        :param after: a position: these items are newer than everything that it covers.
        """
        answer = await self.ask("POST", "/items", parameters={"ack": ack, "after": after}, json=[*items])
        return answer.read(Stored)

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
        if self._token is not None and path.startswith("/cluster/"):
            sent["Authorization"] = f"Bearer {self._token}"
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
            response = await self._http.request(method, url, allow_redirects=False, **how)
            return Answer(response.code, await treq.content(response))
        except _NOT_SENT as error:
            raise Unreachable(error, sent=False) from error
        except _BROKEN as error:
            raise Unreachable(error, sent=True) from error


def _too_late(result: Any, seconds: float) -> NoReturn:
    # The request was cancelled after it had begun.
    raise Unreachable(TimeoutError(f"no answer within {seconds:g} s"), sent=True)
