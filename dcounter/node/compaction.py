"""
Dropping old tombstones together with all other members.

A tombstone may be dropped only if no older entry for its ID can come any more. That is so for those at or
below a stamp when two things are certain: no node accepts new items with such stamps (the floor), and this
node has all batches that any node accepted before it had the floor. The coordinator finds out which batches
these are (`dcounter.coordinator.compacting`), and nodes tell each other in their reports. So a node that
missed the message hears of it, and does the same.

A node that does not have those batches any more has lost some of what it had: its disk was replaced, or put
back to an earlier state. It may have entries whose tombstones others have dropped: it is behind. It gets the
batches from the logs of others, or a copy of a ledger that replaces what it has at or below that stamp. Until
then it answers nothing exactly, and gives no copies.

What holds, after each call:

- what is dropped is at or below `Contents.compacted`, and `applied` covers its position;
- the floor is not below `Contents.compacted`, and is in the journal before any answer says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dcounter.ledger.steps import Steps
from dcounter.node.catch_up import CatchUp, Taking
from dcounter.node.contents import Contents
from dcounter.node.durability import Agreement, Durability, PlainLine
from dcounter.node.effects import Outbox
from dcounter.node.members import Members
from dcounter.protocol import codec, compaction, messages
from dcounter.protocol.batch import Batch

_STEPS_PER_TICK = 2
"""
Steps of a few milliseconds that are taken at each tick: dropping must not hold up other work.
"""


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    What a node accepts of a batch.

    :ivar batch: the slices that it accepts; `None` if none.
    :ivar refused: slice -> why it is refused.
    :ivar whole: whether the batch is the one that came.
    """

    batch: Batch | None
    refused: Mapping[int, str]
    whole: bool


class Compaction:
    """
    What one node knows of compactions, and its part in them.

    :param append: has a line journalled.
    """

    def __init__(
        self,
        out: Outbox,
        contents: Contents,
        durability: Durability,
        members: Members,
        catch_up: CatchUp,
        append: Callable[[Agreement | PlainLine], None],
    ) -> None:
        self._out = out
        self._contents = contents
        self._durability = durability
        self._members = members
        self._catch_up = catch_up
        self._append = append
        # The stamp at or below which tombstones are gone, and the steps to the next one.
        self._dropped = 0
        self._dropping: Steps[int] | None = None
        self._goal = 0

    @property
    def settled(self) -> bool:
        """
        Whether all is dropped that may be.
        """
        due = self._contents.heard_compaction
        return self._dropped == self._contents.compacted_stamp == (0 if due is None else due.stamp)

    # What coordinators ask

    def asked(self, channel: int, message: compaction.SetFloor | compaction.Compact) -> None:
        """
        A coordinator asks for a floor, or for a compaction.
        """
        why = self._why_not()
        if not why and isinstance(message, compaction.Compact):
            why = self._why_not_compact(message)
        if why:
            self._answer(channel, message.request, why)
            return
        self._observe(message)
        line = codec.encode(message)
        self._append(Agreement(line, channel=channel, request=message.request))

    def kept(self, line: Agreement, *, durable: bool) -> None:
        """
        What a coordinator asked for is durable, or is not.
        """
        if line.request:
            self._answer(line.channel, line.request, "" if durable else "the disk failed")

    def _why_not(self) -> str:
        mine = self._contents
        if mine.loading:
            return "the node loads its ledger"
        if self._durability.in_doubt or self._durability.failure is not None or self._members.refusing:
            return "the node does not know for certain what it has"
        if mine.behind:
            return "the node lacks what others had when they compacted"
        return ""

    def _why_not_compact(self, message: compaction.Compact) -> str:
        if self._contents.floor < message.stamp:
            return "the node accepts items with such stamps"
        if not self._durability.durable.covers(message.position):
            return "the node does not have durably what was accepted before"
        return ""

    def _answer(self, channel: int, request: int, why: str) -> None:
        mine = self._contents
        self._out.send(channel, compaction.Agreed(request, mine.applied, mine.stamp, why))

    def _observe(self, message: compaction.SetFloor | compaction.Compact) -> None:
        mine = self._contents
        mine.raise_floor(message.stamp)
        if isinstance(message, compaction.Compact):
            mine.hear(compaction.Compacted(message.stamp, message.position))
            mine.adopt_compaction()

    # What peers and the journal say

    def heard(self, floor: int, compacted: compaction.Compacted | None) -> None:
        """
        A peer has a floor, or has compacted.
        """
        mine = self._contents
        if floor > mine.floor:
            mine.raise_floor(floor)
            self._append(PlainLine(codec.encode(compaction.SetFloor(0, floor))))
        if compacted is not None:
            mine.hear(compacted)

    # Doing it

    def tick(self) -> bool:
        """
        Compact if that was missed and is possible, and drop some tombstones; whether the ledger got sound.
        """
        mine = self._contents
        due = mine.heard_compaction
        if mine.loading:
            return False
        if mine.fresh is not None and not isinstance(self._catch_up.state, Taking):
            # It broke off, and perhaps none is needed any more.
            mine.abandon_copy()
        if mine.behind:
            self._catch_up.want()
        was_behind = mine.was_behind and not mine.behind
        mine.was_behind = mine.behind
        if (
            due is not None
            and due.stamp > mine.compacted_stamp
            and not self._why_not()
            and self._durability.durable.covers(due.position)
        ):
            mine.raise_floor(due.stamp)
            mine.adopt_compaction()
            self._append(PlainLine(codec.encode(compaction.Compact(0, due.stamp, due.position))))
        self._drop()
        return was_behind

    def again(self) -> None:
        """
        A copy came, perhaps of a node that has not compacted yet, or in the place of the ledger.
        """
        if self._dropping is not None:
            self._dropping.close()
            self._dropping = None
        self._dropped = 0

    def _drop(self) -> None:
        mine = self._contents
        if self._dropping is None:
            if self._dropped == mine.compacted_stamp or mine.fresh is not None:
                return
            self._dropping = mine.ledger.compact(mine.compacted_stamp)
            self._goal = mine.compacted_stamp
        for _ in range(_STEPS_PER_TICK):
            try:
                next(self._dropping)
            except StopIteration as stop:
                self._dropping = None
                self._dropped = self._goal
                if stop.value:
                    self._out.say("info", f"dropped {stop.value} tombstones")
                return


def accept(batch: Batch, floor: int) -> Accepted:
    """
    Which slices of a batch have no item at or below the floor.
    """
    if not floor or batch.smallest_stamp() > floor:
        return Accepted(batch, {}, whole=True)
    kept, refused = batch.above(floor)
    why = f"items at or below the stamp {floor} are no longer accepted: deletions up to it are compacted"
    return Accepted(kept, dict.fromkeys(refused, why), whole=False)


def kept_lines(contents: Contents) -> list[messages.JournalLine]:
    """
    What a snapshot must have of floors and compactions.
    """
    lines: list[messages.JournalLine] = []
    if contents.floor:
        lines.append(compaction.SetFloor(0, contents.floor))
    if contents.compacted is not None:
        lines.append(compaction.Compact(0, contents.compacted.stamp, contents.compacted.position))
    return lines
