"""
The way out of a connection: what is written is sent at once, as far as the kernel takes it.

A transport of Twisted sends in the next turn of the reactor, and has epoll tell it when it may, and then no
longer: three system calls for one. That is a sixth of what a count costs, and each hop between two processes
waits for it.
"""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.tcp import Connection


class Transport(Protocol):
    """
    What is needed of a transport.
    """

    def write(self, data: bytes, /) -> None: ...


class Outlet:
    """
    Sends past the buffer of a transport while that is empty.

    What the kernel does not take is for the transport to send, and so is all that follows, until it
    asks its producer to resume, which it does when its buffer is empty. It asks only producers that it has
    asked to pause, and so it does that at once. Encrypted connections, and those in memory, send everything
    themselves.

    :param transport: the connection; nothing else may write to it.
    """

    __slots__ = ("_send_now", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._send_now: Callable[[bytes], int | ConnectionLost] | None = None
        self.emptied()

    def emptied(self) -> None:
        """
        Take note that the buffer of the transport is empty.
        """
        self._send_now = None
        if isinstance(self._transport, Connection) and not ISSLTransport.providedBy(self._transport):
            self._send_now = self._transport.writeSomeData

    def write(self, data: bytes) -> None:
        """
        Send data, or have it sent.
        """
        if self._send_now is not None:
            sent = self._send_now(data)
            if sent == len(data):
                return
            self._send_now = None
            self._hand_over(data if isinstance(sent, ConnectionLost) else data[sent:])
        else:
            self._transport.write(data)

    def _hand_over(self, data: bytes) -> None:
        """
        Have the transport send what the kernel does not take, and have it ask its producer to pause.

        By itself it does that if more than 64 KiB wait, and of less it never says when it is sent.
        """
        transport = self._transport
        assert isinstance(transport, Connection)
        usual, transport.bufferSize = transport.bufferSize, 0
        try:
            transport.write(data)
        finally:
            # It reads as much at a time, too.
            transport.bufferSize = usual

    def close(self) -> None:
        """
        Take note that the connection is gone: there is no socket any more.
        """
        self._send_now = None
