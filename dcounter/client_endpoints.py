"""
How the HTTP client connects: by TCP or TLS to a URL, or to a Unix socket.
"""

from typing import Any, Final, cast

from OpenSSL.crypto import Error
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.ssl import PrivateCertificate, optionsForClientTLS, platformTrust
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
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


def agent_of(base: str, reactor: Any, pool: HTTPConnectionPool, *, certificate: bytes | None = None) -> Agent:
    """
    What sends requests to a daemon.

    :param certificate: to show over TLS, with its private key (PEM).
    :raises ValueError: it is none.
    """
    if base.startswith(UNIX):
        socket = _Socket(reactor, base.removeprefix(UNIX))
        return cast(Agent, Agent.usingEndpointFactory(reactor, socket, pool))
    policy = BrowserLikePolicyForHTTPS() if certificate is None else _Shows(certificate)
    return Agent(reactor, policy, connectTimeout=_CONNECT_TIMEOUT_S, pool=pool)


@implementer(IPolicyForHTTPS)
class _Shows:
    """
    Trusts the authorities of this machine, as usual, and shows a certificate to those that ask for one.
    """

    def __init__(self, pem: bytes) -> None:
        try:
            self._certificate = PrivateCertificate.loadPEM(pem)
        except Error as error:
            raise ValueError("it does not hold a certificate and its private key (PEM)") from error

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return optionsForClientTLS(
            hostname.decode("ascii"), trustRoot=platformTrust(), clientCertificate=self._certificate
        )
