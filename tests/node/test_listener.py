"""
Where a node listens, and what it does when its port is lost.
"""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from dcounter.testing import Cluster
from tests.support.nodes import alone, started, stopped, visit

Failures = Callable[..., list[Failure]]


def test_on_its_port() -> None:
    cluster, node = alone()
    assert list(cluster.network.ports) == [8090]
    assert node.replica.report().port == 8090
    stopped(cluster)


def test_on_the_next_free_port() -> None:
    cluster = Cluster(1)
    cluster.network.taken = {8090, 8091, 8093}
    node = started(cluster)
    assert node.replica.report().port == 8092
    assert list(cluster.network.ports) == [8092]
    stopped(cluster)


def test_from_the_beginning_of_the_range_after_its_end() -> None:
    cluster = Cluster(3)
    cluster.network.taken = set(range(8092, 8090 + 100)) | {8090}
    node = started(cluster, 2)
    assert node.replica.report().port == 8091
    stopped(cluster)


def test_without_any_free_port_it_waits_for_one(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(1)
    cluster.network.taken = set(range(8090, 8090 + 100))
    node = started(cluster)
    assert "node 0 waits: it cannot listen on any port from 8090 to 8189: " in caplog.text
    assert node.replica.report().port == 0
    cluster.network.taken.remove(8100)
    cluster.run(1.1)
    assert node.replica.report().port == 8100
    stopped(cluster)


def test_one_that_waits_for_a_port_can_be_stopped() -> None:
    cluster = Cluster(1)
    cluster.network.taken = set(range(8090, 8090 + 100))
    started(cluster)
    stopped(cluster)


def test_again_when_the_listener_is_lost() -> None:
    cluster = Cluster(2).start()
    visitor = visit(cluster, 8090)
    visitor.greet(0)
    cluster.network.ports[8090].lose()
    cluster.run(0.05)
    # 8091 is node 1's.
    assert cluster.nodes[0].replica.report().port == 8092
    assert sorted(cluster.network.ports) == [8091, 8092]
    # Coordinators and peers were told over the connections that remained.
    assert [report.port for report in visitor.reports()][-1] == 8092
    assert not visitor.lost
    cluster.run(0.5)
    status = cluster.coordinator.status()
    assert [node.address for node in status.nodes] == ["memory:8092", "memory:8091"]
    for end in list(cluster.network.between("node 1", 8090)):
        end.cut()
    before = len(list(cluster.network.between("node 1", 8092)))
    cluster.run(0.2)
    assert before == 0
    assert len(list(cluster.network.between("node 1", 8092))) == 1
    visitor.hang_up()
    stopped(cluster)


def test_within_its_range_when_the_last_port_of_it_is_lost() -> None:
    cluster = Cluster(1)
    cluster.network.taken = set(range(8090, 8189))
    node = started(cluster)
    assert node.replica.report().port == 8189
    cluster.network.taken = set()
    cluster.network.ports[8189].lose()
    cluster.run(0.05)
    assert node.replica.report().port == 8090
    stopped(cluster)


def test_with_no_other_port_it_cannot_listen_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    cluster, node = alone()
    visitor = visit(cluster, 8090)
    visitor.greet(0)
    cluster.network.taken = set(range(8090, 8090 + 100))
    cluster.network.ports[8090].lose()
    cluster.run(0.05)
    assert "node 0 waits: it cannot listen on any port from 8090 to 8189: " in caplog.text
    assert [report.port for report in visitor.reports()][-1] == 0
    assert node.replica.report().port == 0
    visitor.hang_up()
    stopped(cluster)


def test_a_listener_that_dies_in_silence_is_found_when_connections_drop() -> None:
    cluster, node = alone()
    visitor = visit(cluster, 8090)
    visitor.greet(0)
    del cluster.network.ports[8090]
    cluster.run(1)
    assert node.replica.report().port == 8090
    visitor.hang_up()
    cluster.run(0.2)
    assert node.replica.report().port == 8091
    assert list(cluster.network.ports) == [8091]
    stopped(cluster)


def test_a_listener_that_lives_is_kept_when_connections_drop() -> None:
    cluster, node = alone()
    first, second = visit(cluster, 8090), visit(cluster, 8090)
    for visitor in (first, second):
        visitor.greet(0)
    # Two at once are one look.
    first.hang_up()
    second.hang_up()
    cluster.run(1)
    assert node.replica.report().port == 8090
    assert node.conversations == set()
    stopped(cluster)


def test_a_listener_that_answers_late_is_kept() -> None:
    # On a busy machine each of our own steps may take long.
    cluster, node = alone()
    visitor = visit(cluster, 8090)
    visitor.greet(0)
    cluster.network.slow["node 0", "node 0"] = 0.6
    visitor.hang_up()
    cluster.run(20)
    assert node.replica.report().port == 8090
    cluster.network.slow.clear()
    cluster.run(5)
    assert node.conversations == set()
    stopped(cluster)


def test_a_port_from_which_nothing_comes_is_lost_at_the_third_look() -> None:
    cluster, node = alone()
    visitor = visit(cluster, 8090)
    visitor.greet(0)
    # Somebody else's, who never says a word.
    network = cluster.network
    network.listen(8999, "silent").listen(Factory.forProtocol(Protocol))
    network.ports[8090] = network.ports.pop(8999)
    visitor.hang_up()
    cluster.run(2)
    assert node.replica.report().port == 8090
    cluster.run(2)
    assert node.replica.report().port == 8091
    network.ports.pop(8090).lose()
    stopped(cluster)


def test_it_does_not_look_while_it_is_full() -> None:
    # Its own look would be turned away like anybody else.
    cluster, node = alone(connections=2)
    first, second = visit(cluster, 8090), visit(cluster, 8090)
    first.greet(0)
    first.hang_up()
    cluster.run(0.02)
    third = visit(cluster, 8090)
    cluster.run(1)
    assert len(node.conversations) == 2
    assert node.replica.report().port == 8090
    for visitor in (second, third):
        visitor.hang_up()
    stopped(cluster)


def test_it_does_not_look_when_it_stops() -> None:
    cluster, _ = alone()
    visitor = visit(cluster, 8090)
    visitor.greet(0)
    visitor.hang_up()
    cluster.run(0.02)
    stopped(cluster)


def test_a_look_under_way_when_it_stops() -> None:
    cluster, _ = alone()
    visitor = visit(cluster, 8090)
    visitor.greet(0)
    visitor.hang_up()
    # Its own knock stays unanswered.
    cluster.network.silent = {("node 0", "node 0")}
    cluster.run(0.1)
    stopping = cluster.nodes.pop(0).stopService()
    cluster.result(stopping)
    cluster.network.silent.clear()
    stopped(cluster)


def test_looking_at_itself_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    cluster, _ = alone()
    visitor = visit(cluster, 8090)
    visitor.greet(0)
    visitor.hang_up()
    caplog.clear()
    cluster.run(1)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
    stopped(cluster)


def test_a_failing_listener_is_logged(expected_failures: Failures) -> None:
    class Broken:
        def listen(self, protocolFactory: object) -> Deferred[Any]:
            raise ZeroDivisionError

    cluster = Cluster(1)
    started(cluster, listen=lambda port: Broken())
    assert len(expected_failures(ZeroDivisionError)) == 1
    stopped(cluster)
