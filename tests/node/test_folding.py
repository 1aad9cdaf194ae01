import pytest

from dcounter.node.folding import Folding
from dcounter.protocol.position import LostRun, NodePosition, Opening
from tests.support.machines import Machines, has, report

# Run 5 of node 1 went up to number 2; run 9 followed it.
CLOSED = has((1, 5, 2))
FIRST, NEXT = Opening(5, 0, 0, wiped=False), Opening(9, 5, 2, wiped=False)


class FoldingNode(Machines):
    def __init__(self, opening: Opening = NEXT) -> None:
        super().__init__()
        self.all = Folding(self.contents, self.durability, self.members)
        self.contents.runs.learn(1, FIRST)
        self.contents.runs.learn(1, opening)
        for number in (1, 2):
            self.contents.backlog.append(1, 5, number, b"x")
        self.contents.applied = CLOSED
        self.durability.restored(CLOSED)

    def folded(self) -> tuple[int, int]:
        return self.contents.applied.of(1).folded, self.durability.durable.of(1).folded


def test_a_closed_run_that_every_member_has_is_folded() -> None:
    world = FoldingNode()
    world.hears(report(1, CLOSED), report(2, CLOSED))
    world.all.fold()
    assert world.folded() == (9, 9)
    assert world.contents.applied.of(1).runs == {}
    assert world.contents.backlog.bytes == 0


@pytest.mark.parametrize("number", [0, 1])
def test_not_before_each_has_it_durably(number: int) -> None:
    world = FoldingNode()
    world.hears(report(1, CLOSED), report(2, CLOSED, has((1, 5, number))))
    world.all.fold()
    assert world.folded() == (0, 0)
    # What all have durably, no follower needs any more.
    assert world.contents.backlog.bytes == 2 - number
    assert world.contents.backlog.read(1, 5, 1, 9) == [b"x"]


def test_not_before_all_have_reported() -> None:
    world = FoldingNode()
    world.hears(report(1, CLOSED))
    world.all.fold()
    assert world.folded() == (0, 0)
    assert world.contents.backlog.bytes == 2


def test_what_another_one_has_folded_is_folded_if_all_of_it_is_here() -> None:
    world = FoldingNode()
    heard = has().fold(1, 9)
    world.durability.restored(has((1, 5, 1)))
    world.all.adopt(heard)
    assert world.folded() == (0, 0)
    world.durability.restored(CLOSED)
    world.all.adopt(heard)
    assert world.folded() == (9, 9)


def test_a_fold_over_a_loss_names_the_loss() -> None:
    world = FoldingNode(Opening(9, 5, 2, wiped=True))
    world.all.adopt(has().fold(1, 9))
    assert world.contents.runs.lost == [LostRun(1, 5, 2, 9)]
    assert world.contents.applied.of(1) == NodePosition(9)
