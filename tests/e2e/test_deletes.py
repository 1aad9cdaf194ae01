"""
Deletions over HTTP, in the same stream as other updates, and requests that are repeated.
"""

import time

import pytest
import pytest_twisted

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon, items, together
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
async def test_receipts_say_what_changed(daemon: Daemon, client: Client) -> None:
    ids = list(daemon.new_ids(8))
    # Slices of it are at all nodes; the one that gives the receipt has them all.
    await client.store(items(ids, "receipt"))
    told = await client.store(
        [
            *items(ids[:2], "receipt-moved"),
            *items(ids[2:3], "receipt"),
            *items(ids[3:4], "late", lastUpdateDt=shown(time.time_ns() - 60 * SECOND)),
            {"ID": ids[4], "deleted": True},
            {"ID": ids[4], "deleted": True},
        ],
        receipt="1",
    )
    assert told["receipts"] == ["moved", "moved", "unchanged", "stale", "stale", "deleted"]
    assert told["counts"] == {"receipt": 5, "receipt-moved": 2, "late": 0}
    assert "complete" not in told
    # Whatever comes later includes it.
    assert await client.count_now("receipt") == 5


@pytest_twisted.ensureDeferred
async def test_twenty_callers_at_once_and_each_receipt_counts_its_own_item(
    daemon: Daemon, client: Client
) -> None:
    ids = list(daemon.new_ids(20))
    told = await together(client.store(items([each], "at-once"), receipt="1") for each in ids)
    assert all(each["receipts"] == ["created"] for each in told)
    # One node has decided about all, one after the other.
    assert sorted(each["counts"]["at-once"] for each in told) == [*range(1, 21)]


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
async def test_what_is_deleted_stays_so_on_every_node(start_daemon: StartDaemon) -> None:
    # Nodes in memory start empty, and get copies of the others.
    daemon = await start_daemon()
    client = daemon.client()
    await client.store(items(range(100), "gone"), ack="all")
    await client.ask("POST", "/items/delete", json=[*range(40)], parameters={"ack": "all"})
    for node in range(4):
        await client.restart(node)
        await client.until_equal(60)
    old = shown(time.time_ns() - 3600 * SECOND)
    await client.store(items(range(100), "old"), lastUpdateDt=old, ack="all")
    assert await client.counts(["gone", "old"]) == {"gone": 60}
    await client.close()
