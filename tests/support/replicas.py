"""
Several replicas that talk to each other without a network: whatever is under way lies in lists, and the
test says what happens next.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import cast

from msgspec import Raw

from dcounter.journal.framing import JournalEntry
from dcounter.limits import Limits
from dcounter.node.durability import Pending
from dcounter.node.effects import (
    Append,
    CloseChannel,
    Effect,
    FlushJournal,
    LogMessage,
    Send,
    Snapshot,
    StepsLeft,
    StopFollowing,
    StreamReady,
)
from dcounter.node.replica import Replica
from dcounter.protocol import codec, messages
from dcounter.protocol.batch import Batch, encode_batch
from dcounter.protocol.handshake import Peer
from dcounter.protocol.position import Position

WALL = 1_800_000_000_000_000_000

COORDINATOR = -1

Heard = messages.FromCoordinator | messages.BetweenNodes
"""
What a replica hears.
"""


def limits(**changes: float) -> Limits:
    return replace(Limits(), **changes)  # type: ignore[arg-type]


def entry(line: bytes) -> JournalEntry:
    """
    A line as the journal keeps it.
    """
    message = codec.decode_kept(line)
    if isinstance(message, messages.Record):
        return JournalEntry(line, message.node, message.run, message.number)
    return JournalEntry(line)


def restore(replica: Replica, lines: Sequence[bytes]) -> list[Effect]:
    """
    Let a replica have all that a journal kept.
    """
    entries = [entry(line) for line in lines]
    for each in entries:
        if not codec.is_chunk(each.line):
            replica.restoring.restore(each)
    for each in entries:
        if each.number or codec.is_chunk(each.line):
            replica.restoring.load(each)
    return replica.loaded()


def store(request: int, ids: Sequence[int], tenant: str | None = "t", base: int = 1_000) -> messages.Store:
    batch = Batch([len(ids)], list(ids), [tenant] * len(ids), bases=[base])
    return messages.Store(request, Raw(encode_batch(batch)))


@dataclass(eq=False)
class End:
    """
    One end of a connection.

    :ivar lines: what is under way to it.
    :ivar received: what has arrived, for an end that is no replica.
    """

    at: int
    peer: Peer
    calls: bool
    channel: int
    lines: deque[bytes] = field(default_factory=deque)
    received: list[messages.Message] = field(default_factory=list)
    other: "End | None" = None
    offered: bool = False


class Replicas:
    """
    Replicas, what is under way between them, and the time.

    A node's journal becomes durable when the test says so (`sync`), in order.

    :ivar trace: node -> the effects in the order in which they were given.
    :ivar notices: node -> level and text of what it told its operator.
    """

    def __init__(self, nodes: int = 3, *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.members = range(nodes)
        self.now = 0.0
        self.wall = WALL
        self.replicas: dict[int, Replica] = {}
        self.unsynced: dict[int, list[Pending]] = {}
        self.journals: dict[int, list[bytes]] = {}
        self.trace: dict[int, list[Effect]] = {}
        self.notices: dict[int, list[tuple[str, str]]] = {}
        self.ends: dict[int, End] = {}
        self.stepping: set[int] = set()
        self._channels = count(1)
        self._requests = count(1)
        for node in self.members:
            self.start(node)

    # Nodes

    def start(self, node: int) -> Replica:
        """
        Start a node that remembers nothing.
        """
        self.wall += 1
        self.replicas[node] = Replica(node, self.members, wall=lambda: self.wall, limits=self.limits)
        self.unsynced[node] = []
        self.journals[node] = []
        self.trace[node] = []
        self.notices[node] = []
        return self.replicas[node]

    def stop(self, node: int) -> None:
        """
        A node dies, and its connections with it.
        """
        for end in [each for each in self.ends.values() if each.at == node]:
            self.break_off(end)
        del self.replicas[node]

    # Connections

    def connect(self, caller: int, callee: int, *, role: str = "node") -> End:
        """
        `caller` connects to `callee`; returns the calling end.
        """
        theirs = Peer("coordinator", None) if caller == COORDINATOR else Peer("node", caller)
        near = End(caller, Peer("node", callee), True, next(self._channels))
        far = End(callee, theirs, False, next(self._channels))
        near.other, far.other = far, near
        self.ends |= {near.channel: near, far.channel: far}
        for end in (far, near):
            if end.at in self.replicas:
                effects = self.replicas[end.at].connected(
                    end.channel, end.peer, calls=end.calls, now=self.now
                )
                self.perform(end.at, effects)
        return near

    def connect_all(self) -> None:
        """
        Every node calls every other one that it is not connected to.
        """
        for node in self.replicas:
            for peer in self.replicas:
                if node != peer and not self.between(node, peer):
                    self.connect(node, peer)

    def between(self, caller: int, callee: int) -> list[End]:
        """
        The calling ends from one node to another.
        """
        return [
            end for end in self.ends.values() if end.calls and end.at == caller and end.peer.node == callee
        ]

    def part(self, *nodes: int) -> None:
        """
        Break all connections among these nodes.
        """
        for end in list(self.ends.values()):
            if end.calls and end.at in nodes and end.peer.node in nodes:
                self.break_off(end)

    def break_off(self, end: End) -> None:
        """
        A connection ends; what was under way is gone.
        """
        if self.ends.pop(end.channel, None) is None:
            return
        if end.at in self.replicas:
            self.perform(end.at, self.replicas[end.at].disconnected(end.channel))
        if end.other is not None:
            self.break_off(end.other)

    # What happens

    def perform(self, node: int, effects: Collection[Effect]) -> None:
        self.trace[node].extend(effects)
        for effect in effects:
            match effect:
                case Send(channel, line):
                    self.put(channel, line)
                case Append(entry, _):
                    self.unsynced[node].append(cast("Pending", entry))
                case StreamReady(channel):
                    if channel in self.ends:
                        self.ends[channel].offered = True
                case CloseChannel(channel):
                    if channel in self.ends:
                        self.break_off(self.ends[channel])
                case LogMessage(level, text):
                    self.notices[node].append((level, text))
                case StepsLeft():
                    self.stepping.add(node)
                case Snapshot() | StopFollowing() | FlushJournal():
                    # Who cares finds them in the trace.
                    pass

    def put(self, channel: int, line: bytes) -> None:
        end = self.ends.get(channel)
        if end is not None and end.other is not None:
            end.other.lines.append(line)

    def say(self, end: End, message: Heard) -> None:
        """
        Let a calling end that is no replica say something, and have it heard at once.
        """
        assert end.other is not None
        self.hear(end.other, message)

    def hear(self, end: End, message: Heard, line: bytes | None = None) -> None:
        """
        A replica hears a message.

        :param line: as it came, if that is not as we write it.
        """
        line = codec.encode(message) if line is None else line
        effects = self.replicas[end.at].receive(end.channel, message, line, self.now)
        self.perform(end.at, effects)

    def stream(self, end: End) -> bool:
        """
        Take the next lines that a replica has for a connection.
        """
        lines = self.replicas[end.at].stream(end.channel) if end.at in self.replicas else []
        for line in lines:
            self.put(end.channel, line)
        end.offered = bool(lines)
        return bool(lines)

    def deliver(self, end: End) -> bool:
        """
        The next line that is under way to an end arrives.
        """
        if not end.lines:
            return False
        line = end.lines.popleft()
        if end.at not in self.replicas:
            end.received.append(codec.decode(line))
            return True
        heard = (
            codec.decode_from_coordinator(line) if end.peer.node is None else codec.decode_between_nodes(line)
        )
        assert not isinstance(heard, messages.Farewell)
        self.hear(end, heard, line)
        return True

    def sync(self, node: int, lines: int | None = None) -> None:
        """
        The oldest lines of a journal become durable.
        """
        lines = len(self.unsynced[node]) if lines is None else lines
        written, self.unsynced[node] = self.unsynced[node][:lines], self.unsynced[node][lines:]
        self.journals[node] += [entry.line for entry in written]
        self.perform(node, self.replicas[node].synced(written))

    def tick(self, seconds: float = 0.2) -> None:
        """
        Time passes.
        """
        self.now += seconds
        self.wall += int(seconds * 1e9)
        for node in list(self.replicas):
            self.perform(node, self.replicas[node].tick(self.now))

    def turn(self, *, but: Collection[int] = ()) -> bool:
        """
        Everything that is under way arrives, everything that waits is written and synced.

        :param but: nodes whose journals stand still.
        """
        busy = False
        # What these lines bring about arrives in the next turn: both ends speak at the same time.
        for end, lines in [(end, len(end.lines)) for end in self.ends.values()]:
            for _ in range(lines):
                if self.ends.get(end.channel) is end:
                    busy = self.deliver(end) or busy
        for channel in list(self.ends):
            if channel in self.ends and self.ends[channel].offered:
                busy = self.stream(self.ends[channel]) or busy
        stepping, self.stepping = self.stepping, set()
        for node in stepping & self.replicas.keys():
            self.perform(node, self.replicas[node].inquiries.step(self.now))
            busy = True
        for node in list(self.replicas):
            if node not in but and self.unsynced[node]:
                self.sync(node)
                busy = True
        return busy

    def settle(self, *, but: Collection[int] = (), rounds: int = 3) -> None:
        """
        Let everything happen until nothing is left but heartbeats.
        """
        for _ in range(rounds):
            self.tick()
            for _ in range(10_000):
                if not self.turn(but=but):
                    break
            else:
                raise AssertionError("it never comes to rest")

    # Coordinators

    def coordinator(self, node: int) -> End:
        """
        A coordinator's connection to a node; what it hears is in `received`.
        """
        return self.connect(COORDINATOR, node)

    def store(self, end: End, *ids: int, tenant: str | None = "t", base: int = 1_000) -> int:
        """
        A coordinator stores a batch of one slice.
        """
        request = next(self._requests)
        self.say(end, store(request, ids, tenant, base))
        return request

    def digests(self) -> set[str]:
        return {replica.ledger.digest() for replica in self.replicas.values()}

    def applied(self) -> list[Position]:
        return [replica.applied for replica in self.replicas.values()]


def appended(effects: Iterable[Effect]) -> list[Pending]:
    """
    The lines that a replica wants to have journalled.
    """
    return [cast("Pending", effect.entry) for effect in effects if isinstance(effect, Append)]


def ready(nodes: int = 3, *, limits: Limits | None = None) -> Replicas:
    """
    Replicas that are all connected, have heard of each other and take writes.
    """
    world = Replicas(nodes, limits=limits)
    world.connect_all()
    world.settle()
    assert all(replica.status.refuses() is None for replica in world.replicas.values())
    return world
