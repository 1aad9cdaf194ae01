"""
Forgetting old deletions, through a real daemon with nodes as processes.
"""

import os
import signal
import time

import pytest_twisted

from dcounter.stamps import show_stamp
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, eventually, items
from tests.e2e.test_items import SECOND


async def _until_forgotten(client: Client) -> None:
    async def forgotten() -> bool:
        nodes = await client.nodes()
        return all(node["state"] == "up" and node["tombstones"] == 0 for node in nodes)

    await eventually(forgotten, what="nodes without tombstones", within=60)


@pytest_twisted.ensureDeferred
async def test_old_deletions_are_forgotten_and_older_items_refused(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    daemon.expected += ["killed", "signal"]
    client = daemon.client()
    old = time.time_ns() - 60 * SECOND
    await client.store(items(range(2_000), "kept", lastUpdateDt=show_stamp(old)), ack="all")
    deleted = [{"ID": item, "deleted": True} for item in range(1_500)]
    await client.store(deleted, lastUpdateDt=show_stamp(old + SECOND), ack="all")
    await client.until_equal(500)
    assert {node["tombstones"] for node in await client.nodes()} == {1_500}
    before = show_stamp(old + 2 * SECOND)
    answer = await client.operate("/compact", {"before": before})
    assert answer == {"status": "OK", "before": before}
    await _until_forgotten(client)
    assert await client.count("kept") == 500
    assert (await client.ask("GET", "/stats")).ok()["tombstones"] == 0
    late = await client.post(items([1], "back", lastUpdateDt=show_stamp(old)))
    assert (late.status, late.code) == (409, "stamp_too_old")
    # All of it is on the disks.
    for node in await client.nodes():
        os.kill(node["pid"], signal.SIGKILL)
    await client.until_equal(500)
    await _until_forgotten(client)
    assert await client.count("kept") == 500
    late = await client.post(items([1], "back", lastUpdateDt=show_stamp(old)))
    assert (late.status, late.code) == (409, "stamp_too_old")
    await client.close()
