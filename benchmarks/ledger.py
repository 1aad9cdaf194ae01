"""
The ledger alone, without sockets, disks or processes: `python -m benchmarks.ledger`.

Merges new items in batches, as a node does, and tells what an item costs as the ledger grows, and the longest
that one merge took.
"""

import resource
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence

import numpy as np

from dcounter.ledger.ledger import Ledger

_TENANTS = [f"tenant-{number}" for number in range(100)]
_STEP = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Grow a ledger, and print a line for each million items.
    """
    parser = ArgumentParser("python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000_000, help="default: 10,000,000")
    parser.add_argument("--batch", type=int, default=250, help="items per merge; default: 250")
    options = parser.parse_args(arguments)
    ledger = Ledger()
    chance = np.random.default_rng(1)
    before = _resident()
    for first in range(0, options.items, _STEP):
        total = longest = 0.0
        for stamp in range(first, first + _STEP, options.batch):
            ids: list[int] = chance.integers(0, 2**62, options.batch).tolist()
            tenants = [_TENANTS[item % len(_TENANTS)] for item in ids]
            began = time.perf_counter()
            ledger.merge(ids, range(stamp, stamp + options.batch), tenants)
            took = time.perf_counter() - began
            total += took
            longest = max(longest, took)
        print(  # noqa: T201 - the program's output
            f"{len(ledger):>12,} items: {total / _STEP * 1e9:4.0f} ns per item, longest merge "
            f"{longest * 1e3:5.1f} ms, {(_resident() - before) / len(ledger):4.0f} bytes per item",
            flush=True,
        )
    return 0


def _resident() -> int:
    """
    The most memory (bytes) that this process ever had.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
