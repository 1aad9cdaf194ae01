"""
Checks that HTTP can listen, before anything is changed and before the process leaves the terminal.
"""

import os
import re
import socket
from tempfile import TemporaryFile
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from dcounter.daemon.unix_sockets import SocketInUse, is_abandoned, socket_path
from dcounter.errors import ConfigurationError

_TRIABLE = re.compile("(?:haproxy:)?(?:tcp6?|ssl):")
"""
Endpoints that can be tried. A descriptor from systemd, for example, can be used only once.
"""


_LONGEST_PATH = 107
"""
Longest path (bytes) of a Unix socket on Linux (unix(7)).
"""


def check_can_listen(description: str) -> None:
    """
    Check that HTTP can listen at an endpoint now.

    :raises ConfigurationError: it cannot; the message says why.
    """
    path = socket_path(description)
    if path is not None:
        try:
            is_abandoned(path)
        except SocketInUse as error:
            raise ConfigurationError(f"HTTP cannot listen: {error}") from error
        if os.path.isabs(path):
            # A relative path is below --rundir, to which twistd changes later.
            _check_path(path)
    if _TRIABLE.match(description) is None:
        return
    failures: list[Failure] = []
    trying: Deferred[IListeningPort] = serverFromString(cast(Any, _Trial()), description).listen(Factory())
    trying.addErrback(failures.append)
    for failure in failures:
        failure.trap(CannotListenError)
        raise ConfigurationError(f"HTTP cannot listen: {failure.getErrorMessage()}")


def _check_path(path: str) -> None:
    """
    Check that a socket can be made at a path.

    :raises ConfigurationError: it cannot; the message says why.
    """
    size = len(os.fsencode(path))
    if size > _LONGEST_PATH:
        raise ConfigurationError(
            f"HTTP cannot listen on {path}: a path has at most {_LONGEST_PATH} bytes, not {size}"
        )
    try:
        with TemporaryFile(dir=os.path.dirname(path)):
            pass
    except OSError as error:
        raise ConfigurationError(f"HTTP cannot listen on {path}: {error.strerror}") from error


class _Trial:
    """
    A reactor that binds a port and releases it at once.
    """

    def listenTCP(self, port: int, factory: object, backlog: int = 0, interface: str = "") -> object:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        with socket.socket(family) as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                bound.bind(socket.getaddrinfo(interface or None, port, family, flags=socket.AI_PASSIVE)[0][4])
            except OSError as error:
                raise CannotListenError(interface, port, cast(Any, error)) from error
        return self

    def listenSSL(
        self, port: int, factory: object, contextFactory: object, backlog: int = 0, interface: str = ""
    ) -> object:
        return self.listenTCP(port, factory, backlog, interface)
