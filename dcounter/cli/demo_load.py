"""
A load that looks like that of a real service: some tenants are large, and their shares change with time.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import Any, Final

PREFIX: Final = "demo/"
"""
How the names of its tenants begin.
"""

FIRST_ID: Final = -(2**52)
"""
Its IDs go up from here, where nobody has any, and are exact in JavaScript, too.
"""

_COMPANIES: Final = (
    *("acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka"),
    *("soylent", "cyberdyne", "tyrell", "aperture", "oscorp", "gringotts", "monarch", "duff"),
)
_PLACES: Final = ("berlin", "nairobi", "osaka", "quito")
_SHORTEST_PERIOD_S: Final = 40.0
_LONGEST_PERIOD_S: Final = 240.0
_WAVE: Final = 0.8
_DAY_S: Final = 120.0
"""
The shares of tenants rise and fall in periods between these; and all of the load within a day that is short.
"""

_MOVES: Final = 0.15
_DELETIONS: Final = 0.08
"""
Shares of the updates.
"""


class DemoLoad:
    """
    Makes items.

    :param random: decides.
    :param most: how many items there are in the end: then each new one follows a deletion.
    """

    def __init__(self, random: Random, *, most: int) -> None:
        self._random = random
        self._most = most
        self._next = FIRST_ID
        self._ids: list[int] = []
        self.tenants: Sequence[str] = [
            f"{PREFIX}{company}/{place}"
            for company in _COMPANIES
            for place in _PLACES[: 1 + len(company) % 4]
        ]
        order = random.sample(range(len(self.tenants)), len(self.tenants))
        # As in life: the second one has half of what the first one has, the third one a third.
        self._sizes = [1 / (1 + rank) for rank in order]
        self._periods = [random.uniform(_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S) for _ in order]
        self._phases = [random.uniform(0, math.tau) for _ in order]

    def updates(self, at: float, seconds: float, rate: float) -> list[dict[str, Any]]:
        """
        What happens in some seconds.

        :param at: the time (s) since the beginning.
        :param rate: updates per second, at most.
        """
        busy = 0.7 + 0.3 * math.sin(math.tau * at / _DAY_S)
        number = int(rate * seconds * busy + self._random.random())
        weights = [
            size * (1 + _WAVE * math.sin(math.tau * at / period + phase))
            for size, period, phase in zip(self._sizes, self._periods, self._phases, strict=True)
        ]
        return [self._update(tenant) for tenant in self._random.choices(self.tenants, weights, k=number)]

    def _update(self, tenant: str) -> dict[str, Any]:
        kind = self._random.random()
        if self._ids and (kind < _DELETIONS or len(self._ids) >= self._most):
            place = self._random.randrange(len(self._ids))
            self._ids[place], self._ids[-1] = self._ids[-1], self._ids[place]
            return {"ID": self._ids.pop(), "deleted": True}
        if self._ids and kind < _DELETIONS + _MOVES:
            return {"ID": self._random.choice(self._ids), "tenant": tenant}
        self._ids.append(self._next)
        self._next += 1
        return {"ID": self._ids[-1], "tenant": tenant}
