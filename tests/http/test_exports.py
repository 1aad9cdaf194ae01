"""
Exports over HTTP, from a store in memory; and loads of exports.
"""

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from io import BytesIO
from typing import Any
from zlib import MAX_WBITS, decompress

import pytest
from twisted.internet.defer import Deferred

from dcounter import zstd
from dcounter.backups.form import Head
from dcounter.backups.writing import Writer
from dcounter.errors import AnswerBroken
from dcounter.http.auth import Principal, Token, hash_token
from dcounter.http.encoding import encoding_for
from dcounter.store import Consistency, Export, ExportPiece, Items
from dcounter.testing.http import MemoryStore
from tests.support.callers import Reply
from tests.support.servers import CalledServer, Connection

NOW = 1_700_000_000 * 10**9
AT = "2023-11-14T22:13:20.000000005Z"
TOKENS = [
    Token(hash_token(b"dct_all"), Principal("all", frozenset({"read", "write"}))),
    Token(hash_token(b"dct_bound"), Principal("bound", frozenset({"read"}), ("acme/",))),
]


class Stored(MemoryStore):
    """
    A store in memory with three items and a deleted one, whose exports can be watched.

    :ivar gates: when there are some, each is waited for before a further piece.
    :ivar broken: why exports end early; empty if they do not.
    :ivar closed: how many exports are over.
    """

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.gates: list[Deferred[None]] | None = None
        self.broken = ""
        self.closed = 0

    async def fill(self) -> None:
        items = Items([1, 2, 3, 4], ["a", "acme/ü", "acme/2", None], [NOW + 5] * 4)
        await self.store(items, ack="node")

    async def export(
        self,
        *,
        deleted: bool,
        prefixes: Sequence[str] = (),
        consistency: Consistency,
        after: str | None = None,
    ) -> Export:
        found = await super().export(deleted=deleted, prefixes=prefixes, consistency=consistency, after=after)

        async def pieces() -> AsyncGenerator[ExportPiece, None]:
            try:
                async for piece in found.pieces:
                    yield piece
                while self.gates is not None:
                    gate: Deferred[None] = Deferred()
                    self.gates.append(gate)
                    await gate
                    yield ExportPiece(b"{}\n" * 10_000, 10_000)
                if self.broken:
                    raise AnswerBroken(self.broken)
            finally:
                self.closed += 1

        return Export(
            items=found.items,
            pieces=pieces(),
            position=found.position,
            complete=found.complete,
            missing=found.missing,
        )


@pytest.fixture
def store() -> Stored:
    store = Stored()
    Deferred.fromCoroutine(store.fill())
    return store


@pytest.fixture
def world(store: Stored) -> Iterator[CalledServer]:
    world = CalledServer(store=store, exports=2)
    yield world
    world.close()
    room = world.server.shared.api.room_for_exports
    assert room.tokens == room.limit == 2


def request(query: str = "", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} /export{query} HTTP/{version}", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def export(world: CalledServer, query: str = "", *headers: str) -> Reply:
    [reply] = world.connect().send(request(query, *headers))
    return reply


def lines(reply: Reply) -> list[Any]:
    assert reply.status == 200, reply.text
    return [json.loads(line) for line in reply.text.splitlines()]


