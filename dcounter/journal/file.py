"""
A journal on a disk: where a node keeps the lines it must not forget.

A journal is a directory of segments. A record is one line of text: a checksum, the length, the origin and
number of the batch it holds (zeros for other lines), then the line exactly as it went over the wire. A
snapshot is a file of the same form that holds a copy of the ledger; when it is complete, the segments before
it are removed.

Group commit: all lines that arrive while one sync runs share the next write and the next sync.

This module is the reactor's side. It queues lines, decides when the writer's thread works, and tells the user
what became of the lines. The files belong to `Recovery` until all has been read, and then to `Segments`, in
the writer's thread.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.journal.disk import Disk
from dcounter.journal.figures import JournalFigures
from dcounter.journal.framing import JournalEntry
from dcounter.journal.interface import JournalUser
from dcounter.journal.recovery import JournalReading, Recovery
from dcounter.journal.segments import Finished, Segments, Written
from dcounter.journal.thread import InThread

_log = Logger()
_T = TypeVar("_T")

_NOT_REMOVED = "could not remove obsolete files: {why}"

_PIECE_PAUSE = 0.001
"""
Time (s) between two lines of a snapshot, so that it does not keep a whole core busy. There is no pause while
the segments grow fast: the directory must not grow too large.
"""

_READY_PAUSE = 0.05
"""
Time (s) after which a snapshot asks again whether it may count.
"""

_REMOVED = 8 * 2**20
"""
Bytes of an obsolete file that are removed at a time: removing all of it blocks writes for tens of
milliseconds.
"""

_MEND_PAUSE = 1.0
"""
Time (s) between two attempts to use a failed disk again.
"""

_SNAPSHOT_PAUSE = 10.0
"""
Time (s) after a failed snapshot before another one is due.
"""


@dataclass(frozen=True, slots=True)
class _Idle:
    """
    Nothing is to be written.
    """


@dataclass(frozen=True, slots=True)
class _Scheduled:
    """
    A commit of the queue is scheduled.

    :ivar awaited: whether an answer waits for any of it, so that it is not delayed.
    """

    call: IDelayedCall
    awaited: bool


@dataclass(frozen=True, slots=True)
class _Committing:
    """
    The writer's thread makes lines durable.
    """


@dataclass(frozen=True, slots=True)
class _Broken:
    """
    The disk takes nothing.

    :ivar retry: the next attempt to use it again, if any.
    """

    why: str
    retry: IDelayedCall | None = None


@dataclass(frozen=True, slots=True)
class _Mending:
    """
    The writer's thread tries to use a failed disk again.
    """

    why: str


_State = _Idle | _Scheduled | _Committing | _Broken | _Mending
"""
What becomes of the queue:

| state | a line is appended | an answer waits | the time has come | it worked | it failed | closing |
|---|---|---|---|---|---|---|
| Idle | Scheduled | - | - | - | - | over |
| Scheduled | - | at once | Committing | - | - | waits |
| Committing | - | - | - | Idle, or on with the queue | Broken | waits |
| Broken | - | - | Mending | - | - | over, no retry |
| Mending | - | - | - | Idle, or Scheduled | Broken | waits |

