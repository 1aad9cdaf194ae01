"""
What the writer's thread works on: the open segment, those before it, and the snapshot being written.

What holds:

- A `Segments` belongs to the writer's thread: the reactor makes it, hands it over, and then touches neither
  its methods nor its attributes. What the reactor needs to know, sizes above all, the methods return.
- A segment is written to as long as all that was written to it is durable. After a write or a sync that
  failed, nothing is written before `mend` has cut that segment to what is durable and begun a new one.
- Lines that were read at the start, but may not be on the disk, are written anew before any other.
- A snapshot gets its name when all of it is synced; files are removed only when that name is durable.

Every method may raise `OSError`. What earlier calls have made durable stays so.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import EIO

from twisted.logger import Logger

from dcounter.journal.disk import AppendFile, Disk
from dcounter.journal.file_names import (
    TRIAL,
    close_file,
    covered_by,
    put,
    remove_all,
    segment_name,
    sign,
    snapshot_name,
    try_disk,
    unfinished_name,
)
from dcounter.journal.framing import FORMAT, JournalEntry, frame, header
from dcounter.journal.recovery import JournalReading

_log = Logger()

_SYNC = 2**20
"""
Bytes of a snapshot that are synced at a time, so that a batch in between does not wait for all of it.
"""


@dataclass(frozen=True, slots=True)
class Excess:
    """
    A failed write may have left more in a segment than is durable: the rest is to be cut off.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Unproved:
    """
    Less of a segment may be on the disk than was read: it is to be written anew.
    """

    name: str


Doubt = Excess | Unproved


@dataclass(frozen=True, slots=True)
class Finished:
    """
    A snapshot is complete.

    :ivar snapshot_size: its bytes.
    :ivar size: bytes of the segments behind it.
    :ivar obsolete: the files that it replaces.
    """

    snapshot_size: int
    size: int
    obsolete: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """
    Lines are durable.

    :ivar size: bytes of all segments.
    :ivar sync_s: how long their sync took.
    """

    size: int
    sync_s: float


@dataclass(slots=True)
class _Unfinished:
    """
    The snapshot being written.

    :ivar size: bytes that were written.
    :ivar synced: how many of them are synced.
    """

    number: int
    file: AppendFile
    size: int = 0
    synced: int = 0


