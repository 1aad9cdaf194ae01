"""
The kinds of work that are measured, by the names that `--only` takes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from benchmarks.shapes import TENANTS, Shape, bodies
from benchmarks.wrk import CONNECTIONS

# Enough that no item comes again at once, few enough to be made in a second.
_ITEMS_MADE: Final = 1_000_000
_BODIES_MADE: Final = 100_000


@dataclass(frozen=True, slots=True)
class Work:
    """
    Requests of one kind.

    :ivar items: items per request; 0 for counts.
    :ivar make: makes its requests from a seed: bodies of POSTs, or paths.
    :ivar stamped: whether the items have stamps, so that sending them again would change nothing.
    :ivar connections: how many requests are under way at a time.
    """

    name: str
    title: str
    items: int
    make: Callable[[int], list[bytes]]
    stamped: bool = False
    connections: int = CONNECTIONS

    @property
    def method(self) -> str:
        return "POST" if self.items else "GET"


def _uniform(items: int) -> Work:
    title = f"{items:,} items per POST" if items > 1 else "1 item per POST"
    return Work(f"post{items}", title, items, partial(bodies, "uniform", items, _how_many(items)))


def _how_many(items: int) -> int:
    return min(_BODIES_MADE, _ITEMS_MADE // items)


def _paths(_seed: int) -> list[bytes]:
    return [b"/items/tenant-%d/count" % tenant for tenant in range(TENANTS)]


def _shaped(name: Shape, title: str, *, stamped: bool = False) -> Work:
    return Work(name, title, _SHAPED, partial(bodies, name, _SHAPED, _how_many(_SHAPED)), stamped)


def _over(connections: int, work: Work) -> Work:
    wanted = "1 connection" if connections == 1 else f"{connections} connections"
    return replace(
        work, name=f"{work.name}x{connections}", title=f"{work.title}, {wanted}", connections=connections
    )


_SHAPED: Final = 100

ONE: Final = _uniform(1)
THOUSAND: Final = _uniform(1000)
COUNT: Final = Work("count", "count", 0, _paths)

MAIN: Final = [ONE, _uniform(100), THOUSAND, COUNT]
# By how many callers there are, a server waits, or shares what a request costs.
CALLERS: Final = [_over(1, ONE), _over(64, ONE), _over(64, COUNT)]
BATCHES: Final = [_uniform(10), _uniform(5000)]
SHAPES: Final = [
    _shaped("zipf", "100 items, 10,000 tenants by Zipf"),
    _shaped("skewed", "100 items, 80 % of them among 20 % of the IDs"),
    _shaped("resent", "100 items with lastUpdateDt, 30 % sent again", stamped=True),
]
WORKS: Final = {work.name: work for work in [*MAIN, *CALLERS, *BATCHES, *SHAPES]}
