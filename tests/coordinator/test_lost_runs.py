from collections.abc import Sequence

import pytest

from dcounter.coordinator import lost_runs
from dcounter.protocol.messages import Report
from dcounter.protocol.position import LostRun, NodePosition, Opening, Position

NAMED = LostRun(0, 2, 3, 5)


def report(node: int, *, run: int = 9, refuses: str | None = None, removed: Sequence[int] = ()) -> Report:
    none = Position()
    return Report(node, 8090, 1, run, none, none, 0, 0, 0, refuses=refuses, removed=list(removed))


def at(*entries: tuple[int, int, int]) -> Position:
    position = Position()
    for node, run, number in entries:
        position = position.advance(node, run, number)
    return position


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ((0, 2, 3), []),
        ((0, 2, 4), [LostRun(0, 2, 3, 3)]),
        # Nothing is left of a run between the one that was cut short and the next one that was opened.
        ((0, 4, 1), [LostRun(0, 4, 0, 5)]),
        ((0, 5, 1), []),
        ((0, 1, 9), []),
        ((1, 2, 4), []),
    ],
)
def test_what_a_node_says_to_be_lost_is(entry: tuple[int, int, int], found: list[LostRun]) -> None:
    says = Report(1, 8091, 1, 9, Position(), Position(), 0, 0, 0, lost=[NAMED])
    assert lost_runs.reported_lost([report(0), says], [entry]) == found
    assert lost_runs.reported_lost([report(0)], [entry]) == []


class TestConcluded:
    @pytest.mark.parametrize(
        ("open_run", "refuses", "newer", "lost"),
        [
            # The node has another run open than the one that is named.
            (3, None, True, True),
            # It still has that one.
            (2, None, True, False),
            # It may find it yet.
            (3, "loading", True, False),
            # Its report may be older than what is named: only a later run proves anything.
            (1, None, False, False),
            (3, None, False, True),
        ],
    )
    def test_a_node_that_came_back_without_a_run_lost_it(
        self, open_run: int, refuses: str | None, *, newer: bool, lost: bool
    ) -> None:
        reports = {0: report(0, run=open_run, refuses=refuses), 1: report(1)}
        found = lost_runs.concluded(reports, at((0, 2, 7)), at((0, 2, 3)), newer=newer, already=[])
        assert found == ([LostRun(0, 2, 3, 3)] if lost else [])

    def test_what_a_member_has_is_not_lost(self) -> None:
        reports = {0: report(0, run=3), 1: report(1)}
        everything = at((0, 2, 7))
        assert lost_runs.concluded(reports, at((0, 2, 7)), everything, newer=True, already=[]) == []

    def test_what_is_known_is_not_told_again(self) -> None:
        reports = {0: report(0, run=3)}
        known = [LostRun(0, 2, 5, 3)]
        assert lost_runs.concluded(reports, at((0, 2, 7)), at((0, 2, 3)), newer=True, already=known) == []

    @pytest.mark.parametrize(("others", "lost"), [([[3], [3]], True), ([[3], []], False)])
    def test_of_a_removed_member_when_all_know(self, others: list[list[int]], *, lost: bool) -> None:
        reports = {node: report(node, removed=removed) for node, removed in enumerate(others)}
        found = lost_runs.concluded(reports, at((3, 2, 7)), at((3, 2, 3)), newer=True, already=[])
        assert found == ([LostRun(3, 2, 3, 3)] if lost else [])

    @pytest.mark.parametrize(
        ("opening", "lost"),
        [(None, True), (Opening(4, 1, 3), False), (Opening(4, 1, 4), True)],
    )
    def test_a_fold_that_no_member_reaches_is_lost(self, opening: Opening | None, *, lost: bool) -> None:
        openings = {0: [Opening(1, 0, 0), opening]} if opening else {}
        reports = {0: Report(0, 8090, 1, 9, Position(), Position(), 0, 0, 0, openings=openings)}
        folded = Position({0: NodePosition(4, {})})
        found = lost_runs.concluded(reports, folded, at((0, 1, 3)), newer=True, already=[])
        assert found == ([LostRun(0, 0, 0, 4)] if lost else [])
        # A report that may be older than the position says nothing about its fold.
        assert lost_runs.concluded(reports, folded, at((0, 1, 3)), newer=False, already=[]) == []
