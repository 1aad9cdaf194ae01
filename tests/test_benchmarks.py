"""
The pure parts of the benchmarks.
"""

import msgspec
import pytest

from benchmarks import figures, goals, report, shapes
from benchmarks.results import FOLDER, Offered, Results, Run, Start, read
from benchmarks.works import WORKS
from benchmarks.wrk import WrkFailed, parse


def run(
    server: str,
    round: int,
    requests: int,
    *,
    work: str = "post100",
    drained: float = 0.0,
    errors: int = 0,
    front: float | None = None,
    p50: float | None = None,
) -> Run:
    return Run(work, server, round, 100, requests, 5.0, drained, errors, 0.01, 1.0, front, p50)


def offered(server: str, p99: float, *, errors: int = 0) -> Offered:
    return Offered(server, "ours", 0, 3000.0, errors, 0.001, 0.002, p99, 0.1, 0.0)


def met(results: Results) -> dict[str, bool | None]:
    """
    Of the goals that were measured: whether they are met.
    """
    return {goal.work: goal.met for goal in goals.goals(results) if goal.measured != "-"}


def test_the_line_of_our_script_is_found_in_what_wrk_says() -> None:
    driven = parse(
        "Running 5s test @ http://127.0.0.1:1\n"
        '{"requests":1000,"us":5000000,"not_ok":2,"broken":1,"p50_us":1000,"p99_us":9000}\n'
        "Requests/sec: 200.00\n"
    )
    assert (driven.requests, driven.seconds, driven.errors, driven.p99) == (1000, 5.0, 3, 0.009)


def test_output_without_it_is_an_error() -> None:
    with pytest.raises(WrkFailed):
        parse("unable to connect\n")


def test_the_time_to_drain_counts() -> None:
    assert run("dcounter", 0, 600, drained=1.0).rate == 100.0


def test_ratios_are_of_runs_of_the_same_round_and_without_errors() -> None:
    runs = [
        *(run(figures.OURS, round, requests) for round, requests in enumerate([100, 200, 300, 400])),
        *(run(figures.THEIRS, round, 100) for round in range(3)),
        run(figures.THEIRS, 3, 100, errors=1),
    ]
    ratio = figures.ratio(runs, "post100", figures.OURS, figures.THEIRS)
    assert ratio == figures.Ratio(median=2.0, least=1.0, most=3.0, pairs=3)
    assert report.bad(runs) == ["post100, round 3, FastAPI + Redis: 1 errors among 100 requests"]
    assert figures.ratio(runs, "post100", figures.OURS, "nobody") is None


@pytest.mark.parametrize(("front", "expected"), [(0.044, True), (0.046, False)])
def test_the_goal_for_the_coordinator_is_of_its_time_per_request(front: float, expected: bool) -> None:
    runs = [run(figures.OURS, 0, 1000, work="post1x64", front=front)]
    assert met(Results(runs=runs)) == {
        "1 item per POST, 64 connections: CPU of the coordinator per request": expected
    }
    assert figures.us(front / 1000) in report.markdown(Results(runs=runs))


@pytest.mark.parametrize(("p50", "expected"), [(0.0006, True), (0.00061, False)])
def test_the_goal_for_one_connection_is_of_the_median_latency(p50: float, expected: bool) -> None:
    runs = [run(figures.OURS, 0, 1000, work="post1x1", p50=p50)]
    assert met(Results(runs=runs)) == {"1 item per POST, 1 connection: p50": expected}


def test_old_runs_without_these_figures_are_still_read() -> None:
    assert met(Results(runs=[run(figures.OURS, 0, 1000, work=work) for work in WORKS])) == {}


@pytest.mark.parametrize(
    ("ours", "theirs", "errors", "expected"),
    [(0.005, 0.006, 0, True), (0.007, 0.006, 0, False), (0.005, 0.006, 1, False)],
)
def test_p99_is_compared_at_our_rate_and_an_unanswered_request_is_no_success(
    ours: float, theirs: float, errors: int, expected: bool
) -> None:
    results = Results(offered=[offered(figures.OURS, ours, errors=errors), offered(figures.THEIRS, theirs)])
    assert list(met(results).values()) == [expected]


def test_the_other_peer_is_reported_without_a_verdict() -> None:
    results = Results(offered=[offered(figures.OURS, 0.005), offered(figures.NODE, 0.001)])
    (row,) = [goal.row() for goal in goals.goals(results) if goal.measured != "-"]
    assert row[1:] == [
        "reported",
        "5.0 ms (5.0 ms to 5.0 ms), Node.js + Redis: 1.0 ms (1.0 ms to 1.0 ms)",
        "-",
    ]


@pytest.mark.parametrize(
    ("items", "seconds", "expected"),
    [(goals.MANY, [6.0, 7.0, 12.0], True), (goals.MANY, [6.0, 8.0, 8.1], False), (1000, [1.0], None)],
)
def test_a_start_is_judged_at_full_size_by_the_median(
    items: int, seconds: list[float], expected: bool | None
) -> None:
    starts = [Start(items, "kill -9", took) for took in seconds] + [Start(items, "stop", 100.0)]
    assert list(met(Results(starts=starts)).values()) == [expected]


def test_the_results_that_we_have_make_the_report() -> None:
    assert "| 1 item per POST " in report.markdown(read(FOLDER / "results.json"))


@pytest.mark.parametrize(
    ("name", "connections", "items"), [("post1x1", 1, 1), ("post1x64", 64, 1), ("countx64", 64, 0)]
)
def test_some_work_is_done_for_fewer_or_more_callers(name: str, connections: int, items: int) -> None:
    work = WORKS[name]
    assert (work.name, work.connections, work.items) == (name, connections, items)
    assert WORKS[name.partition("x")[0]].connections == 16


def test_packages_of_the_peer_are_pinned_by_hashes_and_not_by_addresses() -> None:
    folder = FOLDER / "peers/node_redis"
    named = msgspec.json.decode((folder / "package.json").read_bytes())["dependencies"]
    packages = msgspec.json.decode((folder / "package-lock.json").read_bytes())["packages"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in named} == named
    assert all("integrity" in entry and "resolved" not in entry for path, entry in packages.items() if path)


def test_a_table_is_aligned() -> None:
    assert report.table(["a", "b"], [["long", "1"]]) == ("| a    | b |\n| ---- | - |\n| long | 1 |")


@pytest.mark.parametrize("shape", ["uniform", "zipf", "skewed"])
def test_requests_are_the_same_for_the_same_seed(shape: shapes.Shape) -> None:
    made = shapes.bodies(shape, 10, 20, 1)
    assert made == shapes.bodies(shape, 10, 20, 1)
    assert made != shapes.bodies(shape, 10, 20, 2)
    assert len({len(msgspec.json.decode(body)) for body in made}) == 1


def test_some_items_are_sent_again_with_the_stamp_that_they_had() -> None:
    items = [item for body in shapes.bodies("resent", 100, 20, 1) for item in msgspec.json.decode(body)]
    distinct = {(item["ID"], item["tenant"], item["lastUpdateDt"]) for item in items}
    assert 0.6 < len(distinct) / len(items) < 0.8


def test_growing_never_repeats_an_id() -> None:
    assert len({shapes.scattered(number) for number in range(100_000)}) == 100_000
    assert [body.count(b"ID") for body in shapes.growing(0, 25, 10)] == [10, 10, 5]
