from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_fields

from dcounter.coordinator.view import View
from dcounter.limits import Limits
from dcounter.protocol.clock import CLOCK_TOLERANCE, HybridClock
from dcounter.protocol.messages import Report
from dcounter.protocol.position import LostRun, NodePosition, Opening, Position

WALL = 1_800_000_000_000_000_000
LIMITS = replace(Limits(), suspicion_s=1.0, heartbeat_s=0.25)


def at(*entries: tuple[int, int, int]) -> Position:
    position = Position()
    for node, run, number in entries:
        position = position.advance(node, run, number)
    return position


def report(
    node: int,
    applied: Position | None = None,
    *,
    durable: Position | None = None,
    run: int = 0,
    stamp: int = 0,
    lost: list[LostRun] | None = None,
    refuses: str | None = None,
) -> Report:
    position = applied or Position()
    return Report(
        node,
        8090 + node,
        1,
        run,
        position,
        position if durable is None else durable,
        stamp,
        0,
        0,
        lost=lost or [],
        refuses=refuses,
    )


class WatchedNodes:
    """
    A coordinator's picture, its clock and the time.
    """

    def __init__(self, nodes: int = 3, *, wall: int = WALL, heard: int = 0) -> None:
        self.wall = wall
        self.clock = HybridClock(lambda: self.wall)
        self.clock.observe(heard)
        self.now = 100.0
        self.view = View(range(nodes), clock=self.clock, limits=LIMITS, now=self.now)

    def up(self, *reports: Report) -> None:
        """
        Nodes connect and report.
        """
        for each in reports:
            self.view.connected(each.node, self.now)
        self.report(*reports)

    def report(self, *reports: Report) -> list[LostRun]:
        found = []
        for each in reports:
            found += self.view.reported(each, self.now)
        return found

    def silent(self) -> list[int]:
        self.view.look(self.now)
        return self.view.silent(self.now)

    def takes_writes(self, later: float = 0.0) -> bool:
        """
        Whether a caller that comes then can store.
        """
        self.view.begin_writes(self.now + later)
        return self.view.takes_writes()

    def primary(self) -> int | None:
        """
        The primary, at a moment when one is needed.
        """
        self.view.elect()
        return self.view.primary()

    def settled(self, *reports: Report) -> list[LostRun]:
        """
        Nodes connect, report, and report again when a suspicion time-out has passed.
        """
        self.up(*reports)
        found = []
        for _ in range(6):
            self.now += 0.25
            found += self.report(*reports)
        return found


COMMANDS = {
    "connected",
    "disconnected",
    "reported",
    "answered",
    "require",
    "look",
    "begin_writes",
    "elect",
}


def queries(world: WatchedNodes) -> Mapping[str, Callable[[], Any]]:
    """
    Every question that a view answers, by the name of its method.
    """
    view, now = world.view, world.now
    position = at((0, 1, 4), (1, 1, 9), (2, 3, 1))
    return {
        "members": view.members,
        "takes_writes": view.takes_writes,
        "unaccounted": view.unaccounted,
        "floor": lambda: view.floor,
        "compacted": lambda: view.compacted,
        "silent": partial(view.silent, now),
        "up": view.up,
        "has_reported": lambda: [view.has_reported(node) for node in range(4)],
        "writers": view.writers,
        "refusals": view.refusals,
        "readers": view.readers,
        "primary": view.primary,
        "candidates": partial(view.candidates, position),
        "report": lambda: [view.report(node) for node in range(4)],
        "state": lambda: [view.state(node) for node in range(4)],
        "applied": lambda: [view.applied(node) for node in range(4)],
        "durable": lambda: [view.durable(node) for node in range(4)],
        "has_durable": lambda: [view.has_durable(node, position) for node in range(4)],
        "everything": view.everything,
        "lag": lambda: [view.lag(node, position) for node in range(4)],
        "report_age": lambda: [view.report_age(node, now) for node in range(4)],
        "missing": partial(view.missing, position),
        "lost_of": lambda: (view.lost_of(position, now), view.lost_of(position, now, since=now)),
        "clock_skew_ms": partial(view.clock_skew_ms, world.wall),
    }


def whole_state(world: WatchedNodes) -> dict[str, object]:
    state = {name: deepcopy(value) for name, value in vars(world.view).items() if name != "_clock"}
    return {**state, "clock": world.clock.last}


