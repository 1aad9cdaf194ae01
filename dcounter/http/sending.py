"""
The one place that builds the bytes of an answer.
"""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from dcounter import __version__
from dcounter.http.problems import Answer

LAST_CHUNK: Final = b"0\r\n\r\n"
_SERVER: Final = f"dcounter/{__version__}".encode()
_NOT_MODIFIED: Final = 304
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """
    Headers, one per line.
    """
    return b"".join([b"%s: %s\r\n" % field for field in fields])


def encode_head(
    status: int, fields: bytes, version: bytes, date: bytes, *, last: bool, kept: bool = False
) -> bytes:
    """
    The status line and the headers of an answer.

    :param fields: all headers but those that the connection decides, encoded.
    :param version: of HTTP, as the caller named it.
    :param date: the time, as HTTP writes it.
    :param last: whether the connection ends with this answer.
    :param kept: whether a browser may keep the answer. A count that a cache has kept is not exact.
    """
    return b"%s%s\r\n" % (_start(status, version, date, last, kept), fields)


# All answers of a second begin alike, and each has to be encoded.
@lru_cache(maxsize=128)
def _start(status: int, version: bytes, date: bytes, last: bool, kept: bool) -> bytes:
    """
    What the head of an answer begins with.
    """
    if last:
        connection = b"Connection: close\r\n"
    else:
        # A caller of HTTP/1.0 expects the end unless it is told otherwise.
        connection = b"" if version == b"HTTP/1.1" else b"Connection: keep-alive\r\n"
    return b"%s %d %s\r\nServer: %s\r\nDate: %s\r\nCache-Control: %s\r\n%s" % (
        *(version, status, _REASONS[status], _SERVER, date),
        b"no-cache" if kept else b"no-store",
        connection,
    )


def encode(answer: Answer, version: bytes, date: bytes, *, last: bool, to_head: bool = False) -> bytes:
    """
    A whole answer, or the head of one that is streamed.

    An answer that the caller has already (304) tells the length of what it has.

    :param to_head: whether the method is HEAD, whose answers have no body.
    """
    fields = encode_fields(answer.headers) if answer.headers else b""
    if answer.stream is None:
        length = b"Content-Length: %d\r\n" % len(answer.body)
    else:
        length = b"Transfer-Encoding: chunked\r\n" if version == b"HTTP/1.1" else b""
    return b"%sContent-Type: %s\r\n%s%s\r\n%s" % (
        _start(answer.status, version, date, last, answer.kept),
        answer.content_type,
        length,
        fields,
        b"" if to_head or answer.status == _NOT_MODIFIED else answer.body,
    )


def encode_chunk(data: bytes, version: bytes) -> bytes:
    """
    A part of a streamed answer, which must not be empty: an empty one would be the last.
    """
    # The end of the connection is the end of an answer of HTTP/1.0.
    return b"%x\r\n%s\r\n" % (len(data), data) if version == b"HTTP/1.1" else data
