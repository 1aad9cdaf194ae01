"""
Limits how often a caller may ask: a bucket of permits, which fills up with time.
"""

import math
from typing import Final

from msgspec import Struct

_POLICY: Final = b"requests"
"""
The name of the only policy, in the headers.
"""


class Rate(Struct, frozen=True):
    """
    How many requests are permitted.

    :ivar per_s: requests per second, in the long run.
    :ivar burst: requests at once, after a time without any.
    """

    per_s: float
    burst: int


class Bucket:
    """
    The permits that a caller has left. It begins full.

    :param now: the time (s).
    """

    __slots__ = ("_at", "_left", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._left = float(rate.burst)
        self._at = now

    def wait_s(self, now: float) -> float:
        """
        The time (s) until there is a permit; 0: there is one.
        """
        # A clock that is set back takes no permits away.
        passed = max(0.0, now - self._at)
        self._left = min(self.rate.burst, self._left + passed * self.rate.per_s)
        self._at = now
        return 0.0 if self._left >= 1 else (1 - self._left) / self.rate.per_s

    def take(self, now: float) -> float:
        """
        Take a permit, if there is one.

        :returns: the time (s) until there is one; 0: it is taken.
        """
        wait = self.wait_s(now)
        if not wait:
            self._left -= 1
        return wait

    def headers(self) -> list[tuple[bytes, bytes]]:
        """
        What is left, for programs (draft-ietf-httpapi-ratelimit-headers).
        """
        rate = self.rate
        window = math.ceil(rate.burst / rate.per_s)
        full = math.ceil((rate.burst - self._left) / rate.per_s)
        return [
            (b"RateLimit-Policy", b'"%s";q=%d;w=%d' % (_POLICY, rate.burst, window)),
            (b"RateLimit", b'"%s";r=%d;t=%d' % (_POLICY, int(self._left), full)),
        ]
