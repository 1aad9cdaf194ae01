"""
How `dcounter.daemon.log_lines` writes entries, whatever is in them.
"""

import json
import os
import pty
import re
import unicodedata
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from dcounter.daemon import log_lines
from dcounter.daemon.log_lines import Layout, Record, from_json, layout_for, record_of
from tests.support.logs import bad_lines

NOON = 1_764_504_000.25
_WILD = st.text(st.characters(blacklist_categories=()))
LAYOUTS = [
    log_lines.file,
    log_lines.journal,
    log_lines.json,
    lambda each: log_lines.terminal(each, colour=False),
]


def record(**changes: Any) -> Record:
    return Record(
        **{"time": NOON, "level": "warn", "logger": "dcounter.x", "message": "the disk failed", **changes}
    )


def steers(text: str) -> bool:
    """
    Whether a text has a character that a terminal, or a reader of lines, takes for more than a character.
    """
    directions = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}
    return any(
        unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(each) in directions
        for each in text
    )


class TestLayouts:
    def test_for_a_terminal(self) -> None:
        line = log_lines.terminal(record(node=2), colour=False)
        assert re.fullmatch(r"\d\d:\d\d:\d\d warn  node 2: the disk failed\n", line)
        coloured = log_lines.terminal(record(), colour=True)
        assert "\x1b[33mwarn \x1b[0m the disk failed\n" in coloured

    def test_for_a_file(self) -> None:
        line = log_lines.file(record(node=2, message="node 2 is well", level="info"))
        assert re.fullmatch(r"2025-11-30T\d\d:\d\d:00\.250[+-]\d\d:\d\d info  node 2 is well\n", line)

    def test_for_the_journal_of_systemd(self) -> None:
        assert log_lines.journal(record(traceback="Traceback\n  x")) == (
            "<4>warn  the disk failed\n<4>\tTraceback\n<4>\t  x\n"
        )

    def test_for_programs(self) -> None:
        found = json.loads(
            log_lines.json(record(node=0, template="the {what} failed", fields={"what": "disk"}))
        )
        assert found.pop("time").startswith("2025-11-30T")
        assert found == {
            "level": "warn",
            "logger": "dcounter.x",
            "node": 0,
            "message": "the disk failed",
            "template": "the {what} failed",
            "fields": {"what": "disk"},
        }

    @given(_WILD, _WILD, st.sampled_from(LAYOUTS))
    def test_nothing_that_is_logged_steers_or_begins_a_line(
        self, text: str, trace: str, layout: Layout
    ) -> None:
        lines = layout(record(message=text, fields={text: text}, traceback=trace)).split("\n")
        assert lines.pop() == ""
        assert not [line for line in lines if steers(re.sub("^(<4>)?\t", "", line))]
        begin = r"<4>warn  |\{|2025-\S+ warn  |\d\d:\d\d:\d\d warn  "
        assert re.match(begin, lines[0])
        assert not [line for line in lines[1:] if not re.match("(<4>)?\t", line)]

    def test_words_of_other_writings_and_emoji_stay(self) -> None:
        text = "мир שלום 世界 👩‍🚀"
        for layout in LAYOUTS:
            assert text in layout(record(message=text))


class TestRecords:
    def test_say_what_an_event_says(self) -> None:
        seen: list[Any] = []
        log = Logger(namespace="dcounter.y", observer=cast(Any, seen.append))
        log.error("{what} failed at {stamp}", what=Path("/disk"), stamp=2**70, line=3, share=0.5)
        found = record_of(seen[0])
        assert found is not None
        assert (found.level, found.logger, found.message) == (
            "error",
            "dcounter.y",
            f"/disk failed at {2**70}",
        )
        assert found.template == "{what} failed at {stamp}"
        assert found.fields == {"what": "/disk", "stamp": str(2**70), "line": 3, "share": 0.5}

    def test_have_the_traceback(self) -> None:
        seen: list[Any] = []
        log = Logger(observer=cast(Any, seen.append))
        try:
            raise KeyError("secret\nwords")
        except KeyError:
            log.failure("it failed", Failure())
        found = record_of(seen[0])
        assert found is not None
        assert (found.level, found.message) == ("critical", "it failed")
        assert "KeyError" in found.traceback
        assert len(bad_lines(log_lines.file(found))) == 2

    def test_of_an_event_that_says_nothing_there_is_none(self) -> None:
        assert record_of({"log_time": 0.0, "log_level": LogLevel.info}) is None

    @given(_WILD, _WILD, st.sampled_from(["debug", "info", "warn", "error", "critical"]))
    def test_go_from_one_process_to_another(self, message: str, trace: str, level: str) -> None:
        sent = record(message=message, traceback=trace, level=level, fields={"n": 1, "what": message})
        got = from_json(log_lines.json(sent).encode(), 3)
        if not re.search("[\ud800-\udfff]", message + trace):
            assert got == record(
                message=message, traceback=trace, level=level, fields={"n": 1, "what": message}, node=3
            )
        else:
            assert got is not None

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"Fatal Python error",
            b"{}",
            b'{"time":"x","level":"info","message":""}',
            b'{"time":"2025-11-30T00:00:00+00:00","level":"loud","message":""}',
            b"\xff",
        ],
    )
    def test_other_output_is_none(self, line: bytes) -> None:
        assert from_json(line, 0) is None


class TestChoice:
    def test_follows_the_output(self, tmp_path: Path) -> None:
        outer, inner = pty.openpty()
        reader, writer = os.pipe()
        try:
            found = os.fstat(writer)
            inside = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
            assert layout_for("json", inner, {}) is log_lines.json
            assert layout_for("text", None, inside) is log_lines.file
            assert layout_for("text", writer, {"JOURNAL_STREAM": "1:1"}) is log_lines.file
            assert layout_for("text", writer, inside) is log_lines.journal
            for environ, colour in [
                ({"TERM": "xterm"}, True),
                ({"TERM": "xterm", "NO_COLOR": "1"}, False),
                ({"TERM": "dumb"}, False),
                ({}, False),
            ]:
                assert ("\x1b" in layout_for("text", inner, environ)(record())) is colour
        finally:
            for descriptor in (outer, inner, reader, writer):
                os.close(descriptor)
