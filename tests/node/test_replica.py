"""
One node's behaviour: messages in, effects out.
"""

import random
from collections.abc import Callable, Collection, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from dcounter.errors import MalformedMessage
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.rows import Rows
from dcounter.limits import Limits
from dcounter.node.durability import Followed, Pending
from dcounter.node.effects import Append, CloseChannel, Effect, FlushJournal, Send, StreamReady
from dcounter.node.replica import Replica
from dcounter.protocol import codec, copies, messages
from dcounter.protocol.batch import Batch, encode_batch
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.handshake import Peer
from dcounter.protocol.messages import Record, Report
from dcounter.protocol.position import LostRun, NodePosition, Opening, Position
from tests.support.replicas import WALL, End, Heard, Replicas, appended, limits, ready, store


def _sent(effects: Iterable[Effect], channel: int | None = None) -> list[messages.Message]:
    return [
        codec.decode(effect.line)
        for effect in effects
        if isinstance(effect, Send) and channel in {None, effect.channel}
    ]


def _only(messages: Iterable[messages.Message], kind: type[messages.Message]) -> list[messages.Message]:
    return [message for message in messages if isinstance(message, kind)]


def _answers(end: End) -> list[messages.Message]:
    """
    What a coordinator was answered, without heartbeats.
    """
    return [message for message in end.received if not isinstance(message, Report)]


def _record(
    node: int, run: int, number: int, *ids: int, tenant: str = "t", opening: Opening | None = None
) -> Record:
    base = 10_000 * (run % 10_000) + 100 * number
    batch = Batch([len(ids)], list(ids), [tenant] * len(ids), bases=[base])
    return Record(node, run, number, batch.largest_stamp(), Raw(encode_batch(batch)), opening)


def _report(node: int, applied: Position | None = None, **changes: object) -> Report:
    position = applied or Position()
    fields: dict[str, object] = {
        "node": node,
        "port": 8090 + node,
        "pid": 1,
        "run": 0,
        "applied": position,
        "durable": position,
        "stamp": 0,
        "items": 0,
        "items_taken": 0,
    }
    return Report(**{**fields, **changes})  # type: ignore[arg-type]


def _at(*entries: tuple[int, int, int]) -> Position:
    position = Position()
    for node, run, number in entries:
        position = position.advance(node, run, number)
    return position


class Alone:
    """
    One replica whose peers are played by the test.
    """

    def __init__(self, members: Collection[int] = range(2), *, limits: Limits | None = None) -> None:
        self.replica = Replica(0, members, wall=lambda: WALL, limits=limits or Limits(), pid=7)
        self.unsynced: list[Pending] = []

    def connected(self, channel: int, node: int | None, *, calls: bool = True) -> list[messages.Message]:
        peer = Peer("coordinator", None) if node is None else Peer("node", node)
        return _sent(self.replica.connected(channel, peer, calls=calls, now=0.0))

    def hears(self, channel: int, message: Heard, now: float = 0.0) -> list[Effect]:
        effects = self.replica.receive(channel, message, codec.encode(message), now)
        self.unsynced += appended(effects)
        return effects

    def sync(self, lines: int) -> None:
        """
        The oldest lines become durable.
        """
        written, self.unsynced = self.unsynced[:lines], self.unsynced[lines:]
        assert len(written) == lines
        self.replica.synced(written)


