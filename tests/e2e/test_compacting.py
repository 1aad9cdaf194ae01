"""
Forgetting old deletions, through a real daemon with nodes as processes.
"""

import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted

from dcounter.stamps import show_stamp
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, eventually, items
from tests.e2e.test_items import SECOND
from tests.e2e.test_loads import caller


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


async def _deletions(number: int, stamp: int) -> AsyncIterator[dict[str, Any]]:
    when = show_stamp(stamp)
    for item in range(number):
        yield {"ID": item, "deleted": True, "lastUpdateDt": when}


@pytest_twisted.ensureDeferred
async def test_if_there_are_many_they_are_forgotten_without_being_asked(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon("--compact-age=60", "--compact-share=0.5", processes=True)
    client, loader = daemon.client(), caller(daemon)
    # They come before they are as old as that: otherwise they would put it off for another minute.
    old = time.time_ns() - 40 * SECOND
    loaded = await loader.load(_deletions(101_000, old), ack="all")
    assert loaded.items == 101_000
    before = (await client.ask("GET", "/stats")).ok()
    assert before["tombstones"] == 101_000
    await client.store(items(range(200_000, 200_100), "kept"), ack="all")

    async def forgotten() -> bool:
        return all(node["tombstones"] == 0 and node["compacted"] for node in await client.nodes())

    await eventually(forgotten, what="nodes without tombstones", within=150)
    await daemon.until_logged(r"100% of the IDs are deleted ones: deletions up to .* are forgotten")
    await daemon.until_logged("dropped 101000 tombstones", times=4)
    assert await client.count("kept") == 100
    after = (await client.ask("GET", "/stats")).ok()
    assert after["memory_bytes"] < before["memory_bytes"] / 4
    late = await client.post(items([1], "back", lastUpdateDt=show_stamp(old)))
    assert (late.status, late.code) == (409, "stamp_too_old")
    await client.close()
    await loader.close()
