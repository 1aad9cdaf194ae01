"""
Copies of a data directory beside the original, and others that take a node's place.
"""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory, Protocol

from dcounter.coordinator.service import Coordinator
from dcounter.store import Items
from dcounter.testing import Cluster


def store(cluster: Cluster, coordinator: Coordinator, ids: range, tenant: str = "t") -> None:
    items = Items(ids, [tenant] * len(ids))
    cluster.result(coordinator.store(items, ack="all"))


def count(cluster: Cluster, coordinator: Coordinator, tenant: str = "t") -> int:
    return cluster.result(coordinator.count(tenant, consistency="exact")).counter


def lines(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == level]


class TestDaemon:
    def test_a_copy_and_the_original_have_nothing_to_do_with_each_other(self) -> None:
        cluster = Cluster(3, disks=True).start()
        ours = cluster.coordinator
        store(cluster, ours, range(100))
        copy = cluster.copy(range(3))
        theirs = copy.coordinator
        assert theirs is not None
        cluster.wait_for(lambda: theirs.readiness().exact)
        store(cluster, theirs, range(90, 110))
        store(cluster, theirs, range(10), "foreign")
        # Nodes of both are looked for anew, where those of the other one listen.
        for node in range(3):
            cluster.kill_node(node)
            cluster.run(0.5)
            cluster.start_node(node)
            cluster.lose_listener(node, cut=True)
            cluster.run(1.5)
            store(cluster, theirs, range(10), "foreign")
        cluster.wait_for(lambda: ours.readiness().exact)
        assert (count(cluster, ours), count(cluster, ours, "foreign")) == (100, 0)
        assert (count(cluster, theirs), count(cluster, theirs, "foreign")) == (100, 10)
        copy.kill()
        store(cluster, ours, range(100, 120))
        assert count(cluster, ours) == 120
        cluster.stop()

    def test_an_original_whose_nodes_are_gone_does_not_use_the_copy(self) -> None:
        cluster = Cluster(2, disks=True).start()
        store(cluster, cluster.coordinator, range(10))
        cluster.copy(range(2))
        for node in range(2):
            cluster.kill_node(node)
        cluster.run(5)
        assert [node.state for node in cluster.coordinator.status().nodes] == ["down", "down"]
        cluster.stop()


