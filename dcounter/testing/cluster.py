"""
Nodes and coordinators that a test drives.
"""

from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dcounter.coordinator.service import Coordinator
from dcounter.coordinator.view import Membership
from dcounter.daemon.kept import read_all
from dcounter.daemon.rebuild import Kept, Objections, objections
from dcounter.journal.file import FileJournal
from dcounter.journal.interface import Journal
from dcounter.journal.memory import MemoryJournal
from dcounter.limits import Limits
from dcounter.links.address_book import Address, AddressBook
from dcounter.node.holders import Holders
from dcounter.node.replica import Replica
from dcounter.node.service import Node
from dcounter.protocol.clock import CLOCK_PATIENCE, HybridClock, SteadyWall
from dcounter.protocol.codec import is_piece
from dcounter.protocol.handshake import Identity, Role
from dcounter.protocol.token import TokenSeal
from dcounter.testing.clock import ProcessClock, Time
from dcounter.testing.disk import SimulatedDisk, SimulatedWriter
from dcounter.testing.network import Network

_T = TypeVar("_T")


@dataclass(frozen=True)
class Parts:
    """
    What a cluster is made of; a test of the tests swaps one for another that has a fault.

    :ivar copies_boot: whether a copy of a daemon's data directory is another start of the daemon.
    """

    replica: Callable[..., Replica] = Replica
    journal: Callable[..., FileJournal] = FileJournal
    membership: Callable[..., Membership] = Membership
    clock: Callable[[Callable[[], int]], HybridClock] = HybridClock
    wall: Callable[..., SteadyWall] = SteadyWall
    holders: Callable[..., Holders] = Holders
    copies_boot: bool = True
    objections: Callable[[Mapping[int, Kept], Collection[int]], Objections] = objections


