"""
The network in memory behaves as a network does, where tests of clusters do not show it anyhow.
"""

from random import Random
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IListeningPort, IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dcounter.testing import MemoryTransport, Network, ProcessClock


class Ear(Protocol):
    """
    Keeps what it hears.
    """

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.ends: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        self.chunks.append(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionRefusedError())) -> None:  # noqa: B008
        self.ends.append(type(reason.value).__name__)


class Line:
    """
    One connection from `here` to port 9000.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock, Random(0))
        self.near, self.far = Ear(), Ear()
        listening: Deferred[IListeningPort] = self.network.listen(9000).listen(self._factory(self.far))
        ports: list[IListeningPort] = []
        listening.addCallback(ports.append)
        self.port = ports[0]
        self.connect(self.near)

    @staticmethod
    def _factory(ear: Ear) -> Any:
        factory: Any = Factory.forProtocol(lambda: ear)
        factory.noisy = False
        return factory

    def connect(self, ear: Ear) -> list[object]:
        found: list[object] = []
        connecting: Deferred[IProtocol] = self.network.connect("here", 9000).connect(self._factory(ear))
        connecting.addBoth(found.append)
        return found

    @property
    def end(self) -> MemoryTransport:
        return cast(MemoryTransport, self.near.transport)


def test_a_connection_may_break_in_the_middle_of_what_is_under_way() -> None:
    line = Line()
    line.end.write(b"12345")
    line.end.write(b"67890")
    line.end.cut(deliver=7)
    line.clock.advance(1)
    assert b"".join(line.far.chunks) == b"1234567"
    assert line.far.ends == line.near.ends == ["ConnectionLost"]
    assert line.network.connections == set()
    line.end.write(b"more")
    line.clock.advance(1)
    assert b"".join(line.far.chunks) == b"1234567"


def test_or_lose_all_of_it() -> None:
    line = Line()
    line.end.write(b"12345")
    line.end.cut()
    line.clock.advance(1)
    assert line.far.chunks == []


def test_who_hangs_up_is_heard_to_the_end() -> None:
    line = Line()
    line.end.write(b"12345")
    line.end.loseWriteConnection()
    line.end.write(b"too late")
    line.clock.advance(1)
    assert b"".join(line.far.chunks) == b"12345"
    assert line.far.ends == line.near.ends == ["ConnectionDone"]


def test_shredded_writes_arrive_in_pieces_and_in_order() -> None:
    line = Line()
    line.network.shred = 1.0
    for number in range(50):
        line.end.write(b"line %d\n" % number)
    line.end.write(b"x")
    line.clock.advance(1)
    assert len(line.far.chunks) == 101
    assert b"".join(line.far.chunks) == b"".join(b"line %d\n" % number for number in range(50)) + b"x"


def test_a_source_may_be_kept_from_a_port() -> None:
    line = Line()
    line.network.part("here", 9000)
    line.clock.advance(1)
    assert line.near.ends == ["ConnectionLost"]
    [refused] = line.connect(Ear())
    assert isinstance(refused, Failure)
    assert refused.check(ConnectionRefusedError)
    line.network.unreachable.clear()
    again = Ear()
    assert line.connect(again) == [again]


def test_it_looks_like_tcp() -> None:
    line = Line()
    assert line.end.getPeer() == line.port.getHost() == IPv4Address("TCP", "memory", 9000)
    assert line.end.getHost().host == "here"
    line.end.setTcpNoDelay(True)
    line.end.setTcpKeepAlive(True)
    assert line.end.getTcpNoDelay()
    assert not line.end.getTcpKeepAlive()
    line.port.startListening()
    assert list(line.network.ports) == [9000]


def test_an_attempt_to_connect_dies_with_its_process() -> None:
    clock = Clock()
    process = ProcessClock(clock)
    network = Network(clock, Random(1))
    network.listen(9000, "there").listen(Factory.forProtocol(Ear))
    network.silent.add(("here", "there"))
    ends: list[object] = []
    for each in (process, None):
        network.connect("here", 9000, each).connect(Factory.forProtocol(Ear)).addBoth(ends.append)
    process.kill()
    clock.advance(10)
    # Only that of the process that lives has failed.
    assert [type(cast(Failure, end).value) for end in ends] == [TimeoutError]
