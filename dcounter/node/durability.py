"""
What of a node's state its disk keeps, and what waits for the disk.

Lines go to the journal in order, and the very same objects come back when they are durable, or are not. While
the disk fails nothing is appended: lines that may be journalled later are held back, up to a bound; beyond it
they are dropped for a snapshot, since the ledger has all that they hold. (etcd's raft owns what is not stable
yet in the same way, in its `log_unstable`.)

What holds, after each call:

- `durable` covers nothing that a loss of power could take away, and while this node is in doubt, it announces
  nothing of its own that one could;
- of what was dropped for a snapshot, or came behind it, nothing becomes durable before a snapshot that holds
  all of it is kept;
- a line that was dropped is never appended: the end of a copy must not be in the journal as if all of the
  copy were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from dcounter.journal.framing import JournalEntry
from dcounter.node.effects import Append, Outbox, Snapshot
from dcounter.protocol import codec, messages
from dcounter.protocol.batch import Batch
from dcounter.protocol.messages import Record
from dcounter.protocol.position import NodePosition, Position
from dcounter.protocol.receipts import ReceiptWanted

_SNAPSHOT_PAUSE = 1.0
"""
Time (s) between two requests for a snapshot that the node cannot do without.
"""

_NOWHERE = Position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Own(JournalEntry):
    """
    A batch that a coordinator sent: when it is durable it is applied, and answered.

    :ivar record: what the line says.
    :ivar batch: the batch in it.
    :ivar channel: where it came from.
    :ivar request: the request to be answered.
    :ivar refused: slices that are not in it: their numbers in what the coordinator sent, and why.
    :ivar receipt: the receipt that the answer is to have.
    """

    record: Record
    batch: Batch
    channel: int
    request: int
    receipt: ReceiptWanted | None = None
    refused: Mapping[int, str] = field(default_factory=dict, hash=False)

    @classmethod
    def of(
        cls,
        record: Record,
        batch: Batch,
        channel: int,
        message: messages.Store,
        refused: Mapping[int, str] | None = None,
    ) -> "Own":
        """
        The line of a record.
        """
        line, numbers = codec.encode(record), (record.node, record.run, record.number)
        return cls(
            line,
            *numbers,
            record=record,
            batch=batch,
            channel=channel,
            request=message.request,
            receipt=message.receipt,
            refused=refused or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed(JournalEntry):
    """
    A batch of a log that this node follows; it is applied already.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal(JournalEntry):
    """
    A member was removed from the cluster.

    :ivar request: the request to answer, on `channel`, when it is durable; 0 if none waits for that.
    """

    channel: int = 0
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement(JournalEntry):
    """
    A floor, or a compaction, that a coordinator asked for.

    :ivar request: the request to answer, on `channel`, when it is durable; 0 if none waits for that.
    """

    channel: int = 0
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainLine(JournalEntry):
    """
    A line that needs no action once it is durable: a part of a copy, or what the journal knows of itself.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOfCopy(JournalEntry):
    """
    The end of a copy, the rest of which is before it in the journal.

    :ivar covers: what is durable with it.
    """

    covers: Position


Pending = Own | Followed | Removal | Agreement | PlainLine | EndOfCopy


class Durability:
    """
    What one node's journal keeps, and what it will.

    :param node: its id.
    :param most: bytes of lines that are held back while the disk fails.
    :ivar durable: what is in the journal without a hole, and certain to be on the disk.
    :ivar failure: why the disk takes nothing at present; `None` if it does.
    :ivar in_doubt: whether the ledger may hold batches of this node that only its machine's memory has.
    :ivar needs: what only a snapshot can make durable; `None` if there is nothing of that kind.
    """

    def __init__(self, node: int, out: Outbox, most: int) -> None:
        self.durable = _NOWHERE
        self.failure: str | None = None
        self.in_doubt = False
        self.needs: Position | None = None
        self._node = node
        self._out = out
        self._most = most
        # Lines under way that hold a batch of this node.
        self._own = 0
        self._held_back: list[Pending] = []
        self._held_back_bytes = 0
        # What is journalled behind lines that were dropped for a snapshot.
        self._synced_past_gap = _NOWHERE
        self._asked = float("-inf")
        self._begin = _NOWHERE
        self._end: Position | None = None

    # Lines

    @property
    def own_under_way(self) -> bool:
        """
        Whether lines with batches of this node wait for the disk.
        """
        return self._own > 0

    def append(self, line: Pending, applied: Position, *, waits: bool) -> bool:
        """
        Journal a line, now or when the disk works again.

        :param applied: what the ledger has.
        :param waits: whether a request waits for it.
        :returns: whether lines were dropped for a snapshot.
        """
        if self.failure is not None:
            return self._hold_back(line, applied)
        self._own += self._is_own(line)
        self._out.add(Append(line, waits))
        return False

    def _is_own(self, line: Pending) -> bool:
        # Lines without a batch have no number.
        return line.number > 0 and line.node == self._node

    def _hold_back(self, line: Pending, applied: Position) -> bool:
        self._held_back.append(line)
        self._held_back_bytes += len(line.line)
        end_only = self.needs is not None and isinstance(line, EndOfCopy)
        if not end_only and self._held_back_bytes <= self._most:
            return False
        # The ledger has it all: it is journalled as a whole, which is no more than memory holds.
        self.needs = applied
        self._held_back, self._held_back_bytes = [], 0
        return True

    def synced(self, line: Pending) -> None:
        """
        A line that was appended is durable.
        """
        self._own -= self._is_own(line)
        match line:
            case Own() | Followed():
                self._journalled(line.node, line.run, line.number)
            case EndOfCopy():
                self.durable = self.durable.join(line.covers)
            case Removal() | Agreement() | PlainLine():
                pass
            case _:
                assert_never(line)

    def _journalled(self, node: int, run: int, number: int) -> None:
        if number > self.durable.number(node, run) + 1:
            # What is before it was dropped for a snapshot, and is not durable before that is kept.
            self._synced_past_gap = self._synced_past_gap.advance(node, run, number)
        else:
            self.durable = self.durable.advance(node, run, number)

    def failed(self, lines: Sequence[Pending], reason: str, applied: Position) -> bool:
        """
        Lines that were appended are not durable, and none will be until `mended`.

        Batches of this node are dropped, and refused elsewhere: nothing of them was applied.

        :returns: whether other lines were dropped for a snapshot.
        """
        self.failure = reason
        dropped = False
        for line in lines:
            self._own -= self._is_own(line)
            match line:
                case Own():
                    pass
                case Removal() | Agreement():
                    # The request is answered now.
                    dropped |= self._hold_back(replace(line, request=0), applied)
                case Followed() | PlainLine() | EndOfCopy():
                    dropped |= self._hold_back(line, applied)
                case _:
                    assert_never(line)
        return dropped

    def mended(self, *, snapshot: bool) -> list[Pending]:
        """
        The journal takes lines again.

        :param snapshot: whether one may be taken.
        :returns: the lines that were held back, to be appended now.
        """
        self.failure = None
        self._asked = float("-inf")
        if self.needs is not None and snapshot:
            self._out.add(Snapshot())
        held_back, self._held_back, self._held_back_bytes = self._held_back, [], 0
        return held_back

    # Positions

    def restored(self, applied: Position) -> None:
        """
        What was read from the journal is durable.
        """
        self.durable = applied

    def fold(self, node: int, run: int) -> None:
        """
        All runs of a node before this one are everywhere.
        """
        self.durable = self.durable.fold(node, run)

    # Doubt

    def doubted(self, applied: Position) -> None:
        """
        What was read from the journal may not be on the disk: a sync may have failed in an earlier life.

        A loss of power would take it then, and with it, of our own batches, what no other node has. What
        others sent us stood in their journals before.
        """
        self.durable = _NOWHERE
        self.needs = applied
        self.in_doubt = bool(applied.of(self._node).runs)

    def settle_doubt(self, known: Callable[[Position], Position], applied: Position) -> bool:
        """
        See whether all that is in doubt is kept by now: by the disk, or by other nodes.

        :param known: joins what other nodes are known to have to a position.
        :returns: whether the doubt is over since this call.
        """
        if not self.in_doubt:
            return False
        if self.failure is not None and not known(self.announced(applied)).covers(applied):
            return False
        self.in_doubt = False
        return True

    def announced(self, applied: Position) -> Position:
        """
        What this node tells others that it has: all that is applied, but for what is in doubt.
        """
        if not self.in_doubt:
            return applied
        certain = NodePosition(applied.of(self._node).folded)
        return Position({**applied.nodes, self._node: certain})

    # Snapshots

    def need_snapshot(self, applied: Position) -> None:
        """
        The ledger holds what no line in the journal does.
        """
        self.needs = applied

    def ask_for_snapshot(self, now: float) -> None:
        """
        Ask for a snapshot that the node cannot do without, from time to time.
        """
        if self.needs is not None and self.failure is None and now - self._asked >= _SNAPSHOT_PAUSE:
            self._asked = now
            self._out.add(Snapshot())

    def snapshot_begins(self) -> None:
        """
        A snapshot is being taken.
        """
        self._end = None

    def snapshot_reaches(self, begin: Position) -> None:
        """
        The snapshot that is being taken includes this, whatever else it does.
        """
        self._begin = begin

    def snapshot_ends(self, end: Position) -> None:
        """
        Nothing in the snapshot that was taken lies beyond this.
        """
        self._end = end

    def snapshot_ready(self) -> bool:
        """
        Whether the snapshot that was taken last may be kept.

        Either the log that is journalled reaches to its end, or the snapshot is the only thing that can make
        it durable.
        """
        return self.needs is not None or (self._end is not None and self.durable.covers(self._end))

    def snapshot_kept(self) -> None:
        """
        The snapshot is durable.
        """
        self.durable = self.durable.join(self._begin)
        if self.needs is not None and self._begin.covers(self.needs):
            self.needs = None
            self.durable = self.durable.join(self._synced_past_gap)
            self._synced_past_gap = _NOWHERE
