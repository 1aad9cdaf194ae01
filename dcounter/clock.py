"""
The hybrid logical clock that gives every item its stamp.

A stamp is an integer of nanoseconds since 1970 that never repeats and never goes back, whatever the wall
clock does, and that is later than every stamp the clock was told of (Kulkarni et al., "Logical Physical
Clocks", 2014, with the logical part folded into the nanoseconds).
"""

from collections.abc import Callable

MAX_STAMP = 2**63 - 1
"""
The largest stamp that fits a signed 64-bit column: the year 2262.
"""

CLOCK_TOLERANCE = 10_000_000_000
"""
How far beyond the wall clock (ns) a stamp from outside may lie: a caller's own, or one in a token.
"""


class HybridClock:
    """
    Gives out stamps, strictly increasing.

    :param now: the wall clock, ns since 1970; it may jump and go back.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._last = 0

    @property
    def last(self) -> int:
        """
        The largest stamp given out or heard of.
        """
        return self._last

    def take(self, count: int) -> int:
        """
        Reserve `count` consecutive stamps, one tick per item.

        :returns: the first of them.
        """
        first = max(self._now(), self._last + 1)
        self._last = first + count - 1
        return first

    def observe(self, stamp: int) -> None:
        """
        Move past a stamp that somebody else gave out.
        """
        self._last = max(self._last, stamp)

    def latest_allowed(self) -> int:
        """
        The largest stamp that may come from outside.
        """
        return self._now() + CLOCK_TOLERANCE
