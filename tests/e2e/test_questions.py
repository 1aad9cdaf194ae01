"""
Lists, look-ups and sums of a real daemon with nodes as processes, while others store and a node dies.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from dcounter.client import Answer
from tests.e2e.conftest import CALM
from tests.e2e.harness import Client, Daemon, Json, Ports, eventually, is_open, items, together
from tests.e2e.test_items import SECOND, shown
from tests.e2e.test_secret_rotation import Machines, until_ready

SIZES = {f"fixed/{number:02}": number + 1 for number in range(40)}
"""
Tenants that do not change, and how many items each owns.
"""
OWNED = sum(SIZES.values())
BUSY = range(OWNED, OWNED + 60)
"""
The IDs of items that change their tenants all the time.
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("daemon")

    async def filled() -> Daemon:
        daemon = await Daemon.start(directory, CALM, processes=True)
        daemon.expected += ["killed", "signal"]
        client = daemon.client()
        ids = iter(range(OWNED))
        fixed = [{"ID": next(ids), "tenant": name} for name, size in SIZES.items() for _ in range(size)]
        await client.store([*fixed, *items(BUSY, "busy/first")], ack="majority")
        await client.close()
        return daemon

    shared = pytest_twisted.blockon(Deferred.fromCoroutine(filled()))
    yield shared
    pytest_twisted.blockon(Deferred.fromCoroutine(shared.stop()))


async def ask(client: Client, path: str, **parameters: str) -> Json:
    """
    The answer; as long as there is no exact one, because a node has just died, ask again.
    """

    async def exact() -> Json:
        answer = await client.ask("GET", path, parameters=parameters)
        return None if answer.code == "incomplete" else answer.ok()

    return await eventually(exact, what=f"an exact answer to {path}")


async def pages(client: Client, path: str, **parameters: str) -> AsyncIterator[Json]:
    """
    All pages of a list.
    """
    page: Json = {"cursor": None}
    while "cursor" in page:
        page = await ask(client, path, **parameters, **({"cursor": page["cursor"]} if page["cursor"] else {}))
        yield page


@pytest.mark.parametrize("sort", ["name", "-count"])
@pytest_twisted.ensureDeferred
async def test_a_walk_meets_each_tenant_that_does_not_change_once(
    sort: str, daemon: Daemon, client: Client
) -> None:
    number, met, after = 0, [], ""
    async for page in pages(client, "/tenants", sort=sort, limit="7", **({"after": after} if after else {})):
        met += [(each["tenant"], each["counter"]) for each in page["tenants"]]
        after = page["position"]
        number += 1
        # Whatever others do meanwhile: tenants come, go, grow and shrink.
        for item in BUSY:
            await client.store(items([item], f"busy/{(item * number) % 11:02}"))
        if number == 2:
            cluster = await client.cluster()
            os.kill(cluster["nodes"][cluster["primary"]]["pid"], signal.SIGKILL)
    assert number > 5
    fixed = [each for each in met if each[0] in SIZES]
    by_count = sorted(SIZES.items(), key=lambda each: -each[1])
    assert fixed == (list(SIZES.items()) if sort == "name" else by_count)
    top = await ask(client, "/tenants", sort="-count", prefix="fixed/", limit="3")
    assert [each["counter"] for each in top["tenants"]] == [40, 39, 38]
    await client.until_at_work()


@pytest_twisted.ensureDeferred
async def test_counts_of_many_and_sums(daemon: Daemon, client: Client) -> None:
    counted = (await client.ask("POST", "/counts", json={"tenants": [*SIZES, "nobody"]})).ok()
    assert {each["tenant"]: each["counter"] for each in counted["counts"]} == {**SIZES, "nobody": 0}
    whole = await ask(client, "/counts", prefix="fixed/")
    assert (whole["counter"], whole["tenants"]) == (OWNED, len(SIZES))
    some = await ask(client, "/counts", prefix="fixed/3")
    assert (some["counter"], some["tenants"]) == (sum(range(31, 41)), 10)
    assert (await ask(client, "/tenants/fixed%2F07"))["counter"] == 8
    stored = await client.store(items(daemon.new_ids(5), "fixed-not/1"))
    nothing = await ask(client, "/counts", prefix="fixed-not/", after=stored["position"])
    assert (nothing["counter"], nothing["tenants"]) == (5, 1)


@pytest_twisted.ensureDeferred
async def test_look_ups(daemon: Daemon, client: Client) -> None:
    ids = list(daemon.new_ids(900))
    stamp = shown(time.time_ns() - SECOND)
    await client.store(items(ids, "looked"), lastUpdateDt=stamp)
    await client.ask("POST", "/items/delete", json=ids[::3])
    unknown = list(daemon.new_ids(100))
    found = (await client.ask("POST", "/items/lookup", json=[*unknown, *reversed(ids)])).ok()
    left = [each for each in reversed(ids) if ids.index(each) % 3]
    assert found["items"] == [{"ID": each, "tenant": "looked", "lastUpdateDt": stamp} for each in left]
    assert found["unknown"] == [*unknown, *reversed(ids[::3])]
    one = await ask(client, f"/items/{ids[1]}")
    assert (one["tenant"], one["lastUpdateDt"]) == ("looked", stamp)
    gone = await client.ask("GET", f"/items/{ids[0]}", parameters={"after": found["position"]})
    assert (gone.status, gone.code) == (404, "unknown_item")
    too_many = await client.ask("POST", "/items/lookup", json=[*ids, *unknown, 1])
    assert (too_many.status, too_many.code) == (413, "too_many_items")


