from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.clock import CLOCK_TOLERANCE, MAX_STAMP, HybridClock


@dataclass
class Wall:
    """
    A wall clock that shows what the test sets.
    """

    time: int = 0

    def __call__(self) -> int:
        return self.time


@dataclass(frozen=True)
class Set:
    time: int


@dataclass(frozen=True)
class Take:
    count: int


@dataclass(frozen=True)
class Observe:
    stamp: int


# Near zero, so that wall times, stamps taken and stamps observed meet each other; and anywhere.
times = st.integers(-5, 30) | st.integers(-(2**63), MAX_STAMP)
stamps = st.integers(0, 30) | st.integers(0, MAX_STAMP)
steps = st.lists(
    st.builds(Set, times) | st.builds(Take, st.integers(1, 5)) | st.builds(Observe, stamps),
    max_size=30,
)


@given(steps)
def test_never_repeats_nor_goes_back_and_is_later_than_all_observed(
    steps: list[Set | Take | Observe],
) -> None:
    wall = Wall()
    clock = HybridClock(wall)
    largest = 0  # ever given out or observed

    for step in steps:
        match step:
            case Set(time):
                wall.time = time
            case Observe(stamp):
                clock.observe(stamp)
                largest = max(largest, stamp)
            case Take(count):
                first = clock.take(count)
                assert first > largest
                assert first >= wall.time
                # As close to the wall clock as that allows, or stamps would run away from it.
                assert first == max(wall.time, largest + 1)
                largest = first + count - 1
        assert clock.last == largest


@pytest.mark.parametrize(
    ("last", "now", "count", "first", "then"),
    [
        (0, 0, 1, 1, 1),
        (0, 1_000, 1, 1_000, 1_000),
        (0, 1_000, 11, 1_000, 1_010),
        (1_000, 1_000, 1, 1_001, 1_001),
        (1_000, 999, 3, 1_001, 1_003),
        (1_000, 1_001, 3, 1_001, 1_003),
        (0, -7, 2, 1, 2),
    ],
)
def test_take(last: int, now: int, count: int, first: int, then: int) -> None:
    clock = HybridClock(lambda: now)
    clock.observe(last)

    assert clock.take(count) == first
    assert clock.last == then


def test_observing_an_older_stamp_changes_nothing() -> None:
    clock = HybridClock(lambda: 0)
    clock.observe(10)
    clock.observe(3)

    assert clock.last == 10
    assert clock.take(1) == 11


def test_what_may_come_from_outside_follows_the_wall_clock_alone() -> None:
    wall = Wall(1_000)
    clock = HybridClock(wall)
    clock.observe(MAX_STAMP)

    assert CLOCK_TOLERANCE == 10 * 10**9
    assert clock.latest_allowed() == 1_000 + CLOCK_TOLERANCE
    wall.time = 5
    assert clock.latest_allowed() == 5 + CLOCK_TOLERANCE
