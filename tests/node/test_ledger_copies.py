from dataclasses import replace

import pytest

from dcounter.limits import Limits
from dcounter.node.effects import StreamReady
from dcounter.node.ledger_copies import LedgerCopies
from dcounter.protocol import codec, messages
from dcounter.protocol.copies import CopyBegin, CopyChunk, CopyEnd
from dcounter.protocol.messages import Remove
from tests.support.machines import Machines, has


class Giving(Machines):
    """
    Node 0 with four items, of which two go into each chunk.
    """

    def __init__(self) -> None:
        super().__init__(replace(Limits(), chunk_rows=2))
        self.all = LedgerCopies(
            self.out,
            self.contents,
            self.durability,
            self.members,
            self.empty_journal,
            self.catch_up,
            self.limits,
        )
        self.contents.ledger.merge([1, 2, 3, 4], [1, 2, 3, 4], ["t"] * 4)
        self.contents.applied = has((0, 5, 1))
        self.durability.restored(self.contents.applied)

    def lines(self, channel: int) -> list[messages.JournalLine]:
        found = []
        while (line := self.all.next_line(channel)) is not None:
            found.append(codec.decode_kept(line))
        return found

    def snapshot(self) -> list[messages.JournalLine]:
        return [codec.decode_kept(line) for line in self.all.snapshot()]


@pytest.fixture
def node() -> Giving:
    return Giving()


def names(lines: list[messages.JournalLine]) -> list[str]:
    return [type(line).__name__ for line in lines]


WHOLE = ["CopyBegin", "CopyChunk", "CopyChunk", "CopyEnd"]


def test_a_copy_has_a_beginning_chunks_and_an_end(node: Giving) -> None:
    node.all.asked(1)
    assert node.effects() == [StreamReady(1)]
    lines = node.lines(1)
    assert names(lines) == WHOLE
    assert lines[0] == CopyBegin(node.contents.applied, {}, [], 4)
    assert node.all.next_line(1) is None
    assert node.all.next_line(2) is None


def test_what_comes_meanwhile_is_within_what_the_copy_names(node: Giving) -> None:
    node.all.asked(1)
    assert node.all.next_line(1) is not None
    node.contents.applied = has((0, 5, 2))
    # What a copy brought to this node may be in its ledger before it is applied.
    node.catch_up.reach(has((1, 6, 3)))
    for line in node.lines(1):
        assert isinstance(line, CopyChunk | CopyEnd)
        assert line.position == has((0, 5, 2), (1, 6, 3))


def test_who_asks_again_gets_another_one_from_its_beginning(node: Giving) -> None:
    node.all.asked(1)
    assert node.all.next_line(1) is not None
    node.all.asked(1)
    assert names(node.lines(1)) == WHOLE


@pytest.mark.parametrize("why", ["loading", "in doubt"])
def test_while_the_ledger_is_unfinished_followers_wait(node: Giving, why: str) -> None:
    if why == "loading":
        node.contents.loading = True
    else:
        node.durability.doubted(node.contents.applied)
    for channel in (3, 1, 2):
        node.all.asked(channel)
    node.all.disconnected(2)
    node.all.give_waiting()
    assert node.effects() == []
    assert node.all.next_line(1) is None
    node.contents.loading = False
    node.durability.settle_doubt(lambda mine: mine, node.contents.applied)
    node.all.give_waiting()
    node.all.give_waiting()
    assert node.effects() == [StreamReady(1), StreamReady(3)]
    assert names(node.lines(3)) == WHOLE


def test_a_copy_ends_with_its_connection(node: Giving) -> None:
    node.all.asked(1)
    node.all.disconnected(1)
    assert node.all.next_line(1) is None


def test_a_snapshot_has_what_the_journal_before_it_had(node: Giving) -> None:
    assert names(node.snapshot()) == WHOLE
    node.empty_journal.begin()
    node.members.remove(2)
    node.catch_up.restored_begin(CopyBegin(has((1, 6, 3)), {}, []))
    lines = node.snapshot()
    assert names(lines) == ["JournalState", *WHOLE, "Remove", "CopyBegin"]
    assert lines[-2] == Remove(0, 2)
    assert lines[-1] == CopyBegin(has((1, 6, 3)), {}, [])


def test_a_snapshot_is_ready_when_the_log_reaches_to_its_end(node: Giving) -> None:
    lines = node.all.snapshot()
    next(lines)
    node.contents.applied = has((0, 5, 2))
    assert len(list(lines)) == len(WHOLE) - 1
    assert not node.all.snapshot_ready()
    node.durability.restored(has((0, 5, 2)))
    assert node.all.snapshot_ready()
