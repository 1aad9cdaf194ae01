"""
So many events in a while, and the rest is counted.
"""

from twisted.internet.task import Clock

from dcounter.links.throttle import Throttle


def test_passes_so_many_and_counts_the_rest_until_the_interval_is_over() -> None:
    clock = Clock()
    throttle = Throttle(3, 10.0, clock.seconds)
    assert [throttle.passes() for _ in range(5)] == [True] * 3 + [False] * 2
    clock.advance(9.9)
    assert not throttle.passes()
    assert throttle.held_back() == 0
    clock.advance(0.1)
    assert throttle.held_back() == 3
    assert throttle.held_back() == 0
    assert throttle.passes()


def test_what_was_not_asked_for_is_not_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(1, 10.0, clock.seconds)
    assert [throttle.passes() for _ in range(2)] == [True, False]
    clock.advance(10)
    assert [throttle.passes() for _ in range(2)] == [True, False]
    clock.advance(10)
    assert throttle.held_back() == 2


def test_the_rest_can_be_told_at_once() -> None:
    throttle = Throttle(1, 10.0, Clock().seconds)
    assert [throttle.passes() for _ in range(2)] == [True, False]
    assert throttle.held_back() == 0
    assert throttle.held_back(at_once=True) == 1
    assert not throttle.passes()
