from dataclasses import replace

import pytest

from dcounter.node.answers import Answers, wanted
from dcounter.node.effects import FlushJournal
from dcounter.protocol.messages import Await, Awaited, Count, Counted
from dcounter.protocol.position import LostRun, Position
from dcounter.protocol.questions import Ask, LookedUp, LookUp, Told
from tests.support.machines import Machines, has

NEEDED = has((1, 5, 2))


class Answering(Machines):
    """
    Node 0 with one item of tenant "t".
    """

    def __init__(self, most: int = 10) -> None:
        super().__init__()
        state = (self.contents, self.durability, self.members, self.catch_up)
        self.all = Answers(self.out, *state, replace(self.limits, waits=most))
        self.contents.ledger.merge([1], [1], ["t"])

    def count(self, required: Position = NEEDED, *, wait: int = 500) -> None:
        self.all.take(1, Count(3, ["t", "u"], required, wait), 0.0)

    def wait_for(self, position: Position = NEEDED, *, wait: int = 500) -> None:
        self.all.take(1, Await(4, position, wait), 0.0)


@pytest.fixture
def node() -> Answering:
    return Answering()


def counted(*, complete: bool, applied: Position = NEEDED) -> tuple[int, Counted]:
    return 1, Counted(3, [1, 0], complete, applied, 0)


def test_what_a_question_requires() -> None:
    assert wanted(Count(3, ["t"], NEEDED, 0)) == NEEDED
    assert wanted(Await(3, NEEDED, 0)) == NEEDED
    assert wanted(Ask(3, LookUp([1]), NEEDED, 0)) == NEEDED


def test_a_count_is_answered_at_once_if_all_is_there(node: Answering) -> None:
    node.contents.applied = NEEDED
    node.count()
    assert node.sent() == [counted(complete=True)]


def test_a_count_waits_for_what_is_missing_and_is_answered_once(node: Answering) -> None:
    node.count()
    node.all.answer_ready()
    assert node.sent() == []
    node.contents.applied = NEEDED
    node.all.answer_ready()
    node.all.answer_ready()
    node.all.tick(9.0)
    assert node.sent() == [counted(complete=True)]


def test_after_its_time_it_is_answered_with_what_there_is(node: Answering) -> None:
    node.count()
    node.all.tick(0.4)
    assert node.sent() == []
    node.all.tick(0.5)
    assert node.sent() == [counted(complete=False, applied=Position())]


def test_one_that_does_not_wait_or_finds_no_room_is_answered_at_once() -> None:
    node = Answering(most=1)
    node.count(wait=0)
    node.count()
    assert node.sent() == [counted(complete=False, applied=Position())]
    node.count()
    assert node.sent() == [counted(complete=False, applied=Position())]


def test_who_has_left_is_not_answered(node: Answering) -> None:
    node.count()
    node.all.disconnected(1)
    node.all.tick(9.0)
    assert node.sent() == []


@pytest.mark.parametrize("why", ["loading", "in doubt", "a copy"])
def test_no_count_is_exact_while_the_ledger_is_unfinished(node: Answering, why: str) -> None:
    node.contents.applied = has((0, 4, 1)).join(NEEDED)
    match why:
        case "loading":
            node.contents.loading = True
        case "in doubt":
            node.durability.doubted(node.contents.applied)
        case _:
            node.catch_up.reach(has((1, 5, 3)))
    assert not node.all.exact
    node.count(wait=0)
    [(_, said)] = node.sent()
    assert isinstance(said, Counted)
    assert not said.complete


def test_what_was_lost_no_node_covers(node: Answering) -> None:
    node.contents.applied = NEEDED.fold(1, 9)
    node.contents.runs.learn_all([], [LostRun(1, 5, 1, 9)])
    node.count(wait=0)
    [(_, said)] = node.sent()
    assert isinstance(said, Counted)
    assert not said.complete


def test_durability_is_waited_for_without_delay(node: Answering) -> None:
    node.contents.applied = NEEDED
    waiting = [node.all.for_durability]
    node.wait_for()
    waiting.append(node.all.for_durability)
    assert node.effects() == [FlushJournal()]
    node.durability.restored(NEEDED)
    node.all.answer_ready()
    assert node.sent() == [(1, Awaited(4, True, NEEDED, 0))]
    assert [*waiting, node.all.for_durability] == [False, True, False]


def test_other_questions_wait_as_counts_do(node: Answering) -> None:
    node.all.take(1, Ask(3, LookUp([1, 2]), NEEDED, 500), 0.0)
    node.all.answer_ready()
    assert node.sent() == []
    node.contents.applied = NEEDED
    node.all.answer_ready()
    assert node.sent() == [(1, Told(3, LookedUp([1, 0], ["t", None]), True, NEEDED, 0))]


def test_other_questions_are_answered_after_their_time_with_what_there_is(node: Answering) -> None:
    node.all.take(1, Ask(3, LookUp([1]), NEEDED, 500), 0.0)
    node.all.tick(0.5)
    assert node.sent() == [(1, Told(3, LookedUp([1], ["t"]), False, Position(), 0))]


def test_while_two_processes_hold_its_id_nothing_is_durable_for_certain(node: Answering) -> None:
    node.durability.restored(NEEDED)
    node.members.refused_by(1, "why")
    node.effects()
    node.wait_for(wait=0)
    assert node.sent() == [(1, Awaited(4, False, Position(), 0))]
