"""
Decompresses the body of a load while it arrives, within bounds.

Pure: bytes go in, bytes come out, never many at once. A small body that becomes huge (a "bomb") is refused.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from dcounter import zstd
from dcounter.errors import MalformedBody
from dcounter.http.limits import HttpLimits
from dcounter.http.problems import ExpandsTooMuch, UnsupportedEncoding
from dcounter.limits import MEBIBYTE

ENCODINGS: Final = ("gzip", "zstd")

_PART_BYTES: Final = 64 * 1024
"""
The most bytes that are decompressed at once.
"""

_FREE_BYTES: Final = MEBIBYTE
"""
So much may come of any body, however small: a few equal lines are compressed very well.
"""

_BASE_BYTES: Final = 256 * 1024
"""
What zstd takes besides the window: measured 202 KiB, with 64 KiB of the window.
"""


class Decoder(Protocol):
    """
    Turns the bytes of a body into those that it stands for.
    """

    @property
    def memory(self) -> int:
        """
        Bytes of memory that it has taken so far. It never becomes less.
        """

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Decode what arrived, part by part. All parts must be taken before more is fed.

        A part may be empty: work was done, and others should have their turn.

        :raises MalformedBody: it cannot be decoded.
        :raises ExpandsTooMuch: too much comes of it.
        """

    def end(self) -> None:
        """
        See that the body is whole.

        :raises MalformedBody: its end is missing.
        """


class Plain:
    """
    A body without an encoding.
    """

    memory = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> None:
        pass


class _Member(Protocol):
    """
    One compressed stream. A body may be several, one after the other.
    """

    @property
    def eof(self) -> bool:
        """
        Whether its end was reached.
        """

    @property
    def unused_data(self) -> bytes:
        """
        What came after its end.
        """

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """
        Decompress what came, together with what is left of before.
        """


class _GzipMember:
    """
    One member of a gzip file: zlib's object, made to keep what it has not used.
    """

    def __init__(self) -> None:
        # 16 more than the largest window: gzip, and nothing else.
        self._stream = zlib.decompressobj(zlib.MAX_WBITS + 16)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        left = self._stream.unconsumed_tail
        return self._stream.decompress(left + data if left else data, max_length)


def _zstd_frame(limits: HttpLimits) -> _Member:
    options: dict[int, int] = {
        zstd.DecompressionParameter.window_log_max: limits.max_window_bytes.bit_length() - 1
    }
    return zstd.ZstdDecompressor(options=options)


_MEMBERS: Final[Mapping[str, Callable[[HttpLimits], _Member]]] = {
    "gzip": lambda limits: _GzipMember(),
    "zstd": _zstd_frame,
}


class Decompressor:
    """
    A compressed body.

    :param encoding: one of `ENCODINGS`.
    """

    def __init__(self, encoding: str, limits: HttpLimits) -> None:
        self._encoding = encoding
        # The window of gzip is small.
        self._window = limits.max_window_bytes if encoding == "zstd" else 0
        self._limits = limits
        self._begin = _MEMBERS[encoding]
        self._member: _Member | None = None
        self._padded = False
        self._taken = 0
        self._made = 0

    @property
    def memory(self) -> int:
        # A window takes memory only where something was written to it.
        return min(self._window, self._made) + _BASE_BYTES if self._window and self._taken else 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._taken += len(data)
        while data:
            if self._member is None:
                if self._padded:
                    data = data.lstrip(b"\0")
                    if not data:
                        return
                self._member = self._begin(self._limits)
            member = self._member
            while not member.eof:
                try:
                    part = member.decompress(data, _PART_BYTES)
                except (zlib.error, zstd.ZstdError) as error:
                    raise MalformedBody(f"the body is not {self._encoding}: {error}") from error
                data = b""
                self._count(len(part))
                if part:
                    yield part
                if len(part) < _PART_BYTES:
                    break
            if not member.eof:
                return
            data = member.unused_data
            self._member = None
            # Some fill the rest of a block with zeros; what reads gzip accepts them.
            self._padded = self._encoding == "gzip"
            # Some have 8 bytes and nothing in them: thousands would keep others waiting.
            yield b""

    def end(self) -> None:
        if self._member is not None:
            raise MalformedBody(f"the body ends in the middle of its {self._encoding} data")

    def _count(self, size: int) -> None:
        limits = self._limits
        self._made += size
        if self._made > limits.max_decoded_bytes:
            raise ExpandsTooMuch(f"more than {limits.max_decoded_bytes} bytes come of the body")
        if self._made > max(_FREE_BYTES, limits.max_expansion * self._taken):
            raise ExpandsTooMuch(f"more than {limits.max_expansion} times as many bytes come of the body")


def decoder_for(headers: Mapping[bytes, Sequence[bytes]], limits: HttpLimits) -> Decoder:
    """
    The decoder that the header `Content-Encoding` asks for.

    :raises UnsupportedEncoding: there is none.
    """
    header = b", ".join(headers.get(b"content-encoding", ())).decode("latin-1")
    codings = [each.strip().lower() for each in header.split(",")]
    named = [each.removeprefix("x-") for each in codings if each not in {"", "identity"}]
    if not named:
        return Plain()
    if len(named) > 1 or named[0] not in ENCODINGS:
        raise UnsupportedEncoding(header, ENCODINGS)
    return Decompressor(named[0], limits)
