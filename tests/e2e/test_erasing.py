"""
Deleting a tenant through a real daemon with nodes as processes.
"""

import os
import signal
import socket
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

from dcounter.client import Refused
from dcounter.stamps import parse_stamp
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, eventually, items
from tests.e2e.test_loads import caller, made

NUMBER = 60_000


async def _load(client: Client, loader: Any, tenant: str, first: int = 0) -> None:
    """
    Store the items of a tenant, and wait until all nodes have them: `_begun` then sees the first deletions.
    """

    async def lines() -> Any:
        async for each in made(range(first, first + NUMBER), 1):
            yield {**each, "tenant": tenant}

    await loader.load(lines())
    await client.until_equal(first + NUMBER)


async def _begun(client: Client) -> None:
    async def fewer() -> bool:
        return bool((await client.nodes())[0]["items"] < NUMBER)

    await eventually(fewer, what="the first deletions")


@pytest_twisted.ensureDeferred
async def test_a_tenant_goes_with_all_it_owns_and_others_stay(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    client, loader = daemon.client(), caller(daemon)
    await _load(client, loader, "leaving")
    await _load(client, loader, "staying", NUMBER)
    before = daemon.memory()
    erased = await loader.erase("leaving", ack="majority")
    assert (erased.deleted, erased.tenant) == (NUMBER, "leaving")
    assert await client.counts(["leaving", "staying"]) == {"staying": NUMBER}
    assert daemon.memory() - before < 32 * 2**20
    # An item may have the ID again, and stays if the request is repeated with its stamp.
    await client.store(items([1], "leaving"))
    again = await loader.erase("leaving", stamp=parse_stamp(erased.lastUpdateDt))
    assert again.deleted == 0
    assert await client.count("leaving") == 1
    await client.until_equal(NUMBER + 1)
    await client.close()
    await loader.close()


@pytest_twisted.ensureDeferred
async def test_it_is_repeated_until_it_is_whole_although_nodes_are_killed(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    daemon.expected += ["killed", "signal"]
    client, loader = daemon.client(), caller(daemon)
    await _load(client, loader, "leaving")
    deleted = 0
    codes: set[str] = set()
    stamp: int | None = None
    killed = False
    while True:
        erasing = Deferred.fromCoroutine(loader.erase("leaving", stamp=stamp, ack="majority"))
        if not killed:
            await _begun(client)
            for node in await client.nodes():
                os.kill(node["pid"], signal.SIGKILL)
            killed = True
        try:
            erased = await erasing
        except Refused as refused:
            codes.add(refused.code)
            deleted += refused.problem.get("deleted", 0)
            shown = refused.problem.get("lastUpdateDt")
            stamp = stamp if shown is None else parse_stamp(shown)
            continue
        deleted += erased.deleted
        break
    assert await client.count("leaving") == 0
    assert codes <= {"erase_stopped", "incomplete", "unavailable", "ack_not_reached"}
    # What was deleted is told, but for deletions whose answers got lost.
    assert 0 < deleted <= NUMBER
    await client.until_equal(0)
    await client.close()
    await loader.close()


@pytest_twisted.ensureDeferred
async def test_a_caller_that_hangs_up_stops_it(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    client, loader = daemon.client(), caller(daemon)
    await _load(client, loader, "leaving")
    erasing = Deferred.fromCoroutine(loader.erase("leaving"))

    await _begun(client)
    erasing.addErrback(lambda _: None)
    erasing.cancel()
    await daemon.until_logged("hung up while a tenant was deleted")
    # What was on its way to the nodes then is deleted before this request looks.
    assert 0 < (await loader.erase("leaving")).deleted < NUMBER
    await client.close()
    await loader.close()


@pytest_twisted.ensureDeferred
async def test_a_caller_whose_process_ends_stops_it(start_daemon: StartDaemon) -> None:
    """
    Its connection is closed in order, not reset. So ends `curl` after Ctrl-C.
    """
    daemon = await start_daemon(processes=True)
    client, loader = daemon.client(), caller(daemon)
    await _load(client, loader, "leaving/one")
    with socket.create_connection(("127.0.0.1", daemon.ports.http)) as connection:
        connection.sendall(b"DELETE /tenants/leaving%2Fone HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await _begun(client)
    await daemon.until_logged("hung up while a tenant was deleted")
    assert 0 < (await loader.erase("leaving/one")).deleted < NUMBER
    await client.close()
    await loader.close()
