"""
Tells where HTTP listens, or why it cannot listen.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.daemon.exposure import Exposure
from dcounter.daemon.http_endpoint import curl

_EVERYWHERE: Final = {"", "0.0.0.0", "::"}  # noqa: S104 - it only looks


@dataclass(frozen=True, slots=True)
class Listening:
    """
    Where HTTP listens.

    :ivar where: the URL, or the path of a Unix socket.
    :ivar url: for a browser on this machine; `None` if none reaches it.
    :ivar curl: the beginning of a command that calls it, up to the path; `None` if that is unknown.
    """

    where: str
    url: str | None = None
    curl: str | None = None


@implementer(IStreamServerEndpoint)
class Announced:
    """
    An endpoint that tells where it listens.

    :param description: the description that it was made from.
    :param tell: what to call with the place where it listens.
    :param in_background: whether the process has left the terminal.
    :param exposure: may object to the address.
    :param encrypted: whether callers speak TLS, which the description does not say.
    :param tokens: whether callers must show a token.
    """

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        description: str = "",
        *,
        tell: Sequence[Callable[[Listening], None]] = (),
        in_background: bool = False,
        exposure: Exposure | None = None,
        encrypted: bool = False,
        tokens: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._description = description
        self._in_background = in_background
        self._tell = tell
        self._exposure = exposure
        self._encrypted = encrypted
        self._tokens = tokens

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        return self._endpoint.listen(protocolFactory).addCallbacks(self._say, self._taken)

    def _taken(self, why: Failure) -> IListeningPort:
        # The lock of a Unix socket fails with an error of the system.
        why.trap(CannotListenError, OSError)
        raise self._refused(f"HTTP cannot listen: {why.getErrorMessage()}")

    def _refused(self, text: str) -> BaseException:
        return CannotListen(text) if self._in_background else SystemExit(text)

    def _say(self, port: IListeningPort) -> IListeningPort:
        address = port.getHost()
        if self._exposure is not None:
            objection = self._exposure.objection(address)
            if objection is not None:
                port.stopListening()
                raise self._refused(f"dcounter does not start: {objection}")
        for tell in self._tell:
            tell(self._listening(address))
        return port

    def _listening(self, address: IAddress) -> Listening:
        how = curl(self._description, address, encrypted=self._encrypted)
        if how is None:
            return Listening(str(address))
        options, url = how
        local = isinstance(address, UNIXAddress)
        where = os.fsdecode(address.name or b"") if isinstance(address, UNIXAddress) else url
        if isinstance(address, IPv4Address | IPv6Address) and address.host in _EVERYWHERE:
            where = f"{url} (every interface)"
        token = '-H "Authorization: Bearer $TOKEN"' if self._tokens else ""
        command = " ".join(filter(None, ["curl", options, token, url]))
        return Listening(where, None if local or options else url, command)


class CannotListen(Exception):
    """
    HTTP cannot listen, and the process is in the background already.

    Not `SystemExit`: twistd in the terminal would not be told, and would wait for this process for ever.
    """
