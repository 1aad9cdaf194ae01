"""
Differences that are planted at one node: the product never makes them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Raw
from msgspec.structs import replace

from dcounter.journal.framing import JournalEntry, frame, unframe
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.rows import Rows
from dcounter.node.replica import Replica
from dcounter.protocol import codec
from dcounter.protocol.batch import Batch, decode_batch, encode_batch
from dcounter.protocol.messages import Record

Row = tuple[int, int, str | None]


def wrong_count(ledger: Ledger, tenant: str | None, more: int = 1) -> None:
    """
    Let a ledger keep a wrong count.
    """
    ledger.settle()
    tenants = ledger._tenants  # noqa: SLF001 - the product cannot do it
    tenants.counts[tenants.numbers[tenant]] += more


def older_row(ledger: Ledger, item: int, *, by: int = 1) -> None:
    """
    Make the row of an ID older.
    """
    ledger.settle()
    entries = ledger._entries  # noqa: SLF001 - the product cannot do it
    [row] = entries.table.find(np.array([item]))
    entries.stamps[row] -= by


def other_owner(ledger: Ledger, item: int, tenant: str) -> None:
    """
    Give an ID to another tenant that owns something. Counts fit the rows.
    """
    ledger.settle()
    entries, tenants = ledger._entries, ledger._tenants  # noqa: SLF001 - the product cannot do it
    [row] = entries.table.find(np.array([item]))
    number = tenants.numbers[tenant]
    tenants.counts[entries.owners[row]] -= 1
    tenants.counts[number] += 1
    entries.owners[row] = number


class Losing(Ledger):
    """
    Loses the deletion of some IDs.
    """

    def __init__(self, items: Sequence[int]) -> None:
        super().__init__()
        self._lost = {*items}

    def merge(self, ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]) -> None:
        rows = zip(ids, stamps, tenants, strict=True)
        kept = [row for row in rows if row[2] is not None or row[0] not in self._lost]
        super().merge(
            [item for item, _, _ in kept], [stamp for _, stamp, _ in kept], [tenant for _, _, tenant in kept]
        )

    def merge_rows(self, chunk: Rows) -> None:
        self.merge(*(list(each) for each in zip(*chunk.entries(), strict=True)))


class LosingReplica(Replica):
    """
    One node of all loses deletions.
    """

    def __init__(self, victim: int, items: Sequence[int], node: int, *args: Any, **kw: Any) -> None:
        super().__init__(node, *args, **kw)
        if node == victim:
            self.contents.ledger = Losing(items)


def losing(victim: int, *items: int) -> Any:
    """
    What makes nodes of which one loses the deletion of some IDs.
    """
    return partial(LosingReplica, victim, items)


def edit_journal(directory: Path, change: Callable[[Row], Row | None]) -> int:
    """
    Change rows in the segments of a node that does not run, with the right checksums.

    :param change: makes of each ID, stamp and tenant another row, or none.
    :returns: how many rows are another.
    """
    changed = 0
    for path in sorted(directory.glob("*.journal")):
        lines = []
        for line in path.read_bytes().splitlines():
            entry = unframe(line)
            assert entry is not None
            record = codec.decode_kept(entry.line)
            if isinstance(record, Record):
                rows = list(zip(*decode_batch(record.batch).unpacked(), strict=True))
                after = [change(row) for row in rows]
                if after != rows:
                    changed += sum(a != b for a, b in zip(after, rows, strict=True))
                    kept = [row for row in after if row is not None]
                    assert kept
                    batch = Batch(
                        [len(kept)],
                        [item for item, _, _ in kept],
                        [tenant for _, _, tenant in kept],
                        stamps=[stamp for _, stamp, _ in kept],
                    )
                    record = replace(record, batch=Raw(encode_batch(batch)))
                    entry = JournalEntry(codec.encode(record), entry.node, entry.run, entry.number)
            lines.append(frame(entry))
        path.write_bytes(b"".join(lines))
    return changed
