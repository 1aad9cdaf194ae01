"""
Loads: lines of any number, stored while they arrive.
"""

# Twisted's transports in memory have no annotations.
# mypy: disable-error-code="no-untyped-call"

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dcounter import zstd
from dcounter.compaction_errors import StampTooOld
from dcounter.errors import InvalidPosition, NotApplied, NotReplicated, OutcomeUnknown, Refusal
from dcounter.http.table import ROUTES
from dcounter.store import Ack, Items, Receipt
from tests.support.callers import Reply
from tests.support.servers import GET, CalledServer, Connection, NoWay, SlowStore, turn

NDJSON = "Content-Type: application/x-ndjson"


class LoadStore(SlowStore):
    """
    A store that keeps what it is given, at once or when it is told to.

    :ivar holds: whether requests wait for `release`.
    :ivar refusals: what to raise, by the number of the request.
    :ivar reached: the acknowledgement that was reached, by the number of the request, if it is another.
    """

    capabilities = frozenset({"receipts"})

    def __init__(self) -> None:
        super().__init__()
        self.holds = False
        self.refusals: dict[int, Exception] = {}
        self.reached: dict[int, Ack] = {}
        self.given: list[Items] = []
        self.asked: list[tuple[Ack, str | None]] = []
        self.stored: list[tuple[int, str | None]] = []

    def latest_stamp(self) -> int:
        return 10**10

    async def store(
        self, items: Items, *, ack: Ack, after: str | None = None, changes: bool = False
    ) -> Receipt:
        number = len(self.given)
        self.given.append(items)
        self.asked.append((ack, after))
        if self.holds:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
        if number in self.refusals:
            raise self.refusals[number]
        self.stored.extend(zip(items.ids, items.tenants, strict=True))
        return Receipt(len(items), self.reached.get(number, ack), f"{number:04}")

    @property
    def ids(self) -> list[int]:
        return [item for item, _ in self.stored]


class Loader:
    """
    A server with a store, and a caller that loads.
    """

    def __init__(self, **limits: Any) -> None:
        self.store = LoadStore()
        self.server = CalledServer(store=self.store, **limits)

    def connect(self) -> Connection:
        return self.server.connect()

    def turns(self, number: int = 50) -> None:
        for _ in range(number):
            self.server.clock.advance(0)

    def send(self, connection: Connection, *data: bytes) -> list[Reply]:
        found = connection.send(*data)
        self.turns()
        return found + connection.send()

    def load(self, body: bytes, *headers: str, query: str = "") -> Reply:
        """
        Send a whole load on a connection of its own.
        """
        [reply] = self.send(self.connect(), head(len(body), *headers, query=query), body)
        return reply

    def close(self) -> None:
        self.server.close()
        room = self.server.server.shared.api.room_for_pieces
        assert room.tokens == room.limit


@pytest.fixture
def loader() -> Iterator[Loader]:
    loader = Loader()
    yield loader
    loader.close()


@pytest.fixture
def narrow() -> Iterator[Loader]:
    """
    Pieces have two lines.
    """
    loader = Loader(load_piece_lines=2, load_pieces=3, max_tenant_bytes=8, load_piece_bytes=100)
    yield loader
    loader.close()


