"""
Long work, cut into steps between which a node does other work.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""
Work that stops after each step (a few milliseconds) and returns its result after the last one.

Between two steps anything may happen to the ledger. `next` takes a step, `StopIteration.value` is the result,
`close` gives the work up. A result is that of one moment: the last step. So its position is the one that is
applied when the result is there, and it covers all that was applied when the question was asked.
"""


@dataclass(frozen=True, slots=True)
class StepSizes:
    """
    How much one step does at most; times with ten million items and a million tenants.

    :ivar names: names that are put in order, or hashed: 3 ms.
    :ivar aside: names that need not be in order before it is read: 1 ms.
    :ivar tied: tenants with the same count that are sorted by name, if names are not in order: 6 ms.
    :ivar gathered: counts that are looked up at once. A step looks up all of them, but so many at a time fit
        into the processor's cache.
    :ivar put_in: names that are put into an order: 2 ms, besides 4 for the order itself.
    :ivar compared: rows that are looked through for one owner: 1 to 6 ms.
    :ivar counted: rows that are counted: 3 ms.
    :ivar copied: rows that are copied: 3 ms.
    :ivar exported: rows that become lines of JSON: 5 ms.
    :ivar touched: places of a column whose memory is used for the first time: at most 1 MiB, since the
        operating system takes up to 5 ms to clear as much as 2 MiB at once.
    :ivar freed: rows, or slots, whose memory is given back, which takes the operating system some time, too.
    """

    names: int = 4096
    aside: int = 2048
    tied: int = 2**13
    gathered: int = 2**16
    put_in: int = 512
    compared: int = 2**18
    counted: int = 2**15
    copied: int = 2**14
    exported: int = 4000
    touched: int = 2**17
    freed: int = 2**20


def finish(steps: Steps[T]) -> T:
    """
    Take all steps at once.
    """
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
