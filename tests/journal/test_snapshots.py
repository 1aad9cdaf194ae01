from collections.abc import Iterator
from errno import EIO, ENOSPC
from random import Random

import pytest

from dcounter.errors import CorruptJournal
from dcounter.journal.file import FileJournal
from dcounter.journal.framing import JournalEntry, frame
from dcounter.protocol import codec
from dcounter.testing import DiskOperation, SimulatedWriter
from tests.support.journals import Shell, reason_of


def test_a_snapshot_takes_the_place_of_what_was_before(shell: Shell) -> None:
    shell.commit(b"a", b"b")
    kept = shell.take([b"A", b"B"])
    shell.append(b"c")
    shell.run(5)
    assert kept == [True]
    assert shell.files == {"2.journal": [b"c"], "2.snapshot": [b"A", b"B"]}
    assert shell.again().recovered == [b"A", b"B", b"c"]


def test_the_next_snapshot_takes_the_place_of_the_last(shell: Shell) -> None:
    shell.commit(b"a")
    for snapshot in (b"A", b"AB"):
        assert shell.take([snapshot]) == []
        shell.run(2)
        shell.commit(b"b")
    assert shell.files == {"3.journal": [b"b"], "3.snapshot": [b"AB"]}
    assert shell.again().recovered == [b"AB", b"b"]


def test_an_empty_segment_is_used_for_the_lines_after_a_snapshot(shell: Shell) -> None:
    for _ in range(3):
        kept = shell.take([b"A"])
        shell.run(2)
        assert kept == [True]
    assert shell.files == {"1.journal": [], "1.snapshot": [b"A"]}


def test_pieces_are_asked_for_one_after_the_other(shell: Shell) -> None:
    given: list[int] = []

    def pieces() -> Iterator[bytes]:
        for piece in range(3):
            given.append(piece)
            yield b"%d" % piece

    kept = shell.take(pieces())
    assert given == []
    shell.append(b"a")
    # One piece of work after the other: a segment is begun, the line committed, a file made.
    shell.run(0.8)
    assert (given, shell.told) == ([0], [1])
    shell.append(b"b")
    shell.run(0.25)
    assert (given, shell.told) == ([0, 1], [1])
    shell.run(0.25)
    assert (given, shell.told) == ([0, 1], [1, 1])
    shell.run(2)
    assert given == [0, 1, 2]
    assert kept == [True]


def test_a_snapshot_is_relied_on_only_when_it_is_ready(shell: Shell) -> None:
    shell.commit(b"a")
    ready = False
    kept = shell.take([b"A"], ready=lambda: ready)
    shell.run(5)
    assert kept == []
    assert shell.files == {"1.journal": [b"a"], "2.journal": [], "2.unfinished": [b"A"]}
    assert shell.again().recovered == [b"a"]


def test_a_snapshot_is_finished_when_it_becomes_ready(shell: Shell) -> None:
    shell.commit(b"a")
    answers = iter([False, False, True])
    kept = shell.take([b"A"], ready=lambda: next(answers))
    shell.run(5)
    assert kept == [True]
    assert shell.files == {"2.journal": [], "2.snapshot": [b"A"]}


def test_one_snapshot_at_a_time(shell: Shell) -> None:
    first = shell.take([b"A"])
    assert shell.take([b"B"]) == [False]
    shell.run(5)
    assert first == [True]
    assert shell.take([b"B"]) == []
    shell.run(5)
    assert shell.files == {"1.journal": [], "1.snapshot": [b"B"]}


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename", "sync names"])
def test_a_snapshot_that_fails_leaves_nothing_and_harms_nothing(
    shell: Shell, operation: DiskOperation
) -> None:
    shell.commit(b"a")
    shell.disk.errors[operation] = EIO
    kept = shell.take([b"A"])
    shell.run(5)
    assert kept == [False]
    shell.disk.errors.clear()
    assert not [name for name in shell.disk.list() if name.endswith("unfinished")]
    shell.commit(b"b")
    assert shell.told == [1, 1]
    for seed in range(5):
        shell.disk.lose_power(Random(seed))
        assert Shell(shell.disk).start().recovered in ([b"a", b"b"], [b"A", b"b"])


