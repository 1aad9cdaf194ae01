"""
What a newer version says and this one does not know: it passes through unchanged, or is refused.
"""

import json
from typing import Any

import pytest
from msgspec import Raw

from dcounter.errors import MalformedMessage, NewerJournal, UnknownNeeds
from dcounter.journal.framing import JournalEntry
from dcounter.node.durability import Own
from dcounter.node.effects import Append
from dcounter.node.replica import Replica
from dcounter.protocol import codec, copies, messages
from tests.support.replicas import Replicas, appended, entry, limits, ready, restore

# Per item a column, per batch a field; the second spelling is one of another client.
NOTED = (
    b'{"slices":[2],"ids":[1,2],"tenants":["t","u"],"bases":[1000],"notes":["x",null],"space":{"id":"eu"}}'
)
SPACED = b'{ "space":"eu", "notes":[1,2], "bases":[1000],\t"tenants":["t","u"], "ids":[1,2], "slices":[2] }'
WEIGHED = b'{"slices":[1,1],"ids":[1,2],"tenants":["t","u"],"bases":[5,7],"weights":[3,4],"needs":["weight"]}'


def _replica(members: int = 2) -> Replica:
    return Replica(1, range(members), wall=lambda: 1, limits=limits())


def _record(batch: bytes, number: int = 1, more: bytes = b"") -> bytes:
    """
    A record as a newer version writes it.
    """
    return b'{"type":"record","node":0,"run":7,"number":%d,"stamp":1001,"batch":%s%s}' % (number, batch, more)


def _hears(world: Replicas, caller: int, node: int, line: bytes) -> None:
    """
    A node hears a line on the connection that it made to another one.
    """
    [near] = world.between(caller, node)
    near.lines.append(line)
    world.deliver(near)


class TestIgnored:
    @pytest.mark.parametrize("batch", [NOTED, SPACED])
    def test_a_batch_keeps_its_bytes_in_every_journal(self, batch: bytes) -> None:
        world = ready(3)
        world.say(world.coordinator(0), messages.Store(1, Raw(batch)))
        world.settle()
        assert all(batch in b"".join(lines) for lines in world.journals.values())
        assert {replica.ledger.count("u") for replica in world.replicas.values()} == {1}

    def test_a_record_is_journalled_and_handed_on_as_it_came(self) -> None:
        world = ready(3)
        # Node 2 has no connection to node 0: what it gets of its log comes from node 1.
        world.part(0, 2)
        line = _record(NOTED, more=b',"sent":"by a newer version"')
        _hears(world, 1, 0, line)
        world.settle()
        assert world.journals[1][-1:] == world.journals[2][-1:] == [line]
        assert world.replicas[2].ledger.count("t") == 1

    def test_it_is_read_and_handed_on_after_a_start(self) -> None:
        line = _record(NOTED, more=b',"sent":"by a newer version"')
        world = Replicas(3)
        restore(world.replicas[1], [line])
        world.connect_all()
        world.settle()
        assert world.replicas[1].ledger.count("u") == 1
        assert line in world.journals[2]
        assert line in world.journals[0]

    @pytest.mark.parametrize("shuffled", [False, True])
    def test_the_lines_of_a_copy_are_journalled_as_they_came(self, *, shuffled: bool) -> None:
        world = ready(2)
        position = world.replicas[0].applied.advance(0, 7, 1)
        plain = copies.CopyChunk(b"", b"", b"", [], position)
        begin, piece, end = (
            json.dumps({**json.loads(codec.encode(each)), "more": 1}, separators=(",", ":")).encode()
            for each in (copies.CopyBegin(position, {}, []), plain, copies.CopyEnd(position, 9))
        )
        if shuffled:
            piece = json.dumps(dict(reversed(json.loads(piece).items()))).encode()
        _hears(world, 1, 0, codec.encode(messages.Gap(0)))
        for line in (begin, piece, end):
            _hears(world, 1, 0, line)
        world.sync(1)
        # A journal knows pieces by how their lines begin: one that begins otherwise is written anew.
        kept = codec.encode(plain) if shuffled else piece
        assert world.journals[1][-3:] == [begin, kept, end]
        again = _replica()
        restore(again, world.journals[1])
        assert again.applied.covers(position)


class TestRefused:
    def test_a_batch_is_refused_slice_by_slice_and_nothing_of_it_is_kept(self) -> None:
        world = ready(2)
        caller = world.coordinator(0)
        before = world.replicas[0].applied
        world.say(caller, messages.Store(1, Raw(WEIGHED)))
        world.settle()
        [answer] = [each for each in caller.received if isinstance(each, messages.Stored)]
        why = "this version of dcounter does not know what the batch needs: weight"
        assert answer == messages.Stored(1, 0, 0, answer.stamp, {0: why, 1: why})
        assert world.replicas[0].applied == before
        assert world.replicas[0].ledger.count("t") == 0

    def test_a_record_costs_the_connection_and_nothing_of_it_is_kept(self) -> None:
        world = ready(2)
        with pytest.raises(UnknownNeeds, match="needs: weight"):
            _hears(world, 1, 0, _record(WEIGHED))
        assert world.unsynced[1] == []
        assert world.replicas[1].applied.number(0, 7) == 0
        assert world.replicas[1].ledger.count("t") == 0

    def test_so_does_a_copy(self) -> None:
        world = ready(2)
        _hears(world, 1, 0, codec.encode(messages.Gap(0)))
        begin = codec.encode(copies.CopyBegin(world.replicas[0].applied, {}, []))
        with pytest.raises(MalformedMessage, match="what the copy needs: weight"):
            _hears(world, 1, 0, begin.removesuffix(b"}") + b',"needs":["weight"]}')
        assert world.unsynced[1] == []

    def test_a_journal_with_such_a_batch_is_one_of_a_newer_version(self) -> None:
        replica = _replica()
        kept = entry(_record(WEIGHED))
        # What the line says of itself can be read, so that the others can be told what there is.
        replica.restoring.restore(kept)
        with pytest.raises(NewerJournal, match="what the batch needs: weight"):
            replica.restoring.load(kept)
        assert replica.ledger.count("t") == 0

    def test_a_journal_with_such_a_copy_is_one_of_a_newer_version(self) -> None:
        line = b'{"type":"copy_begin","position":{},"openings":{},"lost":[],"needs":["weight"]}'
        with pytest.raises(NewerJournal, match="what the copy needs: weight"):
            _replica().restoring.restore(JournalEntry(line))


def test_what_this_version_writes_needs_nothing() -> None:
    world = ready(2)
    world.store(world.coordinator(0), 1)
    [own] = appended([each for each in world.trace[0] if isinstance(each, Append)])
    assert isinstance(own, Own)
    written: dict[str, Any] = json.loads(own.line)
    assert set(written["batch"]) == {"slices", "ids", "tenants", "bases"}
