"""
The body of a load, as `dcounter.client` sends it: lines that are made of items while they are sent.
"""

import zlib
from collections.abc import AsyncIterable, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from dcounter import zstd

Encoding = Literal["gzip", "zstd"]

_PART_BYTES: Final = 64 * 1024
"""
About how many bytes are written at once.
"""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Uncompressed:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(encoding: Encoding | None) -> _Compressor:
    match encoding:
        case "gzip":
            return zlib.compressobj(wbits=zlib.MAX_WBITS + 16)
        case "zstd":
            return zstd.ZstdCompressor()
        case None:
            return _Uncompressed()


@implementer(IBodyProducer)
class LoadBody:
    """
    A body of lines, one per item. Items are taken no faster than they are sent.

    :param items: items; or bytes, which are sent as they are.
    :ivar failure: why there were no more items, if that was an error.
    """

    length = UNKNOWN_LENGTH

    def __init__(self, items: AsyncIterable[Mapping[str, Any] | bytes], encoding: Encoding | None) -> None:
        self._items = items
        self._compressor = _compressor(encoding)
        self._running: Deferred[None] | None = None
        self._whole: Deferred[None] = Deferred()
        self._resumed: Deferred[None] | None = None
        self._stopped = False
        self.failure: Failure | None = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._running = Deferred.fromCoroutine(self._send(consumer))
        self._running.addBoth(self._ended)
        return self._whole

    def _ended(self, result: Failure | None) -> None:
        # The interface asks for silence after `stopProducing`.
        if self._stopped:
            return
        self._stopped = True
        if isinstance(result, Failure):
            self.failure = result
            self._whole.errback(result)
        else:
            self._whole.callback(None)

    def finish(self) -> None:
        """
        Take no more items, since the answer is here.

        Twisted closes a connection only when the body that is sent on it has come to its end.
        """
        if not self._stopped:
            self.stopProducing()
            self._whole.callback(None)

    async def _send(self, consumer: IConsumer) -> None:
        lines: list[bytes] = []
        size = 0
        async for item in self._items:
            line = item if isinstance(item, bytes) else msgspec.json.encode(item) + b"\n"
            lines.append(line)
            size += len(line)
            if size >= _PART_BYTES:
                await self._write(consumer, self._compressor.compress(b"".join(lines)))
                lines.clear()
                size = 0
        last = self._compressor.compress(b"".join(lines)) if lines else b""
        await self._write(consumer, last + self._compressor.flush())

    async def _write(self, consumer: IConsumer, data: bytes) -> None:
        if data:
            consumer.write(data)
        if self._resumed is not None:
            await self._resumed

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._resumed = None
            if self._running is not None:
                self._running.cancel()
