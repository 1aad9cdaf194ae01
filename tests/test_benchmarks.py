"""
The pure parts of the benchmarks.
"""

import msgspec
import pytest

from benchmarks import report, shapes
from benchmarks.results import Run
from benchmarks.wrk import WrkFailed, parse


def run(server: str, round: int, requests: int, *, drained: float = 0.0, errors: int = 0) -> Run:
    return Run("post100", server, round, 100, requests, 5.0, drained, errors, 0.01, 1.0)


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
        *(run(report.OURS, round, requests) for round, requests in enumerate([100, 200, 300, 400])),
        *(run(report.THEIRS, round, 100) for round in range(3)),
        run(report.THEIRS, 3, 100, errors=1),
    ]
    ratio = report.ratio(runs, "post100", report.OURS, report.THEIRS)
    assert ratio == report.Ratio(median=2.0, least=1.0, most=3.0, pairs=3)
    assert report.bad(runs) == ["post100, round 3, FastAPI + Redis: 1 errors among 100 requests"]
    assert report.ratio(runs, "post100", report.OURS, "nobody") is None


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
