"""
How the HTTP client connects: by TCP or TLS to a URL, or to a Unix socket.
"""

from typing import Any, Final, cast

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

UNIX: Final = "unix:"
"""
How the URL of a daemon begins that listens on a Unix socket; its path follows.
"""

_CONNECT_TIMEOUT_S: Final = 10.0


@implementer(IAgentEndpointFactory)
class _Socket:
    """
    Connects to a Unix socket, whatever the URL of a request names.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self._endpoint = UNIXClientEndpoint(reactor, path, timeout=_CONNECT_TIMEOUT_S)

    def endpointForURI(self, uri: URI) -> UNIXClientEndpoint:
        return self._endpoint


def base_url(base: str) -> str:
    """
    The beginning of the URLs of requests.
    """
    return "http://localhost" if base.startswith(UNIX) else base.rstrip("/")


def agent_of(base: str, reactor: Any, pool: HTTPConnectionPool) -> Agent:
    """
    What sends requests to a daemon.
    """
    if base.startswith(UNIX):
        socket = _Socket(reactor, base.removeprefix(UNIX))
        return cast(Agent, Agent.usingEndpointFactory(reactor, socket, pool))
    return Agent(reactor, connectTimeout=_CONNECT_TIMEOUT_S, pool=pool)
