"""
The log of a process: lines on standard output or in a file.

The daemon goes on although nobody reads them. A thread writes, and may block as long as it likes; lines wait
for it in a bounded buffer, and beyond the bound they are dropped and counted.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEventAsClassicLogText,
    formatTime,
    timeFormatRFC3339,
)
from zope.interface import implementer

from dcounter.errors import ConfigurationError
from dcounter.limits import MEBIBYTE

LEVELS = ("debug", "info", "warn", "error")
"""
What `--log-level` may be, from the most lines to the fewest.
"""

_BUFFER = MEBIBYTE
"""
Bytes of lines that wait to be written: some thousand lines, more than a reader that is merely slow lets wait.
"""

_AT_ONCE = 64 * 1024
"""
Bytes from which no further line is written in the same call: what a pipe usually holds.
"""

_LAST_WORDS = 1.0
"""
Time (s) that a process that ends waits until the rest of its log is written.
"""

_FILE = 10 * MEBIBYTE
_OLD_FILES = 10
"""
Bytes from which a log file becomes `.1`, and how many such files are kept: nothing fills a disk if no other
program rotates the log.
"""


class Sink(Protocol):
    """
    Where lines go in the end.
    """

    def write(self, data: bytes) -> None:
        """
        Write all of it, however long that takes.

        :raises OSError: not all of it was written.
        """

    def reopen(self) -> str:
        """
        Open again what it writes to; what happened, as a sentence.

        :raises OSError: that failed, and it goes on as before.
        """
        ...


class Output:
    """
    An open descriptor, such as standard output.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        _write_all(self._descriptor, data)

    def reopen(self) -> str:
        return "the log is no file: there is nothing to open again"


class LogFile:
    """
    A file, renamed when it grows large.

    :param path: the file, which others may rename as well; see `reopen`.
    :raises ConfigurationError: it cannot be written.
    """

    def __init__(self, path: str, *, largest: int = _FILE, old_files: int = _OLD_FILES) -> None:
        # The process may change its directory later.
        self._path = os.path.abspath(path)
        self._largest = self._next = largest
        self._old_files = old_files
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise ConfigurationError(
                f"the log file cannot be opened: {error}; name another one with --logfile"
            ) from error

    def write(self, data: bytes) -> None:
        _write_all(self._descriptor, data)
        size = os.fstat(self._descriptor).st_size
        if size >= self._next:
            self._next = self._largest
            try:
                self._rotate()
            except FileNotFoundError:
                # Somebody else has moved it.
                self.reopen()
            except OSError:
                # What was to be written is; the directory may permit it later.
                self._next = size + self._largest

    def reopen(self) -> str:
        new = self._open()
        os.close(self._descriptor)
        self._descriptor = new
        return f"opened the log file {self._path} again"

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def _rotate(self) -> None:
        for number in range(self._old_files - 1, 0, -1):
            if os.path.exists(f"{self._path}.{number}"):
                os.rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.rename(self._path, f"{self._path}.1")
        self.reopen()


@dataclass(slots=True)
class _Gap:
    """
    The place of lines that are not written.
    """

    lines: int
    why: str

    def told(self, now: float) -> bytes:
        """
        What the reader is told.
        """
        event: LogEvent = {
            "log_format": "{lines} log lines were dropped: {why}",
            "log_time": now,
            "log_namespace": __name__,
            "log_level": LogLevel.warn,
            "lines": self.lines,
            "why": self.why,
        }
        return _as_line(event)


