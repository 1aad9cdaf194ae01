"""
What is fuzzed: functions that take any bytes, and raise nothing unless there is a defect.

atheris drives them for hours (`make fuzz`), hypothesis for seconds (`test_fuzz.py`).
"""

import base64
import contextlib
import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import msgpack

from dcounter import zstd
from dcounter.errors import CorruptJournal, MalformedMessage
from dcounter.journal.framing import JournalEntry, format_of, frame, scan, unframe, unframe_begin
from dcounter.ledger.ledger import Ledger
from dcounter.protocol import codec, copies, messages
from dcounter.protocol.batch import Batch, decode_batch, encode_batch
from dcounter.protocol.secrets import Secrets
from dcounter.protocol.token import CursorSeal, TokenSeal
from dcounter.testing.http import MemoryStore
from tests.fuzz.answers import Answered, Defect, read_answers
from tests.support.servers import CalledServer, Connection, turn

Target = Callable[[bytes], None]

_NOW: Final = 1_764_417_600_000_000_000
_MOST_TURNS: Final = 100_000
"""
A request that needs more turns of the reactor does not end.
"""
_MOST_ITEMS: Final = 2_000
_MOST_KEPT_BYTES: Final = 2_000_000
_LIMITS: Final[dict[str, Any]] = {
    # Small, so that small inputs go beyond them.
    "max_body_bytes": 16_384,
    "max_items": 200,
    "max_receipt_items": 20,
    "max_decoded_bytes": 4_000_000,
    "max_window_bytes": 1_048_576,
    "load_piece_bytes": 4_096,
    "load_piece_lines": 20,
}


