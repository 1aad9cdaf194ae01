"""
How a node catches up when the logs of the others do not reach back far enough: it takes a copy of a ledger.

The states, and what each event does in them:

| state | a gap | CopyBegin | CopyChunk | CopyEnd | its channel is lost | all came another way |
|---|---|---|---|---|---|---|
| Idle | Asked, or Wanted if the giver is not able | error | error | error | - | - |
| Wanted | Asked, if the giver is able | error | error | error | - | Idle |
| Interrupted, after a start | Asked, if the giver is able | error | error | error | - | Idle |
| Asked | - | Taking | error | error | Wanted | - |
| Taking | - | Taking, from the beginning | - | Idle | Wanted | - |

In Wanted and Interrupted, a report of a peer that has more than this node has the same effect as a gap.

What holds, after each call:

- one copy is under way at most, and what comes on another channel is an error;
- `must_reach` covers all that chunks of any copy brought into the ledger, and only goes back for what no
  member has any more: until it is applied the ledger holds parts of batches, and counts are not exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from dcounter.errors import MalformedMessage
from dcounter.node.contents import Contents
from dcounter.node.durability import EndOfCopy, PlainLine
from dcounter.node.effects import Outbox
from dcounter.protocol import codec, copies
from dcounter.protocol.position import NodeId, Position

NO_COPY = copies.CopyBegin(Position(), {}, [])
"""
Stands for a beginning that is not in the journal.
"""


@dataclass(frozen=True, slots=True)
class Idle:
    """
    No copy is needed.
    """


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    A copy is needed, and no peer was asked for one yet.
    """