nodes = st.integers(0, 2)
positions = st.lists(st.tuples(nodes, st.integers(1, 2), st.integers(1, 9)), max_size=3).map(
    lambda entries: at(*entries)
)
reports = st.builds(
    lambda node, applied, lost, removed, **kw: replace_fields(
        report(node, applied, lost=lost, refuses=kw.pop("refuses"), run=kw.pop("run")),
        removed=[each for each in removed if each != node],
        **kw,
    ),
    nodes,
    positions,
    st.lists(st.just(LostRun(0, 1, 3, 2)), max_size=1),
    st.just([]) | st.just([2]),
    run=st.integers(1, 2),
    refuses=st.none() | st.just("full"),
    loading=st.booleans(),
    in_doubt=st.booleans(),
)
happenings = st.one_of(
    st.tuples(st.just("connected"), nodes),
    st.tuples(st.just("disconnected"), nodes),
    st.tuples(st.just("reported"), reports),
    st.tuples(st.just("answered"), nodes, positions),
    st.tuples(st.just("require"), positions),
    st.tuples(st.just("look")),
    st.tuples(st.just("begin_writes")),
    st.tuples(st.just("elect")),
)
TIMED = {"connected", "reported", "look", "begin_writes"}


class TestQueries:
    def test_each_method_is_a_command_or_a_query(self) -> None:
        methods = {name for name in vars(View) if not name.startswith("_")}
        assert methods == COMMANDS | queries(WatchedNodes()).keys()

    @given(
        st.lists(st.tuples(st.sampled_from([0.0, 0.25, 2.0, 6.0]), happenings), max_size=12),
        st.permutations(sorted(queries(WatchedNodes()))),
    )
    def test_change_nothing_however_often_and_in_whatever_order_they_are_asked(
        self, story: list[tuple[float, tuple[Any, ...]]], order: list[str]
    ) -> None:
        world = WatchedNodes()
        for pause, (command, *what) in story:
            world.now += pause
            when = [world.now] if command in TIMED else []
            getattr(world.view, command)(*what, *when)
        before = whole_state(world)
        ask = queries(world)
        first = {name: deepcopy(ask[name]()) for name in sorted(ask)}
        assert {name: ask[name]() for name in order} == first
        assert whole_state(world) == before


class TestStarting:
    def test_takes_writes_when_all_have_reported(self) -> None:
        world = WatchedNodes()
        world.up(report(0), report(1))
        assert not world.takes_writes()
        assert world.view.unaccounted() == [2]
        world.up(report(2, stamp=WALL + 5))
        assert world.takes_writes()
        # Past the largest stamp that any has heard of, and no further.
        assert world.clock.last == WALL + 5

    def test_one_in_doubt_is_not_known_before_it_is_sure(self) -> None:
        world = WatchedNodes()
        world.up(report(0), report(1), replace_fields(report(2, refuses="the disk failed"), in_doubt=True))
        assert world.view.unaccounted() == [2]
        assert world.view.readers() == [0, 1]
        world.up(report(2, at((2, 5, 3))))
        assert world.view.unaccounted() == []
        assert world.view.required == at((2, 5, 3))
        # What it does not know later, after another start, is required all the same.
        world.up(replace_fields(report(2, refuses="the disk failed"), in_doubt=True))
        assert world.view.unaccounted() == []
        assert world.view.missing(world.view.required) == [2]

    def test_or_when_a_suspicion_time_out_has_passed(self) -> None:
        world = WatchedNodes()
        world.up(report(0, stamp=WALL + 5))
        assert not world.takes_writes(0.9)
        assert world.clock.last == WALL + 5
        assert world.takes_writes(1.0)
        assert world.clock.last == WALL + CLOCK_TOLERANCE
        # Once.
        world.wall += 10**12
        assert world.takes_writes(2.0)
        assert world.clock.last == WALL + CLOCK_TOLERANCE

    def test_asking_whether_it_takes_writes_does_not_make_it(self) -> None:
        world = WatchedNodes()
        world.now += 1.0
        assert not world.view.takes_writes()
        assert world.clock.last == 0

    def test_a_stamp_beyond_the_tolerance_counts_too(self) -> None:
        world = WatchedNodes()
        far = WALL + 3 * CLOCK_TOLERANCE
        world.up(report(0, stamp=far))
        assert world.takes_writes(1.0)
        assert world.clock.last == far

    def test_restarts_do_not_add_up(self) -> None:
        heard = 0
        for _ in range(50):
            world = WatchedNodes()
            world.up(report(0, stamp=heard))
            assert world.takes_writes(1.0)
            # This coordinator wrote one item and was restarted.
            heard = world.clock.take(1)
        assert heard == WALL + CLOCK_TOLERANCE + 50

    def test_who_reports_late_still_moves_the_clock(self) -> None:
        world = WatchedNodes()
        assert world.takes_writes(1.0)
        far = WALL + 2 * CLOCK_TOLERANCE
        world.up(report(2, stamp=far))
        assert world.clock.last == far

    def test_what_members_have_is_required(self) -> None:
        world = WatchedNodes(2)
        world.up(report(0, at((0, 1, 5)), durable=at((0, 1, 7))))
        assert world.view.required == at((0, 1, 7))
        world.up(report(1, at((0, 1, 6), (1, 1, 1))))
        assert world.view.required == at((0, 1, 7), (1, 1, 1))
        # What is stored later is required when its answer comes.
        world.report(report(1, at((1, 1, 9))))
        assert world.view.required.number(1, 1) == 1
        world.view.require(at((1, 1, 2)))
        assert world.view.required == at((0, 1, 7), (1, 1, 2))

    def test_members_that_are_not_accounted_for_are_missing(self) -> None:
        world = WatchedNodes()
        assert world.view.missing(world.view.required) == [0, 1, 2]
        world.up(report(1, at((0, 1, 5))))
        assert world.view.missing(world.view.required) == [0, 2]
        world.up(report(0), report(2))
        assert world.view.missing(world.view.required) == []
        assert world.view.missing(at((0, 1, 6), (2, 2, 1))) == [0, 2]
        # Away is not missing as long as somebody has it all; only the living count.
        world.view.disconnected(0)
        assert world.view.missing(world.view.required) == []
        world.view.disconnected(1)
        assert world.view.missing(world.view.required) == [0]


