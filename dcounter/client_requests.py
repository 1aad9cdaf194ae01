"""
The requests of `dcounter.client`: what its parts send them with.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import HTTPConnectionPool
from twisted.web.iweb import IResponse

from dcounter.client_answers import Answer
from dcounter.client_bodies import body_of
from dcounter.client_endpoints import agent_of, base_url
from dcounter.client_errors import our_errors, too_late
from dcounter.stamps import show_stamp
from dcounter.store import Ack

_TIMEOUT: Final = 30.0
"""
Time (s) for a request. A daemon answers sooner; a request that is never answered must not block its caller.
"""

_CONNECTIONS: Final = 32
"""
Idle connections to keep for later requests.
"""


def target(path: str, parameters: Mapping[str, str | None]) -> str:
    """
    A path with its query.

    :param path: percent-encoded.
    :param parameters: one that is `None` is left out.
    """
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{path}?{query}" if query else path


def of_store(
    ack: Ack | None, after: str | None, stamp: int | None, *, receipt: bool = False
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


def _answer(response: IResponse, body: bytes) -> Answer:
    seconds, date = (response.headers.getRawHeaders(name, [""])[0] for name in ("Retry-After", "Date"))
    # A proxy may send a date in place of the seconds; it is ignored.
    return Answer(response.code, body, int(seconds) if seconds.isdecimal() else None, date)


class Http(Protocol):
    """
    Sends requests: treq, or a double of it in tests.
    """

    def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
        """
        Send a request, as `treq.request` does.
        """


class Requests:
    """
    Sends requests to one daemon; the parameters are those of `dcounter.client.Client`.
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
        certificate: bytes | None = None,
    ) -> None:
        self._base = base_url(base)
        self._clock = reactor
        self._token = token
        self._operator_token = operator_token
        self._timeout = timeout
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = _CONNECTIONS
        # A request is sent once.
        self._pool.retryAutomatically = False
        self._http = http or HTTPClient(agent_of(base, reactor, self._pool, certificate=certificate))

    async def close(self) -> None:
        """
        Close the client's connections.
        """
        await self._pool.closeCachedConnections()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str | None] | None = None,
        json: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
    ) -> Answer:
        """
        Send any request, and return the daemon's answer, whatever it is.

        :param path: percent-encoded.
        :param parameters: those of the query; one that is `None` is left out.
        :param json: the body, still to be encoded.
        :param body: the encoded body, instead of `json`.
        :param headers: headers that are added to the usual ones, or replace them.
        :param within: time (s) for the request and its answer; `None`: that of the client.
        :raises Unreachable: there was no answer.
        """
        if json is not None:
            body = msgspec.json.encode(json)
        token = self._operator_token if path.startswith(("/cluster/", "/audit", "/compact")) else None
        sent = {**self._with_token({"Content-Type": "application/json"}, token), **(headers or {})}
        exchange = Deferred.fromCoroutine(
            self._exchange(
                method,
                self._base + target(path, parameters or {}),
                headers=sent,
                data=body,
            )
        )
        timeout = self._timeout if within is None else within
        return await exchange.addTimeout(timeout, self._clock, too_late)

    async def _exchange(self, method: str, url: str, **how: Any) -> Answer:
        with our_errors():
            response = await self._request(method, url, **how)
            return _answer(response, await body_of(response))

    def _request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
        # Unbuffered, so that giving up an answer that does not end closes its connection.
        return self._http.request(method, url, allow_redirects=False, unbuffered=True, **how)

    def _with_token(self, headers: dict[str, str], token: str | None = None) -> dict[str, str]:
        token = token or self._token
        return headers if token is None else {**headers, "Authorization": f"Bearer {token}"}
