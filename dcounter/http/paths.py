"""
Splits request targets before anything in them is decoded.

A tenant may be named `a/b` or `..`: code that decodes first, and splits or normalises afterwards, loses such
a name.
"""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_to_bytes

from dcounter.http.problems import BadParameter, BadPath, UnknownPath

ORIGIN: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
"""
The beginning of a target that names its server.
"""

_BROKEN_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")


def raw_segments(target: bytes) -> list[bytes]:
    """
    The segments of a target's path, still percent-encoded.

    :raises BadPath: the target is not a valid HTTP path.
    :raises UnknownPath: the path starts with an empty segment, which werkzeug would ignore.
    """
    if not target.isascii():
        raise BadPath("bytes beyond ASCII in a path must be percent-encoded")
    if b"#" in target:
        # Many a program takes it for the beginning of a fragment, and drops it with all that follows.
        raise BadPath("a # in a path must be percent-encoded")
    path = target.partition(b"?")[0]
    origin = ORIGIN.match(path)
    if origin is not None:
        path = path[origin.end() :] or b"/"
    if not path.startswith(b"/"):
        raise BadPath("the path must start with a slash")
    if path.startswith(b"//"):
        raise UnknownPath
    return path[1:].split(b"/")


def raw_query(target: bytes) -> bytes:
    """
    The query of a target: what follows the question mark.
    """
    return target.partition(b"?")[2]


def decode_segment(raw: str) -> str:
    """
    Decode a raw segment. A plus stays a plus.

    :raises BadPath: the segment is not percent-encoded UTF-8.
    """
    try:
        return _decode(raw)
    except ValueError as error:
        raise BadPath(f"the path cannot be decoded: {error}") from error


def parse_query(
    raw: bytes,
    allowed: Mapping[str, Collection[str] | None],
    many: Mapping[str, list[str]] = MappingProxyType({}),
) -> dict[str, str]:
    """
    Parse the parameters of a query, each given at most once.

    An unknown name is refused: a mistyped `akc=all` must not silently weaken durability.

    :param allowed: parameter -> the values that it may have; no values: any text that is not empty; `None`:
        any text.
    :param many: parameters that may be given more than once; their values are added to these lists.
    :raises BadParameter: a parameter is unknown or repeated, or has another value.
    """
    found: dict[str, str] = {}
    if not raw:
        return found
    for pair in filter(None, raw.split(b"&")):
        raw_name, _, raw_value = pair.partition(b"=")
        try:
            name, value = _decode(raw_name.decode("ascii")), _decode(raw_value.decode("ascii"))
        except ValueError as error:
            raise BadParameter(f"the query cannot be decoded: {error}") from error
        if name not in allowed:
            known = f"this path has {', '.join(allowed)}" if allowed else "this path has none"
            raise BadParameter(f"unknown parameter {name!r}; {known}")
        if name in found and name not in many:
            raise BadParameter(f"{name} is given more than once")
        values = allowed[name]
        if values is not None and (value not in values if values else not value):
            known = f"one of {', '.join(values)}" if values else "any text that is not empty"
            raise BadParameter(f"{name} must be {known}; it is {value!r}")
        if name in many:
            many[name].append(value)
        found.setdefault(name, value)
    return found


def _decode(raw: str) -> str:
    """
    Decode percent-encoded text.

    :raises ValueError: the text is not percent-encoded UTF-8.
    """
    if "%" not in raw:
        return raw
    if _BROKEN_ESCAPE.search(raw):
        raise ValueError("a percent sign must be followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise ValueError("percent-encoded text must be UTF-8") from None
