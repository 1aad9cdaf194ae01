"""
Copies of the ledger that a node gives: to followers that are too far behind, and to its own journal.

A copy is made chunk by chunk while the node goes on, so it names two positions: what was there when it began,
which is in it for certain, and at its end what may be in it, since late chunks hold later entries.

What holds, after each call:

- a copy for a follower is begun only when the ledger is loaded and not in doubt; followers that ask before
  wait until it is. Parts beyond `applied` are covered by the position at its end;
- a channel gets one copy at a time: a follower that asks again gets a new one, from its beginning.
"""

from collections.abc import Generator, Iterator

from dcounter.limits import Limits
from dcounter.node.catch_up import CatchUp
from dcounter.node.compaction import kept_lines
from dcounter.node.contents import Contents
from dcounter.node.durability import Durability
from dcounter.node.effects import Outbox, StreamReady
from dcounter.node.empty_journal import EmptyJournal
from dcounter.node.members import Members
from dcounter.protocol import codec, copies, messages
from dcounter.protocol.position import Position


class LedgerCopies:
    """
    The copies that one node gives.
    """

    def __init__(
        self,
        out: Outbox,
        contents: Contents,
        durability: Durability,
        members: Members,
        empty_journal: EmptyJournal,
        catch_up: CatchUp,
        limits: Limits,
    ) -> None:
        self._out = out
        self._contents = contents
        self._durability = durability
        self._members = members
        self._empty_journal = empty_journal
        self._catch_up = catch_up
        self._limits = limits
        self._under_way: dict[int, Iterator[messages.Message]] = {}
        self._waiting: set[int] = set()

    # To followers

    def asked(self, channel: int) -> None:
        """
        A follower wants a copy.
        """
        if self._contents.loading or self._durability.in_doubt or self._contents.behind:
            self._waiting.add(channel)
            return
        self._waiting.discard(channel)
        self._under_way[channel] = self._copy()
        self._out.add(StreamReady(channel))

    def give_waiting(self) -> None:
        """
        The ledger may be loaded and not in doubt by now: followers that wait for that get their copies.
        """
        for channel in sorted(self._waiting):
            self.asked(channel)

    def next_line(self, channel: int) -> bytes | None:
        """
        The next line of a channel's copy; `None` if there is none.
        """
        copy = self._under_way.get(channel)
        if copy is None:
            return None
        message = next(copy, None)
        if message is None:
            del self._under_way[channel]
            return None
        return codec.encode(message)

    def disconnected(self, channel: int) -> None:
        """
        A connection is gone.
        """
        self._under_way.pop(channel, None)
        self._waiting.discard(channel)

    # To the journal

    def snapshot(self) -> Generator[bytes, None, None]:
        """
        The lines of a snapshot, made one after the other while the node goes on.
        """
        self._durability.snapshot_begins()
        unfinished = self._catch_up.unfinished
        removed = sorted(self._members.removed)
        kept = kept_lines(self._contents)
        state = self._empty_journal.journal_state()
        if state is not None:
            yield codec.encode(state)
        for message in self._copy():
            if isinstance(message, copies.CopyBegin):
                self._durability.snapshot_reaches(message.position)
            elif isinstance(message, copies.CopyEnd):
                self._durability.snapshot_ends(message.position)
            yield codec.encode(message)
        for line in kept:
            yield codec.encode(line)
        for node in removed:
            yield codec.encode(messages.Remove(0, node))
        if unfinished is not None:
            # The rest of that copy, and its end, are in the log behind this snapshot.
            yield codec.encode(unfinished)

    def snapshot_ready(self) -> bool:
        """
        Whether the snapshot that was made last may be kept.

        Either the log that is journalled reaches to its end, or the snapshot is the only thing that can make
        it durable.
        """
        return self._durability.snapshot_ready()

    # Both

    def _copy(self) -> Iterator[copies.CopyBegin | copies.CopyChunk | copies.CopyEnd]:
        mine = self._contents
        chunks = mine.ledger.chunks(self._limits.chunk_rows, self._limits.slice_bytes)
        # From its first chunk on no tombstone is dropped: the beginning says which ones were.
        chunk = next(chunks, None)
        yield copies.CopyBegin(
            mine.applied,
            mine.runs.live(mine.applied),
            mine.runs.lost,
            mine.ledger.known,
            compacted=mine.compacted,
        )
        while chunk is not None:
            yield copies.CopyChunk.of(chunk.packed(), self._upper_bound())
            chunk = next(chunks, None)
        yield copies.CopyEnd(self._upper_bound(), mine.stamp)

    def _upper_bound(self) -> Position:
        """
        A position that covers whatever is in the ledger.
        """
        # What a copy brought to this node may be beyond what is applied here.
        return self._contents.applied.join(self._catch_up.must_reach)
