"""
Sending past the buffer of a transport, on real sockets: what the kernel takes is a matter of the kernel.
"""

# Twisted's endpoints have no annotations.
# mypy: disable-error-code="no-untyped-call"

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.outlet import Outlet


@implementer(IPushProducer)
class Sender(Protocol):
    """
    The end that sends.
    """

    def __init__(self) -> None:
        self.there: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.writable: Deferred[None] = Deferred()
        self.by_transport: list[int] = []
        self.paused = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        write = transport.write

        def noted(data: bytes) -> None:
            self.by_transport.append(len(data))
            write(data)

        transport.write = noted
        self.outlet = Outlet(transport)
        transport.registerProducer(self, True)
        self.there.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.outlet.close()
        self.lost.callback(None)

    def pauseProducing(self) -> None:
        self.paused = True
        self.writable = Deferred()

    def resumeProducing(self) -> None:
        self.outlet.emptied()
        self.writable.callback(None)

    def stopProducing(self) -> None:
        pass


@pytest.fixture(params=["tcp", "unix"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp:0:interface=127.0.0.1" if request.param == "tcp" else f"unix:{tmp_path / 'socket'}"


@asynccontextmanager
async def pair(where: str) -> AsyncIterator[tuple[Sender, socket.socket]]:
    """
    A sender, and a caller that reads when it is told to.
    """
    from twisted.internet import reactor

    sender = Sender()
    factory = Factory.forProtocol(lambda: sender)
    port: Any = await endpoints.serverFromString(reactor, where).listen(factory)
    unix = where.startswith("unix:")
    caller = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    try:
        caller.settimeout(10)
        caller.connect(where.removeprefix("unix:") if unix else ("127.0.0.1", port.getHost().port))
        await sender.there
        yield sender, caller
    finally:
        caller.close()
        await sender.lost
        await port.stopListening()


def read(caller: socket.socket, size: int) -> bytes:
    heard = bytearray()
    while len(heard) < size and (data := caller.recv(65_536)):
        heard += data
    return bytes(heard)


@pytest_twisted.ensureDeferred
async def test_once_all_is_sent_the_transport_is_passed_by_again(where: str) -> None:
    """
    However little the kernel did not take: a transport sends 128 KiB at a time.
    """
    async with pair(where) as (sender, caller):
        sender.outlet.write(b"small")
        assert sender.by_transport == []
        sender.outlet.write(b"x" * 150_000)
        assert len(sender.by_transport) == 1
        # Else nothing would tell when all is sent.
        assert sender.paused
        await deferToThread(read, caller, 150_005)
        await sender.writable
        sender.outlet.write(b"small")
        assert len(sender.by_transport) == 1
        assert await deferToThread(read, caller, 5) == b"small"


@pytest_twisted.ensureDeferred
async def test_what_is_written_comes_in_order(where: str) -> None:
    chance = random.Random(12)
    parts = [chance.randbytes(chance.choice([1, 100, 5_000, 70_000, 200_000])) for _ in range(300)]
    whole = b"".join(parts)
    async with pair(where) as (sender, caller):
        reading = deferToThread(read, caller, len(whole) + 1)
        for number, part in enumerate(parts):
            sender.outlet.write(part)
            if number % 7 == 6:
                await deferLater(_reactor(), 0)
        transport: Any = sender.transport
        transport.unregisterProducer()
        # What was written before comes first, though the caller has not read it yet.
        transport.loseConnection()
        assert await reading == whole


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_reset_while_it_is_written_to() -> None:
    async with pair("tcp:0:interface=127.0.0.1") as (sender, caller):
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        # It is not lost before the reactor has seen it; what is written meanwhile goes nowhere.
        for _ in range(3):
            sender.outlet.write(b"x" * 1_000)
        assert not sender.lost.called
        await sender.lost
        sender.lost = Deferred()
        sender.lost.callback(None)
        sender.outlet.write(b"x")


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor
