from msgspec import Raw

from dcounter.node.backlog import Backlog
from dcounter.node.contents import Contents
from dcounter.node.runs import Runs
from dcounter.protocol.batch import Batch, encode_batch
from dcounter.protocol.copies import CopyBegin, CopyEnd
from dcounter.protocol.messages import Record
from dcounter.protocol.position import LostRun, NodePosition, Opening
from tests.support.machines import has

OPENING = Opening(5, 0, 0, wiped=False)


def contents() -> Contents:
    return Contents(Backlog(1_000), Runs(64), 0)


def apply(mine: Contents, number: int, *ids: int, packed: bool = False) -> None:
    batch = Batch([len(ids)], list(ids), ["t"] * len(ids), bases=[10 * number])
    if packed:
        batch = batch.pack()
    opening = OPENING if number == 1 else None
    record = Record(1, 5, number, batch.largest_stamp(), Raw(encode_batch(batch)), opening)
    mine.apply(record, batch, b"line %d" % number)


def test_a_batch_counts_and_can_be_handed_on() -> None:
    mine = contents()
    apply(mine, 1, 7, 8)
    apply(mine, 2, 8, 9, packed=True)
    assert mine.ledger.count("t") == 3
    assert mine.applied == has((1, 5, 2))
    assert mine.stamp == 21
    assert mine.backlog.read(1, 5, 0, 99) == [b"line 1", b"line 2"]
    assert mine.runs.latest(1) == 5


def test_the_largest_stamp_stays() -> None:
    mine = contents()
    mine.observe(1_000)
    apply(mine, 1, 7)
    mine.observe(999)
    assert mine.stamp == 1_000


def test_a_copy_is_what_it_was_when_it_began() -> None:
    mine = contents()
    apply(mine, 1, 7)
    begin = CopyBegin(has((2, 6, 3)), {2: [Opening(6, 0, 0, wiped=False)]}, [LostRun(0, 3, 1, 4)])
    mine.copied(begin, CopyEnd(has((2, 6, 9)), 50))
    assert mine.applied == has((1, 5, 1), (2, 6, 3))
    assert mine.stamp == 50
    assert mine.runs.latest(2) == 6
    assert mine.runs.lost == [LostRun(0, 3, 1, 4)]


def test_what_is_folded_is_not_handed_on_any_more() -> None:
    mine = contents()
    apply(mine, 1, 7)
    mine.fold(1, Opening(9, 5, 1, wiped=True))
    assert mine.applied.of(1) == NodePosition(9)
    assert mine.backlog.bytes == 0
    assert mine.runs.lost == [LostRun(1, 5, 1, 9)]