class TestPrimary:
    def test_none_is_there(self) -> None:
        world = WatchedNodes()
        assert world.primary() is None
        world.view.connected(0, world.now)
        assert world.primary() is None
        assert world.view.up() == []

    def test_node_0_at_first_start_though_another_is_first(self) -> None:
        world = WatchedNodes()
        world.up(report(2))
        assert world.primary() == 2
        world.up(report(1))
        assert world.primary() == 1
        world.up(report(0))
        assert world.primary() == 0
        # And from then on it stays, whatever the others have.
        world.report(report(1, at((1, 1, 50))))
        assert world.primary() == 0

    def test_is_not_chosen_by_being_looked_at(self) -> None:
        world = WatchedNodes()
        world.up(report(0), report(1), report(2))
        assert world.view.primary() == 0
        world.report(report(1, at((1, 1, 50))))
        # Nobody needed one yet.
        assert world.view.primary() == 1
        world.view.elect()
        world.report(report(2, at((1, 1, 60))))
        assert world.view.primary() == 1

    def test_without_node_0_when_it_had_its_time(self) -> None:
        world = WatchedNodes()
        world.up(report(2))
        assert world.primary() == 2
        world.now += 5.0
        world.report(report(2))
        assert world.primary() == 2
        world.up(report(0), report(1))
        assert world.primary() == 2

    def test_who_misses_the_least_follows(self) -> None:
        world = WatchedNodes(4)
        reports = [report(0), report(1, at((0, 1, 3))), report(2, at((0, 1, 4))), report(3, at((0, 1, 4)))]
        world.up(*reports)
        world.view.disconnected(2)
        assert world.primary() == 3
        world.view.connected(2, world.now)
        world.report(reports[2])
        assert world.primary() == 3
        world.view.disconnected(3)
        assert world.primary() == 2

    def test_batches_missing_are_summed_over_all_logs(self) -> None:
        world = WatchedNodes()
        world.up(
            report(0, at((0, 1, 9))),
            report(1, at((0, 1, 8), (1, 1, 9))),
            report(2, at((0, 1, 8), (1, 1, 9), (2, 1, 3))),
        )
        everything = world.view.everything()
        assert everything == at((0, 1, 9), (1, 1, 9), (2, 1, 3))
        assert [world.view.lag(node, everything) for node in range(3)] == [12, 4, 1]
        assert world.primary() == 2

    def test_candidates_begin_with_it(self) -> None:
        world = WatchedNodes(4)
        world.up(report(0), report(1, at((1, 1, 1))), report(2, at((1, 1, 3))), report(3, at((1, 1, 3))))
        assert world.primary() == 2
        assert world.view.candidates(at((1, 1, 3))) == [2, 3, 1, 0]
        # Those that miss nothing of what is required are equal.
        assert world.view.candidates(at((1, 1, 1))) == [2, 1, 3, 0]
        assert world.view.candidates(Position()) == [2, 0, 1, 3]
        world.view.disconnected(2)
        assert world.view.candidates(at((1, 1, 3))) == [3, 1, 0]


