"""
Makes the processes of a cluster, freezes them and kills them.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from twisted.internet.interfaces import IReactorTime

from dcounter.coordinator.service import Coordinator
from dcounter.coordinator.stamping import StampedItems, stamped
from dcounter.journal.interface import Journal
from dcounter.journal.memory import MemoryJournal
from dcounter.limits import Limits
from dcounter.links.address_book import Address, AddressBook
from dcounter.node.service import Node
from dcounter.protocol.clock import HybridClock
from dcounter.protocol.codec import is_chunk
from dcounter.protocol.handshake import Identity
from dcounter.protocol.messages import Role
from dcounter.protocol.token import TokenSeal
from dcounter.store import Items
from dcounter.testing.clock import ProcessClock, Time
from dcounter.testing.disk import SimulatedDisk, SimulatedWriter
from dcounter.testing.network import Network
from dcounter.testing.parts import Parts
from dcounter.testing.secret_files import SecretFiles
from dcounter.testing.wall_clocks import WallClocks


class Processes:
    """
    Makes nodes and coordinators that are not started, each as a process of its own.

    :param seed: decides all that is left to chance.
    :ivar time: the time that passes for all of them.
    :ivar wall: their wall clocks.
    :ivar secrets: the secrets of each of them.
    :ivar lags: node -> additional time (s) for each piece of work of its disk.
    :ivar on_stamped: called when a coordinator has given the items of a request their stamps.
    """

    def __init__(self, seed: int, members: Collection[int], limits: Limits, parts: Parts) -> None:
        self.time = Time()
        self.random = Random(seed)  # noqa: S311 - chance, not a secret
        self._salts = Random(f"{seed}/salts")  # noqa: S311
        self._marks = Random(f"{seed}/marks")  # noqa: S311
        self.network = Network(self.time, self.random)
        self.secrets = SecretFiles(parts.secrets, Random(f"{seed}/secrets"))  # noqa: S311
        self.limits = limits
        self.parts = parts
        self.wall = WallClocks(self.time, parts.wall)
        self.lags: dict[int, float] = {}
        self.on_stamped: Callable[[Items, StampedItems], object] = lambda _, __: None
        self._clocks: dict[str, ProcessClock] = {}
        ports = range(8090, 8090 + limits.ports)
        self._addresses = {node: Address("memory", 8090 + node, ports) for node in members}

    def new_identity(self, members: Sequence[int], *, daemon: bool) -> Identity:
        """
        The identity of a new cluster.

        :param daemon: its nodes are those of one daemon.
        """
        boot = self.new_mark() if daemon else ""
        return Identity(self._nonce(), self.secrets.of("new processes"), members, boot)

    def new_mark(self) -> str:
        """
        A name that no other process and no other start of a daemon has.
        """
        return self._marks.randbytes(16).hex()

    def make_node(
        self,
        node: int,
        process: str,
        identity: Identity,
        disk: SimulatedDisk | None,
        clock: ProcessClock | None = None,
    ) -> Node:
        """
        Make a node.

        :param clock: that of a second process of the same name, see `succeed`.
        """
        if clock is None:
            clock = self.new_clock(process)
        identity = replace(identity, secrets=self.secrets.of(process))
        return Node(
            node,
            identity=identity,
            address_book=self.address_book("node", identity, process, clock, node),
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

    def make_coordinator(self, process: str, identity: Identity) -> Coordinator:
        """
        Make a coordinator.
        """
        clock = self.new_clock(process)
        wall = self.wall.of_coordinator(process)
        identity = replace(identity, secrets=self.secrets.of(process))
        return Coordinator(
            cluster=identity.cluster,
            address_book=self.address_book("coordinator", identity, process, clock),
            clock=self.parts.clock(wall),
            wall=wall,
            seal=TokenSeal(identity.secrets, identity.cluster),
            jitter=lambda: self.random.uniform(-1, 1),
            view=self.parts.view,
            stamp=self._stamp,
            watches=self.parts.watches,
            erasing=self.parts.erasing,
            compacting=self.parts.compacting,
        )

    def _stamp(self, items: Items, clock: HybridClock) -> StampedItems:
        columns = stamped(items, clock)
        self.on_stamped(items, columns)
        return columns

    def address_book(
        self,
        role: Role,
        identity: Identity,
        process: str,
        clock: IReactorTime,
        node: int | None = None,
    ) -> AddressBook:
        """
        What a process needs to reach the nodes.
        """
        return AddressBook(
            identity,
            role=role,
            node=node,
            addresses=self._addresses,
            connect=lambda _, port: self.network.connect(process, port, clock),
            nonce=self._nonce,
            limits=self.limits,
            clock=clock,
            instance="" if node is None else self.new_mark(),
            abilities=self.parts.abilities(process),
        )

    def _journal(self, node: int, disk: SimulatedDisk | None, clock: IReactorTime) -> Journal:
        if disk is None:
            return MemoryJournal(clock)

        def chance() -> float:
            return self.random.choice((0.0, 0.0005, 0.002, 0.01)) + self.lags.get(node, 0.0)

        return self.parts.journal(
            disk,
            is_chunk=is_chunk,
            in_thread=SimulatedWriter(clock, chance, lambda: self.random.choice((0.0, 0.0, 0.001))),
            clock=clock,
            segment_bytes=self.limits.segment_bytes,
            snapshot_bytes=self.limits.snapshot_bytes,
            pace_s=self.limits.commit_pace_s,
            owner=f"node {node}",
        )

    def die(self, process: str) -> None:
        """
        Kill a process, whatever it is doing.
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
                # A dead process must not hear of this: it would go on.
                end.protocol = None

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

    def new_clock(self, process: str) -> ProcessClock:
        """
        The clock of a new process.
        """
        self._clocks[process] = ProcessClock(self.time)
        return self._clocks[process]

    def succeed(self, process: str, clock: ProcessClock) -> None:
        """
        A second process of the same name has become the first.

        :param clock: its clock.
        """
        self._clocks[process] = clock

    def _nonce(self) -> str:
        return self.random.randbytes(16).hex()
