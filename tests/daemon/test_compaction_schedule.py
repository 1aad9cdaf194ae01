from collections.abc import Callable, Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from dcounter.coordinator.compacting import Tombstones
from dcounter.daemon.compaction_schedule import LEAST, LOOK_S, CompactionSchedule
from dcounter.errors import NotApplied

SECOND = 10**9
DAY = 86_400
START = 1_700_000_000


class World:
    """
    Nodes of which half of the IDs are deleted ones, and the schedule.
    """

    def __init__(self, share: float = 0.2) -> None:
        self.clock = Clock()
        self.found = Tombstones(LEAST, 0.5, 0)
        self.late_at: int | None = None
        self.asked: list[int | None] = []
        self.error: Exception | None = None
        self.lasts: Deferred[None] | None = None
        self.schedule = CompactionSchedule(self, share=share, age_s=DAY, wall=self.wall, time=self.clock)
        self.schedule.startService()

    def wall(self) -> int:
        return (START + round(self.clock.seconds())) * SECOND

    def tombstones(self) -> Tombstones:
        return self.found

    async def compact(self, before: int | None) -> int:
        self.asked.append(before)
        if self.error is not None:
            raise self.error
        if self.lasts is not None:
            await self.lasts
        assert before is not None
        self.found = Tombstones(self.found.number, self.found.share, before)
        return before

    def look(self, times: int = 1) -> list[str]:
        with capturedLogs() as logs:
            self.clock.pump([LOOK_S] * times)
        return [log["log_format"].format(**log) for log in logs]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.schedule.stopService()
    assert world.clock.getDelayedCalls() == []


def test_too_many_old_deletions_are_forgotten(world: World) -> None:
    assert world.look() == [
        "50% of the IDs are deleted ones: deletions up to 2023-11-13T22:13:30.000000000Z are forgotten"
    ]
    assert world.asked == [world.wall() - DAY * SECOND]


def test_once_in_an_eighth_of_their_least_age(world: World) -> None:
    world.look()
    steps = round(DAY / 8 / LOOK_S)
    assert world.look(steps - 1) == []
    assert len(world.asked) == 1
    world.look()
    assert len(world.asked) == 2


@pytest.mark.parametrize(
    "found", [Tombstones(LEAST - 1, 0.9, 0), Tombstones(10 * LEAST, 0.2, 0), Tombstones(0, 0.0, 0)]
)
def test_few_are_left_alone(world: World, found: Tombstones) -> None:
    world.found = found
    assert world.look(10) == []
    assert world.asked == []


def test_a_compaction_by_an_operator_counts_as_well(world: World) -> None:
    world.found = Tombstones(LEAST, 0.5, world.wall() - DAY * SECOND)
    world.look(10)
    assert world.asked == []


def test_it_waits_while_updates_come_that_would_be_refused(world: World) -> None:
    world.late_at = world.wall()
    [line] = world.look(10)
    assert line == "old deletions are not forgotten now: updates have come that nodes would refuse after it"
    assert world.asked == []
    # And for as long after the last one as deletions are kept.
    world.clock.advance(DAY - world.clock.seconds() - 1)
    assert world.asked == []
    world.look()
    assert len(world.asked) == 1


def test_a_refusal_is_logged_once_in_an_hour_and_it_tries_again_each_minute(world: World) -> None:
    world.error = NotApplied("node 2 is not up", retry_after=1)
    assert world.look(round(3_600 / LOOK_S)) == ["old deletions are not forgotten now: node 2 is not up"]
    assert len(world.asked) == 60
    world.error = None
    world.look(6)
    assert world.found.compacted


def test_a_second_one_does_not_begin_beside_the_first(world: World) -> None:
    world.lasts = Deferred()
    world.look(100)
    assert len(world.asked) == 1
    world.lasts.callback(None)


def test_a_bug_does_not_end_it(world: World, expected_failures: Callable[..., list[Failure]]) -> None:
    world.error = ValueError("a bug")
    world.clock.advance(LOOK_S)
    assert [failure.type for failure in expected_failures(ValueError)] == [ValueError]
    world.error = None
    world.clock.pump([LOOK_S] * 7)
    assert len(world.asked) == 2


def test_never() -> None:
    world = World(share=0)
    assert world.clock.getDelayedCalls() == []
    world.schedule.stopService()
