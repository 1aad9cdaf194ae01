"""
What a node does when its disk fails, and what it knows when it starts again.
"""

from collections.abc import Collection, Iterable, Sequence
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import Raw

from dcounter.errors import CorruptJournal, NewerJournal
from dcounter.journal.framing import JournalEntry
from dcounter.ledger.ledger import Ledger
from dcounter.limits import Limits
from dcounter.node.effects import Append, Effect, Send, Snapshot, StopFollowing, StreamReady
from dcounter.node.replica import Replica
from dcounter.protocol import codec, copies, messages
from dcounter.protocol.handshake import Peer
from dcounter.protocol.messages import Record, Report, Stored
from dcounter.protocol.position import NodePosition, Opening, Position
from tests.support.replicas import End, Replicas, appended, limits, restore
from tests.support.replicas import entry as kept

FULL = "No space left on device"


class ReplicasOnDisks(Replicas):
    """
    A world whose nodes have disks: they fail, are mended, take snapshots, and nodes start from them again.

    :ivar broken: nodes whose disk fails.
    :ivar told: those of them that know it, because they wrote something.
    :ivar promised: node -> origin and run -> the highest number it ever said to be durable.
    :ivar wanted: nodes that asked for a snapshot.
    """

    def __init__(self, nodes: int = 3, *, limits: Limits | None = None) -> None:
        self.broken: set[int] = set()
        self.told: set[int] = set()
        self.promised: dict[int, dict[tuple[int, int], int]] = {}
        self.wanted: list[int] = []
        super().__init__(nodes, limits=limits)
        self.connect_all()
        self.settle()

    def perform(self, node: int, effects: Collection[Effect]) -> None:
        super().perform(
            node, [effect for effect in effects if not isinstance(effect, Snapshot | StopFollowing)]
        )
        self.wanted += [node for effect in effects if isinstance(effect, Snapshot)]
        assert node not in self.told or not any(isinstance(effect, Append) for effect in effects)
        promised = self.promised.setdefault(node, {})
        for origin, run, number in self.replicas[node].durable.entries():
            promised[origin, run] = max(number, promised.get((origin, run), 0))

    def fail(self, node: int) -> None:
        lines, self.unsynced[node] = self.unsynced[node], []
        self.broken.add(node)
        if lines:
            effects = self.replicas[node].failed(lines, FULL)
            self.told.add(node)
            self.perform(node, effects)

    def turn(self, *, but: Collection[int] = ()) -> bool:
        busy = super().turn(but={*but, *self.broken})
        for node in sorted(self.broken & self.replicas.keys()):
            if self.unsynced[node]:
                self.fail(node)
                busy = True
        return busy

    def mend(self, node: int) -> None:
        self.broken.discard(node)
        if node in self.told:
            self.told.discard(node)
            self.perform(node, self.replicas[node].mended())

    def snapshot(self, node: int, *, between: int = 0) -> bool:
        """
        Take a snapshot; whether it was kept.

        :param between: how often everything else goes on meanwhile.
        """
        replica = self.replicas[node]
        covered = len(self.journals[node])
        lines = []
        for line in replica.copies.snapshot():
            lines.append(line)
            if between:
                between -= 1
                self.turn()
        if (
            self.replicas.get(node) is not replica
            or node in self.broken
            or not replica.copies.snapshot_ready()
        ):
            return False
        self.journals[node] = lines + self.journals[node][covered:]
        self.perform(node, replica.snapshot_kept())
        return True

    def restart(self, node: int, *, faithful: bool = True) -> Replica:
        """
        A node dies, and starts again with what its journal kept.

        :param faithful: whether that is all that was durable.
        """
        journal = self.journals[node]
        self.stop(node)
        self.broken.discard(node)
        self.told.discard(node)
        replica = self.start(node)
        restore(replica, journal)
        self.journals[node] = journal
        for (origin, run), number in self.promised[node].items():
            assert replica.applied.number(origin, run) >= number or not faithful
        self.perform(node, replica.listening(8090 + node))
        self.connect_all()
        return replica


@pytest.fixture
def world() -> ReplicasOnDisks:
    return ReplicasOnDisks()


def _answer(end: End, request: int) -> Stored:
    answers = [each for each in end.received if isinstance(each, Stored) and each.request == request]
    assert len(answers) == 1
    return answers[0]


def _restored(world: ReplicasOnDisks, node: int) -> Replica:
    """
    A replica that only has the journal of a node.
    """
    replica = Replica(node, world.members, wall=lambda: world.wall, limits=world.limits)
    restore(replica, world.journals[node])
    return replica


