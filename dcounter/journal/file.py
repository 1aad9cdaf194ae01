"""
Where a node keeps the lines it must not forget.

A journal is a directory of segments. A record is one line of text: a checksum, the length, the origin and
number of the batch it holds (zeros for other lines), then the line exactly as it went over the wire. A
snapshot is a file of the same form that holds a copy of the ledger; once it is complete, the segments before
it are removed.

Group commit: all lines that arrive while one sync runs share the next write and the next sync, which happen
in the writer's thread, never in the reactor's.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from errno import EIO
from functools import partial
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from dcounter.errors import ConfigurationError, CorruptJournal
from dcounter.journal.disk import AppendFile, Disk
from dcounter.journal.framing import Entry, frame, scan, unframe, unframe_all, unframe_begin
from dcounter.journal.interface import JournalUser

_log = Logger()
_T = TypeVar("_T")

_SEGMENT = ".journal"
_SNAPSHOT = ".snapshot"
_UNFINISHED = ".unfinished"
_OURS = re.compile(r"[0-9]{12}\.(journal|snapshot|unfinished)")
_OWNER = "owner"
_TRIAL = f"{0:012d}{_UNFINISHED}"

_NOT_REMOVED = "files that are used no more stay there: {why}"

_PART = 2**20
"""
Bytes that are read at a time.
"""

_BEGIN = 200
"""
Bytes of a line that show what it is.
"""

_SYNC = 2**20
"""
Bytes of a snapshot that are synced at a time: lines that somebody waits for are written in between.
"""

_PIECE_PAUSE = 0.001
"""
Time (s) between two pieces of a snapshot, so that it does not take a whole core away from those who wait;
there is none if much comes in meanwhile: the directory must not grow too large.
"""

_READY_PAUSE = 0.05
"""
Time (s) between two looks whether a snapshot may be relied on.
"""

_REMOVED = 8 * 2**20
"""
Bytes of a file that is used no more that are removed at a time: to remove all of it takes tens of
milliseconds, for which nothing else is written.
"""

_MEND_PAUSE = 1.0
"""
Time (s) between two attempts to use a disk again that failed.
"""

_SNAPSHOT_PAUSE = 10.0
"""
Time (s) after a snapshot that failed until another one is due.
"""


class InThread(Protocol):
    """
    Does work in the writer's thread, one piece after the other.
    """

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]: ...

    def stop(self) -> None:
        """
        End the thread.
        """


class WriterThread:
    """
    A thread that does nothing but write one node's journal.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, name)

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]:
        if not self._pool.started:
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, work)

    def stop(self) -> None:
        if self._pool.started:
            self._pool.stop()


