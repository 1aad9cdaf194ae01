"""
Where a node keeps the lines it must not forget.

A journal is a directory of segments. A record is one line of text: a checksum, the length, the origin and
number of the batch it holds (zeros for other lines), then the line exactly as it went over the wire. A
snapshot is a file of the same form that holds a copy of the ledger; once it is complete, the segments before
it are removed.

Group commit: all lines that arrive while one sync runs share the next write and the next sync, which happen
in the writer's thread, never in the reactor's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from dcounter.disk import AppendFile, Disk
from dcounter.errors import CorruptJournal
from dcounter.records import Entry, frame, scan

_log = Logger()
_T = TypeVar("_T")

_SEGMENT = ".journal"
_SNAPSHOT = ".snapshot"
_UNFINISHED = ".unfinished"

_READY_PAUSE = 0.05
"""
Time (s) between two looks whether a snapshot may be relied on.
"""

_MEND_PAUSE = 1.0
"""
Time (s) between two attempts to use a disk again that failed.
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


class JournalUser(Protocol):
    """
    Whoever a journal tells what became of its lines.
    """

    def journalSynced(self, entries: int) -> None:
        """
        The oldest `entries` of the lines appended are durable.
        """

    def journalFailed(self, entries: int, reason: str) -> None:
        """
        The oldest `entries` of the lines appended are not durable, and none will be until `journalMended`.
        """

    def journalMended(self) -> None:
        """
        The journal takes lines again.
        """


class Journal(Protocol):
    """
    Takes lines in order and tells when they are durable, in the same order.
    """

    def recover(self) -> Iterable[Entry]:
        """
        All that was kept, oldest first; called once, before `open`.

        :raises CorruptJournal: something in the middle is damaged.
        """
        ...

    def open(self, user: JournalUser) -> None:
        """
        Begin; the user is never called from within `append`.
        """

    def append(self, entry: Entry) -> None:
        """
        Take a line.
        """

    def snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> Deferred[bool]:
        """
        Keep a copy of the ledger, taken piece by piece, in place of all that was appended before.

        :param lines: gives the next piece whenever the last one is written.
        :param ready: whether what the copy holds is durable otherwise, so that it may be relied on.
        :returns: whether it is durable now.
        """
        ...

    @property
    def due(self) -> bool:
        """
        Whether a snapshot is worth while.
        """
        ...

    def close(self) -> Deferred[None]:
        """
        Finish what was taken; the Deferred fires when it is durable.
        """
        ...


class MemoryJournal:
    """
    A journal for nodes that may forget everything when they stop.

    It answers in the next turn of the reactor, for all lines of this turn together, as a disk would.
    """

    due = False

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._entries = 0
        self._flush: IDelayedCall | None = None

    def recover(self) -> Iterable[Entry]:
        return ()

    def open(self, user: JournalUser) -> None:
        self._user = user

    def append(self, entry: Entry) -> None:
        self._entries += 1
        if self._flush is None:
            self._flush = self._clock.callLater(0, self._sync)

    def snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> Deferred[bool]:
        return succeed(True)

    def close(self) -> Deferred[None]:
        if self._flush is not None:
            self._flush.cancel()
            self._sync()
        return succeed(None)

    def _sync(self) -> None:
        self._flush = None
        entries, self._entries = self._entries, 0
        self._user.journalSynced(entries)


