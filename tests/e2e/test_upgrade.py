"""
From the previous release to this version: node by node under load, back again, and on an old data directory.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from dcounter.client import Unreachable
from dcounter.journal.framing import header
from tests.e2e.conftest import CALM
from tests.e2e.harness import Client, Ports, Twistd, eventually, is_open, items, together
from tests.support.logs import bad_lines
from tests.support.previous import previous_release

ROOT = Path(__file__).parents[2]
NODES = range(3)
_EXPECTED = "cannot start: its journal was written by a newer version of dcounter"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The source of the previous release.
    """
    return previous_release(ROOT, tmp_path_factory.mktemp("previous"))


Start = Callable[..., Twistd]
"""
Starts `twistd` with these arguments, of this version or, as `release`, of another one.
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """
    What it starts is there no more when the test is over, and has logged no bug.
    """
    started: list[Twistd] = []

    def start(*arguments: str, release: Path | None = None) -> Twistd:
        started.append(Twistd(["-n", "--pidfile=", "dcounter", *arguments], tmp_path, release=release))
        return started[-1]

    yield start
    for process in started:
        if process.running:
            process.send_signal(signal.SIGKILL)
            pytest_twisted.blockon(Deferred.fromCoroutine(process.end()))
    assert [line for each in started for line in bad_lines(each.output, [_EXPECTED])] == []


async def stop(process: Twistd, *, old: bool) -> None:
    """
    Stop a process in order; its last word tells which version it was.
    """
    process.send_signal(signal.SIGTERM)
    ended = await process.end()
    assert (ended.code, ended.signal) in {(0, None), (None, signal.SIGTERM)}, ended
    last = "[dcounter.process#info] stopped" if old else " info  stopped"
    assert ended.output.rstrip().endswith(last), ended.output


class Machines:
    """
    Nodes and coordinators that run by themselves, each of this version or of the previous one.

    :param http: for the second coordinator.
    """

    def __init__(self, directory: Path, start: Start, ports: Ports, http: Ports, previous: Path) -> None:
        self._directory = directory
        self._twistd = start
        self._addresses = [f"tcp:{port}:interface=127.0.0.1" for port in ports.nodes[: len(NODES)]]
        self._peers = [f"tcp:127.0.0.1:{port}" for port in ports.nodes[: len(NODES)]]
        self._http = {"old": ports.http, "new": http.http}
        self._previous = previous
        self._secret = directory / "secret"
        self._secret.write_text("a secret of at least sixteen bytes")
        # Node -> its process, and whether that is of the previous release.
        self._nodes: dict[int, tuple[Twistd, bool]] = {}

    def _start(self, *arguments: str, old: bool) -> Twistd:
        release = self._previous if old else None
        return self._twistd(*arguments, f"--secret-file={self._secret}", CALM, release=release)

    def start_node(self, node: int, *, old: bool) -> None:
        process = self._start(
            *("node", f"--id={node}", f"--data-dir={self._directory / f'node-{node}'}"),
            f"--listen={self._addresses[node]}",
            *(f"--peer={peer}={self._peers[peer]}" for peer in NODES if peer != node),
            old=old,
        )
        self._nodes[node] = process, old

    async def start_coordinator(self, *, old: bool) -> tuple[Twistd, Client]:
        """
        Start a coordinator, and wait until it counts exactly.
        """
        port = self._http["old" if old else "new"]
        process = self._start(
            f"--http=tcp:{port}:interface=127.0.0.1", *(f"--join={peer}" for peer in self._peers), old=old
        )
        client = Client(port)

        async def ready() -> bool:
            assert process.running, process.output
            answer = await client.ask("GET", "/readyz") if is_open(port) else None
            return answer is not None and answer.status == 200 and answer.content["exact"] is True

        await eventually(ready, what="a ready coordinator")
        return process, client

    async def replace(self, node: int, *, old: bool) -> None:
        """
        Stop a node in order, and start it again on what it kept, as another version.
        """
        process, was_old = self._nodes[node]
        await stop(process, old=was_old)
        self.start_node(node, old=old)


@pytest.fixture
def machines(start: Start, tmp_path: Path, ports: Ports, previous: Path) -> Iterator[Machines]:
    http = Ports()
    yield Machines(tmp_path, start, ports, http, previous)
    http.release()


class Load:
    """
    A caller who stores at one coordinator and another in turn, and asks both for the exact number each time.

    :ivar stored: items that were acknowledged.
    """

    def __init__(self, *clients: Client) -> None:
        self.clients = list(clients)
        self.stored = 0
        self.rounds = 0
        self._stopped = False
        self._running = Deferred.fromCoroutine(self._go())

    async def _go(self) -> None:
        while not self._stopped:
            client = self.clients[self.rounds % len(self.clients)]
            # Alone, and enough for a batch that is packed.
            more = items(range(self.stored, self.stored + (1 if self.rounds % 2 else 200)), "load")
            position = await self._store(client, more)
            self.stored += len(more)
            for each in self.clients:
                assert await self._count(each, position) == self.stored
            self.rounds += 1

    async def _store(self, client: Client, more: list[dict[str, object]]) -> str:
        async def stored() -> str | None:
            with suppress(Unreachable):
                answer = await client.post(more)
                assert answer.status in {200, 503, 504}, answer
                return str(answer.content["position"]) if answer.status == 200 else None
            return None

        answer = await eventually(stored, what="a store")
        assert answer is not None
        return answer

    async def _count(self, client: Client, position: str) -> int:
        async def counted() -> list[int]:
            answer = await client.ask_count("load", after=position)
            assert answer.status in {200, 503}, answer
            return [answer.content["counter"]] if answer.status == 200 else []

        return (await eventually(counted, what="an exact count"))[0]

    async def go_on(self, rounds: int = 4) -> None:
        goal = self.rounds + rounds

        async def reached() -> bool:
            if self._running.called:
                await self._running
            return self.rounds >= goal

        await eventually(reached, what=f"{rounds} more rounds")

    async def stop(self) -> None:
        self._stopped = True
        await self._running


async def _item(client: Client) -> dict[str, object]:
    """
    The first item; nothing while no new node has all that is required.
    """
    answer = await client.ask("GET", "/items/0")
    assert answer.status in {200, 501, 503}, answer
    return answer.content if answer.status == 200 else {}


@pytest_twisted.ensureDeferred
async def test_node_by_node_under_load_and_back(machines: Machines) -> None:
    for node in NODES:
        machines.start_node(node, old=True)
    # An old coordinator and a new one, both of them with old nodes and with new ones.
    (first, old), (_, new) = await together(machines.start_coordinator(old=each) for each in (True, False))
    load = Load(old, new)
    await load.go_on()
    # What no old node knows is refused; the first new one is asked.
    refused = await new.ask("GET", "/items/0")
    assert (refused.status, refused.code) == (501, "not_supported_here")
    for node in NODES:
        await machines.replace(node, old=False)
        await new.until_at_work()
        await load.go_on()
        looked = await eventually(partial(_item, new), what="an item that a new node shows")
        assert looked["tenant"] == "load"
    # It was too early for one of them: it goes back, to what the new version wrote.
    await machines.replace(2, old=True)
    await new.until_at_work()
    await load.go_on()
    await machines.replace(2, old=False)
    await new.until_at_work()
    await load.go_on()
    load.clients.remove(old)
    await load.go_on()
    await load.stop()
    await old.close()
    await stop(first, old=True)
    await new.until_equal(load.stored)
    assert await new.count_now("load") == load.stored
    await new.close()


@pytest_twisted.ensureDeferred
async def test_old_nodes_delete_and_a_new_one_gives_receipts(machines: Machines) -> None:
    for node in NODES:
        machines.start_node(node, old=True)
    coordinator, client = await machines.start_coordinator(old=False)
    await client.store(items(range(300), "t"), ack="all")
    # Few and many: a plain batch, and packed ones.
    for ids in ([0, 1], [*range(2, 200)]):
        await client.ask("POST", "/items/delete", json=ids, parameters={"ack": "all"})
    assert await client.count("t") == 100
    answer = await client.post(items([0], "u"), receipt="1")
    assert (answer.status, answer.code) == (501, "not_supported_here")
    assert await client.count("u") == 0
    await machines.replace(1, old=False)
    await client.until_at_work()
    told = await client.store(items([0, 299], "u"), receipt="1")
    assert (told["receipts"], told["counts"]) == (["created", "moved"], {"t": 99, "u": 2})
    # What was deleted under the old release stays so, and is known to all.
    await client.until_equal(101)
    assert await client.count("t") == 99
    await client.close()
    await stop(coordinator, old=False)


class Installed:
    """
    A daemon with its own nodes, two of them.

    :ivar token: the file with the operator's token.
    """

    def __init__(
        self, directory: Path, start: Start, ports: Ports, *options: str, release: Path | None
    ) -> None:
        self.token = directory / "token"
        self._port = ports.http
        self._old = release is not None
        self._process = start(
            *("--nodes=2", CALM, *options),
            *(f"--data-dir={directory / 'data'}", f"--operator-token-file={self.token}"),
            *(f"--http=tcp:{self._port}:interface=127.0.0.1", f"--node-port={ports.nodes[0]}"),
            release=release,
        )

    async def client(self) -> Client:
        client = Client(self._port, self.token)

        async def ready() -> bool:
            assert self._process.running, self._process.output
            return is_open(self._port) and (await client.ask("GET", "/readyz")).status == 200

        await eventually(ready, what="a ready daemon")
        return client

    async def stop(self) -> None:
        await stop(self._process, old=self._old)


@pytest_twisted.ensureDeferred
async def test_an_old_data_directory_is_read(
    tmp_path: Path, start: Start, ports: Ports, previous: Path
) -> None:
    stored = 0
    for release in (previous, None):
        daemon = Installed(tmp_path, start, ports, "--inline", release=release)
        client = await daemon.client()
        assert await client.count("t") == stored
        for size in (1, 300):
            await client.store(items(range(stored, stored + size), "t"), ack="all")
            stored += size
        await client.close()
        await daemon.stop()


@pytest_twisted.ensureDeferred
async def test_a_node_of_a_running_daemon_starts_again_as_what_was_installed_meanwhile(
    tmp_path: Path, start: Start, ports: Ports, previous: Path
) -> None:
    installed = tmp_path / "installed"
    installed.symlink_to(previous)
    daemon = Installed(tmp_path, start, ports, release=installed)
    client = await daemon.client()
    await client.store(items(range(5), "t"), ack="all")
    installed.unlink()
    installed.symlink_to(ROOT)
    before = await client.nodes()
    await client.restart(1)
    await client.until_at_work()
    await client.store(items(range(5, 10), "t"), ack="all")
    assert await client.count("t") == 10
    after = await client.until_equal(10)
    assert [now["pid"] == then["pid"] for now, then in zip(after, before, strict=True)] == [True, False]
    await client.close()
    await daemon.stop()


@pytest_twisted.ensureDeferred
async def test_a_release_that_cannot_read_what_is_there_says_so_and_leaves_it(
    tmp_path: Path, start: Start, ports: Ports, previous: Path
) -> None:
    (tmp_path / "secret").write_text("a secret of at least sixteen bytes")
    data = tmp_path / "data"
    command = ["node", "--id=0", f"--secret-file={tmp_path / 'secret'}", f"--data-dir={data}"]
    command += [f"--listen=tcp:{ports.nodes[0]}:interface=127.0.0.1"]

    async def listens() -> bool:
        return is_open(ports.nodes[0])

    first = start(*command)
    await eventually(listens, what="a node that listens")
    await stop(first, old=False)
    # As a later version would begin a segment.
    segment = data / "000000000777.journal"
    segment.write_bytes(header(2))
    for release in (previous, None):
        ended = await start(*command, release=release).end()
        assert _EXPECTED in ended.output
        assert "start it with that version or a newer one" in ended.output
        assert "--rebuild" not in ended.output
        assert segment.read_bytes() == header(2)


def test_the_copy_of_the_previous_release_is_that_commit(tmp_path: Path) -> None:
    # Without a history there is only the copy.
    copied = previous_release(tmp_path, tmp_path / "copied")
    assert _contents(copied) == _contents(previous_release(ROOT, tmp_path / "made"))


def _contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
