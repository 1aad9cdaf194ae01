"""
What an operator does when a node is beyond repair, and coordinators that share nodes, with real processes.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dcounter.client import Answer
from tests.e2e.harness import Ports
from tests.faults.ledgers import read_ledgers
from tests.faults.processes import Caller, Daemon, NoAnswer, Process, dcounter, wait_until

VICTIM = 1


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.close()


def _store(caller: Caller, *ids: int, **parameters: str) -> Answer:
    answer = caller.ask("POST", "/items", [{"ID": item, "tenant": "t"} for item in ids], **parameters)
    answer.ok()
    return answer


def _damage(daemon: Daemon) -> None:
    """
    Start a daemon, store 400 items everywhere, and damage what a node has kept of them.
    """
    daemon.start()
    daemon.until_ready()
    caller = daemon.caller()
    for first in range(0, 400, 10):
        _store(caller, *range(first, first + 10), ack="all")
    assert caller.until_equal() == 400
    caller.close()
    assert daemon.running.stop() in {0, -15}
    segment = max((daemon.data / f"node-{VICTIM}").glob("*.journal"), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)


def _start_without_it(daemon: Daemon) -> Caller:
    """
    Start the daemon, and wait until the others are up and the damaged node has said why it is not.
    """
    daemon.start()
    said = f"--rebuild {VICTIM} to make it anew"
    wait_until(lambda: said in daemon.running.text(), "a node that says that its journal is damaged")
    caller = daemon.caller()

    def three() -> bool:
        try:
            return [each["state"] for each in caller.cluster()["nodes"]].count("up") == 3
        except NoAnswer:
            return False

    wait_until(three, "three nodes")
    return caller


def _start_again(daemon: Daemon, caller: Caller) -> None:
    caller.close()
    assert daemon.running.stop() in {0, -15}
    daemon.start()
    daemon.until_ready()


def test_a_node_with_a_damaged_journal_stays_down_until_it_is_rebuilt(daemon: Daemon) -> None:
    _damage(daemon)
    caller = _start_without_it(daemon)
    # Nobody knows what it alone has: a coordinator that has just started does not count exactly.
    refused = caller.count("t")
    assert (refused.status, refused.code, refused.content["counter_so_far"]) == (503, "incomplete", 400)
    assert caller.count("t", consistency="available").ok()["counter"] == 400
    _store(caller, *range(400, 420))

    usual, daemon.options = daemon.options, [f"--rebuild={VICTIM}"]
    _start_again(daemon, caller)
    assert caller.until_equal() == 420
    assert caller.exact_count("t") == 420
    assert list(daemon.data.glob(f"node-{VICTIM}.set-aside-*"))

    daemon.options = usual
    _start_again(daemon, caller)
    assert caller.until_equal() == 420
    assert caller.cluster()["lost"] == []
    assert daemon.running.stop() in {0, -15}
    assert len({ledger.digest() for ledger in read_ledgers(daemon.data)}) == 1
    caller.close()


def test_a_node_is_repaired_without_a_stop(daemon: Daemon) -> None:
    """
    The steps that `docs/replacing-a-node.md` gives.
    """
    _damage(daemon)
    caller = _start_without_it(daemon)
    # Writes go on, exact counts do not.
    _store(caller, *range(400, 420))
    assert caller.count("t").code == "incomplete"
    others = [each for each in caller.cluster()["nodes"] if each["id"] != VICTIM]
    wait_until(
        lambda: [each["items"] for each in caller.cluster()["nodes"] if each["id"] != VICTIM] == [420] * 3,
        "the same items on all others",
    )
    assert all(each["state"] == "up" for each in others)
    journal = daemon.data / f"node-{VICTIM}"
    journal.rename(journal.with_name(f"node-{VICTIM}.set-aside"))
    assert caller.restart(VICTIM, daemon.data).status == 200
    assert caller.until_equal() == 420
    assert caller.exact_count("t") == 420
    assert caller.cluster()["lost"] == []
    caller.close()


def _refused(daemon: Daemon, *options: str) -> str:
    """
    Start a daemon that refuses to; what it said.
    """
    daemon.options = options
    before = sorted(daemon.data.iterdir())
    said = len(daemon.log.read_text())
    daemon.start()
    assert daemon.running.popen.wait(60) == 1
    text = daemon.running.text()[said:]
    assert "Traceback" not in text
    assert sorted(daemon.data.iterdir()) == before
    return text


def test_the_advice_may_be_followed_for_all_nodes_at_once_and_again(daemon: Daemon) -> None:
    _damage(daemon)
    everything = [f"--rebuild={node}" for node in range(4)]
    assert "would be lost: one of nodes " in _refused(daemon, *everything)
    # While it runs, too.
    daemon.options = []
    caller = _start_without_it(daemon)
    first = daemon.running
    assert f"is used by process {first.pid}" in _refused(daemon, f"--rebuild={VICTIM}")
    caller.close()
    assert first.stop() in {0, -15}

    for _ in range(2):
        daemon.options = [f"--rebuild={VICTIM}"]
        daemon.start()
        daemon.until_ready()
        caller = daemon.caller()
        assert caller.exact_count("t") == 400
        assert caller.cluster()["lost"] == []
        caller.close()
        assert daemon.running.stop() in {0, -15}
    assert "set aside 1 times before: is --rebuild still among the options?" in daemon.running.text()

    # All of it is gone only if that is said, too.
    daemon.options = [*everything, "--accept-data-loss"]
    daemon.start()
    daemon.until_ready()
    caller = daemon.caller()
    assert caller.exact_count("t") == 0
    caller.close()
    assert daemon.running.stop() in {0, -15}
    assert "--accept-data-loss: one of nodes " in daemon.running.text()


def test_the_only_node_is_not_rebuilt_from_nothing(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, ["--nodes=1"])
    try:
        daemon.start()
        daemon.until_ready()
        caller = daemon.caller()
        _store(caller, 1, 2, 3)
        caller.close()
        assert daemon.running.stop() in {0, -15}
        assert "--rebuild 0 is refused because data would be lost: node 0 has at least 1 batch" in (
            _refused(daemon, "--nodes=1", "--rebuild=0")
        )
        for options, count in [(["--nodes=1"], 3), (["--nodes=1", "--rebuild=0", "--accept-data-loss"], 0)]:
            daemon.options = options
            daemon.start()
            daemon.until_ready()
            caller = daemon.caller()
            assert caller.exact_count("t") == count
            caller.close()
            assert daemon.running.stop() in {0, -15}
    finally:
        daemon.close()


def test_a_removed_node_stays_removed(daemon: Daemon) -> None:
    _damage(daemon)
    caller = _start_without_it(daemon)
    up = caller.remove(0, daemon.data)
    assert (up.status, up.code) == (409, "node_is_up")
    assert caller.remove(VICTIM, daemon.data).status == 200
    assert caller.exact_count("t") == 400
    _store(caller, *range(400, 420), ack="all")
    assert caller.exact_count("t") == 420

    # All that is a member still has to be there, and is enough.
    _start_again(daemon, caller)
    assert caller.exact_count("t") == 420
    assert VICTIM not in {each["id"] for each in caller.cluster()["nodes"]}
    assert caller.cluster()["lost"] == []
    caller.close()


class Shared:
    """
    Nodes and coordinators, each a process of its own on this machine.
    """

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        self.directory = directory
        self.ports = Ports()
        self.secret = directory / "secret"
        self.secret.write_text("a secret of at least sixteen bytes")
        self.places = {node: f"tcp:127.0.0.1:{self.ports.nodes[node]}" for node in range(nodes)}
        self.processes: dict[str, Process] = {}

    def start_node(self, node: int) -> None:
        peers = [f"--peer={peer}={place}" for peer, place in self.places.items() if peer != node]
        port = self.ports.nodes[node]
        self._start(
            f"node-{node}",
            *("node", f"--id={node}", f"--data-dir={self.directory / f'node-{node}'}"),
            *(f"--secret-file={self.secret}", f"--listen=tcp:{port}:interface=127.0.0.1", *peers),
        )

    def start_coordinator(self, place: int) -> None:
        joined = [f"--join={each}" for each in self.places.values()]
        http = f"--http=tcp:{self._http(place)}:interface=127.0.0.1"
        self._start(f"coordinator-{place}", f"--secret-file={self.secret}", http, *joined)

    def _start(self, name: str, *arguments: str) -> None:
        self.processes[name] = Process.start(dcounter(*arguments), self.directory / f"{name}.log")

    def _http(self, place: int) -> int:
        return self.ports.http if place == 0 else self.ports.nodes[len(self.places)]

    def caller(self, place: int) -> Caller:
        """
        Of a coordinator that is ready.
        """
        caller = Caller(self._http(place))

        def ready() -> bool:
            try:
                answer = caller.ask("GET", "/readyz")
            except NoAnswer:
                return False
            return answer.status == 200 and answer.content["exact"] is True

        wait_until(ready, f"coordinator {place}")
        return caller

    def close(self) -> None:
        for each in self.processes.values():
            each.kill()
        self.ports.release()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    shared = Shared(tmp_path)
    yield shared
    shared.close()


def test_two_coordinators_over_the_same_nodes(shared: Shared) -> None:
    for node in shared.places:
        shared.start_node(node)
    shared.start_coordinator(0)
    shared.start_coordinator(1)
    one, other = shared.caller(0), shared.caller(1)
    for round_ in range(20):
        first = 100 * round_
        position = _store(one, *range(first, first + 50)).content["position"]
        assert other.count("t", after=position).ok()["counter"] == 100 * round_ + 50
        # Each of the later ones is newer, whoever stored it.
        position = _store(other, *range(first, first + 100), after=position).content["position"]
        assert one.count("t", after=position).ok()["counter"] == 100 * (round_ + 1)
    # What the one was told survives it, and the nodes, too.
    shared.processes.pop("coordinator-0").kill()
    for node in shared.places:
        shared.processes.pop(f"node-{node}").kill()
        shared.start_node(node)
    assert other.exact_count("t") == 2_000
    one.close()
    shared.start_coordinator(0)
    one = shared.caller(0)
    assert one.exact_count("t") == 2_000
    assert not [line for each in shared.processes.values() for line in each.bad_lines()]
    one.close()
    other.close()
