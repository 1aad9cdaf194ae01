import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.conftest import Table
from tests.faults.figures import Figures
from tests.faults.ledgers import read_ledgers
from tests.faults.load import Load, longest_silence
from tests.faults.processes import Caller, Daemon, is_alive, wait_until


@contextmanager
def frozen(pid: int) -> Iterator[float]:
    """
    A process does nothing meanwhile; gives when (s) it stopped.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        yield time.monotonic()
    finally:
        os.kill(pid, signal.SIGCONT)


def until_state(caller: Caller, node: int, state: str) -> None:
    wait_until(lambda: caller.cluster()["nodes"][node]["state"] == state, f"node {node} {state}")


def test_while_the_primary_is_frozen_others_answer_and_when_it_wakes_nothing_goes_back(
    tmp_path: Path, table: Table
) -> None:
    figures = Figures("frozen primary")
    daemon = Daemon(tmp_path)
    caller = daemon.caller()
    try:
        daemon.start()
        daemon.until_ready()
        with Load(daemon.caller, 2) as load:
            load.go_on(5)
        caller.until_equal()
        pids = daemon.nodes()
        primary = caller.primary()
        with frozen(pids[primary]) as since:

            def replaced() -> bool:
                return caller.cluster()["primary"] not in {primary, None}

            figures.to_exact.append(longest_silence(caller, since, replaced))
            load.history.check_counts(caller)
            # Nobody has to wait for it: not the writers, and not whoever asks for counts.
            with Load(daemon.caller, 3, history=load.history, first_writer=10) as more:
                more.go_on(10)
                caller.exact_count("new-10-0", within=2)
                os.kill(pids[primary], signal.SIGCONT)
                until_state(caller, primary, "up")
                more.go_on(10)
                for _ in range(3):
                    primary = caller.primary()
                    with frozen(pids[primary]):
                        until_state(caller, primary, "down")
                        more.go_on(3)
                    until_state(caller, primary, "up")
                    more.go_on(3)
                    figures.rounds += 1
            more.check()
        figures.faults["frozen"] = figures.rounds = figures.rounds + 1
        figures.acknowledged, figures.unknown = load.history.acknowledged, load.history.unknown
        load.check()
        assert daemon.nodes() == pids
        caller.until_equal()
        load.history.check_counts(caller)
        assert caller.cluster()["lost"] == []
        assert daemon.running.bad_lines() == []
        assert daemon.running.stop() in {0, -15}
        load.history.check_ledgers(read_ledgers(daemon.data))
    finally:
        caller.close()
        daemon.close()
    table(figures)


def test_a_frozen_coordinator_wakes_without_harm(tmp_path: Path, table: Table) -> None:
    figures = Figures("frozen coordinator")
    daemon = Daemon(tmp_path)
    caller = daemon.caller()
    try:
        daemon.start()
        daemon.until_ready()
        with Load(daemon.caller, 4) as load:
            for _ in range(2):
                load.go_on(5)
                with frozen(daemon.running.pid):
                    # The freeze itself: longer than a process may be silent without being suspected.
                    time.sleep(2.5)
                figures.rounds += 1
            load.go_on(5)
        figures.faults["frozen"] = figures.rounds
        figures.acknowledged, figures.unknown = load.history.acknowledged, load.history.unknown
        load.check()
        caller.until_equal()
        load.history.check_counts(caller)
        assert daemon.running.bad_lines() == []
        assert daemon.running.stop() in {0, -15}
        load.history.check_ledgers(read_ledgers(daemon.data))
    finally:
        caller.close()
        daemon.close()
    table(figures)


def processes_of(daemon: int) -> list[int]:
    """
    Nodes that were started by a daemon, whether it lives or not.
    """
    found = []
    mark = b"\0--parent\0%d\0" % daemon
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                mine = mark in (each / "cmdline").read_bytes()
            except OSError:
                continue
            if mine and is_alive(int(each.name)):
                found.append(int(each.name))
    return found


def test_no_node_outlives_its_daemon_not_even_a_frozen_one(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    try:
        for moment in range(12):
            daemon.start()
            pid = daemon.running.pid
            if moment % 3 == 2:
                daemon.until_ready()
                os.kill(daemon.nodes()[moment % 4], signal.SIGSTOP)
            elif moment % 3 == 1:
                # They have hardly begun to run.
                wait_until(lambda: len(processes_of(pid)) == 4, "four nodes")  # noqa: B023
            else:
                wait_until(lambda: processes_of(pid), "a node")  # noqa: B023
            daemon.kill_all()
            wait_until(lambda: not processes_of(pid), "the end of all nodes")  # noqa: B023
    finally:
        daemon.close()
