"""
Watchers of a real daemon with nodes in processes of their own.
"""

import json
import os
import re
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from dcounter.client import Event
from dcounter.client_events import EventParser
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon, Raw, eventually, items
from tests.e2e.test_tokens import make

_PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")


class Watcher:
    """
    Reads events as a browser does: over a socket of its own, without a library for HTTP.
    """

    def __init__(self, connection: Raw) -> None:
        self._connection = connection
        self._parser = EventParser()
        self._read = 0
        self.events: list[Event] = []
        self.last_id = ""

    @classmethod
    async def connect(cls, daemon: Daemon, query: str = "", *headers: str) -> "Watcher":
        connection = await Raw.connect(daemon.ports.http)
        lines = [f"GET /events{query} HTTP/1.1", "Host: localhost", *headers, "", ""]
        connection.write("\r\n".join(lines).encode())
        await connection.until_received(b"event: hello")
        return cls(connection)

    def look(self) -> list[Event]:
        """
        All events so far.
        """
        _, _, body = bytes(self._connection.received).partition(b"\r\n\r\n")
        chunks, self.events = body, []
        parser, text = EventParser(), b""
        while b"\r\n" in chunks:
            size, _, rest = chunks.partition(b"\r\n")
            length = int(size, 16)
            text += rest[:length]
            chunks = rest[length + 2 :]
        self.events = [event for event, _, _ in parser.feed(text)]
        self.last_id = parser.last_id
        return self.events

    def counts(self) -> dict[str, int]:
        return {each.data["tenant"]: each.data["counter"] for each in self.look() if each.name == "count"}

    async def until(self, counts: dict[str, int]) -> None:
        async def told() -> bool:
            return self.counts() == counts

        await eventually(told, what=f"{counts}")

    async def until_named(self, name: str, **data: Any) -> None:
        async def told() -> bool:
            return any(each.name == name and data.items() <= each.data.items() for each in self.look())

        await eventually(told, what=f"{name} {data}")

    async def hang_up(self) -> None:
        await self._connection.abort()


