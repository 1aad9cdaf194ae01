"""
The hybrid logical clock that gives every item its stamp.

A stamp is an integer of nanoseconds since 1970 that never repeats and never goes back, whatever the wall
clock does, and that is later than every stamp that the clock has observed (Kulkarni et al., "Logical Physical
Clocks", 2014, with the logical part folded into the nanoseconds).
"""

from collections.abc import Callable

MAX_STAMP = 2**63 - 1
"""
The largest stamp that fits a signed 64-bit column: the year 2262.
"""

CLOCK_TOLERANCE = 10_000_000_000
"""
How far ahead of the wall clock (ns) a stamp from outside may be: a caller's own, or one in a token. Also how
far the wall clock may jump and be believed at once.
"""


CLOCK_PATIENCE = 30_000_000_000
"""
How long (ns) a jump of the wall clock must last before it is believed.
"""


class SteadyWall:
    """
    The wall clock, checked against a clock that cannot be set.

    The stamps of a jump into the future cannot be undone, because all later ones must exceed them. So the
    steady clock measures how much time has passed, and the wall clock is believed while it is within
    `CLOCK_TOLERANCE` of that. If it is further off, time goes on as before the jump; only a jump that lasts
    is believed. (CockroachDB checks forward jumps of its clock in the same way.)

    :param wall: ns since 1970; it may jump and go back.
    :param steady: ns since any moment; it never jumps, and goes on while the machine sleeps.
    :param patience: how long (ns) a jump must last, over regular readings, before it is believed.
    """

    def __init__(
        self, wall: Callable[[], int], steady: Callable[[], int], patience: int = CLOCK_PATIENCE
    ) -> None:
        self._wall = wall
        self._steady = steady
        self.patience = patience
        now = steady()
        # Offsets of the wall clock from the steady one: the confirmed one and since when, the one that is
        # believed now, and a disputed one and since when.
        self._anchor, self._anchored = wall() - now, now
        self._believed = self._anchor
        self._disputed: int | None = None
        self._disputed_since = self._looked = now

    def __call__(self) -> int:
        """
        The time (ns since 1970).
        """
        now = self._steady()
        wall = self._wall()
        offset = wall - now
        if now - self._anchored < self.patience and _close(offset, self._anchor):
            # The usual case must be fast: each request reads the clock.
            self._looked = now
            self._believed = offset
            self._disputed = None
            return wall
        # Two readings that are far apart prove nothing about the time between them.
        lasted = now - self._disputed_since if now - self._looked < self.patience // 4 else 0
        self._looked = now
        if _close(offset, self._anchor):
            # Small steps are believed, as long as they do not add up to a large one too soon.
            if now - self._anchored >= self.patience:
                self._anchor, self._anchored = offset, now
            self._believed = offset
            self._disputed = None
        elif self._disputed is None or not lasted or not _close(offset, self._disputed):
            self._disputed, self._disputed_since = offset, now
        elif lasted >= self.patience:
            self._anchor = self._believed = offset
            self._anchored = now
            self._disputed = None
        return now + self._believed

    def disputed(self) -> int:
        """
        By how much (ns) the wall clock has jumped, if the jump is not believed; 0 otherwise.
        """
        self()
        return 0 if self._disputed is None else self._disputed - self._believed


def _close(one: int, other: int) -> bool:
    return abs(one - other) <= CLOCK_TOLERANCE


class HybridClock:
    """
    Issues stamps, strictly increasing.

    :param now: the wall clock, ns since 1970; it may jump and go back (see `SteadyWall`).
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._last = 0

    @property
    def last(self) -> int:
        """
        The largest stamp issued or observed.
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
        Move past a stamp that another clock issued.
        """
        self._last = max(self._last, stamp)

    def latest_allowed(self) -> int:
        """
        The largest stamp that may come from outside.
        """
        return self._now() + CLOCK_TOLERANCE
