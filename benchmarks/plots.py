"""
Results as pictures, PNG and SVG.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import figures
from benchmarks.results import Results
from benchmarks.works import BATCHES, MAIN

# So that the same results make the same file.
mpl.rcParams["svg.hashsalt"] = "dcounter"


def draw(results: Results, folder: Path) -> list[str]:
    """
    All plots for which there is something.

    :returns: their names.
    """
    folder.mkdir(exist_ok=True)
    plots: dict[str, Callable[[Results, Any], bool]] = {
        "batch": _batch,
        "stored": _stored,
        "latency": _latency,
    }
    drawn = []
    for name, plot in plots.items():
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        if not plot(results, axes):
            continue
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize="small", framealpha=0.5)
        figure.savefig(folder / f"{name}.png", dpi=120)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        drawn.append(name)
    return drawn


def _batch(results: Results, axes: Any) -> bool:
    works = sorted((work for work in [*MAIN, *BATCHES] if work.items), key=lambda work: work.items)
    some = False
    for server in figures.SERVERS:
        points = [
            (work.items, rate * work.items)
            for work in works
            if (rate := figures.rate(results.runs, work.name, server)) is not None
        ]
        if points:
            some = True
            axes.plot(*zip(*points, strict=True), marker="o", label=server)
    axes.set(
        title="Items stored per second", xlabel="items per POST", ylabel="items/s", xscale="log", yscale="log"
    )
    axes.set_xticks([work.items for work in works], [f"{work.items:,}" for work in works])
    return some


def _stored(results: Results, axes: Any) -> bool:
    for server in (figures.OURS, figures.THEIRS):
        points = [
            ((grown.before + grown.after) / 2e6, grown.rate)
            for grown in results.growth
            if grown.server == server
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=server)
    axes.set(title="New items per second", xlabel="million items stored", ylabel="items/s", ylim=(0, None))
    return bool(results.growth)


def _latency(results: Results, axes: Any) -> bool:
    for colour, server in (("C0", figures.OURS), ("C1", figures.THEIRS), ("C2", figures.NODE)):
        curve = [at for at in results.offered if at.server == server and at.purpose == "curve"]
        rates = sorted({at.rate for at in curve})
        for what, style in (("p50", ":"), ("p90", "--"), ("p99", "-")):
            took = [median(getattr(at, what) * 1e3 for at in curve if at.rate == rate) for rate in rates]
            if took:
                axes.plot(rates, took, style, color=colour, marker=".", label=f"{server}, {what}")
    axes.set(
        title="Latency of POSTs of one item", xlabel="POSTs offered per second", ylabel="ms", yscale="log"
    )
    # 20, not 2 x 10^1.
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    return bool(results.offered)
