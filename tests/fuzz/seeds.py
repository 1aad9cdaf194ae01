"""
What fuzzing begins with: the examples of the docs, and inputs that found something once.
"""

import base64
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dcounter.http.table import ROUTES
from dcounter.journal.framing import JournalEntry, frame
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.position import Position
from tests.fuzz.targets import CURSORS, METHODS, TOKENS

_DOCS = Path(__file__).parents[2] / "docs"
CORPUS = Path(__file__).parent / "corpus"
"""
A file for each target, with inputs that `make fuzz` found worth keeping: one per line, in base64.
"""

_COMMAND = re.compile(r"^    curl .*(?:\n     .*)*", re.MULTILINE)
_JSON = re.compile(r"^```json\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_URL = re.compile(r"http://127\.0\.0\.1:8085(/.*)\Z", re.DOTALL)


@cache
def _requests() -> list[tuple[bytes, bytes, bytes]]:
    """
    Method, target and body of each request in docs/http.md.
    """
    found = []
    for command in _COMMAND.findall((_DOCS / "http.md").read_text("utf-8")):
        words = shlex.split(command.replace("\\\n", " "))
        paths = [match[1] for match in map(_URL.match, words) if match]
        body = words[words.index("-d") + 1] if "-d" in words else ""
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if body else "GET"
        found += [(method.encode(), path.encode(), body.encode()) for path in paths]
    return found


@cache
def _messages() -> list[bytes]:
    """
    The examples of docs/protocol.md.
    """
    return [each.encode() for each in _JSON.findall((_DOCS / "protocol.md").read_text("utf-8"))]


def _of_http() -> Iterator[bytes]:
    for method, path, body in _requests():
        head = b"%s %s HTTP/1.1\r\nHost: localhost\r\n" % (method, path)
        yield b"\0" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        yield b"\x07" + head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    yield (
        b"\0OPTIONS /items HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n"
        b"Access-Control-Request-Method: POST\r\n\r\n"
    )
    yield b"\0GET http://localhost/healthz HTTP/1.0\r\nConnection: keep-alive\r\nX-Request-ID: 1\r\n\r\n"


def _of_targets() -> Iterator[bytes]:
    for method, path, _ in _requests():
        yield bytes([METHODS.index(method)]) + path
    for route in ROUTES:
        query = "&".join(f"{each.name}={[*each.values, '1'][0]}" for each in route.query)
        yield b"\0" + f"{re.sub(r'{.*?}', '%C3%A9%2F1', route.path)}?{query}".encode()


def _of_bodies() -> Iterator[bytes]:
    bodies = [body for _, _, body in _requests() if body]
    bodies += [b'[{"id":1,"Tenant":"\\ud83d\\ude00","lastUpdateDt":"2025-01-02T03:04:05.6+01:00"}]']
    for way in range(9):
        yield from (bytes([way]) + body for body in bodies)


def _of_lines() -> Iterator[bytes]:
    some = b'{"ID":1,"tenant":"a"}\n{"ID":2,"deleted":true}\r\n\n{"id":3,"tenant":"b","lastUpdateDt":null}'
    for way in range(5):
        for size in (0, 7):
            yield bytes([way, size]) + some
            yield bytes([way, size]) + some + b'\n{"ID":4}\n' + some


def _of_tokens() -> Iterator[bytes]:
    token = TOKENS.seal(Position(), MAX_STAMP)
    yield b"\0" + token.encode()
    yield b"\1\x92\x00\x80"
    for kind, place in enumerate([1, "a", (1, "a"), ("a", 1)]):
        yield bytes([2, kind]) + CURSORS.seal(("tenants",), place).encode()
    yield b"\3\0\1"


def _of_messages() -> Iterator[bytes]:
    for line in _messages():
        yield from (bytes([way]) + line for way in range(10))


def _of_journals() -> Iterator[bytes]:
    lines = [line for line in _messages() if b"\n" not in line]
    for line in lines:
        yield b"\1" + line
        yield b"\0" + frame(JournalEntry(line, 1, 2, 3))
    yield b"\0" + b"".join(frame(JournalEntry(line)) for line in lines[:5])


_MADE = {
    "body": _of_bodies,
    "lines": _of_lines,
    "target": _of_targets,
    "http": _of_http,
    "tokens": _of_tokens,
    "message": _of_messages,
    "journal": _of_journals,
}


def kept(target: str) -> list[bytes]:
    """
    The saved inputs of a target.
    """
    lines = (CORPUS / f"{target}.txt").read_text("ascii").splitlines()
    return [base64.b64decode(line, validate=True) for line in lines]


@cache
def seeds(target: str) -> list[bytes]:
    """
    What to begin with.
    """
    return [*dict.fromkeys([*_MADE[target](), *kept(target)])]
