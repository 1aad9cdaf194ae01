"""
Exports of a real daemon, and restoring from them.
"""

import json
import os
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from zlib import MAX_WBITS, decompress

import pytest
import pytest_twisted

import dcounter.client
from dcounter import zstd
from dcounter.client import ExportCutShort, Unreachable
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon, Raw, eventually, pause
from tests.e2e.test_loads import caller
from tests.e2e.test_tokens import make

MEBIBYTE = 2**20


async def made(ids: Iterable[int]) -> AsyncIterator[dict[str, Any]]:
    for each in ids:
        yield {"ID": each, "tenant": f"tenant-{each % 7}"}


async def parts_of(dump: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(dump), 100_000):
        yield dump[begin : begin + 100_000]


async def read(client: dcounter.client.Client, *, deleted: bool = True) -> bytes:
    exported = await client.export(deleted=deleted)
    return b"".join([lines async for lines in exported])


def rows(dump: bytes) -> dict[int, tuple[str | None, str]]:
    """
    Tenant and stamp of each ID.
    """
    _, *items, end = [json.loads(line) for line in dump.splitlines()]
    found = {each["ID"]: (each.get("tenant"), each["lastUpdateDt"]) for each in items}
    assert end == {"end": True, "rows": len(items)}
    assert len(found) == len(items)
    return found


async def pages(client: dcounter.client.Client) -> list[Any]:
    """
    All tenants with their counts, and all IDs of one of them.
    """
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await client.tenants(limit=3, cursor=cursor)
        found += page.tenants
        cursor = page.cursor if isinstance(page.cursor, str) else None
        if cursor is None:
            break
    while True:
        ids = await client.items_of("tenant-3", limit=1_000, cursor=cursor)
        found += ids.IDs
        cursor = ids.cursor if isinstance(ids.cursor, str) else None
        if cursor is None:
            return found


class Exporting(Raw):
    """
    A caller that asks for an export, and reads it if it is told to.
    """

    def ask(self, *headers: str) -> None:
        lines = ["GET /export HTTP/1.0", "Host: localhost", "Connection: close", *headers]
        self.write("\r\n".join([*lines, "", ""]).encode())

    @property
    def body(self) -> bytes:
        return bytes(self.received.partition(b"\r\n\r\n")[2])


@pytest_twisted.ensureDeferred
async def test_what_is_exported_while_others_write_restores_an_empty_daemon(
    start_daemon: StartDaemon,
) -> None:
    daemon = await start_daemon(processes=True)
    client = caller(daemon)
    number = 30_000
    await client.load(made(range(number)))
    deleted = await client.delete(range(0, number, 10))
    exported = await client.export(deleted=True, after=deleted.position)
    assert (await exported.header()).items == number
    dump = b""
    async for lines in exported:
        dump += lines
        # Whatever others do meanwhile: move, delete, store.
        await client.store([{"ID": each, "tenant": "moved"} for each in range(1, number, 300)])
        await client.store([{"ID": number + each, "tenant": "new"} for each in range(10)])
    found = rows(dump)
    assert {*range(number)} <= found.keys() <= {*range(number + 10)}
    assert all(found[each][0] is None for each in range(0, number, 10))

    # What it is when all is quiet, another daemon has in the end: item by item, to the nanosecond.
    dump = await read(client)
    other = await start_daemon()
    target = caller(other)
    loaded = await target.restore(parts_of(dump), encoding="gzip")
    assert (loaded.items, loaded.lines) == (number + 10, number + 12)
    assert rows(await read(target)) == rows(dump)
    assert await pages(target) == await pages(client)
    # An update that was made before a deletion, and comes late, changes nothing there either.
    await target.store([{"ID": 0, "tenant": "late"}], stamp=1)
    assert (await target.count("late")).counter == 0
    await client.close()
    await target.close()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest_twisted.ensureDeferred
async def test_it_is_compressed_as_the_caller_likes(daemon: Daemon, encoding: str) -> None:
    client = caller(daemon)
    ids = daemon.new_ids(10_000)
    await client.load(made(ids))
    export = await Exporting.connect(daemon.ports.http)
    export.ask(f"Accept-Encoding: {encoding}")
    await export.until_closed()
    assert f"Content-Encoding: {encoding}".encode() in export.received
    plain = decompress(export.body, MAX_WBITS + 16) if encoding == "gzip" else zstd.decompress(export.body)
    assert rows(plain).keys() >= {*ids}
    assert len(plain) > 3 * len(export.body)
    await client.close()


