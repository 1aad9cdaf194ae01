"""
The requests that are sent: items of different shapes as bodies, made before anything is measured.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate, count
from random import Random
from typing import Final, Literal

Shape = Literal["uniform", "zipf", "skewed", "resent"]

TENANTS: Final = 100
IDS: Final = 1_000_000
# A prime above 10 million, so that multiplying scatters the numbers below it without meeting twice.
SCATTER: Final = 10_000_019
_FACTOR: Final = 7_368_787
# Of shape "zipf": more tenants, the n-th of which is 1/n as busy as the first.
_ZIPF_TENANTS: Final = 10_000
# Of shape "skewed": four fifths of the items are among a fifth of the IDs, and so on within these.
_SKEW: Final = 7.2
# Of shape "resent": how many of the items repeat one of those sent shortly before.
_RESENT: Final = 0.3
_REMEMBERED: Final = 10_000


def item(number: int, tenant: int, stamp: str | None = None) -> str:
    if stamp is None:
        return f'{{"ID":{number},"tenant":"tenant-{tenant}"}}'
    return f'{{"ID":{number},"tenant":"tenant-{tenant}","lastUpdateDt":"{stamp}"}}'


def body(items: list[str]) -> bytes:
    return f"[{','.join(items)}]".encode()


def bodies(shape: Shape, items: int, how_many: int, seed: int) -> list[bytes]:
    """
    Bodies of equally many items each; the same for the same arguments, but for the stamps of "resent".
    """
    stream = _SHAPES[shape](Random(seed))
    return [body([next(stream) for _ in range(items)]) for _ in range(how_many)]


def growing(first: int, end: int, items: int) -> list[bytes]:
    """
    Bodies of items with IDs that no other number has, in scattered order.
    """
    assert end <= SCATTER
    return [
        body([item(scattered(n), n % TENANTS) for n in range(start, min(start + items, end))])
        for start in range(first, end, items)
    ]


def renewing(stored: int, items: int, how_many: int, seed: int) -> list[bytes]:
    """
    Bodies of items that are all stored already: drawn from the first `stored` ones of `growing`.
    """
    draw = Random(seed).randrange
    return [
        body([item(scattered(draw(stored)), draw(TENANTS)) for _ in range(items)]) for _ in range(how_many)
    ]


def scattered(number: int) -> int:
    return number * _FACTOR % SCATTER


def _uniform(random: Random) -> Iterator[str]:
    draw = random.randrange
    while True:
        yield item(draw(IDS), draw(TENANTS))


def _zipf(random: Random) -> Iterator[str]:
    tenants = range(_ZIPF_TENANTS)
    weights = list(accumulate(1 / (rank + 1) for rank in tenants))
    while True:
        for tenant in random.choices(tenants, cum_weights=weights, k=1000):
            yield item(random.randrange(IDS), tenant)


def _skewed(random: Random) -> Iterator[str]:
    while True:
        yield item(int(IDS * random.random() ** _SKEW), random.randrange(TENANTS))


def _resent(random: Random) -> Iterator[str]:
    """
    Items with stamps of their own, a microsecond apart, up to the present.
    """
    now = time.time()
    sent: list[str] = []
    for n in count():
        if sent and random.random() < _RESENT:
            yield random.choice(sent)
            continue
        stamp = datetime.fromtimestamp(now + n / 1_000_000, UTC).isoformat(timespec="microseconds")
        new = item(random.randrange(IDS), random.randrange(TENANTS), stamp)
        if len(sent) < _REMEMBERED:
            sent.append(new)
        else:
            sent[n % _REMEMBERED] = new
        yield new


_SHAPES: Final = {"uniform": _uniform, "zipf": _zipf, "skewed": _skewed, "resent": _resent}
