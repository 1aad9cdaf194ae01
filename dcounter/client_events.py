"""
Reads Server-Sent Events (WHATWG HTML, 9.2) from an answer that goes on. `dcounter.client` uses it.
"""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any, Final, cast
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

from dcounter.client_answers import Answer, Refused, Unreachable
from dcounter.client_bodies import body_of
from dcounter.client_errors import our_errors, too_late
from dcounter.client_requests import Requests

_MOST_WAITING: Final = 256 * 1024
"""
How many bytes of events may wait to be taken; then the connection is not read for a while.
"""

_SILENT_S: Final = 45.0
"""
After this time (s) without a byte, the client closes the connection: a daemon sends something every 15 s.
"""

_OK: Final = 200
_BUSY: Final = 503


class Event(Struct, frozen=True):
    """
    An event, as docs/http.md describes them.

    :ivar name: such as `count`.
    :ivar data: its data.
    """

    name: str
    data: Any


class EventParser:
    """
    Cuts bytes into events.

    :ivar last_id: the id of the last event that had one.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[Event, str, int]]:
        """
        The events that are complete now, the last id as of each, and the size of each.
        """
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            fields = {}
            for line in block.split(b"\n"):
                key, _, value = line.partition(b":")
                fields[key] = value.removeprefix(b" ")
            if b"id" in fields:
                self.last_id = fields[b"id"].decode()
            if b"data" in fields:
                name = fields.get(b"event", b"message").decode()
                yield Event(name, msgspec.json.decode(fields[b"data"])), self.last_id, len(block)


class EventReader(Protocol):
    """
    The events of one answer, as they come.

    :ivar ended: whether no more come.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._silence: IDelayedCall | None = None
        self._parser = EventParser()
        self._events: deque[tuple[Event, str, int]] = deque()
        self._waiting: Deferred[None] | None = None
        self._held = 0
        self._paused = False
        self.ended = False

    def connectionMade(self) -> None:
        self._begin_silence()

    def dataReceived(self, data: bytes) -> None:
        if self._silence is not None:
            self._silence.reset(_SILENT_S)
        for found in self._parser.feed(data):
            self._events.append(found)
            self._held += found[2]
        if self._held >= _MOST_WAITING and not self._paused:
            self._paused = True
            self._producer().pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end()

    def _begin_silence(self) -> None:
        self._silence = self._clock.callLater(_SILENT_S, self._give_up)

    def _give_up(self) -> None:
        """
        The other end has been silent for too long: it is not there any more, unless we do not listen.
        """
        self._silence = None
        if self._paused:
            self._begin_silence()
        else:
            self.close()

    def _end(self) -> None:
        self.ended = True
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._wake()

    async def next(self) -> tuple[Event, str] | None:
        """
        The next event, and the last id as of it; `None` if the answer has ended.
        """
        while not self._events:
            if self.ended:
                return None
            self._waiting = Deferred()
            await self._waiting
        event, last_id, size = self._events.popleft()
        self._held -= size
        if self._paused and self._held < _MOST_WAITING:
            self._paused = False
            self._producer().resumeProducing()
        return event, last_id

    def close(self) -> None:
        """
        Read no more.
        """
        if not self.ended:
            self._end()
            if self.transport is not None:
                self._producer().stopProducing()

    def _producer(self) -> IPushProducer:
        return cast(IPushProducer, self.transport)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


_RETRY_S: Final = 2.0
"""
Time (s) after which a watcher connects again.
"""


async def watch(
    connect: Callable[[Mapping[str, str]], Awaitable[IResponse]], clock: IReactorTime
) -> AsyncGenerator[Event, None]:
    """
    All events, however often the connection is lost. Each time it goes on after the last event that was read.

    :param connect: sends the request with further headers; gives the answer if it is a success.
    :raises Unreachable: there was no answer to the first request.
    :raises Refused: the daemon refuses, and not because it has no time.
    """
    last_id, first = "", True
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        try:
            response = await connect(headers)
        except (Refused, Unreachable) as error:
            if first or (isinstance(error, Refused) and error.status != _BUSY):
                raise
        else:
            first = False
            reader = EventReader(clock)
            response.deliverBody(reader)
            try:
                while (found := await reader.next()) is not None:
                    event, last_id = found
                    yield event
            finally:
                reader.close()
        await deferLater(clock, _RETRY_S)


class EventClient(Requests):
    """
    The part of a client that watches.
    """

    def events(self, *, tenants: Collection[str] = (), prefix: str = "") -> AsyncGenerator[Event, None]:
        """
        Watch counts change: iterate for as long as you like. A connection that is lost is made again.

        :param tenants: only events of these; none: of all.
        :param prefix: only events of tenants whose names begin with this.
        """
        chosen = [("tenant", each) for each in tenants]
        if prefix:
            chosen.append(("prefix", prefix))
        url = f"{self._base}/events?{urlencode(chosen)}"

        def connect(headers: Mapping[str, str]) -> Deferred[IResponse]:
            beginning = Deferred.fromCoroutine(self._begin(url, headers))
            return beginning.addTimeout(self._timeout, self._clock, too_late)

        return watch(connect, self._clock)

    async def _begin(self, url: str, headers: Mapping[str, str]) -> IResponse:
        """
        Ask for events.
        """
        with our_errors():
            response: IResponse = await self._request(
                "GET", url, headers=self._with_token({**headers}), data=None
            )
            if response.code != _OK:
                Answer(response.code, await body_of(response)).ok()
            return response
