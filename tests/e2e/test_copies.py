"""
A copy of a data directory, started beside the original on the same range of ports.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest_twisted

from tests.e2e.harness import Client, Ports, Twistd, eventually, is_open, items
from tests.faults.processes import children


async def _start(directory: Path, http: int, node_port: int) -> tuple[Twistd, Client]:
    """
    A daemon with three nodes as processes, once it counts exactly.
    """
    listen = f"--http=tcp:{http}:interface=127.0.0.1"
    process = Twistd(
        [
            *("-n", "--pidfile=", "dcounter", "--nodes=3", "--suspicion=5", listen),
            f"--node-port={node_port}",
            f"--data-dir={directory}",
        ],
        directory.parent,
    )
    client = Client(http)

    async def ready() -> bool:
        assert process.running, process.output
        if not is_open(http):
            return False
        answer = await client.ask("GET", "/readyz")
        return answer.status == 200 and answer.content["exact"] is True

    await eventually(ready, what="a ready daemon")
    return process, client


async def _stop(process: Twistd, client: Client) -> str:
    await client.close()
    process.send_signal(signal.SIGTERM)
    return (await process.end()).output


async def _kill_a_node(process: Twistd, client: Client, node: int) -> None:
    """
    A node is killed, started again by its daemon, and found by all others.
    """
    before = (await client.nodes())[node]["pid"]
    os.kill(children(process.pid)[node], signal.SIGKILL)

    async def back() -> bool:
        there = (await client.nodes())[node]
        return bool(there["state"] == "up" and there["pid"] != before)

    await eventually(back, what=f"node {node}, again")


@pytest_twisted.ensureDeferred
async def test_a_copy_beside_the_original_leaves_it_alone(tmp_path: Path, ports: Ports) -> None:
    more = Ports()
    original, copied = tmp_path / "original", tmp_path / "copied"
    process, client = await _start(original, ports.http, ports.nodes[0])
    await client.store(items(range(110), "ours"), ack="all")
    await _stop(process, client)
    shutil.copytree(original, copied)

    process, client = await _start(original, ports.http, ports.nodes[0])
    try:
        # The copy's coordinator begins to look where the original's nodes are.
        other, copy = await _start(copied, more.http, ports.nodes[0])
        try:
            assert await copy.count("ours") == 110
            await copy.store(items(range(9), "foreign"), ack="all")
            for node in range(3):
                await _kill_a_node(process, client, node)
                await _kill_a_node(other, copy, node)
                await copy.store(items(range(9), "foreign"), ack="all")
                await client.store(items(range(100, 110), "ours"), ack="all")
            assert await client.counts(["ours", "foreign"]) == {"ours": 110}
            assert await copy.counts(["ours", "foreign"]) == {"ours": 101, "foreign": 9}
            pids = [{each["pid"] for each in await one.nodes()} for one in (client, copy)]
            assert pids == [set(children(one.pid).values()) for one in (process, other)]
        finally:
            log = await _stop(other, copy)
        assert "Traceback" not in log
        await client.store(items(range(110, 120), "ours"), ack="all")
        assert await client.count("ours") == 120
    finally:
        await _stop(process, client)
        more.release()
