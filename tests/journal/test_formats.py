"""
Files of several formats: which of them a version reads, and what it does about the others.
"""

from collections.abc import Sequence

import pytest

from dcounter.errors import CorruptJournal, NewerJournal
from dcounter.journal.framing import FORMAT, JournalEntry, format_of, frame, header
from dcounter.journal.recovery import Recovery
from dcounter.journal.segments import Segments
from dcounter.protocol import codec
from dcounter.testing import SimulatedDisk

# As release 0.1.0 wrote it.
OLD_SEGMENT = (
    b'808abc41 128 0 1700000000000000000 1 {"type":"record","node":0,"run":1700000000000000000,"number":1,'
    b'"stamp":7,"batch":{"slices":[],"ids":[],"tenants":[],"bases":[]}}\n'
)


def _record(number: int) -> JournalEntry:
    return JournalEntry(b'{"type":"record","n":%d}' % number, 0, 1, number)


class Life:
    """
    What one process makes of a journal.

    :param speaks: the format that it writes, and the highest that it reads.
    """

    def __init__(self, disk: SimulatedDisk, speaks: int) -> None:
        self.recovery = Recovery(disk, is_chunk=codec.is_chunk, highest=speaks)
        self.found = [entry.line for entry in self.recovery.read()]
        self.loaded = [entry.line for entry in self.recovery.load()]
        self.segments = Segments(disk, self.recovery.kept, segment_bytes=150, file_format=speaks)

    def write(self, *entries: JournalEntry) -> None:
        for entry in entries:
            self.segments.write([entry])

    def snapshot(self, *lines: bytes) -> None:
        self.segments.begin_snapshot(self.segments.split())
        for line in lines:
            self.segments.write_snapshot(line)
        self.segments.sync_snapshot()
        for name in self.segments.finish_snapshot().obsolete:
            self.segments.shorten(name, 10**6)
        self.segments.end_snapshot()


def _contents(disk: SimulatedDisk) -> dict[str, bytes]:
    """
    What a dead process left.
    """
    disk.open()
    found = {name: disk.read(name) for name in disk.list()}
    disk.kill()
    return found


def _write(disk: SimulatedDisk, name: str, data: bytes) -> None:
    disk.open()
    file = disk.create(name)
    file.write(data)
    file.sync()
    file.close()
    disk.sync()
    disk.kill()


def _lines(entries: Sequence[JournalEntry]) -> list[bytes]:
    return [entry.line for entry in entries]


RECORDS = [_record(number) for number in range(1, 7)]


def test_this_version_writes_what_release_010_reads() -> None:
    disk = SimulatedDisk()
    Life(disk, FORMAT).write(*RECORDS)
    disk.kill()
    assert FORMAT == 1
    assert len(_contents(disk)) > 1
    assert b"".join(_contents(disk).values()) == b"".join(map(frame, RECORDS))


def test_it_reads_what_release_010_wrote() -> None:
    disk = SimulatedDisk()
    _write(disk, "000000000001.journal", OLD_SEGMENT)
    life = Life(disk, FORMAT)
    assert len(life.found) == 1
    assert life.found == life.loaded
    assert codec.decode_head(life.found[0]).stamp == 7


def test_each_file_of_a_later_format_begins_with_its_number() -> None:
    disk = SimulatedDisk()
    life = Life(disk, 2)
    life.write(*RECORDS)
    life.snapshot(b'{"type":"copy_end"}', b'{"type":"forget"}')
    life.write(*RECORDS[:2])
    disk.kill()
    contents = _contents(disk)
    assert sorted(name.partition(".")[2] for name in contents) == ["journal", "snapshot"]
    for content in contents.values():
        assert content.startswith(header(2))
        assert content.count(header(2)) == 1
    again = Life(disk, 3)
    assert again.found == [b'{"type":"copy_end"}', b'{"type":"forget"}', *_lines(RECORDS[:2])]
    assert again.loaded == _lines(RECORDS[:2])


def test_files_of_several_formats_may_stand_side_by_side() -> None:
    disk = SimulatedDisk()
    for speaks, entry in zip((1, 2, 3), RECORDS, strict=False):
        Life(disk, speaks).write(entry)
        disk.kill()
    assert Life(disk, 3).found == _lines(RECORDS[:3])


@pytest.mark.parametrize("snapshot", [False, True])
def test_what_a_newer_version_wrote_is_refused_and_stays_as_it_is(*, snapshot: bool) -> None:
    disk = SimulatedDisk()
    Life(disk, 1).write(*RECORDS[:1])
    disk.kill()
    newer = Life(disk, 2)
    newer.write(*RECORDS[1:])
    if snapshot:
        newer.snapshot(b'{"type":"copy_end"}')
    disk.kill()
    # Something that a version that understood the rest would remove.
    _write(disk, "000000000009.unfinished", b"")
    before = _contents(disk)
    with pytest.raises(NewerJournal, match=r"0\d+.\w+ has format 2, and this version reads 1 at most"):
        Life(disk, 1)
    assert _contents(disk) == before
    # And it is left to the version that can read it.
    assert Life(disk, 2).recovery.kept.last >= 2


def test_a_torn_header_is_a_torn_tail() -> None:
    disk = SimulatedDisk()
    Life(disk, 2).write(RECORDS[0])
    disk.kill()
    _write(disk, "000000000002.journal", header(2)[:-5])
    life = Life(disk, 2)
    assert life.found == _lines(RECORDS[:1])
    torn = life.recovery.kept.torn
    assert torn is not None
    assert torn.name == "000000000002.journal"


def test_a_damaged_header_is_damage() -> None:
    disk = SimulatedDisk()
    Life(disk, 2).write(RECORDS[0])
    disk.kill()
    disk.damage("000000000001.journal", 3)
    with pytest.raises(CorruptJournal, match="damaged at byte 0"):
        Life(disk, 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"type":"journal","format":2}', 2),
        (b'{"type":"journal","format":123456789}', 123_456_789),
        (b'{"type":"journal","format":0}', None),
        (b'{"type":"journal","format":02}', None),
        (b'{"type":"journal","format":2} ', None),
        (b'{"type":"record"}', None),
        (b"", None),
    ],
)
def test_headers(line: bytes, expected: int | None) -> None:
    assert format_of(line) == expected