def test_a_snapshot_that_does_not_fit_leaves_room_for_lines(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.capacity = 100
    kept = shell.take([b"A" * 20, b"A" * 50])
    shell.run(5)
    assert kept == [False]
    shell.commit(b"b")
    assert shell.told == [1, 1]
    assert shell.files == {"1.journal": [b"a"], "2.journal": [b"b"]}


def test_an_unfinished_snapshot_that_cannot_be_removed_is_written_over(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors.update({"rename": EIO, "remove": EIO})
    kept = shell.take([b"A"])
    shell.run(5)
    assert kept == [False]
    assert "000000000002.unfinished" in shell.disk.list()
    shell.disk.errors.clear()
    shell.run(20)
    kept = shell.take([b"B"])
    shell.run(5)
    assert kept == [True]
    assert shell.files == {"2.journal": [], "2.snapshot": [b"B"]}


def test_after_a_snapshot_that_failed_none_is_taken_for_a_while(shell: Shell) -> None:
    shell.disk.errors["rename"] = EIO
    kept = shell.take([b"A"])
    shell.run(2)
    assert kept == [False]
    shell.disk.errors.clear()
    assert shell.take([b"A"]) == [False]
    shell.run(10)
    kept = shell.take([b"A"])
    shell.run(2)
    assert kept == [True]


def test_a_snapshot_during_which_lines_failed_is_given_up(shell: Shell) -> None:
    shell.commit(b"a")
    kept = shell.take([b"%d" % piece for piece in range(20)])
    shell.run(2)
    # The file of the snapshot works, the segment does not: only the size of the disk tells them apart.
    shell.disk.capacity = 600
    shell.append(b"b" * 500)
    shell.run(1.5)
    assert shell.told == [1, (1, reason_of(ENOSPC))]
    assert kept == [False]
    assert shell.take([b"A"]) == [False]
    shell.disk.capacity = None
    shell.run(2)
    assert shell.files == {"1.journal": [b"a"], "3.journal": []}


def test_a_snapshot_that_waits_is_given_up_when_lines_fail(shell: Shell) -> None:
    shell.commit(b"a")
    ready = False
    kept = shell.take([b"A"], ready=lambda: ready)
    shell.run(2)
    shell.disk.errors["write"] = EIO
    shell.commit(b"b")
    ready = True
    shell.run(1)
    assert kept == [False]
    shell.disk.errors.clear()
    shell.run(2)
    assert shell.again().recovered == [b"a"]


def test_lines_that_fail_while_a_snapshot_is_finished_are_not_in_it(shell: Shell) -> None:
    shell.commit(b"a")
    kept = shell.take([b"A"])
    # Pieces: split, create, write; then this is in the thread just before the snapshot is finished.
    shell.run(0.8)
    shell.disk.capacity = 100
    shell.append(b"b" * 500)
    shell.run(0.1)
    shell.disk.errors["write"] = EIO
    shell.run(5)
    assert shell.told[-1] == (1, reason_of(EIO))
    assert kept == [False]


def test_no_segment_is_begun_behind_one_that_failed() -> None:
    shell = Shell()
    shell.thread = SimulatedWriter(shell.clock, lambda: 0.1, lambda: 1.0)
    shell.journal = FileJournal(
        shell.disk,
        is_chunk=codec.is_chunk,
        in_thread=shell.thread,
        clock=shell.clock,
        segment_bytes=1_000,
        snapshot_bytes=1_000,
    )
    shell.user.journal = shell.journal
    shell.start()
    shell.append(b"a")
    shell.run(3)
    shell.disk.errors["sync"] = EIO
    shell.append(b"b")
    shell.run(0.01)
    # It failed, but only the thread knows.
    kept = shell.take([b"A"])
    shell.run(0.15)
    shell.disk.errors.clear()
    shell.run(3)
    assert kept == [False]
    shell.run(3)
    shell.append(b"c")
    shell.run(3)
    assert shell.told == [1, (1, reason_of(EIO)), "mended", 1]
    assert shell.again().recovered == [b"a", b"c"]


def test_old_files_that_cannot_be_removed_are_not_used(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["remove"] = EIO
    kept = shell.take([b"A"])
    shell.run(2)
    assert kept == [True]
    assert not shell.journal.due
    shell.commit(b"b")
    assert shell.files == {"1.journal": [b"a"], "2.journal": [b"b"], "2.snapshot": [b"A"]}
    shell.disk.errors.clear()
    other = shell.again()
    assert other.recovered == [b"A", b"b"]
    assert other.files == {"2.journal": [b"b"], "2.snapshot": [b"A"]}


def test_nothing_is_removed_before_the_snapshot_is_durable(shell: Shell) -> None:
    shell.commit(b"a")
    kept = shell.take([b"A"])
    shell.run(2)
    assert kept == [True]
    assert shell.calls[-3:] == ["rename", "sync names", "remove"]


def test_a_large_file_is_removed_in_parts_and_lines_are_written_meanwhile(shell: Shell) -> None:
    shell.commit(b"a")
    shell.take([b"A" * 40 * 2**20])
    shell.run(3)
    shell.commit(b"b")
    [large] = [name for name, size in shell.disk.sizes().items() if size > 2**20]
    shell.take([b"B"])
    while (size := shell.disk.sizes()[large]) > 30 * 2**20:
        shell.run(0.25)
    told = len(shell.told)
    shell.commit(b"c")
    assert shell.told[told:]
    assert 0 < shell.disk.sizes()[large] < size
    shell.run(3)
    assert large not in shell.disk.sizes()
    assert shell.again().recovered == [b"B", b"c"]


def test_a_snapshot_whose_name_is_not_durable_is_made_so_before_anything_is_removed(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["sync names"] = EIO
    shell.disk.create("000000000002.unfinished").write(frame(JournalEntry(b"A")))
    shell.disk.rename("000000000002.unfinished", "000000000002.snapshot")
    shell.disk.kill()
    other = Shell(shell.disk).start()
    assert other.recovered == [b"A"]
    assert "000000000001.journal" in shell.disk.list()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_snapshot_is_corruption(shell: Shell, damage: str) -> None:
    shell.take([b"A", b"B"])
    shell.run(5)
    name = "000000000001.snapshot"
    if damage == "flip":
        shell.disk.damage(name, 30)
    else:
        shell.disk.truncate(name, 30 if damage == "cut" else 0)
    with pytest.raises(CorruptJournal, match=r"0001\.snapshot: damaged at byte"):
        shell.again()


def test_a_large_snapshot_is_synced_part_by_part(shell: Shell) -> None:
    shell.commit(b"a")
    shell.calls.clear()
    kept = shell.take([b"A" * 300_000] * 9)
    shell.run(10)
    assert kept == [True]
    written = [call for call in shell.calls if call in ("write", "sync", "rename")]
    four = ["write"] * 4 + ["sync"]
    # All of it, before it gets its name.
    assert written == [*four, *four, "write", "sync", "rename"]
