"""
Position tokens: what callers carry, and only their cluster can make and read.
"""

import base64
import hashlib
import hmac
from typing import NamedTuple

from msgspec import DecodeError, msgpack

from dcounter.protocol.position import Position, Stamp


class _Sealed(NamedTuple):
    stamp: Stamp
    position: Position


_decode_sealed = msgpack.Decoder(_Sealed).decode
_encode_sealed = msgpack.Encoder().encode
_MAC_BYTES = 16


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class TokenSeal:
    """
    Turns a position and a stamp into a text that only this cluster can make, and back.

    The text is base64url of an authentication code and the packed position; callers treat it as opaque.

    :param secret: the cluster's shared secret.
    :param cluster: the cluster id; a token of another cluster is refused.
    """

    def __init__(self, secret: bytes, cluster: str) -> None:
        self._key = hashlib.blake2b(
            cluster.encode(), key=hashlib.sha256(secret).digest(), person=b"position token"
        ).digest()
        self._latest: tuple[int, Position, str] = (-1, Position(), "")

    def _code(self, packed: bytes) -> bytes:
        return hashlib.blake2b(packed, key=self._key, digest_size=_MAC_BYTES).digest()

    def seal(self, position: Position, stamp: int) -> str:
        """
        Make the token.

        Consecutive answers mostly have the same token, so the latest one is kept.
        """
        known_stamp, known, text = self._latest
        if known_stamp != stamp or known != position:
            packed = _encode_sealed((stamp, position))
            text = _text(self._code(packed) + packed)
            self._latest = (stamp, position, text)
        return text

    def open(self, token: str) -> tuple[Position, int]:
        """
        Read a token.

        :raises ValueError: this cluster did not make it.
        """
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        code, packed = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        # Base64 has several texts for the same bytes; only ours is a token.
        if not hmac.compare_digest(code, self._code(packed)) or _text(raw) != token:
            raise ValueError("not a token of this cluster")
        try:
            sealed = _decode_sealed(packed)
        except DecodeError as error:
            raise ValueError("a token of another version") from error
        return sealed.position, sealed.stamp
