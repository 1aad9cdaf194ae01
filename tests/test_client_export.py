"""
Exports and restoring, as the client does it.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from dcounter.client import ExportCutShort, Exported, Refused, Unexpected, Unreachable
from dcounter.client_bodies import Parts
from dcounter.testing.http import MemoryClient, MemoryStore

NOW = 1_700_000_000 * 10**9
AT = "2023-11-14T22:13:20.000000000Z"
HEADER = b'{"export":1,"position":"here","items":1,"deleted":false}\n'
ITEM = b'{"ID":1,"tenant":"a","lastUpdateDt":"' + AT.encode() + b'"}\n'
END = b'{"end":true,"rows":1}\n'


async def all_of(parts: AsyncIterator[Any]) -> list[Any]:
    return [part async for part in parts]


async def one(whole: bytes) -> AsyncIterator[bytes]:
    yield whole


class TestInMemory:
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(lambda: NOW)

    @pytest.fixture
    def client(self, store: MemoryStore) -> MemoryClient:
        return MemoryClient(store)

    @pytest_twisted.ensureDeferred
    async def test_what_is_exported_can_be_restored(self, client: MemoryClient, store: MemoryStore) -> None:
        stored = await client.store(
            [{"ID": 1, "tenant": "a"}, {"ID": 2, "tenant": "b"}, {"ID": 3, "deleted": True}], stamp=NOW
        )
        exported = await client.export(deleted=True, after=stored.position)
        header = await exported.header()
        assert (header.items, header.deleted, header.export) == (3, True, 1)
        dump = b"".join(await all_of(exported.__aiter__()))
        other = MemoryStore(lambda: NOW)
        loaded = await MemoryClient(other).restore(one(dump))
        assert (loaded.items, other.tenants) == (3, store.tenants)
        again = await MemoryClient(other).export(deleted=True)
        assert await all_of(again.items()) == [
            {"ID": 1, "tenant": "a", "lastUpdateDt": AT},
            {"ID": 2, "tenant": "b", "lastUpdateDt": AT},
            {"ID": 3, "deleted": True, "lastUpdateDt": AT},
        ]

    @pytest_twisted.ensureDeferred
    async def test_refusals(self, client: MemoryClient, store: MemoryStore) -> None:
        with pytest.raises(Refused) as refused:
            await client.export(after="none")
        assert refused.value.code == "position_invalid"
        with pytest.raises(Refused) as refused:
            await client.restore(one(HEADER + ITEM))
        assert refused.value.code == "export_cut_short"
        assert store.tenants == {1: "a"}


class Producer:
    """
    What delivers a body.
    """

    def __init__(self) -> None:
        self.said: list[str] = []

    def pauseProducing(self) -> None:
        self.said.append("pause")

    def resumeProducing(self) -> None:
        self.said.append("resume")

    def stopProducing(self) -> None:
        self.said.append("stop")


class Arriving:
    """
    An export that arrives bit by bit.
    """

    def __init__(self) -> None:
        self.producer: Any = Producer()
        self.parts = Parts()
        self.parts.makeConnection(self.producer)
        self.clock = Clock()
        self.exported = Exported(self.parts, timeout=5.0, clock=self.clock)

    def end(self, reason: Exception | None = None) -> None:
        self.parts.connectionLost(Failure(reason or ResponseDone()))

    def read(self) -> Deferred[list[bytes]]:
        return Deferred.fromCoroutine(all_of(self.exported.__aiter__()))


def now(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addBoth(found.append)
    [result] = found
    if isinstance(result, Failure):
        result.raiseException()
    return result


@pytest.fixture
def arriving() -> Arriving:
    return Arriving()


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1_000])
def test_lines_come_whole(arriving: Arriving, size: int) -> None:
    whole = HEADER + ITEM + END
    reading = arriving.read()
    for begin in range(0, len(whole), size):
        arriving.parts.dataReceived(whole[begin : begin + size])
    arriving.end()
    lines = now(reading)
    assert b"".join(lines) == whole
    assert all(each.endswith(b"\n") for each in lines)


def test_the_header_can_be_read_first(arriving: Arriving) -> None:
    reading = Deferred.fromCoroutine(arriving.exported.header())
    arriving.parts.dataReceived(HEADER[:9])
    arriving.parts.dataReceived(HEADER[9:] + ITEM + END)
    assert now(reading).position == "here"
    arriving.end()
    assert b"".join(now(arriving.read())) == HEADER + ITEM + END


@pytest.mark.parametrize("body", [b"", b"<html>\n", b"<html>", b"\xff\n"])
def test_what_has_no_header_is_no_export(arriving: Arriving, body: bytes) -> None:
    arriving.parts.dataReceived(body)
    arriving.end()
    with pytest.raises(Unexpected):
        now(Deferred.fromCoroutine(arriving.exported.header()))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        HEADER,
        HEADER + ITEM,
        HEADER + ITEM + END[:-1],
        HEADER + ITEM + ITEM + END,
        HEADER + END,
        HEADER + ITEM + END + b"x",
    ],
)
def test_one_that_is_cut_short_is_noticed(arriving: Arriving, body: bytes) -> None:
    arriving.parts.dataReceived(body)
    arriving.end()
    with pytest.raises(ExportCutShort):
        now(arriving.read())


def test_one_whose_connection_breaks(arriving: Arriving) -> None:
    reading = arriving.read()
    arriving.parts.dataReceived(HEADER + ITEM)
    arriving.end(ConnectionLost())
    with pytest.raises(Unreachable) as caught:
        now(reading)
    assert caught.value.sent


def test_one_that_falls_silent(arriving: Arriving) -> None:
    reading = arriving.read()
    arriving.clock.advance(4)
    arriving.parts.dataReceived(HEADER)
    arriving.clock.advance(4)
    assert not reading.called
    arriving.clock.advance(1)
    with pytest.raises(Unreachable, match="nothing arrived for 5 s"):
        now(reading)
    assert arriving.producer.said == ["stop"]


def test_it_is_read_no_faster_than_it_is_taken(arriving: Arriving) -> None:
    def give() -> None:
        for _ in range(10):
            arriving.parts.dataReceived(b"x" * 100_000)

    give()
    assert arriving.producer.said == ["pause"]
    assert len(now(Deferred.fromCoroutine(arriving.parts.take()))) == 1_000_000
    assert arriving.producer.said == ["pause", "resume"]
    give()
    arriving.end()
    now(Deferred.fromCoroutine(arriving.parts.take()))
    # There is nothing more to be read.
    assert arriving.producer.said == ["pause", "resume", "pause"]


@pytest.mark.parametrize("ended", [True, False])
def test_it_can_be_closed(arriving: Arriving, ended: bool) -> None:
    arriving.parts.dataReceived(HEADER)
    if ended:
        arriving.end()
    arriving.exported.close()
    assert arriving.producer.said == ([] if ended else ["stop"])
