"""
What the original promised of storing and counting (S3 to S6 and S9 to S11), over HTTP.
"""

import json
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_twisted

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon, Json, Raw, eventually, items, together
from tests.e2e.sockets import listener

SECOND = 1_000_000_000


def shown(stamp: int) -> str:
    """
    A stamp (ns since 1970) as RFC 3339 with 9 digits.
    """
    seconds, nanoseconds = divmod(stamp, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"


class Model:
    """
    What the counts must be, computed plainly.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[int, bytes]] = {}

    def put(self, item: int, stamp: int, tenant: str) -> None:
        entry = (stamp, tenant.encode())
        self._entries[item] = max(entry, self._entries.get(item, entry))

    def counts(self) -> dict[str, int]:
        return dict(Counter(tenant.decode() for _, tenant in self._entries.values()))


async def taken(client: Client) -> list[int]:
    return [each["items_taken"] for each in await client.nodes()]


async def until_taken(client: Client, total: int) -> list[int]:
    """
    What each node took, once their reports add up.
    """

    async def all_of_it() -> list[int]:
        now = await taken(client)
        return now if sum(now) >= total else []

    return await eventually(all_of_it, what=f"reports of {total} items taken")


@pytest_twisted.ensureDeferred
async def test_s03_readme_of_the_original(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    await client.store([{"ID": 1, "tenant": "hello"}, {"ID": 2, "tenant": "publicsonar"}])
    assert await client.count_now("hello") == 1
    assert await client.count_now("publicsonar") == 1
    await client.store([{"ID": 1, "tenant": "publicsonar"}])
    assert await client.count_now("hello") == 0
    assert await client.count_now("publicsonar") == 2
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s03_id_is_accepted_for_ID(daemon: Daemon, client: Client) -> None:
    first, second = daemon.new_ids(2)
    await client.store([{"id": first, "tenant": "s03-lower"}, {"ID": second, "tenant": "s03-lower"}])
    assert await client.count("s03-lower") == 2
    await client.store([{"ID": first, "tenant": "s03-moved"}])
    assert await client.counts(["s03-lower", "s03-moved"]) == {"s03-lower": 1, "s03-moved": 1}


@pytest_twisted.ensureDeferred
async def test_s04_eleven_items_over_four_nodes_are_3_3_3_2(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    await client.store(items(range(11), "s04"))
    assert await until_taken(client, 11) == [3, 3, 3, 2]
    assert [each["items"] for each in await client.until_equal()] == [11] * 4
    assert await client.count("s04") == 11
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s04_small_requests_rotate(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    for item in range(40):
        await client.store(items([item], "s04"))
    assert await until_taken(client, 40) == [10, 10, 10, 10]
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s04_of_duplicates_in_different_slices_the_last_wins(daemon: Daemon, client: Client) -> None:
    # Tenants in falling order: the rule for equal stamps, the larger name, must not help.
    tenants = ["s04-d", "s04-c", "s04-b", "s04-a"]
    for size in (4, 11, 40, 400):
        ids = list(daemon.new_ids(size // 4))
        await client.store([each for tenant in tenants for each in items(ids, tenant)])
        for tenant in tenants[:-1]:
            assert await client.count_now(tenant) == 0
    assert await client.count("s04-a") == 1 + 2 + 10 + 100


def joined(nodes: list[Json], which: str) -> dict[tuple[str, str], int]:
    """
    The join of the nodes' positions: (node, run) -> number.
    """
    found: dict[tuple[str, str], int] = {}
    for each in nodes:
        for node, runs in each[which].items():
            for run, number in runs.items():
                found[node, run] = max(number, found.get((node, run), 0))
    return found


@pytest.mark.parametrize("ack", ["node", "primary", "majority", "all"])
@pytest_twisted.ensureDeferred
async def test_s05_the_receipt_tells_how_wide(ack: str, daemon: Daemon, client: Client) -> None:
    content = await client.store(items(daemon.new_ids(10), f"s05-{ack}"), ack=ack)
    assert content["ack"] == ack
    assert content["position"]
    assert await client.count_now(f"s05-{ack}") == 10


@pytest_twisted.ensureDeferred
async def test_s05_after_ack_all_every_node_has_it_durably(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    await client.store(items(range(1000), "s05"), ack="all")

    async def all_durable() -> bool:
        nodes = await client.nodes()
        everything = joined(nodes, "applied")
        return len(everything) == 4 and all(joined([each], "durable") == everything for each in nodes)

    # A heartbeat (0.2 s) later all reports are newer than the answer; the rest is for a busy machine.
    await eventually(all_durable, what="all of it durable everywhere", within=2)
    await client.close()


@contextmanager
def no_more_sockets(daemon: Daemon, from_fd: int) -> Iterator[None]:
    """
    Let a daemon open no descriptor from that number on, nor any other if those below are taken.
    """
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (from_fd, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)


@pytest_twisted.ensureDeferred
async def test_s05_only_who_asks_for_it_waits_for_a_node_that_is_away(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    # Node 3 will find no port at all, which it may well complain of.
    daemon.expected += ["node 3 waits: it cannot listen"]
    client = daemon.client()
    await client.store(items(range(100), "s05"), ack="all")
    with no_more_sockets(daemon, listener(daemon.pid, daemon.ports.nodes[3]).fd):
        await client.restart(3)

        async def away() -> bool:
            return (await client.nodes())[3][
                "state"
            ] != "up" and "node 3 waits: it cannot listen" in daemon.log

        await eventually(away, what="node 3 away")
        for number, ack in enumerate(["node", "primary", "majority"]):
            started = time.monotonic()
            content = await client.store(items(range(100, 200 + number), "s05"), ack=ack)
            assert content["ack"] == ack
            # The deadline of a request is 5 s.
            assert time.monotonic() - started < 2
            assert await client.count_now("s05") == 200 + number
        refused = await client.post(items(range(300), "s05"), ack="all")
        assert refused.status == 504
        assert refused.content["code"] == "ack_not_reached"
        assert refused.content["reached"] == "majority"
        assert refused.content["outcome"] == "stored"
        # It is stored all the same.
        after = await client.ask_count("s05", after=refused.content["position"])
        assert after.ok()["counter"] == 300
    # It finds one as soon as there is one.
    await client.until_equal(300)
    # The answer named the stamp with which that is safe to repeat: what came later stays.
    await client.store(items([299], "s05-later"))
    again = await client.store(
        items(range(300), "s05"), ack="all", lastUpdateDt=refused.content["lastUpdateDt"]
    )
    assert again["ack"] == "all"
    assert await client.counts(["s05", "s05-later"]) == {"s05": 299, "s05-later": 1}
    await client.store(items(range(301), "s05"), ack="all")
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s06_two_hundred_requests_at_once(daemon: Daemon, client: Client) -> None:
    before = await until_taken(client, 0)
    ids = daemon.new_ids(2000)
    await together(client.store(items(ids[at : at + 10], "s06")) for at in range(0, 2000, 10))
    assert await client.count_now("s06") == 2000
    after = await until_taken(client, sum(before) + 2000)
    # Requests that come together go to one node, those after them to the next one; each item to one.
    assert sum(after) - sum(before) == 2000


@pytest_twisted.ensureDeferred
async def test_s06_requests_pipelined_on_one_connection(daemon: Daemon, client: Client) -> None:
    connection = await Raw.connect(daemon.ports.http)
    for item in daemon.new_ids(100):
        body = json.dumps(items([item], "s06-pipelined")).encode()
        connection.write(
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
    await connection.until_received(b"HTTP/1.1 200 OK", times=100)
    assert await client.count_now("s06-pipelined") == 100
    await connection.abort()


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"tenant": "s09"}, "ID"),
        ({"ID": 1}, "tenant"),
        ({"ID": "1", "tenant": "s09"}, "ID"),
        ({"ID": 1.5, "tenant": "s09"}, "ID"),
        ({"ID": True, "tenant": "s09"}, "ID"),
        ({"ID": 2**63, "tenant": "s09"}, "ID"),
        ({"ID": 1, "tenant": ""}, "tenant"),
        ({"ID": 1, "tenant": None}, "tenant"),
        ({"ID": 1, "tenant": "x" * 257}, "tenant"),
        ({"ID": 1, "tenant": "s09", "lastUpdateDt": "yesterday"}, "lastUpdateDt"),
        ({"ID": 1, "tenant": "s09", "lastUpdateDt": "2999-01-01T00:00:00Z"}, "lastUpdateDt"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_s09_a_bad_item_and_nothing_of_the_request_is_stored(
    bad: Json, field: str, daemon: Daemon, client: Client
) -> None:
    good = items(daemon.new_ids(20), "s09")
    answer = await client.post([*good[:10], bad, *good[10:]])
    assert answer.status == 422
    assert answer.content["outcome"] == "not_applied"
    assert answer.content["message"]
    (error,) = answer.content["errors"]
    assert (error["index"], error["field"]) == (10, field)
    assert error["message"]
    assert await client.count_now("s09") == 0


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b'[{"ID":1,"tenant":"s09"}', b'["\xff"]', b"[" * 100_000]
)
@pytest_twisted.ensureDeferred
async def test_s09_a_bad_body_is_refused(body: bytes, client: Client) -> None:
    answer = await client.ask("POST", "/items", body=body)
    assert answer.status == 400
    assert answer.content["outcome"] == "not_applied"
    assert answer.content["message"]


@pytest_twisted.ensureDeferred
async def test_s10_the_newest_wins_in_whatever_order_they_come(daemon: Daemon, client: Client) -> None:
    now = time.time_ns()
    ids = daemon.new_ids(6)
    model = Model()
    updates = [
        (item, now - age * SECOND, f"s10-{age}") for item in ids for age in range(ids.index(item) % 3, 8)
    ]
    for seed in range(5):
        random.Random(seed).shuffle(updates)
        for item, stamp, tenant in updates:
            model.put(item, stamp, tenant)
            await client.store(items([item], tenant, lastUpdateDt=shown(stamp)))
        # At the end of each round, and at no time later, all is as the newest update says.
        assert await client.counts(f"s10-{age}" for age in range(8)) == model.counts()


@pytest_twisted.ensureDeferred
async def test_s10_a_late_repeat_undoes_nothing(daemon: Daemon, client: Client) -> None:
    ids = list(daemon.new_ids(20))
    first = items(ids, "s10-old", lastUpdateDt=shown(time.time_ns() - SECOND))
    await client.store(first)
    await client.store(items(ids[:15], "s10-new"))
    await client.store(first)
    assert await client.counts(["s10-old", "s10-new"]) == {"s10-old": 5, "s10-new": 15}
    # A nanosecond decides.
    stamp = time.time_ns() - SECOND // 2
    await client.store(items(ids[15:], "s10-b", lastUpdateDt=shown(stamp + 1)))
    await client.store(items(ids[15:], "s10-a", lastUpdateDt=shown(stamp)))
    assert await client.counts(["s10-old", "s10-a", "s10-b"]) == {"s10-b": 5}


@pytest_twisted.ensureDeferred
async def test_s10_all_four_nodes_end_with_the_same_counts(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    dice = random.Random(10)
    model = Model()
    now = time.time_ns()
    stamps = {shown(now - age): now - age for age in range(50)}
    requests: list[list[Json]] = []
    for _ in range(60):
        request = []
        for _ in range(20):
            tenant, stamp = f"t{dice.randrange(10)}", dice.choice(list(stamps))
            request += items([dice.randrange(200)], tenant, lastUpdateDt=stamp)
        requests.append(request)
    for request in requests:
        # Of two items of one request with the same ID and stamp the later one wins.
        last = {(each["ID"], each["lastUpdateDt"]): each for each in request}
        for each in last.values():
            model.put(each["ID"], stamps[each["lastUpdateDt"]], each["tenant"])
    await together(client.store(request) for request in requests)
    held = len({each["ID"] for request in requests for each in request})
    await client.until_equal(held)
    for node in (0, 3, 1, 2):
        await client.until_primary(node)
        assert await client.counts(f"t{each}" for each in range(10)) == model.counts()
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s11_a_count_is_answered_with_200(client: Client) -> None:
    answer = await client.ask_count("s11-nobody")
    assert answer.status == 200
    assert answer.content["counter"] == 0
    assert answer.content["tenant"] == "s11-nobody"


@pytest_twisted.ensureDeferred
async def test_s11_three_hundred_writes_each_followed_by_the_exact_count(
    daemon: Daemon, client: Client
) -> None:
    for stored, item in enumerate(daemon.new_ids(300), 1):
        await client.store(items([item], "s11"))
        assert await client.count_now("s11") == stored


@pytest_twisted.ensureDeferred
async def test_s11_counts_are_exact_while_nodes_are_busy_copying(daemon: Daemon, client: Client) -> None:
    # An answer is quick, to copy so much is not: whoever counts has to wait for it.
    async def write(tenant: str) -> None:
        for stored in range(1, 6):
            await client.store(items(daemon.new_ids(12_000), tenant))
            assert await client.count_now(tenant) == stored * 12_000

    await together(write(f"s11-busy-{writer}") for writer in range(8))


@pytest_twisted.ensureDeferred
async def test_twelve_writers_at_once_and_the_counts_equal_a_model(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    model = Model()
    now = time.time_ns()

    async def write(writer: int) -> None:
        dice = random.Random(writer)
        for _ in range(25):
            request: dict[tuple[int, int], Any] = {}
            for _ in range(dice.randrange(1, 40)):
                item, stamp, tenant = dice.randrange(500), now - dice.randrange(1000), f"t{dice.randrange(8)}"
                request[item, stamp] = items([item], tenant, lastUpdateDt=shown(stamp))[0]
            for (item, stamp), each in request.items():
                model.put(item, stamp, each["tenant"])
            await client.store(list(request.values()))

    await together(write(writer) for writer in range(12))
    counts = model.counts()
    assert await client.counts(f"t{each}" for each in range(8)) == counts
    await client.until_equal(sum(counts.values()))
    await client.close()
