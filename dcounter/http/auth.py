"""
Tokens: how a caller proves which rights it has. Unlike an address, no proxy adds a token by itself.

The operator's token lets its owner do what needs the scope `admin`, from the daemon's machine. The other
tokens are in a file, each with its own rights; the daemon knows only their hashes.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import Struct

from dcounter.http.rates import Bucket, Rate

_BEARER: Final = re.compile(rb"bearer +([!-~]+)", re.IGNORECASE)

_HEADERS_KEPT: Final = 1024
"""
How many headers with a right token are remembered. Callers send theirs with every request, always in the same
spelling.
"""

_INDEXED_BYTES: Final = 8
"""
By how many bytes of its hash a token is looked up. The rest is compared in constant time.
"""

Scope = Literal["read", "write", "admin"]
"""
A right: to count and look up; to store and delete; to restart and remove nodes, audit and compact. The last
includes the first.
"""


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """
    The operator's token, and the file that holds it.

    :ivar path: the file; absolute, because error messages name it.
    """

    path: str
    value: bytes = field(repr=False)

    def matches(self, authorization: bytes) -> bool:
        """
        Whether an `Authorization` header holds this token, compared in constant time.
        """
        found = _BEARER.fullmatch(authorization)
        return found is not None and hmac.compare_digest(found[1], self.value)


class Principal(Struct, frozen=True):
    """
    The identity that a request has proved, and its rights.

    :ivar name: for people: of the token, `operator`, or `anyone`.
    :ivar prefixes: how the names of the tenants begin that it may read; none: it may read all.
    :ivar rate: how often it may ask; `None`: as often as it likes.
    """

    name: str
    scopes: frozenset[Scope]
    prefixes: tuple[str, ...] = ()
    rate: Rate | None = None

    def may_read(self, tenant: str) -> bool:
        """
        Whether it may learn anything about a tenant, or about all tenants whose names begin with this text.
        """
        return not self.prefixes or tenant.startswith(self.prefixes)


ANYONE: Final = Principal("anyone", frozenset())
OPERATOR: Final = Principal("operator", frozenset({"admin", "read"}))


class Token(Struct, frozen=True):
    """
    A token of the file.

    :ivar digest: the SHA-256 of the token.
    :ivar expires: when it ends (ns since 1970); `None`: never.
    """

    digest: bytes
    principal: Principal
    expires: int | None = None


class Tokens:
    """
    The tokens that are accepted at present.

    A plain hash is enough: a token has 256 random bits, so there is nothing to guess.

    :param now: the wall clock (ns since 1970).
    :param seconds: the clock of the rates (s).
    """

    def __init__(
        self, tokens: Iterable[Token], *, now: Callable[[], int], seconds: Callable[[], float]
    ) -> None:
        self._now = now
        self._seconds = seconds
        self._by_beginning: dict[bytes, list[Token]] = {}
        self._known: dict[bytes, Token] = {}
        self._buckets: dict[str, Bucket] = {}
        self.replace(tokens)

    def replace(self, tokens: Iterable[Token]) -> None:
        """
        Accept these tokens from now on, and no others.
        """
        buckets = self._buckets
        self._known, self._by_beginning, self._buckets = {}, {}, {}
        for each in tokens:
            self._by_beginning.setdefault(each.digest[:_INDEXED_BYTES], []).append(each)
            name, rate = each.principal.name, each.principal.rate
            if rate is not None:
                old = buckets.get(name)
                # To read the file again gives nobody new permits.
                kept = old is not None and old.rate == rate
                self._buckets[name] = old if old and kept else Bucket(rate, self._seconds())

    def find(self, authorization: bytes) -> Token | None:
        """
        The token in an `Authorization` header; `None` if it is unknown, or there is none.
        """
        found = self._known.get(authorization)
        if found is None:
            found = self._look_up(authorization)
            if found is not None:
                if len(self._known) >= _HEADERS_KEPT:
                    self._known = {}
                self._known[authorization] = found
        return found

    def is_expired(self, token: Token) -> bool:
        """
        Whether a token was valid once, and is no longer.
        """
        return token.expires is not None and self._now() >= token.expires

    def bucket(self, principal: Principal) -> Bucket | None:
        """
        The permits that an identity has left; `None` if it needs none.
        """
        return None if principal.rate is None else self._buckets.get(principal.name)

    def wait_s(self, principal: Principal, *, take: bool) -> float:
        """
        The time (s) until an identity may ask; 0: now.

        :param take: whether it does.
        """
        bucket = self.bucket(principal)
        if bucket is None:
            return 0.0
        return bucket.take(self._seconds()) if take else bucket.wait_s(self._seconds())

    def _look_up(self, authorization: bytes) -> Token | None:
        shown = _BEARER.fullmatch(authorization)
        if shown is None:
            return None
        digest = hash_token(shown[1])
        for each in self._by_beginning.get(digest[:_INDEXED_BYTES], ()):
            if hmac.compare_digest(each.digest, digest):
                return each
        return None


def hash_token(value: bytes) -> bytes:
    """
    What is kept of a token.
    """
    return hashlib.sha256(value).digest()
