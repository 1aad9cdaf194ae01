"""
Nodes that cannot start: the daemon says so once, shows it for as long as it lasts, and tries again.
"""

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dcounter.journal.framing import JournalEntry, frame
from dcounter.node.progress import CANNOT_START
from tests.faults.processes import Caller, Daemon, NoAnswer, Process, dcounter, wait_until

VICTIM = 3

Trouble = Callable[[Path], Callable[[], None]]
"""
Does something to the directory of a node, and gives what undoes it.
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, ["--suspicion=5"])
    yield daemon
    daemon.close()


@pytest.fixture
def caller(daemon: Daemon) -> Iterator[Caller]:
    caller = daemon.caller()
    yield caller
    caller.close()


def _filled(daemon: Daemon, caller: Caller) -> None:
    """
    A stopped daemon's directory, with an item on each node.
    """
    daemon.start()
    daemon.until_ready()
    for item in range(3):
        assert caller.ask("POST", "/items", [{"ID": item, "tenant": "t"}], ack="all").status == 200
    caller.until_equal()
    caller.close()
    assert daemon.running.stop() == 0
    daemon.log.unlink()


def _newest(journal: Path) -> Path:
    """
    The segment in which the lines are.
    """
    return max(journal.glob("*.journal"), key=lambda path: (path.stat().st_size > 0, path.name))


def _becomes_a_file(journal: Path) -> Callable[[], None]:
    aside = journal.rename(journal.with_name("aside"))
    journal.write_text("mine")

    def undo() -> None:
        journal.unlink()
        aside.rename(journal)

    return undo


def _is_of_the_future(journal: Path) -> Callable[[], None]:
    segment = _newest(journal)
    content = segment.read_bytes()
    segment.write_bytes(content + frame(JournalEntry(b'{"type":"tenant_limit","tenant":"t","limit":9}')))
    return lambda: _put_back(segment, content)


def _is_damaged(journal: Path) -> Callable[[], None]:
    segment = _newest(journal)
    content = segment.read_bytes()
    segment.write_bytes(b"x" + content[1:] + frame(JournalEntry(b"{}")))
    return lambda: _put_back(segment, content)


def _is_anothers(journal: Path) -> Callable[[], None]:
    owner = journal / "owner"
    content = owner.read_bytes()
    owner.write_text("node 1 of another cluster\n")
    return lambda: _put_back(owner, content)


def _put_back(path: Path, content: bytes) -> None:
    path.write_bytes(content)


_TROUBLES: list[tuple[Trouble, str, str]] = [
    (_becomes_a_file, "", "move "),
    (
        _is_of_the_future,
        "its journal was written by a newer version of dcounter: ",
        "start it with that version",
    ),
    (_is_damaged, "its journal is damaged: ", "Start once with --rebuild 3"),
    (_is_anothers, "its journal cannot be used: the journal belongs to ", "put this node's own directory"),
]


def _warnings(caller: Caller) -> list[str]:
    """
    What `/readyz` and `/cluster` say alike; nothing as long as HTTP does not listen.
    """
    try:
        ready = caller.ask("GET", "/readyz").content["warnings"]
        return list(ready) if caller.cluster()["warnings"] == ready else []
    except NoAnswer:
        return []


@pytest.mark.parametrize(
    ("trouble", "why", "remedy", "inline"),
    [*[(*each, False) for each in _TROUBLES], (*_TROUBLES[0], True)],
    ids=[*[each[0].__name__[1:] for each in _TROUBLES], "becomes_a_file-inline"],
)
def test_is_said_once_and_mended_by_a_restart(
    trouble: Trouble, why: str, remedy: str, inline: bool, daemon: Daemon, caller: Caller
) -> None:
    _filled(daemon, caller)
    journal = daemon.data / f"node-{VICTIM}"
    undo = trouble(journal)
    if inline:
        daemon.options = [*daemon.options, "--inline"]
    daemon.start()
    [warning] = wait_until(lambda: _warnings(caller), "a warning")
    assert warning.startswith(f"node {VICTIM} cannot start: {why.format(path=journal)}")
    assert str(journal) in warning
    assert remedy in warning
    if trouble is _is_of_the_future:
        assert "rebuild" not in warning
        assert "aside" not in warning
    # The log is written by a thread, a little later.
    wait_until(lambda: warning in daemon.running.text(), "a line in the log")
    assert daemon.running.text().count(warning) == 1
    # An operator who restarts it too early hears it again, at once.
    assert caller.restart(VICTIM, daemon.data).status == 200
    wait_until(lambda: daemon.running.text().count(warning) == 2, "the same reason")

    undo()

    def restarted() -> bool:
        # It may be busy with the last try.
        return caller.restart(VICTIM, daemon.data).status == 200

    wait_until(restarted, "a restart")
    assert caller.until_equal() == 3
    assert _warnings(caller) == []
    assert caller.exact_count("t") == 3
    assert daemon.running.stop() == 0
    text = daemon.running.text()
    assert text.count(f"node {VICTIM} cannot start") == 2
    assert "Traceback" not in text
    assert "Usage" not in text
    assert "dcounter does not start" not in text
    assert daemon.running.bad_lines([f"node {VICTIM} cannot start"]) == []


@pytest.mark.parametrize("inline", [False, True], ids=["processes", "inline"])
def test_if_no_node_can_start_the_daemon_ends(inline: bool, daemon: Daemon, caller: Caller) -> None:
    _filled(daemon, caller)
    undo = [_is_of_the_future(daemon.data / f"node-{node}") for node in range(4)]
    before = sorted(daemon.data.rglob("*"))
    if inline:
        daemon.options = [*daemon.options, "--inline"]
    daemon.start()
    assert daemon.running.popen.wait(60) == 1
    text = daemon.running.text()
    assert "Traceback" not in text
    assert [text.count(f"node {node} cannot start: its journal was written by") for node in range(4)] == [
        1
    ] * 4
    assert text.count("dcounter does not start: none of its nodes can start, see above") == 1
    assert sorted(daemon.data.rglob("*")) == before
    for each in undo:
        each()
    daemon.start()
    daemon.until_ready()
    assert caller.exact_count("t") == 3


@pytest.mark.parametrize(("trouble", "why"), [each[:2] for each in _TROUBLES[1:]])
def test_a_node_by_itself_ends(trouble: Trouble, why: str, daemon: Daemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret of at least sixteen bytes")
    journal = tmp_path / "node"
    command = dcounter("node", f"--secret-file={secret}", f"--data-dir={journal}")
    command.append(f"--listen=tcp:{daemon.ports.nodes[0]}:interface=127.0.0.1")
    first = Process.start(command, daemon.log)
    wait_until(lambda: "listens on port" in first.text(), "a node")
    assert first.stop() == 0
    (journal / "000000000001.journal").write_bytes(frame(JournalEntry(b"{}")))
    trouble(journal)
    daemon.log.unlink()
    process = Process.start(command, daemon.log)
    assert process.popen.wait(60) == CANNOT_START
    [line] = [line for line in process.text().splitlines() if "cannot start" in line]
    assert f"node 0 cannot start: {why}" in line
    assert str(journal) in line
    assert "--rebuild" not in line
    # The only node of its cluster is made anew from nothing.
    assert "start the node again" not in line
    assert "Traceback" not in process.text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories of several users")
def test_the_directory_of_another_user_is_said_once(daemon: Daemon, caller: Caller) -> None:
    nobody = pwd.getpwnam("nobody")
    with TemporaryDirectory(prefix="dc") as there:
        Path(there).chmod(0o755)
        data = Path(there) / "data"
        twistd = str(Path(sys.executable).with_name("twistd"))
        # Python itself may be out of that user's reach: the nodes are in the daemon's process.
        command = [
            *(sys.executable, twistd, "-n", "--pidfile=", f"--uid={nobody.pw_uid}", f"--gid={nobody.pw_gid}"),
            *("dcounter", "--inline", "--suspicion=5", f"--data-dir={data}"),
            f"--http=tcp:{daemon.ports.http}:interface=127.0.0.1",
            f"--node-port={daemon.ports.nodes[0]}",
        ]
        first = Process.start(command, daemon.log)
        assert caller.exact_count("t") == 0
        caller.close()
        assert first.stop() == 0
        daemon.log.unlink()
        journal = data / f"node-{VICTIM}"
        subprocess.run(["chown", "-R", "root:root", str(journal)], check=True)
        journal.chmod(0o700)
        process = Process.start(command, daemon.log)
        try:
            [warning] = wait_until(lambda: _warnings(caller), "a warning")
            assert warning.startswith(f"node {VICTIM} cannot start: its journal cannot be used: ")
            assert str(journal) in warning
            assert "can be written by the user that runs dcounter" in warning
            subprocess.run(["chown", "-R", f"{nobody.pw_uid}:{nobody.pw_gid}", str(journal)], check=True)
            assert caller.restart(VICTIM, data).status == 200
            caller.until_equal()
            assert _warnings(caller) == []
            assert process.stop() == 0
            assert process.text().count(warning) == 1
        finally:
            if process.popen.poll() is None:
                process.kill()
