"""
Makes tokens, adds them to the file of a daemon, and takes them out of it.
"""

import base64
import contextlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from dcounter.daemon.tokens import parse_tokens
from dcounter.http.auth import Token, hash_token

_RANDOM_BYTES: Final = 32
_BEGINNING: Final = "dct_"
"""
How tokens begin, so that programs that search for leaked secrets can recognise them.
"""

_TABLE: Final = re.compile(r"\s*\[\[\s*token\s*\]\]")


class UnknownToken(ValueError):
    """
    The file has no token with this name.
    """


def make_token(randbytes: Callable[[int], bytes]) -> str:
    """
    A new token.
    """
    return _BEGINNING + base64.urlsafe_b64encode(randbytes(_RANDOM_BYTES)).decode().rstrip("=")


def describe_token(
    token: str,
    name: str,
    scopes: Sequence[str],
    prefixes: Sequence[str] = (),
    **more: str | None,
) -> str:
    """
    The lines of a file that say which rights a token has.

    :param more: the other fields, as TOML; one that is `None` is left out.
    """
    lines = [
        "[[token]]",
        f"name = {_quoted(name)}",
        f"sha256 = {_quoted(hash_token(token.encode()).hex())}",
        f"scopes = [{', '.join(map(_quoted, scopes))}]",
    ]
    if prefixes:
        lines.append(f"prefixes = [{', '.join(map(_quoted, prefixes))}]")
    lines += [f"{field} = {value}" for field, value in more.items() if value is not None]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    # A text of JSON is one of TOML, but for a character that JSON need not escape.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def read_tokens(path: str) -> list[Token]:
    """
    The tokens of a file.

    :raises ValueError: it is no such file; the error says where it is wrong.
    """
    with open(path, encoding="utf-8") as file:
        return parse_tokens(file.read())


def add_token(path: str, text: str) -> None:
    """
    Add a token to a file, and make the file if there is none.

    :param text: what describes the token.
    :raises ValueError: the file would be wrong, or is so already. It is unchanged.
    """
    before = ""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        before = file.read()
    parse_tokens(before)
    gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
    parse_tokens(before + gap + text)
    # One write at the end of the file: a daemon that reads it meanwhile sees all of it or nothing.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, (gap + text).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def revoke_token(path: str, name: str) -> None:
    """
    Take a token out of a file, with the comment above it.

    :raises UnknownToken: it is not in the file.
    :raises ValueError: the file is wrong, or written in a way that this function does not know. It is
        unchanged.
    """
    with open(path, encoding="utf-8") as file:
        before = file.read()
    tokens = parse_tokens(before)
    place = next((place for place, each in enumerate(tokens) if each.principal.name == name), None)
    if place is None:
        raise UnknownToken(f"there is no token {name!r}")
    after = without_table(before, place)
    if parse_tokens(after) != tokens[:place] + tokens[place + 1 :]:
        raise ValueError("its tables are not written as [[token]]: take out the token by hand")
    _replace(path, after)


def without_table(text: str, place: int) -> str:
    """
    A file without one of its tables, and without the comment right above that.

    :param place: which table, from 0.
    """
    lines = text.splitlines(keepends=True)
    tables = [number for number, line in enumerate(lines) if _TABLE.match(line)]
    beginnings = []
    for table in tables:
        beginning = table
        while beginning and lines[beginning - 1].lstrip().startswith("#"):
            beginning -= 1
        beginnings.append(beginning)
    if place >= len(tables):
        return text
    end = beginnings[place + 1] if place + 1 < len(tables) else len(lines)
    return "".join([*lines[: beginnings[place]], *lines[end:]])


def _replace(path: str, text: str) -> None:
    """
    Write a file anew, at once: a daemon that reads it meanwhile sees what was or what is.
    """
    path = os.path.realpath(path)
    was = os.stat(path)
    unfinished = f"{path}.{os.getpid()}.new"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, stat.S_IMODE(was.st_mode))
            if os.geteuid() == 0:
                os.fchown(descriptor, was.st_uid, was.st_gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(unfinished, path)
    except OSError:
        os.unlink(unfinished)
        raise
