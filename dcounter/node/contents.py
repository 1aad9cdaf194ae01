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

from typing import Protocol

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.receipts import Receipt
from dcounter.ledger.rows import Rows
from dcounter.node.backlog import Backlog
from dcounter.node.runs import Runs
from dcounter.protocol import copies
from dcounter.protocol.batch import Batch, Packed
from dcounter.protocol.messages import Record
from dcounter.protocol.position import Opening, Position


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
    :ivar loading: whether the ledger lacks some of what is applied, until all of the journal is loaded.
    """

    def __init__(self, backlog: Backlog, runs: Runs, seed: int) -> None:
        self.ledger = Ledger(seed)
        self.applied = Position()
        self.stamp = 0
        self.journal_bytes = 0
        self.loading = False
        self.watcher: Watcher | None = None
        self.backlog = backlog
        self.runs = runs

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
        self.merge(batch)
        stamp = max(record.stamp, batch.largest_stamp())
        self.advance(record.node, record.run, record.number, stamp, record.opening, line)

    def apply_with_receipt(self, record: Record, batch: Batch, line: bytes) -> Receipt:
        """
        The same, and tell what the batch changed.
        """
        receipt = self.ledger.merge_with_receipt(*batch.unpacked())
        stamp = max(record.stamp, batch.largest_stamp())
        self.advance(record.node, record.run, record.number, stamp, record.opening, line)
        return receipt

    def merge(self, batch: Batch) -> None:
        """
        Merge a batch whose place in its run is accounted for elsewhere.
        """
        merge(self.ledger, batch)

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
