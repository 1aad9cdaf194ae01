"""
What is wrong with an answer is found.
"""

from collections.abc import Sequence
from typing import cast

import pytest

from dcounter.coordinator.service import Coordinator
from dcounter.store import Items, Order
from dcounter.testing.checks import Check
from dcounter.testing.requests import Known, Row, TenantsPage, Write

_NOBODY = cast(Coordinator, None)


def _write(*rows: tuple[int, Row]) -> Write:
    ids, tenants = [item for item, _ in rows], [tenant for _, (_, tenant) in rows]
    return Write(1, _NOBODY, Items(ids, tenants), "node", 0.0, rows=dict(rows), all_rows=list(rows))


# Tenant a has three items, b two and c one; a second request may have moved one of a to d, or not.
_SURE = _write(*((item, (10, tenant)) for item, tenant in enumerate("aaabbc")))
_UNSURE = _write((0, (20, "d")))
CHECK = Check([_SURE, _UNSURE], Known([_SURE]), told_lost=False)
FIRST = TenantsPage("name", "", ("a", 3))


@pytest.mark.parametrize(
    ("order", "found", "before", "more"),
    [
        ("name", [("a", 3), ("b", 2), ("c", 1)], None, False),
        ("name", [("a", 2), ("b", 2), ("c", 1), ("d", 1)], None, False),
        ("name", [("a", 3), ("b", 2)], None, True),
        ("name", [("b", 2), ("c", 1)], FIRST, False),
        ("name", [("b", 2)], FIRST, True),
        ("-count", [("a", 3), ("b", 2), ("c", 1)], None, False),
        ("-count", [("a", 3), ("b", 2)], None, True),
        # It may own two by now, and then it is not on this page.
        ("-count", [("c", 1)], TenantsPage("-count", "", ("b", 2)), False),
    ],
)
def test_a_page_of_tenants_may_be(
    order: Order, found: Sequence[tuple[str, int]], before: TenantsPage | None, more: bool
) -> None:
    assert list(CHECK.tenants(order, found, before, more=more)) == []


@pytest.mark.parametrize(
    ("order", "found", "before", "more", "problem"),
    [
        ("name", [("b", 2), ("a", 3), ("c", 1)], None, False, "not in order"),
        ("name", [("a", 3), ("a", 3), ("b", 2), ("c", 1)], None, False, "not in order"),
        ("name", [("a", 3), ("b", 2), ("c", 1)], FIRST, False, "not in order"),
        ("-count", [("c", 1), ("b", 2), ("a", 3)], None, False, "not in order"),
        ("name", [("a", 3), ("b", 2), ("c", 1), ("d", 0)], None, False, "owns nothing"),
        ("name", [("a", 3), ("c", 1)], None, False, "'b' is not listed"),
        ("name", [("a", 3), ("c", 1)], None, True, "'b' is not listed"),
        ("name", [("c", 1)], FIRST, False, "'b' is not listed"),
        ("name", [], None, False, "'a' is not listed"),
        ("-count", [("a", 3), ("c", 1)], None, True, "'b' is not listed"),
    ],
)
def test_a_page_of_tenants_may_not_be(
    order: Order, found: Sequence[tuple[str, int]], before: TenantsPage | None, more: bool, problem: str
) -> None:
    assert problem in next(CHECK.tenants(order, found, before, more=more))


@pytest.mark.parametrize(
    ("tenant", "found", "more", "problem"),
    [
        ("a", [0, 1, 2], False, ""),
        ("a", [1, 2], False, ""),
        ("a", [0, 1], True, ""),
        ("d", [0], False, ""),
        ("d", [], False, ""),
        ("a", [1, 0, 2], False, "not in order"),
        ("a", [1, 1, 2], False, "not in order"),
        ("a", [0, 2], False, "ID 1 is not listed"),
        ("a", [0, 2], True, "ID 1 is not listed"),
        ("a", [], False, "ID 1 is not listed"),
        ("a", [0, 1, 2, 3], False, "ID 3 is listed for 'a'"),
        ("a", [0, 1, 2, 99], False, "ID 99 is listed for 'a'"),
    ],
)
def test_a_page_of_items(tenant: str, found: list[int], more: bool, problem: str) -> None:
    problems = list(CHECK.ids(tenant, found, more=more))
    assert problems == [] if not problem else problem in problems[0]
