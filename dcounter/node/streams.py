"""
Writing to the channels of a node, no faster than they take it.

What holds, between any two events:

- a channel is written to only while it takes more, and is continued when it says so;
- between two writes that were asked for there is the pace at least: what comes meanwhile goes along;
- a channel gets a bounded share of each turn of the reactor: it may take more as fast as it is written to.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_SHARE: Final = 64 * 1024
"""
Bytes that are written to a channel in one turn of the reactor, at least; then others have theirs.
"""


class Channel(Protocol):
    """
    What a node needs of a connection, whichever end made it.
    """

    @property
    def paused(self) -> bool: ...

    @property
    def host(self) -> str: ...

    def send_line(self, line: bytes) -> None: ...

    def send_lines(self, lines: Sequence[bytes]) -> None: ...

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
            self._go_on(channel, left)

    def now(self, channel: int) -> None:
        """
        Write what there is for a channel, as long as the channel takes more.
        """
        there = self._channels.get(channel)
        if there is None:
            return
        self._paced_until[channel] = self._clock.seconds() + self._pace
        written = 0
        while not there.paused:
            lines = self._lines(channel)
            if not lines:
                return
            there.send_lines(lines)
            written += sum(map(len, lines))
            if written >= _SHARE:
                self._go_on(channel, 0)
                return

    def _go_on(self, channel: int, seconds: float) -> None:
        late = self._late.get(channel)
        if late is None:
            self._late[channel] = self._clock.callLater(seconds, self._write_late, channel)
        else:
            late.reset(seconds)

    def _write_late(self, channel: int) -> None:
        del self._late[channel]
        self.now(channel)
