"""
Compresses an answer while it is made, as the header `Accept-Encoding` asks.

Pure: bytes go in, bytes come out, never many at once.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from dcounter import zstd

_LEVEL: Final = 1
"""
How much is done to make an answer smaller. With both encodings, higher levels take much more time to save a
tenth.
"""

_PART_BYTES: Final = 64 * 1024
"""
The most bytes that are compressed at once: that takes 1 ms.
"""

_WEIGHT: Final = re.compile("(?:0(?:[.][0-9]{0,3})?|1(?:[.]0{0,3})?)")


class Compressor(Protocol):
    """
    Compresses what is given to it, and keeps some of it back.
    """

    def compress(self, data: bytes | memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Uncompressed:
    """
    Leaves an answer as it is.
    """

    def compress(self, data: bytes | memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


_COMPRESSORS: Final[Mapping[str, Callable[[], Compressor]]] = {
    # 16 more than the largest window: gzip.
    "gzip": lambda: zlib.compressobj(_LEVEL, wbits=zlib.MAX_WBITS + 16),
    "zstd": lambda: zstd.ZstdCompressor(_LEVEL),
    "identity": Uncompressed,
}

ENCODINGS: Final = ("zstd", "gzip", "identity")
"""
The encodings of answers, the best first.
"""


def encoding_for(headers: Mapping[bytes, Sequence[bytes]]) -> str:
    """
    The encoding that the header `Accept-Encoding` asks for; `identity` if it accepts none of ours.

    Of those with the same weight, it is the first one of `ENCODINGS`.
    """
    weights: dict[str, float] = {}
    for each in b",".join(headers.get(b"accept-encoding", ())).decode("latin-1").lower().split(","):
        name, _, parameter = (part.strip() for part in each.partition(";"))
        weight = parameter.removeprefix("q=").strip() if parameter else "1"
        if _WEIGHT.fullmatch(weight):
            weights[name.removeprefix("x-")] = float(weight)
    # An encoding that is not named is not wanted, but an answer without one always may be sent.
    others = weights.get("*", 0.0)
    accepted = {name: weights.get(name, others) for name in ENCODINGS}
    best = max(accepted, key=accepted.__getitem__)
    return best if accepted[best] else "identity"


def compressor(encoding: str) -> Compressor:
    """
    What compresses one answer.
    """
    return _COMPRESSORS[encoding]()


def compressed(data: bytes, by: Compressor) -> Iterator[bytes]:
    """
    Compress a part of an answer, bit by bit. What comes may be empty.
    """
    if isinstance(by, Uncompressed):
        yield data
        return
    view = memoryview(data)
    for begin in range(0, len(data), _PART_BYTES):
        yield by.compress(view[begin : begin + _PART_BYTES])
