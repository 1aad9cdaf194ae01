import pytest

from dcounter.node.effects import LogMessage, Outbox
from dcounter.node.own_run import OwnRun
from dcounter.protocol.position import NodePosition, Opening, Position
from tests.support.machines import has, report


def own_run(wall: int = 1_000, seed: int = 0, out: Outbox | None = None) -> OwnRun:
    return OwnRun(0, out or Outbox(), lambda: wall, seed)


def test_numbers_follow_each_other_within_a_run() -> None:
    own = own_run()
    own.open(NodePosition(), 0, wiped=False)
    assert [own.next_number() for _ in range(3)] == [1, 2, 3]
    own.close()
    assert own.run == 0
    own.open(NodePosition(0, {1_000: 3}), 0, wiped=False)
    assert own.next_number() == 1


@pytest.mark.parametrize(
    ("known", "latest", "opening"),
    [
        (NodePosition(), 0, Opening(1_000, 0, 0, wiped=False)),
        (NodePosition(0, {400: 7, 500: 3}), 500, Opening(1_000, 500, 3, wiped=False)),
        # The clock went back: a run that is known, one of which nobody has a batch, and a fold.
        (NodePosition(0, {5_000: 3}), 0, Opening(5_001, 5_000, 3, wiped=False)),
        (NodePosition(0, {400: 7}), 6_000, Opening(6_001, 400, 7, wiped=False)),
        (NodePosition(7_000), 0, Opening(7_001, 7_000, 0, wiped=False)),
        (NodePosition(7_000, {7_000: 2}), 0, Opening(7_001, 7_000, 2, wiped=False)),
    ],
)
def test_a_new_run_is_above_all_that_was_heard_of(known: NodePosition, latest: int, opening: Opening) -> None:
    own = own_run()
    assert own.open(known, latest, wiped=False) == opening
    assert own.run == opening.run


def test_two_processes_with_one_clock_open_different_runs() -> None:
    runs = {own_run(seed=seed).open(NodePosition(), 0, wiped=True).run for seed in (1, 2, 2**20 + 3)}
    assert runs == {1_001, 1_002, 1_003}


def test_a_peer_that_has_more_of_our_own_log_is_named_once_per_run() -> None:
    out = Outbox()
    own = own_run(out=out)
    mine = has((0, 5, 2))
    for theirs in (has((0, 5, 2), (1, 9, 9)), has((0, 5, 4)), has((0, 5, 6)), Position()):
        own.compare(report(1, theirs), mine)
    own.compare(report(2, has((0, 6, 1))), mine)
    text = "node {} holds {} batches of this node's run {}, this node {}: fetching them"
    assert out.take() == [
        LogMessage("warn", text.format(1, 4, 5, 2)),
        LogMessage("warn", text.format(2, 1, 6, 0)),
    ]