class TestSecondHolder:
    @pytest.fixture
    def cluster(self) -> Cluster:
        cluster = Cluster(3, disks=True, daemon=False).start()
        store(cluster, cluster.coordinator, range(30))
        return cluster

    def test_is_refused_and_takes_no_writes_and_both_say_so(
        self, cluster: Cluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        second = cluster.copy([1]).nodes[1]
        cluster.run(60)
        assert second.replica.status.refuses() == "another process holds the id of this node at nodes [0, 2]"
        errors = lines(caplog, "ERROR")
        told = [line for line in errors if "refused a second process of node 1" in line]
        # By nodes 0 and 2, as often as every 10 s.
        assert 6 <= len(told) <= 14
        assert "node 1 is connected already, as another process at " in told[0]
        own = [line for line in errors if line.startswith("node 1: ")]
        assert len(own) == 2
        assert "This process takes no writes" in own[0]
        assert len(errors) == len(told) + len(own)
        assert len(lines(caplog, "WARNING")) < 5
        store(cluster, cluster.coordinator, range(30, 60))
        assert count(cluster, cluster.coordinator) == 60
        assert cluster.nodes[1].replica.status.refuses() is None
        cluster.stop()

    def test_does_not_slip_in_when_the_connections_of_the_first_are_cut(self, cluster: Cluster) -> None:
        second = cluster.copy([1]).nodes[1]
        cluster.run(1)
        for _ in range(30):
            cluster.lose_listener(1, cut=True)
            cluster.run(0.35)
            assert cluster.nodes[1].replica.status.refuses() is None
            assert second.replica.members.refusing == {0, 2}
        cluster.run(3)
        store(cluster, cluster.coordinator, range(30, 60))
        assert count(cluster, cluster.coordinator) == 60
        cluster.stop()

    def test_comes_in_when_the_first_is_gone_for_good(
        self, cluster: Cluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        second = cluster.copy([1]).nodes[1]
        cluster.run(1)
        cluster.kill_node(1)
        cluster.run(0.5)
        assert second.replica.status.refuses() is not None
        with caplog.at_level("INFO"):
            cluster.wait_for(lambda: second.replica.status.refuses() is None, 4)
        assert "node 0 lets this process in again" in caplog.text
        cluster.stop()

    def test_a_node_that_was_killed_is_no_second_holder(self, cluster: Cluster) -> None:
        for _ in range(5):
            cluster.kill_node(1)
            returned = cluster.start_node(1)
            cluster.wait_for(lambda node=returned: len(node.replica.members.reports) == 2, 0.5)  # type: ignore[misc]
            assert returned.replica.members.refusing == set()
        cluster.stop()

    def test_a_restart_clears_the_refusal_of_a_peer_that_is_gone(self, cluster: Cluster) -> None:
        copy = cluster.copy([1])
        second = copy.nodes[1]
        cluster.run(1)
        assert second.replica.members.refusing == {0, 2}
        cluster.kill_node(1)
        cluster.kill_node(0)
        cluster.run(5)
        # Node 2 lets it in, node 0 is not there to do so.
        assert second.replica.members.refusing == {0}
        copy.kill()
        restarted = cluster.start_node(1)
        cluster.run(5)
        assert restarted.replica.members.refusing == set()
        assert restarted.replica.status.refuses() is None
        cluster.stop()

    def test_a_removed_peer_holds_up_nobody(self, cluster: Cluster) -> None:
        second = cluster.copy([1]).nodes[1]
        cluster.run(1)
        assert second.replica.members.refusing == {0, 2}
        second.replica._removing.remove({2})  # noqa: SLF001
        assert second.replica.members.refusing == {0}
        assert second.replica.refused_by(2, "again") is not None
        assert second.replica.members.refusing == {0}
        cluster.stop()


def test_a_removed_node_says_once_that_it_was_removed(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(3, disks=True).start()
    store(cluster, cluster.coordinator, range(30))
    cluster.kill_node(2)
    cluster.run(0.1)
    cluster.result(cluster.coordinator.remove(2))
    caplog.clear()
    removed = cluster.start_node(2)
    cluster.run(30)
    [told] = lines(caplog, "ERROR")
    assert told.startswith("node 2: this node was removed from the cluster, node ")
    assert told.endswith("says: stop it for good")
    assert removed.replica.status.refuses() == "this node was removed from the cluster"
    cluster.stop()


class Relay(Protocol):
    """
    One end of a connection whose bytes go to where the node listens now.
    """

    other: "Relay | None" = None

    def __init__(self, cluster: Cluster, port: int | None) -> None:
        self.cluster = cluster
        self.port = port
        self.waiting = b""

    def connectionMade(self) -> None:
        if self.port is None:
            return
        far = Relay(self.cluster, None)
        far.other = self

        def connected(_: IProtocol) -> None:
            self.other = far
            far.write(self.waiting)

        endpoint = self.cluster.network.connect("relay", self.port)
        endpoint.connect(Factory.forProtocol(lambda: far)).addCallback(connected)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self.waiting += data
        else:
            self.other.write(data)

    def connectionLost(self, reason: object = None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class Relays(Factory):
    """
    Takes the port of a node, and relays to another one.
    """

    noisy = False

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.cluster = cluster
        self.port = port
        self.calls = 0

    def buildProtocol(self, addr: IAddress | None) -> Relay:
        self.calls += 1
        return Relay(self.cluster, self.port)


@pytest.mark.parametrize("daemon", [True, False])
def test_a_relay_on_the_old_port_of_a_node_is_passed_by(
    daemon: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(2, disks=True, daemon=daemon).start()
    store(cluster, cluster.coordinator, range(10))
    cluster.kill_node(1)
    # The node finds its port taken, and listens on the next one.
    relays = Relays(cluster, 8092)
    taking: Deferred[object] = cluster.network.listen(8091, "relay").listen(relays)  # type: ignore[assignment]
    taking.addErrback(lambda why: pytest.fail(str(why)))
    cluster.start_node(1)
    cluster.wait_for(lambda: cluster.coordinator.status().nodes[1].state == "down")
    cluster.wait_for(lambda: cluster.coordinator.status().nodes[1].state == "up")
    assert relays.calls > 0
    assert cluster.coordinator.status().nodes[1].address == "memory:8092"
    assert "port 8091 was called, and this is port 8092: something relays between them" in caplog.text
    store(cluster, cluster.coordinator, range(10, 20))
    assert count(cluster, cluster.coordinator) == 20
    # Nobody is in between: no connection through the relay lives on.
    cluster.run(2)
    assert cluster.network.joining("relay") == []
    cluster.network.ports[8091].lose()
    cluster.stop()