class LogWriter:
    """
    Writes lines in a thread of its own.

    :param sink: where to.
    :param wall: the wall clock, seconds since 1970.
    :param buffer: bytes of lines that may wait.
    """

    def __init__(self, sink: Sink, *, wall: Callable[[], float], buffer: int = _BUFFER) -> None:
        self._sink = sink
        self._wall = wall
        self._buffer = buffer
        self._queue: deque[bytes | _Gap] = deque()
        self._bytes = 0
        self._reopened: Callable[[str], None] | None = None
        self._busy = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def start(self) -> None:
        """
        Begin to write: not before the process has become a daemon, which no thread survives.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def write(self, line: bytes) -> None:
        """
        Have a line written soon. This never waits.
        """
        with self._changed:
            if self._bytes + len(line) <= self._buffer:
                self._queue.append(line)
                self._bytes += len(line)
                self._changed.notify_all()
            elif self._queue and isinstance(self._queue[-1], _Gap):
                self._queue[-1].lines += 1
            else:
                self._queue.append(_Gap(1, "nobody reads them"))

    def reopen(self, done: Callable[[str], None]) -> None:
        """
        Have the sink opened again.

        :param done: is told, in the thread, what happened.
        """
        with self._changed:
            self._reopened = done
            self._changed.notify_all()

    def finish(self, within: float = _LAST_WORDS) -> None:
        """
        Wait until all is written, but not for long.
        """
        if self._thread is None:
            # It ends before it has begun, while somebody looks.
            while self._due():
                self._step()
            return
        with self._changed:
            self._changed.wait_for(lambda: not (self._busy or self._due()), within)

    def _due(self) -> bool:
        # What could not be written is told with the next line: trying that again and again helps nobody.
        return self._bytes > 0 or self._reopened is not None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(self._due)
                self._busy = True
            self._step()

    def _step(self) -> None:
        """
        Write some of what waits.
        """
        with self._changed:
            reopened, self._reopened = self._reopened, None
            batch = self._take()
        if reopened is not None:
            try:
                told = self._sink.reopen()
            except OSError as error:
                told = f"the log goes on as before, since it cannot be opened again: {error}"
            reopened(told)
        now = self._wall()
        try:
            self._sink.write(b"".join(each if isinstance(each, bytes) else each.told(now) for each in batch))
        except OSError as error:
            lost = sum(1 if isinstance(each, bytes) else each.lines for each in batch)
            with self._changed:
                self._queue.appendleft(_Gap(lost, str(error)))

    def _take(self) -> list[bytes | _Gap]:
        batch: list[bytes | _Gap] = []
        size = 0
        while self._queue and (size < _AT_ONCE or isinstance(self._queue[0], _Gap)):
            each = self._queue.popleft()
            batch.append(each)
            size += len(each) if isinstance(each, bytes) else 0
        self._bytes -= size
        return batch


@implementer(ILogObserver)
class LinesObserver:
    """
    Turns what is logged into lines.

    :param level: the least level that is written.
    """

    def __init__(self, writer: LogWriter, level: LogLevel) -> None:
        self._writer = writer
        self._level = level
        self._quiet = level > LogLevel.debug

    def __call__(self, event: LogEvent) -> None:
        if self._is_wanted(event):
            line = _as_line(event)
            if line:
                self._writer.write(line)

    def _is_wanted(self, event: LogEvent) -> bool:
        level = event.get("log_level", LogLevel.info)
        # Twisted tells of every port that it opens and every connection that it tries again.
        if self._quiet and level < LogLevel.warn and _is_twisteds(event):
            return False
        return bool(level >= self._level)


def _is_twisteds(event: LogEvent) -> bool:
    # Also what our services and factories have from their base classes: our own loggers are modules'. And
    # its older half logs under one name.
    inherited = event.get("log_source") is not None
    return inherited or str(event.get("log_namespace")).startswith(("twisted.", "log_legacy"))


def _as_line(event: LogEvent) -> bytes:
    if "written_at" in event:
        # A child had said it when it told us.
        event = {**event, "log_time": event["written_at"]}
    text = formatEventAsClassicLogText(event, formatTime=lambda when: formatTime(when, timeFormatRFC3339))
    return (text or "").encode("utf-8", "backslashreplace")


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Whoever else has this pipe or terminal made it so.
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()
