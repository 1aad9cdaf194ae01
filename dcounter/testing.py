"""
A whole cluster in one test: nodes and coordinators on a network in memory and a clock that the test moves.

The nodes, links and coordinators are those of production; only what is passed in differs. Everything that
is left to chance comes from one seed, so that a failing test can be repeated.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EBADF, ENOENT, ENOSPC, EROFS
from functools import partial
from os import strerror
from random import Random
from typing import Any, Literal, TypeVar, cast

from twisted.internet.address import IPv4Address
from twisted.internet.base import DelayedCall
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
    IDelayedCall,
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

from dcounter.clock import HybridClock
from dcounter.coordinator import Coordinator
from dcounter.disk import AppendFile
from dcounter.errors import ConfigurationError
from dcounter.handshake import Identity, Role
from dcounter.journal import MemoryJournal
from dcounter.limits import Limits
from dcounter.link import Address, Directory
from dcounter.node import Node
from dcounter.position import TokenSeal

_T = TypeVar("_T")

_NEVER = 1e9
"""
A time (s) that no test reaches.
"""

_CONNECT_TIMEOUT = 2.0
"""
Time (s) after which an attempt to connect to somebody who cannot be heard fails.
"""

_BUFFER = 64 * 1024
"""
Bytes under way on one direction of a connection above which its producer is paused.
"""


class _Time(Clock):
    """
    A clock that keeps its calls in order as they come, for tests that schedule very many.
    """

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> DelayedCall:
        call = DelayedCall(
            self.seconds() + delay, callable, args, kw, self.calls.remove, lambda _: None, self.seconds
        )
        insort(self.calls, call, key=DelayedCall.getTime)
        return call

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        # Those that were put off have moved.
        self.calls.sort(key=DelayedCall.getTime)
        while self.calls and self.calls[0].getTime() <= self.rightNow:
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)


@implementer(ITCPTransport, IConsumer)
class MemoryTransport:
    """
    One end of a connection in memory.

    :ivar process: who holds this end.
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
        Let what was held back go on, if nothing holds it any more.
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
                self._network.clock.callLater(0, self._network.to_process, end.process, end.lost, why)
        self._network.connections.discard(self)
        if self.other is not None:
            self._network.connections.discard(self.other)

    def lost(self, why: Exception) -> None:
        """
        Tell the protocol that the connection is gone.
        """
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
    A port on which somebody listens.

    :ivar process: who that is.
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
        The port is gone, as if the kernel had shut it down.
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
            network.clock.callLater(_CONNECT_TIMEOUT, network.fail_later, failing, TimeoutError())
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

    :ivar ports: port -> who listens there.
    :ivar taken: ports that somebody else holds.
    :ivar unreachable: (source, port) pairs between which no connection is made.
    :ivar parted: pairs of processes between which no connection is made.
    :ivar silent: (from, to) pairs of processes: what one sends waits on its way to the other.
    :ivar frozen: processes that do nothing; their connections stay.
    :ivar slow: (from, to) pairs of processes -> seconds that bytes take between them, beyond the usual.
    :ivar shred: the chance that what is written at once arrives in two pieces.
    :ivar connections: both ends of each.
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
        Let something happen in a process: now, or when it is no longer frozen.
        """
        if process in self.frozen:
            self._for_frozen.append((process, action, args))
        else:
            action(*args)

    def fail_later(self, deferred: "Deferred[IProtocol]", why: Exception) -> None:
        """
        An attempt to connect is over, unless it was given up.
        """
        if not deferred.called:
            deferred.errback(why)

    def release(self) -> None:
        """
        Let everything go on that `silent` and `frozen` no longer hold.
        """
        held, self._for_frozen = self._for_frozen, []
        for process, action, args in held:
            self.to_process(process, action, *args)
        for end in sorted(self.connections, key=lambda each: (each.getHost().port, each.getPeer().port)):
            end.release()

    def listen(self, port: int, process: str = "") -> IStreamServerEndpoint:
        """
        The endpoint to listen on a port.

        :param process: who listens.
        """
        return _ListenEndpoint(self, process, port)

    def connect(self, source: str, port: int) -> IStreamClientEndpoint:
        """
        The endpoint to connect to a port.

        :param source: who connects, see `unreachable`.
        """
        return _ConnectEndpoint(self, source, port)

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


@implementer(IReactorTime)
class ProcessClock:
    """
    The clock as one process sees it; what it has scheduled dies with it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: list[IDelayedCall] = []
        self._dead = False
        self._stopped: list[tuple[IDelayedCall, float]] = []

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> IDelayedCall:
        call = self._clock.callLater(delay, callable, *args, **kw)
        if self._dead:
            call.cancel()
        self._calls = [each for each in self._calls if each.active()]
        self._calls.append(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return [each for each in self._calls if each.active()]

    def kill(self) -> None:
        """
        The process is dead.
        """
        self._dead = True
        for call in self.getDelayedCalls():
            call.cancel()

    def freeze(self) -> None:
        """
        The process does nothing any more, for a while.
        """
        self._stopped = [(call, call.getTime()) for call in self.getDelayedCalls()]
        for call, _ in self._stopped:
            call.reset(_NEVER)

    def thaw(self) -> None:
        """
        The process goes on: what it had scheduled meanwhile happens at once.
        """
        stopped, self._stopped = self._stopped, []
        for call, when in stopped:
            if call.active():
                call.reset(max(0.0, when - self.seconds()))


class PowerLoss(Exception):
    """
    The machine is off: whoever was about to use the disk does nothing any more.
    """


DiskOperation = Literal[
    "list", "read", "create", "truncate", "rename", "remove", "sync names", "write", "sync", "close"
]
_CHANGING: Collection[DiskOperation] = ("create", "truncate", "rename", "remove", "write")


@dataclass(eq=False, slots=True)
class _Inode:
    """
    What a file holds.

    :ivar data: what a process reads.
    :ivar durable: how much of it (bytes) survives a loss of power for certain.
    :ivar dropped: a sync failed: what was not durable then never will be, whatever later ones say.
    """

    data: bytearray = field(default_factory=bytearray)
    durable: int = 0
    dropped: bool = False

    def lose_power(self, random: Random, keep: float) -> None:
        kept = self.durable
        if random.random() < keep:
            kept = len(self.data) if keep == 1.0 else random.randint(self.durable, len(self.data))
        torn = bytearray(self.data[:kept])
        if random.random() < keep / 2:
            for place in range(max(self.durable, kept - random.randint(0, 40)), kept):
                torn[place] = random.choice((0, 10, random.randrange(256)))
        self.data, self.durable, self.dropped = torn, kept, False


class _SimulatedFile:
    def __init__(self, disk: "SimulatedDisk", inode: _Inode) -> None:
        self._disk: SimulatedDisk | None = disk
        self._inode = inode
        self._life = disk.life

    def write(self, data: bytes) -> None:
        disk = self._opened()
        room = disk.room()
        with disk.doing("write"):
            if "write" in disk.errors:
                room = len(data) // 2
            self._inode.data += data[:room]
        disk.fail("write")
        if room is not None and len(data) > room:
            raise OSError(ENOSPC, strerror(ENOSPC))

    def sync(self) -> None:
        disk = self._opened()
        if "sync" in disk.errors:
            self._inode.dropped = True
        with disk.doing("sync"):
            disk.fail("sync")
            if not self._inode.dropped:
                self._inode.durable = len(self._inode.data)

    def close(self) -> None:
        disk = self._opened()
        self._disk = None
        disk.fail("close")

    def _opened(self) -> "SimulatedDisk":
        if self._disk is None or self._life != self._disk.life:
            raise OSError(EBADF, strerror(EBADF))
        return self._disk


class SimulatedDisk:
    """
    A `Disk` in memory, for `FileJournal`, that can lose what was not synced and fail in the usual ways.

    :ivar errors: operation -> the number of the error it fails with, until it is taken out again.
    :ivar capacity: bytes that all files together may hold; `None` for no limit.
    :ivar read_only: whether nothing can be changed.
    :ivar points: how many moments there were so far at which the power might have failed.
    :ivar power_fails_at: the moment at which it does (from then on all operations raise `PowerLoss`).
    :ivar life: a number that changes when the process that uses the disk dies.
    """

    def __init__(self) -> None:
        self.errors: dict[DiskOperation, int] = {}
        self.capacity: int | None = None
        self.read_only = False
        self.points = 0
        self.power_fails_at: int | None = None
        self.life = 0
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._changes: list[tuple[DiskOperation, str, str | _Inode | None]] = []
        self._used = False

    # What may happen to it

    def kill(self) -> None:
        """
        The process that uses the disk dies; the machine goes on.
        """
        self.life += 1
        self._used = False

    def lose_power(self, random: Random) -> None:
        """
        The machine goes off, and on again.

        What was synced is there. Of what was written since, some of the beginning may be, its end perhaps
        garbled; of the names that were given and taken away since, each may be as before or as after.
        """
        self.kill()
        self.power_fails_at = None
        keep = random.choice((0.0, 0.5, 1.0))
        for operation, name, other in self._changes:
            if random.random() < keep:
                _change(self._durable_names, operation, name, other)
        self._names = dict(self._durable_names)
        self._changes = []
        for inode in self._names.values():
            inode.lose_power(random, keep)

    def wipe(self) -> None:
        """
        Somebody puts an empty disk in its place.
        """
        self._names.clear()
        self._durable_names.clear()
        self._changes.clear()

    def damage(self, name: str, place: int) -> None:
        """
        Flip a bit of what a file holds.
        """
        self._names[name].data[place] ^= 1

    # Disk

    def open(self) -> None:
        if self._used:
            raise ConfigurationError("the disk is used by another process")
        self._used = True

    def close(self) -> None:
        self._used = False

    def list(self) -> list[str]:
        self._check("list")
        return sorted(self._names)

    def read(self, name: str) -> bytes:
        self._check("read")
        return bytes(self._inode(name).data)

    def create(self, name: str) -> AppendFile:
        self._check("create")
        if name in self._names:
            raise FileExistsError(name)
        if self.room() == 0:
            raise OSError(ENOSPC, strerror(ENOSPC))
        inode = _Inode()
        with self.doing("create"):
            self._change("create", name, inode)
        return _SimulatedFile(self, inode)

    def truncate(self, name: str, size: int) -> None:
        self._check("truncate")
        inode = self._inode(name)
        with self.doing("truncate"):
            del inode.data[size:]
            inode.dropped = inode.dropped and inode.durable < size
            inode.durable = min(inode.durable, size) if inode.dropped else len(inode.data)

    def rename(self, old: str, new: str) -> None:
        self._check("rename")
        self._inode(old)
        with self.doing("rename"):
            self._change("rename", old, new)

    def remove(self, name: str) -> None:
        if name in self._names:
            self._check("remove")
            with self.doing("remove"):
                self._change("remove", name, None)

    def sync(self) -> None:
        self._check("sync names")
        with self.doing("sync names"):
            self._durable_names = dict(self._names)
            self._changes.clear()

    # What the parts of it share

    def room(self) -> int | None:
        """
        Bytes that may yet be written.
        """
        if self.capacity is None:
            return None
        return max(0, self.capacity - sum(len(inode.data) for inode in self._names.values()))

    def fail(self, operation: DiskOperation) -> None:
        """
        Fail, if this operation is to.
        """
        if operation in self.errors:
            number = self.errors[operation]
            raise OSError(number, strerror(number))

    @contextmanager
    def doing(self, operation: DiskOperation) -> Iterator[None]:
        """
        Around the change that an operation makes: the power may fail before it and after it.
        """
        if self.read_only and operation in _CHANGING:
            raise OSError(EROFS, strerror(EROFS))
        self._power()
        yield
        self._power()

    def _power(self) -> None:
        if self.power_fails_at is not None and self.points >= self.power_fails_at:
            raise PowerLoss
        self.points += 1

    def _check(self, operation: DiskOperation) -> None:
        assert self._used, "the disk is not open"
        self.fail(operation)

    def _inode(self, name: str) -> _Inode:
        if name not in self._names:
            raise FileNotFoundError(ENOENT, strerror(ENOENT), name)
        return self._names[name]

    def _change(self, operation: DiskOperation, name: str, other: str | _Inode | None) -> None:
        _change(self._names, operation, name, other)
        self._changes.append((operation, name, other))


def _change(
    names: dict[str, _Inode], operation: DiskOperation, name: str, other: str | _Inode | None
) -> None:
    if isinstance(other, _Inode):
        names[name] = other
    elif operation == "remove":
        names.pop(name, None)
    elif isinstance(other, str) and name in names:
        names[other] = names.pop(name)


class SimulatedWriter:
    """
    A writer's thread on a simulated clock.

    As with a real one, the next piece of work may be done before it is heard what became of the last.

    :param seconds: how long a piece of work takes; it is done at the end of that time.
    :param delay: how long it takes until the result is heard.
    """

    def __init__(
        self,
        clock: IReactorTime,
        seconds: Callable[[], float] = lambda: 0.001,
        delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._delay = delay
        self._waiting: deque[Callable[[], None]] = deque()
        self._busy = False
        self._heard = 0.0
        self.stopped = False

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]:
        assert not self.stopped
        done: Deferred[_T] = Deferred()
        self._waiting.append(partial(self._do, work, done))
        self._next()
        return done

    def stop(self) -> None:
        self.stopped = True

    def _next(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            self._clock.callLater(self._seconds(), self._waiting.popleft())

    def _do(self, work: Callable[[], _T], done: Deferred[_T]) -> None:
        try:
            result: _T | Failure = work()
        except PowerLoss:
            # Nobody is there any more who could hear it, and nothing else is done.
            return
        except Exception:  # noqa: BLE001 - handed on, as from a real thread
            result = Failure()
        self._heard = max(self._heard, self._clock.seconds() + self._delay())
        self._clock.callLater(self._heard - self._clock.seconds(), _tell, done, result)
        self._busy = False
        self._next()


def _tell(done: Deferred[_T], result: _T | Failure) -> None:
    if isinstance(result, Failure):
        done.errback(result)
    else:
        done.callback(result)


class Cluster:
    """
    Nodes and a coordinator that a test drives.

    :param nodes: how many nodes.
    :param seed: decides all that is left to chance.
    """

    def __init__(self, nodes: int = 4, *, seed: int = 0, limits: Limits | None = None) -> None:
        self.clock = _Time()
        self.random = Random(seed)  # noqa: S311 - chance, not a secret
        self.network = Network(self.clock, self.random)
        self.limits = limits or Limits()
        self.epoch = 1_800_000_000_000_000_000
        self.skew = 0
        secret = self.random.randbytes(32)
        self.identity = Identity(self._nonce(), secret, range(nodes))
        self.nodes: dict[int, Node] = {}
        self._clocks: dict[str, ProcessClock] = {}
        self.coordinators: list[Coordinator] = []
        self._dead: set[int] = set()
        ports = range(8090, 8090 + self.limits.ports)
        self._addresses = {node: Address("memory", 8090 + node, ports) for node in range(nodes)}

    def wall(self) -> int:
        """
        The wall clock (ns since 1970), which `skew` (ns) sets.
        """
        return self.epoch + int(self.clock.seconds() * 1e9) + self.skew

    def start(self) -> "Cluster":
        """
        Start all nodes and one coordinator, and wait until it is ready.
        """
        for node in self.identity.members:
            self.start_node(node)
        self.coordinator = self.start_coordinator()
        self.wait_for(lambda: self.coordinator.readiness().ready)
        return self

    def start_node(self, node: int) -> Node:
        """
        Start a node that remembers nothing.
        """
        process = f"node {node}"
        clock = self._clocks[process] = ProcessClock(self.clock)
        service = self.nodes[node] = Node(
            node,
            identity=self.identity,
            directory=self.directory("node", process, clock, node),
            listen=partial(self.network.listen, process=process),
            journal=MemoryJournal(clock),
            limits=self.limits,
            clock=clock,
            wall=self.wall,
            nonce=self._nonce,
            jitter=lambda: self.random.uniform(-1, 1),
            pid=0,
        )
        service.startService()
        return service

    def stop_node(self, node: int) -> None:
        """
        Stop a node in order: it hands over what it has first.
        """
        self.result(self.nodes.pop(node).stopService())

    def kill_node(self, node: int) -> None:
        """
        Let a node die: its connections break, and it does nothing any more.
        """
        del self.nodes[node]
        self._die(f"node {node}")

    def _die(self, process: str) -> None:
        network = self.network
        network.frozen.discard(process)
        self._clocks[process].kill()
        for port in [port for port, listening in network.ports.items() if listening.process == process]:
            del network.ports[port]
        for end in network.joining(process):
            if end.process == process:
                end.protocol = None
                end.cut()

    def kill_coordinator(self, coordinator: Coordinator) -> None:
        """
        Let a coordinator die: nobody who waits for it is ever answered.
        """
        place = self.coordinators.index(coordinator)
        self._dead.add(place)
        self._die(self._name(place))

    def freeze(self, process: str) -> None:
        """
        Stop a process (`node 2`, `coordinator`) as SIGSTOP does; its connections stay.
        """
        self.network.frozen.add(process)
        self._clocks[process].freeze()

    def thaw(self, process: str) -> None:
        """
        Let a frozen process go on.
        """
        self.network.frozen.discard(process)
        self._clocks[process].thaw()
        self.network.release()

    def part(self, one: str, other: str) -> None:
        """
        Break all connections between two processes, and let neither reach the other.

        Those who try find out at once; between processes that are in `Network.silent` they do not.
        """
        self.network.parted.add(frozenset((one, other)))
        for end in self.network.joining(one, other):
            if end.connected:
                end.cut()

    def heal(self, one: str, other: str) -> None:
        """
        Let two processes reach each other again.
        """
        self.network.parted.discard(frozenset((one, other)))

    def lose_listener(self, node: int, *, cut: bool = False) -> None:
        """
        A node's port is shut down from outside.

        :param cut: break all its connections as well, so that it can tell nobody where it listens next.
        """
        process = f"node {node}"
        for listening in [each for each in self.network.ports.values() if each.process == process]:
            listening.lose()
        if cut:
            for end in self.network.joining(process):
                if end.connected:
                    end.cut()

    def start_coordinator(self) -> Coordinator:
        """
        Start one more coordinator.
        """
        process = self._name(len(self.coordinators))
        clock = self._clocks[process] = ProcessClock(self.clock)
        coordinator = Coordinator(
            cluster=self.identity.cluster,
            directory=self.directory("coordinator", process, clock),
            clock=HybridClock(self.wall),
            wall=self.wall,
            seal=TokenSeal(self.identity.secret, self.identity.cluster),
            jitter=lambda: self.random.uniform(-1, 1),
        )
        self.coordinators.append(coordinator)
        coordinator.startService()
        return coordinator

    def stop(self) -> None:
        """
        Stop everything.
        """
        for process in sorted(self.network.frozen):
            self.thaw(process)
        for place, coordinator in enumerate(self.coordinators):
            if coordinator.running and place not in self._dead:
                self.result(coordinator.stopService())
        for node in list(self.nodes):
            self.stop_node(node)
        self.wait_for(lambda: not self.clock.getDelayedCalls())

    @staticmethod
    def _name(place: int) -> str:
        return f"coordinator {place}" if place else "coordinator"

    def directory(self, role: Role, process: str, clock: IReactorTime, node: int | None = None) -> Directory:
        """
        What a process needs to reach the nodes.
        """
        return Directory(
            self.identity,
            role=role,
            node=node,
            addresses=self._addresses,
            connect=lambda _, port: self.network.connect(process, port),
            nonce=self._nonce,
            limits=self.limits,
            clock=clock,
        )

    def _nonce(self) -> str:
        return self.random.randbytes(16).hex()

    # Time

    def step(self) -> None:
        """
        Let the next thing happen.
        """
        calls = self.clock.getDelayedCalls()
        if not calls:
            raise AssertionError("nothing will ever happen")
        soonest = min(call.getTime() for call in calls)
        self.clock.advance(max(0.0, soonest - self.clock.seconds()))

    def run(self, seconds: float) -> None:
        """
        Let time pass.
        """
        until = self.clock.seconds() + seconds
        while any(call.getTime() <= until for call in self.clock.getDelayedCalls()):
            self.step()
        self.clock.advance(max(0.0, until - self.clock.seconds()))

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """
        Let time pass until a condition holds.

        :raises AssertionError: it does not within that time.
        """
        until = self.clock.seconds() + seconds
        while not condition():
            assert self.clock.seconds() < until, f"did not happen within {seconds} s"
            self.step()

    def result(self, what: Coroutine[Any, Any, _T] | Deferred[_T], seconds: float = 30.0) -> _T:
        """
        Let time pass until a Deferred has its result.

        :raises Exception: what it failed with.
        """
        deferred = what if isinstance(what, Deferred) else Deferred.fromCoroutine(what)
        results: list[_T | Failure] = []
        deferred.addBoth(results.append)
        self.wait_for(lambda: bool(results), seconds)
        result = results[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result
