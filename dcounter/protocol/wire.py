"""
What nodes and coordinators say to each other: one JSON object per line, one class per message.

The messages are a closed union. Decoding and validating is one typed step, and whatever bytes arrive, it
either gives a message or raises `MalformedMessage`. A batch is one raw field: the node that stores it, the
followers that copy it and the journal that keeps it all handle the same bytes, and nobody encodes it twice.
`docs/protocol.md` shows an example of each message.

msgspec Structs instead of dataclasses throughout: they are what the decoder fills in one step.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct
from numpy.typing import NDArray

from dcounter.errors import MalformedMessage
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.position import LostRun, NodeId, NodePosition, Number, Position, Stamp

PROTOCOL = 2
"""
The version of the messages; nodes and coordinators of another version are refused.
"""

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
RequestId = Annotated[int, Meta(ge=0, le=MAX_STAMP)]
Natural = Annotated[int, Meta(ge=0, le=MAX_STAMP)]
Positive = Annotated[int, Meta(ge=1, le=MAX_STAMP)]
Tenant = Annotated[str, Meta(min_length=1)]
Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
Nonce = Annotated[str, Meta(min_length=32, max_length=128)]
Mark = Annotated[str, Meta(max_length=128)]
Port = Annotated[int, Meta(ge=1, le=65_535)]

_LONG, _INT = np.dtype("<i8"), np.dtype("<i4")

Packed = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], Sequence[str | None]]
"""
Items as columns: IDs, stamps, owners (for each item where in the last column its tenant is) and tenants.
"""


class Batch(Struct, frozen=True, omit_defaults=True):
    """
    What one node journals under one number: slices of one or several requests, as columns.

    Exactly one of `bases` and `stamps` is there. A batch is plain, for people and for few items, or packed,
    which is read several times as fast: then columns of numbers are little-endian, and JSON has them in
    base64.

    :ivar slices: items per slice; slices follow each other in the columns.
    :ivar ids: one ID per item; packed, 8 bytes each.
    :ivar tenants: one tenant per item; packed, names; `None` is a tombstone.
    :ivar bases: the stamp of each slice's first item; each further item is one tick later.
    :ivar stamps: one stamp per item; packed, 8 bytes each.
    :ivar owners: packed, 4 bytes per item: where in `tenants` its tenant is.
    """

    slices: list[Positive]
    ids: list[Int64] | bytes
    tenants: list[Tenant | None]
    bases: list[Stamp] | None = None
    stamps: list[Stamp] | bytes | None = None
    owners: bytes | None = None

    def __post_init__(self) -> None:
        items = self.items
        packed = self.owners is not None
        if isinstance(self.ids, bytes) != packed or isinstance(self.stamps, list if packed else bytes):
            raise ValueError("columns of a batch are neither all packed nor all plain")
        width = 8 if packed else 1
        last = len(self.tenants) if self.owners is None else len(self.owners) / 4
        if len(self.ids) != width * items or last != items:
            raise ValueError("columns of a batch differ in length")
        if self.stamps is not None:
            if self.bases is not None or len(self.stamps) != width * items:
                raise ValueError("stamps do not fit the items")
        elif self.bases is None or len(self.bases) != len(self.slices):
            raise ValueError("bases do not fit the slices")
        elif any(b + n - 1 > MAX_STAMP for b, n in zip(self.bases, self.slices, strict=True)):
            raise ValueError("stamps run past the largest one")
        if self.owners is not None:
            _check_columns(self.owners, self.tenants, self.stamps if isinstance(self.stamps, bytes) else b"")

    @property
    def items(self) -> int:
        """
        How many items it has.
        """
        return sum(self.slices)

    def pack(self) -> "Batch":
        """
        The same batch, packed.
        """
        names = {name: place for place, name in enumerate(dict.fromkeys(self.tenants))}
        owners = np.fromiter(map(names.__getitem__, self.tenants), _INT, len(self.tenants))
        stamps = None if self.stamps is None else np.array(self.stamps, _LONG).tobytes()
        ids = np.array(self.ids, _LONG).tobytes()
        return Batch(self.slices, ids, list(names), self.bases, stamps, owners.tobytes())

    def packed(self) -> Packed | None:
        """
        The items of a packed batch, `None` of a plain one.
        """
        if self.owners is None or not isinstance(self.ids, bytes):
            return None
        if isinstance(self.stamps, bytes):
            stamps = np.frombuffer(self.stamps, _LONG)
        else:
            # Each slice begins at its base and goes on by one: at once for all, since there may be many.
            sizes = np.array(self.slices, _LONG)
            begins = np.array(self.bases, _LONG) - (np.cumsum(sizes) - sizes)
            stamps = np.arange(self.items, dtype=_LONG) + np.repeat(begins, sizes)
        return np.frombuffer(self.ids, _LONG), stamps, np.frombuffer(self.owners, _INT), self.tenants

    def columns(self) -> tuple[Sequence[int], Sequence[int], Sequence[str | None]]:
        """
        ID, stamp and tenant of each item of a plain batch.
        """
        assert isinstance(self.ids, list)
        return self.ids, self.item_stamps(), self.tenants

    def item_stamps(self) -> Sequence[int]:
        """
        One stamp per item of a plain batch.
        """
        if self.stamps is not None:
            assert isinstance(self.stamps, list)
            return self.stamps
        assert self.bases is not None
        spans = [range(b, b + n) for b, n in zip(self.bases, self.slices, strict=True)]
        return spans[0] if len(spans) == 1 else list(chain.from_iterable(spans))

    def largest_stamp(self) -> int:
        """
        The largest stamp of any item; 0 for a batch without items.
        """
        if isinstance(self.stamps, bytes):
            return int(np.frombuffer(self.stamps, _LONG).max(initial=0))
        if self.stamps is not None:
            return max(self.stamps, default=0)
        assert self.bases is not None
        return max((b + n - 1 for b, n in zip(self.bases, self.slices, strict=True)), default=0)


def _check_columns(owners: bytes, tenants: Sequence[str | None], stamps: bytes) -> None:
    """
    :raises ValueError: numbers that came over the wire are out of range; a negative one is a very large one.
    """
    if owners and np.frombuffer(owners, "<u4").max() >= len(tenants):
        raise ValueError("an owner is not there")
    if stamps and np.frombuffer(stamps, "<u8").max() > MAX_STAMP:
        raise ValueError("a stamp is out of range")


class Opening(Struct, frozen=True):
    """
    What a node said when it opened a run.

    :ivar run: the run it opened.
    :ivar previous: the run before it; 0 if there was none.
    :ivar last: the last number of that run.
    :ivar wiped: the node had lost its journal: `previous` and `last` are what its peers knew.
    """

    run: Stamp
    previous: Stamp
    last: Natural
    wiped: bool = False


# Handshake: Hello ->, <- Challenge, Proof ->, <- Welcome. Either side may say Farewell and hang up.


class Hello(Struct, frozen=True, tag="hello"):
    """
    The first line of the caller.

    :ivar role: what connected: a follower, a coordinator, or a node that looks whether its own port works.
    :ivar node: the id of the node that connected; `None` for a coordinator.
    :ivar to: the id of the node it wants to talk to.
    :ivar cluster: the cluster id it knows.
    :ivar members: ids of all nodes of the cluster.
    :ivar nonce: random, for the proof.
    :ivar port: the port that it called.
    :ivar boot: the start of the daemon that it belongs to; empty if it runs by itself.
    :ivar instance: the process that holds the node id; empty if the role is not `node`.
    """

    protocol: int
    cluster: str
    role: Literal["node", "coordinator", "probe"]
    node: NodeId | None
    to: NodeId
    members: list[NodeId]
    nonce: Nonce
    port: Port
    boot: Mark
    instance: Mark


class Challenge(Struct, frozen=True, tag="challenge"):
    """
    The node's answer to `Hello`: who it is, and its own proof that it has the secret.

    :ivar instance: the process that holds the node id.
    """

    node: NodeId
    run: Stamp
    nonce: Nonce
    instance: Mark
    proof: str


class Proof(Struct, frozen=True, tag="proof"):
    """
    The caller's proof that it has the secret.
    """

    proof: str


class Welcome(Struct, frozen=True, tag="welcome"):
    """
    The handshake is over.
    """


class Farewell(Struct, frozen=True, omit_defaults=True, tag="farewell"):
    """
    Why the connection is about to be closed.

    :ivar reason: for people.
    :ivar code: for programs: one word for a handshake that was refused, else empty.
    """

    reason: str
    code: Mark = ""


# Coordinator and node


class Store(Struct, frozen=True, tag="store"):
    """
    Journal this batch, apply it, answer `Stored`.
    """

    request: RequestId
    batch: Raw


class Stored(Struct, frozen=True, tag="stored", omit_defaults=True):
    """
    The batch is durable and counted at this node, but for the slices that were refused.

    :ivar run: with `number`, where in the node's log it is; both 0 if all slices were refused.
    :ivar stamp: the largest stamp the node has seen or heard of.
    :ivar refused: slice -> why; nothing of such a slice is stored.
    :ivar doubtful: what is refused was written to a disk that failed: it is not stored, unless the node dies
        before that disk works again.
    """

    request: RequestId
    run: Stamp
    number: Natural
    stamp: Stamp
    refused: dict[Natural, str] = {}
    doubtful: bool = False


class Count(Struct, frozen=True, tag="count", omit_defaults=True):
    """
    How many items does each of these tenants own?

    :ivar required: what the answer must include to be exact.
    :ivar wait: how long (ms) the node may wait until it has that.
    """

    request: RequestId
    tenants: list[str]
    required: Position = Position()
    wait: Milliseconds = 0


class Counted(Struct, frozen=True, tag="counted"):
    """
    The counts, in the order of the question, at one moment.

    :ivar complete: whether they include all that was required.
    :ivar position: what they include.
    """

    request: RequestId
    counts: list[Natural]
    complete: bool
    position: Position
    stamp: Stamp


class Await(Struct, frozen=True, tag="await"):
    """
    Answer `Awaited` as soon as all of this is durable at the node, or when the wait (ms) is over.
    """

    request: RequestId
    position: Position
    wait: Milliseconds


class Awaited(Struct, frozen=True, tag="awaited"):
    """
    The answer to an `Await`, or to a `Forget`.

    :ivar reached: whether all that was awaited is durable here.
    :ivar durable: as in a `Report`.
    """

    request: RequestId
    reached: bool
    durable: Position
    stamp: Stamp


class Forget(Struct, frozen=True, tag="forget"):
    """
    Give up this node for good: it counts as a member no longer, and is let in no more.

    Answered by `Awaited`, once that is durable.
    """

    request: RequestId
    node: NodeId


class Beat(Struct, frozen=True, tag="beat"):
    """
    A coordinator's heartbeat.

    :ivar stamp: the largest stamp it gave out or heard of.
    """

    stamp: Stamp


class Report(Struct, frozen=True, tag="report", omit_defaults=True):
    """
    A node's heartbeat, to everybody it is connected with.

    :ivar node: who reports.
    :ivar port: where it listens now; 0 if it does not.
    :ivar run: its open run; 0 if it has none.
    :ivar applied: what its counts include.
    :ivar durable: what it has journalled; nothing while a member refuses it for another process of its id.
    :ivar stamp: the largest stamp it has seen or heard of.
    :ivar items: IDs that name a tenant in its ledger.
    :ivar items_taken: items it stored straight from a coordinator.
    :ivar openings: what it knows of the beginnings of runs that are not folded: node -> openings.
    :ivar lost: what it knows to be lost.
    :ivar forgotten: members that were given up.
    :ivar refuses: why it takes no writes; `None` if it takes them.
    :ivar passing: what it refuses for passes by itself within seconds.
    :ivar loading: its ledger is not complete yet: it counts nothing exactly, whatever it has applied.
    :ivar in_doubt: nobody knows whether all of its own log is on its disk: what may not be is not in
        `applied`, and it counts nothing.
    """

    node: NodeId
    port: Annotated[int, Meta(ge=0, le=65_535)]
    pid: Natural
    run: Stamp
    applied: Position
    durable: Position
    stamp: Stamp
    items: Natural
    items_taken: Natural
    openings: dict[NodeId, list[Opening]] = {}
    lost: list[LostRun] = []
    forgotten: list[NodeId] = []
    refuses: str | None = None
    loading: bool = False
    in_doubt: bool = False
    passing: bool = False


# Node and follower


class Follow(Struct, frozen=True, tag="follow"):
    """
    Send me what you have of this node's log beyond this position, and go on as more comes.
    """

    node: NodeId
    position: NodePosition


class Unfollow(Struct, frozen=True, tag="unfollow"):
    """
    Stop sending me this node's log.
    """

    node: NodeId


class Record(Struct, frozen=True, tag="record", omit_defaults=True):
    """
    One batch of a node's log.

    :ivar node: with `run` the origin, whose `number`-th batch it is.
    :ivar stamp: the largest stamp in the batch.
    :ivar opening: with number 1: what the origin said when it opened the run.
    """

    node: NodeId
    run: Stamp
    number: Number
    stamp: Stamp
    batch: Raw
    opening: Opening | None = None


class Gap(Struct, frozen=True, tag="gap"):
    """
    The log of this node no longer reaches back to the position you follow from: take a copy of the ledger.
    """

    node: NodeId


class Copy(Struct, frozen=True, tag="copy"):
    """
    Send me your ledger.
    """


class CopyBegin(Struct, frozen=True, tag="copy_begin", omit_defaults=True):
    """
    The ledger follows in pieces; they include all of this position, and may include more.

    :ivar entries: about how many follow.
    """

    position: Position
    openings: dict[NodeId, list[Opening]]
    lost: list[LostRun]
    entries: Natural = 0


class CopyPiece(Struct, frozen=True, tag="copy_piece"):
    """
    Some entries of the ledger, as columns of little-endian numbers, which JSON has in base64.

    :ivar ids: 8 bytes per entry.
    :ivar stamps: 8 bytes per entry.
    :ivar owners: 4 bytes per entry: where in `tenants` the owner is.
    :ivar tenants: names; `None` owns what was deleted.
    :ivar position: nothing in this piece lies beyond it.
    """

    ids: bytes
    stamps: bytes
    owners: bytes
    tenants: list[Tenant | None]
    position: Position

    def __post_init__(self) -> None:
        entries = len(self.owners) // 4
        if (len(self.ids), len(self.stamps), len(self.owners)) != (8 * entries, 8 * entries, 4 * entries):
            raise ValueError("columns of a piece differ in length")
        _check_columns(self.owners, self.tenants, self.stamps)

    @classmethod
    def of(cls, packed: Packed, position: Position) -> "CopyPiece":
        """
        A message that holds these entries.
        """
        ids, stamps, owners, tenants = packed
        return cls(
            ids.astype(_LONG, copy=False).tobytes(),
            stamps.astype(_LONG, copy=False).tobytes(),
            owners.astype(_INT, copy=False).tobytes(),
            list(tenants),
            position,
        )

    def packed(self) -> Packed:
        """
        The entries.
        """
        return (
            np.frombuffer(self.ids, _LONG),
            np.frombuffer(self.stamps, _LONG),
            np.frombuffer(self.owners, _INT),
            self.tenants,
        )


class CopyEnd(Struct, frozen=True, tag="copy_end"):
    """
    The ledger is complete; nothing in the pieces lies beyond this position.
    """

    position: Position
    stamp: Stamp


# In journals only


class Standing(Struct, frozen=True, tag="standing"):
    """
    What a node has found out about its own journal; never sent.

    Without it, a node that lost its journal and died again while its peers refilled it would take what
    they gave back for all it ever had.

    :ivar known: every member has reported since the journal was empty.
    :ivar wiped: the node had a journal before, and has not opened a run since.
    """

    known: bool
    wiped: bool


Message = (
    Hello
    | Challenge
    | Proof
    | Welcome
    | Farewell
    | Store
    | Stored
    | Count
    | Counted
    | Await
    | Awaited
    | Forget
    | Beat
    | Report
    | Follow
    | Unfollow
    | Record
    | Gap
    | Copy
    | CopyBegin
    | CopyPiece
    | CopyEnd
    | Standing
)


class RecordHead(Struct, frozen=True, tag="record"):
    """
    What can be known of a `Record` without its batch.
    """

    stamp: Stamp
    opening: Opening | None = None


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_batch_decoder = msgspec.json.Decoder(Batch)
_head_decoder = msgspec.json.Decoder(RecordHead)
_PIECE = b'{"type":"copy_piece",'

# RecursionError: JSON nested too deep; UnicodeDecodeError: text that is not UTF-8; both are the sender's.
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(message: Message) -> bytes:
    """
    One message as one line, without the line's end.
    """
    return _encoder.encode(message)


def decode(line: bytes) -> Message:
    """
    One line as a message.

    :raises MalformedMessage: it is none.
    """
    try:
        return _decoder.decode(line)
    except _MALFORMED as error:
        raise MalformedMessage(f"not a message: {error}") from error


def is_piece(line: bytes) -> bool:
    """
    Whether a line, of which the beginning is enough, is a `CopyPiece` that we encoded.
    """
    return line.startswith(_PIECE)


def decode_head(line: bytes) -> RecordHead:
    """
    One line as a record, without a look at its batch.

    :raises MalformedMessage: it is none.
    """
    try:
        return _head_decoder.decode(line)
    except _MALFORMED as error:
        raise MalformedMessage(f"not a record: {error}") from error


def encode_batch(batch: Batch) -> bytes:
    """
    A batch as the raw field of `Store` and `Record`.
    """
    return _encoder.encode(batch)


def decode_batch(raw: Raw | bytes) -> Batch:
    """
    The raw field of `Store` and `Record` as a batch.

    :raises MalformedMessage: it is none.
    """
    try:
        return _batch_decoder.decode(raw)
    except _MALFORMED as error:
        raise MalformedMessage(f"not a batch: {error}") from error


class LineSplitter:
    """
    Cuts a stream of bytes into lines, whatever pieces it arrives in.

    :ivar limit: longest line (bytes); it may change between two calls.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """
        Take bytes and give the lines that they complete, without their ends.

        Nothing beyond the limit is kept, and a long line that comes in many pieces is joined once.

        :raises MalformedMessage: a line is longer than the limit.
        """
        first, *others = data.split(b"\n")
        self._rest.append(first)
        self._size += len(first)
        long = len(data) > self.limit and any(len(line) > self.limit for line in others)
        if long or self._size > self.limit:
            self._rest, self._size = [], 0
            raise MalformedMessage(f"a line of more than {self.limit} bytes")
        if not others:
            return []
        lines = [b"".join(self._rest), *others[:-1]]
        self._rest, self._size = [others[-1]], len(others[-1])
        return lines
