"""
Clusters with disks: what kills, losses of power and wiped disks leave.
"""

import subprocess
import sys
from collections.abc import Callable
from errno import EIO

import pytest
from twisted.python.failure import Failure

from dcounter.errors import NotApplied, OutcomeUnknown
from dcounter.store import Items
from dcounter.testing import Cluster
from dcounter.testing.__main__ import main
from dcounter.testing.play import play
from dcounter.testing.setting import Setting
from dcounter.testing.shrink import shrink
from tests.faults.test_planted import FAULTS

ITEMS = Items([1, 2, 3, 4, 5], ["a", "b", "a", "a", "c"], None)


def _cluster(nodes: int = 4) -> Cluster:
    return Cluster(nodes, disks=True, seed=1).start()


def _count(cluster: Cluster, tenant: str) -> int:
    return cluster.result(cluster.coordinator.count(tenant, consistency="exact")).counter


def test_all_machines_go_off_and_on_again() -> None:
    cluster = _cluster()
    for _ in range(3):
        cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
        for node in range(4):
            cluster.lose_power(node)
        for node in range(4):
            cluster.start_node(node)
        assert _count(cluster, "a") == 3
    cluster.stop()


def test_a_process_that_is_killed_keeps_what_it_acknowledged() -> None:
    cluster = _cluster()
    cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
    for node in range(4):
        for _ in range(3):
            cluster.kill_node(node)
            cluster.start_node(node)
    assert _count(cluster, "a") == 3
    cluster.stop()


def test_a_seed_repeats_its_story_whatever_was_played_before(
    expected_failures: Callable[..., list[Failure]],
) -> None:
    # In some moments of this one, what the garbage collector did to dead processes made a difference.
    stories = [play(seed, Setting(), trace=True).log for seed in (7346, 1, 7346)]
    assert stories[0] == stories[2] != stories[1]
    expected_failures()


def test_the_power_fails_in_the_middle_of_a_write() -> None:
    cluster = _cluster(1)
    cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
    disk = cluster.disks[0]
    disk.power_fails_at = disk.points + 1
    with pytest.raises((OutcomeUnknown, NotApplied)):
        cluster.result(cluster.coordinator.store(Items([1], ["z"], None), ack="node"))
    assert not cluster.nodes
    cluster.start_node(0)
    assert _count(cluster, "b") == 1
    cluster.stop()


def test_a_wiped_node_is_filled_by_the_others() -> None:
    cluster = _cluster(3)
    cluster.result(cluster.coordinator.store(ITEMS, ack="all"))
    cluster.wipe(1)
    cluster.start_node(1)
    cluster.wait_for(lambda: cluster.nodes[1].replica.ledger.count("a") == 3)
    cluster.stop()


def test_a_wiped_node_that_dies_while_it_is_filled_knows_that_it_was_wiped() -> None:
    cluster = _cluster(3)
    cluster.result(cluster.coordinator.store(ITEMS, ack="all"))
    cluster.part("node 1", "node 2")
    cluster.wipe(1)
    for _ in range(2):
        cluster.start_node(1)
        cluster.wait_for(lambda: cluster.nodes[1].replica.ledger.count("a") == 3)
        refuses = cluster.nodes[1].replica.refuses()
        assert refuses == "the node starts empty and has not heard from nodes [2]"
        cluster.lose_power(1)
    cluster.stop()


def test_a_disk_that_fails_and_works_again() -> None:
    cluster = _cluster(1)
    cluster.disks[0].errors["sync"] = EIO
    with pytest.raises((OutcomeUnknown, NotApplied)):
        cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
    cluster.disks[0].errors.clear()
    cluster.lags[0] = 0.1
    cluster.wait_for(lambda: cluster.coordinator.readiness().ready)
    cluster.result(cluster.coordinator.store(ITEMS, ack="node"))
    assert _count(cluster, "a") == 3
    cluster.stop()


def test_every_process_has_its_own_wall_clock() -> None:
    cluster = Cluster(2)
    cluster.wall.skews["node 1"] = -5
    cluster.wall.drifts["node 0"] = 0.5
    cluster.run(2.0)
    assert cluster.wall("node 1") == cluster.wall() - 5
    assert cluster.wall("node 0") == cluster.wall() + 10**9


def test_a_seed_is_played_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--events", "10", "--trace"]) == 0
    told = capsys.readouterr().out
    assert "store 1" in told
    assert "listens on port" in told
    assert told.endswith("seed 7: 10 events, 0 problems\n")


def test_many_seeds_are_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0:4", "--events", "10", "--jobs", "1", "--memory"]) == 0
    assert capsys.readouterr().out.startswith("4 seeds, 0 failed []; ")


@pytest.mark.parametrize("more", [["--seeds", "0:100"], ["--seeds", "0:40", "--memory"]])
def test_whatever_happens_what_callers_are_told_is_true(more: list[str]) -> None:
    # Not from here: a fork would take this process's reactor along.
    command = [sys.executable, "-m", "dcounter.testing", "--jobs", "2", *more]
    played = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert played.returncode == 0, played.stdout + played.stderr
    assert f"{more[1].removeprefix('0:')} seeds, 0 failed []; " in played.stdout


def test_a_failing_story_is_made_shorter(expected_failures: Callable[..., list[Failure]]) -> None:
    setting = FAULTS["clock not advanced at the start"].setting()
    shorter = shrink(0, setting)
    assert play(0, shorter).problems
    assert len(shorter.without) > setting.events // 2
    without_fault = Setting(
        events=shorter.events, without=shorter.without, frequencies=shorter.frequencies, nodes=shorter.nodes
    )
    assert not play(0, without_fault).problems
    expected_failures()


def test_what_fails_is_told(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    expected_failures: Callable[..., list[Failure]],
) -> None:
    faulty = FAULTS["clock not advanced at the start"].setting()
    monkeypatch.setattr("dcounter.testing.__main__.Setting", lambda **_: faulty)
    assert main(["--seeds", "0:1", "--jobs", "1"]) == 1
    assert "1 failed [0]" in capsys.readouterr().out
    assert main(["--seed", "0", "--shrink"]) == 1
    assert "PROBLEM" in capsys.readouterr().out
    expected_failures()


def test_a_setting_names_only_events_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no such events: \['kil'\]"):
        play(0, Setting(frequencies={"kil": 3}))
