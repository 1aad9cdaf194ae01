"""
Measures the audit of one node: time, longest step, and what it costs beside merges.

Times are those of the processor, so that other programs on the machine do not count.

`python -m benchmarks.audits --items 10000000`
"""

import resource
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Raw

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.rows import Rows, Stamps
from dcounter.limits import Limits
from dcounter.node.auditing import Auditing
from dcounter.node.backlog import Backlog
from dcounter.node.contents import Contents
from dcounter.node.runs import Runs
from dcounter.protocol import codec, questions
from dcounter.protocol.batch import Batch, encode_batch
from dcounter.protocol.messages import Record
from dcounter.protocol.position import Position

_RUN = 1
_BATCH = 1000
_FILLED = 2**16


class Node:
    """
    What a node has in memory, and its audit.
    """

    def __init__(self, items: int, tenants: int) -> None:
        limits = Limits()
        self.contents = Contents(Backlog(limits.backlog_bytes), Runs(limits.unfolded_runs), 1)
        self.audit = Auditing(self.contents, room=limits.audit_bytes, most=limits.slice_bytes)
        self.longest = 0.0
        self._items = items
        self._names = [f"acme/{number:x}" for number in range(tenants)]
        self._chance = np.random.default_rng(1)
        self._stamp = 1
        self._number = 0
        for first in range(0, items, _FILLED):
            ids = np.arange(first, min(first + _FILLED, items), dtype=np.int64)
            owners = self._chance.integers(0, tenants, len(ids)).astype(np.int32)
            used, indices = np.unique(owners, return_inverse=True)
            names = [self._names[each] for each in used.tolist()]
            self.ledger.merge_rows(Rows(ids, self._stamps(len(ids)), indices.astype(np.int32), names))
        self.ledger.settle()

    @property
    def ledger(self) -> Ledger:
        return self.contents.ledger

    def _stamps(self, size: int) -> Stamps:
        self._stamp += size
        return np.arange(self._stamp - size, self._stamp, dtype=np.int64)

    def write(self) -> None:
        """
        Apply a batch that moves items.
        """
        ids = self._chance.integers(0, self._items, _BATCH).tolist()
        names = [self._names[each] for each in self._chance.integers(0, len(self._names), _BATCH).tolist()]
        batch = Batch([_BATCH], ids, names, stamps=self._stamps(_BATCH).tolist()).pack()
        self._number += 1
        record = Record(0, _RUN, self._number, 0, Raw(encode_batch(batch)))
        self.contents.apply(record, batch, codec.encode(record))

    def writes(self, batches: int) -> float:
        """
        The time (s) of so many batches.
        """
        began = time.thread_time()
        for _ in range(batches):
            self.write()
        self.ledger.settle()
        return time.thread_time() - began

    def ask(
        self, what: questions.AuditQuestion, position: Position | None = None, *, writing: bool = False
    ) -> questions.Answer:
        """
        Take the steps to an answer, with a batch between each two of them.
        """
        steps = self.audit.steps_to(1, what, position or Position())
        while True:
            began = time.thread_time()
            try:
                next(steps)
            except StopIteration as stop:
                self.longest = max(self.longest, time.thread_time() - began)
                answer: questions.Answer = stop.value
                return answer
            self.longest = max(self.longest, time.thread_time() - began)
            if writing:
                self.write()


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Fill a ledger, audit it twice, and print a line for each part.
    """
    parser = ArgumentParser("python -m benchmarks.audits", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000_000, help="default: 10,000,000")
    parser.add_argument("--tenants", type=int, default=1_000_000, help="default: 1,000,000")
    options = parser.parse_args(arguments)
    node = Node(options.items, options.tenants)
    _say(f"{node.ledger.statistics()}")
    _say(f"500 batches of 1,000 moves, no audit: {node.writes(500):.3f} s")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for writing in (False, True):
        _audit(node, writing=writing)
    _say(f"500 batches of 1,000 moves, no audit: {node.writes(500):.3f} s")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _say(f"peak memory: {before / 1024:.0f} MiB before, {after / 1024:.0f} MiB after")
    return 0


def _audit(node: Node, *, writing: bool) -> None:
    how = "a batch of 1,000 moves between each two steps" if writing else "nothing is written"
    _say(f"audit; {how}")

    def part(what: str, work: Callable[[], object]) -> None:
        node.longest = 0.0
        began = time.thread_time()
        work()
        took = time.thread_time() - began
        _say(f"  {what}: {took:.3f} s, longest step {1000 * node.longest:.1f} ms")

    def count() -> None:
        told = node.ask(questions.AuditCount(anew=True), writing=writing)
        while not (isinstance(told, questions.AuditCounted) and told.counted == told.rows):
            told = node.ask(questions.AuditCount(), writing=writing)

    part("recount", count)
    if writing:
        _say(f"  500 batches beside an open recount: {node.writes(500):.3f} s")
    part("hold", lambda: node.ask(questions.AuditCount(hold=True)))
    for number in range(1, 21):
        node.write()
        if number == 10:
            # Other nodes were further, and this one has more by now.
            position = node.contents.applied
    if writing:
        _say(f"  500 batches, rows of a moment remembered: {node.writes(500):.3f} s")
    part("digest at a position", lambda: node.ask(questions.AuditCompare(0), position))
    part("digests of 65,536 groups", lambda: node.ask(questions.AuditCompare(16), position))
    part("rows of 64 groups", lambda: node.ask(questions.AuditRows(16, list(range(64))), position))
    node.ask(questions.AuditEnd())


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the program's output


if __name__ == "__main__":
    sys.exit(main())
