"""
The sockets of another process: found, and shut down under it.

`pidfd_getfd` gives us a descriptor of the very socket, so `shutdown` does to it what a failing network does:
its owner is not asked.
"""

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)

_LISTENING = "0A"
_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Socket:
    """
    A TCP socket of some process.

    :ivar fd: its number there.
    :ivar inode: what no other socket has.
    :ivar unsent: bytes that the other end has not acknowledged.
    :ivar unread: bytes that the process has not read.
    """

    pid: int
    fd: int
    inode: int
    state: str
    port: int
    peer_port: int
    unsent: int
    unread: int

    @property
    def listening(self) -> bool:
        return self.state == _LISTENING

    @property
    def established(self) -> bool:
        return self.state == _ESTABLISHED

    def take(self) -> socket.socket:
        """
        The same socket as one of this process; fails loudly where that is not permitted.

        :raises ProcessLookupError: it is gone.
        """
        pidfd = os.pidfd_open(self.pid)
        try:
            fd = _libc.syscall(_PIDFD_GETFD, pidfd, self.fd, 0)
            if fd < 0:
                number = ctypes.get_errno()
                if number == errno.EBADF:
                    raise ProcessLookupError(f"socket {self.inode} is gone")
                raise OSError(number, f"pidfd_getfd: {os.strerror(number)}")
        finally:
            os.close(pidfd)
        ours = socket.socket(fileno=fd)
        # Between our look and our grasp the number may have become another socket's.
        if os.fstat(fd).st_ino != self.inode:
            ours.close()
            raise ProcessLookupError(f"socket {self.inode} is gone")
        return ours

    def shut_down(self) -> None:
        """
        End it in both directions, as its owner will notice.
        """
        # Its other end may have been shut down a moment ago: then it is gone, or not connected any more.
        with suppress(ProcessLookupError), self.take() as ours, suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)


def sockets_of(pid: int) -> list[Socket]:
    """
    All IPv4 TCP sockets of a process.
    """
    fds = dict(_socket_fds(pid))
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, peer, state, queues, _, _, _, _, inode, *_ = line.split()
        if int(inode) in fds:
            unsent, unread = (int(each, 16) for each in queues.split(":"))
            port, peer_port = (int(each.split(":")[1], 16) for each in (local, peer))
            found.append(Socket(pid, fds[int(inode)], int(inode), state, port, peer_port, unsent, unread))
    return found


def _socket_fds(pid: int) -> Iterator[tuple[int, int]]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            target = os.readlink(link)
            if target.startswith("socket:["):
                yield int(target[8:-1]), int(link.name)


def listener(pid: int, port: int) -> Socket:
    """
    The socket with which a process listens on a port.
    """
    (found,) = [each for each in sockets_of(pid) if each.listening and each.port == port]
    return found


def accepted(pid: int, port: int) -> list[Socket]:
    """
    The connections that a process accepted on a port.
    """
    return [each for each in sockets_of(pid) if each.established and each.port == port]
