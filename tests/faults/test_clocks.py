import time
from collections.abc import Mapping
from pathlib import Path

from tests.faults.conftest import Table
from tests.faults.figures import Figures
from tests.faults.ledgers import read_ledger
from tests.faults.load import Load
from tests.faults.network import Cluster, Network
from tests.faults.processes import Caller, wait_until

HOUR = 3600
SECOND = 1_000_000_000


class WallClock:
    """
    A wall clock for one process that can be set while that runs; its other clocks are right.
    """

    def __init__(self, path: Path, hours: float) -> None:
        self._path = path
        self.set(hours)

    def set(self, hours: float) -> None:
        # Never half written.
        new = self._path.with_suffix(".new")
        new.write_text(f"{hours * HOUR:+.0f}\n")
        new.rename(self._path)

    @property
    def environment(self) -> Mapping[str, str]:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


def restart_node(cluster: Cluster, caller: Caller, node: int, clock: WallClock) -> None:
    before = cluster.processes[str(node)].pid
    cluster.processes[str(node)].kill()
    cluster.start_node(node, clock.environment)

    def back() -> bool:
        there = caller.cluster()["nodes"][node]
        return there["state"] == "up" and there["pid"] != before and not there["refuses"]

    wait_until(back, f"node {node} back")


def restart_coordinator(cluster: Cluster, caller: Caller, clock: WallClock) -> None:
    cluster.processes["c"].kill()
    caller.close()
    cluster.start_coordinator(clock.environment)
    cluster.until_ready()


def test_wall_clocks_may_be_wrong_and_jump(tmp_path: Path, table: Table) -> None:
    figures = Figures("wrong clocks")
    clocks = [WallClock(tmp_path / f"clock-{node}", hours) for node, hours in enumerate((5, -5, 0, 0))]
    clock = WallClock(tmp_path / "clock-c", 0)
    with Network() as network:
        cluster = Cluster(network, tmp_path)
        caller = cluster.caller()
        try:
            cluster.start({node: each.environment for node, each in enumerate(clocks)})
            # Times of the callers' own that are past for every coordinator.
            with Load(cluster.caller, 9, born=time.time_ns() - 8 * HOUR * SECOND) as load:
                load.go_on(5)
                for node, hours in ((0, -5), (1, 5), (0, 0)):
                    clocks[node].set(hours)
                    restart_node(cluster, caller, node, clocks[node])
                    load.go_on(5)
                    figures.faults["restart of a node"] += 1
                for hours in (3, -3, 0):
                    clocks[2].set(hours)
                    load.go_on(5)
                    figures.faults["jump at a node"] += 1
                for hours in (2, -2, 0):
                    clock.set(hours)
                    restart_coordinator(cluster, caller, clock)
                    load.go_on(5)
                    figures.faults["restart of the coordinator"] += 1
                for hours in (-2, 4, 0):
                    clock.set(hours)
                    load.go_on(5)
                    figures.faults["jump at the coordinator"] += 1
            figures.rounds = sum(figures.faults.values())
            load.check()
            # It gave out stamps when it was started 2 hours ahead, and no smaller ones since. The 4 hours
            # did not last, so they were never believed.
            assert 1.9 * HOUR < caller.cluster()["clock_skew_ms"] / 1000 < 2.1 * HOUR
            caller.until_equal()
            load.history.check_counts(caller)
            assert caller.cluster()["lost"] == []
            # It says so itself.
            said = ("the wall clock of this machine jumped", "the newest stamp is")
            assert not [line for line in cluster.bad_lines() if not any(each in line for each in said)]
            cluster.stop()
            load.history.check_ledgers([read_ledger(cluster.data(node), node) for node in range(4)])
        finally:
            caller.close()
            cluster.close()
    figures.acknowledged, figures.unknown = load.history.acknowledged, load.history.unknown
    table(figures)
