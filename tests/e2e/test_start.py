"""
What the original promised of the start (S1, S2), and how the daemon starts and stops.
"""

import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import pytest_twisted

from dcounter import __version__
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Ended, Ports, Raw, Twistd, is_open, items, occupy, port_of
from tests.e2e.sockets import sockets_of


async def run(directory: Path, *arguments: str) -> Ended:
    return await Twistd(["-n", "--pidfile=", "dcounter", *arguments], directory).end()


def logged_ports(log: str) -> dict[int, int]:
    return {int(node): int(port) for node, port in re.findall(r"node (\d+) listens on port (\d+)", log)}


@pytest.mark.parametrize("taken", [[0], [1], [0, 2], [0, 1, 2, 3], [3, 4, 5]])
@pytest_twisted.ensureDeferred
async def test_s01_busy_ports_are_passed_over(
    taken: Sequence[int], start_daemon: StartDaemon, ports: Ports
) -> None:
    busy = [ports.nodes[each] for each in taken]
    others = [occupy(port) for port in busy]
    try:
        # Whoever listens there says nothing: after a suspicion time-out that is not taken for a node.
        daemon = await start_daemon("--suspicion=1", ports=ports)
        client = daemon.client()
        nodes = await client.nodes()
        chosen = {each["id"]: port_of(each) for each in nodes}
        assert [each["state"] for each in nodes] == ["up"] * 4
        assert len(set(chosen.values())) == 4
        assert set(chosen.values()) <= set(ports.nodes)
        assert not set(chosen.values()) & set(busy)
        assert all(is_open(port) for port in chosen.values())
        await daemon.until_logged("listens on port", times=4)
        assert logged_ports(daemon.log) == chosen
        await client.store(items(range(20), "s01"))
        assert await client.count("s01") == 20
        await client.close()
    finally:
        for each in others:
            each.close()


@pytest_twisted.ensureDeferred
async def test_s02_every_node_listens_and_node_0_is_the_primary(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    cluster = await client.cluster()
    assert cluster["primary"] == 0
    assert [each["role"] for each in cluster["nodes"]] == ["primary", "backup", "backup", "backup"]
    assert [port_of(each) for each in cluster["nodes"]] == list(daemon.ports.nodes[:4])
    assert {each["pid"] for each in cluster["nodes"]} == {daemon.pid}
    for each in cluster["nodes"]:
        connection = await Raw.connect(port_of(each))
        await connection.abort()
    await client.close()


@pytest.mark.parametrize("nodes", [1, 2, 7])
@pytest_twisted.ensureDeferred
async def test_s02_any_number_of_nodes(nodes: int, start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(f"--nodes={nodes}")
    client = daemon.client()
    assert len(await client.nodes()) == nodes
    await client.store(items(range(50), "s02"), ack="all")
    assert await client.count("s02") == 50
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_busy_http_port_ends_the_daemon(tmp_path: Path, ports: Ports) -> None:
    with occupy(ports.http):
        ended = await run(
            tmp_path,
            "--in-memory",
            f"--http=tcp:{ports.http}:interface=127.0.0.1",
            f"--node-port={ports.nodes[0]}",
        )
    assert ended.code == 1
    last = ended.output.rstrip().splitlines()[-1]
    assert f"127.0.0.1:{ports.http}" in last
    assert "in use" in last
    assert not any(is_open(port) for port in ports.nodes)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--ack=foo"], "--ack must be one of node, primary, majority, all, not 'foo'"),
        (["--consistency=maybe"], "--consistency must be one of exact, available, eventual, not 'maybe'"),
        (["--nodes=0"], "--nodes must be an integer from 1 to 16"),
        (["--nodes=17"], "--nodes must be an integer from 1 to 16"),
        (["--nodes=four"], "--nodes must be an integer from 1 to 16, not 'four'"),
        (["--node-port=65535"], "--node-port: 65535 is too high for 4 nodes"),
        (["--http=nonsense"], "--http: 'nonsense' is not an endpoint"),
        (["--suspicion=0"], "--suspicion must be 0.1 to 3600 seconds"),
        (["--max-body=12"], "--max-body must be an integer >= 1024"),
        (["--colour=red"], "option --colour not recognized"),
        (["stray"], "Unknown command: stray"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_options_are_refused_with_the_usage(
    options: Sequence[str], complaint: str, tmp_path: Path
) -> None:
    ended = await run(tmp_path, "--in-memory", *options)
    assert ended.code == 1
    assert "Usage: twistd [options]" in ended.output
    assert "--node-port=" in ended.output
    assert complaint in ended.output.splitlines()[-1]
    assert "Traceback" not in ended.output


@pytest_twisted.ensureDeferred
async def test_help_lists_every_option(tmp_path: Path) -> None:
    ended = await run(tmp_path, "--help")
    assert ended.code == 0
    for option in (
        "http=",
        "nodes=",
        "node-port=",
        "data-dir=",
        "in-memory",
        "max-body=",
        "max-tenant=",
        "ack=",
        "consistency=",
        "suspicion=",
        "inline",
        "version",
        "help",
    ):
        assert f"--{option} " in ended.output


@pytest_twisted.ensureDeferred
async def test_version_is_that_of_dcounter(tmp_path: Path) -> None:
    ended = await run(tmp_path, "--version")
    assert (ended.code, ended.output) == (0, f"dcounter {__version__}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest_twisted.ensureDeferred
async def test_a_signal_ends_the_daemon_and_nothing_listens_any_more(
    number: signal.Signals, start_daemon: StartDaemon
) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    await client.store(items(range(1000), "stored"))
    stalled = [await Raw.connect(port) for port in (daemon.ports.http, daemon.ports.nodes[0])]
    listening = [each.port for each in sockets_of(daemon.pid) if each.listening]
    assert len(listening) == 5
    await client.close()
    daemon.process.send_signal(number)
    ended = await daemon.process.end(within=5)
    # After a clean shutdown twistd dies of the very signal, as systemd and shells expect it to.
    assert (ended.code, ended.signal) in {(0, None), (None, number)}
    assert ended.output.rstrip().endswith("stopped")
    assert daemon.bad_lines() == []
    assert not any(is_open(port) for port in listening)
    for each in stalled:
        await each.until_closed()
    daemon.ports.release()
