"""
Loads through a real daemon: any number of items in one request.
"""

import gzip
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

import dcounter.client
from dcounter import zstd
from dcounter.client import Refused
from dcounter.load_body import Encoding
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon, Raw, eventually, items, pause

MEBIBYTE = 2**20


def caller(daemon: Daemon, token: str | None = None) -> dcounter.client.Client:
    from twisted.internet import reactor

    return dcounter.client.Client(f"http://127.0.0.1:{daemon.ports.http}", reactor, token=token)


async def made(ids: Iterable[int], tenants: int = 10) -> AsyncIterator[dict[str, Any]]:
    for each in ids:
        yield {"ID": each, "tenant": f"load-{each % tenants}"}


@pytest_twisted.ensureDeferred
async def test_nodes_with_disks_take_a_load_of_many_pieces(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    client, loader = daemon.client(), caller(daemon)
    number = 50_000
    before = daemon.memory()
    encodings: list[Encoding | None] = [None, "gzip", "zstd"]
    for encoding in encodings:
        loaded = await loader.load(made(range(number)), encoding=encoding, ack="majority")
        assert (loaded.status, loaded.items, loaded.lines) == ("OK", number, number)
        assert loaded.ack in {"majority", "all"}
        counted = await loader.count("load-3", after=loaded.position)
        assert counted.counter == number // 10
    assert daemon.memory() - before < 64 * MEBIBYTE
    # All nodes had their share, and have everything.
    nodes = await client.until_equal(number)
    assert min(each["items_taken"] for each in nodes) > number // 10
    await client.close()
    await loader.close()


@pytest_twisted.ensureDeferred
async def test_a_load_is_repeated_until_it_is_whole_while_nodes_are_killed(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    daemon.expected += ["killed", "signal"]
    client, loader = daemon.client(), caller(daemon)
    number, stamp = 30_000, time.time_ns()
    killed: list[int] = []
    refusals: list[str] = []

    async def source() -> AsyncIterator[dict[str, Any]]:
        async for each in made(range(number)):
            yield each
            if each["ID"] in (5_000, 15_000) and len(killed) < 2:
                nodes = await client.nodes()
                victim = nodes[len(killed) + 1]["pid"]
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    async def whole() -> bool:
        try:
            loaded = await loader.load(source(), stamp=stamp)
        except Refused as refused:
            refusals.append(refused.code)
            return False
        assert loaded.items == number
        return True

    await eventually(whole, what="a whole load", within=60)
    assert len(killed) == 2
    assert {*refusals} <= {"load_stopped", "deadline", "unavailable"}
    assert await client.counts(f"load-{each}" for each in range(10)) == {
        f"load-{each}": number // 10 for each in range(10)
    }
    await client.until_equal(number)
    await client.close()
    await loader.close()


@pytest_twisted.ensureDeferred
async def test_an_invalid_item_is_told_although_there_are_more(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    loader = caller(daemon)

    async def endless() -> AsyncIterator[dict[str, Any]]:
        async for each in made(range(30_000)):
            yield each
        yield {"ID": 1}
        number = 30_000
        while True:
            number += 1
            yield {"ID": number, "tenant": "after"}
            if number % 1_000 == 0:
                await pause(0)

    with pytest.raises(Refused) as refused:
        await loader.load(endless())
    assert refused.value.code == "invalid_line"
    assert refused.value.outcome == "partial"
    assert refused.value.problem["next_line"] == 30_001
    assert refused.value.problem["items_stored"] == 30_000
    client = daemon.client()
    assert await client.count("after") == 0
    assert sum((await client.counts(f"load-{each}" for each in range(10))).values()) == 30_000
    await client.close()
    await loader.close()


@pytest_twisted.ensureDeferred
async def test_invalid_items_are_skipped_if_the_caller_says_so(daemon: Daemon, client: Client) -> None:
    loader = caller(daemon)
    ids = list(daemon.new_ids(3_000))

    async def mixed() -> AsyncIterator[dict[str, Any]]:
        for number, each in enumerate(ids):
            yield {"ID": each, "tenant": "mixed" if number % 1_000 else ""}

    loaded = await loader.load(mixed(), partial=True)
    assert (loaded.status, loaded.items, loaded.invalid) == ("PARTIAL", 2_997, 3)
    assert loaded.errors is not None
    assert [each.line for each in loaded.errors] == [1, 1_001, 2_001]  # type: ignore[union-attr]
    assert await client.count("mixed") == 2_997
    await loader.close()


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
@pytest_twisted.ensureDeferred
async def test_bombs_are_refused(
    encoding: str, compress: Callable[[bytes], bytes], daemon: Daemon, client: Client
) -> None:
    bomb = compress((b" " * 16_383 + b"\n") * 4_096)
    before = daemon.memory()
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": encoding}
    answer = await client.ask("POST", "/items", body=bomb, headers=headers)
    assert (answer.status, answer.code) == (413, "expands_too_much")
    assert daemon.memory() - before < 32 * MEBIBYTE


@pytest_twisted.ensureDeferred
async def test_counts_are_answered_beside_a_load(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client, loader = daemon.client(), caller(daemon)
    loading = Deferred.fromCoroutine(loader.load(made(range(60_000))))
    from twisted.internet import reactor

    answered = 0
    while not loading.called:
        began = reactor.seconds()
        await client.count_now("load-1")
        # Generous: what counts is that it does not take as long as the load.
        assert reactor.seconds() - began < 1
        answered += 1
    assert answered > 5
    assert (await loading).items == 60_000
    await client.close()
    await loader.close()


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_stops_says_what_is_stored(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    loader = await Raw.connect(daemon.ports.http)
    loader.write(
        b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        b"Content-Length: 1000000\r\n\r\n" + b'{"ID":1,"tenant":"a"}\n{"ID":2,"tenant":"a"}\n{"ID":3'
    )
    client = daemon.client()

    async def stored() -> bool:
        return await client.count_now("a") == 2

    await eventually(stored, what="the lines that are here")
    await client.close()
    daemon.process.send_signal(signal.SIGTERM)
    await loader.until_closed()
    head, _, body = bytes(loader.received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    refused = json.loads(body)
    assert (refused["code"], refused["outcome"]) == ("load_stopped", "partial")
    assert (refused["items_stored"], refused["next_line"]) == (2, 3)


@pytest_twisted.ensureDeferred
async def test_who_hangs_up_leaves_what_is_stored(daemon: Daemon, client: Client) -> None:
    [first, second] = daemon.new_ids(2)
    loader = await Raw.connect(daemon.ports.http)
    loader.write(
        b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        b'Content-Length: 1000000\r\n\r\n{"ID":%d,"tenant":"hung-up"}\n{"ID":%d' % (first, second)
    )

    async def stored() -> bool:
        return await client.count_now("hung-up") == 1

    await eventually(stored, what="the line that is here")
    await loader.abort()
    await client.store(items([second], "hung-up"))
    assert await client.count("hung-up") == 2