def head(length: int, *headers: str, query: str = "", kind: str = NDJSON) -> bytes:
    lines = [f"POST /items{query} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", kind, *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def line(item: int, tenant: str = "a") -> bytes:
    return b'{"ID":%d,"tenant":"%s"}\n' % (item, tenant.encode())


def lines(items: Iterable[int]) -> bytes:
    return b"".join(map(line, items))


class TestLines:
    def test_are_stored(self, loader: Loader) -> None:
        reply = loader.load(lines(range(3)))
        assert reply.status == 200
        assert reply.json == {"status": "OK", "items": 3, "lines": 3, "ack": "node", "position": "0000"}
        assert loader.store.stored == [(0, "a"), (1, "a"), (2, "a")]

    @pytest.mark.parametrize(
        "body",
        [
            b'{"ID":1,"tenant":"a"}\n{"ID":2,"tenant":"b"}',
            b'{"ID":1,"tenant":"a"}\r\n{"ID":2,"tenant":"b"}\r\n',
            b'\n\n{"ID":1,"tenant":"a"}\n \t\n{"ID":2,"tenant":"b"}\n\n',
            b' { "ID" : 1 , "tenant" : "a" } \n{"tenant":"b","id":2}\n',
            b'{"id":1,"tenant":"a"}\n{"id":2,"tenant":"b"}\n',
            b'{"ID":1,"tenant":"a","x":[{}]}\n{"ID":2,"tenant":"b","x":"}\\n{"}\n',
            b'{"ID":1,"Tenant":"a"}\n{"Id":2,"tenant":"b"}\n',
        ],
    )
    def test_may_be_written_in_many_ways(self, loader: Loader, body: bytes) -> None:
        reply = loader.load(body)
        assert (reply.status, reply.json["items"]) == (200, 2)
        assert reply.json["lines"] == len(body.splitlines())
        assert loader.store.stored == [(1, "a"), (2, "b")]

    @pytest.mark.parametrize("kind", ["application/x-ndjson", "Application/X-NDJSON ; charset=utf-8"])
    def test_are_known_by_their_type(self, loader: Loader, kind: str) -> None:
        [reply] = loader.send(loader.connect(), head(22, kind=f"Content-Type: {kind}") + line(1))
        assert reply.json["items"] == 1

    @pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-ndjson2", ""])
    def test_are_no_json(self, loader: Loader, kind: str) -> None:
        [reply] = loader.send(loader.connect(), head(22, kind=f"Content-Type: {kind}") + line(1))
        assert reply.problem == (400, "malformed")

    def test_may_be_none(self, loader: Loader) -> None:
        for body in (b"", b"\n", b" \r\n\n"):
            reply = loader.load(body)
            assert (reply.status, reply.json["items"]) == (200, 0)
            assert reply.json["lines"] == body.count(b"\n")
            assert reply.json["position"]
        assert [len(items) for items in loader.store.given] == [0, 0, 0]

    def test_parameters_reach_the_store(self, narrow: Loader) -> None:
        assert narrow.load(lines(range(4)), query="?ack=all&after=here").json["ack"] == "all"
        # What is stored already is after it, too.
        assert narrow.store.asked == [("all", "here"), ("all", "0000")]
        narrow.load(lines(range(4)))
        assert narrow.store.asked[2:] == [("node", None)] * 2

    def test_of_items_with_stamps(self, loader: Loader) -> None:
        stamped = b'{"ID":1,"tenant":"a","lastUpdateDt":"1970-01-01T00:00:00Z"}\n'
        assert loader.load(stamped + line(2)).status == 200
        assert loader.store.given[0].stamps == [0, None]
        late = stamped.replace(b"1970", b"1971")
        assert "ahead of this machine" in loader.load(late).json["detail"]

    def test_with_a_stamp_of_the_query(self, narrow: Loader) -> None:
        own = b'{"ID":1,"tenant":"a","lastUpdateDt":"1970-01-01T00:00:05Z"}\n'
        assert (
            narrow.load(line(0) + own + line(2), query="?lastUpdateDt=1970-01-01T00:00:00.7Z").status == 200
        )
        assert [items.stamps for items in narrow.store.given] == [[700_000_000, 5_000_000_000], [700_000_000]]
        assert narrow.load(line(0), query="?lastUpdateDt=x").problem == (400, "bad_parameter")

    def test_need_no_key(self, loader: Loader) -> None:
        assert loader.load(line(0), "Idempotency-Key: x").problem == (400, "no_idempotency_key")

    def test_that_delete(self, loader: Loader) -> None:
        deletion = b'{"ID":7,"deleted":true}\n'
        for body in (line(1) + deletion, b"\n" + line(1) + deletion):
            assert loader.load(body).json["items"] == 2
            assert loader.store.stored.pop() == (7, None)

    def test_the_next_request_comes_after_them(self, loader: Loader) -> None:
        replies = loader.send(loader.connect(), head(22) + line(1) + GET)
        assert [each.status for each in replies] == [200, 200]

    def test_that_klein_routes(self, loader: Loader) -> None:
        loader.server.server.shared.short_way = NoWay()
        body = lines(range(3))
        assert loader.load(body).json["items"] == 3
        assert loader.load(b"").json["items"] == 0
        assert loader.load(line(1) + b"x\n" + line(2)).problem == (422, "invalid_line")
        assert loader.store.ids == [0, 1, 2, 1]

    def test_the_position_covers_all_pieces(self, narrow: Loader) -> None:
        assert narrow.load(lines(range(9))).json["position"] == "0004"

    def test_the_weakest_acknowledgement_is_told(self, narrow: Loader) -> None:
        narrow.store.reached = {0: "all", 1: "primary", 2: "majority"}
        assert narrow.load(lines(range(6))).json["ack"] == "primary"

    def test_a_warning_is_passed_on(self, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        async def store(items: Items, **how: Any) -> Receipt:
            return Receipt(len(items), "node", "here", "a clock is ahead")

        monkeypatch.setattr(loader.store, "store", store)
        assert loader.load(line(1)).json["warning"] == "a clock is ahead"


class TestArrival:
    """
    It does not matter in which parts a load arrives.
    """

    BODY = b'{"ID":1,"tenant":"\xc3\xbc"}\r\n\n{"ID":2,"tenant":"b","more":"}\\n"}\n{"ID":3,"tenant":"c"}'
    STORED = ((1, "ü"), (2, "b"), (3, "c"))

    @pytest.mark.parametrize("encoding", [None, "gzip", "zstd"])
    def test_cut_at_every_byte(self, loader: Loader, encoding: str | None) -> None:
        body, headers = self.BODY, []
        if encoding is not None:
            body = gzip.compress(body) if encoding == "gzip" else zstd.compress(body)
            headers.append(f"Content-Encoding: {encoding}")
        for at in range(len(body) + 1):
            loader.store.stored.clear()
            connection = loader.connect()
            replies = loader.send(connection, head(len(body), *headers) + body[:at])
            replies += loader.send(connection, body[at:])
            assert [(each.status, each.json["items"], each.json["lines"]) for each in replies] == [
                (200, 3, 4)
            ]
            assert tuple(loader.store.stored) == self.STORED

    def test_byte_by_byte_in_chunks(self, loader: Loader) -> None:
        connection = loader.connect()
        request = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        assert loader.send(connection, request) == []
        for byte in self.BODY:
            assert loader.send(connection, b"1\r\n%c\r\n" % byte) == []
        [reply] = loader.send(connection, b"0\r\n\r\n")
        assert reply.json["items"] == 3
        assert tuple(loader.store.stored) == self.STORED

    def test_what_is_whole_is_stored_before_the_rest_comes(self, loader: Loader) -> None:
        connection = loader.connect()
        loader.send(connection, head(100), line(1) + line(2) + b'{"ID":3')
        assert loader.store.ids == [1, 2]


class TestInvalidLines:
    @pytest.mark.parametrize(
        ("bad", "field", "message"),
        [
            (b"x", "", "is not JSON"),
            (b'{"ID":1,"tenant":"a"} {"ID":2,"tenant":"a"}', "", "is not JSON"),
            (b'{"ID":1,"tenant":"a"},', "", "is not JSON"),
            (b'[{"ID":1,"tenant":"a"}]', "", "is not an object"),
            (b"1", "", "is not an object"),
            (b'{"ID":"1","tenant":"a"}', "ID", "must be an integer"),
            (b'{"ID":9223372036854775808,"tenant":"a"}', "ID", "must be an integer"),
            (b'{"ID":1}', "tenant", "is missing"),
            (b'{"ID":1,"tenant":"a23456789"}', "tenant", "1 to 8 bytes"),
            (b'{"ID":1,"tenant":"\xff"}', "", "is not UTF-8 (byte 18)"),
            (b'{"ID":1,"tenant":"\\ud800"}', "", "is not JSON"),
            (b"{" + b" " * 110 + b"}", "", "is longer than 100 bytes"),
            (b'{"ID":1,"id":1,"tenant":"a"}', "id", "is given twice, as ID and id"),
        ],
    )
    def test_end_the_load(self, narrow: Loader, bad: bytes, field: str, message: str) -> None:
        for before in range(5):
            narrow.store.stored.clear()
            reply = narrow.load(lines(range(before)) + bad + b"\n" + lines(range(50, 60)))
            assert reply.problem == (422, "invalid_line")
            [error, *_] = reply.json["errors"]
            assert (error["line"], error["field"]) == (before + 1, field)
            assert message in error["message"]
            assert message in reply.json["detail"]
            assert reply.json["items_stored"] == before
            assert reply.json["next_line"] == before + 1
            assert reply.json["outcome"] == ("partial" if before else "not_applied")
            assert ("position" in reply.json) == bool(before)
            assert narrow.store.ids == list(range(before))

    def test_a_value_on_two_lines_is_two_lines(self, loader: Loader) -> None:
        """
        Not even where another line has two values, so that the numbers are right.
        """
        for two in (
            b'{"ID":1,\n"tenant":"a"}\n',
            b'{"ID":1,"tenant":"a","x":[{}\n{}]}\n',
            b'{"x":{}\n,"ID":1}\n',
        ):
            body = two + b'{"ID":2,"tenant":"a"}{"ID":3,"tenant":"a"}\n'
            assert loader.load(body).problem == (422, "invalid_line")
        assert loader.store.stored == []

    def test_too_deep_or_too_large(self, loader: Loader) -> None:
        for bad, message in ((b"[" * 50_000, "nested too deeply"), (b"9" * 5_000, "out of range")):
            reply = loader.load(b'{"tenant":"a","ID":' + bad + b"}")
            assert message in reply.json["errors"][0]["message"]

    def test_all_mistakes_of_a_line_are_named(self, loader: Loader) -> None:
        reply = loader.load(b'{"ID":"x","tenant":5}\n{}\n')
        assert [(each["line"], each["field"]) for each in reply.json["errors"]] == [(1, "ID"), (1, "tenant")]

    def test_the_lines_before_are_awaited(self, narrow: Loader) -> None:
        narrow.store.holds = True
        connection = narrow.connect()
        body = lines(range(5)) + b"x\n"
        assert narrow.send(connection, head(len(body)), body) == []
        assert [list(items.ids) for items in narrow.store.given] == [[0, 1], [2, 3], [4]]
        for _ in range(3):
            assert narrow.send(connection) == []
            narrow.store.release()
        [reply] = narrow.send(connection)
        assert (reply.json["items_stored"], reply.json["next_line"]) == (5, 6)

    def test_are_skipped_if_the_caller_says_so(self, narrow: Loader) -> None:
        body = b"x\n" + line(1) + b"\n" + line(2) + b'{"ID":"3","tenant":""}\n' + b"y" * 200 + b"\n" + line(4)
        reply = narrow.load(body, query="?partial=1")
        assert reply.status == 207
        assert reply.json["status"] == "PARTIAL"
        assert (reply.json["items"], reply.json["lines"], reply.json["invalid"]) == (3, 7, 3)
        found = [(each["line"], each["field"]) for each in reply.json["errors"]]
        assert found == [(1, ""), (5, "ID"), (5, "tenant"), (6, "")]
        assert narrow.store.ids == [1, 2, 4]
        assert narrow.load(body, query="?partial=0").problem == (422, "invalid_line")

    def test_only_the_first_are_listed(self, loader: Loader) -> None:
        reply = loader.load(b"x\n" * 150 + line(1), query="?partial=1")
        assert (reply.json["invalid"], len(reply.json["errors"])) == (150, 100)
        assert reply.json["errors"][-1]["line"] == 100

    def test_nothing_but_invalid_lines(self, loader: Loader) -> None:
        reply = loader.load(b"x\n", query="?partial=1")
        assert (reply.status, reply.json["items"], reply.json["invalid"]) == (207, 0, 1)

    def test_no_line_is_skipped_if_none_is_invalid(self, loader: Loader) -> None:
        reply = loader.load(line(1), query="?partial=1")
        assert (reply.status, reply.json["status"]) == (200, "OK")
        assert "invalid" not in reply.json

    def test_many_of_them_let_others_have_their_turn(self, loader: Loader) -> None:
        connection, other = loader.connect(), loader.connect()
        body = b"x\n" * 2_000
        assert connection.send(head(len(body), query="?partial=1") + body) == []
        for _ in range(8):
            assert len(other.send(GET)) == 1
            turn(loader.server.clock)
            assert connection.send() == []
        loader.turns()
        assert connection.send()[0].json["invalid"] == 2_000


class TestFailures:
    @pytest.mark.parametrize(
        ("refusal", "known", "following", "outcome"),
        [
            (NotApplied("no room; nothing of the request was stored", retry_after=3), 4, 3, "partial"),
            (OutcomeUnknown("late", position="9999", items_stored=1), 5, 3, "unknown"),
            (NotReplicated("one", position="9999", items=2, reached="node"), 6, 7, "partial"),
        ],
    )
    def test_of_a_part_end_the_load(
        self, narrow: Loader, refusal: Refusal, known: int, following: int, outcome: str
    ) -> None:
        narrow.store.refusals[1] = refusal
        narrow.store.holds = True
        connection = narrow.connect()
        narrow.send(connection, head(1_000), lines(range(8)))
        # The second of three fails, and the fourth is not begun. The caller is not waited for.
        for i in (1, 0, 0):
            assert narrow.send(connection) == []
            narrow.store.waiting.pop(i).callback(None)
        [reply] = narrow.send(connection)
        assert reply.problem == (503, "load_stopped")
        assert reply.json["items_stored"] == known
        assert reply.json["next_line"] == following
        assert reply.json["outcome"] == outcome
        assert reply.json["position"] == ("0002" if outcome == "partial" and known == 4 else "9999")
        assert refusal.code in reply.json["detail"]
        assert "nothing of" not in reply.json["detail"]
        assert reply.headers["retry-after"] == ("3" if refusal.retry_after else "1")
        assert reply.json["retryable"]
        assert len(narrow.store.given) == 3

    def test_that_would_come_again_say_so(self, narrow: Loader) -> None:
        narrow.store.refusals[1] = StampTooOld(10**9)
        reply = narrow.load(lines(range(4)))
        assert reply.problem == (503, "load_stopped")
        assert (reply.json["items_stored"], reply.json["retryable"]) == (2, False)
        assert "stamp_too_old" in reply.json["detail"]
        assert "send it again" not in reply.json["detail"]
        assert "retry-after" not in reply.headers

    def test_are_told_before_the_rest_comes(self, narrow: Loader) -> None:
        narrow.store.refusals[1] = NotApplied("no room", retry_after=1)
        narrow.store.holds = True
        connection = narrow.connect()
        assert narrow.send(connection, head(1_000), lines(range(4))) == []
        for _ in range(2):
            assert narrow.send(connection) == []
            narrow.store.release()
        [reply] = narrow.send(connection)
        assert reply.problem == (503, "load_stopped")

    def test_of_the_first_part_are_those_of_a_request(self, narrow: Loader) -> None:
        for refusal in (NotApplied("no room", retry_after=1), InvalidPosition("not ours")):
            narrow.store.refusals[len(narrow.store.given)] = refusal
            reply = narrow.load(line(1))
            assert reply.problem == (refusal.status, refusal.code)
            assert reply.json["outcome"] == "not_applied"

    def test_of_an_invalid_line_after_a_part_that_failed(self, narrow: Loader) -> None:
        narrow.store.refusals[1] = NotApplied("no room", retry_after=1)
        narrow.store.holds = True
        connection = narrow.connect()
        body = lines(range(4)) + b"x\n"
        narrow.send(connection, head(len(body)), body)
        narrow.store.release()
        narrow.store.release()
        [reply] = narrow.send(connection)
        assert reply.problem == (503, "load_stopped")
        assert (reply.json["items_stored"], reply.json["next_line"]) == (2, 3)

    def test_of_ours_are_told(self, loader: Loader, expected_failures: Any) -> None:
        loader.store.refusals[0] = ZeroDivisionError()
        reply = loader.load(line(1))
        assert reply.problem == (500, "internal")
        assert reply.json["outcome"] == "unknown"
        assert len(expected_failures(ZeroDivisionError)) == 1

    def test_of_ours_are_logged_if_the_caller_has_gone(self, narrow: Loader, expected_failures: Any) -> None:
        narrow.store.refusals[1] = ZeroDivisionError()
        narrow.store.holds = True
        connection = narrow.connect()
        narrow.send(connection, head(10_000), lines(range(20)))
        connection.hang_up()
        for _ in range(3):
            narrow.store.release()
        assert len(expected_failures(ZeroDivisionError)) == 1

    def test_each_of_ours_is_told_or_logged(self, narrow: Loader, expected_failures: Any) -> None:
        narrow.store.refusals.update({0: ZeroDivisionError(), 1: OverflowError()})
        narrow.store.holds = True
        connection = narrow.connect()
        narrow.send(connection, head(len(lines(range(4)))), lines(range(4)))
        narrow.store.release()
        narrow.store.release()
        [reply] = narrow.send(connection)
        assert reply.problem == (500, "internal")
        assert len(expected_failures(ZeroDivisionError, OverflowError)) == 2

    def test_lines_that_were_skipped_are_told_too(self, narrow: Loader) -> None:
        narrow.store.refusals[1] = NotApplied("no room", retry_after=1)
        reply = narrow.load(b"x\n" + lines(range(5)), query="?partial=1")
        assert reply.problem == (503, "load_stopped")
        assert (reply.json["invalid"], reply.json["next_line"]) == (1, 3)


class TestBodies:
    def test_that_break_off(self, narrow: Loader) -> None:
        connection = narrow.connect()
        narrow.send(connection, head(1_000), lines(range(3)) + b'{"ID"')
        connection.close_half()
        [reply] = narrow.send(connection)
        assert reply.problem == (400, "load_broken")
        assert (reply.json["items_stored"], reply.json["next_line"]) == (3, 4)
        assert reply.json["outcome"] == "partial"
        assert "ends before it is complete" in reply.json["detail"]

    def test_that_break_off_before_anything_is_stored(self, narrow: Loader) -> None:
        connection = narrow.connect()
        narrow.send(connection, head(1_000), b'{"ID"')
        connection.close_half()
        [reply] = narrow.send(connection)
        assert reply.problem == (400, "bad_request")
        assert reply.json["outcome"] == "not_applied"

    def test_that_stop_arriving(self, narrow: Loader) -> None:
        connection = narrow.connect()
        narrow.send(connection, head(1_000), lines(range(3)))
        narrow.server.clock.advance(75)
        [reply] = narrow.send(connection)
        assert reply.problem == (400, "load_broken")
        assert "no data arrived for 75 seconds" in reply.json["detail"]

    def test_that_arrive_too_slowly(self) -> None:
        loader = Loader(load_s=100)
        connection = loader.connect()
        loader.send(connection, head(1_000), line(0))
        for item in range(1, 4):
            loader.server.clock.advance(33)
            assert loader.send(connection, line(item)) == []
        loader.server.clock.advance(1)
        [reply] = loader.send(connection)
        assert reply.problem == (400, "load_broken")
        assert "longer than 100 seconds" in reply.json["detail"]
        assert reply.json["items_stored"] == 4
        # What still comes is thrown away.
        loader.send(connection, line(5))
        assert loader.store.ids == [0, 1, 2, 3]
        loader.close()

    @pytest.mark.parametrize("pieces", [1, 4])
    def test_that_come_too_late_are_thrown_away(self, pieces: int) -> None:
        # With one piece, the load waits for room when its time is over; else for the rest of the body.
        loader = Loader(load_s=100, load_pieces=pieces)
        loader.store.holds = True
        connection = loader.connect()
        body = lines(range(3))
        loader.send(connection, head(len(body)), line(0))
        loader.server.clock.advance(70)
        loader.send(connection, line(1))
        loader.server.clock.advance(30)
        assert loader.send(connection, line(2)) == []
        assert loader.server.server.shared.body_bytes == 0
        replies: list[Reply] = []
        while not replies:
            loader.store.release()
            replies = loader.send(connection)
        assert replies[0].problem == (400, "load_broken")
        assert loader.store.ids == [0, 1]
        loader.close()

    def test_of_a_daemon_that_stops(self, narrow: Loader) -> None:
        connection = narrow.connect()
        narrow.send(connection, head(1_000), lines(range(3)))
        narrow.server.server.stopFactory()
        [reply] = narrow.send(connection)
        assert reply.problem == (503, "load_stopped")
        assert "the daemon is stopping" in reply.json["detail"]
        assert (reply.json["items_stored"], reply.json["outcome"]) == (3, "partial")

    def test_that_are_longer_than_other_bodies(self) -> None:
        loader = Loader(max_body_bytes=100)
        assert loader.load(lines(range(100))).json["items"] == 100
        loader.close()

    def test_of_those_who_hang_up(self, narrow: Loader) -> None:
        narrow.store.holds = True
        connection = narrow.connect()
        narrow.send(connection, head(10_000), lines(range(20)))
        assert len(narrow.store.given) == 3
        connection.hang_up()
        narrow.turns()
        # What was under way goes on, and nothing else begins.
        for _ in range(3):
            narrow.store.release()
        narrow.turns()
        assert narrow.store.ids == [0, 1, 2, 3, 4, 5]
        assert len(narrow.store.given) == 3

    def test_of_those_who_hang_up_between_two_parts(self, narrow: Loader) -> None:
        connection = narrow.connect()
        connection.send(head(10_000), lines(range(20)))
        connection.hang_up()
        narrow.turns()
        assert narrow.store.ids == [0, 1]


class TestRoom:
    def test_a_load_has_few_pieces_on_their_way(self, narrow: Loader) -> None:
        narrow.store.holds = True
        connection = narrow.connect()
        number = 20_000
        body = lines(range(number))
        connection.send(head(len(body)))
        sent = 0
        while connection.wire.producerState == "producing":
            narrow.send(connection, body[sent : sent + 10_000])
            sent += 10_000
        assert 256 * 1024 <= sent <= 256 * 1024 + 30_000
        assert len(narrow.store.given) == 3
        assert narrow.server.server.shared.body_bytes < 256 * 1024 + 30_000
        narrow.store.holds = False
        for _ in range(3):
            narrow.store.release()
        replies: list[Reply] = []
        while not replies:
            narrow.turns(1_000)
            rest, sent = body[sent : sent + 65_536], sent + 65_536
            replies = connection.send(rest)
        assert replies[0].json["items"] == number
        # Pieces that were released together may be stored in another order.
        assert sorted(narrow.store.ids) == list(range(number))

    def test_all_loads_together_have_not_many(self) -> None:
        loader = Loader(load_piece_lines=2, load_pieces=3, loads_pieces=4)
        loader.store.holds = True
        callers = [loader.connect() for _ in range(4)]
        body = lines(range(6))
        for caller in callers:
            loader.send(caller, head(len(body)), body)
        assert len(loader.store.given) == 4
        # One that waits for room may go.
        callers.pop().hang_up()
        loader.turns()
        replies = []
        for _ in range(9):
            loader.store.release()
            loader.turns()
            replies += [reply for caller in callers for reply in caller.send()]
        assert [each.json["items"] for each in replies] == [6, 6, 6]
        loader.close()

    def test_a_slow_caller_takes_none(self) -> None:
        loader = Loader(loads_pieces=1)
        slow = [loader.connect() for _ in range(5)]
        for caller in slow:
            assert loader.send(caller, head(1_000), line(1) + b'{"ID":') == []
        assert loader.load(line(2)).json["items"] == 1
        loader.close()


class TestEncodings:
    @pytest.mark.parametrize(
        ("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress), ("identity", bytes)]
    )
    def test_are_decoded(self, loader: Loader, encoding: str, compress: Any) -> None:
        body = compress(lines(range(5_000)))
        reply = loader.load(body, f"Content-Encoding: {encoding}")
        assert (reply.status, reply.json["items"]) == (200, 5_000)
        assert loader.store.ids == list(range(5_000))

    def test_others_are_refused(self, loader: Loader) -> None:
        reply = loader.load(b"x", "Content-Encoding: br")
        assert reply.problem == (415, "unsupported_encoding")
        assert reply.json["outcome"] == "not_applied"
        assert reply.headers["accept-encoding"] == "gzip, zstd, identity"

    def test_are_for_loads_only(self, loader: Loader) -> None:
        body = gzip.compress(b"[]")
        request = head(len(body), "Content-Encoding: gzip", kind="Content-Type: application/json")
        [reply] = loader.send(loader.connect(), request + body)
        assert reply.problem == (415, "unsupported_encoding")

    def test_bombs_are_refused(self, loader: Loader) -> None:
        body = gzip.compress(lines([1]) * 100 + bytes(20_000_000))
        reply = loader.load(body, "Content-Encoding: gzip", query="?partial=1")
        assert reply.problem == (400, "load_broken")
        assert "500 times" in reply.json["detail"]
        assert reply.json["items_stored"] == 100

    def test_bombs_without_items_are_refused_as_such(self, loader: Loader) -> None:
        body = gzip.compress(bytes(20_000_000))
        reply = loader.load(body, "Content-Encoding: gzip", query="?partial=1")
        assert reply.problem == (413, "expands_too_much")

    def test_those_that_take_memory_are_counted_and_leave_half_of_it_to_others(self) -> None:
        loader = Loader(max_bodies_bytes=20 * 2**20)
        shared = loader.server.server.shared
        # Each line is large, so that the window is full soon: 9 MB come of it.
        options: Any = {zstd.CompressionParameter.window_log: 23}
        lines = b"".join(line(each, "x" * 256) for each in range(32_000))
        compressor = zstd.ZstdCompressor(options=options)
        compressed = compressor.compress(lines, mode=compressor.FLUSH_BLOCK)
        assert len(lines) > 8 * 2**20
        assert len(compressed) * 500 > len(lines)
        begun = head(10**6, "Content-Encoding: zstd") + compressed
        callers = [loader.connect() for _ in range(2)]
        assert loader.send(callers[0], begun) == []
        assert 8 * 2**20 < shared.body_bytes < 9 * 2**20
        [reply] = loader.send(callers[1], begun)
        assert (reply.status, reply.json["code"]) == (503, "load_stopped")
        assert "request bodies in memory would exceed" in reply.json["detail"]
        assert reply.json["outcome"] == "partial"
        assert 0 < reply.json["items_stored"] < 32_000
        callers[0].hang_up()
        assert shared.body_bytes == 0
        assert loader.load(zstd.compress(line(1)), "Content-Encoding: zstd").status == 200
        loader.close()

    def test_those_that_do_nothing_take_little(self) -> None:
        loader = Loader(max_bodies_bytes=64 * 2**20)
        compressor = zstd.ZstdCompressor()
        begun = head(1_000, "Content-Encoding: zstd") + compressor.compress(
            line(1), mode=compressor.FLUSH_BLOCK
        )
        callers = [loader.connect() for _ in range(64)]
        assert [loader.send(caller, begun) for caller in callers] == [[]] * 64
        assert loader.server.server.shared.body_bytes < 17 * 2**20
        assert loader.load(zstd.compress(line(1)), "Content-Encoding: zstd").status == 200
        loader.close()

    def test_what_is_not_encoded_so_is_refused(self, loader: Loader) -> None:
        reply = loader.load(line(1), "Content-Encoding: zstd")
        assert reply.problem == (400, "malformed")
        assert reply.json["outcome"] == "not_applied"


@pytest.mark.parametrize("other", [{"method": "PUT"}, {"path": "/other"}, {"scope": "operator"}])
def test_what_a_request_may_do_does_not_depend_on_its_type(other: dict[str, Any]) -> None:
    [route] = [each for each in ROUTES if each.by_type]
    [load] = route.by_type.values()
    with pytest.raises(ValueError, match="must not depend on the type"):
        replace(route, by_type={b"x": replace(load, **other)})


def test_the_document_has_both_ways_to_store(loader: Loader) -> None:
    [reply] = loader.connect().send(GET.replace(b"/items/a/count", b"/openapi.json"))
    document = json.loads(reply.text)
    operation = document["paths"]["/items"]["post"]
    assert operation["requestBody"]["content"].keys() == {"application/json", "application/x-ndjson"}
    names = [each["name"] for each in operation["parameters"] if "name" in each]
    assert names == ["ack", "after", "lastUpdateDt", "receipt", "partial"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert [each["$ref"].rpartition("/")[2] for each in schema["anyOf"]] == ["Stored", "Loaded"]
    assert "207" in operation["responses"]
    name = operation["responses"]["422"]["$ref"].rpartition("/")[2]
    assert "`invalid_line`" in document["components"]["responses"][name]["description"]
