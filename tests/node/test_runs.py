from collections.abc import Mapping

import pytest

from dcounter.node.runs import Runs
from dcounter.protocol.position import LostRun, Opening, Position


def has(runs: Mapping[int, int], folded: int = 0) -> Position:
    """
    A position that names only node 0: run -> number, above a fold.
    """
    position = Position()
    if folded:
        position = position.fold(0, folded)
    for run, number in runs.items():
        position = position.advance(0, run, number)
    return position


def three_runs(*, wiped: bool = False) -> Runs:
    """
    Node 0 opened run 10, then 20 after 5 batches, then 30 after 2 more.
    """
    runs = Runs(8)
    for opening in (Opening(10, 0, 0, False), Opening(20, 10, 5, wiped), Opening(30, 20, 2, False)):
        runs.learn(0, opening)
    return runs


def foldable(runs: Runs, *everywhere: Position, known: Position | None = None) -> list[int]:
    durable = everywhere[0]
    return [
        opening.run
        for _, opening in runs.foldable(lambda: durable, everywhere, known or max(everywhere, key=_size))
    ]


def _size(position: Position) -> int:
    return sum(number for _, _, number in position.entries())


ALL = has({10: 5, 20: 2, 30: 1})


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([ALL], [20, 30]),
        # One lacks the end of the first run, or of the second.
        ([has({10: 4, 20: 2, 30: 1})], []),
        ([has({10: 5, 20: 1})], [20]),
        ([ALL, has({10: 5})], [20]),
        ([has({})], []),
    ],
)
def test_runs_are_folded_when_all_have_them(others: list[Position], expected: list[int]) -> None:
    assert foldable(three_runs(), ALL, *others) == expected


def test_a_run_that_went_further_than_its_successor_knew_is_not_complete() -> None:
    known = has({10: 6, 20: 2, 30: 1})
    assert foldable(three_runs(), ALL, ALL, known=known) == []


def test_a_run_between_that_the_opening_does_not_know_counts_as_well() -> None:
    known = has({10: 5, 15: 1, 20: 2})
    assert foldable(three_runs(), ALL, known=known) == []


def test_what_is_folded_is_not_folded_again() -> None:
    folded = has({20: 2, 30: 1}, folded=20)
    assert foldable(three_runs(), folded, folded) == [30]


def test_each_fold_may_make_the_next_one_possible() -> None:
    runs = three_runs()
    durable = [ALL]
    given = []
    for _, opening in runs.foldable(lambda: durable[0], [ALL], ALL):
        given.append(opening.run)
        durable[0] = durable[0].fold(0, 30)
    # What was folded meanwhile is passed over.
    assert given == [20]


@pytest.mark.parametrize(("mine", "expected"), [(ALL, [30]), (has({10: 5, 20: 1}), [])])
def test_a_peers_fold_is_adopted_by_those_who_have_all(mine: Position, expected: list[int]) -> None:
    heard = has({30: 1}, folded=30)
    found = [opening.run for _, opening in three_runs().folded_by(heard, lambda: (mine, mine))]
    assert found == expected


def test_a_wiped_node_has_lost_what_was_before() -> None:
    runs = three_runs(wiped=True)
    assert runs.lost == []
    runs.note_losses(0, Opening(30, 20, 2, False), ALL)
    assert runs.lost == [LostRun(0, 10, 5, 20)]
    assert runs.names_lost(has({10: 6}))
    assert not runs.names_lost(has({10: 5}))


def test_only_what_a_peer_may_need_is_told() -> None:
    runs = three_runs()
    assert [opening.run for opening in runs.live(has({}, folded=20))[0]] == [20, 30]
    assert runs.live(has({}, folded=31)) == {}
    assert (runs.latest(0), runs.latest(1)) == (30, 0)


def test_the_oldest_openings_go_first() -> None:
    runs = Runs(2)
    for run in (50, 10, 30, 20, 40):
        runs.learn(0, Opening(run, 0, 0, False))
    assert [opening.run for opening in runs.live(Position())[0]] == [20, 30, 40, 50]


def test_what_another_node_knows_is_taken_over() -> None:
    runs = Runs(2)
    runs.learn_all([(0, [Opening(10, 0, 0, False)]), (1, [Opening(7, 0, 0, False)])], [LostRun(1, 3, 2, 7)])
    assert sorted(runs.live(Position())) == [0, 1]
    assert runs.lost == [LostRun(1, 3, 2, 7)]
