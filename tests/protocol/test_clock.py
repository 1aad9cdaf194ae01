from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.protocol.clock import CLOCK_PATIENCE, CLOCK_TOLERANCE, MAX_STAMP, HybridClock, SteadyWall


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


class Clocks:
    """
    A steady clock, and a wall clock that is off by what the test sets.
    """

    def __init__(self) -> None:
        self.now = 0
        self.off = 0
        self.wall = SteadyWall(lambda: 10**18 + self.now + self.off, lambda: self.now)

    def off_by(self) -> int:
        """
        How far what is believed is off.
        """
        return self.wall() - 10**18 - self.now

    def run(self, ns: int) -> None:
        until = self.now + ns
        while self.now < until:
            self.now = min(until, self.now + CLOCK_PATIENCE // 10)
            self.wall()


@pytest.mark.parametrize("step", [CLOCK_TOLERANCE, -CLOCK_TOLERANCE, 5, 0])
def test_a_small_step_of_the_wall_clock_is_believed_at_once(step: int) -> None:
    clocks = Clocks()
    clocks.off = step
    assert clocks.off_by() == step
    assert clocks.wall.disputed() == 0


@pytest.mark.parametrize("jump", [CLOCK_TOLERANCE + 1, -CLOCK_TOLERANCE - 1, 10**17, -(10**18)])
def test_a_jump_is_believed_when_it_has_lasted(jump: int) -> None:
    clocks = Clocks()
    clocks.off = jump
    assert (clocks.off_by(), clocks.wall.disputed()) == (0, jump)
    clocks.run(CLOCK_PATIENCE - 1)
    assert (clocks.off_by(), clocks.wall.disputed()) == (0, jump)
    clocks.run(1)
    assert (clocks.off_by(), clocks.wall.disputed()) == (jump, 0)
    # And so is the way back.
    clocks.off = 0
    assert clocks.off_by() == jump
    clocks.run(CLOCK_PATIENCE)
    assert clocks.off_by() == 0


def test_a_jump_that_is_seen_twice_has_not_lasted() -> None:
    clocks = Clocks()
    clocks.off = 10**17
    clocks.wall()
    # What was in between, nobody saw.
    clocks.now += 2 * CLOCK_PATIENCE
    assert clocks.off_by() == 0
    clocks.off = 0
    assert clocks.wall.disputed() == 0


def test_small_steps_do_not_add_up_to_a_large_one_too_soon() -> None:
    clocks = Clocks()
    for _ in range(10):
        clocks.off += CLOCK_TOLERANCE
        clocks.wall()
    assert clocks.off_by() == CLOCK_TOLERANCE


_offs = st.sampled_from([0, 1, -1]).map(lambda way: way * 10**15) | st.integers(-(10**10), 10**10)


@given(st.lists(st.tuples(_offs, st.integers(0, CLOCK_PATIENCE // 5)), max_size=30))
def test_what_is_believed_was_said_lately_or_is_what_was_believed(steps: list[tuple[int, int]]) -> None:
    clocks = Clocks()
    believed = 0
    for off, ns in steps:
        clocks.off = off
        clocks.now += ns
        now = clocks.off_by()
        assert now in {off, believed}
        assert (clocks.wall.disputed() == 0) == (now == off)
        believed = now
