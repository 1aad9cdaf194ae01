import os
import signal
import time
from pathlib import Path

from tests.e2e.sockets import sockets_of
from tests.faults.conftest import Table
from tests.faults.figures import Figures
from tests.faults.kills import kill_loop
from tests.faults.processes import Caller, Daemon, wait_until

ROUNDS = int(os.environ.get("DCOUNTER_KILL_ROUNDS", "50"))
SEED = int(os.environ.get("DCOUNTER_KILL_SEED", "1"))

SMALL = {
    "segment_bytes": 64 * 1024,
    "snapshot_bytes": 512 * 1024,
    "backlog_bytes": 16 * 1024,
    "chunk_rows": 500,
}
"""
Bounds that make nodes take snapshots and copies all the time.
"""


def test_what_was_acknowledged_survives_kill_9_of_anything(tmp_path: Path, table: Table) -> None:
    table(kill_loop(tmp_path, ROUNDS, seed=SEED))


def test_what_was_acknowledged_survives_kill_9_amid_snapshots_and_copies(
    tmp_path: Path, table: Table
) -> None:
    table(kill_loop(tmp_path, ROUNDS // 3, seed=SEED, name="kill -9, small bounds", limits=SMALL))


def test_what_only_one_node_holds_is_unavailable_as_long_as_that_node(tmp_path: Path, table: Table) -> None:
    figures = Figures("kill -9, held alone")
    daemon = Daemon(tmp_path)
    caller = daemon.caller()
    try:
        daemon.start()
        daemon.until_ready()
        # The same one again and again: that it has just been started must not count against it.
        victim = 0
        for round_ in range(8):
            caller.until_equal()
            pids = daemon.nodes()
            others = [pid for node, pid in pids.items() if node != victim]
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            try:
                wait_until(lambda: states_up(caller) == [victim], "one node alone")
                # The kernel would take what is for them as long as they are connected.
                wait_until(lambda: callers(caller, victim, pids[victim]) == 1, "no followers")  # noqa: B023
                item = {"ID": round_, "tenant": "alone"}
                assert caller.ask("POST", "/items", [item]).ok()["ack"] == "node"
                killed = daemon.kill(victim)
            finally:
                for pid in others:
                    os.kill(pid, signal.SIGCONT)
            # Nobody may leave it out meanwhile.
            assert caller.exact_count("alone") == round_ + 1
            figures.to_exact.append(time.monotonic() - killed)
            figures.rounds += 1
            figures.faults["node"] += 1
            figures.acknowledged += 1
        assert caller.cluster()["lost"] == []
        assert daemon.running.bad_lines() == []
        assert daemon.running.stop() in {0, -15}
    finally:
        caller.close()
        daemon.close()
    table(figures)


def callers(caller: Caller, node: int, pid: int) -> int:
    """
    How many have a connection to a node: its coordinator and whoever follows it.
    """
    port = int(caller.cluster()["nodes"][node]["address"].rpartition(":")[2])
    return sum(each.established and each.port == port for each in sockets_of(pid))


def states_up(caller: Caller) -> list[int]:
    return [each["id"] for each in caller.cluster()["nodes"] if each["state"] == "up"]