class Cluster:
    """
    Nodes and a coordinator that a test drives.

    :param nodes: how many nodes.
    :param seed: decides all that is left to chance.
    :param disks: whether nodes keep journals; without, they forget everything when they stop.
    :param daemon: whether the nodes are those of one daemon; otherwise each runs by itself.
    :ivar copies: copies of the data directory that are in use.
    :ivar seconds: node -> a second process of it, which waits for the disk.
    :ivar skew: what all wall clocks are off by (ns).
    :ivar skews: process -> what its wall clock is off by (ns) besides.
    :ivar drifts: process -> how much faster (1e-6: a millionth) its wall clock goes.
    :ivar walls: coordinator -> the wall clock as it believes it.
    :ivar clock_patience: how long (ns) a wall clock's jump must last until a coordinator believes it.
    :ivar lags: node -> what a piece of work of its disk takes (s) besides the usual.
    """

    def __init__(
        self,
        nodes: int = 4,
        *,
        seed: int = 0,
        limits: Limits | None = None,
        disks: bool = False,
        daemon: bool = True,
        parts: Parts | None = None,
    ) -> None:
        self.clock = Time()
        self.random = Random(seed)  # noqa: S311 - chance, not a secret
        self._salts = Random(f"{seed}/salts")  # noqa: S311
        self._marks = Random(f"{seed}/marks")  # noqa: S311
        self.network = Network(self.clock, self.random)
        self.limits = limits or Limits()
        self.parts = parts or Parts()
        self.epoch = 1_800_000_000_000_000_000
        self.skew = 0
        self.skews: dict[str, int] = {}
        self.drifts: dict[str, float] = {}
        self.lags: dict[int, float] = {}
        self.walls: dict[str, SteadyWall] = {}
        self.clock_patience = CLOCK_PATIENCE
        secret = self.random.randbytes(32)
        boot = self._mark() if daemon else ""
        self.identity = Identity(self._nonce(), secret, range(nodes), boot)
        self.nodes: dict[int, Node] = {}
        self.seconds: dict[int, tuple[Node, ProcessClock]] = {}
        self.disks = {node: SimulatedDisk() for node in range(nodes)} if disks else {}
        for node, disk in self.disks.items():
            disk.power_lost = partial(self.clock.callLater, 0, self._power_lost, node)
        self.on_power_lost: Callable[[int], object] = self.lose_power
        self._clocks: dict[str, ProcessClock] = {}
        self.coordinators: list[Coordinator] = []
        self.copies: list[Copy] = []
        self._dead: set[int] = set()
        ports = range(8090, 8090 + self.limits.ports)
        self._addresses = {node: Address("memory", 8090 + node, ports) for node in range(nodes)}

    def wall(self, process: str = "") -> int:
        """
        The wall clock (ns since 1970) of a process.
        """
        passed = self.clock.seconds() * (1 + self.drifts.get(process, 0.0))
        return self.epoch + int(passed * 1e9) + self.skew + self.skews.get(process, 0)

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
        Start a node: with what is on its disk, or with nothing if it has none.
        """
        service = self.nodes[node] = self.make_node(node, f"node {node}", self.identity, self.disks.get(node))
        service.startService()
        return service

    def start_second(self, node: int) -> None:
        """
        Start another process of a node, on the same disk.

        It waits until the first one is gone, and is the node then.
        """
        clock = ProcessClock(self.clock)
        service = self.make_node(node, f"node {node}", self.identity, self.disks.get(node), clock)
        self.seconds[node] = service, clock
        service.startService()

    def kill_second(self, node: int) -> None:
        """
        Let the process die that waits for a node's disk, if there is one.
        """
        if node in self.seconds:
            _, clock = self.seconds.pop(node)
            clock.kill()

    def _succeed(self, node: int) -> None:
        """
        The first process of a node is gone: the second one has the disk next, whoever starts later.
        """
        if node in self.seconds:
            self.nodes[node], self._clocks[f"node {node}"] = self.seconds.pop(node)

    def make_node(
        self,
        node: int,
        process: str,
        identity: Identity,
        disk: SimulatedDisk | None,
        clock: ProcessClock | None = None,
    ) -> Node:
        """
        A node that is not started, as a process of its own.
        """
        if clock is None:
            clock = self._clocks[process] = ProcessClock(self.clock)
        return Node(
            node,
            identity=identity,
            address_book=self.address_book("node", process, clock, node, identity=identity),
            listen=partial(self.network.listen, process=process),
            journal=self._journal(node, disk, clock),
            limits=self.limits,
            clock=clock,
            wall=partial(self.wall, process),
            nonce=self._nonce,
            jitter=lambda: self.random.uniform(-1, 1),
            pid=0,
            replica=partial(self.parts.replica, seed=self._salts.getrandbits(64)),
            holders=self.parts.holders,
        )

    def stop_node(self, node: int) -> None:
        """
        Stop a node in order: it hands over what it has first.
        """
        self.result(self.nodes[node].stopService())
        self.stopped(node)

    def stopped(self, node: int) -> None:
        """
        A node has stopped in order.
        """
        del self.nodes[node]
        self._succeed(node)

    def kill_node(self, node: int) -> None:
        """
        Let a node die: its connections break, and it does nothing any more; what it wrote is there.
        """
        del self.nodes[node]
        self.die(f"node {node}")
        if node in self.disks:
            self.disks[node].kill()
        self._succeed(node)

    def lose_power(self, node: int) -> None:
        """
        Let a node's machine go off: it dies, and its disk keeps for certain only what was synced.
        """
        self.kill_second(node)
        self.kill_node(node)
        self.disks[node].lose_power(self.random)

    def wipe(self, node: int) -> None:
        """
        Let a node die together with its disk; it gets an empty one.
        """
        self.kill_second(node)
        self.kill_node(node)
        self.disks[node].wipe()

    def rebuild(self, chosen: Collection[int]) -> Objections:
        """
        Have the disks of nodes wiped, if what is on all disks permits it; no node runs.

        :returns: what speaks against it; then nothing was done.
        """
        for disk in self.disks.values():
            disk.open()
        kept = read_all(self.identity.members, self.disks, lambda node: f"node {node}", self.limits)
        for disk in self.disks.values():
            disk.close()
        found = self.parts.objections(kept, chosen)
        if not (found.never or found.losses):
            for node in chosen:
                self.disks[node].wipe()
        return found

    def lose_tail(self, node: int) -> int:
        """
        Let the disk of a node that is off have lied about the end of its newest segment.

        :returns: how many bytes are gone.
        """
        disk = self.disks[node]
        sizes = disk.sizes()
        segments = [name for name in sorted(sizes) if name.endswith(".journal") and sizes[name]]
        if not segments:
            return 0
        kept = self.random.randrange(sizes[segments[-1]])
        disk.lose_end(segments[-1], kept)
        return sizes[segments[-1]] - kept

    def _power_lost(self, node: int) -> None:
        # In the middle of something that the disk did, see `SimulatedDisk.power_fails_at`.
        if node in self.nodes and self.disks[node].off():
            self.on_power_lost(node)

    def _journal(self, node: int, disk: SimulatedDisk | None, clock: IReactorTime) -> Journal:
        if disk is None:
            return MemoryJournal(clock)

        def chance() -> float:
            return self.random.choice((0.0, 0.0005, 0.002, 0.01)) + self.lags.get(node, 0.0)

        return self.parts.journal(
            disk,
            is_piece=is_piece,
            in_thread=SimulatedWriter(clock, chance, lambda: self.random.choice((0.0, 0.0, 0.001))),
            clock=clock,
            segment=self.limits.segment,
            most=self.limits.snapshot,
            pace=self.limits.commit_pace,
            owner=f"node {node}",
        )

    def die(self, process: str) -> None:
        """
        Let a process end, whatever it does.
        """
        network = self.network
        network.frozen.discard(process)
        self._clocks[process].kill()
        for port in [port for port, listening in network.ports.items() if listening.process == process]:
            del network.ports[port]
        for end in network.joining(process):
            if end.process == process:
                end.protocol = None
                end.cut()
        for end in network.ending:
            if end.process == process:
                # The dead are told nothing: they would go on.
                end.protocol = None

    def kill_coordinator(self, coordinator: Coordinator) -> None:
        """
        Let a coordinator die: nobody who waits for it is ever answered.
        """
        place = self.coordinators.index(coordinator)
        self._dead.add(place)
        self.die(self.name(place))

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
        coordinator = self.make_coordinator(self.name(len(self.coordinators)), self.identity)
        self.coordinators.append(coordinator)
        coordinator.startService()
        return coordinator

    def make_coordinator(self, process: str, identity: Identity) -> Coordinator:
        """
        A coordinator that is not started, as a process of its own.
        """
        clock = self._clocks[process] = ProcessClock(self.clock)
        wall = self.walls[process] = self.parts.wall(
            partial(self.wall, process), lambda: int(self.clock.seconds() * 1e9), self.clock_patience
        )
        return Coordinator(
            cluster=identity.cluster,
            address_book=self.address_book("coordinator", process, clock, identity=identity),
            clock=self.parts.clock(wall),
            wall=wall,
            seal=TokenSeal(identity.secret, identity.cluster),
            jitter=lambda: self.random.uniform(-1, 1),
            membership=self.parts.membership,
        )

    def copy(self, nodes: Collection[int]) -> "Copy":
        """
        Copy the disks of nodes as they are, and start processes on the copies.

        In a cluster of one daemon the copy is a daemon of its own, with a coordinator.
        """
        self.copies.append(Copy(self, nodes, self._mark()))
        return self.copies[-1]

    def stop(self) -> None:
        """
        Stop everything.
        """
        for process in sorted(self.network.frozen):
            self.thaw(process)
        for copy in self.copies:
            copy.kill()
        for place, coordinator in enumerate(self.coordinators):
            if coordinator.running and place not in self._dead:
                self.result(coordinator.stopService())
        for node in list(self.nodes):
            self.kill_second(node)
            self.stop_node(node)
        self.wait_for(lambda: not self.clock.getDelayedCalls())

    @staticmethod
    def name(place: int) -> str:
        """
        The process of a coordinator, by its place among all that were started.
        """
        return f"coordinator {place}" if place else "coordinator"

    def address_book(
        self,
        role: Role,
        process: str,
        clock: IReactorTime,
        node: int | None = None,
        *,
        identity: Identity | None = None,
    ) -> AddressBook:
        """
        What a process needs to reach the nodes.
        """
        return AddressBook(
            identity or self.identity,
            role=role,
            node=node,
            addresses=self._addresses,
            connect=lambda _, port: self.network.connect(process, port, clock),
            nonce=self._nonce,
            limits=self.limits,
            clock=clock,
            instance="" if node is None else self._mark(),
        )

    def _mark(self) -> str:
        return self._marks.randbytes(16).hex()

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

    def run(self, seconds: float, stop: Callable[[], bool] = lambda: False) -> None:
        """
        Let time pass.

        :param stop: ends it early, asked after each step.
        """
        until = self.clock.seconds() + seconds
        while any(call.getTime() <= until for call in self.clock.getDelayedCalls()):
            self.step()
            if stop():
                return
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


class Copy:
    """
    A copy of the data directory that somebody started beside the original.

    :param nodes: whose disks are copied.
    :param boot: what a daemon on the copy is known by.
    :ivar nodes: its nodes.
    :ivar coordinator: its coordinator; `None` if the nodes run by themselves.
    """

    def __init__(self, cluster: Cluster, nodes: Collection[int], boot: str) -> None:
        self._cluster = cluster
        place = len(cluster.copies)
        identity = cluster.identity
        if identity.boot and cluster.parts.copies_boot:
            identity = replace(identity, boot=boot)
        self._processes: list[str] = []
        self.nodes: dict[int, Node] = {}
        self.coordinator: Coordinator | None = None
        for node in nodes:
            process = f"copy {place} of node {node}"
            self._processes.append(process)
            self.nodes[node] = cluster.make_node(node, process, identity, cluster.disks[node].copy())
            self.nodes[node].startService()
        if identity.boot:
            process = f"copy {place} of the coordinator"
            self._processes.append(process)
            self.coordinator = cluster.make_coordinator(process, identity)
            self.coordinator.startService()

    @property
    def in_use(self) -> bool:
        """
        Whether its processes are there.
        """
        return bool(self._processes)

    def kill(self) -> None:
        """
        End all its processes.
        """
        while self._processes:
            self._cluster.die(self._processes.pop())