async def kill(client: Client, node: int) -> None:
    [victim] = [each for each in await client.nodes() if each["id"] == node]
    os.kill(victim["pid"], signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_a_watcher_is_told_whatever_happens_to_the_primary(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    client = daemon.client()
    watcher = await Watcher.connect(daemon)
    one = await Watcher.connect(daemon, "?tenant=hello&tenant=none")
    prefix = await Watcher.connect(daemon, "?prefix=he")
    await client.store(items(range(3), "hello") + items(range(3, 5), "other"))
    await watcher.until({"hello": 3, "other": 2})
    await one.until({"hello": 3})
    await prefix.until({"hello": 3})

    [primary] = [each["id"] for each in await client.nodes() if each["role"] == "primary"]
    await kill(client, primary)
    await watcher.until_named("node", node=primary, change="down")
    await one.until_named("reset")
    await client.store(items([0], "other"))
    await watcher.until({"hello": 2, "other": 3})
    await one.until({"hello": 2})
    await watcher.until_named("node", node=primary, change="up")
    names = [each.data["change"] for each in watcher.look() if each.name == "node"]
    assert names[:2] == ["down", "primary"]

    # It comes back, and misses nothing.
    last_id = watcher.last_id
    await watcher.hang_up()
    await client.store(items([10], "late"))
    again = await Watcher.connect(daemon, "", f"Last-Event-ID: {last_id}")
    await again.until({"late": 1})
    assert again.look()[0].data["resumed"]
    strange = await Watcher.connect(daemon, "", "Last-Event-ID: another-7")
    await strange.until_named("reset")

    # The daemon stops: everyone is told, and the connections end in order.
    stopping = Deferred.fromCoroutine(daemon.stop())
    await again.until_named("dropped", code="stopping")
    await again._connection.until_closed()  # noqa: SLF001 - its own connection
    assert bytes(again._connection.received).endswith(b"0\r\n\r\n")  # noqa: SLF001 - the same
    await stopping
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_node_whose_disk_fails_is_told_of(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    daemon.expected.append("the disk failed")
    client = daemon.client()
    watcher = await Watcher.connect(daemon, "?tenant=none")
    victim = (await client.nodes())[2]["pid"]
    before = resource.prlimit(victim, resource.RLIMIT_FSIZE)
    # None of its files may become longer.
    resource.prlimit(victim, resource.RLIMIT_FSIZE, (1, before[1]))

    async def told() -> Any:
        await client.store(items(range(20), "hello"))
        return next((each.data for each in watcher.look() if each.data.get("change") == "refuses"), None)

    refuses = await eventually(told, what="a node that refuses writes")
    assert (refuses["node"], "the disk failed" in refuses["reason"]) == (2, True)
    assert await client.count("hello") == 20
    resource.prlimit(victim, resource.RLIMIT_FSIZE, before)
    await watcher.until_named("node", node=2, change="accepts")
    await watcher.hang_up()
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_hundred_thousand_tenants_change(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    client = daemon.client()
    slow = await Watcher.connect(daemon)
    slow._connection.tcp.pauseProducing()  # noqa: SLF001 - its own connection
    known: dict[str, int] = {}
    watching = client.events()
    hello = await watching.__anext__()
    assert hello.name == "hello"
    many = 100_000
    before = daemon.memory()
    for first in range(0, many, 10_000):
        ids = range(first, first + 10_000)
        await client.store([{"ID": each, "tenant": f"tenant-{each}"} for each in ids])
    # It may be slower than the changes; then it is told so, and would ask anew.
    anew = False
    while len(known) < many and not anew:
        event = await watching.__anext__()
        if event.name == "count":
            known[event.data["tenant"]] = event.data["counter"]
        anew = event.name == "reset"
    assert set(known.values()) == {1}
    await watching.aclose()
    assert daemon.memory() - before < 100 * 2**20
    slow._connection.tcp.resumeProducing()  # noqa: SLF001 - its own connection
    await slow.until_named("dropped", code="slow")
    await slow.hang_up()
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_token_that_is_bound_and_then_revoked(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    acme = make(file, "acme", "--scope=read", "--prefix=acme/")
    bound = file.read_text()
    writer = make(file, "loader", "--scope=write", "--scope=read")
    daemon = await start_daemon(f"--tokens-file={file}")
    client = daemon.client()
    shown: Sequence[str] = [f"Authorization: Bearer {acme}"]
    watcher = await Watcher.connect(daemon, "", *shown)

    async def store(item: int, tenant: str) -> None:
        headers = {"Authorization": f"Bearer {writer}"}
        (await client.ask("POST", "/items", json=items([item], tenant), headers=headers)).ok()

    await store(1, "other")
    await store(2, "acme/1")
    await watcher.until({"acme/1": 1})

    file.write_text(file.read_text().replace(bound, ""))
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.until_logged("(1) tokens are accepted")
    await store(3, "acme/1")
    await watcher.until_named("dropped", code="token")
    assert watcher.counts() == {"acme/1": 1}
    await client.close()


@pytest_twisted.ensureDeferred
async def test_the_example_of_the_page_shows_what_happens(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    [command] = re.findall(r"^    (curl -sN --max-time \d+ \S+/events)$", _PAGE, re.MULTILINE)
    [shown] = re.findall(r"^```text\n(retry: .*?)\n```$", _PAGE, re.MULTILINE | re.DOTALL)
    ours = re.sub(r"--max-time \d+", "--max-time 6", command.replace("8085", str(daemon.ports.http)))
    running = getProcessOutputAndValue("/bin/bash", ["-c", ours], os.environ)

    async def watched() -> bool:
        await client.store(items([1], "hello"))
        await client.store(items([1], "bye"))
        return bool(running.called)

    await eventually(watched, what="the end of the example")
    output, _, code = await running
    assert code == 28
    told = [event for event, _, _ in EventParser().feed(output)]
    example = [event for event, _, _ in EventParser().feed(f"{shown}\n\n".encode())]
    assert [each.name for each in example] == ["hello", "count"]
    for each in example:
        found = next(other for other in told if other.name == each.name)
        assert found.data.keys() == each.data.keys()
    assert json.dumps(told[0].data["version"]) == "1"
    await client.close()
