"""
Removes Unix sockets that an unclean end left behind.

Twisted marks a socket with a lock beside it that names a process. In a container a daemon often has the same
process id at every start, so it takes its old lock for that of a living process. Only an attempt to connect
tells whether the socket is in use.
"""

import os
import re
import socket
import stat
from contextlib import suppress

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger()


class SocketInUse(CannotListenError):
    """
    Another process listens on a socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__(None, path, OSError("in use"))
        self._path = path

    def __str__(self) -> str:
        return f"another process answers on {self._path}: stop it first, or name another socket"


def socket_path(description: str) -> str | None:
    """
    The path in an endpoint description, if it is that of a Unix socket.
    """
    kind, *rest = re.split(r"(?<!\\):", description)
    if kind.lower() == "haproxy":
        return socket_path(description.partition(":")[2])
    if kind != "unix":
        return None
    named = dict(each.split("=", 1) for each in rest if re.match(r"[a-z]+=", each))
    plain = [each for each in rest if not re.match(r"[a-z]+=", each)]
    path = named.get("address", plain[0] if plain else "")
    return re.sub(r"\\(.)", r"\1", path) or None


def is_abandoned(path: str) -> bool:
    """
    Whether there may be a socket that an earlier process left behind.

    :raises SocketInUse: another process answers on it.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        try:
            trial.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except BlockingIOError as error:
            # A process listens there, and its queue is full.
            raise SocketInUse(path) from error
        except OSError:
            # That proves nothing, so the socket is left alone.
            return False
    raise SocketInUse(path)


def clear_socket(path: str) -> None:
    """
    Remove a socket on which no process answers, and its lock, whatever process that names.

    Anything that is not a socket, or may be in use, stays.

    :raises SocketInUse: another process answers on it.
    """
    if not is_abandoned(path):
        return
    for each in (path, f"{path}.lock"):
        with suppress(OSError):
            if each == path or os.path.islink(each):
                os.remove(each)
                _log.info("removed {path}, which an earlier process left behind", path=each)


@implementer(IStreamServerEndpoint)
class Cleared:
    """
    An endpoint that removes an abandoned socket before it listens.
    """

    def __init__(self, endpoint: IStreamServerEndpoint, path: str) -> None:
        self._endpoint = endpoint
        self._path = path

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        try:
            clear_socket(self._path)
        except SocketInUse as error:
            return fail(error)
        return self._endpoint.listen(protocolFactory)


def cleared(endpoint: IStreamServerEndpoint, description: str) -> IStreamServerEndpoint:
    """
    Make an endpoint listen even if an earlier process left its socket behind.
    """
    path = socket_path(description)
    return endpoint if path is None else Cleared(endpoint, path)
