"""
The simulated world: a cluster, its callers, and whatever may break, all decided by one seed.
"""

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from errno import EIO, ENOSPC
from functools import partial
from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.coordinator.service import Coordinator
from dcounter.errors import NoAnswer, NodeIsUp, NotApplied, Refusal, UnknownNode
from dcounter.limits import Limits
from dcounter.protocol.clock import CLOCK_PATIENCE, CLOCK_TOLERANCE
from dcounter.store import Ack, Consistency, Items
from dcounter.testing.cluster import Cluster, Copy, Parts
from dcounter.testing.disk import FAILING, DiskOperation, PowerLoss
from dcounter.testing.history import GROWING, YEAR, History, Known

_TENANTS = ("a", "b", "c", "d", "é")
_FOREIGN = "stored in a copy"
_SECOND = 1_000_000_000
_PATIENCE = 60.0
"""
Time (s) after which, when nothing fails any more, all nodes are to be equal.
"""

_CALM = 15.0
"""
Time (s) for which an event that needs a world without faults waits for that.
"""

FREQUENCIES: Mapping[str, int] = {
    "store": 45,
    "count": 25,
    "cut": 4,
    "part": 3,
    "silence": 2,
    "slow": 2,
    "freeze": 2,
    "lose_listener": 2,
    "restart": 4,
    "kill": 3,
    "lose_power": 4,
    "lose_power_soon": 3,
    "wipe": 1,
    "give_up": 1,
    "fail_disk": 3,
    "slow_disk": 2,
    "start_badly": 2,
    "mend_badly": 2,
    "lose_tail": 1,
    "split": 2,
    "take_sides": 2,
    "jump": 2,
    "jump_briefly": 2,
    "drift": 1,
    "change_coordinator": 2,
    "kill_coordinator": 1,
    "second_daemon": 1,
    "rebuild": 1,
    "copy_directory": 2,
}
"""
How often what happens, compared to everything else.
"""

_ONLY_DISKS = {
    "lose_power",
    "lose_power_soon",
    "wipe",
    "fail_disk",
    "slow_disk",
    "start_badly",
    "mend_badly",
    "lose_tail",
    "give_up",
    "second_daemon",
    "rebuild",
    "copy_directory",
}


@dataclass(frozen=True)
class Setting:
    """
    What kind of world.

    :ivar disks: nodes have disks; nothing that was acknowledged may ever be lost then.
    :ivar kills: nodes die, though they may have no disk.
    :ivar events: how much happens.
    :ivar frequencies: how often what happens, where it differs from `FREQUENCIES`.
    :ivar parts: what the cluster is made of.
    :ivar nodes: the numbers of nodes to choose from.
    :ivar limits: bounds that are not left to chance.
    :ivar without: events that do not happen, by their place.
    :ivar deleted: the share of items that are deletions.
    :ivar daemon: whether the nodes are those of one daemon; `None` leaves it to chance.
    """

    disks: bool = True
    kills: bool = True
    events: int = 50
    frequencies: Mapping[str, int] = field(default_factory=dict)
    parts: Parts = field(default_factory=Parts)
    nodes: Collection[int] = (1, 2, 3, 4, 4, 4, 5)
    limits: Mapping[str, Any] = field(default_factory=dict)
    without: frozenset[int] = frozenset()
    deleted: float = 0.0
    daemon: bool | None = None


