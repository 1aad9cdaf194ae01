"""
Position tokens and cursors: what callers carry, and only their cluster can make and read.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import DecodeError, msgpack

from dcounter.protocol.position import Position, Stamp
from dcounter.protocol.secrets import Secrets


class _Sealed(NamedTuple):
    stamp: Stamp
    position: Position


_decode_sealed = msgpack.Decoder(_Sealed).decode
_encode_sealed = msgpack.Encoder().encode
_MAC_BYTES = 16
_K = TypeVar("_K")


def _bytes(text: str) -> bytes:
    """
    The bytes of a text that `_text` made.

    :raises ValueError: it did not.
    """
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    # Base64 has several texts for the same bytes; only ours is one.
    if _text(raw) != text:
        raise ValueError("not a text of ours")
    return raw


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class _Codes:
    """
    Authentication codes of a cluster, for one purpose.

    They are made with the secret in use. Those that were made with any accepted one are valid, so that what
    callers carry outlives a change of the secret.

    :param person: the purpose.
    """

    def __init__(self, secrets: Secrets, cluster: str, person: bytes) -> None:
        self._secrets = secrets
        self._cluster = cluster.encode()
        self._person = person
        self._keys: dict[bytes, bytes] = {}

    def make(self, sealed: bytes) -> bytes:
        return self._code(self._secrets.used, sealed)

    def are_valid(self, code: bytes, sealed: bytes) -> bool:
        return self._secrets.made(code, lambda secret: self._code(secret, sealed))

    def _code(self, secret: bytes, sealed: bytes) -> bytes:
        key = self._keys.get(secret)
        if key is None:
            key = hashlib.blake2b(
                self._cluster, key=hashlib.sha256(secret).digest(), person=self._person
            ).digest()
            known = {each: self._keys[each] for each in self._secrets.accepted if each in self._keys}
            self._keys = {**known, secret: key}
        return hashlib.blake2b(sealed, key=key, digest_size=_MAC_BYTES).digest()


class CursorSeal:
    """
    Turns the place where a page of a list ends into a text that only this cluster can make, and back.

    The text is base64url of an authentication code and the packed place. The code also covers the question,
    so that a cursor belongs to one list.

    :param secrets: the cluster's shared secrets.
    :param cluster: the cluster id; a cursor of another cluster is refused.
    """

    def __init__(self, secrets: Secrets, cluster: str) -> None:
        self._codes = _Codes(secrets, cluster, b"page cursor")

    def seal(self, question: Sequence[str], place: Any) -> str:
        """
        Make a cursor.

        :param question: what distinguishes the list from others.
        :param place: anything that msgspec can encode.
        """
        packed = msgpack.encode(place)
        return _text(self._codes.make(msgpack.encode((question, packed))) + packed)

    def open(self, question: Sequence[str], cursor: str, kind: type[_K]) -> _K:
        """
        Read a cursor.

        :param kind: what a place is.
        :raises ValueError: this cluster did not make it for this list.
        """
        raw = _bytes(cursor)
        code, packed = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not self._codes.are_valid(code, msgpack.encode((question, packed))):
            raise ValueError("not a cursor of this list")
        try:
            return msgpack.decode(packed, type=kind)
        except DecodeError as error:
            raise ValueError("a cursor of another version") from error


class TokenSeal:
    """
    Turns a position and a stamp into a text that only this cluster can make, and back.

    The text is base64url of an authentication code and the packed position; callers treat it as opaque.

    :param secrets: the cluster's shared secrets.
    :param cluster: the cluster id; a token of another cluster is refused.
    :ivar cursors: makes and reads the cursors of the cluster.
    """

    def __init__(self, secrets: Secrets, cluster: str) -> None:
        self._secrets = secrets
        self._codes = _Codes(secrets, cluster, b"position token")
        self.cursors = CursorSeal(secrets, cluster)
        self._latest: tuple[int, Position, bytes, str] = (-1, Position(), b"", "")

    @property
    def accepted_secrets(self) -> int:
        """
        How many secrets a token may be sealed with.
        """
        return len(self._secrets.accepted)

    def seal(self, position: Position, stamp: int) -> str:
        """
        Make the token.

        Consecutive answers mostly have the same token, so the latest one is kept.
        """
        known_stamp, known, secret, text = self._latest
        if known_stamp != stamp or known != position or secret != self._secrets.used:
            packed = _encode_sealed((stamp, position))
            text = _text(self._codes.make(packed) + packed)
            self._latest = (stamp, position, self._secrets.used, text)
        return text

    def open(self, token: str) -> tuple[Position, int]:
        """
        Read a token.

        :raises ValueError: this cluster did not make it.
        """
        raw = _bytes(token)
        code, packed = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not self._codes.are_valid(code, packed):
            raise ValueError("not a token of this cluster")
        try:
            sealed = _decode_sealed(packed)
        except DecodeError as error:
            raise ValueError("a token of another version") from error
        return sealed.position, sealed.stamp

    def join(self, first: str, second: str) -> str:
        """
        Make the token of what two tokens cover together.

        Only for tokens that this process made, never for those of callers: their codes are not checked. The
        secret that they were made with may be one that is not accepted any more.
        """
        one, other = (_decode_sealed(_bytes(each)[_MAC_BYTES:]) for each in (first, second))
        return self.seal(one.position.join(other.position), max(one.stamp, other.stamp))
