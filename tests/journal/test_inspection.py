"""
All that is damaged in the files of a journal is found, and nothing is changed.
"""

from collections.abc import Mapping
from errno import EACCES, EIO, EROFS
from os import strerror
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.errors import CorruptJournal, DirectoryInUse
from dcounter.journal.disk import ReadOnlyDisk, RealDisk
from dcounter.journal.flipped import flipped_byte
from dcounter.journal.framing import JournalEntry, frame, header
from dcounter.journal.inspection import Fault, HeldFile, Inspected, inspect
from dcounter.journal.recovery import Recovery
from dcounter.testing import SimulatedDisk

S1, S2, S3 = (f"00000000000{number}.journal" for number in (1, 2, 3))
SNAPSHOT = "000000000002.snapshot"


def line(text: bytes) -> bytes:
    return frame(JournalEntry(text, 1, 2, 3))


def disk_of(files: Mapping[str, bytes]) -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.open()
    for name, data in files.items():
        disk.create(name).write(data)
    return disk


def one(*segments: bytes, snapshot: bytes = b"") -> Inspected:
    files = {f"00000000000{number}.journal": data for number, data in enumerate(segments, 2)}
    return inspect(disk_of({**files, **({SNAPSHOT: snapshot} if snapshot else {})}))


A, B, C = line(b"a"), line(b"bb"), line(b"ccc")
WHOLE = [A, header(2) + A + B, A + B + C]


def test_whole_files_have_no_faults() -> None:
    found = one(*WHOLE, snapshot=C + A)
    assert (found.faults, found.torn, found.obsolete) == ((), None, ())
    assert found.files[0] == HeldFile(SNAPSHOT, len(C + A), 2)
    assert [each.lines for each in found.files] == [2, 1, 3, 3]


def test_lines_are_shown() -> None:
    seen = []
    inspect(disk_of({S1: A + b"x\n" + B}), lambda name, entry: seen.append((name, entry.line)))
    assert seen == [(S1, b"a"), (S1, b"bb")]


@given(st.integers(0, len(b"".join(WHOLE)) - 1), st.integers(0, 7))
def test_a_bit_that_changed_is_found_and_named(place: int, bit: int) -> None:
    segments = [bytearray(each) for each in WHOLE]
    number = 0
    while place >= len(segments[number]):
        place -= len(segments[number])
        number += 1
    segment = segments[number]
    segment[place] ^= 1 << bit
    found = one(*map(bytes, segments))
    [fault] = found.faults
    assert fault.name == f"00000000000{number + 2}.journal"
    assert fault.begin <= place < fault.end
    # The end of a line, or one that is new, makes other lines of the same bytes.
    if WHOLE[number][place] != ord("\n") and segment[place] != ord("\n"):
        assert f"at byte {place:,}, which is 0x{segment[place]:02x}" in fault.why
        assert f"was 0x{WHOLE[number][place]:02x}" in fault.why


@given(st.integers(1, 10**6), st.binary(min_size=1, max_size=60), st.data())
def test_the_bit_is_computed(number: int, text: bytes, data: st.DataObject) -> None:
    right = frame(JournalEntry(text, 1, 2, number))[:-1]
    place = data.draw(st.integers(0, len(right) - 1))
    wrong = bytearray(right)
    wrong[place] ^= 1 << data.draw(st.integers(0, 7))
    assert flipped_byte(bytes(wrong)) == (place, right[place])


@pytest.mark.parametrize("data", [b"", b"00000000", b"0000000000", b"zzzzzzzz abc", line(b"a" * 40)[20:]])
def test_more_than_a_bit_is_not_computed(data: bytes) -> None:
    assert flipped_byte(data) is None


@pytest.mark.parametrize("size", range(1, len(C)))
def test_an_incomplete_record_at_the_end_is_no_damage(size: int) -> None:
    found = one(A, B + C[:size], b"")
    if size < len(C) - 1:
        assert found.faults == ()
        assert found.torn is not None
        assert (found.torn.name, found.torn.begin, found.torn.end) == (S3, len(B), len(B) + size)
    else:
        # Only the end of the line is missing: it was written completely.
        assert [(each.begin, each.end) for each in found.faults] == [(len(B), len(B) + size)]


