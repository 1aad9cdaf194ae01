"""
The names that callers give to their requests, by which logs of several programs can be searched.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

_NAMES: Final = (
    (b"x-request-id", b"X-Request-ID", re.compile(rb"[!-~]{1,128}")),
    # W3C Trace Context, 3.2.
    (b"traceparent", b"traceparent", re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")),
)
"""
For each: the header, in lower case and as it is usually written, and what it may be.
"""


def names(headers: Mapping[bytes, Sequence[bytes]]) -> list[tuple[bytes, bytes]]:
    """
    The names of a request, as headers. What is not well formed, or comes twice, is none.

    :param headers: the values of each header; names are in lower case.
    """
    found = []
    for key, field, pattern in _NAMES:
        values = headers.get(key, ())
        if len(values) == 1 and pattern.fullmatch(values[0]):
            found.append((field, values[0]))
    return found


def in_words(named: Iterable[tuple[bytes, bytes]]) -> str:
    """
    The names of a request, for the end of a log line; empty if it has none.
    """
    return "".join(f", {field.decode()} {value.decode()}" for field, value in named)
