from collections.abc import Iterator
from contextlib import suppress
from errno import EIO, EMFILE, ENOSPC, EROFS
from itertools import chain
from random import Random

import pytest
from twisted.internet.task import Clock

from dcounter.errors import ConfigurationError, CorruptJournal
from dcounter.journal.framing import JournalEntry, frame
from dcounter.testing import DiskOperation, SimulatedDisk
from tests.support.journals import Shell, line_of, owned_journal, reason_of


def test_a_torn_tail_is_truncated_and_logged(shell: Shell) -> None:
    shell.commit(b"a", b"b")
    shell.disk.truncate("000000000001.journal", 30)
    other = shell.again()
    assert other.recovered == [b"a"]
    assert shell.disk.read("000000000001.journal") == frame(line_of(b"a"))
    other.commit(b"c")
    assert other.again().recovered == [b"a", b"c"]


def test_what_was_read_is_durable_before_it_is_told(shell: Shell) -> None:
    shell.append(b"a")
    shell.disk.errors |= {"sync": EIO, "truncate": EIO}
    shell.run(0.5)
    assert shell.told == [(1, reason_of(EIO))]
    shell.disk.errors.clear()
    # The process dies and could not cut that; the next one reads it.
    other = shell.again()
    assert other.recovered == [b"a"]
    assert other.told == []
    for seed in range(10):
        shell.disk.lose_power(Random(seed))
        assert Shell(shell.disk).start().recovered == [b"a"]


def test_damage_in_the_middle_is_corruption(shell: Shell) -> None:
    shell.commit(b"a", b"b")
    shell.disk.damage("000000000001.journal", 3)
    with pytest.raises(CorruptJournal, match=r"0001\.journal: damaged at byte 0, and valid lines follow"):
        shell.again()


def test_damage_at_the_end_of_a_segment_that_others_follow_is_corruption(shell: Shell) -> None:
    shell.commit(b"a")
    other = shell.again()
    other.commit(b"b")
    shell.disk.damage("000000000001.journal", 3)
    with pytest.raises(CorruptJournal, match=r"0001\.journal: the end is damaged, but 0+2\.journal follows"):
        other.again()


