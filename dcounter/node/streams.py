"""
Writing to the channels of a node, no faster than they take it.

What holds, between any two events:

- a channel is written to only while it takes more, and is continued when it says so;
- between two writes that were asked for there is the pace at least: what comes meanwhile goes along.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Channel(Protocol):
    """
    What a node needs of a connection, whichever end made it.
    """

    @property
    def paused(self) -> bool: ...

    @property
    def host(self) -> str: ...

    def send_line(self, line: bytes) -> None: ...

    def cut(self, reason: str) -> None: ...


class Streams:
    """
    Writes what there is to the channels of one node.

    :param channels: by number; those that are open.
    :param lines: gives the next lines for a channel; none if it has all for now.
    :param pace: shortest time (s) between two writes.
    """

    def __init__(
        self,
        channels: Mapping[int, Channel],
        lines: Callable[[int], Sequence[bytes]],
        pace: float,
        clock: IReactorTime,
    ) -> None:
        self._channels = channels
        self._lines = lines
        self._pace = pace
        self._clock = clock
        self._late: dict[int, IDelayedCall] = {}
        self._paced_until: dict[int, float] = {}

    def closed(self, channel: int) -> None:
        """
        A channel is gone.
        """
        self._paced_until.pop(channel, None)
        late = self._late.pop(channel, None)
        if late is not None and late.active():
            late.cancel()

    def soon(self, channel: int) -> None:
        """
        Write at once, unless that was done a moment ago: then what comes meanwhile goes along.
        """
        if channel in self._late:
            return
        left = self._paced_until.get(channel, 0.0) - self._clock.seconds()
        if left <= 0:
            self.now(channel)
        else:
            self._late[channel] = self._clock.callLater(left, self._write_late, channel)

    def now(self, channel: int) -> None:
        """
        Write what there is for a channel, as long as the channel takes more.
        """
        there = self._channels.get(channel)
        if there is None:
            return
        self._paced_until[channel] = self._clock.seconds() + self._pace
        while not there.paused:
            lines = self._lines(channel)
            if not lines:
                return
            for line in lines:
                there.send_line(line)

    def _write_late(self, channel: int) -> None:
        del self._late[channel]
        self.now(channel)
