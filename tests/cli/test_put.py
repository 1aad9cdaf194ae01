"""
Files are stored as they say, whatever happens on the way.
"""

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.formats import Entry, Measured
from dcounter.cli.persisting import GaveUp
from dcounter.cli.pieces import pieces
from dcounter.cli.put import put
from dcounter.cli.sending import Line, Mistake, Piece, Sending
from dcounter.cli.stamping import NoJson, Stamps
from dcounter.client import Answer, Refused, Unexpected, Unreachable
from dcounter.compaction_errors import StampTooOld
from dcounter.errors import ItemError, NotApplied
from dcounter.http.answer_bodies import Stored
from dcounter.stamps import parse_stamp, show_stamp
from dcounter.testing.http import MemoryClient
from tests.support.commands import NOW, Terminal

BASE = parse_stamp("2026-01-01T00:00:00Z")


def shown(number: int) -> str:
    return show_stamp(BASE + number)


class TestStamps:
    @pytest.mark.parametrize(
        ("text", "stamped"),
        [
            ('{"ID":1,"tenant":"a"}', {"ID": 1, "tenant": "a", "lastUpdateDt": shown(7)}),
            ('{"id":1,"deleted":true }', {"id": 1, "deleted": True, "lastUpdateDt": shown(7)}),
            ('{"ID":1,"more":{"x":[1]}}', {"ID": 1, "more": {"x": [1]}, "lastUpdateDt": shown(7)}),
            ('{"ID":1,"LASTUPDATEDT":null}', {"ID": 1, "lastUpdateDt": shown(7)}),
            ('{"ID":1,"lastUpdateDt":"0001-01-01T00:00:00Z"}', {"ID": 1, "lastUpdateDt": shown(7)}),
            ('{"ID":1,"lastUpdateDt":"2020-01-01T00:00:00Z"}', None),
            ('{"ID":1,"last\\u0055pdateDt":"2020-01-01T00:00:00Z"}', None),
            ('{"ID":1,"lastupdatedt":7}', None),
            # What is no item is for the daemon to refuse.
            ("{}", None),
            ("[1]", None),
            ('"x"', None),
        ],
    )
    def test_items_get_one_unless_they_have_one(self, text: str, stamped: Any) -> None:
        found = Stamps(BASE).stamped(7, text.encode())
        assert json.loads(found) == (json.loads(text) if stamped is None else stamped)

    @pytest.mark.parametrize("text", ["x", '{"ID":1', "{,}", '{"a":"\xff"}', "[" * 100_000])
    def test_what_is_no_json_is_told(self, text: str) -> None:
        with pytest.raises(NoJson):
            Stamps(BASE).stamped(1, text.encode("latin-1"))

    @given(st.lists(st.integers(1, 2**40), unique=True))
    def test_later_lines_are_newer(self, numbers: list[int]) -> None:
        stamps = Stamps(BASE)
        for number in numbers:
            text = json.loads(stamps.stamped(number, b'{"ID":1}'))["lastUpdateDt"]
            assert parse_stamp(text) == BASE + number


class _Waiting(Measured):
    def __init__(self, waiting: bool) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.waiting = waiting

    def waits(self) -> bool:
        return self.waiting


def cut(entries: Sequence[Entry | None], *, waiting: bool = False) -> list[Piece]:
    return list(pieces(entries, Stamps(BASE), _Waiting(waiting)))


class TestPieces:
    def test_are_not_too_large(self) -> None:
        many = [Entry(number, b'{"ID":%d}' % number) for number in range(1, 4_500)]
        assert [len(each.lines) for each in cut(many)] == [2_000, 2_000, 499]
        long = [Entry(number, b'{"ID":1,"x":"%s"}' % (b"x" * 100_000)) for number in range(1, 8)]
        assert [len(each.lines) for each in cut(long)] == [3, 3, 1]

    def test_what_has_arrived_does_not_wait_for_more(self) -> None:
        some = [Entry(1, b'{"ID":1}'), None, Entry(2, b"x"), None, None]
        assert [(len(each.lines), len(each.mistakes)) for each in cut(some)] == [(1, 1)]
        waiting = cut(some, waiting=True)
        assert [(len(each.lines), len(each.mistakes)) for each in waiting] == [(1, 0), (0, 1)]

    def test_what_was_read_before_the_input_broke_is_sent(self) -> None:
        def broken() -> Any:
            yield Entry(1, b'{"ID":1}')
            raise Failed("broken")

        cutting = pieces(broken(), Stamps(BASE), _Waiting(False))
        assert len(next(cutting).lines) == 1
        with pytest.raises(Failed, match="broken"):
            next(cutting)

    def test_exports_must_be_whole(self) -> None:
        head, end = Entry(1, b'{"export":1,"position":"x"}'), Entry(3, b'{"end":true,"rows":1}')
        [piece] = cut([head, Entry(2, b'{"ID":1}'), end])
        assert [line.number for line in piece.lines] == [2]
        with pytest.raises(Failed, match="cut short"):
            cut([head, Entry(2, b'{"ID":1}')])


