"""
What the original promised when nodes stop, and when their sockets die (S7, S8, S12).
"""

import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon, Json, eventually, is_open, items, pause, port_of
from tests.e2e.sockets import Socket, accepted, listener, sockets_of

WRITERS = 6
RESTARTS = 8


class Load:
    """
    Callers who store and count without a pause, and take nothing but success and the exact number.

    :ivar rounds: how often each of them did both.
    """

    def __init__(self, client: Client, *, size: int = 8) -> None:
        self._client = client
        self._size = size
        self._stopped = False
        self.rounds = [0] * WRITERS
        self._running = [Deferred.fromCoroutine(self._write(writer)) for writer in range(WRITERS)]

    async def _write(self, writer: int) -> None:
        tenant = f"load-{writer}"
        while not self._stopped:
            first = writer * 10_000_000 + self.rounds[writer] * self._size
            await self._client.store(items(range(first, first + self._size), tenant))
            self.rounds[writer] += 1
            assert await self._client.count_now(tenant) == self.rounds[writer] * self._size

    async def go_on(self, rounds: int = 5) -> None:
        """
        Wait until every one of them has done so many more rounds.
        """
        goals = [each + rounds for each in self.rounds]

        async def reached() -> bool:
            self._look()
            return all(each >= goal for each, goal in zip(self.rounds, goals, strict=True))

        await eventually(reached, what=f"{rounds} more rounds of each writer")

    def _look(self) -> None:
        for each in self._running:
            if each.called and not self._stopped:
                # It can only have failed: say why.
                raise AssertionError(each.result)

    async def stop(self) -> None:
        """
        Let them finish; all that was acknowledged must be counted.
        """
        self._stopped = True
        for each in self._running:
            await each
        for writer, rounds in enumerate(self.rounds):
            assert await self._client.count(f"load-{writer}") == rounds * self._size

    @property
    def stored(self) -> int:
        return sum(self.rounds) * self._size


async def under_load(
    client: Client, act: Callable[[Load], Coroutine[Deferred[Any], Any, None]], *, size: int = 8
) -> int:
    """
    Do something while others store and count; tell how many items they stored.
    """
    load = Load(client, size=size)
    try:
        await load.go_on()
        await act(load)
        await load.go_on()
    finally:
        await load.stop()
    return load.stored


