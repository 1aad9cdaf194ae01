"""
How the client reads events, whatever becomes of its connections.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dcounter.client import Client
from dcounter.client_answers import Refused, Unreachable
from dcounter.client_events import Event, EventParser, EventReader, watch

TEXT = (
    b"retry: 2000\nevent: hello\nid: s-1\ndata: {}\n\n"
    b": nothing new\n\n"
    b'event: count\ndata: {"tenant":"\xc3\xa9","counter":2}\n\n'
    b"event:count\nid:s-3\ndata:7\n\n"
)
EVENTS = [
    (Event("hello", {}), "s-1"),
    (Event("count", {"tenant": "é", "counter": 2}), "s-1"),
    (Event("count", 7), "s-3"),
]


@given(st.lists(st.integers(0, len(TEXT)), max_size=6))
def test_events_are_read_wherever_their_bytes_are_cut(cuts: list[int]) -> None:
    parser = EventParser()
    places = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[first:last] for first, last in pairwise(places)]
    found = [each for piece in pieces for each in parser.feed(piece)]
    assert [(event, last_id) for event, last_id, _ in found] == EVENTS
    assert parser.last_id == "s-3"


class Daemon:
    """
    Answers with events, and refuses when it is told to.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[Mapping[str, str]] = []
        self.refusals: list[Exception] = []
        self.reader: EventReader | None = None
        self.paused = self.stopped = 0
        self.watching = watch(self._connect, self.clock)

    async def _connect(self, headers: Mapping[str, str]) -> Any:
        self.asked.append(headers)
        if self.refusals:
            raise self.refusals.pop(0)
        return self

    def deliverBody(self, reader: EventReader) -> None:
        self.reader = reader
        reader.makeConnection(self)

    def pauseProducing(self) -> None:
        self.paused += 1

    def resumeProducing(self) -> None:
        self.paused -= 1

    def stopProducing(self) -> None:
        self.stopped += 1

    def send(self, data: bytes) -> None:
        assert self.reader is not None
        self.reader.dataReceived(data)

    def hang_up(self) -> None:
        assert self.reader is not None
        self.reader.connectionLost()

    def next(self) -> Deferred[Event]:
        async def one() -> Event:
            return await self.watching.__anext__()

        return Deferred.fromCoroutine(one())


def result(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found[0] if found else None


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


def test_it_goes_on_after_the_last_event_that_was_read(daemon: Daemon) -> None:
    first = daemon.next()
    daemon.send(TEXT)
    assert result(first) == EVENTS[0][0]
    assert result(daemon.next()) == EVENTS[1][0]
    # The last one was not taken: it comes once more.
    daemon.hang_up()
    assert result(daemon.next()) == EVENTS[2][0]
    again = daemon.next()
    assert len(daemon.asked) == 1
    daemon.clock.advance(2)
    assert daemon.asked[1] == {"Accept": "text/event-stream", "Last-Event-ID": "s-3"}
    daemon.send(b"event: x\ndata: 1\n\n")
    assert result(again) == Event("x", 1)


def test_the_first_refusal_is_told(daemon: Daemon) -> None:
    daemon.refusals = [Unreachable(OSError(), sent=False)]
    assert result(daemon.next()).check(Unreachable)


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    asked: list[Deferred[Any]] = []

    class Silent:
        def request(self, method: str, url: str, **how: Any) -> Deferred[Any]:
            asked.append(Deferred())
            return asked[-1]

    clock = Clock()
    events = Client("http://h", clock, http=Silent(), timeout=3).events()

    async def one() -> Event:
        return await events.__anext__()

    first = Deferred.fromCoroutine(one())
    clock.advance(2.9)
    assert not first.called
    clock.advance(0.2)
    assert result(first).check(Unreachable)
    assert len(asked) == 1


def test_later_it_tries_again_unless_it_never_may(daemon: Daemon) -> None:
    first = daemon.next()
    daemon.send(b"event: x\ndata: 1\n\n")
    assert result(first) == Event("x", 1)
    daemon.refusals = [Unreachable(OSError(), sent=True), Refused(503, {}), Refused(403, {})]
    again = daemon.next()
    daemon.hang_up()
    for asked in (2, 3, 4):
        assert not again.called
        daemon.clock.advance(2)
        assert len(daemon.asked) == asked
    assert result(again).check(Refused)


def test_one_that_does_not_take_events_reads_no_more(daemon: Daemon) -> None:
    first = daemon.next()
    daemon.send(b"event: x\ndata: 1\n\n" * 50_000)
    assert daemon.paused == 1
    assert result(first) == Event("x", 1)
    for _ in range(49_999):
        result(daemon.next())
    assert daemon.paused == 0


def test_who_has_enough_closes_the_connection(daemon: Daemon) -> None:
    first = daemon.next()
    daemon.send(TEXT)
    result(first)

    async def close() -> None:
        await daemon.watching.aclose()

    Deferred.fromCoroutine(close())
    assert daemon.stopped == 1


def test_a_connection_that_is_silent_is_given_up(daemon: Daemon) -> None:
    first = daemon.next()
    daemon.send(TEXT)
    result(first)
    for _ in range(5):
        # Comments show that the daemon is there.
        daemon.clock.advance(15)
        daemon.send(b": nothing new\n\n")
    assert (daemon.stopped, len(daemon.asked)) == (0, 1)
    for _ in EVENTS[1:]:
        result(daemon.next())
    again = daemon.next()
    daemon.clock.advance(45)
    assert daemon.stopped == 1
    daemon.clock.advance(2)
    assert daemon.asked[1]["Last-Event-ID"] == "s-3"
    daemon.send(b"event: x\ndata: 1\n\n")
    assert result(again) == Event("x", 1)


def test_one_that_does_not_listen_gives_nothing_up(daemon: Daemon) -> None:
    result(daemon.next())
    daemon.send(b"event: x\ndata: 1\n\n" * 50_000)
    daemon.clock.advance(200)
    assert daemon.stopped == 0
    daemon.hang_up()
    assert daemon.clock.getDelayedCalls() == []
