import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.conftest import Table
from tests.faults.figures import Figures
from tests.faults.ledgers import read_ledgers
from tests.faults.load import Load
from tests.faults.network import run
from tests.faults.processes import Caller, Daemon, wait_until

FULL = "No space left on device"
BROKEN = "Input/output error"

VICTIM = 2


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    """
    A filesystem of a few megabytes with what is at this path.
    """
    aside = path.with_name(f"{path.name}-aside")
    path.rename(aside)
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(path))
    try:
        shutil.copytree(aside, path, dirs_exist_ok=True)
        yield
    finally:
        run("umount", "-l", str(path))


@contextmanager
def filled(path: Path) -> Iterator[None]:
    """
    Nothing is left of a filesystem.
    """
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def failing(pid: int, *what: str) -> Iterator[None]:
    """
    Some calls of a process to the system fail.

    :param what: further words for strace.
    """
    tracer = subprocess.Popen(
        ["strace", "-qq", "-f", "-o", "/dev/null", *what, "-p", str(pid)], stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: traced(pid), "strace at work")
        yield
    finally:
        # It lets go of the process, but may wait for a thread that ends, for ever; then the kernel lets go.
        tracer.terminate()
        try:
            tracer.wait(2)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait(10)


def traced(pid: int) -> bool:
    """
    Whether all threads of a process are traced.
    """
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0" not in (each / "status").read_text() for each in threads)


def node_of(caller: Caller, node: int) -> Any:
    return caller.cluster()["nodes"][node]


def until_refusing(caller: Caller, why: str, node: int = VICTIM) -> None:
    wait_until(lambda: why in (node_of(caller, node)["refuses"] or ""), f"node {node} refusing: {why}")


def until_taking(caller: Caller, node: int = VICTIM) -> None:
    def well() -> bool:
        there = node_of(caller, node)
        return there["state"] == "up" and not there["refuses"]

    wait_until(well, f"node {node} taking items")


def check_others_serve(load: Load, caller: Caller) -> None:
    """
    Writes and exact counts go on, and the node that refuses applies what the others store.
    """
    before = node_of(caller, VICTIM)
    load.go_on(5)
    assert caller.ask("GET", "/readyz").status == 200
    assert caller.exact_count("new-1-0", within=2) >= load.history.sure("new-1-0") > 0
    wait_until(lambda: node_of(caller, VICTIM)["items"] > before["items"], "items applied")
    after = node_of(caller, VICTIM)
    assert after["items_taken"] == before["items_taken"]


def check_all(daemon: Daemon, caller: Caller, load: Load, figures: Figures) -> None:
    load.check()
    caller.until_equal()
    load.history.check_counts(caller)
    assert caller.cluster()["lost"] == []
    assert daemon.running.bad_lines([FULL, BROKEN]) == []
    assert daemon.running.stop() in {0, -15}
    load.history.check_ledgers(read_ledgers(daemon.data))
    figures.acknowledged, figures.unknown = load.history.acknowledged, load.history.unknown


@contextmanager
def prepared(directory: Path, *options: str) -> Iterator[tuple[Daemon, Caller]]:
    """
    A daemon that has run once, so that there is something at its places.
    """
    daemon = Daemon(directory, options)
    caller = daemon.caller()
    try:
        daemon.start()
        daemon.until_ready()
        daemon.running.stop()
        yield daemon, caller
    finally:
        caller.close()
        daemon.close()


