"""
The caller's end of an HTTP connection in memory.
"""

# Twisted's transports in memory have no annotations.
# mypy: disable-error-code="no-untyped-call"

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.testing import StringTransport
from zope.interface import implementer

LOCAL = IPv4Address("TCP", "127.0.0.1", 8085)


class Wire(StringTransport):
    """
    A connection in memory; it tells how it ended.
    """

    def __init__(self, peer: Any, host: Any = LOCAL) -> None:
        super().__init__(hostAddress=host, peerAddress=peer)
        self.half_closed = False
        self.aborted = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        super().abortConnection()
        self.aborted = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


implementer(ITCPTransport)(Wire)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    text: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def problem(self) -> tuple[int, str]:
        assert self.headers["content-type"] == "application/problem+json"
        return self.status, self.json["code"]


def replies(sent: bytes, *, bodies: bool = True) -> Iterator[Reply]:
    """
    What was answered, with or without bodies.
    """
    while sent:
        head, _, rest = sent.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in fields)}
        if bodies and headers.get("transfer-encoding") == "chunked":
            text, sent = _joined(rest)
        else:
            length = int(headers.get("content-length", 0)) if bodies else 0
            text, sent = rest[:length], rest[length:]
        yield Reply(int(line.split()[1]), headers, text)


def _joined(sent: bytes) -> tuple[bytes, bytes]:
    """
    The chunks of one answer, whole or so far, and what comes after it.
    """
    text = b""
    while True:
        if not sent:
            # An answer that lasts: what came so far.
            return text, sent
        size, _, sent = sent.partition(b"\r\n")
        length = int(size, 16)
        text += sent[:length]
        sent = sent[length:].removeprefix(b"\r\n")
        if not length:
            return text, sent
