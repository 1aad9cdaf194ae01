"""
An answer that goes on: the events of a `Feed`, as Server-Sent Events (WHATWG HTML, 9.2).
"""

from collections.abc import Callable
from typing import Final, Self

import msgspec

from dcounter.events import CountChanged, Dropped, Event, Feed, News, NodeChanged, Reset
from dcounter.http.answer_bodies import Hello

CONTENT_TYPE: Final = b"text/event-stream"

_RETRY_MS: Final = 2_000
"""
How long (ms) a browser waits before it connects again.
"""

_QUIET: Final = b": nothing new\n\n"
"""
A comment: readers ignore it, and proxies see that the connection is in use.
"""

_NAMES: Final[dict[type[Event], bytes]] = {
    CountChanged: b"count",
    NodeChanged: b"node",
    Reset: b"reset",
    Dropped: b"dropped",
}


def show(name: bytes, data: object, id: str | None = None) -> bytes:
    """
    One event.

    :param id: where to go on after it.
    """
    # JSON has no line ends.
    text = b"event: %s\ndata: %s\n" % (name, msgspec.json.encode(data))
    return text + b"\n" if id is None else text + b"id: %s\n\n" % id.encode()


def show_news(news: News) -> bytes:
    """
    News, which many watchers get, as bytes that are made once.

    Only the last event has an id: who has read only some of them gets those once more.
    """
    if not news.events:
        return _QUIET
    if not news.shown:
        *others, last = news.events
        shown = [show(_NAMES[type(each)], each) for each in others]
        news.shown = b"".join([*shown, show(_NAMES[type(last)], last, news.id)])
    return news.shown


class EventStream:
    """
    The body of such an answer, bit by bit.

    :param hello: the first event.
    :param anew: whether the watcher asked to go on after events that are not all there any more.
    :param permitted: whether the watcher may still read.
    :param left: is called once, when it ends.
    """

    def __init__(
        self,
        feed: Feed,
        hello: Hello,
        *,
        anew: bool,
        permitted: Callable[[], bool],
        left: Callable[[], object],
    ) -> None:
        self._feed = feed
        self._permitted = permitted
        self._left = left
        first = b"retry: %d\n" % _RETRY_MS + show(b"hello", hello, feed.id)
        if anew:
            first += show(b"reset", Reset(feed.position), feed.id)
        self._first = first
        self._open = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        if not self._open:
            raise StopAsyncIteration
        news = await self._feed.__anext__()
        if self._permitted():
            return show_news(news)
        await self.aclose()
        return show(b"dropped", Dropped("token", "the token has expired, or is not accepted any more"))

    async def aclose(self) -> None:
        """
        End it.
        """
        if self._open:
            self._open = False
            self._feed.close()
            self._left()
