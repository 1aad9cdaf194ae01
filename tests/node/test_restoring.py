import pytest
from msgspec import Raw

from dcounter.errors import CorruptJournal, NewerJournal
from dcounter.journal.framing import JournalEntry
from dcounter.node.restoring import Restoring
from dcounter.protocol import codec, messages
from dcounter.protocol.copies import CopyBegin, CopyChunk, CopyEnd
from dcounter.protocol.messages import JournalState, Record, Remove
from dcounter.protocol.position import Opening
from tests.support.machines import Machines, has
from tests.support.replicas import entry, store

OPENING = Opening(5, 0, 0, wiped=False)
BEGIN, END = CopyBegin(has((2, 7, 4)), {2: [Opening(7, 0, 0, wiped=False)]}, []), CopyEnd(has((2, 7, 5)), 99)


def record(node: int, number: int, item: int = 1, *, base: int = 10) -> JournalEntry:
    batch = store(1, [item], base=base).batch
    opening = OPENING if number == 1 else None
    return entry(codec.encode(Record(node, 5, number, base, batch, opening)))


def line(message: messages.JournalLine) -> JournalEntry:
    return JournalEntry(codec.encode(message))


@pytest.fixture
def node() -> Machines:
    return Machines()


@pytest.fixture
def restoring(node: Machines) -> Restoring:
    return Restoring(0, node.contents, node.durability, node.members, node.empty_journal, node.catch_up)


def test_first_it_is_known_what_is_there_and_then_it_is_loaded(node: Machines, restoring: Restoring) -> None:
    records = [record(0, 1, 1), record(0, 2, 2, base=20), record(1, 1, 3)]
    for each in records:
        restoring.restore(each)
    assert node.contents.applied == node.durability.durable == has((0, 5, 2), (1, 5, 1))
    assert node.contents.loading
    assert node.contents.stamp == 20
    assert node.contents.runs.latest(0) == 5
    assert node.contents.backlog.read(0, 5, 1, 1) == [records[1].line]
    assert node.contents.ledger.count("t") == 0
    # In any order.
    for each in reversed(records):
        restoring.load(each)
    assert node.contents.ledger.count("t") == 3
    assert restoring.loaded()
    assert not restoring.loaded()
    assert not node.empty_journal.undecided, "a journal that holds something was not empty"


def test_a_hole_in_our_own_run_is_damage(restoring: Restoring) -> None:
    restoring.restore(record(0, 1))
    with pytest.raises(CorruptJournal, match="number 2 of our own run 5 is missing"):
        restoring.restore(record(0, 3))


def test_what_is_behind_a_hole_in_another_run_is_fetched_again(node: Machines, restoring: Restoring) -> None:
    entries = [record(1, 1, 1), record(1, 3, 3)]
    for each in entries:
        restoring.restore(each)
    for each in entries:
        restoring.load(each)
    assert node.contents.applied == has((1, 5, 1))
    assert node.contents.ledger.count("t") == 1


def test_a_whole_copy_counts_as_what_it_was_when_it_began(node: Machines, restoring: Restoring) -> None:
    for each in (BEGIN, END):
        restoring.restore(line(each))
    assert not node.catch_up.wanted
    assert node.contents.applied == node.durability.durable == BEGIN.position
    assert node.contents.stamp == 99
    assert node.contents.runs.latest(2) == 7
    assert node.catch_up.must_reach == END.position


def test_a_copy_without_its_end_is_taken_again(node: Machines, restoring: Restoring) -> None:
    node.contents.ledger.merge([1], [1], ["t"])
    [chunk] = node.contents.ledger.chunks(9)
    sent = CopyChunk.of(chunk.packed(), has((2, 7, 3)))
    restoring.restore(line(BEGIN))
    assert node.catch_up.unfinished == BEGIN
    assert node.contents.loading
    restoring.load(line(sent))
    assert node.catch_up.must_reach == has((2, 7, 3)), "parts of it are in the ledger"
    assert node.contents.applied == has()


def test_who_was_removed_stays_so(node: Machines, restoring: Restoring) -> None:
    restoring.restore(line(Remove(0, 2)))
    assert (node.members.removed, node.members.peers) == ({2}, {1})


def test_what_the_journal_says_of_itself(node: Machines, restoring: Restoring) -> None:
    restoring.restore(line(JournalState(known=True, wiped=True)))
    assert (node.empty_journal.undecided, node.empty_journal.wiped) == (False, True)


@pytest.mark.parametrize(
    "kept",
    [
        JournalEntry(b'{"type":"of a later version"}'),
        JournalEntry(b'{"type":"record"}', 0, 5, 1),
        # Of a batch the number stands beside the line, and chunks of the ledger are loaded.
        JournalEntry(codec.encode(Record(0, 5, 1, 10, Raw(b"{}")))),
        line(CopyChunk(b"", b"", b"", [], has())),
    ],
)
def test_a_line_that_means_nothing_here_is_newer(restoring: Restoring, kept: JournalEntry) -> None:
    with pytest.raises(NewerJournal):
        restoring.restore(kept)


@pytest.mark.parametrize("kept", [BEGIN, END, Remove(0, 2), JournalState(known=True, wiped=False)])
def test_only_what_fills_the_ledger_is_loaded(restoring: Restoring, kept: messages.JournalLine) -> None:
    with pytest.raises(NewerJournal, match="expects no"):
        restoring.load(line(kept))


def test_a_batch_that_is_not_what_it_must_be_is_of_a_newer_version(
    node: Machines, restoring: Restoring
) -> None:
    kept = entry(codec.encode(Record(0, 5, 1, 10, Raw(b'{"slices":"many"}'), OPENING)))
    restoring.restore(kept)
    with pytest.raises(NewerJournal, match="this version cannot read a line"):
        restoring.load(kept)