class _Watcher:
    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.waited: list[str] = []
        self.read_bytes: list[int] = []

    def done(self, piece: Piece, sending: Sending) -> None:
        self.read_bytes.append(piece.read_bytes)

    def refused(self, mistake: Mistake) -> None:
        self.mistakes.append(mistake)

    def waits(self, why: str, sending: Sending) -> None:
        self.waited.append(why)


UNAVAILABLE = {"title": "Unavailable", "detail": "busy", "code": "unavailable", "retryable": True}


class World:
    """
    A daemon that answers as it is told, and what sends to it.
    """

    def __init__(self, *all_lines: Sequence[str], patience_s: float = 60) -> None:
        self.clock = Clock()
        self.watcher = _Watcher()
        self.answers: list[Any] = []
        self.bodies: list[bytes] = []
        self.waiting: list[Deferred[Stored]] = []
        self.hold = False
        self.broken: Failed | None = None
        self._pieces = [
            Piece([Line(n, t.encode(), t.encode()) for n, t in enumerate(texts, 1)], [], 10 * place)
            for place, texts in enumerate(all_lines, 1)
        ]
        self.sending = Sending(
            self._take, self._post, self.watcher, clock=self.clock, jitter=lambda: 1.0, patience_s=patience_s
        )

    async def _take(self) -> Piece | None:
        if not self._pieces and self.broken:
            raise self.broken
        return self._pieces.pop(0) if self._pieces else None

    async def _post(self, body: bytes) -> Stored:
        self.bodies.append(body)
        if self.hold:
            self.waiting.append(Deferred())
            return await self.waiting[-1]
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(body)  # type: ignore[no-any-return]
        return Stored("OK", body.count(b"{"), "node", "p")

    def run(self, at_once: int = 1) -> Deferred[None]:
        return Deferred.fromCoroutine(self.sending.run(at_once))


def outcome(running: Deferred[None]) -> Any:
    found: list[Any] = []
    running.addBoth(found.append)
    assert found
    return getattr(found[0], "value", found[0])


def judged(body: bytes) -> Stored:
    """
    What a daemon says that refuses items with an "x", and names only the first of them.
    """
    items = body[1:-1].split(b",")
    bad = [index for index, each in enumerate(items) if b"x" in each]
    errors = [ItemError(index, "ID", "is bad") for index in bad[:1]]
    if not bad:
        return Stored("OK", len(items), "node", "p")
    return Stored("PARTIAL", len(items) - len(bad), "node", "p", invalid=len(bad), errors=errors)