class TestStoring:
    def test_journals_then_applies_then_answers_then_offers(self) -> None:
        world = ready(2)
        [end] = world.between(1, 0)
        caller = world.coordinator(0)
        replica = world.replicas[0]
        before = len(world.trace[0])

        world.store(caller, 1, 2)

        assert [type(effect) for effect in world.trace[0][before:]] == [Append]
        assert replica.ledger.count("t") == 0
        assert replica.applied == replica.durable == Position()
        # Nothing is streamed before it is durable, even if asked for.
        assert end.other is not None
        assert replica.stream(end.other.channel) == []

        before = len(world.trace[0])
        world.sync(0)

        effects = world.trace[0][before:]
        assert [type(effect) for effect in effects][:2] == [Send, StreamReady]
        assert all(isinstance(effect, StreamReady) for effect in effects[1:])
        [answer] = _sent(effects)
        assert answer == messages.Stored(1, replica.run, 1, 1_001)
        assert replica.ledger.count("t") == 2
        assert replica.report().items_taken == 2
        assert replica.applied == replica.durable == _at((0, replica.run, 1))

    def test_followers_get_the_line_that_was_journalled(self) -> None:
        world = ready(2)
        world.store(world.coordinator(0), 1)
        world.settle()
        assert world.journals[0] == world.journals[1]
        assert world.digests() == {world.replicas[0].ledger.digest()}

    def test_numbers_follow_each_other_within_the_run(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        for item in range(3):
            world.store(caller, item)
        world.sync(0, 2)
        run = world.replicas[0].run
        assert world.replicas[0].durable == _at((0, run, 2))
        world.sync(0, 1)
        records = [codec.decode(line) for line in world.journals[0]]
        assert [(r.run, r.number, r.opening) for r in records if isinstance(r, Record)] == [
            (run, 1, Opening(run, 0, 0)),
            (run, 2, None),
            (run, 3, None),
        ]

    def test_an_answer_to_a_caller_that_left_is_not_sent(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        world.store(caller, 1)
        world.break_off(caller)
        before = len(world.trace[0])
        world.sync(0)
        assert _sent(world.trace[0][before:]) == []
        assert world.replicas[0].ledger.count("t") == 1

    def test_the_batch_travels_as_the_same_bytes(self) -> None:
        world = ready(2)
        raw = b'{"slices":[1], "ids":[5],\t"tenants":["x"],"bases":[3] }'
        world.say(world.coordinator(0), messages.Store(1, Raw(raw)))
        world.settle()
        assert all(raw in journal[0] for journal in world.journals.values())

    def test_bad_batches_are_the_callers_fault(self) -> None:
        world = ready(2)
        with pytest.raises(MalformedMessage):
            world.say(world.coordinator(0), messages.Store(1, Raw(b'{"slices":[2]}')))
        assert world.unsynced[0] == []

    def test_a_node_alone_needs_nobody(self) -> None:
        world = Replicas(1)
        world.store(world.coordinator(0), 1)
        world.sync(0)
        assert world.replicas[0].ledger.count("t") == 1
        assert world.replicas[0].drained()

    def test_reports_say_how_it_is(self) -> None:
        alone = Alone([0])
        [report] = alone.connected(1, None)
        assert report == _report(0, port=0, pid=7)
        [report] = _sent(alone.replica.listening(8095))
        assert report == _report(0, port=8095, pid=7)


class TestRefusing:
    def test_before_every_member_reported(self) -> None:
        world = Replicas(3)
        caller = world.coordinator(0)
        world.connect(0, 1)
        world.settle()
        batch = Batch([1, 2], [1, 2, 3], ["a", "a", "a"], bases=[1, 2])
        world.say(caller, messages.Store(9, Raw(encode_batch(batch))))
        world.settle()
        reason = "the node starts empty and has not heard from nodes [2]"
        assert _answers(caller) == [messages.Stored(9, 0, 0, 0, {0: reason, 1: reason})]
        assert world.replicas[0].run == 0
        assert world.journals[0] == []

        world.connect(0, 2)
        world.settle()
        assert world.replicas[0].status.refuses() is None

    def test_while_it_drains(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        world.store(caller, 1)
        world.perform(0, world.replicas[0].drain())
        world.store(caller, 2)
        # What it took before is finished.
        world.settle()
        answers = _answers(caller)
        assert answers[0] == messages.Stored(2, 0, 0, 0, {0: "the node is stopping"})
        assert isinstance(answers[1], messages.Stored)
        assert (answers[1].request, answers[1].number) == (1, 1)
        reports = _only(caller.received, Report)
        assert [each.refuses for each in reports if isinstance(each, Report)][-1] == "the node is stopping"

    def test_above_a_number_of_unfolded_runs(self) -> None:
        few = limits(unfolded_runs=2)
        alone = Alone(limits=few)
        alone.connected(1, 1)
        runs = [(0, run, 1) for run in range(1, 4)]
        alone.hears(1, _report(1, _at(*runs)))
        alone.connected(2, None)
        for node, run, number in runs[:2]:
            alone.hears(1, _record(node, run, number, run))
        assert alone.replica.status.refuses() is None
        alone.hears(1, _record(*runs[2], 3))
        assert alone.replica.status.refuses() == "more than 2 runs are not on every node yet"
        [answer] = _sent(alone.hears(2, store(1, [1])))
        assert answer == messages.Stored(1, 0, 0, 30_100, {0: "more than 2 runs are not on every node yet"})


class TestFollowing:
    def _follower(self) -> Alone:
        alone = Alone()
        alone.connected(1, 1)
        effects = alone.hears(1, _report(1))
        assert messages.Follow(1, NodePosition()) in _sent(effects)
        return alone

    def test_only_the_next_number_is_taken(self) -> None:
        alone = self._follower()
        [append] = [e for e in alone.hears(1, _record(1, 5, 1, 10)) if isinstance(e, Append)]
        record = _record(1, 5, 1, 10)
        assert append.entry == Followed(codec.encode(record), 1, 5, 1)
        # Lower: had already.
        assert alone.hears(1, _record(1, 5, 1, 99)) == []
        # Higher: asks again, once.
        assert _sent(alone.hears(1, _record(1, 5, 3, 30))) == [messages.Follow(1, NodePosition(0, {5: 1}))]
        assert alone.hears(1, _record(1, 5, 4, 40)) == []
        assert alone.hears(1, _record(1, 5, 3, 30)) == []
        # The next, then again a hole: asks again.
        assert alone.hears(1, _record(1, 5, 2, 20))
        assert _sent(alone.hears(1, _record(1, 5, 9, 90))) == [messages.Follow(1, NodePosition(0, {5: 2}))]

        assert alone.replica.ledger.count("t") == 2
        assert alone.replica.applied == _at((1, 5, 2))
        assert alone.replica.durable == Position()
        alone.sync(1)
        assert alone.replica.durable == _at((1, 5, 1))
        alone.sync(1)
        assert alone.replica.durable == _at((1, 5, 2))

    def test_a_hole_in_another_run_is_asked_for_too(self) -> None:
        alone = self._follower()
        assert _sent(alone.hears(1, _record(1, 5, 3, 30)))
        assert _sent(alone.hears(1, _record(1, 6, 3, 30)))

    def test_records_that_come_twice_change_nothing(self) -> None:
        world = ready(3)
        caller = world.coordinator(0)
        for item in range(5):
            world.store(caller, item, base=1_000 * item)
        world.settle()
        digests, applied = world.digests(), world.applied()
        for end in [*world.between(1, 0), *world.between(2, 0)]:
            world.put(end.channel, codec.encode(messages.Follow(0, NodePosition())))
        world.settle()
        assert (world.digests(), world.applied()) == (digests, applied)

    def test_a_batch_of_its_own_open_run_is_refused(self) -> None:
        world = ready(2)
        world.store(world.coordinator(0), 1)
        world.settle()
        replica = world.replicas[0]
        [end] = world.between(0, 1)
        with pytest.raises(MalformedMessage, match="open run"):
            world.hear(end, _record(0, replica.run, 2, 7))
        assert replica.ledger.count("t") == 1

    def test_a_bad_batch_of_a_peer_is_its_fault(self) -> None:
        alone = self._follower()
        with pytest.raises(MalformedMessage):
            alone.hears(1, Record(1, 5, 1, 1, Raw(b"[]")))
        assert alone.replica.applied == Position()

    def test_streams_in_bounded_pieces(self) -> None:
        world = ready(2, limits=limits(stream_bytes=300))
        world.part(0, 1)
        caller = world.coordinator(0)
        for item in range(20):
            world.store(caller, item)
        world.sync(0)
        end = world.connect(1, 0)
        assert end.other is not None
        while not end.other.offered:
            world.deliver(end.other) or world.deliver(end)
        pieces = []
        while lines := world.replicas[0].stream(end.other.channel):
            pieces.append(lines)
        assert len(pieces) > 5
        assert all(sum(map(len, piece[:-1])) < 300 for piece in pieces)
        assert [codec.decode(line).number for piece in pieces for line in piece] == list(range(1, 21))  # type: ignore[union-attr]

    def test_does_not_stream_to_a_channel_that_is_gone(self) -> None:
        assert Alone().replica.stream(5) == []

    def test_stops_streaming_when_told(self) -> None:
        world = ready(2)
        [end] = world.between(1, 0)
        assert end.other is not None
        world.hear(end.other, messages.Unfollow(0))
        world.hear(end.other, messages.Unfollow(0))
        world.store(world.coordinator(0), 1)
        world.settle()
        assert world.replicas[1].ledger.count("t") == 0
        world.hear(end.other, messages.Follow(0, world.replicas[1].applied.of(0)))
        world.settle()
        assert world.replicas[1].ledger.count("t") == 1


class TestRelays:
    def test_a_peer_relays_while_a_link_is_cut(self) -> None:
        world = ready(3)
        caller = world.coordinator(0)
        world.part(0, 1)
        world.store(caller, 1)
        world.settle()
        assert world.replicas[1].ledger.count("t") == 1
        assert len(world.digests()) == 1
        # And the other way round.
        world.store(world.coordinator(1), 2)
        world.settle()
        assert world.replicas[0].ledger.count("t") == 2

    def test_and_stops_when_the_origin_is_back(self) -> None:
        world = ready(3)
        world.part(0, 1)
        world.store(world.coordinator(0), 1)
        world.settle()
        [end] = world.between(1, 2)
        assert end.other is not None
        # Node 1 follows node 0's log at node 2.
        assert messages.Follow(0, NodePosition()) in _sent(world.trace[1], end.channel)
        assert messages.Unfollow(0) not in _sent(world.trace[1], end.channel)

        world.connect(1, 0)
        world.connect(0, 1)
        world.settle()

        assert _sent(world.trace[1], end.channel).count(messages.Unfollow(0)) == 1
        before = len(world.trace[2])
        world.store(world.coordinator(0), 2)
        world.settle()
        assert world.replicas[1].ledger.count("t") == 2
        assert _only(_sent(world.trace[2][before:], end.other.channel), Record) == []

    def test_of_a_dead_node_by_who_has_most(self) -> None:
        world = ready(4)
        caller = world.coordinator(0)
        world.store(caller, 1)
        world.settle()
        world.part(0, 1)
        world.part(0, 2)
        world.part(1, 2)
        world.part(1, 3)
        world.part(2, 3)
        world.store(caller, 2)
        world.settle()
        world.stop(0)
        assert [world.replicas[node].ledger.count("t") for node in (1, 2, 3)] == [1, 1, 2]
        world.connect_all()
        world.settle()
        assert [world.replicas[node].ledger.count("t") for node in (1, 2, 3)] == [2, 2, 2]

    def test_another_peer_relays_when_the_first_one_is_gone(self) -> None:
        world = ready(4)
        world.part(0, 1)
        caller = world.coordinator(0)
        world.store(caller, 1)
        world.settle()
        relay = next(
            end
            for node in (2, 3)
            for end in world.between(1, node)
            if messages.Follow(0, NodePosition()) in _sent(world.trace[1], end.channel)
        )
        assert relay.peer.node is not None
        world.part(1, relay.peer.node)
        world.store(caller, 2)
        world.settle()
        assert world.replicas[1].ledger.count("t") == 2

    def test_a_run_with_the_number_of_our_own_is_not_taken_for_ours(self) -> None:
        # Two nodes may open their runs in the same nanosecond.
        world = ready(3)
        world.part(0, 1)
        world.store(world.coordinator(0), 1)
        world.store(world.coordinator(1), 2)
        assert world.replicas[0].run == world.replicas[1].run
        world.settle()
        assert len(world.digests()) == 1

    def test_what_a_copy_brought_is_not_in_the_log_and_that_is_said(self) -> None:
        # Node 1 has part of node 0's log in its own and the rest from a copy: it cannot relay it.
        world = ready(3, limits=limits(backlog_bytes=500))
        caller = world.coordinator(0)
        world.store(caller, 1)
        world.settle()
        world.part(0, 1)
        world.part(1, 2)
        world.part(0, 2)
        for item in range(2, 12):
            world.store(caller, item)
            world.settle(rounds=1)
        world.connect(1, 0)
        world.settle()
        assert world.replicas[1].ledger.count("t") == 11
        world.stop(0)
        world.connect_all()
        world.settle()
        assert world.replicas[2].ledger.count("t") == 11
        assert len(world.digests()) == 1


class TestWiped:
    def test_a_new_cluster_is_not_wiped(self) -> None:
        world = ready(2)
        assert world.notices == {0: [], 1: []}
        world.store(world.coordinator(0), 1)
        [line] = world.unsynced[0]
        record = codec.decode(line.line)
        assert isinstance(record, Record)
        assert record.opening == Opening(record.run, 0, 0, wiped=False)

    def test_a_wiped_node_fetches_its_own_log_and_says_so(self) -> None:
        world = ready(3)
        caller = world.coordinator(0)
        for item in range(3):
            world.store(caller, item)
        world.settle()
        old = world.replicas[0].run
        world.stop(0)
        world.start(0)
        world.connect_all()
        world.settle()

        replica = world.replicas[0]
        assert replica.ledger.count("t") == 3
        assert replica.applied == world.replicas[1].applied
        texts = [text for level, text in world.notices[0] if level == "warn"]
        assert "this node has no journal but its peers hold items: refilling" in texts
        [fetching] = [text for text in texts if "fetching" in text]
        assert f"holds 3 batches of this node's run {old}, this node 0" in fetching

    def test_it_opens_no_run_before_every_member_reported(self) -> None:
        world = ready(3)
        world.store(world.coordinator(0), 1)
        world.settle()
        old = world.replicas[0].run
        world.stop(0)
        world.stop(2)
        world.start(0)
        world.connect(0, 1)
        caller = world.coordinator(0)
        world.settle()
        refused = world.store(caller, 2)
        world.settle()
        [answer] = _answers(caller)
        assert isinstance(answer, messages.Stored)
        assert (answer.request, answer.number) == (refused, 0)
        assert "has not heard from nodes [2]" in answer.refused[0]

        # As if its wall clock went back: its run lies above all that it ever had.
        world.start(2)
        world.wall = 5
        world.connect_all()
        world.settle()
        world.store(caller, 2)
        world.settle()
        replica = world.replicas[0]
        assert replica.run == old + 1
        [record] = [
            each
            for line in world.journals[0]
            if isinstance(each := codec.decode(line), Record) and each.run == replica.run
        ]
        assert record.opening == Opening(old + 1, old, 1, wiped=True)
        assert world.replicas[1].ledger.count("t") == 2

    def test_what_no_node_has_is_named_lost(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        world.store(caller, 1)
        world.settle()
        world.part(0, 1)
        world.store(caller, 2)
        world.sync(0)
        old = world.replicas[0].run
        world.stop(0)
        world.start(0)
        world.connect_all()
        world.settle()
        world.store(world.coordinator(0), 3)
        world.settle()
        new = world.replicas[0].run
        for replica in world.replicas.values():
            assert replica.report().lost == [LostRun(0, old, 1, new)]
            assert replica.applied == Position({0: NodePosition(new, {new: 1})})
            assert replica.ledger.count("t") == 2

    def test_a_member_that_was_not_there_learns_what_is_lost(self) -> None:
        world = ready(3)
        caller = world.coordinator(0)
        world.store(caller, 1)
        world.settle()
        world.stop(0)
        world.start(0)
        world.connect_all()
        world.settle()
        world.store(world.coordinator(0), 2)
        world.settle()
        lost = world.replicas[0].report().lost
        assert len(lost) == 1
        world.stop(2)
        world.start(2)
        world.connect_all()
        world.settle()
        assert world.replicas[2].report().lost == lost


class TestFolding:
    def _restarted(self, world: Replicas, node: int = 0) -> None:
        world.stop(node)
        world.start(node)
        world.connect_all()
        world.settle()

    def test_a_closed_run_is_folded_when_every_member_has_it_durably(self) -> None:
        world = ready(3)
        # Node 2's journal stands still: it has all, but not durably.
        world.store(world.coordinator(0), 1)
        world.settle(but={2})
        old = world.replicas[0].run
        world.stop(0)
        world.start(0)
        world.connect_all()
        world.settle(but={2})
        world.store(world.coordinator(0), 2)
        world.settle(but={2})
        new = world.replicas[0].run
        assert world.applied() == [_at((0, old, 1), (0, new, 1))] * 3
        world.settle()
        assert world.applied() == [Position({0: NodePosition(new, {new: 1})})] * 3
        assert [replica.durable for replica in world.replicas.values()] == world.applied()

    def test_nothing_is_folded_while_a_member_is_unheard_of(self) -> None:
        world = ready(3)
        world.store(world.coordinator(0), 1)
        world.settle()
        world.stop(2)
        self._restarted(world)
        # It refuses, since node 2 may hold what it lacks; a node with a journal would go on.
        assert world.replicas[0].status.refuses() is not None
        assert all(replica.applied.of(0).folded == 0 for replica in world.replicas.values())

    def test_chains_of_runs_fold_together(self) -> None:
        world = ready(2)
        for item in range(4):
            world.store(world.coordinator(0), item)
            world.settle()
            self._restarted(world)
        world.store(world.coordinator(0), 9)
        world.settle()
        run = world.replicas[0].run
        assert [replica.applied for replica in world.replicas.values()] == [
            Position({0: NodePosition(run, {run: 1})})
        ] * 2
        assert world.replicas[1].ledger.count("t") == 5

    def test_several_runs_that_piled_up_fold_at_once(self) -> None:
        alone = Alone()
        alone.connected(1, 1)
        alone.hears(1, _report(1))
        openings = [Opening(1, 0, 0), Opening(2, 1, 2), Opening(3, 2, 1)]
        records = [
            _record(1, 1, 1, 1, opening=openings[0]),
            _record(1, 1, 2, 2),
            _record(1, 2, 1, 3, opening=openings[1]),
            _record(1, 3, 1, 4, opening=openings[2]),
        ]
        for record in records:
            alone.hears(1, record)
        alone.sync(4)
        assert alone.replica.report().openings == {1: openings}
        alone.hears(1, _report(1, alone.replica.applied, run=3))
        assert alone.replica.durable == alone.replica.applied == Position({1: NodePosition(3, {3: 1})})
        # Its opening stays, for those who have yet to fold.
        assert alone.replica.report().openings == {1: openings[2:]}

    def test_a_fold_heard_of_is_adopted_if_all_of_it_is_here(self) -> None:
        alone = Alone(range(3))
        alone.connected(1, 1)
        alone.connected(2, None)
        opening = Opening(2, 1, 1, wiped=True)
        folded = Position({1: NodePosition(2, {2: 1})})
        openings = {1: [opening]}
        alone.hears(1, _report(1, folded, openings=openings, run=2))
        assert alone.replica.applied == Position()

        alone.hears(1, _record(1, 1, 1, 1, opening=Opening(1, 0, 0)))
        alone.hears(1, _report(1, folded, openings=openings, run=2))
        assert alone.replica.applied == _at((1, 1, 1)), "not yet durable"
        alone.sync(1)
        alone.hears(1, _report(1, folded, openings=openings, run=2))
        assert alone.replica.applied == Position({1: NodePosition(2)})
        assert alone.replica.report().lost == [LostRun(1, 1, 1, 2)]

    def test_a_fold_in_a_question_is_adopted(self) -> None:
        alone = Alone(range(3))
        alone.connected(1, 1)
        alone.connected(2, None)
        alone.hears(1, _report(1))
        alone.hears(1, _record(1, 1, 1, 1, opening=Opening(1, 0, 0)))
        alone.hears(1, _record(1, 2, 1, 2, opening=Opening(2, 1, 1)))
        alone.sync(2)
        required = Position({1: NodePosition(2, {2: 1})})
        [answer] = _sent(alone.hears(2, messages.Count(1, ["t"], required)))
        assert answer == messages.Counted(1, [2], True, required, 20_100)

    def test_openings_are_bounded(self) -> None:
        alone = Alone(limits=limits(unfolded_runs=3))
        alone.connected(1, 1)
        openings = [Opening(run, run - 1, 1) for run in range(1, 20)]
        alone.hears(1, _report(1, openings={1: openings}))
        assert alone.replica.report().openings == {1: openings[-6:]}

    def test_the_log_is_cut_when_everybody_has_it(self) -> None:
        world = ready(3)
        caller = world.coordinator(0)
        world.store(caller, 1)
        world.settle(but={2})
        [end] = world.between(1, 0)
        assert end.other is not None
        follow = messages.Follow(0, NodePosition())
        world.hear(end.other, follow)
        assert len(world.replicas[0].stream(end.other.channel)) == 1
        world.settle()
        # Now all have it durably: who asks for it nevertheless needs a copy.
        world.hear(end.other, follow)
        assert world.replicas[0].stream(end.other.channel) == [codec.encode(messages.Gap(0))]
        # And is not sent the same again and again.
        assert world.replicas[0].stream(end.other.channel) == []


class TestCounting:
    def _asked(self, world: Replicas, end: End, required: Position, wait: int = 0, *tenants: str) -> None:
        world.say(end, messages.Count(5, list(tenants) or ["t"], required, wait))

    def test_is_exact_at_once_if_all_is_here(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        world.store(caller, 1, 2)
        world.settle()
        replica = world.replicas[0]
        world.say(caller, messages.Count(5, ["t", "nobody"], replica.applied))
        world.settle()
        assert _answers(caller)[1:] == [messages.Counted(5, [2, 0], True, replica.applied, 1_001)]

    def test_waits_for_what_is_missing(self) -> None:
        world = ready(2)
        caller = world.coordinator(1)
        world.store(world.coordinator(0), 1)
        world.sync(0)
        required = world.replicas[0].applied
        self._asked(world, caller, required, 1_000)
        assert _answers(caller) == []
        world.settle()
        assert _answers(caller) == [messages.Counted(5, [1], True, required, 1_000)]

    def test_waits_no_longer_than_asked(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        self._asked(world, caller, _at((1, 7, 1)), 500)
        world.settle(rounds=2)
        assert _answers(caller) == []
        world.settle(rounds=1)
        assert _answers(caller) == [messages.Counted(5, [0], False, Position(), 0)]
        # And is not answered again.
        world.settle()
        assert len(_answers(caller)) == 1

    def test_does_not_wait_if_not_asked_to(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        self._asked(world, caller, _at((1, 7, 1)), 0)
        world.settle(rounds=1)
        assert _answers(caller) == [messages.Counted(5, [0], False, Position(), 0)]

    def test_those_that_wait_are_bounded(self) -> None:
        world = ready(2, limits=limits(waits=1))
        first, second = world.coordinator(0), world.coordinator(0)
        self._asked(world, first, _at((1, 7, 1)), 10_000)
        self._asked(world, second, _at((1, 7, 1)), 10_000)
        world.settle(rounds=1)
        assert _answers(first) == []
        assert _answers(second) == [messages.Counted(5, [0], False, Position(), 0)]
        # One that leaves makes room.
        world.break_off(first)
        self._asked(world, second, _at((1, 7, 1)), 10_000)
        world.settle(rounds=1)
        assert len(_answers(second)) == 1

    def test_only_the_waits_that_are_over_are_answered(self) -> None:
        world = ready(2)
        caller = world.coordinator(1)
        world.say(caller, messages.Count(1, ["t"], _at((0, 9, 9)), 60_000))
        world.store(world.coordinator(0), 1)
        world.sync(0)
        world.say(caller, messages.Count(2, ["t"], world.replicas[0].applied, 60_000))
        world.settle()
        assert [answer.request for answer in _answers(caller) if isinstance(answer, messages.Counted)] == [2]

    def test_awaits_what_is_durable(self) -> None:
        world = ready(2)
        caller = world.coordinator(1)
        world.store(world.coordinator(0), 1)
        world.settle(but={1})
        position = world.replicas[0].durable
        assert world.replicas[1].applied == position
        world.say(caller, messages.Await(1, position, 60_000))
        world.say(caller, messages.Await(2, position, 100))
        world.settle(but={1}, rounds=1)
        assert _answers(caller) == [messages.Awaited(2, False, Position(), 1_000)]
        world.settle()
        assert _answers(caller)[1:] == [messages.Awaited(1, True, position, 1_000)]
        world.say(caller, messages.Await(3, position, 0))
        world.settle(rounds=1)
        assert _answers(caller)[2:] == [messages.Awaited(3, True, position, 1_000)]

    def test_one_of_two_processes_of_a_node_vouches_for_nothing_durable(self) -> None:
        world = ready(2)
        caller = world.coordinator(1)
        world.store(world.coordinator(0), 1)
        world.settle()
        replica = world.replicas[1]
        position = replica.durable
        assert replica.report().durable == position != Position()
        replica.refused_by(0, "another process is node 1")
        assert replica.report().durable == Position()
        assert replica.report().applied == position
        world.say(caller, messages.Await(1, position, 60_000))
        world.settle()
        assert _answers(caller) == []
        # The other process is gone.
        replica.connected(99, Peer("node", 0), calls=True, now=world.now)
        assert replica.report().durable == position
        world.say(caller, messages.Await(2, position, 0))
        world.settle(rounds=1)
        assert _answers(caller)[-1] == messages.Awaited(2, True, position, 1_000)

    def test_what_is_awaited_is_journalled_soon(self) -> None:
        world = ready(2)
        caller, teller = world.coordinator(1), world.coordinator(0)
        world.store(teller, 1)
        world.settle()
        assert [each.waits for each in world.trace[1] if isinstance(each, Append)] == [False]
        awaited = world.replicas[0].applied.advance(0, world.replicas[0].run, 2)
        world.say(caller, messages.Await(1, awaited, 60_000))
        world.turn()
        assert FlushJournal() in world.trace[1]
        # What comes while somebody waits is waited for.
        for item in (2, 3):
            world.store(teller, item)
            world.settle()
        assert [each.waits for each in world.trace[1] if isinstance(each, Append)] == [False, True, False]


def test_no_process_opens_a_run_that_an_earlier_one_opened() -> None:
    # Neither what its disk has nor the clock tells it that there was one.
    runs = set()
    for seed in range(2):
        replica = Replica(0, [0], wall=lambda: 1_000, limits=limits(), seed=seed)
        channel = 1
        replica.connected(channel, Peer("coordinator", None), calls=False, now=0.0)
        request = store(1, [1])
        replica.receive(channel, request, codec.encode(request), 0.0)
        runs.add(replica.run)
    assert runs == {1_000, 1_001}


class TestTime:
    def test_heartbeats(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        world.tick(0.3)
        world.turn()
        before = len(caller.received)
        world.tick(0.1)
        world.tick(0.05)
        world.turn()
        assert len(caller.received) == before
        world.tick(0.06)
        world.turn()
        assert [type(each) for each in caller.received[before:]] == [Report]

    def test_a_silent_node_is_cut_off(self) -> None:
        world = ready(2)
        end, other = *world.between(0, 1), *world.between(1, 0)
        for _ in range(6):
            world.tick()
        assert end.channel not in world.ends
        assert other.channel not in world.ends
        cut = [effect for effect in world.trace[0] if isinstance(effect, CloseChannel)]
        assert cut[0].reason.startswith("silent for 1.")

    def test_a_coordinator_may_be_silent_for_longer(self) -> None:
        world = Replicas(1)
        caller = world.coordinator(0)
        for _ in range(149):
            world.tick()
        assert caller.channel in world.ends
        world.say(caller, messages.Beat(77))
        assert world.replicas[0].report().stamp == 77
        for _ in range(149):
            world.tick()
        assert caller.channel in world.ends
        for _ in range(3):
            world.tick()
        assert caller.channel not in world.ends

    def test_who_slept_suspects_nobody(self) -> None:
        world = ready(2)
        assert world.between(0, 1)
        world.now += 100
        for node, replica in world.replicas.items():
            world.perform(node, replica.tick(world.now))
        assert world.between(0, 1)
        assert world.between(1, 0)
        for _ in range(6):
            world.tick()
        assert not world.between(0, 1)

    def test_a_stamp_of_a_peer_moves_on(self) -> None:
        world = ready(3)
        world.say(world.coordinator(0), messages.Beat(MAX_STAMP))
        world.settle()
        assert {replica.report().stamp for replica in world.replicas.values()} == {MAX_STAMP}


class TestDraining:
    def test_is_over_when_every_follower_has_all_durably(self) -> None:
        world = ready(3)
        replica = world.replicas[0]
        world.store(world.coordinator(0), 1)
        world.perform(0, replica.drain())
        assert not replica.drained(), "not yet durable here"
        world.sync(0)
        assert not replica.drained()
        world.settle(but={2})
        assert not replica.drained(), "not yet durable there"
        world.settle()
        assert replica.drained()

    def test_does_not_wait_for_who_is_not_connected(self) -> None:
        world = ready(3)
        world.part(0, 2)
        world.store(world.coordinator(0), 1)
        world.sync(0)
        world.part(1, 2)
        replica = world.replicas[0]
        assert not replica.drained()
        world.settle()
        assert replica.drained()

    def test_waits_for_a_follower_that_came_back_empty(self) -> None:
        world = ready(2)
        world.store(world.coordinator(0), 1)
        world.settle()
        replica = world.replicas[0]
        world.stop(1)
        world.start(1)
        world.connect(1, 0)
        # What is known of node 1 is what it was before.
        assert not replica.drained()
        world.settle()
        assert replica.drained()


class TestStrangers:
    @pytest.mark.parametrize(
        "message",
        [
            copies.CopyBegin(Position(), {}, []),
            copies.CopyChunk(b"", b"", b"", [], Position()),
            copies.CopyEnd(Position(), 0),
        ],
        ids=lambda each: type(each).__name__,
    )
    def test_nobody_sends_a_copy_that_was_not_asked_for(self, message: Heard) -> None:
        alone = Alone()
        alone.connected(1, 1)
        with pytest.raises(MalformedMessage, match="a copy that was not asked for"):
            alone.hears(1, message)

    def test_nobody_reports_for_another(self) -> None:
        alone = Alone(range(3))
        alone.connected(1, 1)
        with pytest.raises(MalformedMessage, match="a report of node 2"):
            alone.hears(1, _report(2))

    def test_who_is_gone_is_not_heard(self) -> None:
        alone = Alone()
        alone.connected(1, 1)
        alone.replica.disconnected(1)
        assert alone.hears(1, store(1, [1])) == []
        # To be gone twice is no harm.
        assert alone.replica.disconnected(1) == []


class TestCopies:
    """
    Node 0 holds more than its log: whoever comes back to it takes a copy of its ledger.
    """

    ITEMS = 40

    def _apart(self, nodes: int = 2) -> tuple[Replicas, End]:
        world = ready(nodes, limits=limits(backlog_bytes=600, chunk_rows=7))
        caller = world.coordinator(0)
        for peer in range(1, nodes):
            world.part(0, peer)
        for item in range(self.ITEMS):
            world.store(caller, item, tenant=f"t{item % 3}", base=1_000 + item)
        world.sync(0)
        return world, caller

    def _copying(self, world: Replicas, follower: int = 1, giver: int = 0) -> tuple[End, End]:
        """
        Connect a node to another one, until the copy is about to begin.
        """
        near = world.connect(follower, giver)
        far = near.other
        assert far is not None
        gap: list[bytes] = []
        while not gap:
            while world.deliver(far) or world.deliver(near):
                pass
            gap = world.replicas[giver].stream(far.channel)
        assert isinstance(codec.decode(gap[0]), messages.Gap)
        world.put(far.channel, gap[0])
        while world.deliver(near) or world.deliver(far):
            pass
        return near, far

    def test_a_gap_is_answered_by_taking_a_copy(self) -> None:
        world, _ = self._apart()
        world.connect_all()
        world.settle()
        assert len(world.digests()) == 1
        assert world.replicas[0].applied == world.replicas[1].applied == world.replicas[1].durable
        assert ("info", f"took a copy of the ledger: {self.ITEMS} items") in world.notices[1]

    def test_it_has_a_beginning_chunks_and_an_end(self) -> None:
        world, caller = self._apart()
        _, far = self._copying(world)
        position = world.replicas[0].applied
        copied: list[messages.Message] = []
        while lines := world.replicas[0].stream(far.channel):
            copied += [codec.decode(line) for line in lines]
            if len(copied) == 3:
                # What is stored meanwhile is in a later chunk or comes as a record.
                world.store(caller, 99, tenant="late")
                world.sync(0)
        kinds = [type(message) for message in copied]
        assert kinds == [copies.CopyBegin, *[copies.CopyChunk] * 6, copies.CopyEnd]
        begin, *pieces, end = copied
        assert isinstance(begin, copies.CopyBegin)
        assert isinstance(end, copies.CopyEnd)
        assert begin.position == position
        assert end.position == world.replicas[0].applied != position
        assert all(isinstance(piece, copies.CopyChunk) and len(piece.packed()[0]) <= 7 for piece in pieces)

        ledger = Ledger()
        for piece in pieces:
            assert isinstance(piece, copies.CopyChunk)
            ledger.merge_rows(Rows(*piece.packed()))
        assert ledger.digest() == world.replicas[0].ledger.digest()

    def test_no_exact_count_before_what_chunks_brought_along_is_covered(self) -> None:
        world, caller = self._apart()
        near, far = self._copying(world)
        before = world.replicas[0].applied
        asking = world.coordinator(1)
        held = world.replicas[1].applied

        for _ in range(2):
            assert world.stream(far)
        # Stored after the beginning, but it is in a piece.
        world.store(caller, 1_000, tenant="late", base=10**6)
        world.sync(0)
        while world.stream(far):
            pass
        late = [line for line in near.lines if b'"record"' in line]
        copy = [line for line in near.lines if b'"copy_' in line]
        assert b'"late"' in b"".join(copy)
        near.lines.clear()

        def counted(required: Position) -> messages.Counted:
            before = len(world.trace[1])
            world.say(asking, messages.Count(1, ["late"], required))
            [message] = _sent(world.trace[1][before:])
            assert isinstance(message, messages.Counted)
            return message

        for line in copy:
            assert counted(held).complete == (line in copy[:2]), "inexact as soon as a piece was loaded"
            near.lines.append(line)
            world.deliver(near)
        # All of the copy is there, its beginning is applied, its end is not covered.
        assert world.replicas[1].applied == before
        assert counted(before) == messages.Counted(1, [1], False, before, world.replicas[1].report().stamp)
        # The record that is missing makes it whole.
        assert late == []
        world.settle()
        after = world.replicas[0].applied
        assert counted(after) == messages.Counted(1, [1], True, after, world.replicas[1].report().stamp)

    def test_the_durable_position_jumps_when_all_of_it_is_synced(self) -> None:
        world, _ = self._apart()
        _, far = self._copying(world)
        position = world.replicas[0].applied
        while world.stream(far):
            pass
        for _ in range(5):
            world.turn(but={1})
        replica = world.replicas[1]
        assert replica.applied == position
        assert replica.durable == Position()
        lines = len(world.unsynced[1])
        assert lines == 8
        world.sync(1, lines - 1)
        assert replica.durable == Position()
        world.sync(1, 1)
        assert replica.durable == position

    def test_a_broken_off_copy_is_taken_again(self) -> None:
        world, _ = self._apart()
        near, far = self._copying(world)
        for _ in range(3):
            world.stream(far)
        world.turn()
        assert 0 < len(world.replicas[1].ledger) < self.ITEMS
        world.break_off(near)
        assert ("warn", "a copy of the ledger broke off; another one will be taken") in world.notices[1]
        world.connect_all()
        world.settle()
        assert len(world.digests()) == 1
        assert world.replicas[1].applied == world.replicas[0].applied

    def test_a_broken_off_copy_is_taken_from_another_peer(self) -> None:
        world, _ = self._apart(3)
        world.connect(2, 0)
        world.part(1, 2)
        world.settle()
        assert len(world.replicas[2].ledger) == self.ITEMS
        _, far = self._copying(world)
        for _ in range(3):
            world.stream(far)
        world.turn()
        world.stop(0)
        world.connect_all()
        world.settle()
        assert len(world.digests()) == 1
        assert len(world.replicas[1].ledger) == self.ITEMS

    def test_two_nodes_may_need_each_others_copy(self) -> None:
        world, _ = self._apart(2)
        caller = world.coordinator(1)
        for item in range(100, 140):
            world.store(caller, item)
        world.settle()
        world.connect_all()
        world.settle()
        assert len(world.digests()) == 1
        assert world.replicas[0].applied == world.replicas[1].applied

    def test_three_nodes_may_need_copies_in_a_circle(self) -> None:
        world, _ = self._apart(3)
        world.part(1, 2)
        for node in (1, 2):
            caller = world.coordinator(node)
            for item in range(100 * node, 100 * node + 40):
                world.store(caller, item)
        world.settle()
        for caller_, callee in [(0, 1), (1, 2), (2, 0)]:
            world.connect(caller_, callee)
        world.settle()
        world.connect_all()
        world.settle()
        assert len(world.digests()) == 1
        required = world.replicas[0].applied
        for node in world.members:
            end = world.coordinator(node)
            world.say(end, messages.Count(1, ["t"], required))
            world.settle(rounds=1)
            [answer] = _answers(end)
            assert isinstance(answer, messages.Counted)
            assert (answer.counts, answer.complete) == ([80], True)

    def test_a_node_that_needs_one_no_more_goes_on_without(self) -> None:
        # Node 0 told of a gap and died before its copy began. All that the others have comes as records.
        world, _ = self._apart(3)
        near, _ = self._copying(world)
        assert copies.Copy() in _sent(world.trace[1], near.channel)
        world.stop(0)
        world.store(world.coordinator(2), 500)
        world.settle()
        assert world.replicas[1].applied.covers(world.replicas[2].applied)

    def _torn(self, world: Replicas) -> End:
        """
        Half of node 0's ledger is copied to node 1 when node 0 dies and loses it all.
        """
        _, far = self._copying(world)
        for _ in range(3):
            world.stream(far)
        world.turn()
        assert 0 < len(world.replicas[1].ledger) < self.ITEMS
        world.stop(0)
        world.start(0)
        world.connect_all()
        return world.coordinator(1)

    def _is_exact(self, world: Replicas, end: End) -> bool:
        world.say(end, messages.Count(1, ["t1"]))
        world.turn()
        [answer] = _answers(end)[-1:]
        assert isinstance(answer, messages.Counted)
        return answer.complete

    @pytest.mark.parametrize("nodes", [2, 3])
    def test_what_was_half_copied_and_is_lost_is_waited_for_no_longer(self, nodes: int) -> None:
        world, _ = self._apart(nodes)
        asking = self._torn(world)
        world.settle(rounds=3)
        assert not self._is_exact(world, asking), "somebody may still have it"
        world.settle(rounds=6)
        assert self._is_exact(world, asking)
        assert ("error", "a copy held items of node 0 that no member has any more") in world.notices[1]

    def test_but_not_while_a_member_is_away(self) -> None:
        world, _ = self._apart(3)
        asking = self._torn(world)
        world.settle(rounds=3)
        world.stop(2)
        world.settle(rounds=10)
        assert not self._is_exact(world, asking)
        # The time begins anew when all are there.
        world.start(2)
        world.connect_all()
        world.settle(rounds=3)
        assert not self._is_exact(world, asking)
        world.settle(rounds=6)
        assert self._is_exact(world, asking)

    def test_of_its_own_older_runs_as_well(self) -> None:
        world, caller = self._apart(2)
        world.connect_all()
        world.settle()
        # Both hold all; now node 0 is wiped, gets half of it back, and node 1 is wiped as well.
        world.break_off(caller)
        world.stop(0)
        world.start(0)
        _, far = self._copying(world, 0, 1)
        for _ in range(3):
            world.stream(far)
        world.turn()
        assert 0 < len(world.replicas[0].ledger) < self.ITEMS
        world.stop(1)
        world.start(1)
        world.connect_all()
        asking = world.coordinator(0)
        world.settle(rounds=3)
        assert not self._is_exact(world, asking)
        world.settle(rounds=6)
        assert self._is_exact(world, asking)

    def test_none_is_taken_of_what_came_another_way(self) -> None:
        alone = Alone()
        alone.connected(1, 1)
        alone.hears(1, _report(1, _at((1, 1, 2))))
        assert copies.Copy() in _sent(alone.hears(1, messages.Gap(1)))
        alone.hears(1, _record(1, 1, 1, 1))
        alone.hears(1, _record(1, 1, 2, 2))
        alone.replica.disconnected(1)
        alone.connected(2, 1)
        sent = _sent(alone.hears(2, _report(1, _at((1, 1, 2)))))
        assert copies.Copy() not in sent
        assert messages.Follow(1, NodePosition(0, {1: 2})) in sent
        # And it relays again.
        relayed = _sent(alone.hears(2, _report(1, _at((1, 1, 2), (0, 5, 1)))))
        assert messages.Follow(0, NodePosition()) in relayed

    def test_chunks_without_a_beginning_are_refused(self) -> None:
        for message in (copies.CopyChunk(b"", b"", b"", [], Position()), copies.CopyEnd(Position(), 0)):
            alone = Alone()
            alone.connected(1, 1)
            alone.hears(1, _report(1, _at((1, 1, 5))))
            assert _sent(alone.hears(1, messages.Gap(1))) == [copies.Copy()]
            with pytest.raises(MalformedMessage, match="a copy without its beginning"):
                alone.hears(1, message)

    def test_one_copy_at_a_time(self) -> None:
        alone = Alone(range(3))
        for peer in (1, 2):
            alone.connected(peer, peer)
            alone.hears(peer, _report(peer, _at((peer, 1, 5))))
        assert _sent(alone.hears(1, messages.Gap(1))) == [copies.Copy()]
        assert _sent(alone.hears(2, messages.Gap(2))) == []

    def test_it_brings_what_is_known_of_runs_and_losses(self) -> None:
        alone = Alone(range(3))
        alone.connected(1, 1)
        alone.hears(1, _report(1, _at((1, 1, 5))))
        alone.hears(1, messages.Gap(1))
        lost = LostRun(2, 1, 1, 2)
        opening = Opening(3, 2, 1)
        alone.hears(1, copies.CopyBegin(_at((2, 3, 1)), {2: [opening]}, [lost]))
        alone.hears(1, copies.CopyEnd(_at((2, 3, 1)), 88))
        report = alone.replica.report()
        assert (report.lost, report.openings, report.stamp) == ([lost], {2: [opening]}, 88)


# At random


class Chaos:
    """
    Whatever may happen to replicas, from one seed: stores, deliveries in any order over the connections,
    connections that break and are made again, logs asked for twice, journals that lag, restarts after a
    drain.
    """

    def __init__(self, seed: int, nodes: int, log: int) -> None:
        self.random = random.Random(seed)
        self.world = Replicas(nodes, limits=limits(backlog_bytes=log, chunk_rows=3, stream_bytes=400))
        self.model: dict[int, tuple[int, str | None]] = {}
        self.stamp = 10_000
        self.callers: dict[int, End] = {}
        self.world.connect_all()
        self.world.settle()

    def store(self) -> None:
        node = self.random.choice(list(self.world.replicas))
        if self.world.replicas[node].status.refuses() is not None:
            return
        ids = [self.random.randrange(12) for _ in range(self.random.randint(1, 4))]
        tenants = [self.random.choice(["a", "b", "c", None]) for _ in ids]
        stamps = [self.stamp + self.random.randint(-20, 20) for _ in ids]
        self.stamp += 5
        batch = Batch([len(ids)], ids, tenants, stamps=stamps)
        end = self.callers.get(node)
        if end is None or end.channel not in self.world.ends:
            end = self.callers[node] = self.world.coordinator(node)
        self.world.say(end, messages.Store(1, Raw(encode_batch(batch))))
        for item, tenant, stamp in zip(ids, tenants, stamps, strict=True):
            entry = (stamp, tenant)
            known = self.model.get(item)
            if known is None or (entry[0], entry[1] or "") > (known[0], known[1] or ""):
                self.model[item] = entry

    def deliver(self) -> None:
        ends = [end for end in self.world.ends.values() if end.lines]
        if ends:
            end = self.random.choice(ends)
            for _ in range(self.random.randint(1, 5)):
                if end.channel in self.world.ends:
                    self.world.deliver(end)

    def stream(self) -> None:
        ends = [end for end in self.world.ends.values() if end.offered]
        if ends:
            self.world.stream(self.random.choice(ends))

    def sync(self) -> None:
        node = self.random.choice(list(self.world.replicas))
        self.world.sync(node, self.random.randint(0, len(self.world.unsynced[node])))

    def part(self) -> None:
        ends = [end for end in self.world.ends.values() if end.calls]
        if ends:
            self.world.break_off(self.random.choice(ends))

    def connect(self) -> None:
        caller, callee = self.random.sample(list(self.world.replicas), 2)
        if not self.world.between(caller, callee):
            self.world.connect(caller, callee)

    def follow_again(self) -> None:
        calls = [end for end in self.world.ends.values() if end.calls and end.at in self.world.replicas]
        if calls:
            end = self.random.choice(calls)
            node = self.random.choice(list(self.world.members))
            self.world.put(end.channel, codec.encode(messages.Follow(node, NodePosition())))

    def tick(self) -> None:
        self.world.tick(self.random.choice([0.05, 0.2, 0.4]))

    def restart(self) -> None:
        """
        As `restart` of the supervisor does: hand over everything first.
        """
        node = self.random.choice(list(self.world.replicas))
        self.world.perform(node, self.world.replicas[node].drain())
        self.rest()
        assert self.world.replicas[node].drained()
        self.world.stop(node)
        self.world.start(node)
        self.world.connect_all()

    def run(self, steps: int) -> None:
        frequent: list[Callable[[], None]] = [self.store, self.deliver, self.deliver, self.stream, self.sync]
        rare: list[Callable[[], None]] = [self.part, self.connect, self.follow_again, self.tick]
        for _ in range(steps):
            chance = self.random.random()
            if chance < 0.02:
                self.restart()
            else:
                self.random.choice(rare if chance < 0.2 else frequent)()
        self.rest()

    def rest(self) -> None:
        """
        All links are made again, and whatever is under way arrives.
        """
        for _ in range(6):
            self.world.connect_all()
            self.world.settle(rounds=1)

    def check(self) -> None:
        replicas = list(self.world.replicas.values())
        assert {replica.status.refuses() for replica in replicas} == {None}
        assert len(self.world.digests()) == 1
        for replica in replicas:
            assert replica.applied == replicas[0].applied == replica.durable
            assert replica.report().lost == replicas[0].report().lost
            for tenant in "abc":
                owned = sum(owner == tenant for _, owner in self.model.values())
                end = self.world.coordinator(replica.node)
                self.world.say(end, messages.Count(1, [tenant], replicas[0].applied))
                self.world.turn()
                [answer] = _answers(end)
                assert isinstance(answer, messages.Counted)
                assert (answer.counts, answer.complete) == ([owned], True)
            for item, (stamp, owner) in self.model.items():
                entry = replica.ledger.get(item)
                assert entry is not None
                assert (entry.stamp, entry.tenant) == (stamp, owner)


@given(seed=st.integers(0, 2**32), nodes=st.integers(2, 4), log=st.sampled_from([300, 1_500, 10**6]))
def test_at_rest_all_replicas_hold_the_same(seed: int, nodes: int, log: int) -> None:
    chaos = Chaos(seed, nodes, log)
    chaos.run(150)
    chaos.check()
