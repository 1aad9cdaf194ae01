"""
Bars and histograms, drawn with characters.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

_MANTISSAS: Final = (1, 1.5, 2, 3, 5, 7)
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def bar(share: float, width: int) -> str:
    """
    A bar.

    :param share: of the width, from 0 to 1.
    """
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    whole, rest = divmod(eighths, 8)
    return _EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")


def quantile(ordered: Sequence[float], share: float) -> float:
    """
    The value below which a share of the ordered values lies.
    """
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def buckets(ordered: Sequence[float]) -> list[tuple[float, int]]:
    """
    Ordered values in buckets: the upper bound of each, and how many values are in it.

    The bounds are 1, 1.5, 2, 3, 5 and 7 times powers of ten, from the first bucket with a value to the last.
    """
    bounds = [mantissa * 10.0**power for power in range(-6, 7) for mantissa in _MANTISSAS]
    first, last = (bisect_left(bounds, ordered[end]) for end in (0, -1))
    found = []
    before = 0
    for bound in bounds[first : last + 1]:
        upto = bisect_right(ordered, bound)
        found.append((bound, upto - before))
        before = upto
    return found