def test_a_complete_record_at_the_end_is_damage() -> None:
    # A recovery takes it for one that was never complete, and cuts it off.
    found = one(A, B + C[:-3] + b"zz\n")
    assert [(each.name, each.begin, each.end) for each in found.faults] == [(S3, len(B), len(B + C))]
    assert found.torn is None


def test_an_incomplete_record_before_the_end_is_damage() -> None:
    found = one(A + B[:-5], C)
    [fault] = found.faults
    assert (fault.name, fault.begin, fault.end, found.torn) == (S2, len(A), len(A + B) - 5, None)


def test_what_a_recovery_refuses_is_damage() -> None:
    for files in (
        {S2: A + b"x\n" + B},
        {S2: A[:-5], S3: B},
        {SNAPSHOT: A + b"y" * 30, S2: B},
        {SNAPSHOT: A[:-1], S2: b""},
        {SNAPSHOT: b"", S2: b""},
    ):
        disk = disk_of(files)
        disk.close()
        recovery = Recovery(disk, is_chunk=lambda held: False)
        with pytest.raises(CorruptJournal):
            list(recovery.read())
        assert inspect(disk_of(files)).faults


def test_damage_side_by_side_is_one_fault_and_many_are_cut_off() -> None:
    found = one(A + b"x\ny\nz\n" + B)
    assert found.faults == (
        Fault(S2, len(A), len(A) + 6, f"is damaged from byte {len(A)} to byte {len(A) + 5}"),
    )
    found = one((A + b"x\n") * 50 + A)
    assert len(found.faults) == 21
    assert found.faults[-1].why == f"is damaged in 30 more places, up to byte {len(A + b'xx') * 50:,}"


def test_obsolete_files_are_named() -> None:
    files = {S1: b"x", SNAPSHOT: A, S3: B, "000000000003.unfinished": b"y", "owner": b"me", "other": b"z"}
    found = inspect(disk_of(files))
    assert found.obsolete == (S1, "000000000003.unfinished")
    assert not found.faults


class Unreadable(SimulatedDisk):
    """
    Cannot read its files from some byte on.

    :ivar error: with which error.
    """

    error = EIO

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        if start:
            raise OSError(self.error, strerror(self.error))
        return super().read(name, start, len(A))


def test_a_sector_that_cannot_be_read_is_damage() -> None:
    disk = Unreadable()
    disk.open()
    disk.create(S2).write(A + B)
    [fault] = inspect(disk).faults
    assert fault.why == f"cannot be read after byte {len(A)}: {strerror(EIO)}"
    # That it may not be read is another matter.
    disk.error = EACCES
    with pytest.raises(PermissionError):
        inspect(disk)


class TestReadOnlyDisk:
    def test_nothing_can_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"abc")
        disk = ReadOnlyDisk(str(tmp_path))
        disk.open()
        assert (disk.list(), disk.read("x", 1)) == (["x"], b"bc")
        for change in (
            lambda: disk.create("y"),
            lambda: disk.rewrite("x", b"abc"),
            lambda: disk.truncate("x", 1),
            lambda: disk.rename("x", "y"),
            lambda: disk.remove("x"),
            lambda: disk.shorten("x", 1),
            disk.sync,
        ):
            with pytest.raises(OSError, match=strerror(EROFS)):
                change()
        disk.close()
        assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"abc"]

    def test_it_is_not_made_and_not_shared(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            ReadOnlyDisk(str(tmp_path / "none")).open()
        assert not [*tmp_path.iterdir()]
        first = RealDisk(str(tmp_path))
        first.open()
        with pytest.raises(DirectoryInUse):
            ReadOnlyDisk(str(tmp_path)).open()
        first.close()
