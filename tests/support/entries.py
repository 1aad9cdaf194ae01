"""
Entries of ledgers, what becomes of them as naively as can be, and long work with merges between its steps.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from hypothesis import strategies as st

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import Steps, StepSizes
from tests.support import strategies

T = TypeVar("T")


class Row(NamedTuple):
    item: int
    stamp: int
    tenant: str | None


# Few IDs, stamps and tenants: entries must meet. Code points above the surrogates come after those
# below in UTF-8 and before them in UTF-16: "\ufffd" and "\U00010000".
colliding = st.builds(
    Row,
    st.integers(-2, 3),
    st.integers(0, 3),
    st.sampled_from([None, "a", "b", "ab", "\ufffd", "\U00010000", "\u00e9", "\x00"]),
)
anything = st.builds(Row, strategies.item_ids, st.integers(0, 2) | strategies.stamps, strategies.owners)
batches = st.lists(colliding | anything, max_size=8)

# More tenants than steps look at in one go, with names that begin alike.
crowded = st.lists(
    st.builds(
        Row, st.integers(-9, 9), st.integers(0, 9), st.none() | st.text("ab\ufffd\U00010000", min_size=1)
    ),
    max_size=12,
)

SMALL = StepSizes(
    names=2, aside=1, tied=1, gathered=2, put_in=1, compared=3, counted=2, copied=2, touched=50, freed=50
)
"""
Sizes with which little work takes several steps.
"""


def weight(row: Row) -> tuple[int, bytes]:
    # No name is empty, so a tombstone is smaller than any.
    return row.stamp, b"" if row.tenant is None else row.tenant.encode("utf-8")


def model(rows: Iterable[Row]) -> dict[int, Row]:
    """
    The winning entry of each ID.
    """
    winners: dict[int, Row] = {}
    for row in rows:
        known = winners.get(row.item)
        if known is None or weight(row) > weight(known):
            winners[row.item] = row
    return winners


def recount(rows: Iterable[Row]) -> dict[str, int]:
    return Counter(row.tenant for row in model(rows).values() if row.tenant is not None)


def merge(ledger: Ledger, rows: Sequence[Row]) -> None:
    ledger.merge(*([row[column] for row in rows] for column in range(3)))  # type: ignore[arg-type]


class Writer:
    """
    A ledger, all that was merged into it, and what will be merged between the steps of long work.

    :ivar restless: tenants whose counts have changed since the first merge, and IDs that changed hands.
    """

    def __init__(self, rows: Sequence[Row], later: Iterable[Sequence[Row]] = ()) -> None:
        self.ledger = Ledger(sizes=SMALL)
        self.rows: list[Row] = []
        self.restless: set[str | int] = set()
        self.later = list(later)
        self.write(rows)
        self.restless.clear()

    def write(self, rows: Sequence[Row]) -> None:
        before = self._state()
        merge(self.ledger, rows)
        self.rows += rows
        self.restless |= {key for key, _ in before ^ self._state()}

    def _state(self) -> set[tuple[str | int, int | str | None]]:
        owners = {(item, row.tenant) for item, row in model(self.rows).items()}
        return {*recount(self.rows).items(), *owners}

    def result(self, steps: Steps[T]) -> T:
        """
        The result of long work; between its steps batches are merged, as long as there are any.
        """
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if self.later:
                self.write(self.later.pop())
