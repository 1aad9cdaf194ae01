"""
The body of a load: lines that are made of items while they are sent.
"""

import zlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from dcounter import zstd
from dcounter.load_body import Encoding, LoadBody


@implementer(IConsumer)
class Consumer:
    """
    Takes what is written, and asks for a pause after each write if it is told to.
    """

    def __init__(self) -> None:
        self.body: LoadBody | None = None
        self.written: list[bytes] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        raise AssertionError

    def unregisterProducer(self) -> None:
        raise AssertionError

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if self.body is not None:
            self.body.pauseProducing()
            # A transport may ask twice.
            self.body.pauseProducing()

    @property
    def whole(self) -> bytes:
        return b"".join(self.written)


class Source:
    """
    Items, and how many of them were taken.
    """

    def __init__(self, number: int) -> None:
        self.taken = 0
        self.closed = False
        self._number = number

    async def items(self) -> AsyncIterator[dict[str, Any]]:
        try:
            for item in range(self._number):
                self.taken += 1
                yield {"ID": item, "tenant": "a b"}
        finally:
            self.closed = True


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


def plain(encoding: Encoding | None, data: bytes) -> bytes:
    match encoding:
        case "gzip":
            return zlib.decompress(data, zlib.MAX_WBITS + 16)
        case "zstd":
            return zstd.decompress(data)
        case None:
            return data


@pytest.mark.parametrize("encoding", [None, "gzip", "zstd"])
@pytest.mark.parametrize("number", [0, 1, 10_000])
def test_has_one_line_for_each_item(consumer: Consumer, encoding: Encoding | None, number: int) -> None:
    done: list[object] = []
    LoadBody(Source(number).items(), encoding).startProducing(consumer).addBoth(done.append)
    lines = plain(encoding, consumer.whole).split(b"\n")
    assert done == [None]
    assert lines.pop() == b""
    assert [msgspec.json.decode(line) for line in lines] == [
        {"ID": item, "tenant": "a b"} for item in range(number)
    ]
    assert all(consumer.written)


def test_takes_items_no_faster_than_they_are_sent(consumer: Consumer) -> None:
    source = Source(10_000)
    body = consumer.body = LoadBody(source.items(), None)
    done: list[object] = []
    body.startProducing(consumer).addBoth(done.append)
    writes = 0
    while not done:
        writes += 1
        assert len(consumer.written) == writes
        assert 65_536 <= len(consumer.written[0]) < 66_000
        taken = source.taken
        body.resumeProducing()
        # It asks for nothing if nothing waits.
        if done:
            body.resumeProducing()
        assert source.taken - taken < 3_000
    assert source.taken == 10_000
    assert writes > 3


def test_says_nothing_after_it_was_stopped(consumer: Consumer) -> None:
    source = Source(10_000)
    body = consumer.body = LoadBody(source.items(), None)
    done: list[object] = []
    body.startProducing(consumer).addBoth(done.append)
    body.stopProducing()
    body.stopProducing()
    body.resumeProducing()
    assert done == []
    assert len(consumer.written) == 1


def test_comes_to_its_end_early(consumer: Consumer) -> None:
    body = consumer.body = LoadBody(Source(10_000).items(), None)
    done: list[object] = []
    body.startProducing(consumer).addBoth(done.append)
    body.finish()
    body.finish()
    assert done == [None]
    assert len(consumer.written) == 1


def test_may_be_stopped_before_it_begins() -> None:
    LoadBody(Source(1).items(), None).stopProducing()


def test_a_source_that_waits_is_cancelled(consumer: Consumer) -> None:
    waiting: Deferred[None] = Deferred()
    ended = []

    async def items() -> AsyncIterator[dict[str, Any]]:
        yield {}
        try:
            await waiting
        finally:
            ended.append(True)

    body = LoadBody(items(), None)
    body.startProducing(consumer)
    assert ended == []
    body.stopProducing()
    assert ended == [True]


def test_a_source_that_fails_says_why(consumer: Consumer) -> None:
    async def items() -> AsyncIterator[dict[str, Any]]:
        yield {}
        raise ZeroDivisionError

    body = LoadBody(items(), None)
    failures: list[Any] = []
    body.startProducing(consumer).addErrback(failures.append)
    assert failures[0].type is ZeroDivisionError
    assert body.failure is failures[0]
