from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from dcounter.coordinator.reads import Attempt, Question, Reads
from dcounter.coordinator.view import View
from dcounter.limits import Limits
from dcounter.protocol import messages
from dcounter.protocol.clock import HybridClock
from dcounter.protocol.messages import Report
from dcounter.protocol.position import Position
from dcounter.store import Consistency

NOWHERE = Position()
LIMITS = Limits(heartbeat_s=0.2, hedge_after_s=0.2, read_wait_s=2.0)


def has(number: int) -> Position:
    return Position().advance(1, 5, number) if number else NOWHERE


@dataclass
class Answer:
    position: Position
    complete: bool
    stamp: int = 0
    tells: bool = True


class Asked(Question[Answer]):
    """
    A question whose words do not matter here.
    """

    def message(self, number: int, required: Position, wait: int) -> messages.Request:
        raise NotImplementedError

    def is_answer(self, answer: Answer) -> bool:
        return answer.tells

    def tell(self, answer: Answer, token: str, missing: Sequence[int], *, complete: bool) -> None:
        raise NotImplementedError


class Questioner:
    """
    A coordinator's questions to three nodes, of which those that `up` names have reported.
    """

    def __init__(self, *up: tuple[int, Position]) -> None:
        self.view = View(range(3), clock=HybridClock(lambda: 10**18), limits=LIMITS, now=0.0)
        for node, applied in up:
            self.view.connected(node, 0.0)
            self.view.reported(Report(node, 8090, 1, 0, applied, applied, 0, 0, 0), 0.0)
        self.reads = Reads(self.view, LIMITS)

    def begin(self, consistency: Consistency = "exact", extra: Position = NOWHERE) -> Asked:
        question = Asked(consistency, extra, self.reads.until(0.0))
        self.reads.begin(question)
        return question

    def ask(self, question: Asked, now: float = 0.0) -> Attempt | None:
        """
        The next node is asked.
        """
        attempt = next(self.reads.attempts(question, now), None)
        if attempt is not None:
            self.reads.sent(question, now)
        return attempt


def all_up(*applied: int) -> Questioner:
    return Questioner(*((node, has(number)) for node, number in enumerate(applied or (3, 3, 3))))


def node_of(attempt: Attempt | None) -> int:
    assert attempt is not None
    return attempt.node


class TestTurns:
    def test_a_question_is_asked_when_its_turn_ends_and_looked_at_from_then_on(self) -> None:
        world = all_up()
        first = world.begin()
        assert (world.reads.open, world.reads.begun) == ([first], [])
        assert world.reads.take_unasked() == [first]
        second = world.begin()
        assert (world.reads.open, world.reads.begun) == ([first, second], [first])
        assert world.reads.take_unasked() == [second]
        assert world.reads.take_unasked() == []

    def test_one_that_ended_before_is_not_asked(self) -> None:
        world = all_up()
        world.reads.end(world.begin())
        assert world.reads.take_unasked() == []


class TestAsking:
    def test_the_primary_first_then_who_misses_least(self) -> None:
        world = all_up(1, 3, 2)
        world.view.require(has(3))
        primary = world.view.primary()
        question = world.begin()
        order = [node_of(world.ask(question)) for _ in range(3)]
        assert order[0] == primary
        assert order[1:] == [node for node in (1, 2, 0) if node != primary]
        assert world.ask(question) is None

    @pytest.mark.parametrize(
        ("consistency", "extra", "required", "wait"),
        [
            # All but a heartbeat of the time that is left.
            ("exact", NOWHERE, has(3), 1_800),
            ("exact", has(4), has(4), 1_800),
            ("available", NOWHERE, has(3), 1_800),
            ("eventual", NOWHERE, NOWHERE, 0),
            ("eventual", has(4), has(4), 1_800),
        ],
    )
    def test_what_is_required_and_how_long_a_node_may_wait(
        self, consistency: Consistency, extra: Position, required: Position, wait: int
    ) -> None:
        world = all_up()
        world.view.require(has(3))
        attempt = world.ask(world.begin(consistency, extra))
        assert attempt is not None
        assert (attempt.required, attempt.wait, attempt.unaccounted) == (required, wait, False)

    def test_a_node_that_cannot_be_asked_is_passed_over(self) -> None:
        world = all_up()
        question = world.begin()
        attempts = world.reads.attempts(question, 0.0)
        first, second = next(attempts), next(attempts)
        world.reads.sent(question, 0.0)
        assert first.node != second.node
        assert (question.tried, question.outstanding) == ({first.node, second.node}, 1)