class TestAnswer:
    def test_everything_between_a_header_and_an_end(self, world: CalledServer) -> None:
        reply = export(world)
        assert reply.headers["content-type"] == "application/x-ndjson"
        assert reply.headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in reply.headers
        header, *items, end = lines(reply)
        assert header == {"export": 1, "position": header["position"], "items": 3, "deleted": False}
        assert items == [
            {"ID": 1, "tenant": "a", "lastUpdateDt": AT},
            {"ID": 2, "tenant": "acme/ü", "lastUpdateDt": AT},
            {"ID": 3, "tenant": "acme/2", "lastUpdateDt": AT},
        ]
        assert end == {"end": True, "rows": 3}
        # The position is one like any other.
        assert lines(export(world, f"?after={header['position']}"))[0] == header

    def test_deleted_ids_are_there_if_they_are_asked_for(self, world: CalledServer) -> None:
        header, *items, end = lines(export(world, "?deleted=1"))
        assert (header["items"], header["deleted"], end["rows"]) == (4, True, 4)
        assert items[-1] == {"ID": 4, "deleted": True, "lastUpdateDt": AT}
        assert lines(export(world, "?deleted=0"))[-1]["rows"] == 3

    def test_what_is_not_exact_says_so_or_is_refused(self, world: CalledServer, store: Stored) -> None:
        store.missing = (2,)
        assert export(world).problem == (503, "incomplete")
        header = lines(export(world, "?consistency=available"))[0]
        assert (header["complete"], header["missing"]) == (False, [2])
        assert "complete" not in lines(export(world, "?consistency=eventual"))[0]

    def test_mistakes_are_refused_before_it_begins(self, world: CalledServer) -> None:
        assert export(world, "?after=none").problem == (400, "position_invalid")
        assert export(world, "?deleted=yes").problem == (400, "bad_parameter")

    def test_head_has_no_body_and_leaves_nothing_behind(self, world: CalledServer, store: Stored) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(request(method="HEAD"))
        head, _, rest = connection.wire.value().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"application/x-ndjson" in head
        assert rest == b""

    def test_http_1_0_ends_with_its_connection(self, world: CalledServer) -> None:
        connection = world.connect()
        connection.protocol.dataReceived(request(version="1.0"))
        assert connection.wire.value().endswith(b'{"end":true,"rows":3}\n')
        assert connection.wire.disconnecting

    @pytest.mark.parametrize(
        ("accepted", "read"),
        [("gzip", lambda data: decompress(data, MAX_WBITS + 16)), ("zstd", zstd.decompress)],
    )
    def test_it_is_compressed_as_the_caller_likes(
        self, world: CalledServer, accepted: str, read: Callable[[bytes], bytes]
    ) -> None:
        reply = export(world, "", f"Accept-Encoding: {accepted}")
        assert reply.headers["content-encoding"] == accepted
        assert read(reply.text) == export(world).text


class TestBound:
    """
    A token that is bound to some tenants.
    """

    @pytest.fixture
    def world(self, store: Stored) -> Iterator[CalledServer]:
        world = CalledServer(store=store, tokens=TOKENS)
        yield world
        world.close()

    def test_it_gets_their_items_and_learns_nothing_of_others(self, world: CalledServer) -> None:
        header, *items, end = lines(export(world, "", "Authorization: Bearer dct_bound"))
        assert header.keys() == {"export", "position", "deleted"}
        assert [each["ID"] for each in items] == [2, 3]
        assert end["rows"] == 2

    def test_deleted_ids_are_nobodys(self, world: CalledServer) -> None:
        refused = export(world, "?deleted=1", "Authorization: Bearer dct_bound")
        assert refused.problem == (403, "forbidden")
        assert "leave deleted=1 out" in refused.json["detail"]
        assert lines(export(world, "?deleted=1", "Authorization: Bearer dct_all"))[-1]["rows"] == 4


