"""
What the writer's thread works on: the segment that is open, those before it, and the snapshot being written.

What holds:

- A `Segments` belongs to the writer's thread: the reactor makes it, hands it over, and then touches neither
  its methods nor its attributes. What the reactor needs to know, sizes above all, the methods return.
- A segment is written to as long as all that was written to it is durable. After a write or a sync that
  failed, nothing is written before `mend` has cut that segment to what is durable and begun a new one.
- What was read at the start and may not be on the disk is written anew before anything else is.
- A snapshot gets its name when all of it is synced, and files are removed only when that name is durable.

Every method may raise `OSError`; a failure loses nothing of what earlier calls have made durable.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import EIO

from twisted.logger import Logger

from dcounter.journal.disk import AppendFile, Disk
from dcounter.journal.files import (
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
from dcounter.journal.framing import FORMAT, Entry, frame, header
from dcounter.journal.recovery import Kept

_log = Logger()

_SYNC = 2**20
"""
Bytes of a snapshot that are synced at a time: lines that somebody waits for are written in between.
"""


@dataclass(frozen=True, slots=True)
class Excess:
    """
    A segment that may hold more than what is durable: the rest is to be cut off.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Unproved:
    """
    A segment of which less may be on the disk than what was read: it is to be written anew.
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

    :param kept: what was there at the start.
    :param full: size (bytes) from which a new segment is begun.
    :param file_format: the format of new files.
    """

    def __init__(self, disk: Disk, kept: Kept, *, full: int, file_format: int = FORMAT) -> None:
        self._disk = disk
        self._header = header(file_format)
        self._full = full
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

    def write(self, entries: Sequence[Entry]) -> int:
        """
        Make lines durable.

        :returns: bytes of all segments.
        """
        data = b"".join(map(frame, entries))
        self._last_write = len(data)
        if self._file is None or self._doubt is not None or self._sizes[self._name] >= self._full:
            self._begin()
        assert self._file is not None
        if not self._sizes[self._name]:
            data = self._header + data
        self._doubt = Excess(self._name)
        try:
            self._file.write(data)
            self._file.sync()
        except OSError:
            self._hide_excess(self._name)
            raise
        self._doubt = None
        self._sizes[self._name] += len(data)
        self._size += len(data)
        return self._size

    def _hide_excess(self, name: str) -> None:
        """
        Cut what a failed write left, though not durably perhaps.

        If this process dies, the next one must not count and hand on what the disk may not have: a loss of
        power would take it then.
        """
        with suppress(OSError):
            self._disk.truncate(name, self._sizes[name])

    def _begin(self) -> None:
        """
        Begin a new segment.
        """
        if self._doubt is not None:
            # What a failed write left must not stand before anything new.
            raise OSError(EIO, "the last segment is not mended")
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
        Cut what may or may not have been written, do what could not be done before, and use a new segment.
        """
        self.end()
        remove_all(self._disk, self._empty)
        self._settle()
        if self._unsigned is not None:
            sign(self._disk, self._unsigned)
            self._unsigned = None
        # Whether the disk takes what it did not take last time.
        try_disk(self._disk, bytes(self._last_write))
        self._disk.remove(TRIAL)
        self._begin()

    def _settle(self) -> None:
        """
        Let a segment hold on the disk what it counts for.
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
        Begin a segment that a snapshot taken from now on does not cover.

        :returns: the number of that segment, and so of the snapshot.
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
        data = frame(Entry(line))
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
        Let a snapshot, all of which is synced, take the place of the segments before it.
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
        Let go of a snapshot; if it was not finished, it must not fill the disk.
        """
        snapshot = self._unfinished
        self._snapshot = None
        close_file(snapshot.file)
        try:
            self._disk.remove(unfinished_name(snapshot.number))
        except OSError as error:
            _log.warn("an unfinished snapshot stays there: {why}", why=str(error))

    def shorten(self, name: str, size: int) -> bool:
        """
        Take the last bytes from a file that nothing needs any more.

        :returns: whether it is gone.
        """
        return self._disk.shorten(name, size)

    @property
    def _unfinished(self) -> _Unfinished:
        assert self._snapshot is not None, "no snapshot is being written"
        return self._snapshot
