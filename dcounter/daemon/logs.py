"""
The log of a process: lines on standard output or in a file.

The daemon never waits for its log. A thread writes, and may block for any time; lines wait for it in a
bounded buffer. If the buffer is full, further lines are dropped and counted.
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
)
from zope.interface import implementer

from dcounter.daemon.log_lines import Layout, Record, file, record_of
from dcounter.errors import ConfigurationError
from dcounter.limits import MEBIBYTE

_BUFFER = MEBIBYTE
"""
Bytes of lines that may wait to be written: some thousand lines, more than a merely slow reader leaves
waiting.
"""

_AT_ONCE = 64 * 1024
"""
Bytes after which no further line joins the same write: the usual capacity of a pipe.
"""

_PACE = 0.02
"""
Time (s) between two writes. To wake the thread for each line of a busy log would cost the other threads twice
what the line itself does. A line after a silence is written at once.
"""

_LAST_WORDS = 1.0
"""
Time (s) that an ending process waits for the rest of its log to be written.
"""

_FILE = 10 * MEBIBYTE
_OLD_FILES = 10
"""
Size (bytes) at which a log file is renamed to `.1`, and how many such files are kept. So the log cannot fill
a disk even if no other program rotates it.
"""


class Sink(Protocol):
    """
    What log lines are written to.
    """

    def write(self, data: bytes) -> None:
        """
        Write all of the data, however long that takes.

        :raises OSError: not everything was written.
        """

    def reopen(self) -> str:
        """
        Open the destination again; return what happened, as a sentence.

        :raises OSError: that failed, and writing goes on as before.
        """
        ...


class Output:
    """
    An open descriptor, such as standard output.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, data: bytes) -> None:
        _write_all(self.descriptor, data)

    def reopen(self) -> str:
        return "the log is not a file, so there is nothing to open again"


class LogFile:
    """
    A file, renamed when it grows large.

    :param path: the file; other programs may rename it as well, see `reopen`.
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
                # Another program has moved it.
                self.reopen()
            except OSError:
                # The line itself was written; renaming may succeed later.
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
    A gap in the log: lines that were dropped.
    """

    lines: int
    why: str

    def to_record(self, now: float) -> Record:
        """
        What takes their place.
        """
        return Record(
            now,
            "warn",
            __name__,
            f"{self.lines} log lines were dropped: {self.why}",
            template="{lines} log lines were dropped: {why}",
            fields={"lines": self.lines, "why": self.why},
        )


class LogWriter:
    """
    Writes lines in a thread of its own.

    :param sink: what to write to.
    :param wall: the wall clock, seconds since 1970.
    :param layout: makes the lines of records.
    :param buffer: bytes of lines that may wait.
    """

    def __init__(
        self, sink: Sink, *, wall: Callable[[], float], layout: Layout = file, buffer: int = _BUFFER
    ) -> None:
        self._sink = sink
        self._layout = layout
        self._wall = wall
        self._buffer = buffer
        self._queue: deque[bytes | _Gap] = deque()
        self._bytes = 0
        self._reopened: Callable[[str], None] | None = None
        self._busy = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._finishing = threading.Event()

    def start(self) -> None:
        """
        Start the thread.

        Not before twistd has left the terminal: threads do not survive that fork.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def log(self, record: Record) -> None:
        """
        Queue the line of a record to be written. This never blocks.
        """
        self.write(_encoded(self._layout(record)))

    def write(self, line: bytes) -> None:
        """
        Queue a line to be written. This never blocks.
        """
        with self._changed:
            if self._bytes + len(line) <= self._buffer:
                self._queue.append(line)
                self._bytes += len(line)
                self._changed.notify_all()
            elif self._queue and isinstance(self._queue[-1], _Gap):
                self._queue[-1].lines += 1
            else:
                self._queue.append(_Gap(1, "the output is blocked"))

    def reopen(self, done: Callable[[str], None]) -> None:
        """
        Have the thread open the sink again.

        :param done: called in the thread with what happened.
        """
        with self._changed:
            self._reopened = done
            self._changed.notify_all()

    def finish(self, within: float = _LAST_WORDS) -> None:
        """
        Wait until everything is written, but at most for a while.
        """
        if self._thread is None:
            # The process ends before it has left the terminal, so blocking is visible there.
            while self._due():
                self._step()
            return
        self._finishing.set()
        with self._changed:
            self._changed.wait_for(lambda: not (self._busy or self._due()), within)

    def _due(self) -> bool:
        # A gap alone is not due: it is written with the next line, not tried again and again.
        return self._bytes > 0 or self._reopened is not None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._due)
                self._busy = True
            self._step()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                much = self._bytes >= _AT_ONCE
            if not much:
                self._finishing.wait(_PACE)

    def _step(self) -> None:
        """
        Write one batch of the lines that wait.
        """
        with self._changed:
            reopened, self._reopened = self._reopened, None
            batch = self._take()
        if reopened is not None:
            try:
                told = self._sink.reopen()
            except OSError as error:
                told = f"could not open the log again and still write to the old one: {error}"
            reopened(told)
        now = self._wall()
        try:
            self._sink.write(
                b"".join(
                    each if isinstance(each, bytes) else _encoded(self._layout(each.to_record(now)))
                    for each in batch
                )
            )
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
    Passes the log events that matter to the writer.

    :param level: the lowest level that is written.
    """

    def __init__(self, writer: LogWriter, level: LogLevel) -> None:
        self._writer = writer
        self.level = level

    def __call__(self, event: LogEvent) -> None:
        if self._is_wanted(event):
            record = record_of(event)
            if record is not None:
                self._writer.log(record)

    def _is_wanted(self, event: LogEvent) -> bool:
        level = event.get("log_level", LogLevel.info)
        # Twisted logs every port that it opens and every connection that it retries.
        if self.level > LogLevel.debug and level < LogLevel.warn and _is_twisteds(event):
            return False
        return bool(level >= self.level)


def _is_twisteds(event: LogEvent) -> bool:
    # Our own loggers belong to modules, so an event with a source comes from one of Twisted's base classes.
    # Twisted's legacy log has a single namespace.
    inherited = event.get("log_source") is not None
    return inherited or str(event.get("log_namespace")).startswith(("twisted.", "log_legacy"))


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Another process that shares this pipe or terminal made it non-blocking.
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()
