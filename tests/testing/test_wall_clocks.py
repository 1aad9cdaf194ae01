"""
Wall clocks that are wrong.
"""

from dcounter.testing import Cluster


def test_every_process_has_its_own_wall_clock() -> None:
    cluster = Cluster(2)
    cluster.wall.skews["node 1"] = -5
    cluster.wall.drifts["node 0"] = 0.5
    cluster.run(2.0)
    assert cluster.wall("node 1") == cluster.wall() - 5
    assert cluster.wall("node 0") == cluster.wall() + 10**9