class TestAnswers:
    def test_what_includes_enough_is_the_answer(self) -> None:
        world = all_up()
        question = world.begin()
        attempt = world.ask(question)
        assert attempt is not None
        assert world.reads.answered(question, Answer(has(7), complete=True), attempt) == "complete"
        # What it told is known from now on.
        assert world.view.applied(attempt.node) == has(7)

    def test_no_exact_answer_while_a_member_is_unheard_of(self) -> None:
        world = Questioner((0, has(3)), (1, has(3)))
        question = world.begin()
        attempt = world.ask(question)
        assert attempt is not None
        assert attempt.unaccounted
        assert world.reads.answered(question, Answer(has(3), complete=True), attempt) == "ask"

    @pytest.mark.parametrize(
        ("consistency", "complete", "verdict"),
        [
            ("available", True, "incomplete"),
            ("available", False, "incomplete"),
            ("eventual", False, "complete"),
        ],
    )
    def test_who_asks_for_less_gets_it_at_once(
        self, consistency: Consistency, verdict: str, *, complete: bool
    ) -> None:
        world = Questioner((0, has(3)))
        question = world.begin(consistency)
        attempt = world.ask(question)
        assert attempt is not None
        assert world.reads.answered(question, Answer(has(3), complete=complete), attempt) == verdict

    def test_the_next_one_is_asked_when_none_is_left_to_answer(self) -> None:
        world = all_up()
        question = world.begin()
        first, second = world.ask(question), world.ask(question)
        assert first is not None
        assert second is not None
        assert world.reads.answered(question, Answer(has(2), complete=False), first) == "wait"
        assert world.reads.node_gone(question) == "ask"

    def test_the_best_of_those_that_were_not_enough_is_kept(self) -> None:
        world = all_up()
        question = world.begin()
        for number in (2, 1, 3):
            attempt = world.ask(question)
            assert attempt is not None
            world.reads.answered(question, Answer(has(number), complete=False), attempt)
        assert question.best == Answer(has(3), complete=False)

    def test_one_that_tells_nothing_is_not_kept(self) -> None:
        world = all_up()
        question = world.begin("available")
        for number, tells in ((2, True), (3, False)):
            attempt = world.ask(question)
            assert attempt is not None
            world.reads.answered(question, Answer(has(number), complete=False, tells=tells), attempt)
        assert question.best == Answer(has(2), complete=False)

    def test_a_question_ends_once(self) -> None:
        world = all_up()
        question = world.begin()
        first, second = world.ask(question), world.ask(question)
        assert first is not None
        assert second is not None
        assert world.reads.answered(question, Answer(has(3), complete=True), first) == "complete"
        world.reads.end(question)
        assert world.reads.answered(question, Answer(has(3), complete=True), second) == "wait"
        assert world.reads.open == []


class TestTime:
    def test_another_one_is_asked_as_well_when_the_first_is_slow(self) -> None:
        world = all_up()
        question = world.begin()
        world.ask(question)
        assert [world.reads.late(question, now) for now in (0.1, 0.2)] == ["wait", "ask"]
        world.ask(question, 0.2)
        assert [world.reads.late(question, now) for now in (0.3, 0.4)] == ["wait", "ask"]

    def test_the_same_ones_are_asked_again_when_all_have_failed(self) -> None:
        world = all_up()
        question = world.begin()
        for _ in range(3):
            world.ask(question)
            world.reads.node_gone(question)
        assert world.ask(question) is None
        assert world.reads.late(question, 0.1) == "ask"
        assert world.ask(question) is not None

    def test_nobody_is_asked_again_in_vain_while_a_member_is_unheard_of(self) -> None:
        world = Questioner((0, has(3)))
        question = world.begin()
        attempt = world.ask(question)
        assert attempt is not None
        world.reads.answered(question, Answer(has(3), complete=True), attempt)
        assert world.reads.late(question, 0.5) == "wait"

    def test_it_fails_when_its_time_is_over(self) -> None:
        world = all_up(3, 3, 0)
        question = world.begin(extra=has(9))
        world.ask(question)
        assert [world.reads.late(question, now) for now in (1.99, 2.0)] == ["ask", "expired"]
        assert world.reads.missing(question) == [1]
        assert world.reads.lost_of(question, 2.0) == []
