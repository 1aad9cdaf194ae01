"""
Who may use a data directory, and what an end without warning leaves there; with real processes.
"""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.harness import occupy
from tests.faults.processes import Caller, Daemon, dcounter, is_alive, wait_until

_CALM = "--suspicion=10"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, [_CALM])
    yield daemon
    daemon.close()


@pytest.fixture
def caller(daemon: Daemon) -> Iterator[Caller]:
    caller = daemon.caller()
    yield caller
    caller.close()


def refused(*arguments: str, directory: Path, command: list[str] | None = None) -> str:
    """
    Start what cannot start; the one line that says why.
    """
    done = subprocess.run(
        [*(command or dcounter()), *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "Traceback" not in output
    assert "HTTP listens" not in output
    lines = [line for line in output.splitlines() if "does not start" in line or "cannot listen" in line]
    assert len(lines) == 1, output
    assert output.rstrip().endswith(lines[0])
    return lines[0]


def background(*arguments: str, pidfile: Path) -> list[str]:
    """
    The command that leaves a daemon in the background.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    log = pidfile.with_suffix(".log")
    return [sys.executable, twistd, f"--pidfile={pidfile}", f"--logfile={log}", "dcounter", *arguments]


def places(daemon: Daemon, http: int | None = None) -> list[str]:
    return [
        f"--data-dir={daemon.data}",
        f"--http=tcp:{http or daemon.ports.http}:interface=127.0.0.1",
        f"--node-port={daemon.ports.nodes[0]}",
    ]


def test_a_second_daemon_is_refused_and_changes_nothing(daemon: Daemon, caller: Caller) -> None:
    daemon.start()
    daemon.until_ready()
    assert caller.ask("POST", "/items", [{"ID": 1, "tenant": "t"}], ack="all").status == 200
    before = sorted(os.listdir(daemon.data))
    used = f"dcounter does not start: {daemon.data} is used by process {daemon.running.pid}: stop that daemon"
    for http in (daemon.ports.http, daemon.ports.nodes[50]):
        for options in ([], ["--rebuild=3"], ["--rebuild=0", "--accept-data-loss"], ["--inline"]):
            said = refused(*places(daemon, http), *options, directory=daemon.directory)
            assert said.startswith(used)
    assert sorted(os.listdir(daemon.data)) == before
    # Nor does a node by itself get in.
    secret = daemon.directory / "secret"
    secret.write_text("a secret of at least sixteen bytes")
    for place, why in [
        (daemon.data, "is the directory of a daemon (it has cluster.json)"),
        (daemon.data / "node-0", f"is used by process {daemon.nodes()[0]}: stop that node first"),
    ]:
        said = refused("node", f"--secret-file={secret}", f"--data-dir={place}", directory=daemon.directory)
        assert f"{place} {why}" in said
    said = refused(f"--data-dir={daemon.data / 'node-0'}", directory=daemon.directory)
    assert "node-0 is the directory of a node (it has " in said
    # What was acknowledged is there after the end of everything.
    daemon.kill_all()
    daemon.start()
    daemon.until_ready()
    assert caller.exact_count("t") == 1


def test_a_daemon_in_the_background_keeps_its_directory(daemon: Daemon, caller: Caller) -> None:
    pidfile = daemon.directory / "first.pid"
    command = background(*places(daemon), _CALM, pidfile=pidfile)
    subprocess.run(command, cwd=daemon.directory, check=True, timeout=60)
    pid = int(pidfile.read_text())
    try:
        caller.exact_count("t")
        for more in ([], background(pidfile=daemon.directory / "second.pid")):
            said = refused(*places(daemon), directory=daemon.directory, command=more or None)
            assert f"{daemon.data} is used by process {pid}: stop that daemon first" in said
        assert not (daemon.directory / "second.pid").exists()
    finally:
        os.kill(pid, 15)
        wait_until(lambda: not is_alive(pid), "the end of the daemon")
    assert "daemon.pid" not in os.listdir(daemon.data)


def test_a_rebuild_that_does_not_get_its_port_renames_nothing(daemon: Daemon) -> None:
    daemon.start()
    daemon.until_ready()
    assert daemon.running.stop() in {0, -15}
    before = sorted(os.listdir(daemon.data))
    with occupy(daemon.ports.http):
        said = refused(*places(daemon), "--rebuild=1", directory=daemon.directory)
    assert "HTTP cannot listen" in said
    assert sorted(os.listdir(daemon.data)) == before


def test_a_first_start_that_fails_leaves_nothing(daemon: Daemon) -> None:
    with occupy(daemon.ports.http):
        refused(*places(daemon), directory=daemon.directory)
    assert not daemon.data.exists()


def test_a_socket_that_an_unclean_end_left_is_no_obstacle(daemon: Daemon) -> None:
    with TemporaryDirectory(prefix="dc") as short:
        socket = Path(short) / "http"
        # The last one counts.
        daemon.options = [_CALM, f"--http=unix:{socket}"]
        for _ in range(2):
            daemon.start()
            wait_until(lambda: "HTTP listens on" in daemon.running.text(), "the socket")
            said = refused(f"--http=unix:{socket}", "--in-memory", directory=daemon.directory)
            assert f"another process answers on {socket}: stop it first" in said
            daemon.kill_all()
            assert socket.exists()
            daemon.log.unlink()
            # As in a container, where the next daemon has the number of the last one.
            lock = Path(f"{socket}.lock")
            lock.unlink()
            lock.symlink_to(str(os.getpid()))


def _another_user() -> tuple[int, int]:
    """
    A user that only root can become; the same one, if this is not root.
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def test_all_belongs_to_the_user_that_the_daemon_becomes(daemon: Daemon, caller: Caller) -> None:
    uid, gid = _another_user()
    with TemporaryDirectory(prefix="dc") as there:
        # Python itself may be out of that user's reach: the nodes are in the daemon's process.
        data = Path(there) / "made" / "for" / "it"
        Path(there).chmod(0o755)
        twistd = str(Path(sys.executable).with_name("twistd"))
        command = [sys.executable, twistd, "-n", "--pidfile=", f"--uid={uid}", f"--gid={gid}", "dcounter"]
        arguments = [*places(daemon)[1:], f"--data-dir={data}", "--inline", _CALM]
        for turn in range(2):
            with daemon.log.open("ab") as log:
                process = subprocess.Popen(
                    [*command, *arguments], stdout=log, stderr=log, cwd=daemon.directory
                )
            try:
                assert caller.exact_count("t") == turn
                stored = caller.ask("POST", "/items", [{"ID": turn, "tenant": "t"}], ack="all")
                assert stored.status == 200, stored
            finally:
                process.terminate()
                process.wait(30)
        paths = [data.parent.parent, data.parent, data, *data.rglob("*")]
        assert len(paths) > 10
        assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {(uid, gid)}
        if uid != os.geteuid():
            # What another user made stays another user's, and that is said at once.
            cluster = data / "cluster.json"
            os.chown(cluster, 0, 0)
            said = refused(*arguments, directory=daemon.directory, command=command)
            assert f"{cluster}: Permission denied: the user with uid {uid} needs the right" in said
            os.chown(data, 0, 0)
            said = refused(*arguments, directory=daemon.directory, command=command)
            assert f"{data} cannot be written: the user with uid {uid} needs the right" in said
