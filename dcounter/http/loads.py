"""
Stores a load: lines that arrive, piece by piece, with a bounded number of pieces on their way.

Pieces are parsed and stamped in the order of the lines. The next one is read from the connection only when
there is room for it, so a load takes the same memory however long it is.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, cast, get_args

from msgspec import UNSET, Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.errors import ItemError, NotReplicated, OutcomeUnknown, Refusal
from dcounter.http.answer_bodies import LineError, Loaded
from dcounter.http.call import Api
from dcounter.http.decoding import Decoder
from dcounter.http.dumps import Dump
from dcounter.http.items import MAX_ERRORS, LineReader, parse_lines
from dcounter.http.lines import LineCutter, Piece
from dcounter.http.load_problems import ExportCutShort, InvalidLine, LoadBroken, LoadStopped, SoFar
from dcounter.http.problems import Answer, ok
from dcounter.http.streams import Body
from dcounter.store import Ack, Items, Receipt

_log = Logger()

CONTENT_TYPE: Final = b"application/x-ndjson"
_LONG_ITEMS: Final = 8
"""
A piece holds at least as many of the longest tenants, so that one fits a line in its longest form in JSON.
"""

_LINES_PER_TURN: Final = 200
"""
Lines that are read one by one before others have their turn: an invalid one takes some 10 us.
"""

_SERVERS_FAULT: Final = 500
"""
The least HTTP status of what is not the caller's fault.
"""

_ACKS: Final = get_args(Ack)


def media_type(headers: Mapping[bytes, Sequence[bytes]]) -> bytes:
    """
    The type of a request's body, without parameters; empty if no header tells.
    """
    if b"content-type" not in headers:
        return b""
    return headers[b"content-type"][0].partition(b";")[0].strip().lower()


class _Part(Struct, eq=False):
    """
    Lines on their way, or done with.

    :ivar end: the number of the line after the last one.
    :ivar items: how many items they hold.
    """

    end: int
    items: int
    done: bool = False


class _Tally:
    """
    What is known of a load so far.

    :ivar items: how many items are stored for certain.
    :ivar next_line: the number of the first line that is not stored for certain.
    :ivar position: a token for what is stored.
    :ivar ack: the weakest of the acknowledgements.
    :ivar invalid: how many lines were invalid.
    :ivar errors: what is wrong with the first of them.
    :ivar doubtful: whether more items may be stored than is known.
    """

    def __init__(self) -> None:
        self._parts: deque[_Part] = deque()
        self.items = 0
        self.next_line = 1
        self.position: str | None = None
        self.ack: Ack | None = None
        self.warning: str | None = None
        self.invalid = 0
        self.errors: list[LineError] = []
        self.doubtful = False

    def begin(self, end: int, items: int) -> _Part:
        """
        Take note of lines that are about to be stored.
        """
        part = _Part(end, items)
        self._parts.append(part)
        return part

    def done(self, part: _Part) -> None:
        """
        Take note of lines of which nothing is left to do.
        """
        part.done = True
        while self._parts and self._parts[0].done:
            self.next_line = self._parts.popleft().end

    def add_errors(self, line: int, errors: Sequence[ItemError]) -> None:
        """
        Take note of an invalid line.
        """
        self.invalid += 1
        if self.invalid <= MAX_ERRORS:
            self.errors.extend(LineError(line, each.field, each.message) for each in errors)

    def so_far(self) -> SoFar:
        return SoFar(self.items, self.next_line, self.position, self.invalid, self.errors)


class _Invalid(Exception):
    """
    A line is invalid, and the load ends before it.
    """


class Load:
    """
    One load.

    :param stamp: the stamp of items that have none.
    :param partial: whether invalid lines are skipped.
    """

    def __init__(self, api: Api, *, ack: Ack, after: str | None, stamp: int | None, partial: bool) -> None:
        self._api = api
        self._ack = ack
        self._after = after
        self._stamp = stamp
        self._partial = partial
        limits = api.limits
        self._room = DeferredSemaphore(limits.load_pieces)
        self._longest_line = max(limits.load_piece_bytes, _LONG_ITEMS * limits.max_tenant_bytes)
        self._cutter = LineCutter(self._longest_line, limits.load_piece_lines)
        self._tally = _Tally()
        self._dump = Dump()
        self._items_read = 0
        # Why the load stops: the first part that the store refused, or a bug.
        self._refusal: Refusal | None = None
        self._bug: Failure | None = None
        self._body: Body | None = None
        self._over = False

    @property
    def _stopped(self) -> bool:
        return self._refusal is not None or self._bug is not None

    async def run(self, body: Body, decoder: Decoder) -> Answer:
        """
        Store all lines.

        :raises Refusal: the load ended before its last line.
        """
        self._body = body
        try:
            return await self._run(body, decoder)
        finally:
            self._over = True

    async def _run(self, body: Body, decoder: Decoder) -> Answer:
        broken: Refusal | None = None
        invalid = False
        try:
            await self._read(body, decoder)
        except _Invalid:
            invalid = True
        except Refusal as refusal:
            broken = refusal
        # When there is room for all pieces, none is on its way.
        for _ in range(self._api.limits.load_pieces):
            await self._room.acquire()
        if self._bug is not None:
            self._bug.raiseException()
        if self._refusal is not None:
            raise self._stop(self._refusal)
        if broken is not None:
            raise self._break_off(broken)
        if invalid:
            raise InvalidLine(self._tally.so_far())
        fault = self._dump.fault(self._items_read + self._tally.invalid)
        if fault:
            raise ExportCutShort(fault, self._tally.so_far())
        return await self._answer()

    async def _read(self, body: Body, decoder: Decoder) -> None:
        """
        Read the body to its end, or until there is a reason to stop.
        """
        held = 0
        async for arrived in body:
            for plain in decoder.feed(arrived):
                if decoder.memory > held:
                    body.hold(decoder.memory - held)
                    held = decoder.memory
                for piece in self._cutter.feed(plain):
                    await self._take(piece)
                    if self._stopped:
                        return
                await body.next_turn()
                if self._stopped:
                    return
        decoder.end()
        for piece in self._cutter.end():
            await self._take(piece)

    async def _take(self, piece: Piece) -> None:
        """
        Have a piece stored as soon as there is room for it.

        :raises _Invalid: a line of it is invalid, and the load ends there.
        """
        assert self._body is not None
        await self._room.acquire()
        began = False
        try:
            await self._api.room_for_pieces.acquire()
            try:
                if not self._stopped:
                    items, end, invalid = await self._parse(piece)
                    self._items_read += len(items)
                    part = self._tally.begin(end, len(items))
                    if len(items):
                        began = True
                        self._store(items, part)
                    else:
                        self._tally.done(part)
                    if invalid:
                        raise _Invalid
            finally:
                if not began:
                    self._api.room_for_pieces.release()
        finally:
            if not began:
                self._room.release()
        await self._body.next_turn()

    async def _parse(self, piece: Piece) -> tuple[Items, int, bool]:
        """
        Read the items of a piece.

        :returns: the items; the number of the line after them; whether the load ends there, because that
            line is invalid.
        """
        latest, most = self._api.store.latest_stamp, self._api.limits.max_tenant_bytes
        end = piece.first + piece.lines
        if not piece.data:
            mistake = ItemError(piece.first, "", f"is longer than {self._longest_line} bytes")
            self._tally.add_errors(piece.first, [mistake])
            return Items([], []), end if self._partial else piece.first, not self._partial
        unknown = self._dump.unknown_form(piece)
        if unknown:
            # What its other lines mean is not known either.
            self._tally.add_errors(piece.first, [ItemError(piece.first, "", unknown)])
            return Items([], []), piece.first, True
        piece = self._dump.items_of(piece)
        if not piece.lines:
            return Items([], []), end, False
        items = parse_lines(piece.data, piece.lines, latest=latest, max_tenant_bytes=most)
        if items is not None:
            return items, end, False
        assert self._body is not None
        reader = LineReader(latest=latest, max_tenant_bytes=most)
        lines = piece.data.removesuffix(b"\n").split(b"\n")
        for i, line in enumerate(lines):
            if i % _LINES_PER_TURN == _LINES_PER_TURN - 1:
                await self._body.next_turn()
            errors = reader.read(line, piece.first + i)
            if errors:
                self._tally.add_errors(piece.first + i, errors)
                if not self._partial:
                    return reader.items(), piece.first + i, True
        return reader.items(), end, False

    def _store(self, items: Items, part: _Part) -> None:
        after = self._after
        if after is not None and self._tally.position is not None:
            # It covers that of the caller, which is worth nothing after two steps of a change of the secret.
            after = self._tally.position
        stored = Deferred.fromCoroutine(
            self._api.store.store(items.stamped(self._stamp), ack=self._ack, after=after)
        )
        stored.addBoth(self._settled, part)

    def _settled(self, result: Receipt | Failure, part: _Part) -> None:
        """
        A part is stored, or was refused. The caller may have gone.
        """
        tally = self._tally
        if isinstance(result, Receipt):
            self._api.figures.stored(result.items)
            tally.items += result.items
            tally.warning = tally.warning or result.warning
            tally.ack = min(tally.ack or result.ack, result.ack, key=_ACKS.index)
            self._reach(result.position)
            tally.done(part)
        elif isinstance(result.value, Refusal):
            self._refused(result.value, part)
        elif self._bug is None and not self._over:
            self._bug = result
        else:
            # Nobody is left whose answer would tell of it.
            _log.failure("a part of a load could not be stored", result)
        self._api.room_for_pieces.release()
        self._room.release()
        if self._stopped and self._body is not None:
            self._body.abandon()

    def _refused(self, refusal: Refusal, part: _Part) -> None:
        tally = self._tally
        if isinstance(refusal, OutcomeUnknown):
            tally.items += refusal.items_stored
            tally.doubtful = True
            self._reach(refusal.position)
        elif isinstance(refusal, NotReplicated):
            tally.items += refusal.items
            self._reach(refusal.position)
            tally.done(part)
        elif refusal.outcome != "not_applied":
            tally.doubtful = tally.doubtful or refusal.outcome == "unknown"
        self._refusal = self._refusal or refusal

    def _reach(self, position: str) -> None:
        known = self._tally.position
        self._tally.position = position if known is None else self._api.store.join(known, position)

    def _stop(self, cause: Refusal) -> Refusal:
        """
        The refusal for a load of which a part was refused.
        """
        tally = self._tally
        if not tally.items and not tally.doubtful:
            return cause
        return LoadStopped(cause, tally.so_far(), "unknown" if tally.doubtful else "partial")

    def _break_off(self, cause: Refusal) -> Refusal:
        """
        The refusal for a load whose body could not be read to its end.
        """
        tally = self._tally
        if cause.status >= _SERVERS_FAULT:
            return self._stop(cause)
        return LoadBroken(cause, tally.so_far()) if tally.items else cause

    async def _answer(self) -> Answer:
        tally = self._tally
        if tally.position is None:
            # Nothing was stored, and the caller still wants a position.
            nothing = await self._api.store.store(Items([], []), ack=self._ack, after=self._after)
            tally.position, tally.ack = nothing.position, nothing.ack
        loaded = Loaded(
            status="PARTIAL" if tally.invalid else "OK",
            items=tally.items,
            lines=self._cutter.next_line - 1,
            ack=cast("Ack", tally.ack),
            position=tally.position,
            warning=UNSET if tally.warning is None else tally.warning,
            invalid=tally.invalid or UNSET,
            errors=tally.errors or UNSET,
        )
        return replace(ok(loaded), status=207 if tally.invalid else 200)
