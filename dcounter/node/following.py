"""
Logs on their way: to which peers this node hands them on, and from which ones it gets what it lacks.

A node follows every peer that it has called: the peer then streams its own log. What a log's own node will
not send, since it is unavailable or starts a new run, is fetched from another peer that has it: a relay.

What holds, after each call:

- a channel is sent each batch of a log in order, from where its other end said that it follows;
- a relay is kept for as long as it has something that is missing here;
- a log is sent by one relay at most, and by none if its own node sends all that any node has of it;
- after a hole is met, the log is asked for once, not for each batch behind the hole.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from dcounter.node.backlog import Backlog
from dcounter.node.effects import Outbox, StreamReady
from dcounter.protocol import codec, messages
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.position import NodeId, Position


@dataclass(slots=True)
class _Follower:
    """
    One connection to another node, or to a coordinator, which follows no log.

    :ivar node: which node is at the other end; `None` for a coordinator.
    :ivar calls: we made the connection, so we follow the node that we reached.
    :ivar following: we follow its own log.
    :ivar sends: node -> run -> the last number sent, for the logs that are streamed here.
    :ivar asked: node -> the run and number after which a hole was met, so that it is asked for once.
    """

    node: NodeId | None
    calls: bool
    following: bool = False
    sends: dict[int, dict[int, int]] = field(default_factory=dict)
    asked: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """
    What a choice of relays depends on.

    :ivar run: this node's open run; no other node has more of it.
    :ivar nodes: whose logs there are.
    :ivar reports: node -> what it said last.
    """

    run: int
    applied: Position
    nodes: Collection[NodeId]
    reports: Mapping[NodeId, messages.Report]


class Following:
    """
    The logs that one node hands on, and those that it gets.

    :param node: its id.
    :param backlog: the newest batches of all logs.
    :param most: bytes that are streamed at once.
    """

    def __init__(self, node: int, out: Outbox, backlog: Backlog, most: int) -> None:
        self._node = node
        self._out = out
        self._backlog = backlog
        self._most = most
        self._channels: dict[int, _Follower] = {}
        # Node -> the channel by which its log comes although its own node is not at the other end.
        self._relays: dict[int, int] = {}

    # Channels

    def connected(self, channel: int, node: NodeId | None, *, calls: bool) -> None:
        """
        A connection was made.
        """
        self._channels[channel] = _Follower(node, calls)

    def disconnected(self, channel: int) -> None:
        """
        A connection is gone.
        """
        self._channels.pop(channel, None)
        self._relays = {node: via for node, via in self._relays.items() if via != channel}

    def sources(self, reports: Mapping[NodeId, messages.Report]) -> dict[NodeId, int]:
        """
        Peers that this node follows and that have reported: node id -> channel.
        """
        return {
            there.node: channel
            for channel, there in self._channels.items()
            if there.node is not None and there.following and there.node in reports
        }

    # Handing on

    def start(self, channel: int, message: messages.Follow, applied: Position) -> None:
        """
        The other end follows a log here.
        """
        mine = applied.of(message.node)
        if message.position.folded < mine.folded:
            self._out.send(channel, messages.Gap(message.node))
            return
        sent = {run: MAX_STAMP for run in mine.runs if run < message.position.folded}
        self._channels[channel].sends[message.node] = {**message.position.runs, **sent}
        self._out.add(StreamReady(channel))

    def stop(self, channel: int, node: NodeId) -> None:
        """
        The other end follows a log here no longer.
        """
        self._channels[channel].sends.pop(node, None)

    def offer(self) -> None:
        """
        There may be more to hand on.
        """
        for channel, there in self._channels.items():
            if there.sends:
                self._out.add(StreamReady(channel))

    def next_lines(self, channel: int, announced: Position) -> list[bytes]:
        """
        Lines to write to a channel next; none if it has all for now.

        :param announced: what this node says that it has.
        """
        there = self._channels[channel]
        for node, sent in there.sends.items():
            mine = announced.of(node)
            for run, number in mine.runs.items():
                if sent.get(run, 0) >= number:
                    continue
                lines = self._backlog.read(node, run, sent.get(run, 0), self._most)
                if not lines:
                    # It was cut, or a copy left it short.
                    del there.sends[node]
                    return [codec.encode(messages.Gap(node))]
                sent[run] = sent.get(run, 0) + len(lines)
                return lines
        return []

    # Getting

    def follow(self, channel: int, node: NodeId, applied: Position) -> None:
        """
        Have a log sent, from what is applied on.
        """
        self._out.send(channel, messages.Follow(node, applied.of(node)))

    def reported(self, channel: int, node: NodeId, applied: Position) -> None:
        """
        A peer said how it is: follow it, if we called it and do not yet.
        """
        there = self._channels[channel]
        if there.calls and not there.following:
            there.following = True
            self.follow(channel, node, applied)

    def hole(self, channel: int, node: NodeId, run: int, known: int, applied: Position) -> None:
        """
        A batch came although some before it have not.

        :param known: the number up to which that run is applied.
        """
        there = self._channels[channel]
        if there.asked.get(node) != (run, known):
            there.asked[node] = (run, known)
            self.follow(channel, node, applied)

    def anew(self, facts: RelayFacts) -> None:
        """
        Follow every peer from what is applied now; relays are chosen anew.
        """
        for node in list(self._relays):
            self._leave_relay(node)
        for peer, via in self.sources(facts.reports).items():
            self.follow(via, peer, facts.applied)

    def without(self, node: NodeId) -> None:
        """
        A member was removed: its relay is chosen anew.
        """
        self._leave_relay(node)

    def choose(self, facts: RelayFacts) -> None:
        """
        Follow each log that its own node does not send at a peer that has more of it.
        """
        sources = self.sources(facts.reports)
        for node in facts.nodes:
            lacking = self._lacking(node, sources, facts)
            via = self._relays.get(node)
            if not lacking:
                if node in sources or node == self._node:
                    self._leave_relay(node)
                continue
            if via is not None and any(
                channel == via and _ahead(facts.reports[peer], lacking) for peer, channel in sources.items()
            ):
                # Another one may be further ahead by its last report. If that were a reason to change, this
                # node would change at every report of two peers that follow the same log.
                continue
            best = max(sources, key=lambda peer: _ahead(facts.reports[peer], lacking))
            self._leave_relay(node)
            self._relays[node] = sources[best]
            self.follow(sources[best], node, facts.applied)

    def _leave_relay(self, node: NodeId) -> None:
        """
        Have a log no longer sent by a relay, which would go on for as long as the connection lives.
        """
        via = self._relays.pop(node, None)
        if via is not None:
            self._out.send(via, messages.Unfollow(node))

    def _lacking(
        self, node: NodeId, sources: Collection[NodeId], facts: RelayFacts
    ) -> list[tuple[NodeId, int, int]]:
        """
        Node, run and our number of each run of a node that its own node will not send us.
        """
        mine = facts.applied.of(node)
        origin = facts.reports.get(node) if node in sources else None
        found = set()
        for peer in sources:
            for run, number in facts.reports[peer].applied.of(node).runs.items():
                if number <= mine.number(run) or (node, run) == (self._node, facts.run):
                    continue
                if origin is not None:
                    has = origin.applied.number(node, run)
                    if run == origin.run or has > mine.number(run):
                        continue
                found.add((node, run, mine.number(run)))
        return sorted(found)


def _ahead(report: messages.Report, lacking: Collection[tuple[NodeId, int, int]]) -> int:
    return sum(max(0, report.applied.number(node, run) - number) for node, run, number in lacking)
