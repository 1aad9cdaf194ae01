"""
Whole clusters under random histories: what was answered must hold, whatever broke meanwhile.

Each seed decides a history: writes, counts, broken connections, lost listeners, frozen and dying nodes, a
wall clock that jumps. A failure names its seed. To repeat it, or to run more of them:

    DCOUNTER_FIRST_SEED=4711 DCOUNTER_SEEDS=1 pytest tests/test_cluster_random.py
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.coordinator import Coordinator
from dcounter.dispatch import Columns
from dcounter.errors import (
    Incomplete,
    InvalidPosition,
    NotApplied,
    NotReplicated,
    OutcomeUnknown,
    PositionLost,
    Refusal,
)
from dcounter.limits import Limits
from dcounter.store import Ack, Consistency, Count, Items, Receipt
from dcounter.testing import Cluster

_FIRST = int(os.environ.get("DCOUNTER_FIRST_SEED", "0"))
_SEEDS = int(os.environ.get("DCOUNTER_SEEDS", "150"))
_PER_TEST = 20

_EVENTS = int(os.environ.get("DCOUNTER_EVENTS", "50"))
_TENANTS = ("a", "b", "c", "d", "é")
_GROWING = "growing"
"""
A tenant whose items are never moved: its exact counts never go back.
"""

_SECOND = 1_000_000_000

Row = tuple[int, str]
"""
A stamp and a tenant: the larger one wins.
"""


@dataclass(eq=False)
class Write:
    """
    One request to store, and what became of it.

    :ivar rows: ID -> the row that this request gives it; `None` until it got its stamps.
    :ivar all_rows: also those that others of the same request beat; a count may see them meanwhile.
    :ivar acked: when (s) it was answered as stored.
    :ivar void: it was answered that nothing of it is stored.
    :ivar at_risk: IDs whose row may have been only at nodes that died.
    """

    coordinator: Coordinator
    items: Items
    ack: Ack
    asked: float
    rows: dict[int, Row] | None = None
    all_rows: list[tuple[int, Row]] = field(default_factory=list)
    acked: float | None = None
    void: bool = False
    at_risk: set[int] = field(default_factory=set)

    def kept(self, *, all_of_it: bool) -> dict[int, Row]:
        """
        The rows that must be there, with or without those at risk.
        """
        rows = self.rows or {}
        return rows if all_of_it else {item: row for item, row in rows.items() if item not in self.at_risk}


@dataclass(eq=False)
class Asked:
    """
    One exact count under way.

    :ivar floor: how many items the growing tenant was known to have when it was asked.
    """

    coordinator: Coordinator
    tenant: str
    at: float
    must: list[Write]
    floor: int


@dataclass(eq=False)
class History:
    """
    One cluster, and all that its callers were told.
    """

    seed: int
    lossy: bool
    cluster: Cluster = field(init=False)
    random: Random = field(init=False)
    writes: list[Write] = field(default_factory=list)
    unstamped: dict[int, Write] = field(default_factory=dict)
    tokens: list[tuple[str, list[Write], int]] = field(default_factory=list)
    floors: dict[Coordinator, int] = field(default_factory=dict)
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    under_way: dict[Deferred[Any], float] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    down: set[int] = field(default_factory=set)
    faulty_until: float = 0.0
    last_stop: float = -1.0
    next_id: int = 1_000_000
    exact: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        limits = Limits(ports=12)
        if self.random.random() < 0.4:
            limits = replace(limits, log=self.random.choice([300, 2_000, 10_000]))
        if self.random.random() < 0.4:
            limits = replace(limits, piece=self.random.choice([1, 5, 20]), stream=400)
        if self.random.random() < 0.3:
            limits = replace(limits, window_batches=2, batch_bytes=200)
        nodes = self.random.choice([1, 2, 3, 4, 4, 4, 5])
        self.cluster = Cluster(nodes, seed=self.seed, limits=limits)
        if self.random.random() < 0.5:
            self.cluster.network.shred = 0.3
        if self.random.random() < 0.3:
            self.cluster.network.slowest = 0.05

    # Clients

    @property
    def now(self) -> float:
        return self.cluster.clock.seconds()

    def note(self, text: str) -> None:
        self.log.append(f"{self.now:8.3f} {text}")

    def problem(self, text: str) -> None:
        self.note(f"PROBLEM {text}")
        self.problems.append(f"at {self.now:.3f} s: {text}")

    def watch(self, coordinator: Coordinator) -> Coordinator:
        """
        See which stamps a coordinator gives.
        """
        stamped = coordinator._stamped  # noqa: SLF001 - no caller is told them

        def spy(items: Items) -> Columns:
            columns = stamped(items)
            rows: dict[int, Row] = {}
            write = self.unstamped.pop(id(items))
            for item, stamp, tenant in zip(columns.ids, columns.all_stamps(), columns.tenants, strict=True):
                assert tenant is not None
                write.all_rows.append((item, (stamp, tenant)))
                rows[item] = max(rows.get(item, (0, "")), (stamp, tenant))
            write.rows = rows
            return columns

        vars(coordinator)["_stamped"] = spy
        self.floors[coordinator] = 0
        return coordinator

    def coordinator(self) -> Coordinator:
        return self.random.choice([each for each in self.floors if each.running])

    def start(self, what: Deferred[Any], limit: float, what_for: str) -> None:
        self.under_way[what] = self.now + limit + 1

        def ended(result: object) -> object:
            if self.now > self.under_way.pop(what):
                self.problem(f"a request was answered later than it may: {what_for}")
            return result

        what.addBoth(ended)

    def store(self) -> None:
        random = self.random
        count = random.choice([1, 1, 2, 3, 4, 5, 11, 30])
        ids = [random.randrange(40) for _ in range(count)]
        tenants = [random.choice(_TENANTS) for _ in range(count)]
        for place in range(count):
            if random.random() < 0.3:
                ids[place], tenants[place] = self.next_id, _GROWING
                self.next_id += 1
        stamps = None
        if random.random() < 0.25:
            latest = self.cluster.wall() + 10 * _SECOND
            choices = [None, latest, latest - 10 * _SECOND, latest - random.randrange(3600 * _SECOND)]
            stamps = [random.choice(choices) for _ in range(count)]
        coordinator = self.coordinator()
        ack = cast(Ack, random.choice(["node", "node", "node", "primary", "majority", "all"]))
        items = Items(ids, tenants, stamps)
        write = Write(coordinator, items, ack, self.now)
        self.writes.append(write)
        self.unstamped[id(items)] = write
        after = random.choice(self.tokens)[0] if self.tokens and random.random() < 0.2 else None
        self.note(f"store {len(self.writes)}: {count} items, ack={ack}")
        answer = Deferred.fromCoroutine(coordinator.store(items, ack=ack, after=after))
        self.start(answer, self.cluster.limits.request, f"store {len(self.writes)}")
        answer.addCallbacks(self.stored, self.not_stored, (write,), {}, (write,), {})
        answer.addErrback(self.failed)
        if random.random() < 0.03:
            self.in_(random.random() / 10, answer.cancel)

    def stored(self, receipt: Receipt, write: Write) -> None:
        self.note(f"stored {self.writes.index(write) + 1}")
        write.acked = self.now
        if receipt.items != len(write.items) or receipt.ack != write.ack:
            self.problem(f"asked {write.ack} for {len(write.items)} items and got {receipt}")
        holders = len(self.holders(write))
        nodes = len(self.cluster.identity.members)
        if holders < {"node": 0, "primary": 0, "majority": nodes // 2 + 1, "all": nodes}[write.ack]:
            # A node that stopped meanwhile had it.
            (self.note if self.last_stop >= write.asked else self.problem)(
                f"ack={write.ack}, but {holders} nodes have it"
            )
        self.tokens.append((receipt.position, [write], 0))

    def not_stored(self, why: Failure, write: Write) -> None:
        self.note(f"not stored {self.writes.index(write) + 1}: {why.value!r}")
        why.trap(Refusal, CancelledError)
        error = why.value
        if isinstance(error, NotReplicated):
            write.acked = self.now
        elif isinstance(error, NotApplied | InvalidPosition | PositionLost):
            write.void = True
            if isinstance(error, PositionLost) and not self.lossy:
                self.problem("a position was lost although no node died")
        elif not isinstance(error, OutcomeUnknown | CancelledError):
            self.problem(f"a store was refused with {error!r}")

    def count(self) -> None:
        random = self.random
        coordinator = self.coordinator()
        tenant = random.choice([*_TENANTS, _GROWING])
        consistency = cast(
            Consistency, random.choice(["exact", "exact", "exact", "exact", "available", "eventual"])
        )
        must = [each for each in self.writes if each.acked is not None and each.coordinator is coordinator]
        floor = self.floors[coordinator]
        after = None
        if self.tokens and random.random() < 0.3:
            after, more, known = random.choice(self.tokens)
            must = [*must, *more]
            floor = max(floor, known)
        asked = Asked(coordinator, tenant, self.now, must, floor)
        answer = Deferred.fromCoroutine(coordinator.count(tenant, consistency=consistency, after=after))
        self.start(answer, self.cluster.limits.count_wait, f"{consistency} count asked at {self.now:.3f}")
        answer.addCallbacks(self.counted, self.not_counted, (asked, consistency), {}, (consistency,), {})
        answer.addErrback(self.failed)
        if random.random() < 0.03:
            self.in_(random.random() / 10, answer.cancel)

    def counted(self, count: Count, asked: Asked, consistency: Consistency) -> None:
        if consistency == "eventual" or not count.complete:
            return
        self.exact += 1
        told_lost = bool(asked.coordinator.status().lost)
        least, most = self.bounds(asked.tenant, asked.must, told_lost=told_lost)
        if not least <= count.counter <= most:
            self.problem(f"{asked.tenant!r} counts {count.counter}, not between {least} and {most}")
        if asked.tenant == _GROWING:
            if count.counter < asked.floor and not told_lost:
                self.problem(f"{count.counter} items of {_GROWING!r} after {asked.floor} were counted")
            self.floors[asked.coordinator] = max(count.counter, 0 if told_lost else asked.floor)
            self.tokens.append((count.position, asked.must, 0 if self.lossy else count.counter))
        else:
            self.tokens.append((count.position, asked.must, 0))

    def not_counted(self, why: Failure, consistency: Consistency) -> None:
        why.trap(Incomplete, PositionLost, CancelledError)
        self.note(f"not counted: {why.value!r}")
        if why.check(PositionLost) and not self.lossy:
            self.problem("a position was lost although no node died")

    def failed(self, why: Failure) -> None:
        self.problem(f"an answer that is no refusal: {why.getTraceback()}")

    def bounds(self, tenant: str, must: list[Write], *, told_lost: bool) -> tuple[int, int]:
        """
        The least and the most items a tenant may own, given what has to be included.
        """
        floor: dict[int, Row] = {}
        for write in must:
            for item, row in write.kept(all_of_it=not told_lost).items():
                floor[item] = max(floor.get(item, (0, "")), row)
        owners: dict[int, set[str]] = {item: {row[1]} for item, row in floor.items()}
        for write in self.writes:
            if not write.void:
                for item, row in write.all_rows:
                    if row >= floor.get(item, (0, "")):
                        owners.setdefault(item, {""}).add(row[1])
        least = sum(each == {tenant} for each in owners.values())
        return least, sum(tenant in each for each in owners.values())

    def holders(self, write: Write) -> list[int]:
        """
        Live nodes that have all of a write, or something newer.
        """
        rows = (write.rows or {}).items()
        nodes = self.cluster.nodes
        return [node for node in nodes if all(self.has(node, item, row) for item, row in rows)]

    def has(self, node: int, item: int, row: Row) -> bool:
        entry = self.cluster.nodes[node].replica.ledger.get(item)
        return entry is not None and (entry.stamp, entry.tenant or "") >= row

    # Faults

    def in_(self, seconds: float, action: Callable[[], None]) -> None:
        self.later.append((self.now + seconds, action))

    def fault(self, text: str, seconds: float = 0.0) -> None:
        self.note(text)
        self.faulty_until = max(self.faulty_until, self.now + seconds + 3)

    def processes(self) -> list[str]:
        return ["coordinator", *(f"node {node}" for node in sorted(self.cluster.nodes))]

    def two(self) -> tuple[str, str]:
        one, other = self.random.sample([*self.processes(), "coordinator 1"], 2)
        return one, other

    def cut(self) -> None:
        ends = [end for end in self.cluster.network.joining("") if end.connected] or [
            end for each in self.processes() for end in self.cluster.network.joining(each) if end.connected
        ]
        if ends:
            end = self.random.choice(ends)
            self.fault(f"cut {end.process} - {end.other and end.other.process}")
            end.cut(deliver=self.random.choice([0, 1, 50, 100_000]))

    def part(self) -> None:
        one, other = self.two()
        seconds = self.random.choice([0.1, 1.0, 3.0])
        self.fault(f"part {one} - {other} for {seconds}", seconds)
        self.cluster.part(one, other)
        self.in_(seconds, lambda: self.cluster.heal(one, other))

    def silence(self) -> None:
        one, other = self.two()
        seconds = self.random.choice([0.1, 0.8, 2.0, 4.0])
        self.fault(f"silence {one} -> {other} for {seconds}", seconds)
        silent = self.cluster.network.silent

        def undo() -> None:
            silent.discard((one, other))
            self.cluster.network.release()

        silent.add((one, other))
        self.in_(seconds, undo)

    def slow(self) -> None:
        one, other = self.two()
        seconds = self.random.choice([0.5, 2.0])
        self.fault(f"slow {one} -> {other} for {seconds}", seconds)
        slow = self.cluster.network.slow
        slow[one, other] = self.random.choice([0.05, 0.3])
        self.in_(seconds, lambda: cast(None, slow.pop((one, other), None)))

    def freeze(self) -> None:
        process = self.random.choice(self.processes())
        frozen = self.cluster.network.frozen
        if process == "coordinator" or process in frozen or len(frozen) >= len(self.cluster.nodes) // 2:
            return
        seconds = self.random.choice([0.1, 0.9, 1.5, 3.0])
        self.fault(f"freeze {process} for {seconds}", seconds)
        self.cluster.freeze(process)
        self.in_(seconds, lambda: self.thaw(process))

    def thaw(self, process: str) -> None:
        if process in self.cluster.network.frozen:
            self.note(f"thaw {process}")
            self.cluster.thaw(process)

    def lose_listener(self) -> None:
        live = [n for n in self.cluster.nodes if f"node {n}" not in self.cluster.network.frozen]
        if live:
            node = self.random.choice(sorted(live))
            cut = self.random.random() < 0.5
            self.fault(f"lose listener of node {node}, cut={cut}")
            self.cluster.lose_listener(node, cut=cut)

    def candidates_to_stop(self) -> list[int]:
        nodes = self.cluster.nodes
        up = [n for n in sorted(nodes) if f"node {n}" not in self.cluster.network.frozen and nodes[n].running]
        # Somebody has to remember: if all are empty at once, it is a new cluster.
        remember = [n for n in up if nodes[n].replica.refuses() is None and nodes[n].replica.ledger.rows]
        return [n for n in up if len(up) - len(self.down) > 1 and remember not in ([], [n])]

    def restart(self) -> None:
        """
        Stop a node in order: what it acknowledged is elsewhere when it is gone.
        """
        up = self.candidates_to_stop()
        healthy = not self.faulty()
        if not up or not (healthy or self.lossy):
            return
        node = self.random.choice(up)
        self.down.add(node)
        self.note(f"stop node {node}, healthy={healthy}")
        service = self.cluster.nodes[node]
        stopping = service.stopService()
        # From here until it is back no fault may keep it from handing over.
        self.faulty_until = max(self.faulty_until, self.now + 1)

        def stopped(_: object) -> None:
            self.note(f"stopped node {node}")
            del self.cluster.nodes[node]
            self.risk(allowed=self.lossy)
            self.in_(self.random.choice([0.0, 0.3, 2.0]), lambda: self.start_node(node))

        stopping.addCallback(stopped).addErrback(self.failed)

    def kill(self) -> None:
        up = self.candidates_to_stop()
        if up:
            node = self.random.choice(up)
            self.fault(f"kill node {node}", 3)
            self.down.add(node)
            self.cluster.kill_node(node)
            self.risk(allowed=True)
            self.in_(self.random.choice([0.0, 0.3, 2.0]), lambda: self.start_node(node))

    def start_node(self, node: int) -> None:
        self.note(f"start node {node}")
        self.down.discard(node)
        self.fault("it fills", 1)
        self.cluster.start_node(node)

    def risk(self, *, allowed: bool) -> None:
        """
        A node is gone: mark what nobody else has.
        """
        self.last_stop = self.now
        for place, write in enumerate(self.writes, 1):
            for item, row in (write.rows or {}).items():
                if item not in write.at_risk and not any(self.has(n, item, row) for n in self.cluster.nodes):
                    write.at_risk.add(item)
                    self.lost += 1
                    self.note(f"at risk: ID {item} of write {place}")
                    if write.acked is not None and not allowed:
                        self.problem(
                            f"a node that was stopped in order took ID {item} of write {place} along"
                        )

    def jump(self) -> None:
        self.cluster.skew += self.random.choice([-3600, -15, -1, 1, 5, 3600]) * _SECOND
        self.note(f"the wall clock is off by {self.cluster.skew / _SECOND} s")

    def change_coordinator(self) -> None:
        running = [each for each in self.floors if each.running]
        if len(running) > 1:
            self.note("stop a coordinator")
            going = running[self.random.randrange(len(running))]
            going.stopService().addErrback(self.failed)
        else:
            self.note("start a coordinator")
            self.watch(self.cluster.start_coordinator())

    def faulty(self) -> bool:
        network = self.cluster.network
        return bool(
            self.now < self.faulty_until
            or network.frozen
            or network.parted
            or network.silent
            or network.slow
            or self.down
        )

    # Course

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            due = min((when for when, _ in self.later), default=until)
            self.cluster.run(max(0.0, min(due, until) - self.now))
            ready = [each for each in self.later if each[0] <= self.now]
            if not ready:
                if self.now >= until:
                    return
                continue
            self.later = [each for each in self.later if each[0] > self.now]
            for _, action in ready:
                action()

    def run(self) -> None:
        self.cluster.start()
        self.watch(self.cluster.coordinator)
        self.fault("not all nodes may have found each other yet")
        kinds: list[tuple[int, Callable[[], None]]] = [
            (45, self.store),
            (25, self.count),
            (4, self.cut),
            (3, self.part),
            (2, self.silence),
            (2, self.slow),
            (2, self.freeze),
            (2, self.lose_listener),
            (4, self.restart),
            (3 if self.lossy else 0, self.kill),
            (2, self.jump),
            (1, self.change_coordinator),
        ]
        weights = [weight for weight, _ in kinds]
        for _ in range(_EVENTS):
            self.random.choices(kinds, weights)[0][1]()
            self.advance(self.random.choice([0.0, 0.0, 0.001, 0.01, 0.1, 0.5]))
        self.note("calm")
        self.settle()

    def settle(self) -> None:
        """
        Let everything heal, and compare.
        """
        cluster = self.cluster
        # Undo what is still due.
        while self.later or self.down:
            self.advance(0.5)
        cluster.network.parted.clear()
        cluster.network.silent.clear()
        cluster.network.release()
        for _ in range(160):
            cluster.run(0.25)
            if not self.under_way and self.equal():
                break
        else:
            self.problem("the nodes do not become equal, or requests are never answered")
            for node, service in sorted(cluster.nodes.items()):
                replica = service.replica
                self.note(f"node {node}: {replica.ledger.digest()} {replica.refuses()}")
                self.note(f"  applied {replica.applied.nodes}")
                self.note(f"  durable {replica.durable.nodes}")
            return
        cluster.run(3)
        if not self.equal():
            self.problem("the nodes were equal, and then not any more")
        self.check_ledger()
        self.check_counts()
        cluster.stop()
        if cluster.clock.getDelayedCalls() or cluster.network.connections or cluster.network.ports:
            self.problem("something goes on after the stop")

    def equal(self) -> bool:
        replicas = [each.replica for each in self.cluster.nodes.values()]
        first = replicas[0]
        return all(
            each.applied.covers(first.applied)
            and first.applied.covers(each.applied)
            and each.durable.covers(each.applied)
            and each.ledger.digest() == first.ledger.digest()
            for each in replicas
        )

    def check_ledger(self) -> None:
        ledger = next(iter(self.cluster.nodes.values())).replica.ledger
        tried: dict[int, set[Row]] = {}
        for place, write in enumerate(self.writes, 1):
            for item, row in (write.rows or {}).items():
                entry = ledger.get(item)
                have = (0, "") if entry is None else (entry.stamp, entry.tenant or "")
                if write.acked is not None and item not in write.at_risk and have < row:
                    self.problem(
                        f"write {place} was acknowledged, but of ID {item} {have} is there, not {row}"
                    )
            for item, row in write.all_rows:
                if not write.void:
                    tried.setdefault(item, set()).add(row)
        for item, rows in tried.items():
            entry = ledger.get(item)
            if entry is not None and (entry.stamp, entry.tenant) not in rows:
                self.problem(f"nobody stored {entry} for ID {item}")

    def check_counts(self) -> None:
        ledger = next(iter(self.cluster.nodes.values())).replica.ledger
        for coordinator in self.floors:
            if coordinator.running:
                for tenant in (*_TENANTS, _GROWING):
                    try:
                        count = self.cluster.result(coordinator.count(tenant, consistency="exact"))
                    except Refusal as error:
                        self.problem(f"at rest a count is refused: {error!r}")
                    else:
                        if count.counter != ledger.count(tenant):
                            self.problem(
                                f"{tenant!r} counts {count.counter} instead of {ledger.count(tenant)}"
                            )


def play(seed: int) -> History:
    """
    Play the history of a seed; its problems say what went wrong.
    """
    history = History(seed, lossy=seed % 2 == 1)

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            history.problem(f"logged: {cast('Failure', event['log_failure']).getTraceback()}")

    globalLogPublisher.addObserver(observe)
    try:
        history.run()
    finally:
        globalLogPublisher.removeObserver(observe)
    return history


def batches() -> list[range]:
    end = _FIRST + _SEEDS
    return [range(first, min(first + _PER_TEST, end)) for first in range(_FIRST, end, _PER_TEST)]


@pytest.mark.parametrize("seeds", batches(), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_random_histories(seeds: range, expected_failures: Callable[..., list[Failure]]) -> None:
    exact = 0
    for seed in seeds:
        history = play(seed)
        exact += history.exact
        if history.problems:
            expected_failures()
            pytest.fail(
                f"seed {seed}: {len(history.problems)} problems, the first: {history.problems[0]}\n"
                f"to repeat: DCOUNTER_FIRST_SEED={seed} DCOUNTER_SEEDS=1 pytest {__file__}\n"
                + "\n".join(history.log[-60:]),
                pytrace=False,
            )
    # A checker that sees no answers proves nothing.
    assert exact > 5 * len(seeds)


def test_a_seed_repeats_its_history() -> None:
    assert play(3).log == play(3).log
