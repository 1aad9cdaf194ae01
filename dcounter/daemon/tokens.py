"""
The file with the tokens of callers, as a daemon reads it.

The file is TOML, so that people can edit it and explain in comments whose token it is. It holds hashes only:
a token is shown once, when it is made.
"""

import math
import os
import stat
import tomllib
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from twisted.logger import Logger

from dcounter.errors import ConfigurationError
from dcounter.http.auth import Principal, Scope, Token, Tokens
from dcounter.http.rates import Rate

_log = Logger()

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