class World:
    """
    One history of a cluster.

    Every event has randomness of its own: without one of them, the others try to do the same.
    """

    def __init__(self, seed: int, setting: Setting) -> None:
        self.seed = seed
        self.setting = setting
        self.random = self._random("begin")
        nodes = self.random.choice(list(setting.nodes))
        daemon = setting.daemon
        if daemon is None:
            daemon = self._random("daemon").random() < 0.5
        self.cluster = Cluster(
            nodes,
            seed=seed,
            limits=self._limits(),
            disks=setting.disks,
            daemon=daemon,
            parts=setting.parts,
        )
        self.cluster.clock_patience = self._random("clocks").choice([_SECOND // 2, CLOCK_PATIENCE])
        self.history = History(self.cluster, lossy=setting.kills and not setting.disks)
        self.cluster.on_power_lost = self._power_lost
        if self.random.random() < 0.5:
            self.cluster.network.shred = 0.3
        if self.random.random() < 0.3:
            self.cluster.network.slowest = 0.05
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._down: set[int] = set()
        self._faulty_until = 0.0
        self._next_id = 1_000_000
        self._fixed: list[int] = []

    def _random(self, place: int | str) -> Random:
        return Random(f"{self.seed}/{place}")  # noqa: S311 - chance, not a secret

    def _limits(self) -> Limits:
        random = self.random
        limits = Limits(ports=12)
        if random.random() < 0.4:
            limits = replace(limits, log=random.choice([300, 2_000, 10_000]))
        if random.random() < 0.4:
            limits = replace(limits, piece=random.choice([1, 5, 20]), stream=400)
        if random.random() < 0.3:
            limits = replace(limits, window_batches=2, batch_bytes=200)
        if random.random() < 0.7:
            limits = replace(
                limits, segment=random.choice([100, 500, 2_000]), snapshot=random.choice([300, 1_000, 5_000])
            )
        if random.random() < 0.5:
            limits = replace(limits, packed=random.choice([1, 4]))
        slowly = self._random("load")
        if slowly.random() < 0.5:
            # Line by line, and others do something in between.
            limits = replace(limits, load=0.0, load_pause=slowly.choice([0.0, 0.002, 0.02, 0.1]))
        return replace(limits, **self.setting.limits)

    @property
    def now(self) -> float:
        return self.cluster.clock.seconds()

    # Callers

    def store(self) -> None:
        random = self.random
        count = random.choice([1, 1, 2, 3, 4, 5, 11, 30])
        ids = [random.randrange(40) for _ in range(count)]
        tenants = [random.choice(_TENANTS) for _ in range(count)]
        for place in range(count):
            if random.random() < 0.3:
                ids[place], tenants[place] = self._next_id, GROWING
                self._next_id += 1
        for place in range(count):
            if self.setting.deleted and random.random() < self.setting.deleted:
                # Nodes know deletions, although no caller can ask for one yet.
                tenants[place] = cast(str, None)
        coordinator = random.choice(self.history.running())
        stamps = None
        if random.random() < 0.25:
            latest = self.cluster.walls[self._process_of(coordinator)]() + CLOCK_TOLERANCE
            self._fixed.append(latest - random.randrange(20 * _SECOND))
            # Old ones again: ties.
            same = [stamp for stamp in self._fixed[-3:] if stamp <= latest]
            choices = [None, latest, latest - 10 * _SECOND, latest - random.randrange(3600 * _SECOND), *same]
            stamps = [random.choice(choices) for _ in range(count)]
        ack = cast(Ack, random.choice(["node", "node", "node", "primary", "majority", "all"]))
        after = self._token() if random.random() < 0.2 else None
        answer = self.history.store(coordinator, Items(ids, tenants, stamps), ack, after)
        if random.random() < 0.03:
            self._in(random.random() / 10, lambda: self.history.give_up(answer))

    def count(self) -> None:
        random = self.random
        coordinator = random.choice(self.history.running())
        tenant = random.choice([*_TENANTS, GROWING])
        kinds: list[Consistency] = ["exact", "exact", "exact", "exact", "available", "eventual"]
        after = self._token() if random.random() < 0.3 else None
        answer = self.history.count(coordinator, tenant, random.choice(kinds), after)
        if random.random() < 0.03:
            self._in(random.random() / 10, lambda: self.history.give_up(answer))

    def _token(self) -> tuple[str, Known] | None:
        return self.random.choice(self.history.tokens) if self.history.tokens else None

    # Networks

    def cut(self) -> None:
        network = self.cluster.network
        ends = [end for each in self._processes() for end in network.joining(each) if end.connected]
        if ends:
            end = self.random.choice(ends)
            self._fault(f"cut {end.process} - {end.other and end.other.process}")
            end.cut(deliver=self.random.choice([0, 1, 50, 100_000]))

    def part(self) -> None:
        one, other = self._two()
        seconds = self.random.choice([0.1, 1.0, 3.0])
        self._fault(f"part {one} - {other} for {seconds}", seconds)
        self.cluster.part(one, other)
        self._in(seconds, lambda: self.cluster.heal(one, other))

    def silence(self) -> None:
        one, other = self._two()
        seconds = self.random.choice([0.1, 0.8, 2.0, 4.0])
        self._fault(f"silence {one} -> {other} for {seconds}", seconds)
        silent = self.cluster.network.silent

        def undo() -> None:
            silent.discard((one, other))
            self.cluster.network.release()

        silent.add((one, other))
        self._in(seconds, undo)

    def split(self) -> None:
        """
        Nodes fall into two groups, which a coordinator still reaches both, and then only one of them.

        It counts before and after that, while another coordinator stores.
        """
        groups = self._groups()
        if groups is None or self.cluster.network.silent or self.cluster.network.parted:
            return
        if len(self.history.running()) == 1:
            self.history.watch(self.cluster.start_coordinator())
        seconds = self.random.choice([0.9, 2.0, 4.0])
        one, other = self.random.sample(self.history.running(), 2)
        process = self._process_of(one)
        self._fault(f"split {groups[0]} from {groups[1]} for {seconds}, and soon from {process}", seconds)
        self._silence_between(*groups, seconds)
        # Before the nodes are taken for silent, so that both coordinators still use all of them.
        self._in(0.1, lambda: self._store_growing(other))
        self._in(0.3, lambda: self._count_growing(one))
        self._in(0.5, lambda: self._part_between([process], groups[0], seconds - 0.5))
        self._in(0.6, lambda: self._count_growing(one))

    def take_sides(self) -> None:
        """
        Nodes and coordinators fall into two groups that hear nothing of each other; callers reach both.
        """
        groups = self._groups()
        if groups is None:
            return
        if len(self.history.running()) == 1:
            self.history.watch(self.cluster.start_coordinator())
        seconds = self.random.choice([0.5, 2.0, 4.0])
        coordinators = [self._process_of(each) for each in self.history.running()]
        self.random.shuffle(coordinators)
        place = self.random.randrange(1, len(coordinators))
        left, right = groups[0] + coordinators[:place], groups[1] + coordinators[place:]
        self._fault(f"{left} and {right} take sides for {seconds}", seconds)
        if self.random.random() < 0.5:
            self._silence_between(left, right, seconds)
        else:
            self._part_between(left, right, seconds)

    def _groups(self) -> tuple[list[str], list[str]] | None:
        members = [f"node {node}" for node in self.history.members]
        if len(members) == 1:
            return None
        self.random.shuffle(members)
        place = self.random.randrange(1, len(members))
        return members[:place], members[place:]

    def _silence_between(self, left: list[str], right: list[str], seconds: float) -> None:
        network = self.cluster.network
        ways = {(one, other) for one in left for other in right}
        ways |= {(other, one) for one, other in ways}
        network.silent |= ways

        def undo() -> None:
            network.silent -= ways
            network.release()

        self._in(seconds, undo)

    def _part_between(self, left: list[str], right: list[str], seconds: float) -> None:
        ways = [(one, other) for one in left for other in right]
        for one, other in ways:
            self.cluster.part(one, other)

        def heal() -> None:
            for one, other in ways:
                self.cluster.heal(one, other)

        self._in(seconds, heal)

    def _store_growing(self, coordinator: Coordinator) -> None:
        if coordinator in self.history.running():
            ids = list(range(self._next_id, self._next_id + 4))
            self._next_id += len(ids)
            self.history.store(coordinator, Items(ids, [GROWING] * len(ids), None), "node", None)

    def _count_growing(self, coordinator: Coordinator) -> None:
        if coordinator in self.history.running():
            self.history.count(coordinator, GROWING, "exact", None)

    def slow(self) -> None:
        one, other = self._two()
        seconds = self.random.choice([0.5, 2.0])
        self._fault(f"slow {one} -> {other} for {seconds}", seconds)
        slow = self.cluster.network.slow
        slow[one, other] = self.random.choice([0.05, 0.3])
        self._in(seconds, lambda: cast(None, slow.pop((one, other), None)))

    def lose_listener(self) -> None:
        live = [n for n in self.cluster.nodes if f"node {n}" not in self.cluster.network.frozen]
        if live:
            node = self.random.choice(sorted(live))
            cut = self.random.random() < 0.5
            self._fault(f"lose listener of node {node}, cut={cut}")
            self.cluster.lose_listener(node, cut=cut)

    # Processes

    def freeze(self) -> None:
        process = self.random.choice(self._processes())
        frozen = self.cluster.network.frozen
        if process in frozen or len(frozen) >= max(1, len(self.cluster.nodes) // 2):
            return
        seconds = self.random.choice([0.1, 0.9, 1.5, 3.0])
        for coordinator in self.history.known:
            if self._process_of(coordinator) == process:
                self.history.frozen(coordinator, seconds)
        self._fault(f"freeze {process} for {seconds}", seconds)
        self.cluster.freeze(process)
        self._in(seconds, lambda: self._thaw(process))

    def _thaw(self, process: str) -> None:
        if process in self.cluster.network.frozen:
            self.history.note(f"thaw {process}")
            self.cluster.thaw(process)

    def restart(self) -> None:
        """
        Stop a node in order: what it acknowledged is elsewhere, or on its disk, when it is gone.
        """
        up = self._stoppable()
        healthy = not self._faulty()
        if not up or not (healthy or self.setting.kills):
            return
        node = self.random.choice(up)
        self._down.add(node)
        self.history.note(f"stop node {node}, healthy={healthy}")
        service = self.cluster.nodes[node]
        pause = self.random.choice([0.0, 0.3, 2.0])
        stopping = service.stopService()
        # From here until it is back no fault may keep it from handing over.
        self._faulty_until = max(self._faulty_until, self.now + 1)

        def stopped(_: object) -> None:
            self.history.note(f"stopped node {node}")
            if self.cluster.nodes.get(node) is not service:
                # It died before it had stopped.
                return
            self.cluster.stopped(node)
            self._gone(node, pause, allowed=self.history.lossy)

        stopping.addCallback(stopped).addErrback(self.history.failed)

    def kill(self) -> None:
        if not self.setting.kills:
            return
        for node in self._some():
            self._fault(f"kill node {node}", 3)
            self.cluster.kill_node(node)
            self._gone(node, self.random.choice([0.0, 0.3, 2.0]), allowed=True)

    def lose_power(self) -> None:
        """
        One or more machines go off.
        """
        for node in self._some():
            self._fault(f"node {node} loses power", 3)
            self.cluster.lose_power(node)
            self._gone(node, self.random.choice([0.0, 0.3, 2.0]), allowed=True)

    def lose_power_soon(self) -> None:
        """
        Machines go off in the middle of what their disks do.
        """
        for node in self._some():
            disk = self.cluster.disks[node]
            disk.power_fails_at = disk.points + self.random.randrange(20)
            self.history.note(f"node {node} is about to lose power")

    def _power_lost(self, node: int) -> None:
        self._fault(f"node {node} loses power in the middle of something", 3)
        self.cluster.lose_power(node)
        self._gone(node, 0.1, allowed=True)

    def _some(self) -> list[int]:
        """
        Nodes that something happens to; it may be all of them, if they have disks.
        """
        up = self._stoppable()
        if not self.setting.disks:
            return [self.random.choice(up)] if up else []
        several = self.random.choice([1, 1, 1, 2, 2, len(up)])
        return self.random.sample(up, min(several, len(up)))

    def _gone(self, node: int, pause: float, *, allowed: bool) -> None:
        self.history.last_stop = self.now
        self._down.add(node)
        if not self.setting.disks:
            self.history.risk(allowed=allowed)
        self._in(pause, lambda: self._start_node(node))

    def _start_node(self, node: int) -> None:
        self._down.discard(node)
        if node in self.history.given_up:
            # It had come back sooner, as a second process, and has burnt since.
            return
        if node in self.cluster.nodes:
            self.history.note(f"a second process of node {node} is the first one already")
            return
        self.history.note(f"start node {node}")
        self._fault("it fills", 1)
        self.cluster.start_node(node)

    def _stoppable(self) -> list[int]:
        nodes = self.cluster.nodes
        up = [n for n in sorted(nodes) if nodes[n].running]
        if self.setting.disks:
            return up
        up = [n for n in up if f"node {n}" not in self.cluster.network.frozen]
        # Somebody has to remember: if all are empty at once, it is a new cluster.
        remember = [n for n in up if nodes[n].replica.refuses() is None and nodes[n].replica.ledger.rows]
        return [n for n in up if len(up) - len(self._down) > 1 and remember not in ([], [n])]

    def change_coordinator(self) -> None:
        running = self.history.running()
        if len(running) > 1:
            self.history.note("stop a coordinator")
            self.random.choice(running).stopService().addErrback(self.history.failed)
        else:
            self.history.note("start a coordinator")
            self.history.watch(self.cluster.start_coordinator())

    def kill_coordinator(self) -> None:
        """
        A coordinator dies, and another one takes over.
        """
        going = self.random.choice(self.history.running())
        self._fault(f"kill {self._process_of(going)}, and start another")
        self.cluster.kill_coordinator(going)
        self.history.gone(going)
        self.history.watch(self.cluster.start_coordinator())

    def second_daemon(self) -> None:
        """
        Another process of a node is started on its disk; it waits, and ends, or the first one ends before it.
        """
        disks, seconds = self.cluster.disks, self.cluster.seconds
        # One that has no disk yet was a second process itself, and has not noticed that it is the first now.
        up = [node for node in self._stoppable() if disks[node].used and node not in seconds]
        if not up:
            return
        node = self.random.choice(up)
        pause = self.random.choice([0.1, 1.0, 3.0])
        self.history.note(f"a second process of node {node} is started")
        self.cluster.start_second(node)
        if self.random.random() < 0.5:
            self._in(pause, lambda: self._die_if_up(node, self.cluster.kill_node))
        # Whichever happens first; the one that has become the node is not a second one any more.
        self._in(pause + self.random.choice([-0.05, 1.0]), lambda: self.cluster.kill_second(node))

    def rebuild(self) -> None:
        """
        All nodes end, whatever goes on, and start again; some of them with empty disks, if that is permitted.
        """
        members = self.history.members
        chosen = self.random.sample(members, min(len(members), self.random.choice([1, 1, 2, 3, 5])))
        pause = self.random.choice([0.0, 0.0, 0.01, 0.3])
        self._fault(f"all nodes end, to rebuild {sorted(chosen)}", 3)
        if self.random.random() < 0.5:
            self.kill_coordinator()
        if pause:
            # Stopped in order, but killed before they are done.
            for node in self._stoppable():
                if node not in self._down:
                    self.cluster.nodes[node].stopService().addErrback(self.history.failed)
        self._in(pause, lambda: self._rebuild(chosen))

    def _rebuild(self, chosen: Collection[int]) -> None:
        cluster = self.cluster
        for node in sorted(cluster.nodes):
            cluster.kill_second(node)
            cluster.kill_node(node)
            self._gone(node, 0.0, allowed=True)
        for disk in cluster.disks.values():
            disk.power_fails_at = None
        found = cluster.rebuild(chosen)
        refused = [*found.never, *found.losses]
        self.history.note(f"rebuild {sorted(chosen)}: {'; '.join(refused) or 'done'}")

    # Disks

    def wipe(self) -> None:
        """
        A node gets a new disk, when all that it had is durable elsewhere.
        """
        node = self._dispensable(any)
        if node is not None:
            self._fault(f"node {node} gets an empty disk", 3)
            self.cluster.wipe(node)
            self._gone(node, self.random.choice([0.0, 0.3, 2.0]), allowed=True)

    def lose_tail(self) -> None:
        """
        A machine goes off, and its disk had lied about the end of the journal, which all others have.
        """
        node = self._dispensable(all)
        if node is not None:
            self.cluster.lose_power(node)
            size = self.cluster.lose_tail(node)
            self._fault(f"node {node} loses power, and {size} bytes that had been synced", 3)
            self._gone(node, self.random.choice([0.0, 0.3, 2.0]), allowed=True)

    def give_up(self) -> None:
        """
        A machine burns, when all that it had is durable elsewhere, and a caller gives it up for good.
        """
        node = self._dispensable(any) if len(self.history.members) > 2 else None
        if node is not None:
            self._fault(f"node {node} is gone for good", 3)
            self.cluster.wipe(node)
            self.history.last_stop = self.now
            self.history.given_up.add(node)
            self._in(self.random.choice([0.0, 0.5, 2.0]), lambda: self._forget(node))

    def _forget(self, node: int) -> None:
        """
        Tell a coordinator, again and again, until all who are there know.
        """
        live = self.cluster.nodes.values()
        if live and all(node in each.replica.forgotten for each in live):
            return
        coordinator = self.random.choice(self.history.running())
        self.history.note(f"forget node {node}, at {self._process_of(coordinator)}")
        asking = Deferred.fromCoroutine(coordinator.forget(node))
        asking.addErrback(lambda why: cast(None, why.trap(UnknownNode, NodeIsUp, NotApplied, NoAnswer)))
        asking.addErrback(self.history.failed)
        self._in(1.0, lambda: self._forget(node))

    def _dispensable(self, others: Callable[[Iterable[bool]], bool]) -> int | None:
        """
        A node all of whose items are durable with any or all others, if there is one while all are well.
        """
        nodes = self.cluster.nodes
        replicas = {node: service.replica for node, service in nodes.items()}
        if len(self._stoppable()) < max(2, len(self.history.members)):
            return None
        if any(each.refuses() is not None for each in replicas.values()):
            return None
        candidates = [
            node
            for node, mine in sorted(replicas.items())
            if others(each.durable.covers(mine.applied) for each in replicas.values() if each is not mine)
        ]
        return self.random.choice(candidates) if candidates else None

    def fail_disk(self) -> None:
        random = self.random
        node = random.choice(self.history.members)
        disk = self.cluster.disks[node]
        seconds = random.choice([0.05, 0.5, 2.0, 4.0])
        how = random.choice(["write", "sync", "full", "read only", *FAILING])
        self._fault(f"the disk of node {node} fails for {seconds}: {how}", seconds)
        if how == "full":
            disk.capacity = random.randrange(3_000)
        elif how == "read only":
            disk.read_only = True
        else:
            disk.errors[cast(DiskOperation, how)] = random.choice([EIO, ENOSPC])
        self._in(seconds, lambda: self._mend(node))

    def _mend(self, node: int) -> None:
        self.history.note(f"the disk of node {node} works")
        disk = self.cluster.disks[node]
        disk.errors.clear()
        disk.capacity = None
        disk.read_only = False

    def slow_disk(self) -> None:
        node = self.random.choice(self.history.members)
        seconds = self.random.choice([0.5, 2.0])
        lag = self.random.choice([0.02, 0.1, 1.0])
        self._fault(f"the disk of node {node} is slow for {seconds}: {lag}", seconds)
        self.cluster.lags[node] = lag
        self._in(seconds, lambda: cast(None, self.cluster.lags.pop(node, None)))

    def start_badly(self) -> None:
        """
        A node cannot sync, dies of it, starts without being able to, and then its machine goes off.
        """
        up = self._stoppable()
        if not up:
            return
        node = self.random.choice(up)
        self._fault(f"the disk of node {node} cannot sync, then it dies, starts and loses power", 2)
        self.cluster.disks[node].errors["sync"] = EIO
        self._in(self.random.choice([0.05, 0.3]), lambda: self._die_if_up(node, self.cluster.kill_node))
        until = self.random.choice([0.5, 0.9])
        self._in(until, lambda: self._die_if_up(node, self.cluster.lose_power))
        self._in(until, lambda: self._mend(node))

    def mend_badly(self) -> None:
        """
        A disk fails, works again but slowly, and the node dies while it makes up for what it could not write.
        """
        node = self.random.choice(self.history.members)
        seconds = self.random.choice([0.5, 1.5])
        self._fault(f"the disk of node {node} fails for {seconds}, is slow, and then it dies", seconds + 2)
        self.cluster.disks[node].errors["write"] = EIO

        def slowly() -> None:
            self._mend(node)
            self.cluster.lags[node] = 0.1

        def over() -> None:
            self.cluster.lags.pop(node, None)
            self._die_if_up(node, self.random.choice([self.cluster.kill_node, self.cluster.lose_power]))

        self._in(seconds, slowly)
        self._in(seconds + self.random.choice([1.0, 1.5, 2.0]), over)

    def _die_if_up(self, node: int, die: Callable[[int], None]) -> None:
        if node in self._stoppable():
            self.history.note(f"node {node} dies")
            die(node)
            self._gone(node, 0.0, allowed=True)

    # Copies

    def copy_directory(self) -> None:
        """
        Somebody starts a copy of the data directory beside the original.
        """
        if any(copy.in_use for copy in self.cluster.copies):
            return
        if self.cluster.identity.boot:
            self._copy_daemon()
        else:
            self._copy_node()

    def _copy_daemon(self) -> None:
        """
        The copy is a daemon of its own, and what its callers store is nobody else's business.
        """
        seconds = self.random.choice([0.5, 2.0, 4.0])
        self.history.note(f"a copy of the data directory is in use for {seconds}")
        copy = self.cluster.copy(self.history.members)
        for part in range(1, 6):
            ids = [self.random.randrange(40) for _ in range(5)]
            self._in(seconds * part / 6, partial(self._use, copy, ids))
        self._in(seconds, copy.kill)

    def _use(self, copy: Copy, ids: list[int]) -> None:
        assert copy.coordinator is not None
        storing = copy.coordinator.store(Items(ids, [_FOREIGN] * len(ids), None), ack="node")
        counting = copy.coordinator.count(_FOREIGN, consistency="exact")
        for asking in (Deferred.fromCoroutine(storing), Deferred.fromCoroutine(counting)):
            asking.addErrback(lambda why: cast(None, why.trap(Refusal))).addErrback(self.history.failed)

    def _copy_node(self) -> None:
        """
        A second process holds the id of a node, whose listener and connections are lost meanwhile.

        What nodes cannot know is left out: that the first process is alive when they have not heard from it
        for the suspicion time. They let the second one in then, which ends in that moment. But no node may
        have both at once.
        """
        for disk in self.cluster.disks.values():
            disk.power_fails_at = None
        until = self.now + _CALM
        while (self._later or self._faulty()) and self.now < until:
            self._advance(0.25)
        up = self._stoppable()
        if self._later or self._faulty() or len(up) < 2 or len(up) < len(self.history.members):
            return
        node = self.random.choice(up)
        self.history.note(f"a copy of the journal of node {node} is in use")
        copy = self.cluster.copy([node])
        replica = copy.nodes[node].replica

        def let_in() -> bool:
            for other, service in self.cluster.nodes.items():
                if len(service.holders.processes(node)) > 1 and not self.history.problems:
                    self.history.problem(f"node {other} has let in two processes of node {node}")
            return replica.refuses() is None

        for _ in range(20):
            self._advance(0.05)
            if not let_in():
                break
        for _ in range(self.random.choice([3, 6, 12])):
            if let_in():
                self.history.note("the copy is let in")
                break
            lose = partial(self._lose, node)
            happenings: list[Callable[[], None]] = [self.store, self.store, self.count, self.cut, lose]
            self.random.choice(happenings)()
            self._advance(self.random.choice([0.0, 0.01, 0.1, 0.5, 1.2]), stop=let_in)
        self.history.note("the copy is in use no longer")
        copy.kill()

    def _lose(self, node: int) -> None:
        cut = self.random.random() < 0.7
        self._fault(f"lose listener of node {node}, which has a copy, cut={cut}")
        self.cluster.lose_listener(node, cut=cut)

    # Wall clocks

    def jump(self) -> None:
        jump = self.random.choice([-3600, -15, -1, 1, 5, 3600])
        if self.random.random() < 0.5:
            self.cluster.skew += jump * _SECOND
            self.history.note(f"all wall clocks jump by {jump} s")
        else:
            process = self.random.choice(self._processes())
            skews = self.cluster.skews
            skews[process] = skews.get(process, 0) + jump * _SECOND
            self.history.note(f"the wall clock of {process} jumps by {jump} s")

    def jump_briefly(self) -> None:
        """
        The wall clock of a running coordinator is years off for a moment, which no other clock confirms.
        """
        process = self._process_of(self.random.choice(self.history.running()))
        jump = self.random.choice([-10, 10]) * YEAR
        seconds = self.random.choice([0.01, 0.1, 0.4])
        self.history.note(f"the wall clock of {process} is {jump} ns off for {seconds}")
        skews = self.cluster.skews
        skews[process] = skews.get(process, 0) + jump

        def undo() -> None:
            skews[process] -= jump

        self._in(seconds, undo)

    def drift(self) -> None:
        process = self.random.choice(self._processes())
        self.cluster.drifts[process] = self.random.choice([-0.1, -1e-3, 1e-3, 0.1])
        self.history.note(f"the wall clock of {process} drifts")

    # What they share

    def _process_of(self, coordinator: object) -> str:
        place = next(n for n, each in enumerate(self.cluster.coordinators) if each is coordinator)
        return self.cluster.name(place)

    def _processes(self) -> list[str]:
        coordinators = [self._process_of(each) for each in self.history.known]
        return [*coordinators, *(f"node {node}" for node in sorted(self.cluster.nodes))]

    def _two(self) -> tuple[str, str]:
        nodes = [f"node {node}" for node in self.history.members]
        coordinators = [self._process_of(each) for each in self.history.known]
        one, other = self.random.sample([*dict.fromkeys(["coordinator", *coordinators]), *nodes], 2)
        return one, other

    def _in(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((self.now + seconds, action))

    def _fault(self, text: str, seconds: float = 0.0) -> None:
        self.history.note(text)
        self._faulty_until = max(self._faulty_until, self.now + seconds + 3)

    def _faulty(self) -> bool:
        network = self.cluster.network
        return bool(
            self.now < self._faulty_until
            or network.frozen
            or network.parted
            or network.silent
            or network.slow
            or self._down
        )

    # Course

    def run(self) -> None:
        """
        Let everything happen, heal and be compared.
        """
        self.cluster.start()
        self.history.watch(self.cluster.coordinator)
        self._fault("not all nodes may have found each other yet")
        frequencies = {**FREQUENCIES, **self.setting.frequencies}
        if not self.setting.disks:
            frequencies = {kind: often for kind, often in frequencies.items() if kind not in _ONLY_DISKS}
        for place in range(self.setting.events):
            self.random = self._random(place)
            kind = self.random.choices(list(frequencies), list(frequencies.values()))[0]
            pause = self.random.choice([0.0, 0.0, 0.001, 0.01, 0.1, 0.5])
            if place not in self.setting.without:
                getattr(self, kind)()
                self._advance(pause)
        self.random = self._random("end")
        self.history.note("calm")
        self._heal()
        if self._settle() and self.setting.disks:
            self._go_off_and_on()
        self.history.overdue()
        self._stop()

    def _advance(self, seconds: float, stop: Callable[[], bool] = lambda: False) -> None:
        until = self.now + seconds
        while True:
            due = min((when for when, _ in self._later), default=until)
            self.cluster.run(max(0.0, min(due, until) - self.now), stop)
            if stop():
                return
            ready = [each for each in self._later if each[0] <= self.now]
            if not ready:
                if self.now >= until:
                    return
                continue
            self._later = [each for each in self._later if each[0] > self.now]
            for _, action in ready:
                action()

    def _heal(self) -> None:
        for disk in self.cluster.disks.values():
            disk.power_fails_at = None
        while self._later or self._down:
            self._advance(0.5)
        network = self.cluster.network
        network.parted.clear()
        network.silent.clear()
        network.release()

    def _settle(self) -> bool:
        """
        Wait until all nodes are equal and everybody is answered; whether that is so.
        """
        history = self.history
        until, at_last = self.now + _PATIENCE, self.now + 10 * _PATIENCE
        while history.under_way or not history.equal():
            if any(service.replica.loading for service in self.cluster.nodes.values()):
                # Line by line, and a log of few bytes makes many copies: that may take longer.
                until = min(self.now + _PATIENCE, at_last)
            if self.now >= until:
                history.problem("the nodes do not become equal, or requests are never answered")
                for node, service in sorted(self.cluster.nodes.items()):
                    replica = service.replica
                    history.note(f"node {node}: {replica.ledger.digest()} {replica.refuses()}")
                    history.note(f"  applied {replica.applied.nodes}")
                    history.note(f"  durable {replica.durable.nodes}")
                return False
            self.cluster.run(0.25)
        self.cluster.run(3)
        if not history.equal():
            history.problem("the nodes were equal, and then not any more")
        history.check_ledger()
        for coordinator in history.running():
            history.check_counts(coordinator)
        return True

    def _go_off_and_on(self) -> None:
        """
        What all nodes say to be durable is there when all machines were off.
        """
        self.history.note("all machines go off, and on again")
        nodes = self.cluster.nodes
        before = next(iter(nodes.values())).replica.ledger.digest()
        for node in sorted(nodes):
            self.cluster.lose_power(node)
        for node in self.history.members:
            self.cluster.start_node(node)
        if self._settle():
            after = next(iter(nodes.values())).replica.ledger.digest()
            if after != before:
                self.history.problem("the nodes are not what they were before they went off")

    def _stop(self) -> None:
        cluster = self.cluster
        try:
            cluster.stop()
        except Exception:  # noqa: BLE001 - a finding like any other
            self.history.problem(f"the cluster does not stop: {Failure().getTraceback()}")
        if cluster.clock.getDelayedCalls() or cluster.network.connections or cluster.network.ports:
            self.history.problem("something goes on after the stop")


def play(seed: int, setting: Setting | None = None, *, trace: bool = False) -> History:
    """
    Play the history of a seed; its problems say what went wrong.

    :param trace: put everything that is logged into the story.
    """
    world = World(seed, setting or Setting())
    history = world.history

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        failure = cast("Failure | None", event.get("log_failure"))
        if failure is not None and not failure.check(PowerLoss):
            history.problem(f"logged: {failure.getTraceback()}")
        elif trace:
            history.note(f"    {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    try:
        with _nothing_collected():
            world.run()
    except Exception:  # noqa: BLE001 - a finding like any other
        history.problem(f"the world ended: {Failure().getTraceback()}")
    finally:
        globalLogPublisher.removeObserver(observe)
        for answer in list(history.under_way):
            _forget(answer)
    return history


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """
    Keep the garbage collector away, and let it look for errors that nobody has heard of afterwards.

    It would end the coroutines of processes that have died, at moments that no seed repeats; and what these
    do as they end is nothing that a dead process does.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
        gc.collect()


def shrink(seed: int, setting: Setting) -> Setting:
    """
    Leave out all events of a failing history without which it fails all the same.
    """
    size = setting.events // 2
    while size:
        for first in range(0, setting.events, size):
            fewer = replace(setting, without=setting.without | set(range(first, first + size)))
            if fewer.without != setting.without and play(seed, fewer).problems:
                setting = fewer
        size //= 2
    return setting


def _forget(answer: Deferred[Any]) -> None:
    answer.addErrback(lambda _: None)