class TestSlowly:
    def begin(self, world: CalledServer) -> Connection:
        connection = world.connect()
        connection.protocol.dataReceived(request())
        return connection

    def test_only_so_many_at_once(self, world: CalledServer, store: Stored) -> None:
        store.gates = []
        first, _ = self.begin(world), self.begin(world)
        refused = export(world)
        assert refused.problem == (503, "too_many_exports")
        assert refused.headers["retry-after"] == "10"
        first.hang_up()
        assert store.closed == 1
        self.begin(world)
        assert len(store.gates) == 3

    def test_nothing_is_made_for_a_caller_that_does_not_read(
        self, world: CalledServer, store: Stored
    ) -> None:
        store.gates = []
        connection = self.begin(world)
        connection.protocol.pauseProducing()
        for _ in range(3):
            store.gates.pop().callback(None)
            world.clock.advance(1)
            if not store.gates:
                break
        assert store.gates == []
        connection.protocol.resumeProducing()
        assert len(store.gates) == 1
        # One that takes nothing for long is cut off.
        connection.protocol.pauseProducing()
        store.gates.pop().callback(None)
        world.clock.advance(75)
        assert connection.wire.aborted
        connection.hang_up()
        assert store.closed == 1

    def test_one_that_breaks_off_has_no_end(self, world: CalledServer, store: Stored) -> None:
        store.broken = "its node died"
        connection = self.begin(world)
        assert connection.wire.aborted
        sent = connection.wire.value()
        assert b'{"ID":3' in sent
        assert b'{"end"' not in sent
        assert not sent.endswith(b"0\r\n\r\n")


