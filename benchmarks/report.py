"""
Results as tables: medians, ratios of pairs, spread, and the goals of issue 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.growth import SMALL
from benchmarks.results import Growth, Offered, Probed, Results, Run
from benchmarks.servers import BareKlein, BareResource, Daemon, FastApiPostgres, FastApiRedis
from benchmarks.works import BATCHES, MAIN, SHAPES, WORKS, Work

OURS: Final = Daemon.name
THEIRS: Final = FastApiRedis.name
# From here on goals for 10 million items are judged.
MANY: Final = 10_000_000
_PURPOSES: Final = {
    "own": "half of its top",
    "common": "half of the slower one's",
    "curve": "a part of its top",
}
_LATENCIES: Final = ("p50", "p90", "p99", "most", "late")
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
        *_latency_goals(results),
        *_growth_goals(results),
    ]


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


def _latency_goals(results: Results) -> list[Goal]:
    goals = []
    for purpose, title in (("own", "its own top rate"), ("common", "the slower one's top rate")):
        p99 = {
            server: [at.p99 for at in results.offered if (at.server, at.purpose) == (server, purpose)]
            for server in (OURS, THEIRS)
        }
        work = f"POST of 1 item, p99 at half of {title}"
        if not all(p99.values()):
            goals.append(Goal(work, f"<= {THEIRS}", "-", None))
            continue
        ours, theirs = median(p99[OURS]), median(p99[THEIRS])
        goals.append(Goal(work, f"<= {THEIRS}", f"{_ms(ours)}, {THEIRS}: {_ms(theirs)}", ours <= theirs))
    return goals


def _growth_goals(results: Results) -> list[Goal]:
    """
    A goal at 10 million items is neither met nor missed by a smaller store.
    """
    stored = max((memory.items for memory in results.memory), default=0)
    enough = stored >= MANY

    def goal(work: str, text: str, measured: str | None, met: bool) -> Goal:
        if measured is None:
            return Goal(work, text, "-", None)
        return Goal(work, text, f"{measured} (at {stored:,} items)", met if enough else None)

    counts = ratio(results.compared, "count", OURS, SMALL)
    renewed = ratio(results.compared, "post1000", OURS, SMALL)
    each = {memory.server: memory.each for memory in results.memory}
    stalls = [probed.most for probed in results.probed if probed.server == OURS and probed.load == "half"]
    starts = [start.seconds for start in results.starts]
    return [
        goal(
            "count / count at 1,000 items",
            ">= 0.9",
            str(counts) if counts else None,
            counts is not None and counts.median >= 0.9,
        ),
        goal(
            "1,000 stored items per POST / the same at 100,000 items",
            ">= 0.7",
            str(renewed) if renewed else None,
            renewed is not None and renewed.median >= 0.7,
        ),
        goal(
            "memory per item and node",
            "<= Redis (beyond: 48 bytes)",
            f"{each[OURS]:.0f} bytes, Redis: {each[THEIRS]:.0f}" if each else None,
            bool(each) and each[OURS] <= each[THEIRS],
        ),
        goal(
            "longest count while it grows at half speed",
            "<= 50 ms",
            _ms(max(stalls)) if stalls else None,
            bool(stalls) and max(stalls) <= 0.05,
        ),
        goal(
            "first exact count after a start",
            "< 10 s",
            f"{median(starts):.1f} s" if starts else None,
            bool(starts) and median(starts) < 10.0,
        ),
    ]


def _latency_table(offered: Sequence[Offered]) -> str:
    groups: dict[tuple[str, str, float], list[Offered]] = {}
    for at in offered:
        groups.setdefault((at.server, at.purpose, at.rate), []).append(at)
    rows = [
        [
            server,
            {"own": "half of its own", "common": "half of the slower one's", "curve": "for the curve"}[
                purpose
            ],
            f"{rate:,.0f}",
            *(
                _ms(median(getattr(at, what) for at in group))
                for what in ("p50", "p90", "p99", "most", "late")
            ),
            str(sum(at.errors for at in group)),
        ]
        for (server, purpose, rate), group in groups.items()
    ]
    return table(["server", "rate", "POSTs/s", "p50", "p90", "p99", "longest", "client late", "errors"], rows)


def _growth_table(growth: Sequence[Growth]) -> str:
    rates: dict[tuple[int, int], dict[str, Growth]] = {}
    for grown in growth:
        rates.setdefault((grown.before, grown.after), {})[grown.server] = grown
    rows = [
        [f"{before:,}", *(f"{by[server].rate:,.0f}" if server in by else "-" for server in (OURS, THEIRS))]
        for (before, _), by in rates.items()
    ]
    return table(["stored before", OURS, THEIRS], rows)


def _probed_table(probed: Sequence[Probed]) -> str:
    groups: dict[tuple[str, str, str], list[Probed]] = {}
    for one in probed:
        groups.setdefault((one.server, one.load, one.consistency), []).append(one)
    rows = []
    for (server, load, consistency), group in groups.items():
        worst = max(group, key=lambda one: one.most)
        rows.append(
            [
                server,
                {"full": "as fast as it can", "half": "half as fast"}[load],
                consistency,
                _ms(median(one.p50 for one in group)),
                _ms(median(one.p99 for one in group)),
                f"{_ms(worst.most)} (below {worst.stored:,} items)",
                _ms(max(one.late for one in group)),
            ]
        )
    return table(["server", "it grows", "counts", "p50", "p99", "longest", "probe late at most"], rows)


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
    if len(set(results.measured.values())) > 1:
        parts.append("Not measured in one run:")
        parts.append("\n".join(f"- {part}: {when}" for part, when in results.measured.items()))
    parts += ["## Goals", table(["work", "goal", "measured", "met"], [goal.row() for goal in goals(results)])]
    if runs:
        parts += [
            "## Rates",
            "Requests per second, medians. Ratios are of pairs: median (least to most).",
            rates_table(runs, [*MAIN, *BATCHES, *SHAPES]),
        ]
    if (SMALL, "count") in {(run.server, run.work) for run in results.compared}:
        parts += [
            "## A large store beside a small one",
            "Counts with 1,000 items in the small one, POSTs of items that are stored already with 100,000.",
            _compared_table(results.compared),
        ]
    if results.growth:
        parts += [
            "## Growing",
            "Items per second with new IDs, 1,000 per POST, 16 connections.",
            _growth_table(results.growth),
            "Counts asked every 5 ms meanwhile. Exact ones wait for copies that are under way.",
            _probed_table(results.probed),
        ]
    if results.memory:
        rows = [
            [memory.server, f"{memory.items:,}", f"{memory.after / 2**20:,.0f} MiB", f"{memory.each:.1f}"]
            for memory in results.memory
        ]
        parts += [
            "## Memory",
            "Of one node (proportional set size), and what Redis has allocated.",
            table(["server", "items", "with them", "bytes per item"], rows),
        ]
    if results.starts:
        rows = [[f"{start.items:,}", start.after, f"{start.seconds:.2f} s"] for start in results.starts]
        parts += [
            "## Start",
            "From the start of the daemon to the first exact count; files are in the cache of the system.",
            table(["items on each node", "after", "first exact count"], rows),
        ]
    if results.offered:
        parts += [
            "## Latency",
            "POSTs of one item at a given rate; latency counts from when it was due. Medians of rounds.",
            "What the client itself was late in 99 % of the requests is part of it.",
            _latency_table(results.offered),
        ]
    if errors := bad([*runs, *results.compared]):
        parts += [
            "## Runs with errors",
            "Left out of the numbers.",
            "\n".join(f"- {line}" for line in errors),
        ]
    return "\n\n".join(parts) + "\n"


def _compared_table(runs: Sequence[Run]) -> str:
    rows = [
        [
            WORKS[work].title,
            _number(rate(runs, work, OURS)),
            _number(rate(runs, work, SMALL)),
            str(ratio(runs, work, OURS, SMALL) or "-"),
        ]
        for work in dict.fromkeys(run.work for run in runs)
    ]
    return table(["work", "large, requests/s", "small, requests/s", "large / small"], rows)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _times(value: float | None, factor: int) -> float | None:
    return None if value is None else value * factor