class TestSending:
    def test_pieces_are_sent_at_once_but_not_too_many(self) -> None:
        world = World(["{1}"], ["{2}"], ["{3}"])
        world.hold = True
        running = world.run(2)
        assert world.bodies == [b"[{1}]", b"[{2}]"]
        world.waiting[1].callback(Stored("OK", 1, "node", "p"))
        assert world.bodies[2:] == [b"[{3}]"]
        for each in (0, 2):
            world.waiting[each].callback(Stored("OK", 1, "node", "p"))
        assert outcome(running) is None
        assert world.sending.sent.stored == 3
        assert sorted(world.watcher.read_bytes) == [10, 20, 30]

    @pytest.mark.parametrize(
        ("error", "after"),
        [
            (Refused(503, UNAVAILABLE), 0.1),
            (Refused(503, UNAVAILABLE, retry_after=7), 7),
            (Refused(429, {**UNAVAILABLE, "code": "too_many_requests"}, retry_after=2), 2),
            (Unreachable(ConnectionRefusedError(), sent=False), 0.1),
            (Unreachable(TimeoutError(), sent=True), 0.1),
            (Unexpected(502, b"Bad Gateway"), 0.1),
        ],
    )
    def test_what_passes_is_tried_again_when_it_is_time(self, error: Exception, after: float) -> None:
        world = World(["{1}", "{2}"])
        world.answers = [error]
        running = world.run()
        world.clock.advance(after - 0.01)
        assert len(world.bodies) == 1
        world.clock.advance(0.02)
        assert world.bodies == [b"[{1},{2}]"] * 2
        assert outcome(running) is None
        assert (world.sending.sent.stored, world.sending.sent.repeated) == (2, 1)
        assert len(world.watcher.waited) == 1

    def test_each_wait_is_longer_up_to_a_bound(self) -> None:
        world = World(["{1}"], patience_s=1_000)
        world.answers = [Refused(503, UNAVAILABLE)] * 10
        running = world.run()
        gaps = []
        for _ in range(10):
            [call] = world.clock.getDelayedCalls()
            gaps.append(call.getTime() - world.clock.seconds())
            world.clock.advance(gaps[-1])
        assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5])
        assert outcome(running) is None

    def test_patience_has_an_end(self) -> None:
        world = World(["{1}"], patience_s=3)
        world.answers = [Refused(503, UNAVAILABLE)] * 100
        running = world.run()
        for _ in range(100):
            world.clock.advance(0.1)
        error = outcome(running)
        assert isinstance(error, GaveUp)
        assert str(error) == "Unavailable: busy"
        assert world.clock.getDelayedCalls() == []

    @pytest.mark.parametrize(
        "error",
        [
            Refused(403, {"title": "Not permitted", "detail": "no", "code": "forbidden"}),
            Refused(500, {"title": "Bug", "detail": "no", "code": "internal", "outcome": "unknown"}),
            Unexpected(200, b"<html>"),
        ],
    )
    def test_what_does_not_pass_ends_it(self, error: Exception) -> None:
        world = World(["{1}"], ["{2}"])
        world.answers = [error]
        assert outcome(world.run(2)) is error
        assert world.clock.getDelayedCalls() == []

    def test_every_refused_line_is_found_although_answers_name_only_the_first(self) -> None:
        texts = [f"{{{'x' if number % 3 == 0 else 'o'}}}" for number in range(1, 12)]
        world = World(texts)
        world.answers = [judged] * 100
        assert outcome(world.run()) is None
        assert [each.line.number for each in world.watcher.mistakes] == [3, 6, 9]
        assert {each.why for each in world.watcher.mistakes} == {"ID: is bad"}
        assert (world.sending.sent.stored, world.sending.sent.refused) == (8, 3)

    def test_a_piece_that_is_refused_as_a_whole_is_sent_in_parts(self) -> None:
        def refuses(body: bytes) -> Stored:
            if b"x" in body:
                raise Refused(409, {"title": "Too old", "detail": "too old", "code": "stamp_too_old"})
            return Stored("OK", body.count(b"{"), "node", "p")

        world = World(["{1}", "{x}", "{2}", "{3}"])
        world.answers = [refuses] * 100
        assert outcome(world.run()) is None
        assert [(each.line.number, each.why) for each in world.watcher.mistakes] == [(2, "too old")]
        assert world.sending.sent.stored == 3

    def test_what_came_before_the_input_broke_is_still_sent(self) -> None:
        world = World(["{1}"])
        world.hold = True
        world.broken = Failed("broken")
        running = world.run(3)
        [waiting] = world.waiting
        waiting.callback(Stored("OK", 1, "node", "p"))
        assert outcome(running) is world.broken
        assert world.sending.sent.stored == 1

    def test_what_the_daemon_wants_to_be_known_is_kept(self) -> None:
        world = World(["{1}"])
        world.answers = [lambda body: Stored("OK", 1, "node", "p", warning="clocks are wrong")]
        assert outcome(world.run()) is None
        assert world.sending.sent.warning == "clocks are wrong"

    def test_cancelling_cancels_what_is_under_way(self) -> None:
        world = World(["{1}"], ["{2}"])
        world.hold = True
        running = world.run(2)
        running.cancel()
        assert outcome(running) is not None
        assert all(each.called for each in world.waiting)


def write(path: Path, items: Sequence[Any]) -> str:
    path.write_bytes(gzip.compress(b"".join(json.dumps(each).encode() + b"\n" for each in items)))
    return str(path)


class Dated(MemoryClient):
    """
    A client of a daemon with a clock.

    :ivar date: what it shows.
    """

    date = ""

    async def ask(self, method: str, path: str, **how: Any) -> Answer:
        answer = await super().ask(method, path, **how)
        return Answer(answer.status, answer.body, None, self.date)


