"""
What `dcounter.http.access` logs of requests, whatever callers send.
"""

import unicodedata
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress

from dcounter.daemon import log_lines
from dcounter.daemon.log_lines import Record
from dcounter.http.access import TEMPLATE, AccessLog
from dcounter.http.problems import Answer
from dcounter.http.reader import Head
from tests.support.callers import LOCAL
from tests.support.servers import GET, CalledServer


class Written(list[str]):
    """
    The entries, and the values of the last one.
    """

    values: Mapping[str, object] = {}

    def __call__(self, template: str, text: str, values: Mapping[str, object]) -> None:
        assert template == TEMPLATE
        self.append(text)
        self.values = values


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def world(written: Written) -> Iterator[CalledServer]:
    found = CalledServer()
    found.server.shared.api.access._write = written  # noqa: SLF001
    yield found
    found.close()


def test_each_request_has_an_entry_if_that_is_wanted(world: CalledServer, written: Written) -> None:
    access = world.server.shared.api.access
    connection = world.connect()
    connection.send(GET)
    assert written == []
    access.use(True)
    connection.send(GET)
    connection.send(GET.replace(b"/items/a/count", b"/nothing").replace(b"Host", b"X-Request-ID: 7f\r\nHost"))
    connection.send(b"what?\r\n\r\n")
    access.use(False)
    world.connect().send(GET)
    assert written == [
        "127.0.0.1 GET /items/a/count: 200, 44 bytes, 0.0 ms",
        f"127.0.0.1 GET /nothing: 404, {written[1].split()[4]} bytes, 0.0 ms, unknown_path, X-Request-ID 7f",
        f"127.0.0.1 - -: 400, {written[2].split()[4]} bytes, 0.0 ms, bad_request",
    ]


def head(target: bytes) -> Head:
    return Head(b"GET", target, b"HTTP/1.1", {}, 0, True, expects=False)


def test_a_caller_that_hangs_up_is_told(written: Written) -> None:
    log = AccessLog(written, on=True)
    log.abandoned(UNIXAddress("/run/x"), head(b"/events"), 1.23456)
    assert written == ["a Unix socket GET /events: the caller hung up, 1234.6 ms"]
    assert (written.values["bytes"], written.values["ms"]) == (None, 1234.6)


@given(st.binary(max_size=600))
def test_whatever_a_target_is_an_entry_is_one_line(target: bytes) -> None:
    written = Written()
    AccessLog(written, on=True).answered(LOCAL, head(target), Answer(200, b""), 0.0)
    for layout in (log_lines.file, log_lines.json):
        line = layout(Record(0.0, "info", "dcounter.http.access", written[0], TEMPLATE, written.values))
        assert line.count("\n") == 1
        assert not [each for each in line[:-1] if unicodedata.category(each) in ("Cc", "Zl", "Zp")]
        assert len(line) < 10_000