Lines that come while it is Broken stay in the queue, and are committed when it is mended.
"""


class FileJournal:
    """
    A journal on a disk.

    :param is_chunk: whether a line, given its beginning, is a chunk of the ledger.
    :param owner: the journal's owner: another one's is refused. `None`: any owner's is taken.
    :param segment_bytes: size from which a new segment is begun.
    :param pace_s: shortest time between two commits that no answer waits for.
    :param snapshot_bytes: size of all segments from which a snapshot is due, unless half of the last is more.
    :param recovery: what reads the directory.
    :param segments: what writes to it, in the writer's thread.
    :ivar figures: what it counts and measures about itself.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        is_chunk: Callable[[bytes], bool],
        in_thread: InThread,
        clock: IReactorTime,
        segment_bytes: int,
        snapshot_bytes: int,
        owner: str | None = None,
        pace_s: float = 0.0,
        recovery: Callable[..., Recovery] = Recovery,
        segments: Callable[..., Segments] = Segments,
    ) -> None:
        self._disk = disk
        self._recovery = recovery(disk, is_chunk=is_chunk, owner=owner)
        self._make_segments = partial(segments, segment_bytes=segment_bytes, seconds=clock.seconds)
        self._in_thread = in_thread
        self._clock = clock
        self._snapshot_bytes = snapshot_bytes
        self._pace_s = pace_s
        self._paced_until = float("-inf")
        self.figures = JournalFigures()
        self._queue: list[JournalEntry] = []
        # Whether an answer waits for any of it.
        self._awaited = False
        self._state: _State = _Idle()
        # The writer's thread owns it: only `_work` may touch it here.
        self._segments: Segments | None = None
        # Whether a segment may be open there.
        self._open = False
        # Bytes of all segments, by the thread's last word.
        self._size = 0
        self._snapshot_size = 0
        self._snapshotting = False
        self._no_snapshot_before = float("-inf")
        self._closed = False
        self._idle: list[Deferred[None]] = []

    # Recovering

    def recover(self) -> Iterator[JournalEntry]:
        yield from self._recovery.read()
        self._recovered(self._recovery.kept)

    def _recovered(self, kept: JournalReading) -> None:
        if kept.not_removed is not None:
            _log.warn(_NOT_REMOVED, why=kept.not_removed)
        if kept.torn is not None:
            torn = kept.torn
            _log.warn(
                "truncated an incomplete record of {bytes} bytes at the end of {name}",
                bytes=torn.size,
                name=torn.name,
            )
        self._segments = self._make_segments(self._disk, kept)
        self._size, self._snapshot_size = kept.size, kept.snapshot_size
        if kept.failure is not None:
            self._state = _Broken(kept.failure)

    def load(self) -> Iterator[JournalEntry]:
        return self._recovery.load()

    def open(self, user: JournalUser) -> None:
        self._user = user
        if isinstance(self._state, _Broken):
            _log.error("the disk failed: {why}", why=self._state.why)
            if self._recovery.kept.doubted:
                user.journal_doubted()
            user.journal_failed([], self._state.why)
            self._break(self._state.why)

    def _work(self, work: Callable[[Segments], _T]) -> Deferred[_T]:
        """
        Let the writer's thread do something with the segments. Nothing else here touches them.
        """
        assert self._segments is not None, "a journal is written to when all of it has been read"
        return self._in_thread(partial(work, self._segments))

    # Appending

    def append(self, entry: JournalEntry, *, waits: bool = True) -> None:
        self._queue.append(entry)
        self._awaited = self._awaited or waits
        self._commit_soon()

    def flush(self) -> None:
        if self._queue:
            self._awaited = True
            self._commit_soon()

    def _commit_soon(self) -> None:
        match self._state:
            case _Idle() if self._queue:
                left = 0.0 if self._awaited else self._paced_until - self._clock.seconds()
                call = self._clock.callLater(max(0.0, left), self._commit)
                self._state = _Scheduled(call, self._awaited)
            case _Scheduled(call, awaited=False) if self._awaited:
                call.reset(0)
                self._state = _Scheduled(call, awaited=True)
            case _:
                # It is scheduled already, or follows what the thread does now.
                pass

    def _commit(self) -> None:
        entries, self._queue, self._awaited = self._queue, [], False
        began = self._clock.seconds()
        self._paced_until = began + self._pace_s
        self._state = _Committing()
        self._open = True
        done = self._work(lambda segments: segments.write(entries))
        done.addCallbacks(
            self._committed, self._failed, callbackArgs=(entries, began), errbackArgs=(entries,)
        )
        done.addErrback(_stuck)

    def _committed(self, written: Written, entries: Sequence[JournalEntry], began: float) -> None:
        self._size = written.size
        self.figures.committed(len(entries), self._clock.seconds() - began, written.sync_s)
        try:
            self._user.journal_synced(entries)
        finally:
            self._state = _Idle()
            if self._queue and self._awaited:
                self._commit()
            elif self._queue:
                self._commit_soon()
            else:
                self._tell_idle()

    def _failed(self, why: Failure, entries: Sequence[JournalEntry]) -> None:
        failed = [*entries, *self._queue]
        self._queue = []
        self.figures.failures += 1
        reason = _reason(why)
        _log.error("the disk failed: {why}", why=reason)
        self._break(reason)
        try:
            self._user.journal_failed(failed, reason)
        finally:
            self._tell_idle()

    # After a failure

    def _break(self, why: str) -> None:
        """
        Commit nothing before the disk works again.
        """
        retry = None if self._closed else self._clock.callLater(_MEND_PAUSE, self._mend, why)
        self._state = _Broken(why, retry)

    def _mend(self, why: str) -> None:
        self._state = _Mending(why)
        self._open = True
        done = self._work(lambda segments: segments.mend())
        done.addCallbacks(self._mended, self._still_broken, errbackArgs=(why,))
        done.addErrback(_stuck)

    def _mended(self, _: None) -> None:
        self._state = _Idle()
        _log.info("the disk works again")
        try:
            self._user.journal_mended()
        finally:
            self._commit_soon()
            self._tell_idle()

    def _still_broken(self, failure: Failure, why: str) -> None:
        _reason(failure)
        self._open = False
        self._break(why)
        self._tell_idle()

    # Snapshots

    @property
    def due(self) -> bool:
        return self._snapshot_possible() and self._size > self._enough

    @property
    def size(self) -> int:
        return self._size + self._snapshot_size

    @property
    def _enough(self) -> int:
        """
        Size (bytes) of all segments from which a snapshot is due.

        So all files, with the next snapshot and what is appended meanwhile, stay below three times the last.
        """
        return max(self._snapshot_bytes, self._snapshot_size // 2)

    def _snapshot_possible(self) -> bool:
        paused = self._clock.seconds() < self._no_snapshot_before
        broken = isinstance(self._state, _Broken | _Mending)
        return not (self._snapshotting or paused or self._closed or broken)

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
                _log.error("could not take a snapshot: {why}", why=result.getErrorMessage())
                return False
        return result

    async def _take_snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> bool:
        failures = self.figures.failures

        def in_vain() -> bool:
            # After a failure, the user may have dropped lines that this snapshot does not hold.
            return self._closed or self.figures.failures != failures

        self._open = True
        number = await self._work(lambda segments: segments.split())
        await self._work(lambda segments: segments.begin_snapshot(number))
        obsolete: Sequence[str] = ()
        try:
            await self._write_snapshot(lines, ready, in_vain)
            if not in_vain():
                obsolete = self._finished(await self._work(lambda segments: segments.finish_snapshot()))
        except Exception:
            # Not "finally": a coroutine that is thrown away must not begin to wait. _snapshot_over, or the
            # caller of snapshot, logs the error.
            await self._work(lambda segments: segments.end_snapshot())
            raise
        await self._work(lambda segments: segments.end_snapshot())
        await self._remove_in_parts(obsolete)
        return not in_vain()

    async def _write_snapshot(
        self, lines: Iterator[bytes], ready: Callable[[], bool], in_vain: Callable[[], bool]
    ) -> None:
        """
        Write all lines, and wait until the snapshot may count, unless that is in vain.
        """
        for line in lines:
            if in_vain():
                return
            self._size = await self._work(partial(_write_line, line=line))
            if self._size < 1.5 * self._enough:
                await deferLater(self._clock, _PIECE_PAUSE)
        await self._work(lambda segments: segments.sync_snapshot())
        while not (ready() or in_vain()):
            await deferLater(self._clock, _READY_PAUSE)

    def _finished(self, snapshot: Finished) -> Sequence[str]:
        self._size, self._snapshot_size = snapshot.size, snapshot.snapshot_size
        self.figures.snapshots += 1
        return snapshot.obsolete

    async def _remove_in_parts(self, names: Iterable[str]) -> None:
        """
        Remove obsolete files, and let the thread do other work in between.
        """
        try:
            for name in names:
                while not (self._closed or await self._work(partial(_shorten, name=name))):
                    pass
        except OSError as error:
            _log.warn(_NOT_REMOVED, why=str(error))

    # Closing

    def close(self) -> Deferred[None]:
        self._closed = True
        if isinstance(self._state, _Broken) and self._state.retry is not None:
            self._state.retry.cancel()
            self._state = replace(self._state, retry=None)
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        while self._snapshotting or not isinstance(self._state, _Idle | _Broken):
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        if self._open:
            await self._work(lambda segments: segments.end())
            self._open = False
        self._in_thread.stop()
        self._disk.close()

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)


def _write_line(segments: Segments, *, line: bytes) -> int:
    return segments.write_snapshot(line)


def _shorten(segments: Segments, *, name: str) -> bool:
    return segments.shorten(name, _REMOVED)


def _reason(why: Failure) -> str:
    """
    Why something failed. An error that is not the disk's is a bug, and logged as such.
    """
    if not why.check(OSError):
        _log.failure("unexpected error in the journal", why)
    return why.getErrorMessage()


def _stuck(why: Failure) -> None:
    _log.failure("journal callback raised", why)
