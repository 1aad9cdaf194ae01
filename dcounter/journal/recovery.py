"""
Reading back what a journal has kept.

It is read twice. `read` gives what a node needs to take part again, and passes over the chunks of the ledger.
`load` gives these, and the batches once more, while the node is at work already.

What holds:

- An incomplete record at the very end is a torn tail: the process died while it wrote, and nothing was
  acknowledged. Anything invalid that valid lines follow, or a later segment that is not empty, is corruption.
- Before anything that was read counts as durable, the last segment is written anew: its last sync may have
  failed. The other segments were complete before the one behind them was begun.
- What does not count is removed before anything new is written behind it: torn tails, and segments that
  hold nothing.
- Nothing is changed before the format of every file is known to be one that this version reads.
- A disk that takes nothing new does not stop the recovery. `JournalReading` lists what is to be done when the
  disk works again.

`read` ends before the writer's thread begins; `load` only reads, and only what was there at the start.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from errno import EIO

from dcounter.errors import ConfigurationError, CorruptJournal, NewerJournal
from dcounter.journal.disk import Disk
from dcounter.journal.file_names import OWNER, Inventory, holds_lines, put, remove_all, sign, take_inventory
from dcounter.journal.framing import (
    FORMAT,
    JournalEntry,
    format_of,
    scan,
    unframe,
    unframe_all,
    unframe_begin,
)

_PART = 2**20
"""
Bytes that are read at a time.
"""

_BEGIN = 200
"""
Bytes of a line that show what it is.
"""


@dataclass(frozen=True, slots=True)
class TornTail:
    """
    An incomplete record at the end of a segment: it does not count.

    :ivar size: its bytes.
    """

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalReading:
    """
    What a journal holds, as its recovery leaves it.

    The last four say what is yet to be done, and are empty unless there is a `failure`.

    :ivar last: the highest number of a file.
    :ivar snapshot_size: bytes of the snapshot; 0 without one.
    :ivar segments: the segments behind it that are not empty, and their sizes (bytes) without a torn tail.
    :ivar torn: the torn tail, if there was one.
    :ivar not_removed: why obsolete files could not be removed; `None` if none is left.
    :ivar failure: why the disk takes nothing new; `None` if it does.
    :ivar unsigned: the owner that the journal does not name yet.
    :ivar empty: empty segments that are to be removed.
    :ivar unproved: the segment that is to be written anew.
    :ivar doubted: whether what was read may not be on the disk.
    """

    last: int
    snapshot_size: int
    segments: tuple[tuple[str, int], ...]
    torn: TornTail | None = None
    not_removed: str | None = None
    failure: str | None = None
    unsigned: str | None = None
    empty: tuple[str, ...] = ()
    unproved: str | None = None
    doubted: bool = False

    @property
    def size(self) -> int:
        """
        Bytes of all segments.
        """
        return sum(size for _, size in self.segments)


class Recovery:
    """
    One reading of what a journal has kept.

    :param is_chunk: whether a line, given its beginning, is a chunk of the ledger.
    :param owner: the journal's owner: another one's is refused. `None`: any owner's is taken.
    :param highest: the highest format that is read.
    :ivar kept: what the journal holds; set when `read` is exhausted.
    """

    kept: JournalReading

    def __init__(
        self,
        disk: Disk,
        *,
        is_chunk: Callable[[bytes], bool],
        owner: str | None = None,
        highest: int = FORMAT,
    ) -> None:
        self._disk = disk
        self._is_chunk = is_chunk
        self._unsigned = owner
        self._highest = highest
        self._snapshot: str | None = None
        self._snapshot_size = 0
        self._sizes: dict[str, int] = {}
        self._torn: TornTail | None = None
        self._empty: list[str] = []
        self._not_removed: str | None = None
        self._failure: str | None = None
        self._unproved: str | None = None
        self._doubted = False

    def read(self) -> Iterator[JournalEntry]:
        """
        Give all lines but the chunks of the ledger, oldest first; then make sure that the disk keeps them.

        :raises NewerJournal: a file has a format that this version does not read; nothing was changed.
        :raises CorruptJournal: something in the middle is damaged.
        :raises ConfigurationError: another process uses the journal, or it has another owner.
        """
        self._disk.open()
        names = self._disk.list()
        found = take_inventory(names)
        try:
            self._check_formats(found)
            self._recognize(names)
        except (ConfigurationError, NewerJournal):
            self._disk.close()
            raise
        self._snapshot = found.snapshot
        self._remove_obsolete(found.obsolete)
        if found.snapshot is not None:
            yield from self._read_snapshot(found.snapshot)
        for name in found.segments:
            yield from self._read_segment(name)
        self._secure()
        self.kept = JournalReading(
            last=found.last,
            snapshot_size=self._snapshot_size,
            segments=tuple(self._sizes.items()),
            torn=self._torn,
            not_removed=self._not_removed,
            failure=self._failure,
            unsigned=self._unsigned,
            empty=tuple(self._empty),
            unproved=self._unproved,
            doubted=self._doubted,
        )

    def load(self) -> Iterator[JournalEntry]:
        """
        Give the lines that the ledger is made of: the chunks that `read` passed over, and all batches.

        :raises CorruptJournal: something is damaged.
        """
        if self._snapshot is not None:
            yield from self._load(self._snapshot, self._snapshot_size)
        for name, size in self.kept.segments:
            yield from self._load(name, size)

    # The owner

    def _recognize(self, names: Collection[str]) -> None:
        """
        Check the journal's owner; a new journal gets this one.
        """
        if self._unsigned is None:
            return
        if OWNER in names:
            owner = self._read(OWNER).decode(errors="replace").strip()
            if owner != self._unsigned:
                raise ConfigurationError(f"the journal belongs to {owner}, not to {self._unsigned}")
            self._unsigned = None
            return
        # A loss of power may leave an empty segment without the owner: nothing was written yet.
        if any(holds_lines(name) and self._read(name) for name in names):
            raise ConfigurationError(f"the journal names no owner: the file {OWNER!r} is missing")
        try:
            sign(self._disk, self._unsigned)
            self._unsigned = None
        except OSError as error:
            self._failure = str(error)

    # Its files

    def _check_formats(self, found: Inventory) -> None:
        """
        See that this version can read all that counts.
        """
        for name in (*([found.snapshot] if found.snapshot else []), *found.segments):
            line, _, _ = self._read(name, 0, _BEGIN).partition(b"\n")
            first = unframe(line)
            file_format = None if first is None else format_of(first.line)
            if file_format is not None and file_format > self._highest:
                raise NewerJournal(
                    f"{name} has format {file_format}, and this version reads {self._highest} at most"
                )

    def _remove_obsolete(self, names: Collection[str]) -> None:
        """
        Remove unfinished files, and those that a snapshot covers.
        """
        try:
            # The snapshot comes first: its name may not be durable yet.
            self._disk.sync()
            for name in names:
                self._disk.remove(name)
        except OSError as error:
            self._not_removed = str(error)

    def _read_snapshot(self, name: str) -> Iterator[JournalEntry]:
        """
        Give all lines of a snapshot but the chunks of the ledger, of which only the ends are checked.
        """
        place = 0
        while begin := self._read(name, place, _BEGIN):
            found = unframe_begin(begin)
            if found is None:
                raise CorruptJournal(f"{name}: damaged at byte {place}")
            held, size = found
            if self._is_chunk(held):
                whole = self._read(name, place + size, 1) == b"\n"
            else:
                line = self._read(name, place, size + 1)
                entry = unframe(line[:-1])
                whole = entry is not None and line.endswith(b"\n")
                if entry is not None and whole and not format_of(entry.line):
                    yield entry
            if not whole:
                raise CorruptJournal(f"{name}: damaged at byte {place}")
            place += size + 1
        if not place:
            raise CorruptJournal(f"{name}: damaged at byte 0")
        self._snapshot_size = place

    def _read_segment(self, name: str) -> Iterator[JournalEntry]:
        """
        Give all lines of a segment but the chunks of the ledger.
        """
        size = end = 0
        torn = False
        for entry, end in self._scan(name):
            if self._torn is not None:
                # Even if this one is damaged, too: only one tail can be torn.
                raise CorruptJournal(f"{self._torn.name}: the end is damaged, but {name} follows")
            if entry is None:
                torn = True
                continue
            size = end
            if entry.number or not (self._is_chunk(entry.line) or format_of(entry.line)):
                yield entry
        if torn:
            self._torn = TornTail(name, end - size)
        if end:
            self._sizes[name] = size
        else:
            self._empty.append(name)

    def _scan(self, name: str) -> Iterator[tuple[JournalEntry | None, int]]:
        try:
            yield from scan(self._parts(name))
        except CorruptJournal as error:
            raise CorruptJournal(f"{name}: {error}") from error

    def _load(self, name: str, size: int) -> Iterator[JournalEntry]:
        place = 0
        for entry, end in unframe_all(self._parts(name, size)):
            if entry is None:
                raise CorruptJournal(f"{name}: damaged at byte {place}")
            if entry.number or self._is_chunk(entry.line):
                yield entry
            place = end

    # Whether the disk keeps it

    def _secure(self) -> None:
        """
        Make what was read durable, and nothing else.
        """
        last = next(reversed(self._sizes), None)
        try:
            # They may have been truncated, but not durably: what they held must not come back.
            remove_all(self._disk, self._empty)
            if last is not None:
                self._renew(last)
            elif self._snapshot is not None:
                self._disk.sync()
        except OSError as error:
            self._failure = str(error)
            self._unproved = last
            something = last is not None or self._snapshot is not None
            self._doubted = something and not self._prove_in_place(last)

    def _renew(self, name: str) -> None:
        """
        Write the last segment anew, without a torn tail.
        """
        put(self._disk, name, self._read(name, 0, self._sizes[name]))

    def _prove_in_place(self, name: str | None) -> bool:
        """
        Whether a disk that takes nothing new still keeps what was read.

        :param name: the last segment, if one holds anything.
        """
        try:
            if name is not None:
                self._disk.rewrite(name, self._read(name, 0, self._sizes[name]))
            # Names, too: the segment may have been replaced a moment ago, and there may be a snapshot.
            self._disk.sync()
        except OSError:
            return False
        return True

    # Files

    def _parts(self, name: str, size: int | None = None) -> Iterator[bytes]:
        """
        A file, part by part.
        """
        start = 0
        while part := self._read(name, start, _PART if size is None else min(_PART, size - start)):
            start += len(part)
            yield part

    def _read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        try:
            return self._disk.read(name, start, size)
        except OSError as error:
            if error.errno != EIO:
                raise
            raise CorruptJournal(f"{name} cannot be read: {error}") from error
