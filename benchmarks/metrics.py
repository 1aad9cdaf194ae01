"""
Measures what `GET /metrics` costs: to count a request, and to answer a scrape.

Times are those of the processor, so that other programs on the machine do not count. On a busy machine they
are longer all the same, so the head of a request is parsed for comparison.

`python -m benchmarks.metrics --items 1000000`
"""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from timeit import repeat

from twisted.internet.defer import Deferred

from dcounter.figures import Samples, merged
from dcounter.http.exposition import exposed
from dcounter.http.figures import HttpFigures
from dcounter.http.limits import HttpLimits
from dcounter.http.reader import RequestReader
from dcounter.http.table import ROUTES
from dcounter.testing import Cluster

_HEAD = b"GET /items/hello/count HTTP/1.1\r\nHost: localhost:8085\r\n\r\n"
_CALLS = 20_000
_ROUNDS = 9
_BATCH = 4_000
_TENANTS = 100_000


def _nanoseconds(call: Callable[[], object]) -> float:
    return min(repeat(call, number=_CALLS, repeat=_ROUNDS, timer=time.process_time)) / _CALLS * 1e9


def _nothing() -> None:
    pass


def counting() -> dict[str, float]:
    """
    What it costs (ns) to count a request, and to parse its head.
    """
    figures = HttpFigures(time.monotonic)
    of_route = figures.of("GET", "/items/{tenant}/count")
    reader = RequestReader(HttpLimits())

    def count() -> None:
        since = figures.seconds()
        of_route.answered(200, figures.seconds() - since)

    def store() -> None:
        count()
        figures.stored(100)

    def parse() -> None:
        reader.receive(_HEAD)
        reader.next_event()
        reader.next_event()

    rows = [
        [_nanoseconds(each) - _nanoseconds(_nothing) for each in (count, store, parse)]
        for _ in range(_ROUNDS)
    ]
    names = ("count a request", "count a request that stores", "parse the head of one, for comparison")
    return {name: median(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return (time.process_time() - began) * 1e3


def _parts(measured: Sequence[Samples]) -> list[float]:
    """
    What each part of an answer takes (ms); others have their turns between two.
    """
    stream = exposed(measured)[0]
    times: list[float] = []

    async def read() -> None:
        began = time.process_time()
        async for _ in stream:
            times.append((time.process_time() - began) * 1e3)
            began = time.process_time()

    Deferred.fromCoroutine(read())
    return times


def _gather(figures: HttpFigures, told: Sequence[Samples]) -> list[Samples]:
    return merged([*figures.samples(), *told])


def scraping(items: int) -> dict[str, float]:
    """
    The longest (ms) of each step of some scrapes of four nodes, when every route was used.
    """
    cluster = Cluster(4, seed=1).start()
    cluster.run(1)
    figures = HttpFigures(time.monotonic)
    for route in ROUTES:
        for status in (200, 400, 503):
            figures.answered(route.method, route.path, status, f"code_{status}", 0.0)
    replica = cluster.nodes[0].replica
    for first in range(0, items, _BATCH):
        ids = range(first, first + _BATCH)
        replica.ledger.merge(ids, [1] * _BATCH, [f"tenant-{each % _TENANTS}" for each in ids])
    answer, gathered, parts = [], [], []
    for round in range(_ROUNDS):
        told = cluster.result(Deferred.fromCoroutine(cluster.coordinator.scraping.measure()))
        gathered.append(_milliseconds(partial(_gather, figures, told)))
        parts.append(max(_parts(_gather(figures, told))))
        # About as many entries wait to be merged as may.
        replica.ledger.merge(range(_BATCH), [round + 2] * _BATCH, [f"other-{round}"] * _BATCH)
        answer.append(_milliseconds(partial(replica.figures.tell, 1, 5, 0.0)))
    cluster.stop()
    return {
        "a node makes its answer": max(answer),
        "the coordinator gathers all figures": max(gathered),
        "the coordinator writes the largest part of the text": max(parts),
    }


def main() -> int:
    parser = ArgumentParser(prog="python -m benchmarks.metrics", description="What metrics cost.")
    parser.add_argument("--items", type=int, default=1_000_000, help="in the ledger of a node")
    items = parser.parse_args().items
    for name, value in counting().items():
        sys.stdout.write(f"{name}: {value / 1e3:.2f} us\n")
    for name, value in scraping(items).items():
        sys.stdout.write(f"{name}: {value:.2f} ms at most\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
