"""
What `dcounter.daemon.logs` writes, what it drops, and that it never waits for a reader.
"""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel

from dcounter.daemon.log_lines import RELAYED, Record
from dcounter.daemon.logs import LinesObserver, LogFile, LogWriter, Output
from dcounter.errors import ConfigurationError

_DEADLINE = 20.0


class _Sink:
    """
    A sink that blocks, and fails, when the test says so.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.begun = threading.Event()
        self.may_write = threading.Event()
        self.may_write.set()
        self.failure: OSError | None = None

    @property
    def text(self) -> str:
        return b"".join(self.written).decode()

    def write(self, data: bytes) -> None:
        self.begun.set()
        assert self.may_write.wait(_DEADLINE)
        if self.failure is not None:
            raise self.failure
        self.written.append(data)

    def reopen(self) -> str:
        if self.failure is not None:
            raise self.failure
        return "opened"


def _writer(sink: _Sink, buffer: int = 100) -> LogWriter:
    return LogWriter(sink, wall=lambda: 0.0, buffer=buffer)


class TestWriter:
    def test_writes_in_order_what_was_logged_before_it_started(self) -> None:
        sink = _Sink()
        writer = _writer(sink)
        writer.write(b"one\n")
        writer.start()
        writer.start()
        writer.write(b"two\n")
        writer.finish(_DEADLINE)
        assert sink.text == "one\ntwo\n"

    def test_writes_what_is_left_when_it_never_started(self) -> None:
        sink = _Sink()
        writer = _writer(sink)
        writer.write(b"one\n")
        writer.finish()
        assert sink.text == "one\n"

    def test_never_waits_and_counts_what_it_drops(self) -> None:
        sink = _Sink()
        sink.may_write.clear()
        writer = _writer(sink, buffer=20)
        writer.start()
        writer.write(b"first\n")
        assert sink.begun.wait(_DEADLINE)
        for _ in range(10):
            writer.write(b"123456789\n")
        sink.may_write.set()
        writer.finish(_DEADLINE)
        lines = sink.text.splitlines()
        assert lines[:3] == ["first", "123456789", "123456789"]
        assert lines[3].endswith(" warn  8 log lines were dropped: the output is blocked")
        assert len(lines) == 4

    def test_waits_at_the_end_only_for_a_while(self) -> None:
        sink = _Sink()
        sink.may_write.clear()
        writer = _writer(sink)
        writer.start()
        writer.write(b"stuck\n")
        writer.finish(0.0)
        assert not sink.written
        sink.may_write.set()
        writer.finish(_DEADLINE)
        assert sink.text == "stuck\n"

    def test_says_with_the_next_line_what_could_not_be_written(self) -> None:
        sink = _Sink()
        writer = _writer(sink)
        sink.failure = OSError("no space")
        for line in (b"lost\n", b"lost too\n"):
            writer.write(line)
            writer.finish()
        sink.failure = None
        writer.write(b"there\n")
        writer.finish()
        told, last = sink.text.splitlines()
        assert told.endswith("2 log lines were dropped: no space")
        assert last == "there"

    def test_writes_much_in_several_calls(self) -> None:
        sink = _Sink()
        writer = _writer(sink, buffer=200_000)
        for _ in range(3):
            writer.write(b"x" * 65_535 + b"\n")
        writer.finish()
        assert len(sink.written) == 3

    def test_reopens(self) -> None:
        sink = _Sink()
        writer = _writer(sink)
        told: list[str] = []
        writer.reopen(told.append)
        writer.finish()
        sink.failure = OSError("gone")
        writer.reopen(told.append)
        writer.finish()
        assert told == ["opened", "could not open the log again and still write to the old one: gone"]


class TestLogFile:
    def test_is_created_and_appended_to(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        for line in (b"one\n", b"two\n"):
            LogFile(str(path)).write(line)
        assert path.read_bytes() == b"one\ntwo\n"

    def test_is_made_anew_after_it_was_moved_away(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        file = LogFile(str(path))
        file.write(b"one\n")
        path.rename(tmp_path / "old")
        file.write(b"two\n")
        assert file.reopen() == f"opened the log file {path} again"
        file.write(b"three\n")
        assert (tmp_path / "old").read_bytes() == b"one\ntwo\n"
        assert path.read_bytes() == b"three\n"

    def test_keeps_so_many_old_files(self, tmp_path: Path) -> None:
        file = LogFile(str(tmp_path / "log"), largest=2, old_files=2)
        for line in (b"1\n", b"2\n", b"3\n"):
            file.write(line)
        assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {
            "log": b"",
            "log.1": b"3\n",
            "log.2": b"2\n",
        }

    @pytest.mark.parametrize("moved", [False, True])
    def test_a_rotation_that_fails_loses_no_line(
        self, moved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "log"
        file = LogFile(str(path), largest=4)

        def refused(old: str, new: str) -> None:
            raise FileNotFoundError if moved else PermissionError

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", refused)
            file.write(b"one\n")
            file.write(b"two\n")
        assert path.read_bytes() == b"one\ntwo\n"
        assert [each.name for each in tmp_path.iterdir()] == ["log"]

    def test_that_cannot_be_opened_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigurationError, match=r"cannot be opened: .*; name another one with --logfile"
        ):
            LogFile(str(tmp_path / "absent" / "log"))


class TestOutput:
    def test_cannot_be_opened_again(self) -> None:
        assert Output(1).reopen() == "the log is not a file, so there is nothing to open again"

    def test_waits_for_room_in_a_pipe_that_does_not_block(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        size = 1_000_000
        writing = threading.Thread(target=Output(writer).write, args=(b"x" * size,))
        writing.start()
        got = 0
        while got < size:
            got += len(os.read(reader, 65_536))
        writing.join(_DEADLINE)
        assert not writing.is_alive()
        os.close(reader)
        os.close(writer)


def test_a_pipe_that_nobody_reads_costs_lines_and_says_how_many() -> None:
    reader, end = os.pipe()
    writer = LogWriter(Output(end), wall=lambda: 0.0, buffer=10_000)
    writer.start()
    for _ in range(20_000):
        writer.write(b"123456789\n")
    writer.write(b"x" * 10_001)
    got = b""
    while b"the output is blocked\n" not in got:
        # It is written with the lines that wait before it.
        got += os.read(reader, 65_536)
    writer.finish(_DEADLINE)
    os.close(reader)
    os.close(end)


class TestObserver:
    def _lines(self, level: LogLevel, *events: dict[str, Any]) -> list[str]:
        sink = _Sink()
        writer = _writer(sink, buffer=10_000)
        observer = LinesObserver(writer, level)
        for event in events:
            observer({"log_time": 0.0, "log_namespace": "dcounter.test", **event})
        writer.finish()
        return sink.text.splitlines()

    def _event(self, text: str, level: LogLevel = LogLevel.info, **more: Any) -> dict[str, Any]:
        return {"log_format": text, "log_level": level, **more}

    def test_writes_from_the_level_on(self) -> None:
        events = [self._event(level.name, level) for level in LogLevel.iterconstants()]
        names = [line.rpartition(" ")[2] for line in self._lines(LogLevel.warn, *events)]
        assert names == ["warn", "error", "critical"]

    def test_leaves_out_what_twisted_tells_of_itself(self) -> None:
        events = [
            self._event("starts", log_namespace="twisted.internet.tcp"),
            self._event("older", log_namespace="log_legacy"),
            self._event("inherited", log_source=Logger()),
            self._event("serious", LogLevel.warn, log_namespace="twisted.internet.tcp"),
            self._event("ours"),
        ]
        quiet = [line.rpartition(" ")[2] for line in self._lines(LogLevel.info, *events)]
        assert quiet == ["serious", "ours"]
        assert len(self._lines(LogLevel.debug, *events)) == len(events)

    def test_writes_nothing_for_an_event_without_text(self) -> None:
        assert self._lines(LogLevel.info, {"log_level": LogLevel.info}) == []

    def test_gives_a_childs_line_the_childs_time(self) -> None:
        record = Record(86_400.0 * 2, "info", "dcounter.node", "said", node=3)
        (line,) = self._lines(LogLevel.info, {RELAYED: record})
        assert line.startswith(("1970-01-03", "1970-01-02"))
        assert line.endswith(" info  node 3: said")

    def test_writes_what_is_no_text_of_utf_8(self) -> None:
        (line,) = self._lines(LogLevel.info, self._event("{what}", what="\ud800"))
        assert line.endswith("\\ud800")