class TestWhoIsThere:
    def test_states(self) -> None:
        world = WatchedNodes(1)
        assert world.view.state(0) == "new"
        world.view.connected(0, world.now)
        assert world.view.state(0) == "new"
        world.report(report(0))
        assert world.view.state(0) == "up"
        world.view.disconnected(0)
        assert world.view.state(0) == "down"
        assert world.view.report(0) == report(0)

    def test_writers_are_up_and_willing(self) -> None:
        world = WatchedNodes(4)
        world.up(report(0), report(1, refuses="full"), report(2))
        world.view.connected(3, world.now)
        world.view.disconnected(2)
        assert world.view.writers() == [0]
        assert world.view.up() == [0, 1]

    def test_the_silent(self) -> None:
        world = WatchedNodes()
        world.up(report(0), report(1), report(2))
        world.view.disconnected(2)
        for _ in range(4):
            world.now += 0.25
            assert world.silent() == []
            world.report(report(0))
        world.now += 0.1
        assert world.silent() == [1]

    def test_who_slept_suspects_nobody(self) -> None:
        world = WatchedNodes()
        world.up(report(0), report(1), report(2))
        assert world.silent() == []
        world.now += 60
        assert world.silent() == []
        world.now += 0.25
        world.report(report(0), report(1))
        for _ in range(3):
            world.now += 0.25
            assert world.silent() == []
        world.now += 0.1
        world.report(report(0))
        assert world.silent() == [2]

    def test_what_is_known_of_a_node(self) -> None:
        world = WatchedNodes(2)
        assert world.view.applied(0) == world.view.durable(0) == Position()
        assert world.view.report(0) is None
        world.view.connected(0, world.now)
        world.view.answered(0, at((0, 1, 1)))
        assert world.view.applied(0) == at((0, 1, 1))
        world.report(report(0, at((0, 1, 3)), durable=at((0, 1, 2))))
        assert world.view.applied(0) == at((0, 1, 3))
        assert world.view.durable(0) == at((0, 1, 2))
        world.view.answered(0, at((0, 1, 5)))
        world.view.answered(0, at((0, 1, 4)))
        assert world.view.applied(0) == at((0, 1, 5))
        # What it was told before it was connected again may be gone.
        world.view.disconnected(0)
        world.view.connected(0, world.now)
        assert world.view.applied(0) == at((0, 1, 3))

    @pytest.mark.parametrize(("ahead", "shown"), [(-5, 0), (0, 0), (999_999, 0), (7_000_000, 7)])
    def test_skew(self, ahead: int, shown: int) -> None:
        world = WatchedNodes(heard=WALL + ahead)
        assert world.view.clock_skew_ms(WALL) == shown


