from collections.abc import Iterable, Mapping
from contextlib import suppress
from errno import EIO
from random import Random
from typing import Any

import pytest

from dcounter.journal.framing import JournalEntry, frame, scan
from dcounter.journal.recovery import JournalReading
from dcounter.journal.segments import Finished, Segments
from dcounter.testing import DiskOperation, SimulatedDisk
from tests.support.journals import line_of

_FIRST, _SECOND = "000000000001.journal", "000000000002.journal"
_A = len(frame(line_of(b"a")))


def _kept(**found: Any) -> JournalReading:
    return JournalReading(**{"last": 0, "snapshot_size": 0, "segments": (), **found})


class Bench:
    """
    Segments on a disk, without a journal around them.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        segment_bytes: int = 1_000,
        errors: Iterable[DiskOperation] = (),
        **found: Any,
    ) -> None:
        self.disk = SimulatedDisk()
        self.disk.open()
        for name, data in (files or {}).items():
            file = self.disk.create(name)
            file.write(data)
            file.sync()
        self.disk.sync()
        self.disk.errors.update(dict.fromkeys(errors, EIO))
        self.segments = Segments(self.disk, _kept(**found), segment_bytes=segment_bytes)

    def write(self, *lines: bytes) -> int:
        return self.segments.write([line_of(line) for line in lines]).size

    def fail(self, operation: DiskOperation, *lines: bytes) -> None:
        self.disk.errors[operation] = EIO
        with pytest.raises(OSError, match="Input/output error"):
            self.write(*lines)
        self.disk.errors.clear()

    def snapshot(self, *lines: bytes) -> Finished:
        self.segments.begin_snapshot(self.segments.split())
        for line in lines:
            self.segments.write_snapshot(line)
        self.segments.sync_snapshot()
        finished = self.segments.finish_snapshot()
        self.segments.end_snapshot()
        return finished

    @property
    def files(self) -> dict[str, list[bytes]]:
        return {
            name: [entry.line for entry, _ in scan([self.disk.read(name)]) if entry]
            for name in self.disk.list()
        }


def test_lines_go_to_the_open_segment_until_it_is_full() -> None:
    bench = Bench(segment_bytes=_A + 1)
    assert [bench.write(b"a"), bench.write(b"b"), bench.write(b"c")] == [_A, 2 * _A, 3 * _A]
    assert bench.files == {_FIRST: [b"a", b"b"], _SECOND: [b"c"]}


def test_what_was_there_counts_and_is_not_written_to() -> None:
    bench = Bench({_FIRST: frame(line_of(b"a"))}, last=1, segments=((_FIRST, _A),))
    assert bench.write(b"b") == 2 * _A
    assert bench.files == {_FIRST: [b"a"], _SECOND: [b"b"]}


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_what_failed_is_cut_off_at_once(operation: DiskOperation) -> None:
    bench = Bench()
    bench.write(b"a")
    bench.fail(operation, b"b")
    assert bench.disk.read(_FIRST) == frame(line_of(b"a"))


@pytest.mark.parametrize("operation", ["create", "sync names", "write", "sync"])
def test_sizes_count_what_is_durable_only(operation: DiskOperation) -> None:
    bench = Bench()
    bench.fail(operation, b"failed")
    bench.segments.mend()
    assert bench.write(b"a") == _A


def test_nothing_is_written_behind_what_failed() -> None:
    bench = Bench()
    bench.write(b"a")
    bench.fail("sync", b"b")
    for does in (lambda: bench.write(b"c"), bench.segments.split):
        with pytest.raises(OSError, match="the last segment is not repaired yet"):
            does()
    bench.segments.mend()
    bench.write(b"c")
    assert bench.files == {_FIRST: [b"a"], _SECOND: [b"c"]}


_OTHER = "000000000009.journal"
MENDED: Mapping[str, tuple[dict[str, bytes], dict[str, Any], dict[str, bytes]]] = {
    "nothing was there": ({}, {}, {}),
    "a segment that may not be on the disk": (
        {_FIRST: frame(line_of(b"a")) + b"torn"},
        {"last": 1, "segments": ((_FIRST, _A),), "unproved": _FIRST},
        {_FIRST: frame(line_of(b"a"))},
    ),
    "segments that hold nothing": (
        {_FIRST: b"", _OTHER: b""},
        {"last": 9, "empty": (_FIRST, _OTHER)},
        {},
    ),
    "a journal without an owner": ({}, {"unsigned": "node 1"}, {"owner": b"node 1\n"}),
}
"""
What was there, what was found, and what there is besides new segments when it is mended.
"""


@pytest.mark.parametrize("operation", [None, "create", "rename", "remove", "write", "sync", "sync names"])
@pytest.mark.parametrize("name", MENDED)
def test_what_could_not_be_done_at_the_start_is_done_later(
    name: str, operation: DiskOperation | None
) -> None:
    files, found, left = MENDED[name]
    bench = Bench(files, errors=[] if operation is None else [operation], **found)
    with suppress(OSError):
        # Where that operation is not needed it succeeds at once.
        bench.segments.mend()
    bench.disk.errors.clear()
    bench.segments.mend()
    bench.write(b"new")
    for seed in range(3):
        held = {each: data for each in bench.disk.list() if (data := bench.disk.read(each))}
        new = max(held.keys() - left.keys())
        assert held == left | {new: frame(line_of(b"new"))}
        assert int(new.partition(".")[0]) > found.get("last", 0)
        bench.disk.lose_power(Random(seed))
        bench.disk.open()


@pytest.mark.parametrize("operation", ["truncate", "remove", "create", "write", "sync", "sync names"])
@pytest.mark.parametrize("before", [b"a", None])
def test_mending_may_be_tried_again(before: bytes | None, operation: DiskOperation) -> None:
    bench = Bench()
    if before is not None:
        bench.write(before)
    bench.fail("sync", b"failed")
    bench.disk.errors[operation] = EIO
    for _ in range(2):
        # Nothing needs to be removed where something is left.
        if not (before and operation == "remove"):
            with pytest.raises(OSError, match="Input/output error"):
                bench.segments.mend()
    bench.disk.errors.clear()
    bench.segments.mend()
    bench.write(b"b")
    lines = [line for lines in bench.files.values() for line in lines]
    assert lines == [*([before] if before else []), b"b"]


def test_mending_needs_as_much_room_as_was_refused() -> None:
    bench = Bench()
    bench.disk.capacity = 100
    with pytest.raises(OSError, match="No space left"):
        bench.write(b"a" * 200)
    bench.disk.capacity = 200
    with pytest.raises(OSError, match="No space left"):
        bench.segments.mend()
    assert bench.disk.list() == []
    bench.disk.capacity = 400
    bench.segments.mend()


def test_a_snapshot_takes_the_place_of_what_is_before_its_segment() -> None:
    bench = Bench()
    bench.write(b"a")
    number = bench.segments.split()
    assert number == 2
    bench.segments.begin_snapshot(number)
    bench.write(b"b")
    assert bench.segments.write_snapshot(b"A") == 2 * _A
    bench.segments.sync_snapshot()
    finished = bench.segments.finish_snapshot()
    assert finished == Finished(len(frame(JournalEntry(b"A"))), _A, (_FIRST,))
    bench.segments.end_snapshot()
    # Removing it is for the journal to begin, part by part.
    assert bench.files == {_FIRST: [b"a"], _SECOND: [b"b"], "000000000002.snapshot": [b"A"]}
    assert not bench.segments.shorten(_FIRST, _A - 1)
    assert bench.segments.shorten(_FIRST, 1)
    assert bench.write(b"c") == 2 * _A


def test_an_empty_segment_is_behind_a_snapshot_already() -> None:
    bench = Bench()
    assert [bench.snapshot(b"A").obsolete, bench.snapshot(b"B").obsolete] == [(), ()]
    assert bench.files == {_FIRST: [], "000000000001.snapshot": [b"B"]}


def test_a_snapshot_that_is_not_finished_leaves_nothing() -> None:
    bench = Bench()
    bench.write(b"a")
    bench.segments.begin_snapshot(bench.segments.split())
    bench.segments.write_snapshot(b"A")
    bench.segments.end_snapshot()
    assert bench.files == {_FIRST: [b"a"], _SECOND: []}


def test_a_snapshot_without_a_durable_name_replaces_nothing() -> None:
    bench = Bench()
    bench.write(b"a")
    bench.segments.begin_snapshot(bench.segments.split())
    bench.segments.write_snapshot(b"A")
    bench.segments.sync_snapshot()
    bench.disk.errors["sync names"] = EIO
    with pytest.raises(OSError, match="Input/output error"):
        bench.segments.finish_snapshot()
    assert bench.write(b"b") == 2 * _A


def test_a_segment_that_was_ended_is_followed_by_another_one() -> None:
    bench = Bench()
    bench.segments.end()
    bench.write(b"a")
    bench.segments.end()
    bench.write(b"b")
    assert bench.files == {_FIRST: [b"a"], _SECOND: [b"b"]}


def test_a_sync_is_timed_by_the_clock_that_is_passed_in() -> None:
    disk = SimulatedDisk()
    disk.open()
    ticks = iter([10.0, 10.5])
    segments = Segments(disk, _kept(), segment_bytes=1_000, seconds=lambda: next(ticks))
    assert segments.write([line_of(b"a")]).sync_s == 0.5
