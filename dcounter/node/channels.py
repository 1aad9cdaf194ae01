"""
The connections of one node: which process is at the other end, and when it was heard of last.

What holds, after each call:

- a channel is silent only for as long as this node was awake: after a pause of its own, the silence of others
  proves nothing;
- what a channel's other end reported is what it said on that very channel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dcounter.errors import MalformedMessage
from dcounter.limits import Limits
from dcounter.node.effects import CloseChannel, Outbox
from dcounter.protocol import messages
from dcounter.protocol.handshake import Peer
from dcounter.protocol.messages import Report
from dcounter.protocol.position import NodeId

ToNode = messages.FromCoordinator | messages.BetweenNodes
"""
What is said to a node after the handshake.
"""


@dataclass(slots=True)
class _Channel:
    """
    One connection, from either side.

    :ivar calls: this node made the connection.
    :ivar heard: when (s) the last message came.
    :ivar report: the last one that came on this connection; an earlier one may be of another process.
    """

    peer: Peer
    calls: bool
    heard: float
    report: Report | None = None


class Channels:
    """
    The connections of one node, by number.
    """

    def __init__(self, out: Outbox, limits: Limits) -> None:
        self._out = out
        self._limits = limits
        self._channels: dict[int, _Channel] = {}
        self._last_check = float("inf")

    def __contains__(self, channel: int) -> bool:
        return channel in self._channels

    def __iter__(self) -> Iterator[int]:
        return iter(self._channels)

    def connected(self, channel: int, peer: Peer, *, calls: bool, now: float) -> None:
        """
        A connection was made.
        """
        self._channels[channel] = _Channel(peer, calls, now)

    def disconnected(self, channel: int) -> None:
        """
        A connection is gone.
        """
        self._channels.pop(channel, None)

    def heard(self, channel: int, now: float) -> None:
        """
        A message came.
        """
        self._channels[channel].heard = now

    def reported(self, channel: int, report: Report) -> None:
        """
        A node said how it is.

        :raises MalformedMessage: it is another node.
        """
        there = self._channels[channel]
        if there.peer.node != report.node:
            raise MalformedMessage(f"a report of node {report.node} from {there.peer}")
        there.report = report

    @property
    def any_calls(self) -> bool:
        """
        Whether this node made any of the connections.
        """
        return any(there.calls for there in self._channels.values())

    def followers(self) -> list[Report | None]:
        """
        What each node that is connected reported last; `None` if it has not yet.
        """
        return [there.report for there in self._channels.values() if there.peer.node is not None]

    def gives_copies(self, channel: int) -> bool:
        """
        Whether the other end can be asked for a copy of its ledger.

        One whose ledger is not sound yet would let us wait; when it is, it reports.
        """
        there = self._channels[channel]
        return there.calls and (there.report is None or there.report.ledger_sound)

    def close_to(self, node: NodeId, reason: str) -> None:
        """
        Close all connections to a node.
        """
        for channel, there in self._channels.items():
            if there.peer.node == node:
                self._out.add(CloseChannel(channel, reason))

    def check(self, now: float, *, outcast: bool) -> None:
        """
        Time has passed: close what has been silent for too long.

        :param outcast: close the rest as well, since the other nodes refuse this process.
        """
        # After a pause of our own, the silence of others proves nothing.
        slept = max(0.0, now - self._last_check - self._limits.heartbeat_s)
        self._last_check = now
        for channel, there in self._channels.items():
            there.heard += slept
            limit = self._limits.idle_s if there.peer.node is None else self._limits.suspicion_s
            if now - there.heard > limit:
                self._out.add(CloseChannel(channel, f"silent for {now - there.heard:.1f} s"))
            elif outcast:
                self._out.add(CloseChannel(channel, "the other nodes refuse this process"))