@pytest_twisted.ensureDeferred
async def test_callers_that_hang_up_leave_room_for_others(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    client = caller(daemon)
    await client.load(made(range(50_000)))
    for _ in range(6):
        export = await Exporting.connect(daemon.ports.http)
        export.ask()
        await export.until_received(b'{"export":1')
        await export.abort()
    assert len(rows(await read(client, deleted=False))) == 50_000
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_caller_that_does_not_read_costs_little_and_its_node_may_die(
    start_daemon: StartDaemon,
) -> None:
    daemon = await start_daemon(processes=True)
    daemon.expected += ["signal 9", "killed"]
    client, watcher = caller(daemon), daemon.client()
    number = 200_000
    await client.load(made(range(number)), encoding="zstd")
    await watcher.until_equal(number)
    before = daemon.memory()
    sleepers = []
    for _ in range(4):
        sleeper = await Exporting.connect(daemon.ports.http)
        sleeper.ask()
        await sleeper.until_received(b'{"export":1')
        sleeper.tcp.pauseProducing()
        sleepers.append(sleeper)
    refused = await watcher.ask("GET", "/export")
    assert (refused.status, refused.code) == (503, "too_many_exports")
    # Others are served as ever, and are not kept waiting by what nobody reads.
    for _ in range(50):
        assert await watcher.count("tenant-3") == number // 7
    assert daemon.memory() - before < 32 * MEBIBYTE
    status = await watcher.cluster()
    [pid] = [each["pid"] for each in status["nodes"] if each["id"] == status["primary"]]
    os.kill(pid, signal.SIGKILL)
    await daemon.until_logged(r"the connection to node \d ended")
    for sleeper in sleepers:
        sleeper.tcp.resumeProducing()
    for sleeper in sleepers:
        await sleeper.until_closed()
        assert b'{"end"' not in sleeper.received
        # It is told once for each.
    await daemon.until_logged("the answer to /export was broken off: the node that gives it is gone", times=4)
    assert daemon.log.count("was broken off") == 4

    # The client notices, and another node gives what it asks for again.
    async def whole() -> bool:
        try:
            return len(rows(await read(client))) == number
        except (ExportCutShort, Unreachable, dcounter.client.Refused):
            return False

    await eventually(whole, what="a whole export", within=60)
    await client.close()
    await watcher.close()


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_gets_everything(daemon: Daemon, client: Client) -> None:
    ids = daemon.new_ids(60_000)
    loader = caller(daemon)
    await loader.load(made(ids))
    export = await Exporting.connect(daemon.ports.http)
    export.ask()

    async def ended() -> bool:
        export.tcp.pauseProducing()
        await pause()
        if export.closed:
            return True
        export.tcp.resumeProducing()
        await pause(0)
        return export.closed

    await eventually(ended, what="the end of an export that is read slowly", within=60)
    assert rows(export.body).keys() >= {*ids}
    await loader.close()


@pytest_twisted.ensureDeferred
async def test_a_bound_token_exports_what_it_is_bound_to(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    everything = make(file, "backup", "--scope=write", "--scope=read")
    acme = make(file, "acme", "--scope=read", "--prefix=acme/")
    daemon = await start_daemon(f"--tokens-file={file}", processes=True)
    client, bound = caller(daemon, everything), caller(daemon, acme)

    async def mixed() -> AsyncIterator[dict[str, Any]]:
        for each in range(20_000):
            yield {"ID": each, "tenant": "acme/1" if each % 1_000 == 0 else f"other-{each}"}

    await client.load(mixed())
    await client.delete([1])
    dump = await read(bound, deleted=False)
    assert rows(dump).keys() == {*range(0, 20_000, 1_000)}
    assert b"other" not in dump
    assert b"items" not in dump
    with pytest.raises(dcounter.client.Refused) as refused:
        await bound.export(deleted=True)
    assert refused.value.code == "forbidden"
    assert len(rows(await read(client))) == 20_000
    await client.close()
    await bound.close()