class _Daemon:
    """
    A daemon's HTTP side in memory, with a store that keeps what it is told.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._store = MemoryStore(lambda: _NOW)
        self._world = CalledServer(store=self._store, origins=["https://app.example"], **_LIMITS)

    def exchange(self, pieces: Iterable[bytes]) -> list[Answered]:
        """
        The answers to what one caller sends.
        """
        server, shared = self._world.server, self._world.server.shared
        connection = Connection(server)
        for piece in pieces:
            connection.protocol.dataReceived(piece)
            if shared.body_bytes > _MOST_KEPT_BYTES:
                raise Defect(f"{shared.body_bytes} bytes are held")
            self._run()
        sent = connection.wire.value()
        connection.hang_up()
        self._run()
        left = (shared.connections, shared.body_bytes, self._world.clock.getDelayedCalls())
        if any(left):
            raise Defect(f"a caller that is gone leaves behind: {left}")
        if len(self._store.tenants) > _MOST_ITEMS:
            self._begin()
        return [*read_answers(sent)]

    def _run(self) -> None:
        """
        Let pass what is due at once.
        """
        clock = self._world.clock
        for _ in range(_MOST_TURNS):
            if not any(each.getTime() <= clock.seconds() for each in clock.calls):
                return
            turn(clock)
        raise Defect("a request does not end")


_daemons: list[_Daemon] = []


def _exchange(pieces: Iterable[bytes]) -> list[Answered]:
    if not _daemons:
        _daemons.append(_Daemon())
    return _daemons[0].exchange(pieces)


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    """
    Data in parts.

    :param size: of each; 0: it comes whole.
    """
    step = size or len(data) or 1
    for start in range(0, len(data), step):
        yield data[start : start + step]


def _choose(data: bytes, choices: Sequence[Any]) -> tuple[Any, bytes]:
    """
    What the first byte chooses, and the rest.
    """
    return choices[(data[0] if data else 0) % len(choices)], data[1:]


def http(data: bytes) -> None:
    """
    All bytes of a connection; the first one says in parts of which size they arrive.
    """
    for _ in _exchange(_cut(data[1:], data[0] if data else 0)):
        pass


METHODS: Final = (b"GET", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"PUT")


def target(data: bytes) -> None:
    """
    The path and the query of a request.
    """
    method, path = _choose(data, METHODS)
    head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % (method, path)
    body = b'[{"ID":1,"tenant":"a"}]' if method == b"POST" else b""
    _exchange([head + b"Content-Length: %d\r\n\r\n" % len(body) + body])


_BODIES: Final = (
    b"/items",
    b"/items?partial=1",
    b"/items?receipt=1",
    b"/items?lastUpdateDt=2025-11-29T12:00:00Z",
    b"/items?receipt=1&partial=1",
    b"/items/delete",
    b"/items/lookup",
    b"/counts",
    b"/cluster/restart",
)


def body(data: bytes) -> None:
    """
    The body of a request that has one in JSON; the first byte chooses the path.
    """
    path, content = _choose(data, _BODIES)
    head = (
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n"
        b"Content-Length: %d\r\n\r\n" % (path, len(content))
    )
    found = _exchange([head + content])
    if len(found) != 1:
        raise Defect(f"{len(found)} answers to one request")


_LOADS: Final[Sequence[tuple[bytes, Callable[[bytes], bytes]]]] = (
    (b"", bytes),
    (b"gzip", lambda data: gzip.compress(data, 1, mtime=0)),
    (b"zstd", zstd.compress),
    (b"gzip", bytes),
    (b"zstd", bytes),
)


def lines(data: bytes) -> None:
    """
    A load: the first byte chooses its encoding and whether that is done here; the second the sizes of parts.
    """
    (encoding, encode), rest = _choose(data, _LOADS)
    size, content = rest[0] if rest else 0, encode(rest[1:])
    head = b"POST /items%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n" % (
        b"?partial=1" if size & 1 else b""
    )
    if encoding:
        head += b"Content-Encoding: %s\r\n" % encoding
    _exchange([head + b"Content-Length: %d\r\n\r\n" % len(content), *_cut(content, size)])


class _Signed(TokenSeal):
    """
    Signs whatever is to be in a token: what another version of a daemon may put there.
    """

    def sign(self, packed: bytes) -> str:
        return _text(self._codes.make(packed) + packed)


class _SignedCursor(CursorSeal):
    """
    Signs whatever is to be in a cursor.
    """

    def sign(self, question: Sequence[str], packed: bytes) -> str:
        return _text(self._codes.make(msgpack.encode((question, packed))) + packed)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


TOKENS: Final = _Signed(Secrets(b"secret"), "cluster")
CURSORS: Final = _SignedCursor(Secrets(b"secret"), "cluster")
_PLACES: Final[Sequence[Any]] = (int, str, tuple[int, str], tuple[str, int])


def tokens(data: bytes) -> None:
    """
    Position tokens and cursors: as text that a caller sends, and as what is in one that is sealed.
    """
    way, rest = _choose(data, range(4))
    if way < 2:
        text = rest.decode("utf-8", "replace") if way == 0 else TOKENS.sign(rest)
        try:
            position, stamp = TOKENS.open(text)
        except ValueError:
            return
        if TOKENS.open(TOKENS.seal(position, stamp)) != (position, stamp):
            raise Defect("a token that is made anew says something else")
        return
    kind, rest = _choose(rest, _PLACES)
    text = rest.decode("utf-8", "replace") if way == 2 else CURSORS.sign(("tenants",), rest)
    try:
        place = CURSORS.open(("tenants",), text, kind)
    except ValueError:
        return
    if CURSORS.open(("tenants",), CURSORS.seal(("tenants",), place), kind) != place:
        raise Defect("a cursor that is made anew says something else")


_DECODERS: Final[Sequence[Callable[[bytes], Any]]] = (
    codec.decode,
    codec.decode_hello,
    codec.decode_challenge,
    codec.decode_proof,
    codec.decode_welcome,
    codec.decode_from_coordinator,
    codec.decode_to_coordinator,
    codec.decode_between_nodes,
    codec.decode_kept,
    decode_batch,
)


def message(data: bytes) -> None:
    """
    A line between nodes. The first byte chooses the phase of the connection that it comes in.
    """
    decode, line = _choose(data, _DECODERS)
    _understand(decode, line)
    splitter = codec.LineSplitter(1_000)
    try:
        lines = [each for part in _cut(line, 7) for each in splitter.feed(part)]
    except MalformedMessage:
        return
    if lines != line.split(b"\n")[:-1]:
        raise Defect("lines are split in another way if they come in parts")


def journal(data: bytes) -> None:
    """
    A segment of a journal: damaged, or with lines that a checksum vouches for, whatever is in them.
    """
    vouched, rest = _choose(data, (False, True))
    if vouched:
        entries = [JournalEntry(each, i % 3, i, i % 3) for i, each in enumerate(rest.split(b"\n"))]
        rest = b"".join(map(frame, entries))
        if [entry for entry, _ in scan([rest])] != entries:
            raise Defect("a journal gives other lines than it was given")
    else:
        unframe(rest)
    unframe_begin(rest[:200])
    try:
        kept = [entry for entry, _ in scan(_cut(rest, 64)) if entry is not None]
    except CorruptJournal:
        return
    for entry in kept:
        format_of(entry.line)
        _understand(codec.decode_kept, entry.line)
        with contextlib.suppress(MalformedMessage):
            codec.decode_head(entry.line)


def _understand(decode: Callable[[bytes], Any], line: bytes) -> None:
    """
    Decode a line, and take what is in it where a node would take it.
    """
    try:
        found = decode(line)
    except MalformedMessage:
        return
    if isinstance(found, Batch):
        _merge(found)
        return
    if decode(codec.encode(found)) != found:
        raise Defect("a message that is encoded anew says something else")
    if isinstance(found, messages.Store | messages.Record):
        try:
            batch = decode_batch(found.batch)
        except MalformedMessage:
            return
        if decode_batch(encode_batch(batch)) != batch:
            raise Defect("a batch that is encoded anew says something else")
        _merge(batch)
    elif isinstance(found, copies.CopyChunk):
        ids, stamps, owners, tenants = found.packed()
        names = [tenants[owner] for owner in owners.tolist()]
        _check_counts(ids.tolist(), stamps.tolist(), names)


def _merge(batch: Batch) -> None:
    ids, stamps, tenants = batch.unpacked()
    if batch.largest_stamp() != max(stamps, default=0):
        raise Defect("the largest stamp of a batch is not that of its items")
    _check_counts(ids, stamps, tenants)


def _check_counts(ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]) -> None:
    """
    See that a ledger takes the rows, and counts as anyone would.
    """
    ledger = Ledger()
    ledger.merge(ids, stamps, tenants)
    winners: dict[int, tuple[int, str]] = {}
    for item, stamp, tenant in zip(ids, stamps, tenants, strict=True):
        winners[item] = max(winners.get(item, (-1, "")), (stamp, tenant or ""), key=_order)
    for name in {each for each in tenants if each}:
        counted = sum(owner == name for _, owner in winners.values())
        if ledger.count(name) != counted:
            raise Defect(f"{name!r} has {counted} items, and the ledger counts {ledger.count(name)}")


def _order(entry: tuple[int, str]) -> tuple[int, bytes]:
    return entry[0], entry[1].encode()


TARGETS: Final[dict[str, Target]] = {
    "body": body,
    "lines": lines,
    "target": target,
    "http": http,
    "tokens": tokens,
    "message": message,
    "journal": journal,
}
