"""
What every HTTP client is asked to do, and what it must hear.

A client, in whatever language, gets the URL of the daemon and the first of 1,001 IDs that are its own. It
writes one line of JSON for each step: its name, the status, and what the answer says.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

IDLE: Final = "--idle=1"
"""
How a daemon for these steps is started: it closes a connection while the client pauses for `PAUSE_S`.
"""

MAX_BODY: Final = "--max-body=1048576"
PAUSE_S: Final = 1.5
TOO_LARGE: Final = b" " * 5_000_000
COUNTS: Final = 200

EXPECTED: Final[Mapping[str, tuple[int, Any]]] = {
    "one item": (200, 1),
    "1,000 items": (200, 1_000),
    "1,000 items in chunks": (200, 1_000),
    "counts, one after the other": (200, 1_001),
    "counts, all at once": (200, 1_001),
    "HEAD": (200, ""),
    "no such path": (404, "unknown_path"),
    "an invalid item": (422, "invalid_item"),
    "too large": (413, "body_too_large"),
    "after a pause": (200, 1),
}


def one(first: int, tenant: str) -> bytes:
    return json.dumps([{"ID": first, "tenant": tenant}]).encode()


def thousand(first: int, tenant: str) -> bytes:
    return json.dumps([{"ID": first + each, "tenant": tenant} for each in range(1, 1_001)]).encode()


def pieces(body: bytes, size: int = 1_000) -> Iterator[bytes]:
    """
    A body as a client sends it in chunks.
    """
    for start in range(0, len(body), size):
        yield body[start : start + size]


def heard(lines: Iterable[str]) -> dict[str, tuple[int, Any]]:
    """
    The steps that a client in another language has written.
    """
    return {step: (status, value) for step, status, value in map(json.loads, lines)}
