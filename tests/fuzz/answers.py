"""
Reads what a daemon has answered to any bytes, and objects to whatever no caller could make sense of.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from dcounter.http.sending import LAST_CHUNK
from tests.support.kinds import PROBLEMS

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [A-Za-z' -]+\Z")
_FIELD = re.compile(rb"([A-Za-z-]+): ([ -~]*)\Z")
_CHUNK = re.compile(rb"([0-9a-f]{1,8})\r\n")
_JSON = b"application/json"
_PROBLEM = b"application/problem+json"
_OTHERS = (b"text/", b"application/x-ndjson", b"application/gzip")
_OUTCOMES = {None, "not_applied", "unknown", "stored", "partial"}


class Defect(AssertionError):
    """
    The daemon did what it must never do, whatever it is sent.
    """


@dataclass(frozen=True)
class Answered:
    """
    One answer. The body is empty if the request was a HEAD, or if the end of the answer is missing.
    """

    status: int
    body: bytes


def read_answers(sent: bytes) -> Iterator[Answered]:
    """
    The answers in what was sent.

    :raises Defect: one of them is malformed, or tells of a bug.
    """
    while sent:
        head, end, sent = sent.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        found = _STATUS_LINE.fullmatch(line)
        if found is None or not end:
            raise Defect(f"no status line: {line[:100]!r}")
        status = int(found[1])
        if status < 200:
            continue
        if status == 500:
            raise Defect(f"a bug: {sent[:1000]!r}")
        headers = _headers(fields)
        # An answer that the caller has already tells the length of what it has.
        body, sent, whole = (b"", sent, False) if status == 304 else _body(headers, sent)
        _check(status, headers, body, whole=whole)
        yield Answered(status, body)


def _headers(fields: list[bytes]) -> dict[bytes, bytes]:
    found = {}
    for each in fields:
        pair = _FIELD.fullmatch(each)
        if pair is None:
            raise Defect(f"a header is malformed: {each!r}")
        found[pair[1].lower()] = pair[2]
    # Files of the dashboard have a name by which a cache asks for them again.
    kept = b"no-cache" if b"etag" in found else b"no-store"
    if found.get(b"cache-control") != kept or b"date" not in found:
        raise Defect(f"headers are missing: {found}")
    return found


def _body(headers: dict[bytes, bytes], sent: bytes) -> tuple[bytes, bytes, bool]:
    """
    A body, what follows it, and whether it is whole. Nothing of it follows the answer to a HEAD.
    """
    if not sent or sent.startswith(b"HTTP/1."):
        return b"", sent, False
    if b"content-length" in headers:
        size = int(headers[b"content-length"])
        if len(sent) < size:
            raise Defect(f"a body is cut off: {sent[-100:]!r}")
        return sent[:size], sent[size:], True
    if headers.get(b"transfer-encoding") != b"chunked":
        return sent, b"", True
    body = b""
    while sent and not sent.startswith(LAST_CHUNK):
        size_line = _CHUNK.match(sent)
        if size_line is None:
            raise Defect(f"a chunk is malformed: {sent[:100]!r}")
        end = size_line.end() + int(size_line[1], 16)
        if sent[end : end + 2] != b"\r\n":
            raise Defect("a chunk has another length than it says")
        body += sent[size_line.end() : end]
        sent = sent[end + 2 :]
    return body, sent.removeprefix(LAST_CHUNK), sent != b""


def _check(status: int, headers: dict[bytes, bytes], body: bytes, *, whole: bool) -> None:
    kind = headers.get(b"content-type", b"")
    if status >= 400 and kind != _PROBLEM:
        raise Defect(f"{status} with the type {kind!r}")
    if kind not in {_JSON, _PROBLEM}:
        if not kind.startswith(_OTHERS):
            raise Defect(f"an answer of the type {kind!r}")
        return
    if not whole:
        return
    content = msgspec.json.decode(body)
    # What Python's own decoder takes for text is not only ASCII: no half of a pair may be left in it.
    body.decode()
    if kind == _PROBLEM:
        known = PROBLEMS.get(content["code"])
        if known is None or known.status != status or content["status"] != status:
            raise Defect(f"a problem that is none of ours: {content}")
        if content.get("outcome") not in _OUTCOMES or content["message"] != content["detail"]:
            raise Defect(f"a problem that says two things: {content}")
