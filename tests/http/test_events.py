"""
Server-Sent Events: what watchers read, byte for byte.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dcounter.errors import NotSupportedHere
from dcounter.events import CountChanged, Dropped, Feed, News, NodeChanged, Reset, Wanted
from dcounter.http.auth import Principal, Token, hash_token
from dcounter.http.event_stream import show_news
from dcounter.store import Items
from dcounter.testing.http import MemoryStore
from dcounter.testing.memory_feed import MemoryFeed
from tests.support.callers import Reply
from tests.support.servers import CalledServer, Connection

BOUND = Token(hash_token(b"dct_bound"), Principal("bound", frozenset({"read"}), ("acme/", "tie-")))
READER = Token(hash_token(b"dct_reader"), Principal("reader", frozenset({"read"})), expires=60 * 10**9)


class Told(MemoryStore):
    """
    Remembers who watches, and where they want to go on.
    """

    def __init__(self) -> None:
        super().__init__(lambda: 1)
        self.wanted: list[tuple[Wanted, str | None]] = []
        self.resumes = False
        self.refuses = False

    async def watch(self, wanted: Wanted, *, since: str | None = None) -> MemoryFeed:
        self.wanted.append((wanted, since))
        if self.refuses:
            raise NotSupportedHere("not here")
        feed = await super().watch(wanted, since=since)
        feed.resumed = self.resumes
        return feed

    @property
    def feeds(self) -> list[MemoryFeed]:
        return list(self._feeds)

    def put(self, *ids: int, tenant: str = "a") -> None:
        storing = self.store(Items(ids, [tenant] * len(ids)), ack="node")
        Deferred.fromCoroutine(storing)


@pytest.fixture
def store() -> Told:
    return Told()


@pytest.fixture
def world(store: Told) -> Iterator[CalledServer]:
    world = CalledServer(store=store, max_watchers=2, origins=["https://app.example"])
    yield world
    world.close()
    assert store.feeds == []


def ask(target: str = "/events", *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {target} HTTP/{version}", "Host: localhost", *headers, "", ""]).encode()


def text_of(chunks: bytes) -> str:
    """
    What chunks hold.
    """
    found = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        found += rest[: int(size, 16)]
        chunks = rest[int(size, 16) + 2 :]
    return found.decode()


def events(text: str) -> list[tuple[str, Any]]:
    """
    Events as `EventSource` reads them, without comments.
    """
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def begin(world: CalledServer, request: bytes) -> tuple[Connection, Reply]:
    caller = world.connect()
    [reply] = caller.send(request)
    return caller, reply


def more(caller: Connection) -> str:
    """
    What came since the last look.
    """
    sent = caller.wire.value()
    caller.wire.clear()
    return text_of(sent)


def test_a_watcher_is_greeted_and_then_told(world: CalledServer, store: Told) -> None:
    caller, reply = begin(world, ask())
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    assert reply.headers["x-accel-buffering"] == "no"
    assert (reply.headers["cache-control"], reply.headers["connection"]) == ("no-store", "close")
    hello = {
        "position": "memory-0",
        "version": 1,
        "resumed": False,
        "tenants": None,
        "prefixes": None,
        "nodes": True,
    }
    text = reply.text.decode()
    assert text.startswith("retry: 2000\nevent: hello\n")
    assert events(text) == [("hello", hello)]
    store.put(1, 2)
    assert more(caller) == 'event: count\ndata: {"tenant":"a","counter":2}\nid: memory-2\n\n'


def test_only_the_last_of_some_events_has_an_id() -> None:
    news = News([CountChanged("ü\n", 1), NodeChanged(2, "refuses", "full"), Reset("p")], "s-7")
    assert show_news(news).decode() == (
        'event: count\ndata: {"tenant":"ü\\n","counter":1}\n\n'
        'event: node\ndata: {"node":2,"change":"refuses","reason":"full"}\n\n'
        'event: reset\ndata: {"position":"p"}\nid: s-7\n\n'
    )
    assert show_news(news) is show_news(news)


def test_without_news_a_comment_comes() -> None:
    assert show_news(News((), None)) == b": nothing new\n\n"


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/events", Wanted()),
        ("/events?tenant=a", Wanted(("a",))),
        ("/events?tenant=a&tenant=b%2F&tenant=a", Wanted(("a", "b/"))),
        ("/events?prefix=acme%2F", Wanted(prefixes=("acme/",))),
    ],
)
def test_a_watcher_chooses(world: CalledServer, store: Told, target: str, wanted: Wanted) -> None:
    _, reply = begin(world, ask(target))
    [(_, hello)] = events(reply.text.decode())
    assert store.wanted == [(wanted, None)]
    assert (hello["tenants"] or [], hello["prefixes"] or []) == (
        list(wanted.tenants or ()),
        list(wanted.prefixes),
    )


@pytest.mark.parametrize("target", ["/events?tenant=a&prefix=b", "/events?tenant=", "/events?node=1"])
def test_a_choice_that_makes_no_sense_is_refused(world: CalledServer, store: Told, target: str) -> None:
    assert begin(world, ask(target))[1].problem == (400, "bad_parameter")
    assert store.wanted == []


@pytest.mark.parametrize("resumes", [False, True])
def test_one_that_comes_back_goes_on_or_is_told_to_ask_anew(
    world: CalledServer, store: Told, resumes: bool
) -> None:
    store.resumes = resumes
    _, reply = begin(world, ask("/events", "Last-Event-ID: s-7"))
    (_, hello), *rest = events(reply.text.decode())
    assert store.wanted == [(Wanted(), "s-7")]
    assert (hello["resumed"], rest) == (resumes, [] if resumes else [("reset", {"position": "memory-0"})])


def test_an_empty_id_is_none(world: CalledServer, store: Told) -> None:
    _, reply = begin(world, ask("/events", "Last-Event-ID: "))
    assert store.wanted == [(Wanted(), None)]
    assert len(events(reply.text.decode())) == 1


def test_there_are_so_many_watchers_and_no_more(world: CalledServer, store: Told) -> None:
    first, _ = begin(world, ask())
    begin(world, ask())
    _, refused = begin(world, ask())
    assert refused.problem == (503, "too_many_watchers")
    assert refused.headers["retry-after"] == "1"
    first.hang_up()
    assert begin(world, ask())[1].status == 200


def test_one_that_sends_no_more_has_left(world: CalledServer, store: Told) -> None:
    for _ in range(3):
        caller, reply = begin(world, ask())
        assert reply.status == 200
        caller.close_half()
        assert caller.wire.disconnecting
        caller.hang_up()
        assert store.feeds == []


def test_one_that_sends_no_more_before_it_is_answered_has_left(world: CalledServer, store: Told) -> None:
    waiting: Deferred[None] = Deferred()
    watch = store.watch

    async def late(wanted: Wanted, *, since: str | None = None) -> MemoryFeed:
        await waiting
        return await watch(wanted, since=since)

    vars(store)["watch"] = late
    caller = world.connect()
    caller.send(ask())
    caller.close_half()
    assert not caller.wire.disconnecting
    waiting.callback(None)
    assert caller.wire.disconnecting


def test_watchers_take_no_place_of_other_callers(store: Told) -> None:
    world = CalledServer(store=store, max_connections=1, reserved_connections=1)
    for _ in range(5):
        assert begin(world, ask())[1].status == 200
    assert begin(world, ask("/healthz"))[1].status == 200
    world.close()


def test_a_watch_that_is_refused_takes_no_place(world: CalledServer, store: Told) -> None:
    store.refuses = True
    for _ in range(3):
        assert begin(world, ask())[1].problem == (501, "not_supported_here")


def test_head_watches_nothing(world: CalledServer, store: Told) -> None:
    for _ in range(3):
        _, reply = begin(world, ask().replace(b"GET", b"HEAD"))
        assert (reply.status, reply.headers["content-type"], reply.text) == (200, "text/event-stream", b"")
    assert store.feeds == []


def test_it_lasts_however_little_happens(world: CalledServer, store: Told) -> None:
    caller, _ = begin(world, ask())
    for _ in range(10):
        world.clock.advance(60)
    store.put(1)
    assert events(more(caller)) == [("count", {"tenant": "a", "counter": 1})]


def test_what_a_slow_reader_has_not_read_waits_with_the_store(world: CalledServer, store: Told) -> None:
    caller, _ = begin(world, ask())
    caller.protocol.pauseProducing()
    store.put(1)
    store.put(2)
    store.put(3)
    assert more(caller) == ""
    caller.protocol.resumeProducing()
    # What was taken before it was known that the caller does not read, and the rest.
    assert [data["counter"] for _, data in events(more(caller))] == [1, 2, 3]


def test_one_that_never_reads_is_cut_off(world: CalledServer, store: Told) -> None:
    caller, _ = begin(world, ask())
    caller.protocol.pauseProducing()
    for _ in range(4):
        world.clock.advance(40)
    assert caller.wire.aborted
    caller.hang_up()
    assert store.feeds == []


def test_when_the_feed_ends_so_does_the_answer(world: CalledServer, store: Told) -> None:
    caller, _ = begin(world, ask())
    [feed] = store.feeds
    feed.tell([Dropped("stopping", "the daemon is stopping")], "x")
    feed.close()
    sent = caller.wire.value()
    assert b"event: dropped" in sent
    assert sent.endswith(b"0\r\n\r\n")
    assert caller.wire.disconnecting


def test_http_1_0_gets_events_until_the_connection_ends(world: CalledServer, store: Told) -> None:
    caller = world.connect()
    caller.protocol.dataReceived(ask(version="1.0"))
    store.put(1)
    head, _, text = caller.wire.value().decode().partition("\r\n\r\n")
    assert "Transfer-Encoding" not in head
    assert [name for name, _ in events(text)] == ["hello", "count"]


def test_pages_of_permitted_sites_may_watch(world: CalledServer) -> None:
    _, reply = begin(world, ask("/events", "Origin: https://app.example"))
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    _, reply = begin(world, ask("/events", "Origin: https://evil.example"))
    assert reply.problem == (403, "foreign_origin")


class TestTokens:
    @pytest.fixture
    def world(self, store: Told) -> Iterator[CalledServer]:
        world = CalledServer(store=store, tokens=[BOUND, READER])
        yield world
        world.close()

    def test_a_bound_one_gets_its_tenants_and_no_nodes(self, world: CalledServer, store: Told) -> None:
        caller, reply = begin(world, ask("/events", "Authorization: Bearer dct_bound"))
        [(_, hello)] = events(reply.text.decode())
        assert (hello["prefixes"], hello["nodes"]) == (["acme/", "tie-"], False)
        store.put(1, tenant="other")
        store.put(2, tenant="acme/1")
        assert events(more(caller)) == [("count", {"tenant": "acme/1", "counter": 1})]

    @pytest.mark.parametrize(
        ("query", "wanted"),
        [
            ("tenant=acme%2F1", Wanted(("acme/1",), nodes=False)),
            ("prefix=acme%2Fx", Wanted(prefixes=("acme/x",), nodes=False)),
        ],
    )
    def test_a_bound_one_may_choose_among_its_own(
        self, world: CalledServer, store: Told, query: str, wanted: Wanted
    ) -> None:
        begin(world, ask(f"/events?{query}", "Authorization: Bearer dct_bound"))
        assert store.wanted == [(wanted, None)]

    @pytest.mark.parametrize("end", ["expired", "removed", "bound"])
    def test_nothing_comes_when_the_token_is_valid_no_longer(
        self, world: CalledServer, store: Told, end: str
    ) -> None:
        caller, _ = begin(world, ask("/events", "Authorization: Bearer dct_reader"))
        store.put(1)
        assert len(events(more(caller))) == 1
        assert world.tokens is not None
        if end == "expired":
            world.clock.advance(60)
        else:
            bound = Token(READER.digest, Principal("reader", frozenset({"read"}), ("x",)))
            world.tokens.replace([bound] if end == "bound" else [])
        store.put(2)
        [(name, data)] = events(more(caller))
        assert (name, data["code"]) == ("dropped", "token")
        assert store.feeds == []
        assert caller.wire.disconnecting


def test_a_feed_is_what_its_interface_says(store: Told) -> None:
    feed: Feed = MemoryFeed(Wanted(), "p", lambda _: None)
    assert feed.resumed is False
