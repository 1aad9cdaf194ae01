"""
One fault at a time, over a whole cluster in memory: what was answered holds, and all nodes become equal.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dcounter.coordinator.service import Coordinator
from dcounter.errors import Incomplete, NotApplied
from dcounter.limits import Limits
from dcounter.store import Ack, Items
from dcounter.testing import Cluster

SECOND = 1_000_000_000
NODES = range(4)


class Model:
    """
    A cluster, and what was stored there as a plain map.
    """

    def __init__(self, nodes: int = 4, *, limits: Limits | None = None) -> None:
        self.cluster = Cluster(nodes, seed=7, limits=limits).start()
        self.cluster.run(1)
        self.owners: dict[int, str | None] = {}
        self._next = 0

    def items(self, count: int) -> Items:
        """
        New items, and some that are stored already.
        """
        random = self.cluster.random
        fresh = range(self._next, self._next + count)
        self._next += count
        ids = [item if random.random() < 0.7 else random.randrange(self._next) for item in fresh]
        return Items(ids, [random.choice("abc") for _ in ids])

    def storing(self, count: int = 11, *, ack: Ack = "node", by: Coordinator | None = None) -> Deferred[None]:
        items = self.items(count)
        storing = Deferred.fromCoroutine((by or self.cluster.coordinator).store(items, ack=ack))
        self.owners.update(zip(items.ids, items.tenants, strict=True))
        return storing.addCallback(lambda _: None)

    def store(self, count: int = 11, *, ack: Ack = "node", by: Coordinator | None = None) -> None:
        self.cluster.result(self.storing(count, ack=ack, by=by))

    def check(self, by: Coordinator | None = None) -> None:
        """
        All counts are what they must be.
        """
        expected = Counter(self.owners.values())
        for tenant in "abc":
            counting = (by or self.cluster.coordinator).count(tenant, consistency="exact")
            assert self.cluster.result(counting).counter == expected[tenant]

    def equal(self) -> bool:
        replicas = [node.replica for node in self.cluster.nodes.values()]
        first = replicas[0]
        return all(
            each.applied.covers(first.applied)
            and first.applied.covers(each.applied)
            and each.durable.covers(each.applied)
            and each.ledger.digest() == first.ledger.digest()
            for each in replicas
        )

    def settle(self) -> None:
        """
        All nodes become equal, and hold what was stored.
        """
        self.cluster.wait_for(self.equal)
        ledger = self.cluster.nodes[0].replica.ledger
        assert dict(ledger.tenants()) == Counter(self.owners.values())
        self.check()

    def up(self, node: int) -> bool:
        return self.cluster.coordinator.status().nodes[node].state == "up"

    def stop(self) -> None:
        self.cluster.stop()
        assert not self.cluster.clock.getDelayedCalls()
        assert not self.cluster.network.connections
        assert not self.cluster.network.ports


@pytest.fixture
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    """
    :param request: may hold other limits than the usual ones.
    """
    model = Model(limits=getattr(request, "param", None))
    yield model
    model.stop()


class TestDeath:
    @pytest.mark.parametrize("dead", [[3], [0], [1, 2], [0, 1, 2]])
    def test_takes_nothing_that_others_have(self, model: Model, dead: list[int]) -> None:
        model.store(40, ack="all")
        for node in dead:
            model.cluster.kill_node(node)
        model.check()
        model.store(11)
        model.check()
        for node in dead:
            model.cluster.start_node(node)
        model.settle()
        assert all(each.refuses is None for each in model.cluster.coordinator.status().nodes)

    def test_of_one_after_the_other_loses_nothing_that_majority_has(self, model: Model) -> None:
        for node in (*NODES, *NODES):
            model.store(11, ack="majority")
            model.cluster.kill_node(node)
            model.check()
            model.cluster.start_node(node)
            model.settle()

    @pytest.mark.parametrize("model", [Limits(stream_pace_s=0.0)], indirect=True)
    def test_during_writes_is_seen_by_nobody(self, model: Model) -> None:
        # Its batch is asked of another node again; whether it took it nobody knows, nor needs to. What was
        # answered is on its way to others at once, for these nodes have no disk to find it on again.
        for node in (0, 1, 2):
            storing = [model.storing(11, ack="majority") for _ in range(3)]
            model.cluster.run(0.0005)
            model.cluster.kill_node(node)
            for each in storing:
                model.cluster.result(each)
            model.check()
            model.cluster.start_node(node)
            model.settle()

    def test_while_it_refills_is_no_harm(self, model: Model) -> None:
        model.store(200, ack="all")
        for wait in (0.001, 0.002, 0.003, 0.005, 0.01, 0.05, 0.2):
            model.cluster.kill_node(1)
            model.cluster.start_node(1)
            model.cluster.run(wait)
        model.settle()


class TestRestart:
    def test_of_all_nodes_in_turn_while_writes_go_on_loses_nothing(self, model: Model) -> None:
        cluster = model.cluster
        for node in (*NODES, *NODES):
            stopping = cluster.nodes[node].stopService()
            stopped: list[object] = []
            stopping.addBoth(stopped.append)
            while not stopped:
                model.store(5)
                cluster.run(0.02)
            del cluster.nodes[node]
            assert not isinstance(stopped[0], Failure)
            for _ in range(5):
                model.store(11)
                model.check()
            cluster.start_node(node)
            cluster.wait_for(lambda node=node: model.up(node))  # type: ignore[misc]
            while model.cluster.coordinator.status().nodes[node].refuses is not None:
                model.store(3)
                cluster.run(0.05)
        model.settle()
        assert cluster.coordinator.status().lost == []

    def test_opens_a_later_run_although_the_clock_stepped_back(self, model: Model) -> None:
        runs: list[int] = []
        for back in (0, 3600, 7200):
            model.cluster.wall.skew = -back * SECOND
            model.store(11)
            runs.append(model.cluster.nodes[2].replica.run)
            model.cluster.stop_node(2)
            model.cluster.start_node(2)
            model.settle()
            model.cluster.run(2)
        assert runs == sorted(set(runs))
        assert 0 not in runs

    @pytest.mark.parametrize("log", [300, 64 * 2**20])
    def test_refills_from_a_log_or_from_a_copy(self, log: int) -> None:
        model = Model(limits=replace(Limits(), backlog_bytes=log, chunk_rows=7, stream_bytes=500))
        for _ in range(10):
            model.store(11)
        model.cluster.stop_node(3)
        for _ in range(10):
            model.store(11)
        model.cluster.start_node(3)
        model.settle()
        model.stop()


class TestCopy:
    def test_of_long_names_fits_into_lines(self) -> None:
        model = Model(
            2,
            limits=replace(
                Limits(), backlog_bytes=300, line_bytes=60_000, slice_bytes=9_000, batch_bytes=9_000
            ),
        )
        for first in range(0, 40, 4):
            names = [f"{item}\x01".ljust(4_000, "\x01") for item in range(first, first + 4)]
            items = Items(range(first, first + 4), names)
            model.cluster.result(model.cluster.coordinator.store(items, ack="all"))
            model.owners.update(zip(items.ids, names, strict=True))
        model.cluster.kill_node(1)
        model.cluster.start_node(1)
        model.settle()
        model.stop()

    @pytest.mark.parametrize("piece", range(12))
    def test_that_breaks_off_is_taken_again(self, piece: int) -> None:
        model = Model(2, limits=replace(Limits(), backlog_bytes=300, chunk_rows=10, stream_bytes=100))
        for _ in range(10):
            model.store(11, ack="all")
        cluster = model.cluster
        cluster.kill_node(1)
        model.store(11)
        cluster.start_node(1)
        ledger = cluster.nodes[1].replica.ledger
        cluster.wait_for(lambda: ledger.known >= min(10 * piece, len(model.owners)))
        for end in cluster.network.joining("node 0", "node 1"):
            if end.connected:
                end.cut(deliver=100)
        model.store(11)
        model.check()
        model.settle()
        model.stop()

    @pytest.mark.parametrize("piece", [1, 5])
    def test_whose_giver_dies_counts_no_half(self, piece: int) -> None:
        model = Model(3, limits=replace(Limits(), backlog_bytes=300, chunk_rows=10, stream_bytes=100))
        for _ in range(10):
            model.store(11, ack="all")
        cluster = model.cluster
        cluster.kill_node(2)
        cluster.start_node(2)
        ledger = cluster.nodes[2].replica.ledger
        cluster.wait_for(lambda: ledger.known >= 10 * piece)
        cluster.kill_node(0)
        # Node 2 may be asked, but does not say what it does not know.
        model.check()
        cluster.start_node(0)
        model.settle()
        model.stop()

    def test_of_each_other_is_given_by_nodes_that_both_need_one(self) -> None:
        model = Model(2, limits=replace(Limits(), backlog_bytes=300, chunk_rows=10))
        model.cluster.part("node 0", "node 1")
        for _ in range(20):
            model.store(11)
        model.cluster.heal("node 0", "node 1")
        model.settle()
        model.stop()

    def test_goes_on_while_writes_come(self) -> None:
        model = Model(3, limits=replace(Limits(), backlog_bytes=2_000, chunk_rows=5, stream_bytes=100))
        for _ in range(20):
            model.store(11, ack="all")
        model.cluster.kill_node(1)
        model.cluster.start_node(1)
        for _ in range(50):
            model.store(5)
            model.check()
        model.settle()
        model.stop()


class TestSilence:
    def test_of_a_frozen_node_is_taken_for_death(self, model: Model) -> None:
        model.store(40, ack="all")
        model.cluster.freeze("node 0")
        model.cluster.wait_for(lambda: not model.up(0), 1.5)
        assert model.cluster.coordinator.status().primary == 1
        model.store(11)
        model.check()
        model.cluster.thaw("node 0")
        model.settle()
        model.cluster.wait_for(lambda: model.up(0))

    def test_that_is_short_is_no_death(self, model: Model) -> None:
        model.cluster.freeze("node 0")
        model.cluster.run(0.7)
        model.cluster.thaw("node 0")
        model.cluster.run(0.5)
        assert model.up(0)
        assert model.cluster.coordinator.status().primary == 0

    def test_of_what_it_alone_holds_fails_closed_until_it_wakes(self) -> None:
        model = Model(2)
        model.cluster.part("node 0", "node 1")
        model.store(10)
        model.cluster.freeze("node 1")
        model.cluster.heal("node 0", "node 1")
        with pytest.raises(Incomplete):
            model.check()
        model.cluster.thaw("node 1")
        model.settle()
        model.stop()

    @pytest.mark.parametrize("ways", [[(0, 1)], [(1, 0)], [(0, 1), (1, 0)]])
    def test_between_two_nodes_is_bridged_by_the_others(
        self, model: Model, ways: list[tuple[int, int]]
    ) -> None:
        silent = model.cluster.network.silent
        silent |= {(f"node {one}", f"node {other}") for one, other in ways}
        model.store(40)
        model.cluster.run(2)
        model.store(11, ack="all")
        model.settle()
        silent.clear()
        model.cluster.network.release()

    @pytest.mark.parametrize("toward", [True, False])
    def test_of_a_coordinator_in_one_direction(self, model: Model, toward: bool) -> None:
        way = ("coordinator", "node 0") if toward else ("node 0", "coordinator")
        model.cluster.network.silent.add(way)
        for _ in range(4):
            model.store(11)
            model.check()
        model.cluster.network.silent.clear()
        model.cluster.network.release()
        model.settle()


class TestParting:
    def test_of_two_nodes_is_bridged_by_a_third(self, model: Model) -> None:
        model.cluster.part("node 0", "node 1")
        model.store(40, ack="all")
        model.check()
        model.settle()
        model.cluster.heal("node 0", "node 1")
        model.cluster.run(3)
        model.store(11, ack="all")
        model.settle()

    def test_of_a_dead_origin_is_bridged_too(self, model: Model) -> None:
        # Only node 1 gets what node 0 takes, and node 0 dies.
        for node in (2, 3):
            model.cluster.part("node 0", f"node {node}")
        for node in (1, 2, 3):
            model.cluster.part("node 1", f"node {node}")
        model.store(11)
        model.cluster.run(0.1)
        for node in (2, 3):
            model.cluster.heal("node 1", f"node {node}")
            model.cluster.heal("node 0", f"node {node}")
        model.cluster.kill_node(0)
        model.check()
        model.cluster.start_node(0)
        model.cluster.heal("node 0", "node 1")
        model.settle()

    def test_into_a_chain_replicates_along_it(self, model: Model) -> None:
        for one, other in ((0, 2), (0, 3), (1, 3)):
            model.cluster.part(f"node {one}", f"node {other}")
        model.store(40, ack="all")
        model.settle()

    def test_of_a_coordinator_from_some_nodes_leaves_it_the_others(self, model: Model) -> None:
        for node in (0, 1, 2):
            model.cluster.part("coordinator", f"node {node}")
        model.store(11)
        model.check()
        assert model.cluster.coordinator.status().primary == 3


class TestListener:
    @pytest.mark.parametrize("node", [0, 2])
    @pytest.mark.parametrize("cut", [False, True])
    def test_that_is_lost_is_replaced(self, model: Model, node: int, cut: bool) -> None:
        model.store(11)
        model.cluster.lose_listener(node, cut=cut)
        model.check()
        model.store(11)
        model.cluster.wait_for(lambda: model.up(node))
        model.cluster.run(3)
        assert model.cluster.coordinator.status().nodes[node].address == "memory:8094"
        for end in model.cluster.network.joining(f"node {node}"):
            if end.connected:
                end.cut()
        model.settle()
        model.cluster.wait_for(lambda: model.up(node))

    def test_is_found_by_a_coordinator_that_starts_later(self, model: Model) -> None:
        model.cluster.lose_listener(1, cut=True)
        model.cluster.run(1)
        other = model.cluster.start_coordinator()
        model.cluster.wait_for(lambda: other.readiness().exact)
        model.store(11, by=other)
        model.check(by=other)

    def test_is_found_by_one_that_was_away_meanwhile(self, model: Model) -> None:
        model.store(11, ack="all")
        for node in NODES:
            model.cluster.part("coordinator", f"node {node}")
        model.cluster.lose_listener(0, cut=True)
        model.cluster.run(2)
        for node in NODES:
            model.cluster.heal("coordinator", f"node {node}")
        model.cluster.wait_for(lambda: model.up(0))
        model.settle()

    def test_of_all_nodes_at_once(self, model: Model) -> None:
        model.store(11)
        for node in NODES:
            model.cluster.lose_listener(node, cut=True)
        model.cluster.wait_for(lambda: all(model.up(node) for node in NODES))
        model.store(11, ack="all")
        model.settle()

    def test_that_somebody_else_took_is_passed_over(self, model: Model) -> None:
        model.cluster.network.taken |= {8094, 8095}
        model.cluster.lose_listener(0)
        model.cluster.run(1)
        assert model.cluster.coordinator.status().nodes[0].address == "memory:8096"

    def test_that_is_dead_underneath_is_noticed_when_connections_drop(self, model: Model) -> None:
        # Nobody tells the node: it finds out by calling itself.
        del model.cluster.network.ports[8090]
        for end in model.cluster.network.joining("node 0"):
            if end.connected:
                end.cut()
        model.cluster.wait_for(lambda: model.cluster.nodes[0].replica.report().port == 8094)
        model.settle()
        model.cluster.wait_for(lambda: model.up(0))


class TestCut:
    @pytest.mark.parametrize("deliver", [0, 1, 7, 40, 200, 10_000])
    def test_in_the_middle_of_a_line_to_a_node(self, model: Model, deliver: int) -> None:
        for node in NODES:
            storing = model.storing(11)
            model.cluster.clock.advance(0)
            for end in model.cluster.network.joining("coordinator", f"node {node}"):
                if end.process == "coordinator":
                    end.cut(deliver=deliver)
            model.cluster.result(storing)
            model.check()
        model.settle()

    @pytest.mark.parametrize("deliver", [0, 1, 30, 10_000])
    def test_in_the_middle_of_an_answer(self, model: Model, deliver: int) -> None:
        for node in NODES:
            storing = model.storing(11)
            model.cluster.run(0.0005)
            for end in model.cluster.network.joining("coordinator", f"node {node}"):
                if end.process != "coordinator" and end.connected:
                    end.cut(deliver=deliver)
            model.cluster.result(storing)
            model.check()
        model.settle()

    @pytest.mark.parametrize("deliver", [0, 1, 30, 300, 10_000])
    def test_in_the_middle_of_replication(self, model: Model, deliver: int) -> None:
        for _ in range(5):
            model.store(11)
            for end in model.cluster.network.joining("node 0"):
                if end.connected and "coordinator" not in (end.process, end.other and end.other.process):
                    end.cut(deliver=deliver)
            model.check()
        model.settle()

    def test_into_pieces_of_all_that_is_sent_changes_nothing(self, model: Model) -> None:
        model.cluster.network.shred = 1.0
        for _ in range(10):
            model.store(11)
            model.check()
        model.settle()


class TestCoordinators:
    def test_two_that_write_at_once_agree_in_the_end(self, model: Model) -> None:
        cluster = model.cluster
        other = cluster.start_coordinator()
        cluster.run(1)
        random = cluster.random
        waiting = []
        for _ in range(60):
            by = random.choice([cluster.coordinator, other])
            items = Items([random.randrange(20) for _ in range(7)], [random.choice("abc") for _ in range(7)])
            waiting.append(Deferred.fromCoroutine(by.store(items, ack="node")))
            cluster.run(random.choice([0, 0.001, 0.01]))
        for each in waiting:
            cluster.result(each)
        cluster.wait_for(model.equal)
        counts = dict(cluster.nodes[0].replica.ledger.tenants())
        for by in (cluster.coordinator, other):
            for tenant in "abc":
                count = cluster.result(by.count(tenant, consistency="exact"))
                assert count.counter == counts.get(tenant, 0)

    def test_that_die_take_nothing_along(self, model: Model) -> None:
        storing = model.storing(40)
        storing.addErrback(lambda why: None)
        model.cluster.run(0.0005)
        model.cluster.kill_coordinator(model.cluster.coordinator)
        model.cluster.coordinator = model.cluster.start_coordinator()
        model.store(11)
        model.cluster.wait_for(model.equal)
        counts = dict(model.cluster.nodes[0].replica.ledger.tenants())
        for tenant in "abc":
            counting = model.cluster.coordinator.count(tenant, consistency="exact")
            assert model.cluster.result(counting).counter == counts.get(tenant, 0)

    def test_that_were_frozen_go_on(self, model: Model) -> None:
        model.store(11)
        model.cluster.freeze("coordinator")
        model.cluster.run(5)
        model.cluster.thaw("coordinator")
        model.store(11)
        model.settle()
        assert all(model.up(node) for node in NODES)


class TestClock:
    @pytest.mark.parametrize("steps", [[-3600, 3600], [3600, -3600], [-1, 2, -3, 4, -86_400, 0]])
    def test_that_jumps_moves_no_count(self, model: Model, steps: list[int]) -> None:
        for step in steps:
            model.cluster.wall.skew += step * SECOND
            model.store(11)
            model.check()
            model.cluster.stop_node(1)
            model.store(11)
            model.cluster.start_node(1)
            model.check()
        model.settle()

    def test_that_jumps_is_no_reason_to_go_back_for_a_new_coordinator(self, model: Model) -> None:
        model.cluster.wall.skew += 3600 * SECOND
        model.store(11)
        model.cluster.result(model.cluster.coordinator.stopService())
        model.cluster.wall.skew -= 3600 * SECOND
        model.cluster.coordinator = model.cluster.start_coordinator()
        model.store(11)
        model.check()
        model.settle()


class TestLateAnswers:
    def test_of_a_removed_node_are_not_lost(self) -> None:
        # The slice goes to the other node as well; both have it, with the same stamps.
        model = Model(2)
        model.cluster.network.slow["coordinator", "node 1"] = 1.5
        model.store(10)
        model.check()
        model.cluster.run(3)
        model.settle()
        model.stop()

    def test_refusals_go_elsewhere(self, model: Model) -> None:
        # The node drains, which the coordinator does not know yet.
        model.cluster.network.slow["node 1", "coordinator"] = 0.1
        stopping: Callable[[], Deferred[None]] = model.cluster.nodes[1].stopService
        done: list[object] = []
        stopping().addBoth(done.append)
        model.store(11)
        model.cluster.wait_for(lambda: bool(done))
        del model.cluster.nodes[1]
        model.check()
        model.cluster.start_node(1)
        model.settle()

    def test_nobody_who_takes_writes_is_told(self) -> None:
        model = Model(2)
        model.store(10, ack="all")
        model.cluster.kill_node(0)
        model.cluster.kill_node(1)
        model.cluster.start_node(1)
        # It starts empty, and knows that it does not know.
        with pytest.raises(NotApplied):
            model.cluster.result(model.cluster.coordinator.store(Items([1], ["a"]), ack="node"))
        with pytest.raises(Incomplete) as caught:
            model.cluster.result(model.cluster.coordinator.count("a", consistency="exact"))
        assert caught.value.missing == (0, 1)
        model.stop()
