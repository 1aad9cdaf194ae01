"""
Questions to a large ledger, step by step: `python -m benchmarks.questions`.

Fills a ledger with ten million items of a million tenants, asks each question while entries are merged
between the steps, and tells how much CPU time the steps took together, and the longest of them.
"""

import random
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.rows import Rows
from dcounter.ledger.steps import Steps, finish

_BATCH = 4096
_ROUNDS = 5


class _Load:
    """
    A ledger, and what is merged into it.

    :param items: how many.
    :param tenants: how many names.
    """

    def __init__(self, items: int, tenants: int) -> None:
        chance = random.Random(1)
        self.names = [f"acme/{chance.getrandbits(40):x}" for _ in range(tenants)]
        # One tenant owns a tenth of all, the others some more and some fewer.
        self.names[0] = "acme/largest"
        self._chance = np.random.default_rng(1)
        self._items = items
        self._stamp = 0
        self.ledger = Ledger()
        for first in range(0, items, 2**16):
            self._merge(np.arange(first, min(first + 2**16, items)))
        self.ledger.settle()

    def _merge(self, ids: "np.typing.NDArray[np.int64]") -> None:
        size = len(ids)
        owners = (self._chance.random(size) ** 2 * len(self.names)).astype(np.int64)
        owners[self._chance.random(size) < 0.1] = 0
        stamps = np.arange(self._stamp, self._stamp + size)
        self._stamp += size
        numbers, owners = np.unique(owners, return_inverse=True)
        names = [self.names[number] for number in numbers]
        # IDs as they come, neither in order nor close together.
        self.ledger.merge_rows(Rows(ids * 0x5851F42D4C957F2D, stamps, owners.astype(np.int32), names))

    def write(self) -> None:
        """
        Move some items to other tenants.
        """
        self._merge(np.unique(self._chance.integers(0, self._items, _BATCH)))
        self.ledger.settle()

    def delete(self, share: float) -> None:
        """
        Delete this share of the items.
        """
        for first in range(0, int(share * self._items), 2**16):
            ids = np.arange(first, first + 2**16) * 0x5851F42D4C957F2D
            stamps = np.arange(self._stamp, self._stamp + 2**16)
            self._stamp += 2**16
            self.ledger.merge_rows(Rows(ids, stamps, np.zeros(2**16, np.int32), [None]))
        self.ledger.settle()

    @property
    def stamp(self) -> int:
        return self._stamp


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Fill a ledger, and print a line for each question.
    """
    parser = ArgumentParser("python -m benchmarks.questions", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000_000, help="default: 10,000,000")
    parser.add_argument("--tenants", type=int, default=1_000_000, help="default: 1,000,000")
    options = parser.parse_args(arguments)
    load = _Load(options.items, options.tenants)
    ledger = load.ledger
    _say(f"{ledger.statistics()}")
    half = load.names[len(load.names) // 2]
    top = (20, half)

    _measure(load, "first page by name: all names are put in order", ledger.tenants_by_name, 1)
    _measure(load, "page by name", lambda: ledger.tenants_by_name(half))
    _measure(load, "page by name with prefix", lambda: ledger.tenants_by_name("", "acme/7"))
    _measure(load, "top 100", lambda: ledger.tenants_by_count(limit=100))
    _measure(load, "top 1,000", ledger.tenants_by_count)
    _measure(load, "page by count in the middle", lambda: ledger.tenants_by_count(top))
    _measure(load, "page by count with prefix", lambda: ledger.tenants_by_count(None, "acme/7"))
    _measure(load, "sum over all", lambda: ledger.prefix_sum("acme/"))
    _measure(load, "sum over a sixteenth", lambda: ledger.prefix_sum("acme/7"))
    _measure(load, "sum over few", lambda: ledger.prefix_sum("acme/777"))
    _measure(load, "1,000 IDs of the largest tenant", lambda: ledger.items_of("acme/largest"))
    _measure(load, "1,000 more, from the middle", lambda: ledger.items_of("acme/largest", 0))
    _measure(load, "IDs of a small tenant", lambda: ledger.items_of(half))
    for size in (1, 100, 1000):
        _measure(load, f"plain merge of {size}", partial(_merges, load, size, told=False))
        _measure(load, f"merge of {size} with receipt", partial(_merges, load, size, told=True))
    _measure(load, "4,096 moves, no audit", partial(_writes, load))
    audit = ledger.audit()
    _measure(load, "audit", audit.steps, 1)
    _measure(load, "4,096 moves, open audit", partial(_writes, load))
    _measure(load, "the same audit, later", audit.steps)
    finish(audit.steps())
    _measure(load, "what is wrong", partial(_once, audit.wrong), writes=False)
    audit.close()
    moment = ledger.moment()
    _measure(load, "4,096 moves, rows of a moment remembered", partial(_writes, load))
    _measure(load, "IDs in 64 of 65,536 groups", lambda: moment.ids_in(16, range(64), ()), writes=False)
    moment.close()
    load.delete(0.3)
    _say(f"{ledger.statistics()}")
    _measure(load, "compaction of three tenths", lambda: ledger.compact(load.stamp), 1)
    _say(f"{ledger.statistics()}")
    return 0


def _measure(
    load: _Load, what: str, question: Callable[[], Steps[Any]], rounds: int = _ROUNDS, *, writes: bool = True
) -> None:
    totals, longest, count = [], [], 0
    for _ in range(rounds):
        if writes:
            load.write()
        steps = question()
        took: list[float] = []
        while True:
            began = time.thread_time()
            over = next(steps, _OVER) is _OVER
            took.append(time.thread_time() - began)
            if over:
                break
            load.write()
        totals.append(sum(took))
        longest.append(max(took))
        count = len(took)
    totals.sort()
    longest.sort()
    middle = rounds // 2
    _say(
        f"{what:50}: {totals[middle] * 1e3:9.2f} ms ({totals[0] * 1e3:.2f} to {totals[-1] * 1e3:.2f}), "
        f"{count} steps, longest {longest[middle] * 1e3:.2f} ms (up to {longest[-1] * 1e3:.2f})"
    )


_OVER = object()


def _once(call: Callable[[], object]) -> Steps[None]:
    call()
    yield from ()


def _writes(load: _Load) -> Steps[None]:
    load.write()
    yield from ()


def _merges(load: _Load, size: int, *, told: bool) -> Steps[None]:
    ids = list(range(size))
    names = load.names[:size]
    merge = load.ledger.merge_with_receipt if told else load.ledger.merge
    merge(ids, range(2**60, 2**60 + size), names)
    load.ledger.settle()
    yield from ()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the program's output


if __name__ == "__main__":
    sys.exit(main())
