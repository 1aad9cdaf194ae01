"""
Results as tables: medians, ratios of pairs, spread, and the goals.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from benchmarks.figures import OURS, SERVERS, THEIRS, good, ms, rate, ratio, spread, us
from benchmarks.goals import goals
from benchmarks.growth import SMALL
from benchmarks.results import Growth, Offered, Probed, Results, Run
from benchmarks.works import BATCHES, CALLERS, MAIN, SHAPES, WORKS, Work

_PURPOSES: Final = {
    "own": "half of its own top",
    "ours": f"half of {OURS}'s top",
    "common": "half of the slowest one's top",
    "curve": "for the curve",
}
_LATENCIES: Final = ("p50", "p90", "p99", "most", "late")


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
        row += [number(rate(runs, work.name, server)) for server in servers]
        row.append(number(times(rate(runs, work.name, OURS), work.items)) if work.items > 1 else "-")
        row += [str(ratio(runs, work.name, OURS, server) or "-") for server in servers if server != OURS]
        rows.append(row)
    head = ["work", *servers, f"{OURS}, items/s"]
    return table(head + [f"/ {server}" for server in servers if server != OURS], rows)


def _front_table(runs: Sequence[Run], works: Sequence[Work]) -> str:
    """
    What a request costs, and how long it takes, server by server.
    """
    rows = []
    for work in works:
        for server in SERVERS:
            found = list(good(runs, work.name, server).values())
            if not found:
                continue
            fronts = [run.front_each for run in found if run.front_each is not None]
            p50s = [run.p50 for run in found if run.p50 is not None]
            rows.append(
                [
                    work.title,
                    server,
                    spread(fronts, us),
                    us(median(run.processor / run.requests for run in found)),
                    spread(p50s, ms),
                    ms(median(run.p99 for run in found)),
                ]
            )
    return table(["work", "server", "CPU of the HTTP process", "of all processes", "p50", "p99"], rows)


def _latency_table(offered: Sequence[Offered]) -> str:
    groups: dict[tuple[str, str, float], list[Offered]] = {}
    for at in offered:
        groups.setdefault((at.server, at.purpose, at.rate), []).append(at)
    rows = [
        [
            server,
            _PURPOSES[purpose],
            f"{rate:,.0f}",
            *(ms(median(getattr(at, what) for at in group)) for what in _LATENCIES),
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
                ms(median(one.p50 for one in group)),
                ms(median(one.p99 for one in group)),
                f"{ms(worst.most)} (below {worst.stored:,} items)",
                ms(max(one.late for one in group)),
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
            "Requests per second at 16 connections, or as many as named: medians.",
            "Ratios are of pairs: median (least to most).",
            rates_table(runs, [*MAIN, *CALLERS, *BATCHES, *SHAPES]),
        ]
    if costs := [run for run in runs if run.front is not None]:
        parts += [
            "## Cost of a request",
            "CPU time per request, and latencies at full load, which are mostly time in the queue: medians.",
            "The HTTP process of dcounter is the coordinator. All processes: until all is copied.",
            _front_table(costs, [*MAIN, *CALLERS]),
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
        rows = [
            [
                f"{start.items:,}",
                start.after,
                f"{start.seconds:.2f} s",
                "-" if start.processor is None else f"{start.processor:.2f} s",
                "-" if start.disk is None else f"{start.disk / 2**20:,.0f} MiB",
            ]
            for start in results.starts
        ]
        parts += [
            "## Start",
            "From the start of the daemon to the first exact count; files are in the cache of the system.",
            table(["items on each node", "after", "first exact count", "CPU until then", "files"], rows),
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
            number(rate(runs, work, OURS)),
            number(rate(runs, work, SMALL)),
            str(ratio(runs, work, OURS, SMALL) or "-"),
        ]
        for work in dict.fromkeys(run.work for run in runs)
    ]
    return table(["work", "large, requests/s", "small, requests/s", "large / small"], rows)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def times(value: float | None, factor: int) -> float | None:
    return None if value is None else value * factor