@dataclass(frozen=True, slots=True)
class Interrupted:
    """
    A copy is needed: the journal has the beginning of one, and not its end.
    """

    begin: copies.CopyBegin


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A peer was asked for a copy.

    :ivar begin: of an earlier one, in the journal.
    """

    channel: int
    begin: copies.CopyBegin | None


@dataclass(frozen=True, slots=True)
class Taking:
    """
    A copy is coming in.

    :ivar kept: whether all of it is in the journal, or will be.
    """

    channel: int
    begin: copies.CopyBegin
    kept: bool = True


CopyMessage = copies.CopyBegin | copies.CopyChunk | copies.CopyEnd

State = Idle | Wanted | Interrupted | Asked | Taking


class CatchUp:
    """
    The copies that one node takes.

    :param patience: time (s) for which no member must have something before it is no longer required.
    :ivar state: which of the states above it is in.
    :ivar must_reach: what must be applied before the ledger holds exactly what `applied` covers.
    """

    def __init__(self, out: Outbox, patience: float) -> None:
        self.state: State = Idle()
        self.must_reach = Position()
        self._out = out
        self._patience = patience
        # Node and run -> since when no member has what a copy brought parts of.
        self._gone_since: dict[tuple[NodeId, int], float] = {}

    @property
    def wanted(self) -> bool:
        """
        Whether a copy is needed, or under way.
        """
        return not isinstance(self.state, Idle)

    @property
    def unfinished(self) -> copies.CopyBegin | None:
        """
        The beginning of a copy whose end the journal does not have.
        """
        return None if isinstance(self.state, Idle | Wanted) else self.state.begin

    # Taking a copy

    def want(self) -> None:
        """
        A log does not reach back to what is applied here.
        """
        if isinstance(self.state, Idle):
            self.state = Wanted()

    def ask(self, channel: int, *, able: bool) -> None:
        """
        A peer has more than this node: ask it for a copy, if one is needed and not under way.

        :param able: whether the peer can give one.
        """
        if not able:
            return
        match self.state:
            case Wanted():
                self.state = Asked(channel, None)
            case Interrupted(begin):
                self.state = Asked(channel, begin)
            case Idle() | Asked() | Taking():
                return
        self._out.send(channel, copies.Copy())

    def disconnected(self, channel: int) -> None:
        """
        A channel is gone.
        """
        match self.state:
            case (Asked() | Taking()) as state if state.channel == channel:
                self.state = Wanted()
                self._out.say("warn", "a copy of the ledger broke off; another one will be taken")
            case _:
                pass

    def covered(self) -> bool:
        """
        All that any member has is applied here.

        :returns: whether a copy was waited for, and is needed no more.
        """
        match self.state:
            case Wanted() | Interrupted():
                # The beginning of a copy that is needed no more must not be in the next snapshot.
                self.state = Idle()
                return True
            case Idle() | Asked() | Taking():
                return False

    def take(
        self, channel: int, message: CopyMessage, line: bytes, contents: Contents
    ) -> PlainLine | EndOfCopy | None:
        """
        A part of a copy came: it goes into what this node has.

        :param line: the same as it came.
        :returns: the line for the journal; `None` if the journal is not to have it. At the end of a copy,
            only a snapshot can make the copy durable then.
        :raises MalformedMessage: it was not asked for, or does not belong there.
        """
        match message:
            case copies.CopyBegin():
                mine = contents.compacted
                if mine is not None and not message.position.covers(mine.position):
                    raise MalformedMessage("a copy that lacks what was there when this node compacted")
                self.begins(channel, message)
                contents.begin_copy(message)
                if contents.fresh is not None:
                    # It takes the place of what the journal has: only a snapshot can say so.
                    self.lines_dropped()
                    return None
                return PlainLine(line)
            case copies.CopyChunk():
                self.brings(channel, message.position)
                contents.merge_chunk(message.packed())
                if contents.fresh is not None:
                    return None
                # A journal knows chunks by how their lines begin.
                return PlainLine(line if codec.is_chunk(line) else codec.encode(message))
            case copies.CopyEnd():
                taken = self.ends(channel)
                self.reach(message.position)
                contents.copied(taken.begin, message)
                return EndOfCopy(line, covers=taken.begin.position) if taken.kept else None
            case _:
                assert_never(message)

    def begins(self, channel: int, message: copies.CopyBegin) -> None:
        """
        A copy begins to come in.

        :raises MalformedMessage: it was not asked for.
        """
        self._asked(channel)
        self.state = Taking(channel, message)

    def brings(self, channel: int, position: Position) -> None:
        """
        A chunk came in; nothing in it lies beyond a position.

        :raises MalformedMessage: it was not asked for, or did not begin.
        """
        self._taking(channel)
        # Not only at the end: the copy may break off, and what came of it stays in the ledger.
        self.reach(position)

    def ends(self, channel: int) -> Taking:
        """
        All of a copy came in: what it was.

        :raises MalformedMessage: it was not asked for, or did not begin.
        """
        taken = self._taking(channel)
        self.state = Idle()
        return taken

    def _asked(self, channel: int) -> Asked | Taking:
        if isinstance(self.state, Asked | Taking) and self.state.channel == channel:
            return self.state
        raise MalformedMessage("a copy that was not asked for")

    def _taking(self, channel: int) -> Taking:
        state = self._asked(channel)
        if isinstance(state, Asked):
            raise MalformedMessage("a copy without its beginning")
        return state

    def lines_dropped(self) -> None:
        """
        Lines were dropped, and do not come into the journal.
        """
        if isinstance(self.state, Taking):
            self.state = replace(self.state, kept=False)

    # Starting again

    def restored_begin(self, message: copies.CopyBegin) -> None:
        """
        The journal has the beginning of a copy.
        """
        self.state = Interrupted(message)

    def restored_end(self) -> copies.CopyBegin:
        """
        The journal has the end of a copy; what it began with.
        """
        # Without its beginning: the snapshot before it was taken when it was in the ledger already.
        begin = self.unfinished or NO_COPY
        self.state = Idle()
        return begin

    # What a copy brought

    def reach(self, position: Position) -> None:
        """
        Something was put into the ledger that may lie as far as this.
        """
        self.must_reach = self.must_reach.join(position)

    def drop_lost(self, now: float, known: Position | None, is_closed: Callable[[NodeId, int], bool]) -> None:
        """
        Wait no longer for batches that were in a copy and that, for a while now, no member has.

        :param known: what any node has; `None` while not all members are heard of, or nothing is waited for.
        :param is_closed: whether a node adds nothing to a run any more.
        """
        gone = {}
        if known is not None:
            gone = {
                (node, run): known.number(node, run)
                for node, run, number in self.must_reach.entries()
                if number > known.number(node, run) and is_closed(node, run)
            }
        self._gone_since = {each: self._gone_since.get(each, now) for each in gone}
        for (node, run), since in list(self._gone_since.items()):
            if now - since >= self._patience:
                del self._gone_since[node, run]
                self.must_reach = self.must_reach.without(node, run, gone[node, run])
                self._out.say("error", f"a copy held items of node {node} that no member has any more")
