"""
Nodes and coordinators that a test drives.
"""

from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dcounter.coordinator.service import Coordinator
from dcounter.daemon.kept import read_all
from dcounter.daemon.rebuild import Objections
from dcounter.limits import Limits
from dcounter.node.service import Node
from dcounter.protocol.token import TokenSeal
from dcounter.testing.clock import ProcessClock
from dcounter.testing.copies import Copy
from dcounter.testing.disk import SimulatedDisk
from dcounter.testing.parts import Parts
from dcounter.testing.processes import Processes

_T = TypeVar("_T")


class Cluster:
    """
    Nodes and a coordinator that a test drives.

    :param nodes: how many nodes.
    :param seed: decides all that is left to chance.
    :param disks: whether nodes keep journals; without, they forget everything when they stop.
    :param daemon: whether the nodes are those of one daemon; otherwise each runs by itself.
    :ivar copies: copies of the data directory that are in use.
    :ivar second_processes: node -> a second process of it, which waits for the disk.
    :ivar processes: makes, freezes and kills its processes.
    :ivar wall: the wall clocks of all processes.
    :ivar lags: node -> additional time (s) for each piece of work of its disk.
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
        self.limits = limits or Limits()
        self.parts = parts or Parts()
        self.processes = Processes(seed, range(nodes), self.limits, self.parts)
        self.clock = self.processes.time
        self.random = self.processes.random
        self.network = self.processes.network
        self.wall = self.processes.wall
        self.lags = self.processes.lags
        self.identity = self.processes.new_identity(range(nodes), daemon=daemon)
        self.nodes: dict[int, Node] = {}
        self.second_processes: dict[int, tuple[Node, ProcessClock]] = {}
        self.disks = {node: SimulatedDisk() for node in range(nodes)} if disks else {}
        for node, disk in self.disks.items():
            disk.power_lost = partial(self.clock.callLater, 0, self._power_lost, node)
        self.on_power_lost: Callable[[int], object] = self.lose_power
        self.coordinators: list[Coordinator] = []
        self.copies: list[Copy] = []
        self._dead: set[int] = set()

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
        service = self.nodes[node] = self._make_node(node)
        service.startService()
        return service

    def start_second(self, node: int) -> None:
        """
        Start another process of a node, on the same disk.

        It waits until the first one has ended, and then takes its place.
        """
        clock = ProcessClock(self.clock)
        service = self._make_node(node, clock)
        self.second_processes[node] = service, clock
        service.startService()

    def _make_node(self, node: int, clock: ProcessClock | None = None) -> Node:
        disk = self.disks.get(node)
        return self.processes.make_node(node, f"node {node}", self.identity, disk, clock)

    def kill_second(self, node: int) -> None:
        """
        Kill the process that waits for a node's disk, if there is one.
        """
        if node in self.second_processes:
            _, clock = self.second_processes.pop(node)
            clock.kill()

    def _succeed(self, node: int) -> None:
        """
        The first process of a node has ended: the second one gets the disk, before any that start later.
        """
        if node in self.second_processes:
            self.nodes[node], clock = self.second_processes.pop(node)
            self.processes.succeed(f"node {node}", clock)

    def stop_node(self, node: int) -> None:
        """
        Stop a node cleanly: it first hands over what it has.
        """
        self.result(self.nodes[node].stopService())
        self.stopped(node)

    def stopped(self, node: int) -> None:
        """
        Note that a node has stopped cleanly.
        """
        del self.nodes[node]
        self._succeed(node)

    def kill_node(self, node: int) -> None:
        """
        Kill a node: its connections break; what it wrote is still there.
        """
        del self.nodes[node]
        self.processes.die(f"node {node}")
        if node in self.disks:
            self.disks[node].kill()
        self._succeed(node)

    def lose_power(self, node: int) -> None:
        """
        Switch a node's machine off: only what was synced is certain to be on its disk.
        """
        self.kill_second(node)
        self.kill_node(node)
        self.disks[node].lose_power(self.random)

    def wipe(self, node: int) -> None:
        """
        Kill a node and replace its disk by an empty one.
        """
        self.kill_second(node)
        self.kill_node(node)
        self.disks[node].wipe()

    def rebuild(self, chosen: Collection[int]) -> Objections:
        """
        Wipe the disks of nodes, if what all disks hold permits it. No node may be running.

        :returns: the objections; if there are any, nothing was wiped.
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
        Cut the newest segment of a node that is off, as if its disk had lied about a sync.

        :returns: how many bytes were cut.
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

    def kill_coordinator(self, coordinator: Coordinator) -> None:
        """
        Kill a coordinator: the requests that it had are never answered.
        """
        place = self.coordinators.index(coordinator)
        self._dead.add(place)
        self.processes.die(self.name(place))

    def freeze(self, process: str) -> None:
        """
        Stop a process (`node 2`, `coordinator`) as SIGSTOP does; its connections stay.
        """
        self.processes.freeze(process)

    def thaw(self, process: str) -> None:
        """
        Let a frozen process go on.
        """
        self.processes.thaw(process)

    def part(self, one: str, other: str) -> None:
        """
        Break all connections between two processes, and let neither reach the other.

        Attempts to connect fail at once; between processes in `Network.silent` they time out.
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
        Shut down a node's port from outside.

        :param cut: break all its connections as well: it cannot announce its next port.
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
        coordinator = self.processes.make_coordinator(self.name(len(self.coordinators)), self.identity)
        self.coordinators.append(coordinator)
        coordinator.startService()
        return coordinator

    def seal_of(self, coordinator: Coordinator) -> TokenSeal:
        """
        What opens the positions that a coordinator accepts now.
        """
        process = self.name(self.coordinators.index(coordinator))
        return TokenSeal(self.processes.secrets.of(process), self.identity.cluster)

    def copy(self, nodes: Collection[int]) -> Copy:
        """
        Copy the disks of nodes as they are, and start processes on the copies.

        In a cluster of one daemon the copy is a daemon of its own, with a coordinator.
        """
        identity, boot = self.identity, self.processes.new_mark()
        if identity.boot and self.parts.copies_boot:
            identity = replace(identity, boot=boot)
        disks = {node: self.disks[node] for node in nodes}
        self.copies.append(Copy(self.processes, len(self.copies), identity, disks))
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
