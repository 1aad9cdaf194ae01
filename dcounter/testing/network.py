"""
Ports and connections in memory, which can be slow, one-sided, cut and broken.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IListeningPort,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

_CONNECT_TIMEOUT = 2.0
"""
Time (s) after which an attempt to connect fails, if the other process is silent.
"""

_BUFFER = 64 * 1024
"""
Bytes under way on one direction of a connection above which its producer is paused.
"""


@implementer(ITCPTransport, IConsumer)
class MemoryTransport:
    """
    One end of a connection in memory.

    :ivar process: the process that has this end.
    :ivar delivered: bytes that have arrived at the other end.
    """

    def __init__(self, network: "Network", process: str, host: IPv4Address, peer: IPv4Address) -> None:
        self._network = network
        self.process = process
        self._host = host
        self._peer = peer
        self._under_way: deque[bytes] = deque()
        self._bytes = 0
        self._producer: IPushProducer | None = None
        self._paused = False
        self.closing = False
        self._latest = 0.0
        self._held = 0
        self.protocol: IProtocol | None = None
        self.other: MemoryTransport | None = None
        self.connected = True
        self.delivered = 0

    def write(self, data: bytes) -> None:
        if not self.connected or self.closing or not data:
            return
        for piece in self._network.pieces(data):
            self._under_way.append(piece)
            self._bytes += len(piece)
            self._later(self._deliver)
        if self._bytes > _BUFFER and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self, reason: object = None) -> None:
        if self.connected and not self.closing:
            self.closing = True
            self._later(self._close_when_delivered)

    def abortConnection(self) -> None:
        self._end(ConnectionAborted(), ConnectionLost())

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def cut(self, deliver: int = 0) -> None:
        """
        Break the connection; of what is under way from here only some bytes still arrive.
        """
        data = b"".join(self._under_way)[:deliver]
        self._under_way.clear()
        if data and self.other is not None and self.other.protocol is not None:
            self.other.protocol.dataReceived(data)
        self._end(ConnectionLost(), ConnectionLost())

    def _later(self, action: Callable[[], None]) -> None:
        delay = self._network.delay(self.process, self._peer_process())
        self._latest = max(self._latest, self._network.clock.seconds() + delay)
        self._network.clock.callLater(self._latest - self._network.clock.seconds(), action)

    def _peer_process(self) -> str:
        assert self.other is not None
        return self.other.process

    def release(self) -> None:
        """
        Deliver what was held back, if nothing holds it now.
        """
        if self._held and not self._network.holds(self.process, self._peer_process()):
            held, self._held = self._held, 0
            for _ in range(held):
                self._later(self._deliver)

    def _deliver(self) -> None:
        if not self.connected or not self._under_way or self.other is None:
            return
        if self._network.holds(self.process, self.other.process):
            self._held += 1
            return
        data = self._under_way.popleft()
        self._bytes -= len(data)
        self.delivered += len(data)
        if self.other.connected and self.other.protocol is not None and not self.other.closing:
            self.other.protocol.dataReceived(data)
        if self._paused and self._bytes <= _BUFFER and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()

    def _close_when_delivered(self) -> None:
        if not self.connected:
            return
        if self._producer is not None:
            # As in Twisted: a registered producer keeps the connection.
            self._later(self._close_when_delivered)
        else:
            self._end(ConnectionDone(), ConnectionDone())

    def _end(self, here: Exception, there: Exception) -> None:
        for end, why in ((self, here), (self.other, there)):
            if end is not None and end.connected:
                end.connected = False
                self._network.ending.add(end)
                self._network.clock.callLater(0, self._network.to_process, end.process, end.lost, why)
        self._network.connections.discard(self)
        if self.other is not None:
            self._network.connections.discard(self.other)

    def lost(self, why: Exception) -> None:
        """
        Tell the protocol that the connection is gone.
        """
        self._network.ending.discard(self)
        if self.protocol is not None:
            self.protocol.connectionLost(Failure(why))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        assert streaming
        self._producer = cast(IPushProducer, producer)

    def unregisterProducer(self) -> None:
        self._producer = None

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return self._host

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass


@implementer(IListeningPort)
class MemoryPort:
    """
    A port on which a process listens.

    :ivar process: that process.
    """

    def __init__(self, network: "Network", process: str, port: int, factory: IProtocolFactory) -> None:
        self._network = network
        self.process = process
        self.port = port
        self.factory = factory
        self._open = True
        factory.doStart()

    def startListening(self) -> None:
        pass

    def stopListening(self) -> Deferred[None]:
        self.lose()
        return succeed(None)

    def lose(self) -> None:
        """
        Close the port, as if the kernel had shut it down.
        """
        if self._network.ports.get(self.port) is self:
            del self._network.ports[self.port]
        if self._open:
            self._open = False
            self.factory.doStop()

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "memory", self.port)


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class _ListenEndpoint:
    network: "Network"
    process: str
    port: int

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        if self.port in self.network.ports or self.port in self.network.taken:
            return fail(CannotListenError("memory", self.port, OSError("taken")))
        listening = MemoryPort(self.network, self.process, self.port, protocolFactory)
        self.network.ports[self.port] = listening
        return succeed(cast(IListeningPort, listening))


@implementer(IStreamClientEndpoint)
@dataclass(frozen=True, slots=True)
class _ConnectEndpoint:
    network: "Network"
    source: str
    port: int
    clock: IReactorTime

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        network = self.network
        listening = network.ports.get(self.port)
        if listening is None or (self.source, self.port) in network.unreachable:
            return fail(ConnectionRefusedError())
        if frozenset((self.source, listening.process)) in network.parted:
            return fail(ConnectionRefusedError())
        ways = {(self.source, listening.process), (listening.process, self.source)}
        if ways & network.silent:
            failing: Deferred[IProtocol] = Deferred()
            # By the clock of the process that connects: an attempt freezes and dies with it.
            self.clock.callLater(_CONNECT_TIMEOUT, network.fail_later, failing, TimeoutError())
            return failing
        network.last_source += 1
        here = IPv4Address("TCP", self.source, network.last_source)
        there = listening.getHost()
        near = MemoryTransport(network, self.source, here, there)
        far = MemoryTransport(network, listening.process, there, here)
        near.other, far.other = far, near
        network.connections |= {near, far}
        network.to_process(listening.process, self._accept, listening, far)
        client_side = protocolFactory.buildProtocol(there)
        assert client_side is not None
        near.protocol = client_side
        client_side.makeConnection(near)
        return succeed(client_side)

    def _accept(self, listening: MemoryPort, far: MemoryTransport) -> None:
        if far.connected:
            far.protocol = listening.factory.buildProtocol(far.getPeer())
            if far.protocol is None:
                far.abortConnection()
            else:
                far.protocol.makeConnection(far)


@dataclass(eq=False)
class Network:
    """
    Ports and connections in memory.

    :ivar ports: port -> what listens there.
    :ivar taken: ports that another program holds.
    :ivar unreachable: (source, port) pairs between which no connection is made.
    :ivar parted: pairs of processes between which no connection is made.
    :ivar silent: (from, to) pairs of processes: what one sends waits on its way to the other.
    :ivar frozen: processes that do nothing; their connections stay.
    :ivar slow: (from, to) pairs of processes -> additional time (s) that bytes take.
    :ivar shred: the chance that what is written at once arrives in two pieces.
    :ivar connections: both ends of each.
    :ivar ending: ends of connections that are gone, which have not been told.
    """

    clock: Clock
    random: Random
    slowest: float = 0.0005
    ports: dict[int, MemoryPort] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    unreachable: set[tuple[str, int]] = field(default_factory=set)
    parted: set[frozenset[str]] = field(default_factory=set)
    silent: set[tuple[str, str]] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)
    slow: dict[tuple[str, str], float] = field(default_factory=dict)
    shred: float = 0.0
    connections: set[MemoryTransport] = field(default_factory=set)
    ending: set[MemoryTransport] = field(default_factory=set)
    last_source: int = 40_000
    _for_frozen: list[tuple[str, Callable[..., object], tuple[Any, ...]]] = field(default_factory=list)

    def delay(self, source: str, target: str) -> float:
        """
        How long (s) the next bytes take from one process to another.
        """
        return self.random.uniform(0, self.slowest) + self.slow.get((source, target), 0.0)

    def pieces(self, data: bytes) -> list[bytes]:
        """
        What is written at once, in the pieces in which it arrives.
        """
        if len(data) < 2 or not self.shred or self.random.random() >= self.shred:
            return [data]
        place = self.random.randrange(1, len(data))
        return [data[:place], data[place:]]

    def holds(self, source: str, target: str) -> bool:
        """
        Whether bytes from one process to another wait on their way.
        """
        return target in self.frozen or (source, target) in self.silent

    def to_process(self, process: str, action: Callable[..., object], *args: Any) -> None:
        """
        Let something happen in a process: now, or when it thaws.
        """
        if process in self.frozen:
            self._for_frozen.append((process, action, args))
        else:
            action(*args)

    def fail_later(self, deferred: "Deferred[IProtocol]", why: Exception) -> None:
        """
        Let an attempt to connect fail, unless it was cancelled.
        """
        if not deferred.called:
            deferred.errback(why)

    def release(self) -> None:
        """
        Deliver everything that `silent` and `frozen` do not hold now.
        """
        held, self._for_frozen = self._for_frozen, []
        for process, action, args in held:
            self.to_process(process, action, *args)
        for end in sorted(self.connections, key=lambda each: (each.getHost().port, each.getPeer().port)):
            end.release()

    def listen(self, port: int, process: str = "") -> IStreamServerEndpoint:
        """
        The endpoint to listen on a port.

        :param process: the process that listens.
        """
        return _ListenEndpoint(self, process, port)

    def connect(self, source: str, port: int, clock: IReactorTime | None = None) -> IStreamClientEndpoint:
        """
        The endpoint to connect to a port.

        :param source: the process that connects, see `unreachable`.
        :param clock: that of the process that connects, if it may freeze or die.
        """
        return _ConnectEndpoint(self, source, port, clock or cast(IReactorTime, self.clock))

    def between(self, source: str, port: int) -> Iterator[MemoryTransport]:
        """
        The calling ends of all connections from a source to a port.
        """
        for end in sorted(self.connections, key=lambda each: each.getHost().port):
            if end.getHost().host == source and end.getPeer().port == port:
                yield end

    def part(self, source: str, port: int) -> None:
        """
        Cut all connections from a source to a port, and let it make no others.
        """
        self.unreachable.add((source, port))
        for end in list(self.between(source, port)):
            end.cut()

    def joining(self, one: str, other: str | None = None) -> list[MemoryTransport]:
        """
        Both ends of all connections between two processes, or of all that one process has.
        """
        return [
            end
            for end in sorted(self.connections, key=lambda each: (each.getHost().port, each.getPeer().port))
            if end.other is not None
            and one in (end.process, end.other.process)
            and other in (None, end.process, end.other.process)
        ]
