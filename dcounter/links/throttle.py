"""
Lets so many events through in a while, and counts the rest.

Strangers may knock at a node's port as often as they like: what is said about each of them must not fill the
log, nor hold up the daemon that writes it.
"""

from collections.abc import Callable


class Throttle:
    """
    So many events in each interval; an interval begins with the first event after the last one.

    :param most: how many pass in one interval.
    :param interval: how long it is (s).
    :param seconds: the clock (s).
    :ivar interval: how long it is (s).
    """

    def __init__(self, most: int, interval: float, seconds: Callable[[], float]) -> None:
        self.interval = interval
        self._most = most
        self._seconds = seconds
        self._end = float("-inf")
        self._passed = 0
        self._held = 0

    def passes(self) -> bool:
        """
        Whether one more event may pass; if not, it is counted.
        """
        now = self._seconds()
        if now >= self._end:
            self._end = now + self.interval
            self._passed = 0
        if self._passed < self._most:
            self._passed += 1
            return True
        self._held += 1
        return False

    def held_back(self, *, at_once: bool = False) -> int:
        """
        How many events did not pass; each is told once.

        :param at_once: tell it although the interval is not over.
        """
        if not (at_once or self._seconds() >= self._end):
            return 0
        held, self._held = self._held, 0
        return held