class TestRestoring:
    @pytest.fixture
    def empty(self) -> Iterator[CalledServer]:
        world = CalledServer(store=MemoryStore(lambda: NOW), load_piece_lines=3)
        yield world
        world.close()

    def load(self, world: CalledServer, body: bytes, query: str = "", *headers: str) -> Reply:
        head = [f"POST /items{query} HTTP/1.1", "Host: localhost", "Content-Type: application/x-ndjson"]
        head += headers
        data = "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body
        connection = world.connect()
        found = connection.send(data)
        for _ in range(50):
            world.clock.advance(0)
        [reply] = found + connection.send()
        return reply

    def test_what_was_exported_is_there_again(self, world: CalledServer, empty: CalledServer) -> None:
        dump = export(world, "?deleted=1").text
        for body in (dump, dump.replace(b"\n", b"\r\n"), dump + b"\n\r\n", dump.rstrip(b"\n")):
            reply = self.load(empty, body)
            assert (reply.status, reply.json["items"]) == (200, 4), reply.text
            assert reply.json["lines"] >= 6
        again = export(empty, "?deleted=1").text
        assert again.split(b"\n")[1:] == dump.split(b"\n")[1:]

    @pytest.mark.parametrize("compressed", [True, False])
    def test_a_backup_is_an_export(
        self, world: CalledServer, empty: CalledServer, *, compressed: bool
    ) -> None:
        _, *lines, _ = export(world, "?deleted=1").text.splitlines(keepends=True)
        file = BytesIO()
        head = Head(export=1, position="p", items=4, deleted=True, backup=1, cluster="c", started="s")
        writer = Writer(head, file.write, compressed=compressed)
        writer.add(b"".join(lines))
        writer.end("f")
        headers = ["Content-Encoding: zstd"] if compressed else []
        reply = self.load(empty, file.getvalue(), "", *headers)
        assert (reply.status, reply.json["items"], reply.json["lines"]) == (200, 4, 6), reply.text
        # So it is refused if it is cut short.
        if not compressed:
            reply = self.load(empty, file.getvalue().partition(b'{"end"')[0])
            assert (reply.status, reply.json["code"]) == (422, "export_cut_short")

    def test_one_without_items(self, empty: CalledServer) -> None:
        dump = export(empty).text
        assert len(dump.splitlines()) == 2
        assert self.load(empty, dump).json["items"] == 0

    @pytest.mark.parametrize("size", range(1, 12))
    def test_pieces_of_any_size(self, world: CalledServer, size: int) -> None:
        target = CalledServer(store=MemoryStore(lambda: NOW), load_piece_lines=size)
        assert self.load(target, export(world, "?deleted=1").text).json["items"] == 4
        target.close()

    @pytest.mark.parametrize("left", [1, 2, 3, 4, 5])
    def test_one_that_is_cut_short_is_refused(
        self, world: CalledServer, empty: CalledServer, left: int
    ) -> None:
        dump = export(world, "?deleted=1").text.splitlines(keepends=True)
        for body in (b"".join(dump[:left]), b"".join(dump[:left]).rstrip(b"\n")):
            refused = self.load(empty, body)
            assert refused.problem == (422, "export_cut_short")
            assert refused.json["items_stored"] == left - 1
            assert refused.json["outcome"] == ("partial" if left > 1 else "not_applied")
            assert "last line" in refused.json["detail"]
        # And in the middle of a line.
        assert self.load(empty, b"".join(dump[:left]) + dump[left][:9]).problem == (422, "invalid_line")

    def test_one_that_lacks_lines_or_has_more_is_refused(
        self, world: CalledServer, empty: CalledServer
    ) -> None:
        dump = export(world, "?deleted=1").text.splitlines(keepends=True)
        for body in (dump[:2] + dump[3:], [*dump[:2], *dump[1:]], [*dump, dump[1]]):
            refused = self.load(empty, b"".join(body))
            assert refused.problem == (422, "export_cut_short"), body
            assert "tells of 4 lines" in refused.json["detail"]

    def test_invalid_lines_count(self, world: CalledServer, empty: CalledServer) -> None:
        dump = export(world, "?deleted=1").text.replace(b'"tenant":"a"', b'"tenant":""')
        reply = self.load(empty, dump, "?partial=1")
        assert (reply.status, reply.json["items"], reply.json["invalid"]) == (207, 3, 1)
        assert reply.json["errors"][0]["line"] == 2

    def test_a_header_is_a_first_line_and_of_a_form_that_is_known(
        self, world: CalledServer, empty: CalledServer
    ) -> None:
        header = export(world).text.partition(b"\n")[0] + b"\n"
        for body in (b'{"ID":1,"tenant":"a"}\n' + header, header.replace(b":1,", b":2,"), header * 2):
            refused = self.load(empty, body)
            assert refused.problem == (422, "invalid_line"), body

    def test_an_export_of_another_form_is_refused_whole(
        self, world: CalledServer, empty: CalledServer
    ) -> None:
        """
        What its lines mean is not known, so none is stored, not even with `partial=1`.
        """
        dump = export(world).text.replace(b'"export":1', b'"export":2')
        for query in ("", "?partial=1"):
            refused = self.load(empty, dump, query)
            assert refused.problem == (422, "invalid_line")
            assert refused.json["detail"].startswith(
                "line 1: is that of an export of the form 2, and this release reads only the form 1;"
            )
            assert (refused.json["outcome"], refused.json["items_stored"]) == ("not_applied", 0)

    def test_an_end_without_a_header_is_an_invalid_line(self, empty: CalledServer) -> None:
        assert self.load(empty, b'{"end":true,"rows":0}\n').problem == (422, "invalid_line")
        # And so is one that is none.
        dump = export(empty).text.replace(b'"rows":0', b'"rows":"0"')
        assert self.load(empty, dump).problem == (422, "invalid_line")


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ([], "identity"),
        ([b""], "identity"),
        ([b"gzip"], "gzip"),
        ([b"x-gzip"], "gzip"),
        ([b"gzip, deflate, br, zstd"], "zstd"),
        ([b"gzip", b"zstd"], "zstd"),
        ([b"GZIP ; q=1.0, zstd;q=0.5"], "gzip"),
        ([b"gzip;q=0.001, identity;q=0"], "gzip"),
        ([b"gzip;q=0.5, identity"], "identity"),
        ([b"gzip;q=0, zstd;q=0"], "identity"),
        ([b"*"], "zstd"),
        ([b"*;q=0.5, gzip;q=0.4"], "zstd"),
        ([b"*, zstd;q=0"], "gzip"),
        ([b"identity;q=0, br"], "identity"),
        ([b"gzip;q=2, zstd;q=x, br;level=1"], "identity"),
        ([b"gzip;\xff\x00,,;;q=,"], "identity"),
    ],
)
def test_the_encoding_is_the_one_with_the_largest_weight(accepted: list[bytes], encoding: str) -> None:
    assert encoding_for({b"accept-encoding": accepted} if accepted else {}) == encoding
