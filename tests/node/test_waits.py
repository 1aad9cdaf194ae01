from dcounter.node.waits import Question, Waiting, Waits
from dcounter.protocol import messages
from dcounter.protocol.position import Position

COUNT = messages.Count(1, ["t"], Position(), 100)
AWAIT = messages.Await(2, Position(), 100)


def test_each_question_is_looked_at_once_and_taken_once() -> None:
    waits = Waits(9)
    waits.add(1, COUNT, 5.0)
    waits.add(2, AWAIT, 5.0)
    waits.add(3, COUNT, 6.0)
    asked: list[Question] = []

    def can_answer(question: Question) -> bool:
        asked.append(question)
        return question is COUNT

    assert waits.take_ready(can_answer) == [Waiting(1, COUNT, 5.0), Waiting(3, COUNT, 6.0)]
    assert asked == [COUNT, AWAIT, COUNT]
    assert waits.take_ready(can_answer) == []
    assert waits.take_expired(9.0) == [Waiting(2, AWAIT, 5.0)]
    assert waits.take_expired(9.0) == []


def test_one_waits_until_its_time_and_not_longer() -> None:
    waits = Waits(9)
    waits.add(1, COUNT, 5.0)

    assert waits.take_expired(4.999) == []
    assert [each.channel for each in waits.take_expired(5.0)] == [1]


def test_whoever_has_left_waits_for_nothing() -> None:
    waits = Waits(9)
    waits.add(1, AWAIT, 5.0)
    waits.add(2, COUNT, 5.0)
    waits.drop(1)

    assert not waits.for_durability
    assert [each.channel for each in waits.take_ready(lambda _: True)] == [2]


def test_only_an_await_waits_for_the_disk() -> None:
    waits = Waits(9)
    waits.add(1, COUNT, 5.0)
    assert not waits.for_durability
    waits.add(1, AWAIT, 5.0)
    assert waits.for_durability


def test_no_more_wait_than_may() -> None:
    waits = Waits(2)
    waits.add(1, COUNT, 5.0)
    assert not waits.full
    waits.add(1, COUNT, 5.0)
    assert waits.full