class TestCommand:
    @pytest_twisted.ensureDeferred
    async def test_of_two_lines_with_an_id_the_later_one_wins(
        self, terminal: Terminal, tmp_path: Path
    ) -> None:
        decide = random.Random(7)
        items = [{"ID": decide.randrange(900), "tenant": f"t{decide.randrange(9)}"} for _ in range(9_000)]
        path = write(tmp_path / "items", items)
        expected = {each["ID"]: each["tenant"] for each in items}
        stamp = show_stamp(NOW)
        text = await terminal.type(put, path, "--stamp", stamp, "--parallel", "7")
        assert text.startswith("stored 9,000 items in ")
        assert terminal.exit is None
        assert terminal.store.tenants == expected
        # Others have moved one since: to repeat the run changes nothing.
        await terminal.client.store([{"ID": 1, "tenant": "other"}])
        [again] = await terminal.type_json(put, path, "--stamp", stamp)
        assert terminal.store.tenants == {**expected, 1: "other"}
        assert {**again, "seconds": 0} == {
            "finished": True,
            "items": 9_000,
            "refused": 0,
            "repeated": 0,
            "seconds": 0,
            "stamp": stamp,
        }

    @pytest_twisted.ensureDeferred
    async def test_refused_lines_are_told_and_kept(self, terminal: Terminal, tmp_path: Path) -> None:
        refused = tmp_path / "refused"
        path = write(tmp_path / "items", [{"ID": 1, "tenant": "a"}, {"ID": "2"}, 3])
        text = await terminal.type(put, path, "--refused", str(refused))
        assert text.startswith("stored 1 item in ")
        assert text.endswith("; refused 2 others\n")
        assert terminal.exit == Exit.NO
        assert "line 2: ID: must be an integer" in terminal.remarks
        first, second = map(json.loads, refused.read_text().splitlines())
        assert (first["line"], json.loads(first["source"])) == (2, {"ID": "2"})
        assert (second["line"], second["why"], second["source"]) == (3, "is not an object", "3")

    @pytest_twisted.ensureDeferred
    async def test_what_stops_it_is_told_with_how_to_go_on(self, terminal: Terminal, tmp_path: Path) -> None:
        path = write(tmp_path / "my items", [{"ID": 1, "tenant": "a"}])
        terminal.store.refusal = NotApplied("no node is connected", retry_after=1)
        with pytest.raises(
            Failed, match="gave up after 0 s without progress: Temporarily unavailable: no node"
        ) as failed:
            await terminal.type(put, path, "--patience", "0")
        assert failed.value.exit == Exit.UNAVAILABLE
        assert f"dcounter put '{path}' --stamp 20" in terminal.remarks

    @pytest.mark.parametrize(
        ("date", "stamp"),
        [
            # One second is what the header may hide.
            ("Tue, 14 Nov 2023 23:00:00 GMT", "2023-11-14T23:00:01.000000000Z"),
            ("Tue, 14 Nov 2023 22:13:20 GMT", show_stamp(NOW)),
            ("Tue, 14 Nov 2023 20:00:00 GMT", show_stamp(NOW)),
            ("some day", show_stamp(NOW)),
            ("", show_stamp(NOW)),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_a_clock_that_is_slow_is_not_used(
        self, terminal: Terminal, tmp_path: Path, date: str, stamp: str
    ) -> None:
        terminal.client = Dated(terminal.store)
        terminal.client.date = date
        [put_] = await terminal.type_json(put, write(tmp_path / "items", [{"ID": 1, "tenant": "a"}]))
        assert put_["stamp"] == stamp

    @pytest_twisted.ensureDeferred
    async def test_a_stamp_that_is_too_old_ends_the_run_at_once(
        self, terminal: Terminal, tmp_path: Path
    ) -> None:
        path = write(tmp_path / "items", [{"ID": each, "tenant": "a"} for each in range(100)])
        terminal.store.refusal = StampTooOld(NOW)
        with pytest.raises(Failed, match="the stamp of this run is too old") as failed:
            await terminal.type(put, path, "--stamp", show_stamp(NOW))
        assert failed.value.exit == Exit.REFUSED
        # It is that of each line.
        await terminal.type(put, path, "--stamp", show_stamp(NOW + 1))
        assert "refused 100 others" in terminal.output

    @pytest_twisted.ensureDeferred
    async def test_columns_are_named(self, terminal: Terminal, tmp_path: Path) -> None:
        path = tmp_path / "items.csv"
        path.write_text("customer,owner\n1,a\n2,b\n")
        await terminal.type(put, str(path), "--column", "ID=customer", "--column", "tenant=owner")
        assert terminal.store.tenants == {1: "a", 2: "b"}

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["{path}", "--column", "id=x"], "is not like ID=NAME"),
            (["/"], "is a directory"),
            (["{path}", "--refused", "/none/x"], "/none/x cannot be written"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_files_that_cannot_be_used(
        self, terminal: Terminal, tmp_path: Path, arguments: list[str], why: str
    ) -> None:
        import click

        path = write(tmp_path / "items", [{"ID": 1, "tenant": "a"}])
        with pytest.raises(click.ClickException, match=why):
            await terminal.type(put, *(each.format(path=path) for each in arguments))
        assert terminal.store.tenants == {}
