import msgspec
import pytest

from dcounter.node.durability import Durability, EndOfCopy, Followed, Own, Pending, PlainLine, Removal
from dcounter.node.effects import Append, Effect, Outbox, Snapshot
from dcounter.protocol.batch import Batch
from dcounter.protocol.messages import Record
from dcounter.protocol.position import Position

_RAW = msgspec.Raw(b"{}")


def own(number: int) -> Own:
    record = Record(0, 10, number, 5, _RAW)
    return Own(
        b"own", 0, 10, number, record=record, batch=Batch([], [], [], bases=[]), channel=1, request=number
    )


def followed(number: int, node: int = 1) -> Followed:
    return Followed(b"followed", node, 10, number)


def has(node: int, number: int) -> Position:
    return Position().advance(node, 10, number)


class NodeLines:
    def __init__(self, most: int = 1_000) -> None:
        self.out = Outbox()
        self.all = Durability(0, self.out, most)

    def append(self, *lines: Pending) -> list[Effect]:
        for line in lines:
            assert not self.all.append(line, Position(), waits=False)
        return self.out.take()

    def fail(self, *lines: Pending) -> bool:
        return self.all.failed(lines, "full", has(1, 9))


def test_the_very_line_goes_to_the_journal() -> None:
    world = NodeLines()
    line = own(1)
    [effect] = world.append(line)
    assert isinstance(effect, Append)
    assert effect.entry is line
    assert world.all.durable == Position()


def test_lines_become_durable_one_by_one() -> None:
    world = NodeLines()
    lines: list[Pending] = [own(1), followed(1), followed(2), PlainLine(b"part"), Removal(b"gone", request=3)]
    world.append(*lines)
    for line, expected in zip(
        lines,
        [has(0, 1), has(0, 1).join(has(1, 1)), *[has(0, 1).join(has(1, 2))] * 3],
        strict=True,
    ):
        world.all.synced(line)
        assert world.all.durable == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (own(1), True),
        (followed(1, node=0), True),
        (followed(1), False),
        (PlainLine(b"x"), False),
        (Removal(b"x"), False),
    ],
)
def test_batches_of_its_own_are_known_to_be_under_way(line: Own, *, expected: bool) -> None:
    world = NodeLines()
    world.append(line)
    assert world.all.own_under_way == expected
    world.all.synced(line)
    assert not world.all.own_under_way


def test_what_comes_while_the_disk_fails_is_appended_later() -> None:
    world = NodeLines()
    lost, kept, asked = own(1), followed(1), Removal(b"gone", channel=4, request=3)
    world.append(lost, kept, asked)
    assert not world.fail(lost, kept, asked)
    later = PlainLine(b"part")
    assert world.append(later) == []
    # Its own batch was refused, and whoever asked for the removal has been answered.
    assert world.all.mended(snapshot=True) == [kept, Removal(b"gone", channel=4), later]
    assert world.out.take() == []
    assert world.all.failure is None
    assert not world.all.own_under_way


def test_more_than_may_be_kept_is_dropped_for_a_snapshot() -> None:
    world = NodeLines(most=10)
    assert not world.fail(followed(1))
    assert world.all.append(followed(2), has(1, 9), waits=False)
    assert world.all.mended(snapshot=True) == []
    assert world.out.take() == [Snapshot()]
    # What comes behind the hole is not durable before a snapshot that holds all of it is kept.
    world.append(followed(10))
    world.all.synced(followed(10))
    assert world.all.durable == Position()
    for begin, durable in [(has(1, 8), has(1, 8)), (has(1, 9), has(1, 10))]:
        world.all.snapshot_begins()
        world.all.snapshot_reaches(begin)
        world.all.snapshot_ends(begin)
        assert world.all.snapshot_ready()
        world.all.snapshot_kept()
        assert world.all.durable == durable


def test_the_end_of_a_copy_is_not_kept_without_all_of_it() -> None:
    world = NodeLines(most=15)
    # The first two lines are too many, and dropped; the end alone must not be in the journal.
    assert world.fail(PlainLine(b"0123456789"), PlainLine(b"0123456789"))
    assert world.all.append(EndOfCopy(b"end", covers=has(1, 3)), has(1, 9), waits=False)
    assert world.all.mended(snapshot=False) == []
    assert world.out.take() == []


def test_the_end_of_a_copy_makes_durable_what_it_covers() -> None:
    world = NodeLines()
    line = EndOfCopy(b"end", covers=has(1, 3))
    world.append(line)
    world.all.synced(line)
    assert world.all.durable == has(1, 3)


def test_a_snapshot_may_be_relied_on_when_the_log_reaches_its_end() -> None:
    world = NodeLines()
    world.all.snapshot_begins()
    assert not world.all.snapshot_ready()
    world.all.snapshot_reaches(Position())
    world.all.snapshot_ends(has(1, 1))
    assert not world.all.snapshot_ready()
    world.append(followed(1))
    world.all.synced(followed(1))
    assert world.all.snapshot_ready()


def test_a_needed_snapshot_is_asked_for_again_and_again_but_not_while_the_disk_fails() -> None:
    world = NodeLines()
    world.all.ask_for_snapshot(0.0)
    assert world.out.take() == []
    world.all.doubted(has(1, 2))
    asked = []
    for tenth in range(25):
        world.all.ask_for_snapshot(tenth / 10)
        asked += [tenth for _ in world.out.take()]
    assert asked == [0, 10, 20]
    world.fail()
    world.all.ask_for_snapshot(9.0)
    assert world.out.take() == []


def test_what_was_doubted_is_durable_with_a_snapshot_only() -> None:
    world = NodeLines()
    world.all.restored(has(1, 2))
    assert world.all.durable == has(1, 2)
    world.all.doubted(has(1, 2))
    assert world.all.durable == Position()
    world.all.snapshot_reaches(has(1, 2))
    world.all.snapshot_kept()
    assert (world.all.durable, world.all.needs) == (has(1, 2), None)
