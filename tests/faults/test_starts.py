"""
What the operating system may have against a start: each is one line, and nothing is left of it.
"""

import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.network import run
from tests.faults.processes import Daemon, Process, dcounter
from tests.faults.test_disks import filled


@contextmanager
def mounted(path: Path, *options: str) -> Iterator[Path]:
    """
    A file system of its own.
    """
    path.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", ",".join(["size=1m", *options]), "tmpfs", str(path))
    try:
        yield path
    finally:
        run("umount", "-l", str(path))


@contextmanager
def full(path: Path) -> Iterator[Path]:
    with mounted(path), filled(path):
        yield path / "data"


@contextmanager
def without_inodes(path: Path) -> Iterator[Path]:
    # One for the root, one for the data directory.
    with mounted(path, "nr_inodes=2"):
        yield path / "data"


@contextmanager
def read_only(path: Path) -> Iterator[Path]:
    with mounted(path):
        run("mount", "-o", "remount,ro", str(path))
        yield path / "data"


@contextmanager
def read_only_and_there(path: Path) -> Iterator[Path]:
    with mounted(path):
        (path / "data").mkdir()
        run("mount", "-o", "remount,ro", str(path))
        yield path / "data"


@contextmanager
def a_file(path: Path) -> Iterator[Path]:
    path.touch()
    yield path / "data"


@contextmanager
def a_link_to_nothing(path: Path) -> Iterator[Path]:
    path.symlink_to(path / "nothing")
    yield path


@contextmanager
def too_long(path: Path) -> Iterator[Path]:
    yield path / ("x" * 300)


def refused(*arguments: str, directory: Path) -> str:
    done = subprocess.run(
        dcounter(*arguments), cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "Traceback" not in output
    said = [line for line in output.splitlines() if line.startswith("dcounter does not start: ")]
    assert len(said) == 1, output
    return said[0]


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (full, "No space left on device: make room there (df shows it, df -i the inodes)"),
        (without_inodes, "No space left on device: make room there (df shows it, df -i the inodes)"),
        (read_only, "Read-only file system: make that file system writable"),
        (read_only_and_there, "cannot be written: make that file system writable"),
        (a_file, "is not a directory: move it away"),
        (a_link_to_nothing, "which does not exist: repair the link, or mount its target"),
        (too_long, "File name too long: choose a shorter path"),
    ],
)
def test_an_error_is_one_line(
    place: Callable[[Path], AbstractContextManager[Path]], why: str, tmp_path: Path
) -> None:
    with place(tmp_path / "place") as data:
        before = sorted(tmp_path.rglob("*"))
        said = refused(f"--data-dir={data}", "--http=tcp:0:interface=127.0.0.1", directory=tmp_path)
        assert why in said
        assert str(tmp_path / "place") in said
        assert sorted(tmp_path.rglob("*")) == before


def test_a_journal_that_is_a_mount_point_is_not_set_aside(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, ["--suspicion=10"])
    try:
        daemon.start()
        daemon.until_ready()
        assert daemon.running.stop() in {0, -15}
        before = sorted(daemon.data.iterdir())
        with mounted(daemon.data / "node-1"):
            said = refused(
                f"--data-dir={daemon.data}",
                "--http=tcp:0:interface=127.0.0.1",
                "--rebuild=0",
                "--rebuild=1",
                directory=tmp_path,
            )
            assert (
                f"--rebuild: {daemon.data / 'node-1'}: Device or resource busy: a mount point cannot" in said
            )
            assert sorted(daemon.data.iterdir()) == before
    finally:
        daemon.close()


def reachable(command: list[str], aside: Path) -> list[str]:
    """
    A command in whose eyes Python is where every user can reach it.
    """
    python = Path(sys.executable).resolve()
    closed = [each for each in python.parents if not each.stat().st_mode & 0o001]
    if not closed:
        return command
    [*_, outermost] = closed
    below = outermost / python.relative_to(outermost).parts[0]
    script = """
set -e
mount --rbind "$1" "$3"
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$2"
mount --rbind "$3/${2##*/}" "$2"
shift 3
exec "$@"
"""
    aside.mkdir()
    words = ["unshare", "--mount", "sh", "-c", script, "sh", str(outermost), str(below), str(aside)]
    return [*words, *command]


def test_nodes_are_processes_of_the_user_that_the_daemon_becomes(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    daemon = Daemon(tmp_path)
    with TemporaryDirectory(prefix="dc") as there:
        Path(there).chmod(0o755)
        data = Path(there) / "data"
        twistd = str(Path(sys.executable).with_name("twistd"))
        command = [sys.executable, twistd, "-n", "--pidfile=", "--uid=nobody", "dcounter"]
        command += [f"--data-dir={data}", f"--http=tcp:{daemon.ports.http}:interface=127.0.0.1"]
        command += [f"--node-port={daemon.ports.nodes[0]}", "--suspicion=10"]
        try:
            for turn in range(2):
                daemon.process = Process.start(
                    reachable(command, tmp_path / f"aside-{turn}"), tmp_path / "log"
                )
                daemon.until_ready()
                assert {Path(f"/proc/{pid}").stat().st_uid for pid in daemon.nodes().values()} == {
                    nobody.pw_uid
                }
                caller = daemon.caller()
                assert caller.ask("POST", "/items", [{"ID": turn, "tenant": "t"}], ack="all").status == 200
                assert caller.exact_count("t") == turn + 1
                caller.close()
                assert daemon.running.stop() in {0, -15}
            assert {path.stat().st_uid for path in [data, *data.rglob("*")]} == {nobody.pw_uid}
        finally:
            daemon.close()
