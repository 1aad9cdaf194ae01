from collections.abc import Collection

import pytest

from dcounter.node.backlog import Backlog
from dcounter.node.effects import Effect, Outbox, Send, StreamReady
from dcounter.node.following import Following, RelayFacts
from dcounter.protocol import codec, messages
from dcounter.protocol.position import NodePosition, Position

NOWHERE = Position()


def has(*runs: tuple[int, int, int]) -> Position:
    position = Position()
    for node, run, number in runs:
        position = position.advance(node, run, number)
    return position


def report(node: int, applied: Position, *, run: int = 0) -> messages.Report:
    return messages.Report(node, 8090, 0, run, applied, applied, 0, 0, 0)


class FollowedNode:
    """
    Node 0, which has called nodes 1 and 2 on channels 1 and 2; a coordinator is on channel 9.
    """

    def __init__(self) -> None:
        self.out = Outbox()
        self.backlog = Backlog(10_000)
        self.all = Following(0, self.out, self.backlog, 100)
        self.applied = NOWHERE
        self.reports: dict[int, messages.Report] = {}
        for channel, node in [(1, 1), (2, 2), (9, None)]:
            self.all.connected(channel, node, calls=node is not None)

    def hears(self, node: int, applied: Position, *, run: int = 0) -> list[Effect]:
        self.reports[node] = report(node, applied, run=run)
        self.all.reported(node, node, self.applied)
        return self.out.take()

    def chooses(self, nodes: Collection[int] = (0, 1, 2), *, run: int = 0) -> list[Effect]:
        self.all.choose(RelayFacts(run, self.applied, nodes, self.reports))
        return self.out.take()


def follow(channel: int, node: int, position: NodePosition = NodePosition()) -> Send:  # noqa: B008 - frozen
    return Send(channel, codec.encode(messages.Follow(node, position)))


def unfollow(channel: int, node: int) -> Send:
    return Send(channel, codec.encode(messages.Unfollow(node)))


class TestGetting:
    def test_each_peer_that_was_called_is_followed_once(self) -> None:
        world = FollowedNode()
        assert world.all.sources(world.reports) == {}
        assert world.hears(1, NOWHERE) == [follow(1, 1)]
        assert world.hears(1, NOWHERE) == []
        assert world.all.sources(world.reports) == {1: 1}

    def test_a_caller_is_not_followed(self) -> None:
        world = FollowedNode()
        world.all.connected(3, 2, calls=False)
        world.reports[2] = report(2, NOWHERE)
        world.all.reported(3, 2, NOWHERE)
        assert world.out.take() == []

    def test_a_hole_is_asked_for_once(self) -> None:
        world = FollowedNode()
        applied = has((1, 5, 3))
        for _ in range(3):
            world.all.hole(1, 1, 5, 3, applied)
        assert world.out.take() == [follow(1, 1, applied.of(1))]
        world.all.hole(1, 1, 5, 4, has((1, 5, 4)))
        assert world.out.take() == [follow(1, 1, has((1, 5, 4)).of(1))]

    def test_the_log_of_one_that_is_away_comes_from_who_has_most_of_it(self) -> None:
        world = FollowedNode()
        world.hears(1, has((3, 7, 2)))
        assert world.chooses((0, 1, 2, 3)) == [follow(1, 3)]
        assert world.chooses((0, 1, 2, 3)) == []
        world.hears(2, has((3, 7, 9)))
        world.applied = has((3, 7, 2))
        assert world.chooses((0, 1, 2, 3)) == [unfollow(1, 3), follow(2, 3, world.applied.of(3))]

    def test_a_relay_is_kept_while_it_has_what_is_missing(self) -> None:
        world = FollowedNode()
        world.hears(1, has((3, 7, 2)))
        assert world.chooses((3,)) == [follow(1, 3)]
        # Both follow node 3, and report in turn.
        for number in range(3, 9):
            world.hears(1 + number % 2, has((3, 7, number)))
            assert world.chooses((3,)) == []

    def test_the_best_of_several_is_chosen_first(self) -> None:
        world = FollowedNode()
        world.hears(1, has((3, 7, 2)))
        world.hears(2, has((3, 7, 9)))
        assert world.chooses((3,)) == [follow(2, 3)]

    def test_of_two_runs_one_may_come_from_each_relay_after_the_other(self) -> None:
        world = FollowedNode()
        world.hears(1, has((3, 7, 2)))
        world.hears(2, has((3, 8, 1)))
        assert world.chooses((3,)) == [follow(1, 3)]
        world.applied = has((3, 7, 2))
        assert world.chooses((3,)) == [unfollow(1, 3), follow(2, 3, world.applied.of(3))]

    def test_another_relay_is_chosen_when_the_first_one_is_gone(self) -> None:
        world = FollowedNode()
        world.hears(1, has((3, 7, 2)))
        world.hears(2, has((3, 7, 2)))
        [chosen] = world.chooses((3,))
        assert chosen == follow(1, 3)
        world.all.disconnected(1)
        assert world.chooses((3,)) == [follow(2, 3)]

    def test_no_relay_while_its_own_node_sends_it(self) -> None:
        world = FollowedNode()
        world.hears(1, has((1, 7, 2)), run=7)
        world.hears(2, has((1, 7, 2)))
        assert world.chooses((1,)) == []
        # An earlier run of which that node itself has no more.
        world.hears(2, has((1, 5, 4), (1, 7, 2)))
        assert world.chooses((1,)) == [follow(2, 1)]
        world.applied = has((1, 5, 4))
        assert world.chooses((1,)) == [unfollow(2, 1)]

    def test_nobody_has_more_of_the_run_that_is_open_here(self) -> None:
        world = FollowedNode()
        world.hears(1, has((0, 7, 2)))
        assert world.chooses((0,), run=7) == []
        assert world.chooses((0,), run=8) == [follow(1, 0)]

    def test_after_a_copy_all_are_followed_anew_and_relays_forgotten(self) -> None:
        world = FollowedNode()
        world.hears(1, has((3, 7, 2)))
        world.chooses((3,))
        world.applied = has((1, 5, 3))
        world.all.anew(RelayFacts(0, world.applied, (3,), world.reports))
        # The relay would go on sending otherwise, beside the one that is chosen next.
        assert world.out.take() == [unfollow(1, 3), follow(1, 1, world.applied.of(1))]
        assert world.chooses((3,)) == [follow(1, 3)]

    def test_a_removed_member_is_relayed_from_the_beginning(self) -> None:
        world = FollowedNode()
        world.hears(1, has((3, 7, 2)))
        world.chooses((3,))
        world.all.without(3)
        assert world.out.take() == [unfollow(1, 3)]
        world.all.without(3)
        assert world.chooses((3,)) == [follow(1, 3)]


