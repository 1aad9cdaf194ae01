"""
The file with the tokens of callers, and `python -m dcounter.daemon.tokens`, which adds one to it.

The file is TOML, so that people can edit it and explain in comments whose token it is. It holds hashes only:
a token is shown once, when it is made.
"""

import argparse
import base64
import contextlib
import math
import os
import secrets
import stat
import sys
import tomllib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Final, get_args

import msgspec
from msgspec import Meta, Struct
from twisted.logger import Logger

from dcounter.errors import ConfigurationError
from dcounter.http.auth import Principal, Scope, Token, Tokens, hash_token
from dcounter.http.rates import Rate

_log = Logger()

_RANDOM_BYTES: Final = 32
_BEGINNING: Final = "dct_"
"""
How tokens begin, so that programs that search for leaked secrets can recognise them.
"""

_MOST_BYTES: Final = 16 * 2**20
_MICROSECOND: Final = 1_000

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._@-]{1,64}\Z")]


class _Entry(Struct, forbid_unknown_fields=True, kw_only=True):
    """
    A table `[[token]]` of the file.
    """

    name: _Name
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    prefixes: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)] | None = None
    expires: Annotated[datetime, Meta(tz=True)] | None = None
    rate: Annotated[float, Meta(ge=0.001, le=1e9)] | None = None
    burst: Annotated[int, Meta(ge=1, le=10**9)] | None = None


class _File(Struct, forbid_unknown_fields=True):
    """
    The whole file.
    """

    token: list[_Entry] = []


def parse_tokens(text: str) -> list[Token]:
    """
    The tokens that a file describes.

    :raises ValueError: the text is no such file; the error says where it is wrong.
    """
    # Errors of TOML, and those of the types, are ValueErrors.
    entries = msgspec.convert(tomllib.loads(text), _File).token
    names, hashes = set(), set()
    for each in entries:
        if each.prefixes and each.scopes != ["read"]:
            raise ValueError(
                f"token {each.name!r} has prefixes, so its scopes can only be ['read']: to store an ID can"
                " take it from any tenant"
            )
        if each.burst is not None and each.rate is None:
            raise ValueError(f"token {each.name!r} has a burst without a rate")
        if each.name in names or each.sha256 in hashes:
            raise ValueError(f"token {each.name!r} has the name or the sha256 of another one")
        names.add(each.name)
        hashes.add(each.sha256)
    return [_token(each) for each in entries]


def _token(entry: _Entry) -> Token:
    scopes: set[Scope] = set(entry.scopes)
    if "admin" in scopes:
        scopes.add("read")
    rate = None
    if entry.rate is not None:
        # A second's worth, unless the file says otherwise.
        rate = Rate(entry.rate, entry.burst or math.ceil(entry.rate))
    principal = Principal(entry.name, frozenset(scopes), tuple(entry.prefixes or ()), rate)
    # Not from the float alone, which would lose the microseconds.
    expires = None if entry.expires is None else _nanoseconds(entry.expires)
    return Token(bytes.fromhex(entry.sha256), principal, expires)


def _nanoseconds(when: datetime) -> int:
    return int(when.timestamp()) * 1_000_000_000 + when.microsecond * _MICROSECOND


class TokensFile:
    """
    The tokens of a file, which can be read again while callers use them.

    :param path: the file.
    :param now: the wall clock (ns since 1970).
    :param seconds: the clock of the rates (s).
    :ivar tokens: those that were read last.
    :raises ConfigurationError: the file cannot be used.
    """

    def __init__(self, path: str, *, now: Callable[[], int], seconds: Callable[[], float]) -> None:
        # twistd changes the working directory afterwards.
        self._path = os.path.abspath(path)
        self.tokens = Tokens(self._read(), now=now, seconds=seconds)

    def reload(self) -> None:
        """
        Accept what the file holds now; if it cannot be used, what it held before.
        """
        try:
            self.tokens.replace(self._read())
        except ConfigurationError as error:
            _log.error("{error}; the tokens that were read before stay in force", error=error)

    def _read(self) -> list[Token]:
        try:
            with open(self._path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                # What is cut off may be the bounds of a token.
                raise ValueError(f"it has more than {_MOST_BYTES} bytes")
            found = parse_tokens(text.decode())
        except OSError as error:
            raise ConfigurationError(
                f"--tokens-file: the file cannot be read: {error.strerror}: {self._path}"
            ) from error
        except ValueError as error:
            raise ConfigurationError(f"--tokens-file: {self._path} cannot be understood: {error}") from error
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            _log.warn(
                "other users can write to {path}, and so give themselves tokens: set its mode to 600",
                path=self._path,
            )
        _log.info("{count} tokens are accepted, of {path}", count=len(found), path=self._path)
        return found


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


def _add(path: str, text: str) -> None:
    """
    Add a token to a file, and make the file if there is none.

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


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dcounter.daemon.tokens",
        description="Make a token, add its hash and rights to a file, and print it: it cannot be shown again."
        " A daemon that runs reads the file again at SIGHUP.",
    )
    parser.add_argument("file", help="the file of --tokens-file; made if it does not exist")
    parser.add_argument("name", help="letters, digits and ._@-: answers and errors may show it")
    parser.add_argument(
        "--scope", action="append", choices=get_args(Scope), required=True, help="may be given again"
    )
    parser.add_argument(
        "--prefix",
        action="append",
        default=[],
        help="bind the token to tenants that begin so; may be given again",
    )
    parser.add_argument("--expires", metavar="TIME", help="such as 2027-01-31T00:00:00Z")
    parser.add_argument("--rate", help="how many requests per second it permits, in the long run")
    parser.add_argument("--burst", help="how many requests at once; by default those of a second")
    return parser


def main(
    arguments: Sequence[str] | None = None, *, randbytes: Callable[[int], bytes] = secrets.token_bytes
) -> int:
    """
    Run the command; return its exit status.
    """
    given = _options().parse_args(arguments)
    token = make_token(randbytes)
    try:
        more = {"expires": given.expires, "rate": given.rate, "burst": given.burst}
        _add(given.file, describe_token(token, given.name, given.scope, given.prefix, **more))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{given.file} was not changed: {error}\n")
        return 1
    sys.stdout.write(f"{token}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
