"""
Deletions over HTTP, in the same stream as other updates, and requests that are repeated.
"""

import time
from pathlib import Path

import pytest
import pytest_twisted

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon, eventually, items
from tests.e2e.test_items import SECOND, shown


@pytest_twisted.ensureDeferred
async def test_three_ways_to_delete(daemon: Daemon, client: Client) -> None:
    ids = list(daemon.new_ids(10))
    await client.store(items(ids, "ways"))
    await client.store([{"ID": ids[0], "deleted": True}, {"ID": ids[1], "tenant": "ways-moved"}])
    deleted = (await client.ask("POST", "/items/delete", json=ids[2:5], parameters={"ack": "all"})).ok()
    assert (deleted["items"], deleted["ack"]) == (3, "all")
    assert (await client.ask("DELETE", f"/items/{ids[5]}")).ok()["items"] == 1
    assert await client.counts(["ways", "ways-moved"]) == {"ways": 4, "ways-moved": 1}
    # What is not there can be deleted too.
    assert (await client.ask("DELETE", f"/items/{ids[5]}")).status == 200
    await client.store(items(ids[:6], "ways-back"))
    assert await client.counts(["ways", "ways-back"]) == {"ways": 4, "ways-back": 6}


@pytest_twisted.ensureDeferred
async def test_the_newest_wins_whatever_it_is(daemon: Daemon, client: Client) -> None:
    old, middle, new = (shown(time.time_ns() - age * SECOND) for age in (3, 2, 1))
    first, second = daemon.new_ids(2)
    await client.store(items([first, second], "newest", lastUpdateDt=middle))
    await client.store([{"ID": first, "deleted": True, "lastUpdateDt": old}])
    await client.store([{"ID": second, "deleted": True, "lastUpdateDt": new}])
    await client.store(items([second], "newest", lastUpdateDt=middle))
    assert await client.count("newest") == 1
    # At the same time, any tenant wins over a deletion.
    await client.store(items([second], "newest", lastUpdateDt=new))
    await client.store([{"ID": second, "deleted": True, "lastUpdateDt": new}])
    assert await client.count("newest") == 2


@pytest.mark.parametrize("more", [{}, {"tenant": None}, {"deleted": False}])
@pytest_twisted.ensureDeferred
async def test_a_missing_tenant_deletes_nothing(
    more: dict[str, object], daemon: Daemon, client: Client
) -> None:
    [item] = daemon.new_ids(1)
    await client.store(items([item], "kept"))
    before = await client.count("kept")
    answer = await client.post([{"ID": item, **more}])
    assert (answer.status, answer.code) == (422, "invalid_item")
    assert await client.count("kept") == before


@pytest_twisted.ensureDeferred
async def test_a_request_may_be_repeated_as_often_as_one_likes(daemon: Daemon, client: Client) -> None:
    first, second, third = daemon.new_ids(3)
    stamp = shown(time.time_ns())
    # Tenants in falling order: the rule for equal stamps, the larger name, must not help.
    request = [
        *items([first, second], "repeat-z"),
        *items([second], "repeat-a"),
        {"ID": third, "deleted": True},
    ]
    await client.store(items([third], "repeat-z"), lastUpdateDt=shown(time.time_ns() - SECOND))
    for _ in range(3):
        await client.store(request, lastUpdateDt=stamp)
        assert await client.counts(["repeat-z", "repeat-a"]) == {"repeat-z": 1, "repeat-a": 1}
    await client.store(items([first], "repeat-new"))
    await client.store(request, lastUpdateDt=stamp)
    assert await client.counts(["repeat-z", "repeat-a", "repeat-new"]) == {"repeat-a": 1, "repeat-new": 1}


@pytest_twisted.ensureDeferred
async def test_what_is_deleted_stays_so_on_every_node(tmp_path: Path, start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(f"--data-dir={tmp_path / 'data'}")
    client = daemon.client()
    await client.store(items(range(100), "gone"), ack="all")
    await client.ask("POST", "/items/delete", json=[*range(40)], parameters={"ack": "all"})
    for node in range(4):
        await client.restart(node)

        async def back() -> bool:
            nodes = await client.nodes()
            return all(each["state"] == "up" and not each["refuses"] for each in nodes)

        await eventually(back, what=f"node {node} back at work")
    await client.until_equal(60)
    old = shown(time.time_ns() - 3600 * SECOND)
    await client.store(items(range(100), "old"), lastUpdateDt=old, ack="all")
    assert await client.counts(["gone", "old"]) == {"gone": 60}
    await client.close()