class TestHandingOn:
    def _log(self, world: FollowedNode, *numbers: int) -> None:
        for number in numbers:
            world.backlog.append(0, 5, number, b"line %d" % number)
            world.applied = world.applied.advance(0, 5, number)

    def test_lines_are_given_once_and_in_order(self) -> None:
        world = FollowedNode()
        self._log(world, 1, 2)
        assert world.all.next_lines(1, world.applied) == []
        world.all.start(1, messages.Follow(0, NodePosition()), world.applied)
        assert world.out.take() == [StreamReady(1)]
        assert world.all.next_lines(1, world.applied) == [b"line 1", b"line 2"]
        assert world.all.next_lines(1, world.applied) == []
        self._log(world, 3)
        world.all.offer()
        assert world.out.take() == [StreamReady(1)]
        assert world.all.next_lines(1, world.applied) == [b"line 3"]

    def test_only_what_is_announced_is_given(self) -> None:
        world = FollowedNode()
        world.all.start(1, messages.Follow(0, NodePosition()), NOWHERE)
        self._log(world, 1)
        assert world.all.next_lines(1, NOWHERE) == []

    def test_a_follower_goes_on_where_it_is(self) -> None:
        world = FollowedNode()
        self._log(world, 1, 2)
        world.all.start(1, messages.Follow(0, NodePosition(0, {5: 1})), world.applied)
        assert world.all.next_lines(1, world.applied) == [b"line 2"]
        world.all.stop(1, 0)
        self._log(world, 3)
        assert world.all.next_lines(1, world.applied) == []

    @pytest.mark.parametrize("cut", [True, False])
    def test_what_is_no_longer_there_is_a_gap(self, *, cut: bool) -> None:
        world = FollowedNode()
        self._log(world, 1, 2)
        if cut:
            world.backlog.cut(0, 5, 1)
            world.all.start(1, messages.Follow(0, NodePosition()), world.applied)
            world.out.take()
            assert world.all.next_lines(1, world.applied) == [codec.encode(messages.Gap(0))]
        else:
            folded = world.applied.fold(0, 9)
            world.all.start(1, messages.Follow(0, NodePosition()), folded)
            assert world.out.take() == [Send(1, codec.encode(messages.Gap(0)))]
        # It is told once.
        assert world.all.next_lines(1, world.applied) == []