@pytest_twisted.ensureDeferred
async def test_the_items_of_a_tenant_and_statistics(daemon: Daemon, client: Client) -> None:
    before = await ask(client, "/stats")
    ids = list(daemon.new_ids(2_500))
    # Negative ones, too, and in no order.
    mine = [each if each % 2 else -each for each in ids]
    await client.store(items(reversed(mine), "owner"))
    listed = [
        item async for page in pages(client, "/tenants/owner/items", limit="999") for item in page["IDs"]
    ]
    assert listed == sorted(mine)
    await client.ask("POST", "/items/delete", json=mine[:500])
    after = await ask(client, "/stats")
    assert after["items"] - before["items"] == 2_000
    assert after["tenants"] - before["tenants"] == 1
    assert after["tombstones"] - before["tombstones"] == 500
    assert 0 < after["memory_bytes"] < after["memory_bytes_of_ten"]
    assert after["disk_bytes"] > 0


@pytest_twisted.ensureDeferred
async def test_valid_items_are_stored_although_others_are_not(daemon: Daemon, client: Client) -> None:
    first, second, third = daemon.new_ids(3)
    body = [*items([first], "in-part"), {"ID": second, "tenant": None}, *items([third], "in-part")]
    refused = await client.post(body)
    assert (refused.status, refused.code) == (422, "invalid_item")
    assert await client.count("in-part") == 0
    answer = await client.post(body, partial="1", receipt="1")
    assert answer.status == 207
    assert (answer.content["status"], answer.content["items"], answer.content["invalid"]) == ("PARTIAL", 2, 1)
    assert [each["index"] for each in answer.content["errors"]] == [1]
    assert (answer.content["receipts"], answer.content["counts"]) == (["created", "created"], {"in-part": 2})
    assert await client.count_now("in-part") == 2


@pytest_twisted.ensureDeferred
async def test_a_key_for_retries_is_refused_and_the_stamp_named_instead(
    daemon: Daemon, client: Client
) -> None:
    [item] = daemon.new_ids(1)
    for method, path, body in (
        ("POST", "/items", items([item], "keys")),
        ("POST", "/items/delete", [item]),
        ("DELETE", f"/items/{item}", None),
        ("DELETE", "/tenants/keys", None),
    ):
        answer = await client.ask(method, path, json=body, headers={"Idempotency-Key": "1"})
        assert (answer.status, answer.code) == (400, "no_idempotency_key")
        assert "lastUpdateDt" in answer.content["detail"]
    assert await client.count_now("keys") == 0


@pytest_twisted.ensureDeferred
async def test_while_a_member_is_not_heard_of_nothing_is_exact(tmp_path: Path, ports: Ports) -> None:
    machines = Machines(tmp_path, ports)
    for node in machines.NODES:
        machines.start_node(node)
    machines.start_coordinator()
    client = Client(ports.http)
    questions: list[tuple[str, str, Json]] = [
        *(
            ("GET", path, None)
            for path in ("/items/1", "/counts", "/tenants", "/tenants/a", "/tenants/a/items")
        ),
        *(("GET", path, None) for path in ("/stats", "/items/a/count")),
        *(("POST", "/items/lookup", [1]), ("POST", "/counts", {"tenants": ["a"]})),
    ]

    async def answers(consistency: str) -> list[Answer]:
        parameters = {"consistency": consistency}
        return await together(
            client.ask(method, path, json=body, parameters=parameters) for method, path, body in questions
        )

    try:
        await until_ready(client, ports.http)
        await client.store(items(range(3), "a"), ack="all")
        assert {each.status for each in await answers("exact")} == {200}
        # The node may have been the only one that had some write: a coordinator that starts cannot know.
        await machines.kill("2")
        await machines.kill("c")
        machines.start_coordinator()

        async def listens() -> bool:
            return is_open(ports.http) and (await client.ask("GET", "/readyz")).status == 200

        await eventually(listens, what="a coordinator that is ready without node 2")
        for each in await answers("exact"):
            assert (each.status, each.code, each.content["missing"]) == (503, "incomplete", [2])
        for each in await answers("available"):
            assert (each.status, each.content["complete"], each.content["missing"]) == (200, False, [2])
        for each in await answers("eventual"):
            assert (each.status, "complete" in each.content) == (200, False)
        machines.start_node(2)
        await client.until_equal(3)
        assert {each.status for each in await answers("exact")} == {200}
    finally:
        await client.close()
        print(*await machines.stop(), sep="\n")  # noqa: T201 - shown if the test fails
