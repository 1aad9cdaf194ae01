"""
A cluster in memory does to its processes what happens to real ones.
"""

import pytest
from twisted.python.failure import Failure

from dcounter.testing import Cluster, MemoryTransport


def test_the_dead_are_not_told_that_a_connection_is_gone() -> None:
    cluster = Cluster(2).start()
    told: list[str] = []

    def listen_in(end: MemoryTransport) -> None:
        assert end.protocol is not None
        lost = end.protocol.connectionLost

        def tell(why: Failure) -> None:
            told.append(end.process)
            lost(why)

        vars(end.protocol)["connectionLost"] = tell

    for end in cluster.network.joining("node 0"):
        listen_in(end)
    for end in list(cluster.network.joining("node 0")):
        end.cut()
    cluster.kill_node(0)
    cluster.run(1)
    assert set(told) == {"node 1", "coordinator"}
    cluster.stop()


def test_where_nothing_is_scheduled_nothing_is_waited_for() -> None:
    with pytest.raises(AssertionError, match="nothing will ever happen"):
        Cluster(1).wait_for(lambda: False)


def test_what_does_not_happen_in_time_is_a_failed_test() -> None:
    cluster = Cluster(1).start()
    with pytest.raises(AssertionError, match="did not happen within 2 s"):
        cluster.wait_for(lambda: False, 2)
    cluster.stop()
