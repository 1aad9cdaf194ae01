"""
The command that measures a daemon for some seconds.
"""

from collections.abc import Awaitable, Callable
from itertools import count as counting
from typing import TYPE_CHECKING, Any, Final

import click

from dcounter.cli.drawing import bar, buckets, quantile
from dcounter.cli.exits import Exit
from dcounter.cli.output import coloured, columns
from dcounter.cli.remote import remote
from dcounter.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

_PREFIX: Final = "bench/"
_FIRST_ID: Final = -(2**52) + 2**40
"""
Its IDs go up from here, where nobody has any.
"""

_IDS: Final = 100_000
"""
How many IDs are stored again and again: so little stays of it.
"""

_TENANTS: Final = 10
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
_BAR: Final = 40
_SECONDS: Final = 3.0
_CONNECTIONS: Final = 8
_ITEMS: Final = 100


@click.command()
@click.option(
    "--seconds",
    metavar="N",
    type=click.FloatRange(0.1, 600),
    default=_SECONDS,
    show_default=True,
    help="How long to store, and then to count.",
)
@click.option(
    "--connections",
    metavar="N",
    type=click.IntRange(1, 32),
    default=_CONNECTIONS,
    show_default=True,
    help="How many requests are under way at once.",
)
@click.option(
    "--items",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=_ITEMS,
    show_default=True,
    help="How many items each request stores.",
)
@remote
async def bench(session: Session, seconds: float, connections: int, items: int) -> Exit | None:
    """
    Measure how fast the daemon stores and counts, from here.

    The times are what this command waits for an answer. It is one process on one core: the daemon can do more
    for many callers. What it stores belongs to tenants whose names begin with 'bench/', and is deleted
    in the end.
    """
    from dcounter.cli.demonstrating import erase_all

    client = session.client
    numbers = counting()

    async def store() -> None:
        first = next(numbers) * items
        await client.store(
            [
                {"ID": _FIRST_ID + (first + place) % _IDS, "tenant": f"{_PREFIX}{(first + place) % _TENANTS}"}
                for place in range(items)
            ]
        )

    async def ask() -> None:
        await client.count(f"{_PREFIX}{next(numbers) % _TENANTS}")

    found: dict[str, Any] = {}
    try:
        for name, request, size in (("store", store, items), ("count", ask, 1)):
            waits = await _measure(session, request, seconds, connections)
            found[name] = _figures(waits, seconds, size)
            if not session.output.json:
                click.echo(_picture(name, found[name], size))
    finally:
        await erase_all(session, _PREFIX)
    session.output.result(found, None)
    return None


async def _measure(
    session: Session, request: Callable[[], Awaitable[None]], seconds: float, at_once: int
) -> "Sequence[float]":
    """
    Send requests for some seconds; return how long (s) each took, in ascending order.
    """
    from time import perf_counter

    from twisted.internet.defer import Deferred, gatherResults

    waits: list[float] = []
    until = perf_counter() + seconds

    async def work() -> None:
        while (began := perf_counter()) < until:
            await request()
            waits.append(perf_counter() - began)

    await request()
    workers = [Deferred.fromCoroutine(work()) for _ in range(at_once)]
    try:
        await gatherResults(workers, consumeErrors=True)
    finally:
        for each in workers:
            each.cancel()
    return sorted(waits)


def _figures(waits: "Sequence[float]", seconds: float, size: int) -> dict[str, Any]:
    return {
        "requests": len(waits),
        "requests_per_second": round(len(waits) / seconds, 1),
        "items_per_second": round(size * len(waits) / seconds, 1),
        "milliseconds": {
            **{name: round(1000 * quantile(waits, share), 3) for name, share in _QUANTILES.items()},
            "max": round(1000 * waits[-1], 3),
        },
        "histogram": [
            {"upto_ms": round(1000 * bound, 3), "requests": number} for bound, number in buckets(waits)
        ],
    }


def _picture(name: str, figures: dict[str, Any], size: int) -> str:
    rate = f"{figures['requests_per_second']:,.0f} requests per second"
    if size > 1:
        rate += f", {figures['items_per_second']:,.0f} items per second"
    times = "   ".join(f"{which} {value:.1f} ms" for which, value in figures["milliseconds"].items())
    most = max(each["requests"] for each in figures["histogram"])
    rows = [
        [
            f"≤ {each['upto_ms']:g} ms",
            f"{each['requests']:,}",
            coloured(bar(each["requests"] / most, _BAR), "cyan"),
        ]
        for each in figures["histogram"]
    ]
    return "\n".join([f"{click.style(name, bold=True)}: {rate}", times, columns([], rows, right=[0, 1]), ""])
