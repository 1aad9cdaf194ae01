"""
The HTTP client: the API of a daemon as coroutines, over treq.
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
Time (s) for a request. No answer of a daemon takes as long: what is never answered must not stop its caller.
"""

_CONNECTIONS: Final = 32
"""
Idle connections that are kept for the next requests.
"""

_NOT_SENT: Final = (ConnectError, ConnectTimeout, DNSLookupError)
_BROKEN: Final = (ResponseNeverReceived, RequestTransmissionFailed, ResponseFailed, ConnectionLost)
"""
How a request fails before a byte of it is written, and afterwards.
"""

_T = TypeVar("_T")

Item = Mapping[str, Any]
"""
What is stored: `ID`, `tenant` and perhaps `lastUpdateDt`.
"""


class Refused(DcounterError):
    """
    The daemon refused a request.

    :ivar status: the HTTP status.
    :ivar code: what went wrong, as a word for programs.
    :ivar outcome: what became of a request that changes something; `None` where there was nothing to change.
    :ivar problem: the whole answer.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{problem.get('title')}: {problem.get('detail')}")
        self.status = status
        self.code = str(problem.get("code"))
        self.outcome = problem.get("outcome")
        self.problem = problem


class Unreachable(DcounterError):
    """
    There was no answer.

    :ivar sent: whether the daemon may have received the request: then its outcome is unknown.
    """

    def __init__(self, error: BaseException, *, sent: bool) -> None:
        super().__init__(f"no answer: {error!r}")
        self.sent = sent


class Answer(msgspec.Struct, frozen=True):
    """
    What a daemon answered, whatever it is.
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
        What went wrong, as a word for programs; `None` if nothing did.
        """
        return None if self.status == 200 else str(self.content["code"])

    def ok(self) -> Any:
        """
        The content of a success.

        :raises Refused: it is none.
        """
        if self.status != 200:
            raise Refused(self.status, self.content)
        return self.content

    def read(self, kind: type[_T]) -> _T:
        """
        The content of a success, as what it is; what newer daemons add is passed over.

        :raises Refused: it is none.
        """
        if self.status != 200:
            raise Refused(self.status, self.content)
        return msgspec.json.decode(self.body, type=kind)


def count_path(tenant: str) -> str:
    """
    Where a tenant's items are counted.
    """
    return f"/items/{quote(tenant, safe='')}/count"


def target(path: str, parameters: Mapping[str, str | None]) -> str:
    """
    A path with its query.

    :param path: percent-encoded.
    :param parameters: one that is `None` is not given.
    """
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{path}?{query}" if query else path


class Http(Protocol):
    """
    What sends requests: treq, or what a test puts in its place.
    """

    def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
        """
        Send a request, as `treq.request` does.
        """


class Client:
    """
    Calls one daemon. Each request is sent once: to send it again is for the caller to decide.

    Each coroutine raises `Refused` if the daemon refuses, and `Unreachable` if there is no answer.

    :param base: where the daemon is, such as `http://127.0.0.1:8085`.
    :param http: sends the requests, instead of connections of the client's own.
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
        :param after: a position: these items are newer than all that it covers.
        """
        answer = await self.ask("POST", "/items", parameters={"ack": ack, "after": after}, json=[*items])
        return answer.read(Stored)

    async def count(
        self, tenant: str, *, consistency: Consistency | None = None, after: str | None = None
    ) -> Counted:
        """
        Count a tenant's items.

        :param consistency: what may be answered if the exact count is not available.
        :param after: a position: the count includes all that it covers.
        """
        parameters = {"consistency": consistency, "after": after}
        answer = await self.ask("GET", count_path(tenant), parameters=parameters)
        return answer.read(Counted)

    async def status(self) -> ClusterStatus:
        """
        How the nodes are.
        """
        return (await self.ask("GET", "/cluster")).read(ClusterStatus)

    async def readiness(self) -> Ready:
        """
        Whether callers should be sent there; `Refused` if not.
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
        Any request, answered by whatever the daemon says.

        :param path: percent-encoded.
        :param parameters: those of the query; one that is `None` is not given.
        :param json: the body, before it is encoded.
        :param body: the body as it is, instead.
        :param headers: headers besides those of any request, or instead of them.
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
    # What was cancelled had begun.
    raise Unreachable(TimeoutError(f"no answer within {seconds:g} s"), sent=True)
