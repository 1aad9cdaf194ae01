"""
Power fails, disks fill up and fail, processes die: whatever was said to be durable is there afterwards.

`Life` is a small model of a node: of its own lines it applies those that are durable and forgets those that
failed; others' lines it applies at once and journals again when the disk is mended, or gives them up for a
snapshot if they are too many.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from errno import EIO
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dcounter.journal.file import FileJournal
from dcounter.journal.framing import JournalEntry
from dcounter.journal.segments import Segments
from dcounter.protocol import codec
from dcounter.testing import PowerLoss, SimulatedDisk
from dcounter.testing.disk import FAILING
from tests.support.journals import Guarded, WatchedWriter

OWNER = "node 1 of cluster c"
BEGIN, END = b"begin", b"end"


@dataclass
class Truth:
    """
    What was said over all lives.

    :ivar refused: our own lines that failed before the disk was mended: they are gone for good.
    """

    appended: list[bytes] = field(default_factory=list)
    acknowledged: set[bytes] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)

    def check(self, found: list[bytes]) -> None:
        assert len(found) == len(set(found))
        assert self.acknowledged <= set(found)
        assert set(found) <= set(self.appended)
        assert not self.refused & set(found)
        own = [line for line in found if line.startswith(b"own")]
        assert own == [line for line in self.appended if line in own]


class Life:
    """
    A process that uses the disk, until one of them dies.
    """

    def __init__(
        self,
        disk: SimulatedDisk,
        truth: Truth,
        random: Random | None = None,
        journal: Callable[..., FileJournal] = FileJournal,
    ) -> None:
        self.disk = disk
        self.truth = truth
        self.clock = Clock()
        chance = (lambda: random.choice((0.0, 0.001, 0.2))) if random else (lambda: 0.001)
        self.thread = WatchedWriter(self.clock, chance, chance)
        self.journal = journal(
            disk,
            is_chunk=codec.is_chunk,
            in_thread=self.thread,
            clock=self.clock,
            segment_bytes=100,
            snapshot_bytes=300,
            owner=OWNER,
        )
        self.applied: list[bytes] = []
        self.under_way: list[bytes] = []
        self.failed_own: set[bytes] = set()
        self.kept: list[bytes] = []
        self.most_kept = 3
        self.broken = self.needed = False
        self.again = 0.0
        self.snapshots = 0
        self.begin: set[bytes] = set()
        self.end: set[bytes] | None = None
        self.numbers = [0]

    def start(self) -> "Life":
        for entry in self.journal.recover():
            if entry.line not in (BEGIN, END, *self.applied):
                self.applied.append(entry.line)
        self.truth.check(self.applied)
        self.journal.open(self)
        if not self.needed:
            self.truth.acknowledged.update(self.applied)
        return self

    # JournalUser

    def journal_synced(self, entries: Sequence[JournalEntry]) -> None:
        for entry in entries:
            line = self.under_way.pop(0)
            assert entry.line == line
            if line.startswith(b"own"):
                self.applied.append(line)
            self.truth.acknowledged.add(line)

    def journal_doubted(self) -> None:
        self.needed = True

    def journal_failed(self, entries: Sequence[JournalEntry], reason: str) -> None:
        self.broken = True
        assert [entry.line for entry in entries] == self.under_way
        for line in self.under_way:
            if line.startswith(b"own"):
                self.failed_own.add(line)
            else:
                self._keep(line)
        self.under_way.clear()

    def journal_mended(self) -> None:
        self.broken = False
        self.truth.refused |= self.failed_own
        self.failed_own.clear()
        if self.needed:
            self.snapshot()
        kept, self.kept = self.kept, []
        for line in kept:
            self._append(line)

    # What a node does

    def own(self) -> None:
        if not self.broken:
            self._append(self._new(b"own"))

    def foreign(self) -> None:
        line = self._new(b"foreign")
        self.applied.append(line)
        if self.broken:
            self._keep(line)
        else:
            self._append(line)

    def tick(self) -> None:
        if self.journal.due or (self.needed and not self.broken and self.clock.seconds() > self.again):
            self.again = self.clock.seconds() + 1
            self.snapshot()

    def snapshot(self) -> Deferred[bool]:
        return self.journal.snapshot(self._snapshot(), self._ready).addCallback(self._kept_snapshot)

    def pass_time(self, seconds: float) -> None:
        until = self.clock.seconds() + seconds
        while (now := self.clock.seconds()) < until:
            calls = [call.getTime() for call in self.clock.getDelayedCalls()]
            self.clock.advance(max(0.0, min([*calls, until, now + 0.25]) - now))
            self.tick()

    def _new(self, kind: bytes) -> bytes:
        line = b"%s %d" % (kind, len(self.truth.appended))
        self.truth.appended.append(line)
        return line

    def _append(self, line: bytes) -> None:
        self.under_way.append(line)
        self.journal.append(JournalEntry(line, 1, 2, 3))

    def _keep(self, line: bytes) -> None:
        self.kept.append(line)
        if len(self.kept) > self.most_kept:
            self.kept.clear()
            self.needed = True

    def _snapshot(self) -> Iterator[bytes]:
        self.end = None
        self.begin = set(self.applied)
        yield BEGIN
        place = 0
        while place < len(self.applied):
            yield self.applied[place]
            place += 1
        self.end = set(self.applied)
        yield END

    def _ready(self) -> bool:
        return self.needed or (self.end is not None and self.end <= self.truth.acknowledged)

    def _kept_snapshot(self, kept: bool) -> bool:
        if kept:
            self.snapshots += 1
            self.needed = False
            self.truth.acknowledged |= self.begin
        return kept


def _story(life: Life) -> bool:
    """
    Everything that happens in a journal, once; whether it came to its end.
    """
    for round_ in range(3):
        for _ in range(4):
            life.own()
            life.foreign()
            life.pass_time(0.01)
        life.own()
        life.foreign()
        life.snapshot()
        life.own()
        life.pass_time(0.03)
        life.foreign()
        life.own()
        life.pass_time(0.2)
        if round_ < 2:
            life.disk.errors["write" if round_ else "sync"] = EIO
            for _ in range(1 + 4 * round_):
                life.own()
                life.foreign()
            life.pass_time(1.5)
            life.disk.errors.clear()
            life.foreign()
            life.pass_time(1.5)
    life.own()
    closed = life.journal.close()
    life.pass_time(1)
    return closed.called


def _lived(point: int) -> tuple[SimulatedDisk, Truth]:
    """
    The disk after a story in which the power failed at some point.
    """
    disk, truth = SimulatedDisk(), Truth()
    disk.power_fails_at = point
    with suppress(PowerLoss):
        assert not _story(Life(disk, truth).start())
    return disk, truth


def test_a_story_without_disaster() -> None:
    disk, truth = SimulatedDisk(), Truth()
    life = Life(disk, truth).start()
    assert _story(life)
    assert disk.points > 500
    assert life.snapshots == 4
    assert truth.refused
    assert truth.acknowledged
    assert truth.acknowledged | truth.refused == set(truth.appended)
    Life(disk, truth).start()


# One thread


class Peeking(FileJournal):
    """
    Looks at what the writer's thread works on.
    """

    @property
    def due(self) -> bool:
        assert self._segments is not None
        return super().due and self._segments._size > 0  # noqa: SLF001


def _touched(journal: Callable[..., FileJournal]) -> tuple[set[str], int]:
    """
    What of the segments a story touches outside of the writer's thread, and how many snapshots it takes.
    """
    touched: set[str] = set()
    threads: list[WatchedWriter] = []

    def guarded(*args: Any, **kw: Any) -> Segments:
        return Guarded(*args, **kw, inside=lambda: threads[0].inside, touched=touched)

    life = Life(SimulatedDisk(), Truth(), journal=partial(journal, segments=guarded))
    threads.append(life.thread)
    life.start()
    with suppress(AssertionError):
        _story(life)
    return touched, life.snapshots


def test_only_the_writers_thread_touches_the_segments() -> None:
    assert _touched(FileJournal) == (set(), 4)


def test_another_one_that_does_is_noticed() -> None:
    assert _touched(Peeking)[0] == {"_size"}


# Disasters


def _points() -> int:
    disk = SimulatedDisk()
    _story(Life(disk, Truth()).start())
    return disk.points


@pytest.mark.parametrize("part", range(4))
def test_power_fails_at_every_point(part: int) -> None:
    for point in range(part, _points(), 4):
        before = _lived(point)
        for seed in range(3):
            disk, truth = deepcopy(before)
            disk.lose_power(Random(seed))
            life = Life(disk, truth).start()
            found = list(life.applied)
            # All that was found is durable now: it stays, whatever happens next.
            life.disk.lose_power(Random(seed + 1))
            life = Life(disk, truth).start()
            assert life.applied == found
            life.own()
            life.foreign()
            life.pass_time(0.1)
            assert set(life.applied[-2:]) <= truth.acknowledged


@pytest.mark.parametrize("part", range(4))
def test_power_fails_again_at_every_point_of_the_recovery(part: int) -> None:
    for point in range(part, _points(), 4 * 4):
        before = _lived(point)
        before[0].lose_power(Random(point))
        for again in count():
            disk, truth = deepcopy(before)
            disk.power_fails_at = disk.points + again
            try:
                Life(disk, truth).start()
                break
            except PowerLoss:
                disk.lose_power(Random(again))
                Life(disk, truth).start()
        assert again >= 2


def test_a_process_dies_at_every_point() -> None:
    for point in range(0, _points(), 3):
        disk, truth = _lived(point)
        disk.power_fails_at = None
        disk.kill()
        found = Life(disk, truth).start().applied
        disk.kill()
        assert Life(disk, truth).start().applied == found


FAILURES: dict[str, Callable[[SimulatedDisk, Random], None]] = {
    "write": lambda disk, random: disk.errors.update({"write": EIO}),
    "sync": lambda disk, random: disk.errors.update({"sync": EIO}),
    "full": lambda disk, random: setattr(disk, "capacity", random.randint(0, 2_000)),
    "read only": lambda disk, random: setattr(disk, "read_only", True),
    "any": lambda disk, random: disk.errors.update({random.choice(FAILING): EIO}),
}


def _mend(disk: SimulatedDisk) -> None:
    disk.errors.clear()
    disk.capacity = None
    disk.read_only = False


@pytest.mark.parametrize("seed", range(120))
def test_anything_at_random(seed: int) -> None:
    random = Random(seed)
    disk, truth = SimulatedDisk(), Truth()
    life = Life(disk, truth, random).start()
    for _ in range(60):
        match random.randrange(12):
            case 0 | 1 | 2:
                life.own()
            case 3 | 4:
                for _ in range(random.randint(1, 6)):
                    life.foreign()
            case 5 | 6 | 7:
                life.pass_time(random.choice((0.0, 0.01, 0.1, 2.0)))
            case 8:
                life.snapshot()
            case 9:
                random.choice(list(FAILURES.values()))(disk, random)
            case 10:
                _mend(disk)
            case _:
                life = _next_life(life, random)
    _mend(disk)
    life = _next_life(life, random)
    life.foreign()
    life.own()
    life.pass_time(30)
    assert set(life.applied) <= truth.acknowledged
    closed = life.journal.close()
    life.pass_time(1)
    assert closed.called


def _next_life(life: Life, random: Random) -> Life:
    disk = life.disk
    match random.randrange(3):
        case 0:
            disk.power_fails_at = disk.points + random.randrange(20)
            life.own()
            life.snapshot()
            life.pass_time(1)
            disk.lose_power(random)
        case 1:
            _mend(disk)
            disk.kill()
        case _:
            closed = life.journal.close()
            life.pass_time(10)
            assert closed.called
    # What it takes to start is another test's matter.
    _mend(disk) if random.random() < 0.5 else disk.errors.clear()
    disk.power_fails_at = disk.points + random.randrange(40) if random.random() < 0.5 else None
    while True:
        try:
            return Life(disk, life.truth, random).start()
        except PowerLoss:
            disk.lose_power(random)
        finally:
            disk.power_fails_at = None
