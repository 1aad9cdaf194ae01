"""
The simulated world: a cluster, the history of its callers, and what has been scheduled to happen.
"""

from collections.abc import Callable
from itertools import count

from dcounter.testing.cluster import Cluster
from dcounter.testing.disk import SimulatedDisk
from dcounter.testing.history import History
from dcounter.testing.setting import Setting, chance, draw


class World:
    """
    One cluster and its callers, for the events that happen there (`dcounter.testing.events`).

    Every event has randomness of its own: without one of them, the others try to do the same.

    :ivar random: what the event that happens now draws from.
    :ivar down: nodes that are about to start again.
    :ivar faulty_until: when (s) the last fault will be over.
    :ivar kept_directories: node -> a copy of its disk.
    :ivar fixed_stamps: stamps that callers chose, for ties.
    """

    def __init__(self, seed: int, setting: Setting) -> None:
        self.setting = setting
        self.seed = seed
        scene = draw(seed, setting)
        self.cluster = Cluster(
            scene.nodes,
            seed=seed,
            limits=scene.limits,
            disks=setting.disks,
            daemon=scene.daemon,
            parts=setting.parts,
        )
        self.cluster.wall.patience = scene.clock_patience
        self.cluster.on_power_lost = self._power_lost
        self.cluster.network.shred = scene.shred
        self.cluster.network.slowest = scene.slowest
        self.history = History(self.cluster, lossy=setting.kills and not setting.disks)
        self.random = chance(seed, "begin")
        self.down: set[int] = set()
        self.faulty_until = 0.0
        self.fixed_stamps: list[int] = []
        self.kept_directories: dict[int, SimulatedDisk] = {}
        self._scheduled: list[tuple[float, Callable[[], None]]] = []
        self._ids = count(1_000_000)

    def new_id(self) -> int:
        """
        An item's ID that was never used before.
        """
        return next(self._ids)

    # Processes

    def process_of(self, coordinator: object) -> str:
        """
        The process of a coordinator.
        """
        place = next(n for n, each in enumerate(self.cluster.coordinators) if each is coordinator)
        return self.cluster.name(place)

    def processes(self) -> list[str]:
        """
        All processes that run or are frozen.
        """
        coordinators = [self.process_of(each) for each in self.history.known]
        return [*coordinators, *(f"node {node}" for node in sorted(self.cluster.nodes))]

    def two_processes(self) -> tuple[str, str]:
        """
        Two processes, which may run or not, between which something happens.
        """
        nodes = [f"node {node}" for node in self.history.members]
        coordinators = [self.process_of(each) for each in self.history.known]
        one, other = self.random.sample([*dict.fromkeys(["coordinator", *coordinators]), *nodes], 2)
        return one, other

    def stoppable(self) -> list[int]:
        """
        Nodes that may stop or die now.
        """
        nodes = self.cluster.nodes
        up = [n for n in sorted(nodes) if nodes[n].running]
        if self.setting.disks:
            return up
        up = [n for n in up if f"node {n}" not in self.cluster.network.frozen]
        # One of them must keep the items: if all are empty at once, it is a new cluster.
        remember = [
            n for n in up if nodes[n].replica.status.refuses() is None and nodes[n].replica.ledger.known
        ]
        return [n for n in up if len(up) - len(self.down) > 1 and remember not in ([], [n])]

    def gone(self, node: int, pause: float, *, allowed: bool) -> None:
        """
        Note that a node has stopped or died, and start it again after a pause (s).

        :param allowed: without a disk, it may lose what was acknowledged.
        """
        self.history.last_stop = self.now
        self.down.add(node)
        if not self.setting.disks:
            self.history.risk(allowed=allowed)
        self.after(pause, lambda: self._start_node(node))

    def die_if_up(self, node: int, die: Callable[[int], None]) -> None:
        """
        Kill a node, unless it has died meanwhile; it starts again at once.
        """
        if node in self.stoppable():
            self.history.note(f"node {node} dies")
            die(node)
            self.gone(node, 0.0, allowed=True)

    def _start_node(self, node: int) -> None:
        self.down.discard(node)
        if node in self.history.removed:
            # It had come back before, as a second process, and was removed since.
            return
        if node in self.cluster.nodes:
            self.history.note(f"a second process of node {node} is the first one already")
            return
        self.history.note(f"start node {node}")
        self.fault("it fills", 1)
        self.cluster.start_node(node)

    def _power_lost(self, node: int) -> None:
        self.fault(f"node {node} loses power in the middle of something", 3)
        self.cluster.lose_power(node)
        self.gone(node, 0.1, allowed=True)

    # Faults

    def fault(self, text: str, seconds: float = 0.0) -> None:
        """
        Tell of a fault.

        :param seconds: how long it lasts.
        """
        self.history.note(text)
        self.faulty_until = max(self.faulty_until, self.now + seconds + 3)

    def faulty(self) -> bool:
        """
        Whether anything fails now, or may still suffer from what failed.
        """
        network = self.cluster.network
        return bool(
            self.now < self.faulty_until
            or network.frozen
            or network.parted
            or network.silent
            or network.slow
            or self.down
        )

    # Time

    @property
    def now(self) -> float:
        return self.cluster.clock.seconds()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """
        Let something happen later.
        """
        self._scheduled.append((self.now + seconds, action))

    @property
    def scheduled(self) -> bool:
        """
        Whether anything is to happen later.
        """
        return bool(self._scheduled)

    def advance(self, seconds: float, stop: Callable[[], bool] = lambda: False) -> None:
        """
        Let time pass, and what is scheduled happen.

        :param stop: ends it early.
        """
        until = self.now + seconds
        while True:
            due = min((when for when, _ in self._scheduled), default=until)
            self.cluster.run(max(0.0, min(due, until) - self.now), stop)
            if stop():
                return
            ready = [each for each in self._scheduled if each[0] <= self.now]
            if not ready:
                if self.now >= until:
                    return
                continue
            self._scheduled = [each for each in self._scheduled if each[0] > self.now]
            for _, action in ready:
                action()
