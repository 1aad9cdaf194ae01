from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dcounter.daemon.supervisor import InlineSupervisor
from dcounter.errors import CorruptJournal, NodeIsBusy, UnknownNode
from dcounter.journal.framing import JournalEntry
from dcounter.journal.memory import MemoryJournal
from dcounter.node.progress import Progress, Tell
from dcounter.node.service import Node
from dcounter.store import Items
from dcounter.testing import Cluster, ProcessClock
from tests.support.nodes import make_node


class Damaged(MemoryJournal):
    """
    A journal that cannot be read.
    """

    def recover(self) -> Iterator[JournalEntry]:
        raise CorruptJournal("damaged at byte 0")


class Supervised:
    """
    A cluster in memory whose nodes a supervisor runs.
    """

    def __init__(self, nodes: int = 3) -> None:
        self.cluster = Cluster(nodes)
        self.made: list[Node] = []
        self.tells: list[Tell] = []
        self.hopeless = 0
        self.supervisor = InlineSupervisor(
            self.cluster.identity.members, self._make, clock=self.cluster.clock, hopeless=self._despair
        )
        self.supervisor.startService()
        self.coordinator = self.cluster.start_coordinator()
        # All take items: what is stored is shared out over them.
        self.cluster.wait_for(lambda: self.coordinator.readiness().ready)

    def _make(self, node: int, tell: Tell) -> Node:
        self.tells.append(tell)
        self.made.append(make_node(self.cluster, node, tell=tell))
        return self.made[-1]

    def _despair(self) -> None:
        self.hopeless += 1

    def nodes(self) -> list[int]:
        return sorted(service.node for service in self.supervisor if isinstance(service, Node))

    def restart(self, node: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self.supervisor.restart(node))

    def stop(self) -> None:
        self.cluster.result(self.coordinator.stopService())
        self.cluster.result(self.supervisor.stopService())
        self.cluster.stop()
        assert self.cluster.network.ports == {}
        assert self.cluster.network.connections == set()


def test_runs_a_node_for_each_id() -> None:
    supervised = Supervised()
    assert supervised.nodes() == [0, 1, 2]
    assert all(node.running for node in supervised.made)
    supervised.stop()
    assert not any(node.running for node in supervised.made)


def test_a_restarted_node_is_a_new_one_and_has_what_it_had() -> None:
    supervised = Supervised()
    items = Items(list(range(9)), ["t"] * 9)
    supervised.cluster.result(supervised.coordinator.store(items, ack="node"))

    supervised.cluster.result(supervised.restart(1))

    assert supervised.nodes() == [0, 1, 2]
    assert [node.node for node in supervised.made] == [0, 1, 2, 1]
    old, new = supervised.made[1], supervised.made[3]
    assert not old.running
    assert new.running
    assert old.replica.ledger.count("t") == 9, "it was handed over before it stopped"
    supervised.cluster.run(2)
    assert new.replica.ledger.digest() == old.replica.ledger.digest()
    counted = supervised.cluster.result(supervised.coordinator.count("t", consistency="exact"))
    assert counted.counter == 9
    supervised.stop()


def test_a_node_that_is_not_there_is_not_restarted() -> None:
    supervised = Supervised(2)
    with pytest.raises(UnknownNode, match=r"there is no node 2, only nodes \[0, 1\]"):
        supervised.cluster.result(supervised.supervisor.restart(2))
    supervised.stop()


def test_twice_at_once_is_once() -> None:
    supervised = Supervised(2)
    first = supervised.restart(0)
    with pytest.raises(NodeIsBusy, match="node 0 is being restarted already"):
        supervised.cluster.result(supervised.restart(0))
    supervised.cluster.result(first)
    assert [node.node for node in supervised.made] == [0, 1, 0]
    # And afterwards it may be restarted again.
    supervised.cluster.result(supervised.restart(0))
    assert len(supervised.made) == 4
    supervised.stop()


def test_one_that_restarts_while_all_stop_stays_down() -> None:
    supervised = Supervised(2)
    supervised.cluster.result(supervised.coordinator.store(Items([1], ["t"]), ack="all"))
    failures: list[Failure] = []
    restarting = supervised.restart(0)
    restarting.addErrback(failures.append)
    supervised.stop()
    assert restarting.called
    assert failures == []
    assert supervised.nodes() == [1]
    assert not any(node.running for node in supervised.made)


def test_before_it_runs_nothing_does() -> None:
    cluster = Cluster(2)
    supervisor = InlineSupervisor([0, 1], lambda node, _: make_node(cluster, node), clock=cluster.clock)
    cluster.result(supervisor.restart(0))
    assert cluster.clock.getDelayedCalls() == []


def test_one_that_cannot_start_is_tried_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    supervised = Supervised(2)
    tell = supervised.tells[1]
    for _ in range(2):
        tell(Progress("cannot start", "it is damaged"))
    assert supervised.supervisor.troubles() == ["node 1 cannot start: it is damaged"]
    assert caplog.text.count("it is damaged") == 1
    assert len(supervised.made) == 2
    supervised.cluster.run(31)
    assert [node.node for node in supervised.made] == [0, 1, 1]
    assert supervised.supervisor.troubles() == []
    # An operator need not wait.
    supervised.tells[2](Progress("cannot start", "it is damaged"))
    supervised.cluster.result(supervised.restart(1))
    assert [node.node for node in supervised.made] == [0, 1, 1, 1]
    supervised.tells[3](Progress("cannot start", "it is damaged"))
    assert supervised.hopeless == 0
    supervised.stop()


def test_a_daemon_none_of_whose_nodes_can_start_is_hopeless() -> None:
    cluster = Cluster(2)
    hopeless: list[None] = []

    def make(node: int, tell: Tell) -> Node:
        return make_node(cluster, node, journal=Damaged(ProcessClock(cluster.clock)), tell=tell)

    supervisor = InlineSupervisor([0, 1], make, clock=cluster.clock, hopeless=lambda: hopeless.append(None))
    supervisor.startService()
    cluster.run(0.1)
    assert hopeless == [None]
    assert supervisor.troubles() == [
        f"node {node} cannot start: its journal is damaged: damaged at byte 0. "
        f"Start once with --rebuild {node} to make it anew from the other nodes"
        for node in (0, 1)
    ]
    cluster.result(supervisor.stopService())
    cluster.stop()


def test_something_is_done_while_a_restarted_node_does_not_run() -> None:
    supervised = Supervised()
    running: list[bool] = []

    async def between() -> None:
        running.append(bool(supervised.made[1].running))
        assert len(supervised.made) == 3

    supervised.cluster.result(supervised.supervisor.restart(1, between))
    assert running == [False]
    assert len(supervised.made) == 4
    assert supervised.nodes() == [0, 1, 2]
    supervised.stop()


def test_a_node_starts_again_although_that_fails() -> None:
    supervised = Supervised()

    async def between() -> None:
        raise ValueError("it fails")

    with pytest.raises(ValueError, match="it fails"):
        supervised.cluster.result(supervised.supervisor.restart(1, between))
    assert supervised.nodes() == [0, 1, 2]
    supervised.stop()
