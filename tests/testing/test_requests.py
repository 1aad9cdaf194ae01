"""
Between which bounds a count may lie, by what was asked for and what it has to include.
"""

from typing import cast

import pytest

from dcounter.coordinator.service import Coordinator
from dcounter.store import Items
from dcounter.testing.requests import NO_ROW, Known, Row, Write, bounds, possible

_NOBODY = cast(Coordinator, None)


def _write(*rows: tuple[int, Row], void: bool = False, at_risk: tuple[int, ...] = ()) -> Write:
    ids, tenants = [item for item, _ in rows], [tenant for _, (_, tenant) in rows]
    winners: dict[int, Row] = {}
    for item, row in rows:
        winners[item] = max(winners.get(item, row), row)
    return Write(
        1,
        _NOBODY,
        Items(ids, tenants),
        "node",
        0.0,
        rows=winners,
        all_rows=list(rows),
        void=void,
        at_risk=set(at_risk),
    )


_ONE = _write((1, (10, "a")))
_MOVED = _write((1, (20, "b")))
_VOID = _write((1, (30, "b")), void=True)
_TWICE = _write((1, (10, "a")), (1, (11, "b")))
_RISKY = _write((1, (10, "a")), (2, (11, "a")), at_risk=(2,))


@pytest.mark.parametrize(
    ("writes", "must", "a", "b"),
    [
        ([], [], (0, 0), (0, 0)),
        # Not answered yet: it may be there or not.
        ([_ONE], [], (0, 1), (0, 0)),
        ([_ONE], [_ONE], (1, 1), (0, 0)),
        # A newer one may have moved it already, an older one may not.
        ([_ONE, _MOVED], [_ONE], (0, 1), (0, 1)),
        ([_ONE, _MOVED], [_MOVED], (0, 0), (1, 1)),
        ([_ONE, _MOVED], [_ONE, _MOVED], (0, 0), (1, 1)),
        # Nothing of it was stored, and a caller was told so.
        ([_ONE, _VOID], [_ONE], (1, 1), (0, 0)),
        # The same ID twice in one request: a count may see the first meanwhile, and must see the second.
        ([_TWICE], [], (0, 1), (0, 1)),
        ([_TWICE], [_TWICE], (0, 0), (1, 1)),
        ([_RISKY], [_RISKY], (2, 2), (0, 0)),
    ],
)
def test_a_count_lies_between(
    writes: list[Write], must: list[Write], a: tuple[int, int], b: tuple[int, int]
) -> None:
    assert bounds(writes, "a", must, told_lost=False) == a
    assert bounds(writes, "b", must, told_lost=False) == b


def test_what_was_at_risk_may_be_missing_when_a_loss_was_told() -> None:
    assert bounds([_RISKY], "a", [_RISKY], told_lost=True) == (1, 2)


def test_what_is_known_together_is_known_once() -> None:
    both = Known([_ONE], 3).join(Known([_ONE, _MOVED], 2))
    assert (both.writes, both.floor, both.latest()) == ([_ONE, _MOVED], 3, 20)
    assert Known().latest() == 0


_DELETED = _write((1, (40, "")))


@pytest.mark.parametrize(
    ("writes", "must", "expected"),
    [
        ([], [], {NO_ROW}),
        ([_ONE], [], {NO_ROW, (10, "a")}),
        ([_ONE], [_ONE], {(10, "a")}),
        ([_ONE, _MOVED], [_ONE], {(10, "a"), (20, "b")}),
        ([_ONE, _MOVED], [_MOVED], {(20, "b")}),
        ([_ONE, _VOID], [_ONE], {(10, "a")}),
        ([_TWICE], [_TWICE], {(11, "b")}),
        ([_ONE, _DELETED], [_ONE], {(10, "a"), (40, "")}),
    ],
)
def test_the_rows_that_an_item_may_have(writes: list[Write], must: list[Write], expected: set[Row]) -> None:
    assert possible(writes, must, told_lost=False).get(1, {NO_ROW}) == expected


def test_a_row_at_risk_may_be_missing_when_a_loss_was_told() -> None:
    assert possible([_RISKY], [_RISKY], told_lost=False)[2] == {(11, "a")}
    assert possible([_RISKY], [_RISKY], told_lost=True)[2] == {NO_ROW, (11, "a")}


def test_what_was_shown_together_is_the_newest() -> None:
    both = Known(seen={1: (10, "a"), 2: (5, "a")}).join(Known(seen={1: (9, "b"), 3: (1, "")}))
    assert both.seen == {1: (10, "a"), 2: (5, "a"), 3: (1, "")}
