"""
What runs say together: medians, ratios of pairs, and their spread, also as text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.results import Run
from benchmarks.servers import BareKlein, BareResource, Daemon, FastApiPostgres, FastApiRedis, NodeRedis

OURS: Final = Daemon.name
THEIRS: Final = FastApiRedis.name
NODE: Final = NodeRedis.name
SERVERS: Final = [OURS, THEIRS, NODE, FastApiPostgres.name, BareKlein.name, BareResource.name]


@dataclass(frozen=True, slots=True)
class Ratio:
    """
    How many times as fast one server is as another, from pairs of runs of the same round.
    """

    median: float
    least: float
    most: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def good(runs: Sequence[Run], work: str, server: str) -> dict[int, Run]:
    """
    The runs without errors, by round.
    """
    return {run.round: run for run in runs if run.work == work and run.server == server and not run.errors}


def rate(runs: Sequence[Run], work: str, server: str) -> float | None:
    """
    The median of requests per second.
    """
    found = good(runs, work, server)
    return median(run.rate for run in found.values()) if found else None


def ratio(runs: Sequence[Run], work: str, ours: str, theirs: str) -> Ratio | None:
    one, other = good(runs, work, ours), good(runs, work, theirs)
    ratios = [one[round].rate / other[round].rate for round in one.keys() & other.keys()]
    return Ratio(median(ratios), min(ratios), max(ratios), len(ratios)) if ratios else None


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e3:.2f} ms"


def us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """
    Median (least to most).
    """
    if not values:
        return "-"
    return f"{shown(median(values))} ({shown(min(values))} to {shown(max(values))})"
