"""
What one node has in memory: the ledger, and the position that says what is in it.

"The ledger holds exactly what `applied` covers", as other modules say, means: the journal is loaded, none of
it is in doubt, and of no copy that was begun parts are in the ledger that lie beyond `applied`
(`CatchUp.must_reach`). Only then are counts exact.

What holds, after each call:

- unless `loading` is set, the ledger holds the entries of all that `applied` covers, and parts of what is
  beyond it only if a copy was begun;
- `applied` has no holes: of each run it names the highest number up to which everything was merged;
- the backlog has no line that is not applied.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.receipts import Receipt
from dcounter.ledger.rows import Rows
from dcounter.node.backlog import Backlog
from dcounter.node.runs import Runs
from dcounter.protocol import copies
from dcounter.protocol.batch import Batch, Packed
from dcounter.protocol.compaction import Compact, Compacted, SetFloor
from dcounter.protocol.messages import Record
from dcounter.protocol.position import Opening, Position

_CHUNK_ROWS = 5_000
"""
Rows of the old ledger that are looked at in one step when a copy takes its place: about 1 ms.
"""

_CHUNKS = 2
"""
How many such steps there are for each chunk of the copy: so the rest at its end is short, unless the old
ledger is much larger than the copy.
"""


def _above(rows: Rows, stamp: int) -> Rows:
    """
    The entries with later stamps.
    """
    kept = rows.stamps > stamp
    return Rows(rows.ids[kept], rows.stamps[kept], rows.owners[kept], rows.tenants)


class Watcher(Protocol):
    """
    What must know of everything that goes into the ledger.
    """

    def applied(self, node: int, run: int, number: int, line: bytes) -> None:
        """
        A batch was applied.
        """

    def chunk_merged(self) -> None:
        """
        Rows of a copy were merged: batches whose numbers it does not tell.
        """


class Contents:
    """
    What one node has in memory.

    :param seed: random bits for the ledger's hash table.
    :ivar watcher: is told of each batch.
    :ivar applied: what the ledger holds.
    :ivar stamp: the largest stamp that was heard of.
    :ivar journal_bytes: what the journal takes on the disk.
    :ivar floor: new items with this stamp or an older one are refused.
    :ivar compacted: the last compaction here; of tombstones with its stamp or an older one, none or some are
        in the ledger, and no entries that they would win over.
    :ivar heard_compaction: the last one that any node is known to have made.
    :ivar fresh: a copy that comes in to take the place of the ledger; `None` if none does.
    :ivar was_behind: whether `behind` held when it was looked at last.
    :ivar loading: whether the ledger lacks some of what is applied, until all of the journal is loaded.
    """

    def __init__(self, backlog: Backlog, runs: Runs, seed: int) -> None:
        self._seed = seed
        self.ledger = self.new_ledger()
        self.applied = Position()
        self.stamp = 0
        self.journal_bytes = 0
        self.loading = False
        self.watcher: Watcher | None = None
        self.floor = 0
        self.compacted: Compacted | None = None
        self.heard_compaction: Compacted | None = None
        self.fresh: Ledger | None = None
        # What that copy's giver has compacted, and the part of the ledger that is not in `fresh` yet.
        self._cut = 0
        self._rest: Iterator[Rows] = iter(())
        # What of the rest of the journal is too old: a copy has taken its place before all was loaded.
        self._journal_cut = 0
        self.was_behind = False
        self.backlog = backlog
        self.runs = runs

    def new_ledger(self) -> Ledger:
        """
        An empty ledger, with a hash table that no caller can foresee.
        """
        return Ledger(self._seed)

    # Compactions, see `dcounter.node.compaction`

    @property
    def compacted_stamp(self) -> int:
        """
        Of the last compaction here; 0 if there was none.
        """
        return 0 if self.compacted is None else self.compacted.stamp

    @property
    def behind(self) -> bool:
        """
        Whether others have dropped tombstones that this node would need to be right.
        """
        due = self.heard_compaction
        return due is not None and due.stamp > self.compacted_stamp and not self.applied.covers(due.position)

    def raise_floor(self, stamp: int) -> None:
        """
        Refuse new items with this stamp or an older one from now on.
        """
        self.floor = max(self.floor, stamp)
        self.observe(stamp)

    def hear(self, compacted: Compacted) -> None:
        """
        A node has compacted.
        """
        known = self.heard_compaction
        if known is None or compacted.stamp > known.stamp:
            self.heard_compaction = compacted
            self.was_behind = self.was_behind or self.behind

    def restored_compaction(self, message: SetFloor | Compact) -> None:
        """
        The journal has one of them.
        """
        self.raise_floor(message.stamp)
        if isinstance(message, Compact):
            self.hear(Compacted(message.stamp, message.position))
            self.adopt_compaction()

    def adopt_compaction(self) -> None:
        """
        This node compacts, too.
        """
        self.compacted = self.heard_compaction

    def begin_copy(self, begin: copies.CopyBegin) -> None:
        """
        Chunks of a copy come next. If this node is behind, they take the place of the ledger's old entries.
        """
        self.abandon_copy()
        if begin.compacted is not None:
            self.hear(begin.compacted)
        if self.behind and begin.compacted is not None:
            self.fresh = self.new_ledger()
            self.fresh.reserve(begin.entries)
            self._cut = begin.compacted.stamp
            self._rest = self.ledger.chunks(_CHUNK_ROWS)
        else:
            self.ledger.reserve(begin.entries)

    def abandon_copy(self) -> None:
        """
        No copy comes in any more.
        """
        self.fresh = None
        self._rest = iter(())

    def merge_chunk(self, packed: Packed) -> None:
        """
        Merge a chunk of the copy that comes in.
        """
        if self.fresh is None:
            self.merge_rows(packed)
        else:
            self.fresh.merge_rows(Rows(*packed))
            self._keep(self.fresh, islice(self._rest, _CHUNKS))

    def _keep(self, fresh: Ledger, chunks: Iterator[Rows]) -> None:
        """
        Put a part of the ledger, as far as it is newer than the compaction, beside the copy.
        """
        for chunk in chunks:
            fresh.merge_rows(_above(chunk, self._cut))

    def _replace(self, fresh: Ledger, compacted: Compacted) -> None:
        """
        Let the copy, and what is newer than its compaction here, take the place of the ledger.
        """
        self._keep(fresh, self._rest)
        if self.loading:
            self._journal_cut = compacted.stamp
        fresh.succeed(self.ledger)
        self.ledger, self.fresh = fresh, None
        self.compacted = compacted
        self.raise_floor(compacted.stamp)

    def observe(self, stamp: int) -> None:
        """
        A stamp was heard of.
        """
        self.stamp = max(self.stamp, stamp)

    def apply(self, record: Record, batch: Batch, line: bytes) -> None:
        """
        The next batch of a run goes into the ledger.

        :param batch: what the record holds.
        :param line: the record as it is journalled and handed on.
        """
        self.merge(self.without_compacted(record, batch))
        self._merged(record, batch, line)

    def apply_with_receipt(self, record: Record, batch: Batch, line: bytes) -> Receipt:
        """
        The same, and tell what the batch changed.
        """
        receipt = self.ledger.merge_with_receipt(*batch.unpacked())
        self._merged(record, batch, line)
        return receipt

    def _merged(self, record: Record, batch: Batch, line: bytes) -> None:
        self._merge_beside(batch)
        stamp = max(record.stamp, batch.largest_stamp())
        self.advance(record.node, record.run, record.number, stamp, record.opening, line)

    def _merge_beside(self, batch: Batch) -> None:
        """
        What was looked at for `fresh` already may be what this batch changed.
        """
        if self.fresh is not None:
            merge(self.fresh, batch.items_above(self._cut))

    def without_compacted(self, record: Record, batch: Batch) -> Batch:
        """
        A batch without items that cannot be: accepted after all nodes had the floor, and not above it.

        Only a node that lost what it had written can accept such items. All others must treat them alike.
        """
        mine = self.compacted
        if mine is None or record.number <= mine.position.number(record.node, record.run):
            return batch
        return batch if batch.smallest_stamp() > mine.stamp else batch.items_above(mine.stamp)

    def merge(self, batch: Batch) -> None:
        """
        Merge a batch whose place in its run is accounted for elsewhere.
        """
        merge(self.ledger, batch)

    def load(self, batch: Batch) -> None:
        """
        Merge a batch of the journal.
        """
        if self._journal_cut:
            batch = batch.items_above(self._journal_cut)
        self.merge(batch)
        self._merge_beside(batch)

    def load_rows(self, packed: Packed) -> None:
        """
        Merge rows of a copy that the journal has.
        """
        rows = Rows(*packed)
        if self._journal_cut:
            rows = _above(rows, self._journal_cut)
        self.ledger.merge_rows(rows)
        if self.fresh is not None:
            self.fresh.merge_rows(_above(rows, self._cut))

    def merge_rows(self, packed: Packed) -> None:
        """
        Merge rows of a copy.
        """
        self.ledger.merge_rows(Rows(*packed))
        if self.watcher is not None:
            self.watcher.chunk_merged()

    def advance(
        self, node: int, run: int, number: int, stamp: int, opening: Opening | None, line: bytes
    ) -> None:
        """
        The ledger has the next batch of a run, or will have it when it is loaded.
        """
        self.observe(stamp)
        self.applied = self.applied.advance(node, run, number)
        self.backlog.append(node, run, number, line)
        if self.watcher is not None:
            self.watcher.applied(node, run, number, line)
        if opening is not None:
            self.runs.learn(node, opening)

    def copied(self, begin: copies.CopyBegin, end: copies.CopyEnd) -> None:
        """
        The ledger has all chunks of a copy.
        """
        self.observe(end.stamp)
        if self.fresh is not None and begin.compacted is not None:
            self._replace(self.fresh, begin.compacted)
        self.applied = self.applied.join(begin.position)
        self.runs.learn_all(begin.openings.items(), begin.lost)

    def fold(self, node: int, opening: Opening) -> None:
        """
        All runs of a node before an opening are complete here.
        """
        self.runs.note_losses(node, opening, self.applied)
        self.applied = self.applied.fold(node, opening.run)
        self.backlog.fold(node, opening.run)


def merge(ledger: Ledger, batch: Batch) -> None:
    """
    Merge the items of a batch into a ledger.
    """
    packed = batch.packed()
    if packed is None:
        ledger.merge(*batch.rows())
    else:
        ledger.merge_rows(Rows(*packed))