def _openings(replica: Replica, node: int) -> Sequence[Opening]:
    return replica.report().openings.get(node, [])


# Starting again


def test_a_node_that_starts_again_is_as_it_was(world: ReplicasOnDisks) -> None:
    for node in world.members:
        caller = world.coordinator(node)
        world.store(caller, node, 10 + node, base=1_000 * node + 1)
        world.store(caller, 1, tenant=f"u{node}", base=1_000 * node + 500)
        world.settle()
    for node, replica in world.replicas.items():
        restored = _restored(world, node)
        assert restored.ledger.digest() == replica.ledger.digest()
        assert restored.ledger.count("u2") == 1
        assert restored.applied == restored.durable == replica.applied
        assert restored.report().stamp == replica.report().stamp
        assert restored.report().openings == replica.report().openings
        assert restored.status.refuses() is None
        assert restored.run == 0


def test_it_opens_a_run_that_says_where_the_last_one_ended(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    world.store(caller, 1)
    world.store(caller, 2)
    world.settle()
    old = world.replicas[0].run
    replica = world.restart(0)
    caller = world.coordinator(0)
    request = world.store(caller, 3)
    world.settle()

    assert replica.run > old
    assert _openings(replica, 0)[-1] == Opening(replica.run, old, 2, False)
    assert _answer(caller, request).number == 1
    assert len(world.digests()) == 1


def test_what_was_not_synced_is_not_missed(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    world.store(caller, 1)
    world.settle()
    old = world.replicas[0].run
    world.store(caller, 2)
    replica = world.restart(0)
    assert replica.ledger.get(2) is None
    world.store(world.coordinator(0), 3)
    world.settle()
    assert _openings(replica, 0)[-1] == Opening(replica.run, old, 1, False)
    assert world.digests() == {replica.ledger.digest()}


def test_a_node_that_starts_again_serves_its_log(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    world.store(caller, 1)
    # Durable at node 0, and nobody else has it.
    world.sync(0)
    assert world.replicas[1].ledger.get(1) is None
    world.restart(0)
    world.settle()
    assert world.replicas[1].ledger.get(1) is not None
    assert len(world.digests()) == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "this version cannot read a line"),
        (b"{}", "this version cannot read a line"),
        (b'{"type":"tenant_limit","tenant":"t","limit":5}', "cannot read a line: .*'tenant_limit'"),
        (codec.encode(messages.Beat(3)), "not a line of a journal: .*beat"),
    ],
)
def test_a_line_that_this_version_does_not_know_is_no_damage(
    world: ReplicasOnDisks, line: bytes, why: str
) -> None:
    with pytest.raises(NewerJournal, match=why):
        world.replicas[0].restoring.restore(JournalEntry(line))


