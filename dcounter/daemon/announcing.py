"""
Logs where HTTP listens and what to try, or why it cannot listen.
"""

import os

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.daemon.exposure import Exposure
from dcounter.daemon.http_endpoint import curl

_log = Logger()


@implementer(IStreamServerEndpoint)
class Announced:
    """
    An endpoint that logs where it listens and what to try.

    :param description: the description that it was made from.
    :param new: whether this start made the cluster.
    :param exposure: may object to the address.
    :param encrypted: whether callers speak TLS, which the description does not say.
    :param tokens: whether callers must show a token.
    """

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        description: str = "",
        *,
        in_background: bool = False,
        new: bool = False,
        exposure: Exposure | None = None,
        encrypted: bool = False,
        tokens: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._description = description
        self._in_background = in_background
        self._new = new
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
            for warning in self._exposure.warnings():
                _log.warn("{warning}", warning=warning)
        how = curl(self._description, address, encrypted=self._encrypted)
        if how is None:
            _log.info("HTTP listens on {address}", address=address)
            return port
        options, url = how
        where = os.fsdecode(address.name or b"") if isinstance(address, UNIXAddress) else url
        _log.info("HTTP listens on {where}", where=where)
        token = '-H "Authorization: Bearer $TOKEN"' if self._tokens else ""
        command = " ".join(filter(None, ["curl", options, token, url]))
        if not self._new:
            # The items of the example could overwrite real ones.
            _log.info("try: {command}/cluster", command=command)
            return port
        items = '[{"ID":1,"tenant":"hello"},{"ID":2,"tenant":"publicsonar"}]'
        _log.info("try: {command}/items -d '{items}'", command=command, items=items)
        _log.info("then: {command}/items/hello/count", command=command)
        return port


class CannotListen(Exception):
    """
    HTTP cannot listen, and the process is in the background already.

    Not `SystemExit`: twistd in the terminal would not be told, and would wait for this process for ever.
    """
