"""
What a node takes in from its journal when it starts, in two steps.

The first step, `restore`, takes little time however large the ledger is: afterwards the node knows what it
has, and can hand on its log and take writes. The second one, `load`, fills the ledger, in any order.

What holds, after each call:

- `applied` covers only what is in the ledger or comes with `load`, and is durable;
- of this node's own runs nothing is missing: a hole there is damage. In runs of others there may be holes, of
  lines that came while the disk failed: what is behind them is fetched again.
"""

from collections.abc import Callable
from typing import TypeVar, assert_never

from dcounter.errors import CorruptJournal, MalformedMessage, NewerJournal
from dcounter.journal.framing import JournalEntry
from dcounter.node.catch_up import CatchUp
from dcounter.node.contents import Contents
from dcounter.node.durability import Durability
from dcounter.node.empty_journal import EmptyJournal
from dcounter.node.members import Members
from dcounter.protocol import codec, compaction, copies, messages
from dcounter.protocol.batch import decode_batch
from dcounter.protocol.messages import Record
from dcounter.protocol.position import NodeId

_T = TypeVar("_T")
_Raw = TypeVar("_Raw")


def _understand(decode: Callable[[_Raw], _T], raw: _Raw) -> _T:
    """
    Decode what the journal kept.

    Its checksum was right, so it is what was written: if we cannot read it, another version can.

    :raises NewerJournal: it means nothing to this version.
    """
    try:
        return decode(raw)
    except MalformedMessage as error:
        raise NewerJournal(f"this version cannot read a line: {error}") from error


class Restoring:
    """
    Takes the lines of one node's journal in.

    :param node: its id.
    """

    def __init__(
        self,
        node: NodeId,
        contents: Contents,
        durability: Durability,
        members: Members,
        empty_journal: EmptyJournal,
        catch_up: CatchUp,
    ) -> None:
        self._node = node
        self._contents = contents
        self._durability = durability
        self._members = members
        self._empty_journal = empty_journal
        self._catch_up = catch_up

    def restore(self, entry: JournalEntry) -> None:
        """
        Take in a line that the journal kept, all but what the ledger is made of (see `load`).

        :param entry: in the order in which they were appended.
        :raises CorruptJournal: a line is missing.
        :raises NewerJournal: this version does not know what the line is.
        """
        if entry.number:
            self._empty_journal.restored(None)
            self._restore_record(entry)
        else:
            message = _understand(codec.decode_kept, entry.line)
            self._empty_journal.restored(message if isinstance(message, messages.JournalState) else None)
            self._restore_message(message)
        self._durability.restored(self._contents.applied)

    def _restore_record(self, entry: JournalEntry) -> None:
        node, run, number = entry.node, entry.run, entry.number
        known = self._contents.applied.number(node, run)
        self._contents.loading = True
        if number > known + 1 and node == self._node:
            raise CorruptJournal(f"number {known + 1} of our own run {run} is missing")
        if number == known + 1:
            head = _understand(codec.decode_head, entry.line)
            self._contents.advance(node, run, number, head.stamp, head.opening, entry.line)

    def _restore_message(self, message: messages.JournalLine) -> None:
        match message:
            case messages.JournalState():
                pass
            case messages.Remove():
                self._members.remove(message.node)
            case copies.CopyBegin():
                self._catch_up.restored_begin(message)
                self._contents.ledger.reserve(message.entries)
                self._contents.loading = True
            case copies.CopyEnd():
                self._catch_up.reach(message.position)
                self._contents.copied(self._catch_up.restored_end(), message)
            case compaction.SetFloor() | compaction.Compact():
                self._contents.restored_compaction(message)
            case Record() | copies.CopyChunk():
                # Records come with their numbers, and chunks when the ledger is loaded.
                raise NewerJournal(f"this version expects no {type(message).__name__} there")
            case _:
                assert_never(message)

    def load(self, entry: JournalEntry) -> None:
        """
        Take into the ledger what `restore` left out, in any order, whatever is merged meanwhile.

        :raises NewerJournal: this version does not know what the line is.
        """
        message = _understand(codec.decode_kept, entry.line)
        match message:
            case Record():
                # What is not applied came behind a hole, and is fetched again.
                if message.number <= self._contents.applied.number(message.node, message.run):
                    batch = _understand(decode_batch, message.batch)
                    self._contents.load(self._contents.without_compacted(message, batch))
            case copies.CopyChunk():
                self._contents.load_rows(message.packed())
                self._catch_up.reach(message.position)
            case (
                messages.Remove()
                | copies.CopyBegin()
                | copies.CopyEnd()
                | messages.JournalState()
                | compaction.SetFloor()
                | compaction.Compact()
            ):
                raise NewerJournal(f"this version expects no {type(message).__name__} there")
            case _:
                assert_never(message)

    def loaded(self) -> bool:
        """
        All that the journal kept is in the ledger; whether it was not before.
        """
        was, self._contents.loading = self._contents.loading, False
        return was