def test_a_hole_in_our_own_run_is_corruption(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    for item in (1, 2, 3):
        world.store(caller, item)
    world.settle()
    del world.journals[0][1]
    with pytest.raises(CorruptJournal, match=f"number 2 of our own run {world.replicas[0].run} is missing"):
        _restored(world, 0)


def test_a_hole_in_the_run_of_another_is_fetched_again(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    for item in (1, 2, 3):
        world.store(caller, item)
    world.settle()
    del world.journals[1][1]
    replica = world.restart(1, faithful=False)
    assert [replica.ledger.get(item) is None for item in (1, 2, 3)] == [False, True, True]
    assert replica.durable.number(0, world.replicas[0].run) == 1
    world.settle()
    assert replica.ledger.get(3) is not None
    assert len(world.digests()) == 1
    assert _restored(world, 1).applied == replica.applied


def test_a_line_that_stands_there_twice_is_taken_once(world: ReplicasOnDisks) -> None:
    world.store(world.coordinator(0), 1)
    world.settle()
    world.journals[0] *= 2
    assert _restored(world, 0).applied == world.replicas[0].applied


# A disk that fails


def test_our_own_batches_that_failed_are_refused_and_gone(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    world.store(caller, 1)
    world.settle()
    old = world.replicas[0].run
    replica = world.replicas[0]
    before = replica.applied
    first, second = world.store(caller, 2), world.store(caller, 3)
    world.fail(0)
    world.settle()

    for request in (first, second):
        answer = _answer(caller, request)
        assert (answer.run, answer.number) == (0, 0)
        assert answer.refused == {0: f"the disk failed: {FULL}"}
    assert replica.applied == replica.durable == before
    assert [each.ledger.get(2) for each in world.replicas.values()] == [None] * 3
    assert replica.status.refuses() == f"the disk failed: {FULL}"

    request = world.store(caller, 4)
    world.settle()
    assert _answer(caller, request).refused == {0: f"the disk failed: {FULL}"}

    world.mend(0)
    assert replica.status.refuses() is None
    request = world.store(caller, 5)
    world.settle()
    assert _answer(caller, request).number == 1
    assert replica.run > old
    assert _openings(replica, 0)[-1] == Opening(replica.run, old, 1, False)
    assert {each.ledger.count("t") for each in world.replicas.values()} == {2}
    assert _restored(world, 0).ledger.digest() == replica.ledger.digest()


def test_a_run_that_failed_before_its_first_batch_was_durable_is_no_run(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    world.store(caller, 1)
    assert _openings(world.replicas[0], 0) == []
    world.fail(0)
    world.mend(0)
    assert _openings(world.replicas[0], 0) == []
    world.store(caller, 2)
    world.settle()
    replica = world.replicas[0]
    assert _openings(replica, 0)[-1] == Opening(replica.run, 0, 0, False)
    assert replica.applied.of(0).runs == {replica.run: 1}
    assert len(world.digests()) == 1


def test_a_caller_that_left_is_not_answered(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    world.store(caller, 1)
    world.break_off(caller)
    world.fail(0)
    assert world.replicas[0].status.refuses() is not None


def test_what_others_stored_is_counted_and_journalled_later(world: ReplicasOnDisks) -> None:
    world.store(world.coordinator(1), 1)
    world.settle()
    replica = world.replicas[0]
    # One batch is under way to the disk, another one comes when it has failed.
    world.store(world.coordinator(1), 2)
    world.settle(but=[0])
    world.fail(0)
    world.store(world.coordinator(1), 3)
    world.settle()

    run = world.replicas[1].run
    assert replica.ledger.count("t") == 3
    assert (replica.applied.number(1, run), replica.durable.number(1, run)) == (3, 1)
    assert _restored(world, 0).ledger.count("t") == 1
    asker = world.coordinator(0)
    world.say(asker, messages.Await(7, replica.applied, 0))
    world.settle()
    assert [each.reached for each in asker.received if isinstance(each, messages.Awaited)] == [False]

    world.mend(0)
    assert replica.durable.number(1, run) == 1
    world.settle()
    assert replica.durable == replica.applied
    assert _restored(world, 0).applied == replica.applied
    assert not world.wanted


def test_it_tells_the_others_how_it_is(world: ReplicasOnDisks) -> None:
    world.store(world.coordinator(0), 1)
    world.fail(0)
    world.settle()
    listener = world.coordinator(0)
    world.settle()
    assert [each.refuses for each in listener.received if isinstance(each, Report)][-1] == (
        f"the disk failed: {FULL}"
    )
    world.mend(0)
    world.settle()
    assert [each.refuses for each in listener.received if isinstance(each, Report)][-1] is None


# More than memory should hold


def _flooded(batches: int = 40) -> ReplicasOnDisks:
    """
    Node 0 got more while its disk failed than it keeps.
    """
    world = ReplicasOnDisks(limits=limits(backlog_bytes=2_000))
    world.store(world.coordinator(1), 0)
    world.settle()
    world.store(world.coordinator(1), 1_000)
    world.settle(but=[0])
    world.fail(0)
    caller = world.coordinator(1)
    for item in range(1, batches):
        world.store(caller, item)
        world.settle(rounds=1)
        world.connect_all()
    assert world.replicas[0].ledger.count("t") == batches + 1
    assert not world.unsynced[0]
    return world


def test_a_flood_while_the_disk_fails_is_bounded_and_ends_in_a_snapshot() -> None:
    world = _flooded()
    replica = world.replicas[0]
    run = world.replicas[1].run
    world.mend(0)
    assert world.wanted == [0]
    assert sum(len(each.line) for each in world.unsynced[0]) <= 2_000
    durable = replica.durable
    assert durable.number(1, run) == 1

    # What comes now is journalled behind the hole: it is not durable before the snapshot is.
    world.store(world.coordinator(1), 2_000)
    world.settle()
    assert replica.durable == durable
    assert replica.copies.snapshot_ready()

    assert world.snapshot(0)
    assert replica.durable == replica.applied
    assert replica.durable.number(1, run) == 42
    restored = _restored(world, 0)
    assert restored.applied == replica.applied
    assert restored.ledger.digest() == replica.ledger.digest()


def test_lines_that_come_while_that_snapshot_is_taken_are_durable_with_it() -> None:
    world = _flooded()
    world.mend(0)
    replica = world.replicas[0]
    lines = replica.copies.snapshot()
    covered = len(world.journals[0])
    taken = [next(lines)]
    world.store(world.coordinator(1), 3_000)
    world.settle()
    taken += lines
    world.journals[0] = taken + world.journals[0][covered:]
    world.perform(0, replica.snapshot_kept())
    assert replica.durable == replica.applied
    assert _restored(world, 0).applied == replica.applied


def test_what_comes_while_that_snapshot_is_taken_is_not_durable_with_it() -> None:
    world = _flooded()
    world.mend(0)
    replica = world.replicas[0]
    world.settle()
    lines = replica.copies.snapshot()
    covered = len(world.journals[0])
    taken = [next(lines)]
    begin = replica.applied
    world.store(world.coordinator(1), 3_000)
    world.settle(but=[0])
    taken += lines
    assert replica.copies.snapshot_ready()
    world.journals[0] = taken + world.journals[0][covered:]
    world.perform(0, replica.snapshot_kept())
    assert replica.applied != begin
    assert replica.durable == begin == _restored(world, 0).applied
    world.settle()
    assert replica.durable == replica.applied


def test_a_snapshot_that_was_begun_before_does_not_hold_what_was_dropped() -> None:
    world = ReplicasOnDisks(limits=limits(backlog_bytes=600))
    caller = world.coordinator(1)
    world.store(caller, 0)
    world.settle()
    replica = world.replicas[0]
    lines = list(replica.copies.snapshot())
    begin = replica.applied
    world.broken.add(0)
    for item in range(1, 10):
        world.store(caller, item)
        world.settle(rounds=1)
    world.mend(0)
    world.journals[0] = lines
    world.perform(0, replica.snapshot_kept())
    assert replica.durable == begin
    world.settle()
    assert replica.durable == begin
    world.wanted.clear()
    world.tick(2)
    assert world.wanted == [0]
    assert world.snapshot(0)
    assert replica.durable == replica.applied


def test_what_was_dropped_is_fetched_again_after_a_crash() -> None:
    world = _flooded()
    world.mend(0)
    world.store(world.coordinator(1), 2_000)
    world.settle()
    replica = world.restart(0)
    assert replica.ledger.count("t") < 42
    world.settle()
    assert len(world.digests()) == 1
    assert replica.durable == replica.applied
    assert _restored(world, 0).applied == replica.applied


def test_a_snapshot_that_it_needs_is_asked_for_until_it_has_it() -> None:
    world = _flooded()
    world.tick()
    world.tick(5)
    assert world.wanted == []
    world.mend(0)
    world.settle()
    world.wanted.clear()
    for _ in range(4):
        world.tick(1)
    assert world.wanted == [0] * 4
    world.wanted.clear()
    for _ in range(4):
        world.tick(0.2)
    assert world.wanted == []
    world.fail(0)
    world.mend(0)
    assert world.snapshot(0)
    world.tick(5)
    assert world.wanted == []


def test_nothing_restored_is_durable_when_the_disk_cannot_say_so(world: ReplicasOnDisks) -> None:
    world.store(world.coordinator(0), 1)
    world.settle()
    journal = world.journals[0]
    world.stop(0)
    replica = world.start(0)
    restore(replica, journal)
    world.broken.add(0)
    world.told.add(0)
    world.perform(0, [*replica.doubted(), *replica.failed([], FULL)])
    assert replica.applied == world.replicas[1].applied
    assert replica.durable == Position()
    assert replica.status.refuses() == f"the disk failed: {FULL}"
    world.connect_all()
    world.settle()
    assert replica.durable == Position()

    world.mend(0)
    assert world.wanted == [0]
    world.settle()
    assert world.snapshot(0)
    assert replica.durable == replica.applied
    assert world.journals[0] != journal
    assert _restored(world, 0).applied == replica.applied


# Snapshots


def test_a_snapshot_and_the_log_behind_it_give_the_same_node(world: ReplicasOnDisks) -> None:
    caller = world.coordinator(0)
    for item in range(5):
        world.store(caller, item)
    world.settle()
    assert world.snapshot(0)
    assert len(world.journals[0]) == 3
    world.store(caller, 6)
    world.settle()
    replica, restored = world.replicas[0], _restored(world, 0)
    assert restored.ledger.digest() == replica.ledger.digest()
    assert restored.applied == restored.durable == replica.applied
    assert restored.report().openings == replica.report().openings
    assert restored.report().stamp == replica.report().stamp


def test_a_snapshot_is_ready_when_the_journal_reaches_its_end(world: ReplicasOnDisks) -> None:
    replica = world.replicas[0]
    caller = world.coordinator(1)
    world.store(caller, 1)
    world.settle()
    lines = replica.copies.snapshot()
    next(lines)
    assert not replica.copies.snapshot_ready()
    # Another node's batch, applied and in the copy, but not in the journal yet.
    world.store(caller, 2)
    world.settle(but=[0])
    # The first chunk was made with the beginning, so there is another one for that batch, and the end.
    assert len(list(lines)) == 3
    assert not replica.copies.snapshot_ready()
    world.sync(0)
    assert replica.copies.snapshot_ready()


def test_a_snapshot_that_never_ended_is_not_ready(world: ReplicasOnDisks) -> None:
    assert len(list(world.replicas[0].copies.snapshot())) == 2
    assert world.replicas[0].copies.snapshot_ready()
    next(world.replicas[0].copies.snapshot())
    assert not world.replicas[0].copies.snapshot_ready()


def test_a_snapshot_knows_who_was_removed(world: ReplicasOnDisks) -> None:
    asker = world.coordinator(0)
    world.say(asker, messages.Remove(5, 2))
    world.settle()
    assert world.snapshot(0)
    restored = _restored(world, 0)
    assert restored.members.removed == {2}
    assert restored.report().removed == [2]


def _copying(
    limits: Limits | None = None,
) -> tuple[ReplicasOnDisks, End, list[copies.CopyBegin | copies.CopyChunk | copies.CopyEnd]]:
    """
    Node 0 is about to load a copy, whose lines are given.
    """
    world = ReplicasOnDisks(2, limits=limits)
    world.store(world.coordinator(0), 1)
    world.settle()
    link = world.between(0, 1)[0]
    run = 5
    ledger = Ledger()
    ledger.merge([7, 8], [70, 80], ["c", "c"])
    position = Position().advance(1, run, 9)
    chunks = [copies.CopyChunk.of(chunk.packed(), position) for chunk in ledger.chunks(1)]
    world.hear(link, messages.Gap(1))
    return world, link, [copies.CopyBegin(position, {}, []), *chunks, copies.CopyEnd(position, 99)]


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("waiting", range(5))
def test_a_snapshot_may_be_taken_while_a_copy_is_loaded(place: int, waiting: int) -> None:
    world, link, copy = _copying()
    for message in copy[:place]:
        world.hear(link, message)
    world.sync(0, max(0, place - waiting))
    replica = world.replicas[0]
    covered = len(world.journals[0])
    lines = list(replica.copies.snapshot())
    for message in copy[place:]:
        world.hear(link, message)
    world.sync(0)
    assert replica.copies.snapshot_ready()
    world.journals[0] = lines + world.journals[0][covered:]
    world.perform(0, replica.snapshot_kept())

    restored = _restored(world, 0)
    assert restored.durable == replica.durable == replica.applied
    assert restored.ledger.digest() == replica.ledger.digest()
    assert restored.ledger.count("c") == 2


def test_a_copy_of_which_parts_were_dropped_does_not_count_after_a_crash() -> None:
    world, link, copy = _copying(limits(backlog_bytes=200))
    begin, *chunks, end = copy
    world.hear(link, begin)
    world.sync(0)
    before = world.replicas[0].durable
    world.broken.add(0)
    for chunk in chunks:
        world.hear(link, chunk)
        world.fail(0)
    for _ in range(3):
        world.hear(link, chunks[0])
    world.mend(0)
    assert world.wanted == [0]
    world.hear(link, end)
    world.sync(0)
    # All of it was applied; what is missing in the journal is not durable.
    assert isinstance(begin, copies.CopyBegin)
    assert world.replicas[0].applied.covers(begin.position)
    assert world.replicas[0].durable == before
    assert not _restored(world, 0).applied.covers(begin.position)

    assert world.snapshot(0)
    assert world.replicas[0].durable.covers(begin.position)
    assert _restored(world, 0).applied == world.replicas[0].applied


def test_a_copy_that_broke_off_and_came_another_way_leaves_nothing_behind() -> None:
    world = ReplicasOnDisks(2)
    world.connect_all()
    world.store(world.coordinator(1), 1)
    world.settle()
    # Only its beginning was journalled; all that it would have brought is here already.
    world.journals[0].append(codec.encode(copies.CopyBegin(Position(), {}, [])))
    replica = world.restart(0)
    assert copies.CopyBegin in _types(replica.copies.snapshot())
    world.settle()
    assert copies.CopyBegin not in _types(replica.copies.snapshot())
    assert world.snapshot(0)
    assert _restored(world, 0).ledger.digest() == replica.ledger.digest()


def _types(lines: Iterable[bytes]) -> list[type[messages.Message]]:
    """
    What a snapshot has behind its end.
    """
    found = [type(codec.decode(line)) for line in lines]
    return found[found.index(copies.CopyEnd) + 1 :]


def test_a_copy_whose_end_alone_was_kept_does_not_count_after_a_crash() -> None:
    world, link, copy = _copying(limits(backlog_bytes=200))
    begin = copy[0]
    assert isinstance(begin, copies.CopyBegin)
    replica = world.replicas[0]
    for message in copy:
        world.hear(link, message)
    # Its beginning is durable; then the disk fails, and there is no room for the chunks.
    world.sync(0, 1)
    world.fail(0)
    world.mend(0)
    world.sync(0)
    assert replica.applied.covers(begin.position)
    assert not replica.durable.covers(begin.position)
    assert not _restored(world, 0).applied.covers(begin.position)
    assert world.snapshot(0)
    assert replica.durable.covers(begin.position)
    assert _restored(world, 0).applied == replica.applied


# All of it, at random


def _acknowledged(end: End, request: int) -> bool:
    return any(
        isinstance(each, Stored) and each.request == request and not each.refused for each in end.received
    )


@pytest.mark.parametrize("seed", range(60))
def test_what_was_said_to_be_durable_is_there_whatever_happens(seed: int) -> None:
    random = Random(seed)
    world = ReplicasOnDisks(
        limits=limits(backlog_bytes=random.choice((600, 2_000, 10**6)), chunk_rows=3, stream_bytes=200)
    )
    nodes = list(world.members)
    stamp = 1_000
    stored: dict[int, tuple[End, int]] = {}
    for _ in range(120):
        node = random.choice(nodes)
        match random.randrange(12):
            case 0 | 1 | 2 | 3:
                caller = world.coordinator(node)
                for _ in range(random.randint(1, 5)):
                    stamp += 1
                    request = world.store(caller, stamp % 50, tenant=random.choice("ab"), base=stamp)
                    stored[request] = (caller, stamp)
            case 4 | 5:
                for _ in range(random.randint(1, 10)):
                    world.turn(but=[node] if random.random() < 0.5 else [])
            case 6:
                world.settle(rounds=1)
            case 7:
                world.fail(node)
            case 8:
                if node in world.broken:
                    world.mend(node)
            case 9:
                if node not in world.broken:
                    world.snapshot(node, between=random.choice((0, 0, 5)))
            case 10:
                world.restart(node)
            case _:
                world.part(*random.sample(nodes, 2))
        if random.random() < 0.3:
            world.connect_all()
    for node in sorted(world.broken):
        world.mend(node)
    world.connect_all()
    for _ in range(5):
        world.settle()
        for node in nodes:
            world.snapshot(node)
    assert len(world.digests()) == 1
    acknowledged = [stamp for request, (end, stamp) in stored.items() if _acknowledged(end, request)]
    assert acknowledged
    for stamp in acknowledged:
        entry = world.replicas[0].ledger.get(stamp % 50)
        assert entry is not None
        assert entry.stamp >= stamp
    for node, replica in world.replicas.items():
        assert replica.durable == replica.applied == world.replicas[0].applied
        restored = _restored(world, node)
        assert restored.applied == replica.applied
        assert restored.ledger.digest() == replica.ledger.digest()


def test_a_record_is_written_as_it_came(world: ReplicasOnDisks) -> None:
    world.store(world.coordinator(0), 1)
    world.settle()
    appended = [each for each in world.trace[1] if isinstance(each, Append)]
    message = codec.decode(appended[0].entry.line)
    assert isinstance(message, Record)
    assert (message.node, message.run, message.number) == (0, world.replicas[0].run, 1)
    entry = appended[0].entry
    assert (entry.node, entry.run, entry.number) == (0, world.replicas[0].run, 1)
    assert isinstance(message.batch, Raw)
    assert [entry.line] == world.journals[1] == world.journals[0]


class TestLoading:
    """
    Between `restore` and `loaded` a node knows what it has, and its ledger does not hold it yet.
    """

    def _loading(self, world: ReplicasOnDisks, node: int = 0) -> tuple[Replica, list[bytes]]:
        """
        A node that starts again, and what it has yet to load.
        """
        journal = world.journals[node]
        world.stop(node)
        replica = world.start(node)
        world.journals[node] = journal
        for line in journal:
            if not codec.is_chunk(line):
                replica.restoring.restore(kept(line))
        world.connect_all()
        return replica, [line for line in journal if codec.is_chunk(line) or kept(line).number]

    def _load(self, world: ReplicasOnDisks, replica: Replica, lines: Sequence[bytes]) -> None:
        for line in lines:
            replica.restoring.load(kept(line))
        world.perform(replica.node, replica.loaded())
        world.settle()

    def _told(self, end: End) -> list[tuple[list[int], bool]]:
        return [(each.counts, each.complete) for each in end.received if isinstance(each, messages.Counted)]

    @pytest.mark.parametrize("snapshot", [False, True])
    def test_positions_are_known_and_nothing_is_counted(self, world: ReplicasOnDisks, snapshot: bool) -> None:
        caller = world.coordinator(0)
        for item in range(4):
            world.store(caller, item, base=item + 1)
        world.settle()
        before = world.replicas[0]
        if snapshot:
            world.snapshot(0)
        replica, rest = self._loading(world)
        assert replica.contents.loading
        assert replica.report().loading
        assert (replica.applied, replica.durable) == (before.applied, before.applied)
        assert (replica.report().stamp, len(replica.ledger), replica.status.refuses()) == (
            before.report().stamp,
            0,
            None,
        )

        asker = world.coordinator(0)
        world.say(asker, messages.Count(1, ["t"]))
        world.say(asker, messages.Count(2, ["t"], replica.applied, 60_000))
        world.say(asker, messages.Await(3, replica.durable, 0))
        # What comes meanwhile counts at once.
        world.store(world.coordinator(0), 2, 9, tenant="u", base=100)
        world.settle()
        assert self._told(asker) == [([0], False)]
        assert messages.Awaited(3, True, before.durable, before.report().stamp) in asker.received
        self._load(world, replica, rest[::-1])
        assert self._told(asker) == [([0], False), ([3], True)]
        assert not replica.report().loading
        assert len(world.digests()) == 1

    def test_a_copy_is_given_when_all_is_loaded(self, world: ReplicasOnDisks) -> None:
        world.store(world.coordinator(0), *range(5))
        world.settle()
        replica, rest = self._loading(world)
        follower = world.connect(1, 0)
        world.say(follower, copies.Copy())
        world.settle()
        for line in rest:
            replica.restoring.load(kept(line))
        effects = replica.loaded()
        assert follower.other is not None
        assert StreamReady(follower.other.channel) in effects
        [begin] = replica.stream(follower.other.channel)
        [chunk] = replica.stream(follower.other.channel)
        assert isinstance(codec.decode(begin), copies.CopyBegin)
        assert codec.is_chunk(chunk)

    def test_nobody_asks_one_that_loads_for_a_copy(self) -> None:
        world = ReplicasOnDisks(2, limits=limits(backlog_bytes=300))
        caller = world.coordinator(0)
        for item in range(20):
            world.store(caller, item, base=item + 1)
            world.settle()
        replica, rest = self._loading(world, 0)
        world.stop(1)
        wiped = world.start(1)
        world.connect_all()
        world.settle()
        assert len(wiped.ledger) == 0
        assert not any(isinstance(each, Send) and b'"copy"' in each.line for each in world.trace[1])
        self._load(world, replica, rest)
        world.settle()
        assert wiped.ledger.digest() == replica.ledger.digest()
        assert len(wiped.ledger) == 20

    def test_no_snapshot_is_wanted_before_all_is_loaded(self, world: ReplicasOnDisks) -> None:
        world.store(world.coordinator(0), 1)
        world.settle()
        replica, rest = self._loading(world)
        world.perform(0, [*replica.doubted(), *replica.failed([], FULL)])
        world.perform(0, replica.mended())
        world.settle()
        assert world.wanted == []
        assert replica.durable == Position()
        self._load(world, replica, rest)
        assert set(world.wanted) == {0}
        assert world.snapshot(0)
        assert replica.durable == replica.applied

    def test_what_came_behind_a_hole_is_not_loaded_but_fetched(self, world: ReplicasOnDisks) -> None:
        caller = world.coordinator(0)
        for item in (1, 2, 3):
            world.store(caller, item)
        world.settle()
        del world.journals[1][1]
        replica, rest = self._loading(world, 1)
        assert len(rest) == 2
        for line in rest:
            replica.restoring.load(kept(line))
        assert [replica.ledger.get(item) is None for item in (1, 2, 3)] == [False, True, True]
        self._load(world, replica, [])
        assert len(world.digests()) == 1

    def test_an_unfinished_copy_is_loaded_too(self) -> None:
        world = ReplicasOnDisks(2)
        chunk = copies.CopyChunk.of(
            (np.array([5]), np.array([9]), np.array([0], np.int32), ["t"]), Position()
        )
        begin = copies.CopyBegin(Position(), {}, [], 1)
        world.journals[0] = [codec.encode(begin), codec.encode(chunk)]
        replica, rest = self._loading(world)
        assert replica.contents.loading
        self._load(world, replica, rest)
        assert replica.ledger.get(5) is not None

    @pytest.mark.parametrize("line", [b"{}", codec.encode(messages.Beat(3)), b'{"type":"record"}'])
    def test_what_this_version_does_not_know_of_a_ledger_is_no_damage(
        self, world: ReplicasOnDisks, line: bytes
    ) -> None:
        with pytest.raises(NewerJournal, match="this version"):
            world.replicas[0].restoring.load(JournalEntry(line))

    def test_a_record_without_a_stamp_is_no_damage(self, world: ReplicasOnDisks) -> None:
        with pytest.raises(NewerJournal, match="this version cannot read a line: not a record"):
            world.replicas[0].restoring.restore(JournalEntry(b'{"type":"record"}', 1, 7, 1))


class TestJournalState:
    """
    A node knows that it was wiped, also when it dies again before it has opened a run.
    """

    def _report(self, **more: Any) -> messages.Report:
        held = Position({0: NodePosition(0, {7: 3})})
        return messages.Report(1, 8091, 0, 0, held, held, 99, 0, 0, **more)

    def _node(self, lines: list[bytes]) -> tuple[Replica, list[bytes]]:
        replica = Replica(0, [0, 1, 2], wall=lambda: 100, limits=Limits())
        restore(replica, lines)
        begun = appended(replica.begin())
        replica.synced(begun)
        return replica, [*lines, *(line.line for line in begun)]

    def _hear(self, replica: Replica, kept: list[bytes], peer: int) -> None:
        replica.connected(peer, Peer("node", peer), calls=True, now=0)
        report = msgspec.structs.replace(self._report(), node=peer)
        effects = replica.receive(peer, report, codec.encode(report), 0)
        lines = appended(effects)
        replica.synced(lines)
        kept.extend(line.line for line in lines)

    def test_it_waits_for_all_members_again(self) -> None:
        replica, kept = self._node([])
        self._hear(replica, kept, 1)
        record = messages.Record(0, 7, 1, 5, Raw(b'{"slices":[1],"ids":[1],"tenants":["t"],"bases":[5]}'))
        replica.receive(1, record, codec.encode(record), 0)
        again, _ = self._node([*kept, codec.encode(record)])
        assert again.applied.number(0, 7) == 1
        assert again.status.refuses() == "the node starts empty and has not heard from nodes [1, 2]"

    def test_it_says_so_when_it_opens_a_run_at_last(self) -> None:
        replica, kept = self._node([])
        self._hear(replica, kept, 1)
        self._hear(replica, kept, 2)
        again, kept = self._node(kept)
        assert again.status.refuses() is None
        self._hear(again, kept, 1)
        batch = Raw(b'{"slices":[1],"ids":[2],"tenants":["t"],"bases":[9]}')
        [append] = [e for e in self._stored(again, batch) if isinstance(e, Append)]
        opened = codec.decode(append.entry.line)
        assert isinstance(opened, messages.Record)
        assert opened.opening == Opening(opened.run, 7, 3, wiped=True)
        # And only once: what it takes from now on is its own.
        kept += [append.entry.line]
        kept += [line.line for line in appended(again.synced(appended([append])))]
        third, _ = self._node(kept)
        [append] = [e for e in self._stored(third, batch) if isinstance(e, Append)]
        reopened = codec.decode(append.entry.line)
        assert isinstance(reopened, messages.Record)
        assert reopened.opening is not None
        assert (reopened.opening.previous, reopened.opening.wiped) == (opened.run, False)

    def _stored(self, replica: Replica, batch: Raw) -> list[Any]:
        replica.connected(9, Peer("coordinator", None), calls=False, now=0)
        request = messages.Store(1, batch)
        return list(replica.receive(9, request, codec.encode(request), 0))

    def test_a_new_cluster_is_not_wiped(self) -> None:
        replica, kept = self._node([])
        for peer in (1, 2):
            replica.connected(peer, Peer("node", peer), calls=True, now=0)
            empty = messages.Report(peer, 8090, 0, 0, Position(), Position(), 0, 0, 0)
            effects = replica.receive(peer, empty, codec.encode(empty), 0)
            kept += [e.entry.line for e in effects if isinstance(e, Append)]
        again, _ = self._node(kept)
        assert again.status.refuses() is None
        [append] = [
            e
            for e in self._stored(again, Raw(b'{"slices":[1],"ids":[2],"tenants":["t"],"bases":[9]}'))
            if isinstance(e, Append)
        ]
        opened = codec.decode(append.entry.line)
        assert isinstance(opened, messages.Record)
        assert opened.opening is not None
        assert not opened.opening.wiped
