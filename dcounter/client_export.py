"""
An export, as `dcounter.client` reads it. `dcounter.client` exports what callers need of it.
"""

from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dcounter.client_answers import Unexpected, Unreachable
from dcounter.client_bodies import Parts
from dcounter.errors import DcounterError
from dcounter.http.dumps import END_BEGIN, HEADER_BEGIN, End, Header

_header: Final = msgspec.json.Decoder(Header)
_end: Final = msgspec.json.Decoder(End)
_items: Final = msgspec.json.Decoder(dict[str, Any])


class ExportCutShort(DcounterError):
    """
    An export ended before its last line.
    """


class Exported:
    """
    An export that is read while it arrives.

    Iterating over it gives its lines, many at a time, the first and the last one too: write them to a file,
    or give them to `Client.restore`. It raises `ExportCutShort` at the end unless all lines have come, and
    `Unreachable` if the connection broke or was silent for too long.

    :param parts: of the body.
    :param timeout: time (s) in which something must arrive.
    """

    def __init__(self, parts: Parts, *, timeout: float, clock: IReactorTime) -> None:
        self._parts = parts
        self._timeout = timeout
        self._clock = clock
        self._rows = 0
        self._rest = b""
        self._last = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._lines()

    async def _lines(self) -> AsyncIterator[bytes]:
        while True:
            whole, line_break, self._rest = self._rest.rpartition(b"\n")
            if line_break:
                self._rows += whole.count(b"\n") + 1
                self._last = whole[whole.rfind(b"\n") + 1 :]
                yield whole + line_break
            part = await self._take()
            if not part:
                break
            self._rest += part
        self._check()

    async def items(self) -> AsyncIterator[dict[str, Any]]:
        """
        The items, one by one, without the first and the last line.
        """
        async for lines in self:
            for line in lines.splitlines():
                if not line.startswith((HEADER_BEGIN, END_BEGIN)):
                    yield _items.decode(line)

    async def header(self) -> Header:
        """
        The first line; to be called before iterating, which gives it all the same.

        :raises Unexpected: it is none of an export.
        """
        while b"\n" not in self._rest:
            part = await self._take()
            if not part:
                break
            self._rest += part
        try:
            return _header.decode(self._rest.partition(b"\n")[0])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unexpected(200, self._rest) from error

    async def whole(self) -> bytes:
        """
        The whole body, whatever it is.
        """
        parts = [self._rest]
        while part := await self._take():
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """
        Read no more.
        """
        self._parts.stop()

    async def _take(self) -> bytes:
        taking = Deferred.fromCoroutine(self._parts.take())
        try:
            return await taking.addTimeout(self._timeout, self._clock, _too_late)
        except DcounterError:
            self._parts.stop()
            raise
        except Exception as error:
            raise Unreachable(error, sent=True) from error

    def _check(self) -> None:
        try:
            # The first line and this one hold no items.
            if not self._rest and _end.decode(self._last).rows == self._rows - 2:
                return
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        raise ExportCutShort(f"the export ended after {self._rows} lines, before its last one")


def _too_late(result: object, seconds: float) -> NoReturn:
    raise Unreachable(TimeoutError(f"nothing arrived for {seconds:g} s"), sent=True)