class FileJournal:
    """
    A journal on a disk.

    :param segment: size (bytes) from which a new segment is begun.
    :param most: size (bytes) of all segments from which a snapshot is due, unless the last one was larger.
    """

    def __init__(
        self, disk: Disk, *, in_thread: InThread, clock: IReactorTime, segment: int, most: int
    ) -> None:
        self._disk = disk
        self._in_thread = in_thread
        self._clock = clock
        self._segment = segment
        self._most = most
        self._queue: list[Entry] = []
        self._committing = False
        self._turn_end: IDelayedCall | None = None
        self._mending: IDelayedCall | None = None
        self._broken: str | None = None
        self._idle: list[Deferred[None]] = []
        self._closed = False
        self._snapshotting = False
        # Of the writer's thread:
        self._file: AppendFile | None = None
        self._name = ""
        self._size = 0
        self._sizes: dict[str, int] = {}
        self._last = 0
        self._snapshot_size = 0

    # Recovering

    def recover(self) -> Iterator[Entry]:
        self._disk.open()
        names = self._disk.list()
        for name in names:
            if name.endswith(_UNFINISHED):
                self._disk.remove(name)
        snapshots = [name for name in names if name.endswith(_SNAPSHOT)]
        segments = [name for name in names if name.endswith(_SEGMENT)]
        first = ""
        for name in snapshots[-1:]:
            first = name.removesuffix(_SNAPSHOT)
            data = self._disk.read(name)
            entries, size = self._scan(name, data)
            if size < len(data):
                raise CorruptJournal(f"{name}: damaged at byte {size}")
            self._snapshot_size = size
            yield from entries
        for name in snapshots[:-1] + [name for name in segments if name < first]:
            self._disk.remove(name)
        segments = [name for name in segments if name >= first]
        torn = ""
        for name in segments:
            data = self._disk.read(name)
            entries, size = self._scan(name, data)
            if torn and entries:
                raise CorruptJournal(f"{torn}: the end is damaged, but {name} follows")
            if size < len(data):
                torn = name
                _log.warn(
                    "{name}: the last {bytes} bytes were not written whole: cut",
                    name=name,
                    bytes=len(data) - size,
                )
            # Cut, and synced: what was read may never have been.
            self._disk.truncate(name, size)
            self._sizes[name] = size
            yield from entries
        self._last = max((int(name.split(".")[0]) for name in names if name[0].isdigit()), default=0)

    def _scan(self, name: str, data: bytes) -> tuple[list[Entry], int]:
        try:
            return scan(data)
        except CorruptJournal as error:
            raise CorruptJournal(f"{name}: {error}") from error

    # Appending

    def open(self, user: JournalUser) -> None:
        self._user = user

    def append(self, entry: Entry) -> None:
        self._queue.append(entry)
        if not self._committing and self._turn_end is None and self._broken is None:
            self._turn_end = self._clock.callLater(0, self._commit)

    def _commit(self) -> None:
        self._turn_end = None
        entries, self._queue = self._queue, []
        self._committing = True
        done = self._in_thread(lambda: self._write(entries))
        done.addCallbacks(self._committed, self._failed, callbackArgs=(entries,), errbackArgs=(entries,))
        done.addErrback(lambda why: _log.failure("the journal is stuck", why))

    def _committed(self, _: None, entries: Sequence[Entry]) -> None:
        self._committing = False
        self._user.journalSynced(len(entries))
        if self._queue and self._turn_end is None:
            self._commit()
        else:
            self._tell_idle()

    def _failed(self, why: Failure, entries: Sequence[Entry]) -> None:
        why.trap(OSError)
        self._committing = False
        self._broken = why.getErrorMessage()
        _log.error("the disk failed: {why}", why=self._broken)
        failed = len(entries) + len(self._queue)
        self._queue = []
        if not self._closed:
            self._mending = self._clock.callLater(_MEND_PAUSE, self._mend)
        self._user.journalFailed(failed, self._broken)
        self._tell_idle()

    def _write(self, entries: Sequence[Entry]) -> None:
        """
        In the writer's thread: make entries durable.
        """
        data = b"".join(map(frame, entries))
        if self._file is None or self._size >= self._segment:
            self._begin_segment()
        assert self._file is not None
        self._file.write(data)
        self._file.sync()
        self._size += len(data)
        self._sizes[self._name] = self._size

    def _begin_segment(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._last += 1
        self._name = f"{self._last:012d}{_SEGMENT}"
        self._file = self._disk.create(self._name)
        self._disk.sync()
        self._size = 0
        self._sizes[self._name] = 0

    # After a failure

    def _mend(self) -> None:
        self._mending = None
        done = self._in_thread(self._begin_anew)
        done.addCallbacks(self._mended, self._still_broken)
        done.addErrback(lambda why: _log.failure("the journal is stuck", why))

    def _begin_anew(self) -> None:
        """
        In the writer's thread: forget what may or may not have been written, and use a new segment.
        """
        if self._name in self._sizes:
            self._disk.truncate(self._name, self._sizes[self._name])
        self._begin_segment()

    def _mended(self, _: None) -> None:
        self._broken = None
        _log.info("the disk works again")
        self._user.journalMended()

    def _still_broken(self, why: Failure) -> None:
        why.trap(OSError)
        if not self._closed:
            self._mending = self._clock.callLater(_MEND_PAUSE, self._mend)

    # Snapshots

    @property
    def due(self) -> bool:
        segments = sum(self._sizes.values())
        return not self._snapshotting and not self._broken and segments > max(self._most, self._snapshot_size)

    def snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> Deferred[bool]:
        self._snapshotting = True
        done = Deferred.fromCoroutine(self._take_snapshot(lines, ready))
        return done.addBoth(self._snapshot_over)

    async def _take_snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> bool:
        first = await self._in_thread(self._split_segments)
        name = f"{first:012d}"
        self._disk.remove(name + _UNFINISHED)
        file = await self._in_thread(lambda: self._disk.create(name + _UNFINISHED))
        size = 0
        try:
            for line in lines:
                data = frame(Entry(line))
                size += len(data)
                await self._in_thread(partial(_write_synced, file, data))
        finally:
            file.close()
        while not ready():
            if self._closed or self._broken:
                return False
            await deferLater(self._clock, _READY_PAUSE)
        await self._in_thread(lambda: self._finish_snapshot(name))
        self._snapshot_size = size
        return True

    def _split_segments(self) -> int:
        """
        In the writer's thread: begin a segment that a snapshot taken from now on does not cover.
        """
        self._begin_segment()
        return self._last

    def _finish_snapshot(self, name: str) -> None:
        self._disk.rename(name + _UNFINISHED, name + _SNAPSHOT)
        self._disk.sync()
        for old in self._disk.list():
            stem, _, kind = old.partition(".")
            if stem < name and f".{kind}" in (_SEGMENT, _SNAPSHOT):
                self._disk.remove(old)
                self._sizes.pop(old, None)

    def _snapshot_over(self, result: Failure | bool) -> bool:
        self._snapshotting = False
        self._tell_idle()
        if isinstance(result, Failure):
            result.trap(OSError)
            _log.error("no snapshot: {why}", why=result.getErrorMessage())
            return False
        return result

    # Closing

    def close(self) -> Deferred[None]:
        self._closed = True
        if self._mending is not None:
            self._mending.cancel()
            self._mending = None
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        while self._committing or self._turn_end is not None or self._snapshotting:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        if self._file is not None:
            await self._in_thread(self._file.close)
            self._file = None
        self._in_thread.stop()
        self._disk.close()

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)


def _write_synced(file: AppendFile, data: bytes) -> None:
    file.write(data)
    file.sync()
