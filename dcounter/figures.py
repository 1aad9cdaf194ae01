"""
Figures that a process keeps about itself, and what they are called when they are shown.

Whoever counts something adds to a plain number, which costs next to nothing. Names and labels come in only
when somebody asks (`Measured`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

Kind = Literal["counter", "gauge", "histogram"]

SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""
The buckets of times (s): from a request that only the memory answers to the longest deadline.
"""


class Histogram:
    """
    How often a value fell into each of some buckets.

    :ivar bounds: the largest value of each bucket, in ascending order; one more takes what is larger.
    :ivar counts: how many values each bucket has.
    :ivar total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0

    def add(self, value: float) -> None:
        """
        Count a value.
        """
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Family(Struct, frozen=True):
    """
    Figures that differ only in their labels.

    :ivar name: as it is shown. A counter ends in `_total`, a figure with a unit in that.
    :ivar help: one sentence, for people.
    :ivar labels: the names of the labels.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


class Measured(Struct, frozen=True):
    """
    A family with its values.

    :ivar values: each with the values of the labels.
    """

    family: Family
    values: Sequence[tuple[tuple[str, ...], float | Histogram]]