class TestLost:
    def _before(self) -> WatchedNodes:
        """
        Node 0 has acknowledged 5 batches, the others have 3 of them, and it dies.
        """
        world = WatchedNodes()
        world.up(report(0, at((0, 1, 5)), run=1), report(1, at((0, 1, 3))), report(2, at((0, 1, 3))))
        world.view.disconnected(0)
        assert world.view.required == at((0, 1, 5))
        assert world.view.missing(world.view.required) == [0]
        return world

    def test_is_what_its_node_came_back_without(self) -> None:
        world = self._before()
        others = [report(1, at((0, 1, 3))), report(2, at((0, 1, 3)))]
        found = world.settled(report(0, at((0, 1, 3))), *others)
        assert found == [LostRun(0, 1, 3, 2)]
        assert world.view.lost == {LostRun(0, 1, 3, 2)}
        assert world.view.required == at((0, 1, 3))
        assert world.view.missing(world.view.required) == []

    def test_nothing_of_a_run_may_be_left(self) -> None:
        world = WatchedNodes()
        world.up(report(0, at((0, 1, 5)), run=1), report(1), report(2))
        world.view.disconnected(0)
        assert world.settled(report(0), report(1), report(2)) == [LostRun(0, 1, 0, 2)]
        assert world.view.required == Position()

    def test_is_not_known_before_all_have_reported_for_a_while(self) -> None:
        world = self._before()
        others = [report(1, at((0, 1, 3))), report(2, at((0, 1, 3)))]
        world.up(report(0))
        world.now += 0.9
        assert world.report(report(0), *others) == []
        world.now += 0.25
        assert world.report(report(0)) == [LostRun(0, 1, 3, 2)]

    def test_is_not_known_while_a_member_is_away(self) -> None:
        world = self._before()
        world.view.disconnected(2)
        assert world.settled(report(0), report(1, at((0, 1, 3)))) == []
        assert world.view.required == at((0, 1, 5))

    def test_is_not_known_from_what_was_said_before_the_connection_was_lost(self) -> None:
        # Node 0 is connected again, and this process slept: nobody knows yet what node 0 has.
        world = WatchedNodes(1)
        world.up(report(0, at((0, 1, 5)), run=1))
        world.view.require(at((0, 1, 6)))
        world.view.disconnected(0)
        world.report(report(0, at((0, 1, 5)), run=2))
        world.view.connected(0, world.now)
        world.silent()
        world.now += 60
        world.silent()
        assert world.view.lost_of(at((0, 1, 6)), world.now) == []

    def test_is_not_what_the_open_run_may_still_bring(self) -> None:
        world = self._before()
        others = [report(1, at((0, 1, 3))), report(2, at((0, 1, 3)))]
        assert world.settled(report(0, at((0, 1, 3)), run=1), *others) == []

    def test_is_not_what_a_node_that_refuses_may_still_find(self) -> None:
        world = self._before()
        others = [report(1, at((0, 1, 3))), report(2, at((0, 1, 3)))]
        assert world.settled(report(0, refuses="starting"), *others) == []

    def test_is_not_what_somebody_has(self) -> None:
        world = self._before()
        assert world.settled(report(0), report(1, at((0, 1, 5))), report(2)) == []
        assert world.view.required == at((0, 1, 5))

    def test_is_not_what_somebody_answered_to_have(self) -> None:
        world = self._before()
        world.up(report(0), report(1), report(2))
        world.view.answered(1, at((0, 1, 5)))
        world.now += 1.1
        assert world.report(report(0), report(1), report(2)) == []

    def test_is_what_the_nodes_name(self) -> None:
        # They have folded it: only the name tells.
        world = WatchedNodes(2)
        world.up(report(0, at((0, 1, 3))), report(1, at((1, 1, 1)), run=1))
        world.view.require(at((0, 1, 5), (0, 2, 1), (0, 4, 1), (1, 1, 1)))
        folded = Position({0: NodePosition(4, {4: 1})})
        named = [LostRun(0, 1, 3, 4)]
        reports = [report(0, folded, run=4, lost=named), report(1, folded.join(at((1, 1, 1))), run=1)]
        world.settled(*reports)
        assert world.view.lost == {LostRun(0, 1, 3, 2), LostRun(0, 2, 0, 3)}
        assert world.view.required == at((0, 1, 3), (0, 4, 1), (1, 1, 1))
        assert world.view.missing(world.view.required) == []

    def test_is_not_what_a_member_may_have_that_has_not_heard_of_a_removal(self) -> None:
        world = WatchedNodes(3)
        world.settled(report(0), report(1, run=1), report(2))
        # Node 0 was told; node 1 took in a batch since it reported.
        told = replace_fields(report(0), removed=[2])
        world.view.answered(1, at((1, 1, 1)))
        world.view.require(at((2, 1, 4), (1, 1, 1)))
        assert world.report(told) == []
        assert world.view.required.number(2, 1) == 4
        told_too = replace_fields(report(1, at((1, 1, 1), (2, 1, 3)), run=1), removed=[2])
        assert world.report(told_too) == [LostRun(2, 1, 3, 2)]

    def test_of_a_token_and_of_a_node_that_is_no_member(self) -> None:
        world = WatchedNodes(1)
        world.settled(report(0, at((0, 2, 1)), run=2))
        assert world.view.lost_of(at((0, 1, 4), (0, 2, 9), (7, 1, 1)), world.now) == [LostRun(0, 1, 0, 2)]
        # Asking does not change what is required.
        assert world.view.required == at((0, 2, 1))
        assert world.view.lost == set()

    def test_is_what_was_folded_away_before_it_was_named(self) -> None:
        # The answer to a count brought the fold; the report that names the loss comes after it.
        world = self._before()
        world.view.require(Position({0: NodePosition(4, {4: 1})}))
        assert world.view.required == Position({0: NodePosition(4, {4: 1})})
        folded = Position({0: NodePosition(4, {4: 1})})
        found = world.report(report(1, folded, lost=[LostRun(0, 1, 3, 4)]))
        assert found == [LostRun(0, 1, 3, 2)]
        assert world.view.lost == {LostRun(0, 1, 3, 2)}
        # Once.
        assert world.report(report(1, folded, lost=[LostRun(0, 1, 3, 4)])) == []

    def test_is_not_what_was_folded_away_complete(self) -> None:
        world = self._before()
        folded = Position({0: NodePosition(4, {4: 1})})
        world.view.require(folded)
        assert world.report(report(1)) == []
        assert world.report(report(1, folded)) == []
        # What is named later is about something else.
        assert world.report(report(1, folded, lost=[LostRun(0, 1, 3, 4)])) == []
        assert world.view.lost == set()

    def test_is_what_only_nodes_knew_that_are_empty_now(self) -> None:
        world = WatchedNodes(2)
        folded = Position({0: NodePosition(4, {4: 2})})
        world.up(report(0, folded, run=4), report(1, folded))
        for node in range(2):
            world.view.disconnected(node)
        assert set(world.settled(report(0), report(1))) == {LostRun(0, 0, 0, 4), LostRun(0, 4, 0, 5)}
        assert world.view.required == Position()
        assert world.view.missing(world.view.required) == []

    @pytest.mark.parametrize(
        ("opening", "lost"),
        [
            (Opening(4, 1, 3), False),
            (Opening(4, 1, 4), True),
            # What was lost before the fold was told by those who folded.
            (Opening(4, 1, 3, wiped=True), False),
            (None, True),
        ],
    )
    def test_is_not_what_nodes_have_whose_fold_was_removed(self, opening: Opening | None, lost: bool) -> None:
        world = WatchedNodes(2)
        folded = Position({0: NodePosition(4, {4: 2})})
        world.up(report(0, folded, run=4), report(1, folded))
        for node in range(2):
            world.view.disconnected(node)
        # Their disks hold what they held, but not that it was folded.
        have = at((0, 1, 3), (0, 4, 2))
        openings = {} if opening is None else {0: [Opening(1, 0, 0), opening]}
        again = [replace_fields(report(n, have, run=5), openings=openings) for n in range(2)]
        found = world.settled(*again)
        assert bool(found) is lost

    def test_is_named_all_the_same_what_an_empty_node_lost_before_a_fold_that_was_removed(self) -> None:
        world = WatchedNodes(2)
        world.up(report(0, at((0, 1, 5)), run=1), report(1, at((0, 1, 3))))
        # Another coordinator was told of the fold, this one of its loss by nobody yet.
        world.view.require(Position({0: NodePosition(4, {4: 2})}))
        openings = {0: [Opening(1, 0, 0), Opening(4, 1, 3, wiped=True)]}
        have = at((0, 1, 3), (0, 4, 2))
        again = [replace_fields(report(n, have, run=4), openings=openings) for n in range(2)]
        assert world.settled(*again) == []
        assert world.view.lost_of(at((0, 1, 5)), world.now) == [LostRun(0, 1, 3, 2)]
        # They fold again.
        folded = Position({0: NodePosition(4, {4: 2})})
        told = report(1, folded, run=4, lost=[LostRun(0, 1, 3, 4)])
        assert world.report(told) == [LostRun(0, 1, 3, 2)]

    def test_a_token_newer_than_the_reports_names_nothing_lost(self) -> None:
        world = WatchedNodes(1)
        world.settled(report(0, at((0, 2, 1)), run=2))
        token = Position({0: NodePosition(3, {3: 7})})
        assert world.view.lost_of(token, world.now, since=world.now) == []
        world.now += 0.25
        # The node has said since that it has another run open.
        world.report(report(0, at((0, 2, 1)), run=2))
        assert world.view.lost_of(at((0, 3, 7)), world.now, since=world.now - 0.1) == [LostRun(0, 3, 0, 4)]
        # A run below the open one is closed, whenever that was said.
        assert world.view.lost_of(at((0, 1, 7)), world.now, since=world.now) == [LostRun(0, 1, 0, 2)]

    def test_is_not_durable_anywhere(self) -> None:
        world = WatchedNodes(1)
        folded = Position({0: NodePosition(4, {4: 1})})
        world.up(report(0, folded, run=4, lost=[LostRun(0, 1, 3, 4)]))
        assert world.view.has_durable(0, at((0, 1, 3)))
        assert not world.view.has_durable(0, at((0, 1, 4)))
        assert not world.view.has_durable(0, at((0, 4, 2)))