class FileJournal:
    """
    A journal on a disk.

    A file is written to as long as all that was written to it is durable. After a failed write or sync it
    is cut to where that was so, and a new one is begun.

    :param is_piece: whether a line, of which the beginning is enough, is a piece of the ledger.
    :param owner: whose journal it is; somebody else's is refused. `None`: nobody looks.
    :param segment: size (bytes) from which a new segment is begun.
    :param pace: shortest time (s) between two commits that nobody waits for.
    :param most: size (bytes) of all segments from which a snapshot is due, unless half of the last is more.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        is_piece: Callable[[bytes], bool],
        in_thread: InThread,
        clock: IReactorTime,
        segment: int,
        most: int,
        owner: str | None = None,
        pace: float = 0.0,
    ) -> None:
        self._disk = disk
        self._is_piece = is_piece
        self._in_thread = in_thread
        self._clock = clock
        self._segment = segment
        self._most = most
        self._owner = owner
        self._pace = pace
        self._paced_until = float("-inf")
        self._queue: list[Entry] = []
        # Whether somebody waits for any of it.
        self._awaited = False
        self._turn_end: IDelayedCall | None = None
        self._turn_end_awaited = False
        self._committing = False
        self._mend_call: IDelayedCall | None = None
        self._mending = False
        self._broken: str | None = None
        self._failures = 0
        self._snapshotting = False
        self._snapshot = ""
        self._snapshot_size = 0
        self._recovered: list[tuple[str, int]] = []
        self._no_snapshot_before = float("-inf")
        self._idle: list[Deferred[None]] = []
        self._closed = False
        # Of the writer's thread:
        self._file: AppendFile | None = None
        self._name = ""
        self._last = 0
        self._sizes: dict[str, int] = {}
        self._total = 0
        # The segment that may hold more than what is durable; the one that may hold less than what was read.
        self._doubtful: str | None = None
        self._unproved: str | None = None
        self._doubted = False
        # Segments that were found empty, and are not removed yet.
        self._empty: list[str] = []
        self._last_write = 0

    # Recovering

    def recover(self) -> Iterator[Entry]:
        self._disk.open()
        everything = self._disk.list()
        names = [name for name in everything if _OURS.fullmatch(name)]
        snapshots = [name for name in names if name.endswith(_SNAPSHOT)]
        segments = [name for name in names if name.endswith(_SEGMENT)]
        first = snapshots[-1].removesuffix(_SNAPSHOT) if snapshots else ""
        used = {*snapshots[-1:], *(name for name in segments if name >= first)}
        self._last = max((int(name.partition(".")[0]) for name in names), default=0)
        try:
            self._recognize(everything)
        except ConfigurationError:
            self._disk.close()
            raise
        self._tidy(name for name in names if name not in used)
        if first:
            yield from self._recover_snapshot(first + _SNAPSHOT)
        torn = last = ""
        for name in sorted(used.intersection(segments)):
            size = end = 0
            for entry, end in self._scan(name):
                if entry is None:
                    torn = name
                    continue
                if torn:
                    raise CorruptJournal(f"{torn}: the end is damaged, but {name} follows")
                size = end
                if not self._is_piece(entry.line):
                    yield entry
            if torn == name:
                _log.warn(
                    "{name}: the last {bytes} bytes were not written whole: cut", name=name, bytes=end - size
                )
            if end:
                last = name
                self._sizes[name] = size
            else:
                self._empty.append(name)
        self._recovered = list(self._sizes.items())
        self._total = sum(self._sizes.values())
        try:
            self._remove_empty()
            if last:
                self._put(last, self._read(last, 0, self._sizes[last]))
            elif first:
                self._disk.sync()
        except OSError as error:
            self._broken = str(error)
            self._unproved = last or None
            self._doubted = bool(last or first) and not self._prove_in_place(last)

    def _prove_in_place(self, name: str) -> bool:
        """
        Whether a disk that takes nothing new still keeps what was read.

        :param name: the last segment, if one holds anything.
        """
        try:
            if name:
                self._disk.rewrite(name, self._read(name, 0, self._sizes[name]))
            # The segment may be a copy that took the name a moment ago; and there may be a snapshot.
            self._disk.sync()
        except OSError:
            return False
        return True

    def _remove_empty(self) -> None:
        """
        Remove the segments that were found empty.

        An earlier process may have cut one, but not durably: before anything is written behind it, what it
        held must not come back any more.
        """
        while self._empty:
            self._disk.remove(self._empty[-1])
            self._empty.pop()

    def _tidy(self, names: Iterable[str]) -> None:
        """
        Remove what was left unfinished, and what a snapshot covers.
        """
        try:
            # First of all the snapshot: its name may not be durable yet.
            self._disk.sync()
            for name in names:
                self._disk.remove(name)
        except OSError as error:
            _log.warn(_NOT_REMOVED, why=str(error))

    def _recognize(self, names: Collection[str]) -> None:
        """
        See that the journal is its owner's; a new one becomes that.
        """
        if self._owner is None:
            return
        if _OWNER in names:
            owner = self._read(_OWNER).decode(errors="replace").strip()
            if owner != self._owner:
                raise ConfigurationError(f"the journal is that of {owner}, not that of {self._owner}")
            self._owner = None
            return
        # An empty segment is older than a name that was lost with the power: nothing was written yet.
        if any(name.endswith((_SEGMENT, _SNAPSHOT)) and self._read(name) for name in names):
            raise ConfigurationError(f"the journal does not say whose it is: the file {_OWNER!r} is gone")
        try:
            self._sign()
        except OSError as error:
            self._broken = str(error)

    def _sign(self) -> None:
        """
        Say whose journal it is, if that is not said yet.
        """
        if self._owner is not None:
            self._put(_OWNER, f"{self._owner}\n".encode())
            self._owner = None

    def _put(self, name: str, data: bytes) -> None:
        """
        Make a file of these bytes, durably, in place of the one that is there.

        For the last segment of an earlier process this is more than to sync it: a sync that failed then
        may have left bytes that can be read, count as written, and are not on the disk.
        """
        self._try_disk(data)
        self._disk.rename(_TRIAL, name)
        self._disk.sync()

    def _recover_snapshot(self, name: str) -> Iterator[Entry]:
        """
        All of a snapshot but the pieces of the ledger: of these, only where they end is looked at.
        """
        place = 0
        while begin := self._read(name, place, _BEGIN):
            found = unframe_begin(begin)
            if found is None:
                raise CorruptJournal(f"{name}: damaged at byte {place}")
            held, size = found
            if self._is_piece(held):
                whole = self._read(name, place + size, 1) == b"\n"
            else:
                line = self._read(name, place, size + 1)
                entry = unframe(line[:-1])
                whole = entry is not None and line.endswith(b"\n")
                if entry is not None and whole:
                    yield entry
            if not whole:
                raise CorruptJournal(f"{name}: damaged at byte {place}")
            place += size + 1
        if not place:
            raise CorruptJournal(f"{name}: damaged at byte 0")
        self._snapshot = name
        self._snapshot_size = place

    def load(self) -> Iterator[Entry]:
        if self._snapshot:
            yield from self._load(self._snapshot, self._snapshot_size)
        for name, size in self._recovered:
            yield from self._load(name, size)

    def _load(self, name: str, size: int) -> Iterator[Entry]:
        place = 0
        for entry, end in unframe_all(self._parts(name, size)):
            if entry is None:
                raise CorruptJournal(f"{name}: damaged at byte {place}")
            if entry.number or self._is_piece(entry.line):
                yield entry
            place = end

    def _scan(self, name: str) -> Iterator[tuple[Entry | None, int]]:
        try:
            yield from scan(self._parts(name))
        except CorruptJournal as error:
            raise CorruptJournal(f"{name}: {error}") from error

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

    # Appending

    def open(self, user: JournalUser) -> None:
        self._user = user
        if self._broken is not None:
            _log.error("the disk failed: {why}", why=self._broken)
            if self._doubted:
                user.journalDoubted()
            user.journalFailed([], self._broken)
            self._mend_later()

    def append(self, entry: Entry, *, waits: bool = True) -> None:
        self._queue.append(entry)
        self._awaited = self._awaited or waits
        self._commit_soon()

    def hurry(self) -> None:
        if self._queue:
            self._awaited = True
            self._commit_soon()

    def _commit_soon(self) -> None:
        if not self._queue or self._committing or self._broken is not None:
            return
        if self._turn_end is None:
            left = 0.0 if self._awaited else self._paced_until - self._clock.seconds()
            self._turn_end = self._clock.callLater(max(0.0, left), self._commit)
            self._turn_end_awaited = self._awaited
        elif self._awaited and not self._turn_end_awaited:
            self._turn_end.reset(0)
            self._turn_end_awaited = True

    def _commit(self) -> None:
        self._turn_end = None
        entries, self._queue, self._awaited = self._queue, [], False
        self._paced_until = self._clock.seconds() + self._pace
        self._committing = True
        done = self._in_thread(partial(self._write, entries))
        done.addCallbacks(self._committed, self._failed, callbackArgs=(entries,), errbackArgs=(entries,))
        done.addErrback(_stuck)

    def _committed(self, _: None, entries: Sequence[Entry]) -> None:
        try:
            self._user.journalSynced(entries)
        finally:
            self._committing = False
            if self._queue and self._awaited:
                self._commit()
            elif self._queue:
                self._commit_soon()
            else:
                self._tell_idle()

    def _failed(self, why: Failure, entries: Sequence[Entry]) -> None:
        failed = [*entries, *self._queue]
        self._queue = []
        self._failures += 1
        self._broken = _reason(why)
        _log.error("the disk failed: {why}", why=self._broken)
        self._mend_later()
        try:
            self._user.journalFailed(failed, self._broken)
        finally:
            self._committing = False
            self._tell_idle()

    def _write(self, entries: Sequence[Entry]) -> None:
        """
        In the writer's thread: make entries durable.
        """
        data = b"".join(map(frame, entries))
        self._last_write = len(data)
        if self._file is None or self._sizes[self._name] >= self._segment:
            self._begin_segment()
        assert self._file is not None
        self._doubtful = self._name
        try:
            self._file.write(data)
            self._file.sync()
        except OSError:
            self._hide_doubtful()
            raise
        self._doubtful = None
        self._sizes[self._name] += len(data)
        self._total += len(data)

    def _hide_doubtful(self) -> None:
        """
        Cut what a failed write left, though not durably perhaps.

        If this process dies, the next one must not count and hand on what the disk may not have: a loss of
        power would take it then.
        """
        assert self._doubtful is not None
        with suppress(OSError):
            self._disk.truncate(self._doubtful, self._sizes[self._doubtful])

    def _begin_segment(self) -> None:
        if self._doubtful is not None or self._unproved is not None:
            # What a failed write left must not stand before anything new.
            raise OSError(EIO, "the last segment is not mended")
        self._end_segment()
        self._last += 1
        name = f"{self._last:012d}{_SEGMENT}"
        file = self._disk.create(name)
        try:
            self._disk.sync()
        except OSError:
            _close(file)
            raise
        self._file, self._name = file, name
        self._sizes[name] = 0

    def _end_segment(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            _close(file)

    # After a failure

    def _mend_later(self) -> None:
        if not self._closed:
            self._mend_call = self._clock.callLater(_MEND_PAUSE, self._mend)

    def _mend(self) -> None:
        self._mend_call = None
        self._mending = True
        done = self._in_thread(self._begin_anew)
        done.addCallbacks(self._mended, self._still_broken)
        done.addErrback(_stuck)

    def _mended(self, _: None) -> None:
        self._broken = None
        _log.info("the disk works again")
        try:
            self._user.journalMended()
        finally:
            self._mending = False
            self._commit_soon()
            self._tell_idle()

    def _still_broken(self, why: Failure) -> None:
        _reason(why)
        self._mend_later()
        self._mending = False
        self._tell_idle()

    def _begin_anew(self) -> None:
        """
        In the writer's thread: cut what may or may not have been written, and use a new segment.
        """
        self._end_segment()
        if self._doubtful is not None:
            size = self._sizes[self._doubtful]
            self._disk.truncate(self._doubtful, size)
            if not size:
                self._disk.remove(self._doubtful)
            self._doubtful = None
        self._remove_empty()
        if self._unproved is not None:
            self._put(self._unproved, self._disk.read(self._unproved)[: self._sizes[self._unproved]])
            self._unproved = None
        self._sign()
        # Whether the disk takes what it did not take last time.
        self._try_disk(bytes(self._last_write))
        self._disk.remove(_TRIAL)
        self._begin_segment()

    def _try_disk(self, data: bytes) -> None:
        """
        Write a file that is not used yet.
        """
        self._disk.remove(_TRIAL)
        file = self._disk.create(_TRIAL)
        try:
            file.write(data)
            file.sync()
        except OSError:
            # A full disk is not to be full of this.
            _close(file)
            self._disk.remove(_TRIAL)
            raise
        _close(file)

    # Snapshots

    @property
    def due(self) -> bool:
        return self._snapshot_possible() and self._total > self._enough

    @property
    def _enough(self) -> int:
        """
        Size (bytes) of all segments from which a snapshot is due.

        With the next snapshot, and what comes while it is written, all stays below three times the last one.
        """
        return max(self._most, self._snapshot_size // 2)

    def _snapshot_possible(self) -> bool:
        paused = self._clock.seconds() < self._no_snapshot_before
        return not (self._snapshotting or paused or self._closed or self._broken is not None)

    def snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> Deferred[bool]:
        if not self._snapshot_possible():
            return succeed(False)
        self._snapshotting = True
        return Deferred.fromCoroutine(self._take_snapshot(lines, ready)).addBoth(self._snapshot_over)

    def _snapshot_over(self, result: Failure | bool) -> Failure | bool:
        self._snapshotting = False
        self._tell_idle()
        if isinstance(result, Failure):
            self._no_snapshot_before = self._clock.seconds() + _SNAPSHOT_PAUSE
            if result.check(OSError):
                _log.error("no snapshot: {why}", why=result.getErrorMessage())
                return False
        return result

    async def _take_snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> bool:
        failures = self._failures

        def in_vain() -> bool:
            # After a failure, lines may have been given up that this snapshot does not hold.
            return self._closed or self._failures != failures

        name = f"{await self._in_thread(self._split_segments):012d}"
        file = await self._in_thread(partial(self._create_unfinished, name))
        old: list[str] = []
        try:
            size = await self._write_snapshot(file, lines, ready, in_vain)
            if not in_vain():
                old = await self._in_thread(partial(self._finish_snapshot, name))
                self._snapshot_size = size
        except Exception:
            # Not "finally": a coroutine that is thrown away must not begin to wait. _snapshot_over, or
            # whoever asked for the snapshot, logs it.
            await self._in_thread(partial(self._drop_unfinished, name, file))
            raise
        await self._in_thread(partial(self._drop_unfinished, name, file))
        await self._remove_in_parts(old)
        return not in_vain()

    async def _remove_in_parts(self, names: Iterable[str]) -> None:
        """
        Remove files that are used no more, and let other work be done in between.
        """
        try:
            for name in names:
                while not (
                    self._closed or await self._in_thread(partial(self._disk.shorten, name, _REMOVED))
                ):
                    pass
        except OSError as error:
            _log.warn(_NOT_REMOVED, why=str(error))

    async def _write_snapshot(
        self,
        file: AppendFile,
        lines: Iterator[bytes],
        ready: Callable[[], bool],
        in_vain: Callable[[], bool],
    ) -> int:
        """
        Write all pieces, and wait until they may be relied on, unless it is in vain.
        """
        size = synced = 0
        for line in lines:
            if in_vain():
                return size
            data = frame(Entry(line))
            size += len(data)
            sync = size - synced >= _SYNC
            synced = size if sync else synced
            await self._in_thread(partial(_write_line, file, data, sync=sync))
            if self._total < 1.5 * self._enough:
                await deferLater(self._clock, _PIECE_PAUSE)
        await self._in_thread(file.sync)
        while not (ready() or in_vain()):
            await deferLater(self._clock, _READY_PAUSE)
        return size

    def _split_segments(self) -> int:
        """
        In the writer's thread: begin a segment that a snapshot taken from now on does not cover.
        """
        if self._file is None or self._sizes[self._name]:
            self._begin_segment()
        return self._last

    def _create_unfinished(self, name: str) -> AppendFile:
        self._disk.remove(name + _UNFINISHED)
        return self._disk.create(name + _UNFINISHED)

    def _finish_snapshot(self, name: str) -> list[str]:
        """
        In the writer's thread: give the snapshot its name.

        :returns: the files that are used no more.
        """
        self._disk.rename(name + _UNFINISHED, name + _SNAPSHOT)
        self._disk.sync()
        old = [each for each in self._disk.list() if _OURS.fullmatch(each) and each < name]
        for each in old:
            self._sizes.pop(each, None)
        self._total = sum(self._sizes.values())
        return old

    def _drop_unfinished(self, name: str, file: AppendFile) -> None:
        """
        In the writer's thread: a snapshot is over; if it was not finished, it must not fill the disk.
        """
        _close(file)
        try:
            self._disk.remove(name + _UNFINISHED)
        except OSError as error:
            _log.warn("an unfinished snapshot stays there: {why}", why=str(error))

    # Closing

    def close(self) -> Deferred[None]:
        self._closed = True
        if self._mend_call is not None:
            self._mend_call.cancel()
            self._mend_call = None
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        while self._committing or self._turn_end is not None or self._mending or self._snapshotting:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        if self._file is not None:
            await self._in_thread(self._end_segment)
        self._in_thread.stop()
        self._disk.close()

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)


def _write_line(file: AppendFile, data: bytes, *, sync: bool) -> None:
    file.write(data)
    if sync:
        file.sync()


def _close(file: AppendFile) -> None:
    """
    Close a file that needs nothing more from the disk: all of it is synced, or does not count.
    """
    try:
        file.close()
    except OSError as error:
        _log.warn("a file was not closed: {why}", why=str(error))


def _reason(why: Failure) -> str:
    """
    Why something failed; what is not the disk's fault is our own, and logged as such.
    """
    if not why.check(OSError):
        _log.failure("the journal failed", why)
    return why.getErrorMessage()


def _stuck(why: Failure) -> None:
    _log.failure("whoever uses the journal failed", why)
