"""
Results as tables: medians, ratios of pairs, spread, and the goals of issue 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.results import Results, Run
from benchmarks.servers import BareKlein, BareResource, Daemon, FastApiPostgres, FastApiRedis
from benchmarks.works import BATCHES, MAIN, SHAPES, WORKS, Work

OURS: Final = Daemon.name
THEIRS: Final = FastApiRedis.name
SERVERS: Final = [OURS, THEIRS, FastApiPostgres.name, BareKlein.name, BareResource.name]


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


@dataclass(frozen=True, slots=True)
class Goal:
    """
    A line of the table of goals.

    :ivar met: `None` if it was not measured.
    """

    work: str
    goal: str
    measured: str
    met: bool | None

    def row(self) -> list[str]:
        return [
            self.work,
            self.goal,
            self.measured,
            {True: "yes", False: "no", None: "not measured"}[self.met],
        ]


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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """
    A table in Markdown, its columns aligned for those who read it as text.
    """
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def rates_table(runs: Sequence[Run], works: Sequence[Work]) -> str:
    """
    Medians of requests per second and the ratios of pairs; a dash where nothing was measured.
    """
    servers = [server for server in SERVERS if any(run.server == server for run in runs)]
    rows = []
    for work in works:
        if not any(run.work == work.name for run in runs):
            continue
        row = [work.title]
        row += [_number(rate(runs, work.name, server)) for server in servers]
        row.append(_number(_times(rate(runs, work.name, OURS), work.items)) if work.items > 1 else "-")
        row += [str(ratio(runs, work.name, OURS, server) or "-") for server in servers if server != OURS]
        rows.append(row)
    head = ["work", *servers, f"{OURS}, items/s"]
    return table(head + [f"/ {server}" for server in servers if server != OURS], rows)


def goals(results: Results) -> list[Goal]:
    runs = results.runs
    return [
        _rate_goal(runs, "post1", THEIRS, 1.0, beyond=1.5),
        _rate_goal(runs, "post100", THEIRS, 1.5, beyond=2.5),
        _rate_goal(runs, "post1000", THEIRS, 2.0, beyond=4.0),
        _rate_goal(runs, "count", THEIRS, 3.0),
        _rate_goal(runs, "count", BareResource.name, 0.9),
    ]


def bad(runs: Sequence[Run]) -> list[str]:
    """
    What went wrong: such runs are left out of the numbers.
    """
    return [
        f"{run.work}, round {run.round}, {run.server}: {run.errors} errors among {run.requests} requests"
        for run in runs
        if run.errors
    ]


def markdown(results: Results) -> str:
    """
    The whole report.
    """
    runs = results.runs
    parts = ["# Benchmark results", "Made by `make bench`; [README.md](README.md) says how. Do not edit."]
    parts.append("\n".join(f"- {name}: {value}" for name, value in results.about.items()))
    parts += ["## Goals", table(["work", "goal", "measured", "met"], [goal.row() for goal in goals(results)])]
    parts += [
        "## Rates",
        "Requests per second, medians. Ratios are of pairs: median (least to most).",
        rates_table(runs, [*MAIN, *BATCHES, *SHAPES]),
    ]
    if errors := bad(runs):
        parts += [
            "## Runs with errors",
            "Left out of the numbers.",
            "\n".join(f"- {line}" for line in errors),
        ]
    return "\n\n".join(parts) + "\n"


def _rate_goal(
    runs: Sequence[Run], work: str, theirs: str, least: float, *, beyond: float | None = None
) -> Goal:
    found = ratio(runs, work, OURS, theirs)
    return Goal(
        f"{WORKS[work].title} / {theirs}",
        f">= {least}" + (f" (beyond: {beyond})" if beyond else ""),
        str(found or "-"),
        found.median >= least if found else None,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _times(value: float | None, factor: int) -> float | None:
    return None if value is None else value * factor