@pytest_twisted.ensureDeferred
async def test_s07_a_node_that_stops_is_no_callers_business(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()

    async def restart(load: Load) -> None:
        for _ in range(RESTARTS):
            started = time.monotonic()
            await client.restart(2)
            # What others store meanwhile does not keep it: it would wait for 5 s at most.
            assert time.monotonic() - started < 4
            # Before all others have found it again: they need not be there, but what it takes must get there.
            await load.go_on(1)

    stored = await under_load(client, restart)
    await client.until_equal(stored)
    assert len(await daemon.until_logged("restarting node 2", times=RESTARTS)) == RESTARTS
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s07_a_node_that_stops_lets_its_followers_back_in(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    port = port_of((await client.nodes())[2])

    async def cut_and_restart(load: Load) -> None:
        for _ in range(3):
            # What is on its way to the others is lost: only by coming back can they get it.
            for each in accepted(daemon.pid, port):
                each.shut_down()
            started = time.monotonic()
            await client.restart(2)
            assert time.monotonic() - started < 4
            await client.until_at_work()
            await load.go_on(2)

    stored = await under_load(client, cut_and_restart, size=400)
    await client.until_equal(stored)
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s08_each_node_in_turn_stops_and_is_refilled(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    await client.store(items(range(100), "s08"))
    await client.store(items(range(50), "moved"))
    for node in (3, 0, 1, 2, 0):
        await client.restart(node)
        nodes = await client.until_equal(100)
        assert nodes[node]["items_taken"] == 0
        assert await client.counts(["s08", "moved"]) == {"s08": 50, "moved": 50}
    # And it takes items again.
    await client.store(items(range(100, 200), "s08"), ack="all")
    nodes = await client.until_equal(200)
    assert nodes[0]["items_taken"] == 25
    assert await client.counts(["s08", "moved"]) == {"s08": 150, "moved": 50}
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s08_restarts_of_every_node_under_load_lose_nothing(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()

    async def restart(load: Load) -> None:
        for node in range(4):
            await client.restart(node)
            await client.until_at_work()
            await load.go_on(2)

    # Requests so large that much is not yet copied when a node is told to stop.
    stored = await under_load(client, restart, size=2000)
    await client.until_equal(stored)
    await client.close()


@pytest.mark.parametrize("node", [0, 2])
@pytest_twisted.ensureDeferred
async def test_s08_a_node_whose_log_everybody_cut_takes_a_copy(node: int, start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    expected: dict[str, int] = {}
    for request in range(12):
        tenant = f"t{request % 5}"
        await client.store(items(range(request * 1000, request * 1000 + 1000), tenant))
        expected[tenant] = expected.get(tenant, 0) + 1000
    await client.until_equal(12_000)
    await client.restart(node)
    await client.until_equal(12_000)
    await daemon.until_logged(f"node {node}: took a copy of the ledger: 12000 items")
    assert await client.counts(expected) == expected
    await client.until_primary(node)
    assert await client.counts(expected) == expected
    await client.close()


@pytest.mark.parametrize("connections_too", [False, True], ids=["listener", "listener and connections"])
@pytest.mark.parametrize("node", [0, 2], ids=["primary", "backup"])
@pytest_twisted.ensureDeferred
async def test_s12_a_lost_listener_is_replaced_while_counts_go_on(
    node: int, connections_too: bool, start_daemon: StartDaemon
) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    before = {each["id"]: port_of(each) for each in await client.nodes()}
    lost = before[node]

    async def shut_down(load: Load) -> None:
        victims = [listener(daemon.pid, lost)]
        if connections_too:
            connections = accepted(daemon.pid, lost)
            # The coordinator's and three peers'.
            assert len(connections) >= 4
            victims += connections
        for each in victims:
            each.shut_down()

        async def moved() -> bool:
            there = (await client.nodes())[node]
            return there["state"] == "up" and port_of(there) != lost

        await eventually(moved, what=f"node {node} on another port", within=5)

    stored = await under_load(client, shut_down)
    after = {each["id"]: port_of(each) for each in await client.until_equal(stored)}
    assert not is_open(lost)
    assert is_open(after[node])
    assert after[node] in daemon.ports.nodes
    assert {**after, node: lost} == before
    await daemon.until_logged(f"node {node} lost its listener on port {lost}")
    await daemon.until_logged(f"node {node} listens on port {after[node]}")
    # Whoever comes later finds it there, too.
    await client.restart(1)
    await client.until_equal(stored)
    await client.close()


@pytest_twisted.ensureDeferred
async def test_s12_every_listener_is_lost_one_after_the_other(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    first = [port_of(each) for each in await client.nodes()]

    async def shut_down(load: Load) -> None:
        for node, port in enumerate(first):
            listener(daemon.pid, port).shut_down()
            await load.go_on(1)
            await daemon.until_logged(rf"node {node} listens on port (?!{port})")

    stored = await under_load(client, shut_down)

    async def all_moved() -> bool:
        return not {port_of(each) for each in await client.nodes()} & set(first)

    await eventually(all_moved, what="all nodes on other ports")
    await client.until_equal(stored)
    await client.close()


def connections_between_nodes(daemon: Daemon, ports: Sequence[int]) -> list[Socket]:
    """
    The accepting ends of all connections to nodes.
    """
    return [each for each in sockets_of(daemon.pid) if each.established and each.port in ports]


@pytest_twisted.ensureDeferred
async def test_all_connections_of_all_nodes_are_cut_and_counts_go_on(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    ports = [port_of(each) for each in await client.nodes()]

    async def cut(load: Load) -> None:
        for port in ports:
            for each in accepted(daemon.pid, port):
                each.shut_down()
            await load.go_on(3)

    stored = await under_load(client, cut)
    nodes = await client.until_equal(stored)
    assert [port_of(each) for each in nodes] == ports
    await client.close()


def large_request(size: int) -> list[Json]:
    # Long names, so that a slice is larger than what the kernel holds of a connection.
    return [{"ID": each, "tenant": f"{each % 3}" + "x" * 200} for each in range(size)]


@pytest_twisted.ensureDeferred
async def test_a_connection_cut_in_the_middle_of_a_line_loses_nothing(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    await client.store(items(range(10_000_000, 10_000_100), "before"), ack="all")
    ports = [port_of(each) for each in await client.nodes()]
    request = large_request(60_000)
    cut = 0
    for _ in range(3):
        storing = Deferred.fromCoroutine(client.store(request))
        until = time.monotonic() + 10
        victims: list[Socket] = []
        while not victims and not storing.called and time.monotonic() < until:
            # Time stands still for the daemon while we look and cut.
            os.kill(daemon.pid, signal.SIGSTOP)
            try:
                victims = in_the_middle(daemon, ports)
                for each in victims:
                    each.shut_down()
            finally:
                os.kill(daemon.pid, signal.SIGCONT)
            await pause(0.002)
        await storing
        cut += len(victims)
        counts = [await client.count(f"{each}" + "x" * 200) for each in range(3)]
        assert counts == [20_000] * 3
    assert cut, "no line was long enough under way to be cut"
    assert await client.count("before") == 100
    await client.until_equal(60_100)
    await client.close()


def in_the_middle(daemon: Daemon, ports: Sequence[int]) -> list[Socket]:
    """
    Connections to nodes of whose lines a part is still with the sender: the rest will never arrive.
    """
    every = [each for each in sockets_of(daemon.pid) if each.established]
    waiting = {(each.port, each.peer_port) for each in every if each.unsent and each.peer_port in ports}
    return [each for each in every if (each.peer_port, each.port) in waiting]
