"""
Every way to start a daemon, with everything that may keep it from starting.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dcounter.daemon.data_directory import open_data_directory
from tests.e2e.harness import Ports, occupy
from tests.faults.processes import Caller, Daemon, is_alive, wait_until


@dataclass(frozen=True, slots=True)
class Way:
    """
    How a daemon is started.
    """

    background: bool
    inline: bool

    def __str__(self) -> str:
        return (
            f"{'background' if self.background else 'foreground'}-{'inline' if self.inline else 'processes'}"
        )

    def command(self, directory: Path) -> list[str]:
        """
        The command, without the options of the place and of the test.
        """
        before = [] if self.background else ["-n"]
        twistd = str(Path(sys.executable).with_name("twistd"))
        files = [f"--pidfile={directory / 'pid'}"]
        if self.background:
            files.append(f"--logfile={directory / 'log'}")
        after = ["--inline"] if self.inline else []
        return [sys.executable, twistd, *before, *files, "dcounter", *after]


_WAYS = [Way(background, inline) for background in (False, True) for inline in (False, True)]

Obstacle = Callable[["Place"], AbstractContextManager[list[str]]]
"""
Something that keeps a daemon from starting, for as long as the context lasts; gives further options.
"""


@dataclass(slots=True)
class Place:
    """
    Where a daemon is started.
    """

    directory: Path
    ports: Ports

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def options(self) -> list[str]:
        return [
            f"--data-dir={self.data}",
            f"--node-port={self.ports.nodes[0]}",
            f"--http=tcp:{self.ports.http}:interface=127.0.0.1",
        ]

    def files(self) -> list[Path]:
        """
        All that is there but a log.
        """
        return [path for path in sorted(self.directory.rglob("*")) if path.name != "log"]

    def processes(self) -> list[int]:
        """
        Those that work here, whoever started them.
        """
        found = []
        for each in Path("/proc").iterdir():
            with suppress(OSError):
                if each.name.isdecimal() and os.fsencode(self.directory) in (each / "cmdline").read_bytes():
                    found.append(int(each.name))
        return [pid for pid in found if pid != os.getpid() and is_alive(pid)]

    def output(self, printed: str) -> str:
        """
        All that was said: printed, or logged.
        """
        log = self.directory / "log"
        return printed + (log.read_text() if log.exists() else "")


@pytest.fixture
def place(tmp_path: Path, ports: Ports) -> Iterator[Place]:
    place = Place(tmp_path, ports)
    yield place
    for pid in place.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not place.processes(), "the end of all processes")


def _cluster(place: Place, nodes: int = 4) -> None:
    """
    A data directory that a daemon has left.
    """
    directory = open_data_directory(str(place.data), nodes, secrets.token_bytes)
    directory.begin(os.getpid())
    directory.close()


@contextmanager
def _taken_port(place: Place) -> Iterator[list[str]]:
    with occupy(place.ports.http):
        yield []


@contextmanager
def _taken_port_of_an_old_cluster(place: Place) -> Iterator[list[str]]:
    _cluster(place)
    with occupy(place.ports.http):
        yield []


@contextmanager
def _taken_socket(place: Place) -> Iterator[list[str]]:
    # Paths of sockets are short.
    with TemporaryDirectory(prefix="dc") as short, socket.socket(socket.AF_UNIX) as there:
        there.bind(f"{short}/http")
        there.listen()
        yield [f"--http=unix:{short}/http"]


@contextmanager
def _used_directory(place: Place) -> Iterator[list[str]]:
    directory = open_data_directory(str(place.data), 4, secrets.token_bytes)
    directory.begin(os.getpid())
    yield []
    directory.close()


@contextmanager
def _damaged_cluster(place: Place) -> Iterator[list[str]]:
    _cluster(place)
    (place.data / "cluster.json").write_text('{"version":1,"clus')
    yield []


@contextmanager
def _other_nodes(place: Place) -> Iterator[list[str]]:
    _cluster(place)
    yield ["--nodes=3"]


@contextmanager
def _file(place: Place) -> Iterator[list[str]]:
    place.data.write_text("mine")
    yield []


@contextmanager
def _only_copy(place: Place) -> Iterator[list[str]]:
    _cluster(place, 1)
    journal = place.data / "node-0"
    journal.mkdir()
    (journal / "000000000001.journal").write_text("damaged\nall of it\n")
    yield ["--nodes=1", "--rebuild=0"]


_OBSTACLES: list[tuple[Obstacle, str]] = [
    (
        _taken_port,
        "HTTP cannot listen: Couldn't listen on 127.0.0.1:{http}: [Errno 98] Address already in use",
    ),
    (_taken_port_of_an_old_cluster, "HTTP cannot listen: Couldn't listen on 127.0.0.1:{http}: "),
    (_taken_socket, "HTTP cannot listen: another process answers on "),
    (_used_directory, "dcounter does not start: {data} is used by process {pid}: stop that daemon first"),
    (_damaged_cluster, "dcounter does not start: {data}/cluster.json cannot be read: "),
    (
        _other_nodes,
        "dcounter does not start: the cluster in {data} has nodes [0, 1, 2, 3]; start it with --nodes 4",
    ),
    (_file, "dcounter does not start: {data}: "),
    (_only_copy, "dcounter does not start: --rebuild 0 is refused because data would be lost: "),
]


@pytest.mark.parametrize("way", _WAYS, ids=str)
@pytest.mark.parametrize(("obstacle", "why"), _OBSTACLES, ids=[each[0].__name__[1:] for each in _OBSTACLES])
def test_what_cannot_start_says_why_and_leaves_nothing(
    obstacle: Obstacle, why: str, way: Way, place: Place
) -> None:
    with obstacle(place) as options:
        before = place.files()
        done = subprocess.run(
            [*way.command(place.directory), *place.options(), *options],
            cwd=place.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 1, printed
        text = why.format(http=place.ports.http, data=place.data, pid=os.getpid())
        assert len([line for line in printed.splitlines() if text in line]) == 1, printed
        assert "Traceback" not in place.output(printed)
        wait_until(lambda: not place.processes(), "the end of all processes")
        assert place.files() == before


@pytest.mark.parametrize("way", _WAYS, ids=str)
def test_without_an_obstacle_it_starts_and_stops(way: Way, place: Place) -> None:
    command = [*way.command(place.directory), *place.options(), "--suspicion=5"]
    with (place.directory / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=place.directory, stdout=log, stderr=log)
    if way.background:
        assert process.wait(60) == 0
    caller = Caller(place.ports.http)
    assert caller.exact_count("t") == 0
    caller.close()
    pid = int((place.directory / "pid").read_text())
    assert (pid == process.pid) != way.background
    os.kill(pid, signal.SIGTERM)
    assert process.wait(60) == 0
    wait_until(lambda: not place.processes(), "the end of all processes")
    assert not (place.directory / "pid").exists()
    log_text = place.output("")
    assert log_text.rstrip().endswith("stopped")
    assert "Traceback" not in log_text


def test_sixteen_nodes_start_in_turns_and_become_ready(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, ["--nodes=16", "--suspicion=5"])
    try:
        daemon.start()
        daemon.until_ready(within=180)
        caller = daemon.caller()
        nodes = caller.cluster()["nodes"]
        assert [each["state"] for each in nodes] == ["up"] * 16
        assert caller.ask("POST", "/items", [{"ID": 1, "tenant": "t"}], ack="all").status == 200
        assert caller.exact_count("t") == 1
        caller.close()
        assert daemon.running.stop() == 0
        assert daemon.running.bad_lines() == []
    finally:
        daemon.close()