def test_a_torn_segment_may_be_followed_by_an_empty_one(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.create("000000000002.journal")
    shell.disk.truncate("000000000001.journal", 5)
    other = shell.again()
    assert other.recovered == []
    other.commit(b"b")
    assert other.files == {"1.journal": [], "3.journal": [b"b"]}


def test_a_segment_that_the_disk_does_not_give_back_is_corruption(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["read"] = EIO
    with pytest.raises(CorruptJournal, match=r"0001\.journal cannot be read: .*Input/output error"):
        shell.again()


def test_what_cannot_be_read_for_another_reason_is_not(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["read"] = EMFILE
    with pytest.raises(OSError, match="Too many open files"):
        shell.again()


def test_a_journal_that_is_used_is_refused(shell: Shell) -> None:
    with pytest.raises(ConfigurationError, match="is used by"):
        Shell(shell.disk).start()


def test_unfinished_files_are_removed(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.create("000000000000.unfinished")
    shell.disk.create("000000000007.unfinished")
    other = shell.again()
    assert other.files == {"1.journal": [b"a"]}
    other.commit(b"b")
    assert other.files == {"1.journal": [b"a"], "8.journal": [b"b"]}


def test_a_journal_knows_its_owner(shell: Shell) -> None:
    disk = SimulatedDisk()
    journal, user = owned_journal(disk, "node 1 of cluster c")
    assert list(journal.recover()) == []
    journal.open(user)
    assert user.told == []
    assert disk.read("owner") == b"node 1 of cluster c\n"
    for seed in range(5):
        disk.lose_power(Random(seed))
        assert list(owned_journal(disk, "node 1 of cluster c")[0].recover()) == []
    disk.kill()
    with pytest.raises(ConfigurationError, match="belongs to node 1 of cluster c, not to node 2"):
        list(owned_journal(disk, "node 2 of cluster c")[0].recover())


def test_a_journal_that_does_not_say_whose_it_is_is_refused(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.kill()
    for _ in range(2):
        # Whoever waits for another owner's end is told the same again.
        with pytest.raises(ConfigurationError, match="names no owner"):
            list(owned_journal(shell.disk, "node 1")[0].recover())
    shell.disk.open()
    assert shell.files == {"1.journal": [b"a"]}


def test_power_may_take_the_owner_and_leave_an_empty_segment() -> None:
    disk = SimulatedDisk()
    disk.open()
    disk.create("000000000001.journal")
    disk.sync()
    disk.kill()
    assert list(owned_journal(disk, "node 1")[0].recover()) == []
    assert disk.read("owner") == b"node 1\n"


# A disk that fails when the journal is opened


def test_a_disk_that_can_only_be_read_is_read(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.read_only = True
    other = shell.again()
    assert other.recovered == [b"a"]
    assert other.told == ["doubted", (0, reason_of(EROFS))]
    other.run(5)
    assert len(other.told) == 2
    assert not other.journal.due
    shell.disk.read_only = False
    other.run(2)
    assert other.told[2:] == ["mended"]
    other.commit(b"b")
    for seed in range(10):
        shell.disk.lose_power(Random(seed))
        assert Shell(shell.disk).start().recovered == [b"a", b"b"]


@pytest.mark.parametrize("operation", ["create", "rename"])
def test_a_disk_that_takes_nothing_new_may_keep_what_it_has(shell: Shell, operation: DiskOperation) -> None:
    shell.commit(b"a")
    # Another process dies in the middle of a sync that fails.
    shell.disk.errors["sync"] = EIO
    with suppress(OSError):
        file = shell.disk.create("000000000002.journal")
        file.write(frame(line_of(b"b")))
        file.sync()
    shell.disk.errors.clear()
    shell.disk.sync()
    shell.disk.errors[operation] = ENOSPC
    other = shell.again()
    assert other.recovered == [b"a", b"b"]
    assert other.told == [(0, reason_of(ENOSPC))]
    for seed in range(10):
        other.disk.lose_power(Random(seed))
        assert Shell(other.disk).start().recovered == [b"a", b"b"]


def test_a_snapshot_whose_name_may_be_lost_is_doubted(shell: Shell) -> None:
    shell.commit(b"a")

    def fails_from_now_on() -> bool:
        shell.disk.errors["sync names"] = EIO
        return True

    kept = shell.take([b"A"], ready=fails_from_now_on)
    shell.run(3)
    assert kept == [False]
    other = shell.again()
    assert other.recovered == [b"A"]
    assert other.told == ["doubted", (0, reason_of(EIO))]
    other.disk.errors.clear()
    other.run(3)
    assert other.told[-1] == "mended"
    other.disk.lose_power(Random(1))
    assert other.again().recovered == [b"A"]


def test_a_copy_whose_name_may_be_lost_is_doubted(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.errors["sync names"] = EIO
    other = shell.again()
    assert other.recovered == [b"a"]
    assert other.told == ["doubted", (0, reason_of(EIO))]


def test_an_empty_disk_that_can_only_be_read_gets_its_owner_later() -> None:
    disk = SimulatedDisk()
    disk.read_only = True
    journal, user = owned_journal(disk, "node 1")
    assert list(journal.recover()) == []
    journal.open(user)
    assert user.told == [(0, reason_of(EROFS))]
    assert disk.list() == []
    disk.read_only = False
    clock = journal._clock  # noqa: SLF001
    assert isinstance(clock, Clock)
    clock.pump([1, 1, 1])
    assert user.told[1:] == ["mended"]
    assert disk.read("owner") == b"node 1\n"


def test_a_torn_tail_on_a_full_disk_is_cut_when_there_is_room(shell: Shell) -> None:
    shell.commit(b"a" * 50, b"b")
    shell.disk.truncate("000000000001.journal", 75)
    shell.disk.capacity = 75
    other = shell.again()
    assert other.told == [(0, reason_of(ENOSPC))]
    assert other.files == {"1.journal": [b"a" * 50]}
    shell.disk.capacity = None
    other.run(2)
    other.commit(b"c")
    assert other.again().recovered == [b"a" * 50, b"c"]


def test_files_that_cannot_be_removed_do_no_harm(shell: Shell) -> None:
    shell.commit(b"a")
    shell.disk.create("000000000007.unfinished")
    shell.disk.errors["remove"] = EIO
    other = shell.again()
    assert other.recovered == [b"a"]
    assert "000000000007.unfinished" in shell.disk.list()
    other.commit(b"b")
    assert other.told == [1]


# Pieces of the ledger


_PIECES = [b'{"type":"copy_piece","ids":"%s"}' % (b"x" * size) for size in (0, 50, 300)]


def _with_pieces(shell: Shell) -> Shell:
    """
    A snapshot with pieces in it, and a segment with a piece and a batch.
    """
    taken = shell.take([b"begin", *_PIECES, b"end"])
    shell.run(3)
    assert taken == [True]
    shell.commit(b"batch")
    shell.user.journal.append(JournalEntry(_PIECES[1]))
    shell.user.journal.append(JournalEntry(b"more"))
    shell.run(0.5)
    return shell


def test_pieces_of_the_ledger_are_given_later(shell: Shell) -> None:
    _with_pieces(shell).disk.kill()
    other = Shell(shell.disk)
    assert list(other.journal.recover()) == [
        JournalEntry(b"begin"),
        JournalEntry(b"end"),
        line_of(b"batch"),
        JournalEntry(b"more"),
    ]
    other.journal.open(other.user)
    rest = iter(other.journal.load())
    found = [next(rest)]
    # What is written meanwhile is not loaded.
    other.commit(b"new")
    assert [*found, *rest] == [*map(JournalEntry, _PIECES), line_of(b"batch"), JournalEntry(_PIECES[1])]


def test_damage_to_a_piece_is_found_when_it_is_loaded(shell: Shell) -> None:
    disk = _with_pieces(shell).disk
    name = "000000000001.snapshot"
    disk.damage(name, disk.read(name).index(b"xxx") + 1)
    other = shell.again()
    assert other.recovered == [b"begin", b"end", b"batch", b"more"]
    with pytest.raises(CorruptJournal, match=r"0001\.snapshot: damaged at byte"):
        list(other.journal.load())


def test_a_piece_that_the_disk_does_not_give_back_is_corruption(shell: Shell) -> None:
    other = _with_pieces(shell).again()
    other.disk.errors["read"] = EIO
    with pytest.raises(CorruptJournal, match="cannot be read"):
        list(other.journal.load())


def test_a_snapshot_that_ends_within_a_piece_is_corruption(shell: Shell) -> None:
    disk = _with_pieces(shell).disk
    name = "000000000001.snapshot"
    whole = disk.read(name)
    for size in range(whole.index(_PIECES[0]), whole.index(_PIECES[2]) + 300):
        if whole[size - 1 : size] == b"\n":
            continue
        disk.truncate(name, size)
        disk.kill()
        other = Shell(disk)
        with pytest.raises(CorruptJournal):
            list(chain(other.journal.recover(), other.journal.load()))
        disk.truncate(name, 0)
        file = disk.create("new")
        file.write(whole)
        disk.rename("new", name)


def test_a_snapshot_is_due_when_segments_outgrow_the_last_one() -> None:
    shell = Shell(snapshot_bytes=100).start()
    assert not shell.due()
    shell.commit(b"a" * 50)
    assert not shell.due()
    shell.commit(b"a" * 50)
    assert shell.due()
    kept = shell.take([b"A" * 300])
    assert not shell.due()
    shell.run(5)
    assert kept == [True]
    assert not shell.due()
    shell.commit(b"a" * 100)
    assert not shell.due()
    shell.commit(b"a" * 100)
    assert shell.due()
    # What was recovered counts as well.
    shell.disk.kill()
    other = Shell(shell.disk, snapshot_bytes=100).start()
    assert other.due()
    shell.disk.kill()
    assert not Shell(shell.disk, snapshot_bytes=100_000).start().due()


def test_a_snapshot_whose_maker_fails_is_the_makers_failure(shell: Shell) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"A"
        raise RuntimeError("the ledger failed")

    failures: list[object] = []
    shell.journal.snapshot(pieces(), lambda: True).addErrback(lambda why: failures.append(why.type))
    shell.run(5)
    assert failures == [RuntimeError]
    assert shell.files == {"1.journal": []}
    # Nor is another one begun at once.
    assert not shell.journal.due
    shell.run(10)
    kept = shell.take([b"A"])
    shell.run(5)
    assert kept == [True]
