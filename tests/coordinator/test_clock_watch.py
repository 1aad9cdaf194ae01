import pytest

from dcounter.coordinator.clock_watch import ClockNews, ClockWatch, span
from dcounter.protocol.clock import CLOCK_TOLERANCE, HybridClock, SteadyWall

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
WALL = 1_800_000_000 * SECOND


class WatchedClocks:
    """
    A coordinator's clocks; the steady one never jumps.
    """

    def __init__(self) -> None:
        self.now = WALL
        self.skew = 0
        wall = SteadyWall(lambda: self.now + self.skew, lambda: self.now, 30 * SECOND)
        self.clock = HybridClock(wall)
        self.watch = ClockWatch(self.clock, wall)
        self.wall = wall

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += SECOND
            self.wall()


@pytest.fixture
def world() -> WatchedClocks:
    return WatchedClocks()


class TestWarnings:
    def test_are_none_when_all_is_well(self, world: WatchedClocks) -> None:
        world.clock.take(1)
        assert world.watch.warnings() == {}
        assert world.watch.warning_for_own_stamps() is None

    @pytest.mark.parametrize(("skew", "way"), [(DAY, "ahead"), (-DAY, "back")])
    def test_name_a_jump_until_it_is_believed(self, world: WatchedClocks, skew: int, way: str) -> None:
        world.skew = skew
        world.wall()
        assert world.watch.warnings() == {
            "jump": f"the wall clock of this machine jumped 24 hours {way}; a jump is believed when it has "
            "lasted 30 s"
        }
        world.run(31)
        assert world.watch.warnings() == {}

    @pytest.mark.parametrize(
        ("ahead", "named"),
        [
            (0, False),
            # So far may a coordinator be that started without a member.
            (CLOCK_TOLERANCE + SECOND, False),
            (CLOCK_TOLERANCE + SECOND + 1, True),
        ],
    )
    def test_name_stamps_that_no_right_clock_explains(
        self, world: WatchedClocks, ahead: int, *, named: bool
    ) -> None:
        world.clock.observe(WALL + ahead)
        assert bool(world.watch.warnings()) == named
        assert bool(world.watch.warning_for_own_stamps()) == named

    def test_say_how_far_ahead_stamps_are(self, world: WatchedClocks) -> None:
        world.clock.observe(WALL + 3 * DAY)
        start = "the newest stamp is 3 days ahead of this machine's clock: "
        assert world.watch.warnings()["stamps"].startswith(start)
        warning = world.watch.warning_for_own_stamps()
        assert warning is not None
        assert warning.startswith(start)

    def test_are_both_there_if_both_are_so(self, world: WatchedClocks) -> None:
        world.clock.observe(WALL + DAY)
        world.skew = -DAY
        world.wall()
        assert list(world.watch.warnings()) == ["jump", "stamps"]


class TestNews:
    def test_is_told_once_and_so_is_that_it_is_over(self, world: WatchedClocks) -> None:
        assert world.watch.news() == ClockNews([], over=False)
        world.clock.observe(WALL + DAY)
        news = world.watch.news()
        assert (len(news.begun), news.over) == (1, False)
        # The text changes with the time, what is wrong does not.
        world.run(3600)
        assert world.watch.news() == ClockNews([], over=False)
        world.run(86_400 - 3600)
        assert world.watch.news() == ClockNews([], over=True)
        assert world.watch.news() == ClockNews([], over=False)

    def test_is_what_comes_besides_what_was_told(self, world: WatchedClocks) -> None:
        world.clock.observe(WALL + 400 * DAY)
        world.watch.news()
        world.skew = DAY
        world.wall()
        [text] = world.watch.news().begun
        assert text.startswith("the wall clock of this machine jumped")
        world.run(31)
        # One of two is over: not yet all.
        assert world.watch.news() == ClockNews([], over=False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1.4, "1 s"),
        (119, "119 s"),
        (120, "2 minutes"),
        (7_199, "120 minutes"),
        (7_200, "2 hours"),
        (2 * 86_400 - 1, "48 hours"),
        (2 * 86_400, "2 days"),
        (365 * 86_400, "365 days"),
    ],
)
def test_span_is_in_the_largest_unit_that_is_not_too_coarse(seconds: float, text: str) -> None:
    assert span(int(seconds * SECOND)) == text
