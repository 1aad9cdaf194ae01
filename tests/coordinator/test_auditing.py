"""
What is concluded from the answers of nodes.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from dcounter.audits import NodeCount, Row
from dcounter.coordinator.auditing import (
    UNKNOWN,
    Findings,
    Groups,
    bits_for,
    differing,
    most_frequent,
    objection,
    wrong_items,
    wrong_tenants,
)
from dcounter.protocol.questions import AuditCompared, AuditRowsFound, AuditTenantsFound, WrongCount


@pytest.mark.parametrize(
    ("values", "right", "wrong"),
    [
        ("aaa", "a", []),
        ("aab", "a", [2]),
        ("abaa", "a", [1]),
        ("ab", None, []),
        ("aabb", None, []),
        ("abc", None, []),
        ("aabc", None, []),
        ("aaabc", "a", [3, 4]),
        ("a", "a", []),
    ],
)
def test_more_than_half_decide(values: str, right: str | None, wrong: Sequence[int]) -> None:
    assert most_frequent(dict(enumerate(values))) == (right, wrong)


@pytest.mark.parametrize(("rows", "bits"), [(0, 0), (127, 0), (128, 1), (10_000_000, 16), (10**12, 16)])
def test_groups_have_about_a_hundred_rows(rows: int, bits: int) -> None:
    assert bits_for(rows) == bits


def _compared(*sums: int) -> AuditCompared:
    return AuditCompared(0, 0, np.array(sums, "<u8").tobytes())


def test_groups_that_differ() -> None:
    found = differing(2, {0: _compared(1, 2, 3, 4), 1: _compared(1, 2, 9, 4), 4: _compared(7, 2, 3, 4)})
    assert (found.differing, found.wrong, found.undecided) == ([0, 2], {1, 4}, False)
    found = differing(1, {0: _compared(1, 2), 1: _compared(1, 3)})
    assert (found.differing, found.wrong, found.undecided) == ([1], set(), True)


def test_rows_that_differ() -> None:
    found = wrong_items(
        {
            0: AuditRowsFound([1, 2, 3], [5, 5, 5], ["a", "b", None]),
            1: AuditRowsFound([1, 2, 3], [5, 4, 5], ["a", "b", None]),
            2: AuditRowsFound([1, 2], [5, 5], ["a", "b"]),
        }
    )
    assert [(each.id, each.right, each.wrong) for each in found] == [
        (2, Row("b", 5), [1]),
        (3, Row(None, 5), [2]),
    ]
    assert found[1].nodes[2].row == UNKNOWN


@pytest.mark.parametrize(
    ("rows", "newest"),
    [
        ([Row("a", 5), Row("a", 4)], Row("a", 5)),
        ([Row("a", 5), Row("b", 5)], Row("b", 5)),
        ([Row("a", 5), Row(None, 5)], Row("a", 5)),
        ([UNKNOWN, Row(None, 0)], Row(None, 0)),
        # As UTF-8, not as UTF-16.
        ([Row("\ufffd", 5), Row("\U00010000", 5)], Row("\U00010000", 5)),
    ],
)
def test_the_newest_row_is_the_likely_one(rows: list[Row], newest: Row) -> None:
    found = {
        node: AuditRowsFound([1], [row.stamp], [row.tenant])
        if row.stamp is not None
        else AuditRowsFound([], [], [])
        for node, row in enumerate(rows)
    }
    [wrong] = wrong_items(found)
    assert (wrong.right, wrong.decided, wrong.wrong) == (newest, False, [])


def test_counts_that_differ() -> None:
    found = {0: AuditTenantsFound([5, 5, 5], [5, 5, 5]), 1: AuditTenantsFound([5, 6, 6], [5, 5, 6])}
    wrong = wrong_tenants(["a", "b", None], found, [0])
    assert [(each.tenant, each.right, each.wrong) for each in wrong] == [("b", 5, [1]), (None, 5, [1])]
    assert wrong[0].nodes == [NodeCount(0, 5, 5), NodeCount(1, 6, 5)]
    # Without a node whose rows are right, only what a node says of itself is known to be wrong.
    wrong = wrong_tenants(["a", "b", None], found, [])
    assert [(each.tenant, each.right, each.wrong) for each in wrong] == [("b", None, [1]), (None, None, [])]


def _findings(wrong: set[int], *, undecided: bool = False, counting: Sequence[int] = ()) -> Findings:
    counts: dict[int, Sequence[WrongCount]] = {node: [WrongCount("a", 1, 2)] for node in counting}
    groups = Groups(0, [0], [0], wrong, undecided)
    return Findings(counts, dict.fromkeys(counting, 1), groups)


@pytest.mark.parametrize(
    ("findings", "audited", "members", "why"),
    [
        (_findings({1}), [0, 1, 2], [0, 1, 2], None),
        (_findings(set(), counting=[0, 1, 2]), [0, 1, 2], [0, 1, 2], None),
        (_findings({1}, counting=[0]), [0, 1, 2], [0, 1, 2], None),
        (_findings({1}), [0, 1, 2], [0, 1, 2, 3], "were not audited"),
        (_findings({1, 2}), [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], "--rebuild 1 --rebuild 2"),
        (_findings({1}, undecided=True), [0, 1, 2, 3], [0, 1, 2, 3], "cannot be told which node is wrong"),
        (_findings(set(), counting=[0]), [0], [0], "no other node"),
    ],
)
def test_what_speaks_against_a_repair(
    findings: Findings, audited: list[int], members: list[int], why: str | None
) -> None:
    found = objection(findings, audited, members)
    assert (found is None) == (why is None)
    assert why is None or why in str(found)


def test_a_summary() -> None:
    found = _findings({1}, counting=[2]).differences()
    assert found is not None
    assert found.wrong_nodes == [1, 2]
    assert (found.all_items, found.all_tenants, found.more) == (1, 1, False)
    assert Findings({0: []}, {0: 0}).differences() is None
