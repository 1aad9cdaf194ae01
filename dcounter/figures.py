"""
Figures that a process keeps about itself, and what they are called when they are shown.

Whoever counts something adds to a plain number, which costs next to nothing. Names and labels come in only
when somebody asks (`Samples`). Nodes send them to coordinators in this form.

This module is public (docs/extending.md).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Kind = Literal["counter", "gauge", "histogram"]
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", max_length=100)]
Natural = Annotated[int, Meta(ge=0)]

SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""
The buckets of times (s): from a request that only the memory answers to the longest deadline.
"""

NUMBERS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0)
"""
The buckets of numbers of things that are handled together.
"""


class Histogram(Struct):
    """
    How often a value fell into each of some buckets.

    :ivar bounds: the largest value of each bucket, in ascending order; one more takes what is larger.
    :ivar counts: how many values each bucket has.
    :ivar total: the sum of all values.
    """

    bounds: Sequence[float]
    counts: list[Natural]
    total: float = 0.0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds) + 1 or sorted(self.bounds) != [*self.bounds]:
            raise ValueError("a histogram has one bucket more than it has bounds, which ascend")

    def add(self, value: float) -> None:
        """
        Count a value.
        """
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def histogram(bounds: Sequence[float] = SECONDS) -> Histogram:
    """
    A histogram that has counted nothing.
    """
    return Histogram(bounds, [0] * (len(bounds) + 1))


class Family(Struct, frozen=True, omit_defaults=True):
    """
    Figures that differ only in their labels.

    :ivar name: as it is shown. A counter ends in `_total`, a figure with a unit in that.
    :ivar help: one sentence, for people.
    :ivar labels: the names of the labels.
    """

    name: Name
    kind: Kind
    help: str
    labels: tuple[Name, ...] = ()


Value = tuple[tuple[str, ...], float | Histogram]


class Samples(Struct, frozen=True):
    """
    A family with its values.

    :ivar values: each with the values of the labels.
    """

    family: Family
    values: Sequence[Value]

    def __post_init__(self) -> None:
        distributed = self.family.kind == "histogram"
        for labels, value in self.values:
            if len(labels) != len(self.family.labels) or isinstance(value, Histogram) is not distributed:
                raise ValueError(f"a value does not fit {self.family.name}")


def merged(measured: Iterable[Samples]) -> list[Samples]:
    """
    The same figures, each family once, in the order in which they came first.

    Of families with one name that are not the same in kind and labels, the first is kept: a node of another
    release may mean something else by it.
    """
    found: dict[str, Samples] = {}
    for each in measured:
        known = found.setdefault(each.family.name, each)
        if known is each:
            continue
        if (known.family.kind, known.family.labels) == (each.family.kind, each.family.labels):
            values = dict(known.values)
            for labels, value in each.values:
                values.setdefault(labels, value)
            found[each.family.name] = Samples(known.family, [*values.items()])
    return list(found.values())