class Segments:
    """
    The segments of one journal, and the snapshot that takes their place.

    :param kept: what the journal held at the start.
    :param segment_bytes: size from which a new segment is begun.
    :param file_format: the format of new files.
    :param seconds: a clock, to tell how long syncs take.
    """

    def __init__(
        self,
        disk: Disk,
        kept: JournalReading,
        *,
        segment_bytes: int,
        file_format: int = FORMAT,
        seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._seconds = seconds
        self._disk = disk
        self._header = header(file_format)
        self._segment_bytes = segment_bytes
        self._last = kept.last
        self._sizes = dict(kept.segments)
        self._size = kept.size
        self._file: AppendFile | None = None
        self._name = ""
        self._doubt: Doubt | None = Unproved(kept.unproved) if kept.unproved is not None else None
        self._empty = [*kept.empty]
        self._unsigned = kept.unsigned
        self._last_write = 0
        self._snapshot: _Unfinished | None = None

    # Appending

    def write(self, entries: Sequence[JournalEntry]) -> Written:
        """
        Make lines durable.
        """
        data = b"".join(map(frame, entries))
        self._last_write = len(data)
        if self._file is None or self._doubt is not None or self._sizes[self._name] >= self._segment_bytes:
            self._begin()
        assert self._file is not None
        if not self._sizes[self._name]:
            data = self._header + data
        self._doubt = Excess(self._name)
        try:
            self._file.write(data)
            began = self._seconds()
            self._file.sync()
            sync_s = self._seconds() - began
        except OSError:
            self._hide_excess(self._name)
            raise
        self._doubt = None
        self._sizes[self._name] += len(data)
        self._size += len(data)
        return Written(self._size, sync_s)

    def _hide_excess(self, name: str) -> None:
        """
        Cut off what a failed write left, although that may not be durable.

        If this process dies, the next one must not count and send to others what the disk may not have, and
        the next loss of power would take away.
        """
        with suppress(OSError):
            self._disk.truncate(name, self._sizes[name])

    def _begin(self) -> None:
        """
        Begin a new segment.
        """
        if self._doubt is not None:
            # Nothing may come behind what a failed write left.
            raise OSError(EIO, "the last segment is not repaired yet")
        self.end()
        self._last += 1
        name = segment_name(self._last)
        file = self._disk.create(name)
        try:
            self._disk.sync()
        except OSError:
            close_file(file)
            raise
        self._file, self._name = file, name
        self._sizes[name] = 0

    def end(self) -> None:
        """
        Write no more to the segment that is open.
        """
        file, self._file = self._file, None
        if file is not None:
            close_file(file)

    # After a failure

    def mend(self) -> None:
        """
        Bring the files into order, see whether the disk works, and begin a new segment.
        """
        self.end()
        remove_all(self._disk, self._empty)
        self._settle()
        if self._unsigned is not None:
            sign(self._disk, self._unsigned)
            self._unsigned = None
        # As much as it refused the last time.
        try_disk(self._disk, bytes(self._last_write))
        self._disk.remove(TRIAL)
        self._begin()

    def _settle(self) -> None:
        """
        Make sure that a segment holds, on the disk, what counts of it.
        """
        match self._doubt:
            case None:
                return
            case Excess(name):
                self._disk.truncate(name, self._sizes[name])
                if not self._sizes[name]:
                    self._disk.remove(name)
            case Unproved(name):
                put(self._disk, name, self._disk.read(name)[: self._sizes[name]])
        self._doubt = None

    # Snapshots

    def split(self) -> int:
        """
        Begin a segment for what a snapshot that is taken from now on does not cover.

        :returns: the number of the segment, and of the snapshot.
        """
        if self._file is None or self._sizes[self._name]:
            self._begin()
        return self._last

    def begin_snapshot(self, number: int) -> None:
        name = unfinished_name(number)
        self._disk.remove(name)
        self._snapshot = _Unfinished(number, self._disk.create(name))

    def write_snapshot(self, line: bytes) -> int:
        """
        Write the next line of a snapshot.

        :returns: bytes of all segments.
        """
        snapshot = self._unfinished
        data = frame(JournalEntry(line))
        if not snapshot.size:
            data = self._header + data
        snapshot.file.write(data)
        snapshot.size += len(data)
        if snapshot.size - snapshot.synced >= _SYNC:
            snapshot.file.sync()
            snapshot.synced = snapshot.size
        return self._size

    def sync_snapshot(self) -> None:
        self._unfinished.file.sync()

    def finish_snapshot(self) -> Finished:
        """
        Let a snapshot, when all of it is synced, replace the segments before it.
        """
        snapshot = self._unfinished
        self._disk.rename(unfinished_name(snapshot.number), snapshot_name(snapshot.number))
        self._disk.sync()
        obsolete = covered_by(snapshot.number, self._disk.list())
        for name in obsolete:
            self._sizes.pop(name, None)
        self._size = sum(self._sizes.values())
        return Finished(snapshot.size, self._size, obsolete)

    def end_snapshot(self) -> None:
        """
        Close a snapshot; unless it is finished, remove it.
        """
        snapshot = self._unfinished
        self._snapshot = None
        close_file(snapshot.file)
        try:
            self._disk.remove(unfinished_name(snapshot.number))
        except OSError as error:
            _log.warn("could not remove an unfinished snapshot: {why}", why=str(error))

    def shorten(self, name: str, size: int) -> bool:
        """
        Cut the last `size` bytes off an obsolete file, and remove it when nothing is left.

        :returns: whether it is removed.
        """
        return self._disk.shorten(name, size)

    @property
    def _unfinished(self) -> _Unfinished:
        assert self._snapshot is not None, "no snapshot is being written"
        return self._snapshot