def test_one_full_disk_sends_items_elsewhere_until_there_is_room(tmp_path: Path, table: Table) -> None:
    figures = Figures("one full disk")
    with prepared(tmp_path) as (daemon, caller), small_disk(daemon.data / f"node-{VICTIM}", 8):
        daemon.start()
        daemon.until_ready()
        pids = daemon.nodes()
        try:
            with Load(daemon.caller, 6) as load:
                for _ in range(3):
                    load.go_on(3)
                    with filled(daemon.data / f"node-{VICTIM}"):
                        until_refusing(caller, FULL)
                        check_others_serve(load, caller)
                    until_taking(caller)
                    figures.rounds += 1
                    figures.faults["full"] += 1
                load.go_on(3)
                assert daemon.nodes() == pids
                with filled(daemon.data / f"node-{VICTIM}"):
                    until_refusing(caller, FULL)
                    daemon.kill(VICTIM)
                    wait_until(
                        lambda: node_of(caller, VICTIM)["pid"] not in {pids[VICTIM], None}, "another life"
                    )
                    load.go_on(3)
                until_taking(caller)
                load.go_on(3)
                figures.rounds += 1
                figures.faults["full and killed"] += 1
            check_all(daemon, caller, load, figures)
        finally:
            daemon.close()
    table(figures)


def test_all_nodes_on_one_full_disk_refuse_items_and_count_exactly(tmp_path: Path, table: Table) -> None:
    figures = Figures("all on one full disk")
    # More than fits what is left of a block that is in use.
    many = [{"ID": -each, "tenant": "nobody"} for each in range(1, 4001)]
    with prepared(tmp_path) as (daemon, caller), small_disk(daemon.data, 24):
        daemon.start()
        daemon.until_ready()
        pids = daemon.nodes()
        load = Load(daemon.caller, 7)
        try:
            for turn in range(2):
                load = Load(daemon.caller, 7 + turn, first_writer=1 + 10 * turn, history=load.history)
                with load:
                    load.go_on(5)
                load.check()
                with filled(daemon.data):
                    # Whoever was first may not know; everybody after him does.
                    first = caller.ask("POST", "/items", many)
                    outcome = first.status, first.content["outcome"]
                    assert outcome in {(503, "not_applied"), (504, "unknown")}, first
                    for node in range(4):
                        until_refusing(caller, FULL, node)
                    then = caller.ask("POST", "/items", many)
                    assert (then.status, then.content["outcome"]) == (503, "not_applied"), then
                    assert "no node takes writes: node 0: the disk failed" in then.content["detail"]
                    assert caller.ask("GET", "/readyz").status == 503
                    load.history.check_counts(caller)
                    assert caller.exact_count("nobody") == 0
                for node in range(4):
                    until_taking(caller, node)
                figures.rounds += 1
                figures.faults["full"] += 1
            assert daemon.nodes() == pids
            check_all(daemon, caller, load, figures)
        finally:
            daemon.close()
    table(figures)


def test_errors_of_a_disk_lose_nothing(tmp_path: Path, table: Table) -> None:
    figures = Figures("EIO")
    with prepared(tmp_path) as (daemon, caller):
        daemon.start()
        daemon.until_ready()
        syncs = ("-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO")
        with Load(daemon.caller, 8) as load:
            for turn in range(4):
                load.go_on(3)
                with failing(daemon.nodes()[VICTIM], *syncs):
                    until_refusing(caller, BROKEN)
                    check_others_serve(load, caller)
                    if turn % 2:
                        # What it wrote but could not sync is there when it starts again.
                        daemon.kill(VICTIM)
                figures.faults["fdatasync, killed" if turn % 2 else "fdatasync"] += 1
                until_taking(caller)
                figures.rounds += 1
            for turn in range(4):
                load.go_on(3)
                until_taking(caller)
                segment = max((daemon.data / f"node-{VICTIM}").glob("*.journal"))
                fault = "write" if turn % 2 else "fdatasync once"
                call = "write" if turn % 2 else "fdatasync"
                once = ("-P", str(segment), "-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when=1")
                before = node_of(caller, VICTIM)["run"]
                with failing(daemon.nodes()[VICTIM], *once):
                    wait_until(
                        lambda: node_of(caller, VICTIM)["run"] not in {before, None},  # noqa: B023
                        f"a new run after {fault}",
                    )
                until_taking(caller)
                figures.rounds += 1
                figures.faults[fault] += 1
            load.go_on(3)
        check_all(daemon, caller, load, figures)
    table(figures)
