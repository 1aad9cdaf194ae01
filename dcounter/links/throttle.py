"""
Lets some events through in each interval, and counts the rest.

Strangers may connect to a node's port as often as they like. The lines about them must neither fill the log
nor slow down the daemon that writes it.
"""

from collections.abc import Callable


class Throttle:
    """
    Limits the events in each interval. An interval begins with the first event after the last interval.

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
        Whether one more event may pass. One that may not is counted.
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
        How many events did not pass since the last time this was told.

        :param at_once: tell it even before the interval is over.
        """
        if not (at_once or self._seconds() >= self._end):
            return 0
        held, self._held = self._held, 0
        return held
