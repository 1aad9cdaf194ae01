"""
The goals, and whether results meet them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.figures import NODE, OURS, THEIRS, good, ms, ratio, seconds, spread, us
from benchmarks.growth import SMALL
from benchmarks.results import Offered, Results, Run
from benchmarks.servers import BareResource
from benchmarks.works import WORKS

# From here on goals for 10 million items are judged.
MANY: Final = 10_000_000
# Of something that has no goal, but belongs beside one that has.
_REPORTED: Final = "reported"


@dataclass(frozen=True, slots=True)
class Goal:
    """
    A line of the table of goals.

    :ivar met: `None` if it was not measured, or not at the size for which it is a goal.
    """

    work: str
    goal: str
    measured: str
    met: bool | None

    def row(self) -> list[str]:
        if self.goal == _REPORTED:
            met = "-"
        elif self.met is None:
            met = "not measured"
        else:
            met = "yes" if self.met else "no"
        return [self.work, self.goal, self.measured, met]


def goals(results: Results) -> list[Goal]:
    runs = results.runs
    return [
        _rate_goal(runs, "count", THEIRS, 6.0),
        _rate_goal(runs, "count", NODE, 1.2),
        _rate_goal(runs, "count", BareResource.name, 1.8),
        _front_goal(runs, "countx64", 25e-6),
        _rate_goal(runs, "post1", THEIRS, 1.5),
        _rate_goal(runs, "post1x64", THEIRS, 3.5),
        _rate_goal(runs, "post1", NODE, 0.8),
        _rate_goal(runs, "post1x64", NODE, 1.0),
        _front_goal(runs, "post1x64", 45e-6),
        _p50_goal(runs, "post1x1", 0.6e-3),
        _rate_goal(runs, "post100", THEIRS, 2.5),
        _rate_goal(runs, "post100", NODE, 1.5),
        _rate_goal(runs, "post1000", THEIRS, 4.5),
        _rate_goal(runs, "post1000", NODE, 4.0),
        *_latency_goals(results.offered),
        *_growth_goals(results),
        _start_goal(results),
    ]


def _rate_goal(runs: Sequence[Run], work: str, theirs: str, least: float) -> Goal:
    found = ratio(runs, work, OURS, theirs)
    return Goal(
        f"{WORKS[work].title} / {theirs}",
        f">= {least}",
        str(found or "-"),
        found.median >= least if found else None,
    )


def _front_goal(runs: Sequence[Run], work: str, most: float) -> Goal:
    found = [run.front_each for run in good(runs, work, OURS).values() if run.front_each is not None]
    return _most_goal(f"{WORKS[work].title}: CPU of the coordinator per request", most, found, us)


def _p50_goal(runs: Sequence[Run], work: str, most: float) -> Goal:
    found = [run.p50 for run in good(runs, work, OURS).values() if run.p50 is not None]
    return _most_goal(f"{WORKS[work].title}: p50", most, found, ms)


def _most_goal(work: str, most: float, found: Sequence[float], shown: Callable[[float], str]) -> Goal:
    return Goal(work, f"<= {shown(most)}", spread(found, shown), median(found) <= most if found else None)


def _latency_goals(offered: Sequence[Offered]) -> list[Goal]:
    """
    Of p99 at half of our top rate: theirs, at that rate, is not to be better.
    """

    def at_our_rate(server: str) -> list[Offered]:
        return [at for at in offered if (at.server, at.purpose) == (server, "ours")]

    goals = []
    ours = at_our_rate(OURS)
    for server in (THEIRS, NODE):
        theirs = at_our_rate(server)
        work = f"POST of 1 item, p99 at half of our top rate / {server} at that rate"
        goal = f"<= {server}" if server == THEIRS else _REPORTED
        if not ours or not theirs:
            goals.append(Goal(work, goal, "-", None))
            continue
        our_p99, their_p99 = [at.p99 for at in ours], [at.p99 for at in theirs]
        measured = f"{spread(our_p99, ms)}, {server}: {spread(their_p99, ms)}"
        met = median(our_p99) <= median(their_p99) and not any(at.errors for at in ours)
        goals.append(Goal(work, goal, measured, met))
    return goals


def _growth_goals(results: Results) -> list[Goal]:
    """
    A goal at 10 million items is neither met nor missed by a smaller store.
    """
    stored = max((memory.items for memory in results.memory), default=0)

    def goal(work: str, text: str, measured: str | None, met: bool) -> Goal:
        return _large_goal(work, text, measured, met, stored)

    def stall(load: str, title: str) -> Goal:
        most = [probed.most for probed in results.probed if (probed.server, probed.load) == (OURS, load)]
        return goal(
            f"longest count while it grows {title}",
            "< 50 ms",
            ms(max(most)) if most else None,
            bool(most) and max(most) < 0.05,
        )

    counts = ratio(results.compared, "count", OURS, SMALL)
    renewed = ratio(results.compared, "post1000", OURS, SMALL)
    each = {memory.server: memory.each for memory in results.memory}
    return [
        stall("full", "at full speed"),
        stall("half", "at half speed"),
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
            "<= Redis",
            f"{each[OURS]:.0f} bytes, Redis: {each[THEIRS]:.0f}" if each else None,
            bool(each) and each[OURS] <= each[THEIRS],
        ),
    ]


def _start_goal(results: Results) -> Goal:
    starts = [start for start in results.starts if start.after == "kill -9"]
    took = [start.seconds for start in starts]
    return _large_goal(
        "`kill -9` of every process, start to first exact count",
        "< 8 s",
        spread(took, seconds) if took else None,
        bool(took) and median(took) < 8.0,
        max((start.items for start in starts), default=0),
    )


def _large_goal(work: str, text: str, measured: str | None, met: bool, stored: int) -> Goal:
    if measured is None:
        return Goal(work, text, "-", None)
    return Goal(work, text, f"{measured} (at {stored:,} items)", met if stored >= MANY else None)
