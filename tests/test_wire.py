import base64
import hmac
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from dcounter.errors import MalformedMessage, PeerError
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.rows import Piece
from dcounter.protocol import codec, messages
from dcounter.protocol.batch import Batch, decode_batch, encode_batch
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.codec import LineSplitter
from dcounter.protocol.handshake import Callee, Caller, Identity
from dcounter.protocol.messages import JournalLine, Message, Opening
from dcounter.protocol.position import LostRun, NodePosition, Position
from tests import strategies

# With what only journals keep.
MESSAGES: tuple[type[Any], ...] = get_args(Message | JournalLine)

naturals = st.integers(0, MAX_STAMP) | st.sampled_from([0, MAX_STAMP])
milliseconds = st.integers(0, 3_600_000)
texts = st.text(max_size=20)
nonces = st.text(min_size=32, max_size=128)
marks = st.text(max_size=128)
openings = st.builds(Opening, strategies.stamps, strategies.stamps, naturals, st.booleans())
opening_lists = st.dictionaries(strategies.node_ids, st.lists(openings, max_size=2), max_size=2)
lost_runs = st.lists(strategies.lost_runs, max_size=2)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    slices = draw(st.lists(st.integers(1, 4), max_size=4))
    items = sum(slices)
    ids = draw(st.lists(strategies.item_ids, min_size=items, max_size=items))
    tenants = draw(st.lists(strategies.owners, min_size=items, max_size=items))
    if draw(st.booleans()):
        stamps = draw(st.lists(strategies.stamps, min_size=items, max_size=items))
        return Batch(slices, ids, tenants, stamps=stamps)
    bases = [draw(st.integers(0, MAX_STAMP - size + 1)) for size in slices]
    return Batch(slices, ids, tenants, bases=bases)


any_batches = st.one_of(batches(), batches().map(Batch.pack))
raws = any_batches.map(lambda batch: Raw(encode_batch(batch)))


@st.composite
def copy_pieces(draw: st.DrawFn) -> messages.CopyPiece:
    rows = draw(st.lists(st.tuples(strategies.item_ids, strategies.stamps, strategies.owners), max_size=5))
    ledger = Ledger()
    ledger.merge(*([row[column] for row in rows] for column in range(3)))  # type: ignore[arg-type]
    position = draw(strategies.any_positions)
    nothing = messages.CopyPiece(b"", b"", b"", [], position)
    return next((messages.CopyPiece.of(piece.columns(), position) for piece in ledger.pieces(9)), nothing)


requests = naturals
stamps = strategies.stamps
positions = strategies.any_positions
node_ids = strategies.node_ids

STRATEGIES: dict[type[Any], st.SearchStrategy[Any]] = {
    messages.Hello: st.builds(
        messages.Hello,
        st.integers(),
        texts,
        st.sampled_from(["node", "coordinator", "probe"]),
        st.none() | node_ids,
        node_ids,
        st.lists(node_ids, max_size=4),
        nonces,
        st.integers(1, 65_535),
        marks,
        marks,
    ),
    messages.Challenge: st.builds(messages.Challenge, node_ids, stamps, nonces, marks, texts),
    messages.Proof: st.builds(messages.Proof, texts),
    messages.Welcome: st.builds(messages.Welcome),
    messages.Farewell: st.builds(messages.Farewell, texts, marks),
    messages.Store: st.builds(messages.Store, requests, raws),
    messages.Stored: st.builds(
        messages.Stored,
        requests,
        stamps,
        naturals,
        stamps,
        st.dictionaries(naturals, texts, max_size=2),
    ),
    messages.Count: st.builds(messages.Count, requests, st.lists(texts, max_size=3), positions, milliseconds),
    messages.Counted: st.builds(
        messages.Counted, requests, st.lists(naturals, max_size=3), st.booleans(), positions, stamps
    ),
    messages.Await: st.builds(messages.Await, requests, positions, milliseconds),
    messages.Awaited: st.builds(messages.Awaited, requests, st.booleans(), positions, stamps),
    messages.Forget: st.builds(messages.Forget, requests, node_ids),
    messages.Standing: st.builds(messages.Standing, st.booleans(), st.booleans()),
    messages.Beat: st.builds(messages.Beat, stamps),
    messages.Report: st.builds(
        messages.Report,
        node_ids,
        st.integers(0, 65_535),
        naturals,
        stamps,
        positions,
        positions,
        stamps,
        naturals,
        naturals,
        opening_lists,
        lost_runs,
        st.lists(node_ids, max_size=3),
        st.none() | texts,
    ),
    messages.Follow: st.builds(messages.Follow, node_ids, strategies.any_node_positions),
    messages.Unfollow: st.builds(messages.Unfollow, node_ids),
    messages.Record: st.builds(
        messages.Record,
        node_ids,
        stamps,
        strategies.numbers,
        stamps,
        raws,
        st.none() | openings,
    ),
    messages.Gap: st.builds(messages.Gap, node_ids),
    messages.Copy: st.builds(messages.Copy),
    messages.CopyBegin: st.builds(messages.CopyBegin, positions, opening_lists, lost_runs),
    messages.CopyPiece: copy_pieces(),
    messages.CopyEnd: st.builds(messages.CopyEnd, positions, stamps),
}

any_message = st.one_of([STRATEGIES[kind] for kind in get_args(Message)])


def _decode(kind: type[Any], line: bytes) -> Message | JournalLine:
    return codec.decode_kept(line) if kind is messages.Standing else codec.decode(line)


def test_what_journals_keep_is_not_what_is_sent() -> None:
    standing = codec.encode(messages.Standing(known=True, wiped=False))
    with pytest.raises(MalformedMessage, match="not a message"):
        codec.decode(standing)
    with pytest.raises(MalformedMessage, match="not a line of a journal"):
        codec.decode_kept(codec.encode(messages.Welcome()))


def test_no_message_is_forgotten() -> None:
    assert set(STRATEGIES) == set(MESSAGES)


class TestMessages:
    # One of each class at a time: pytest-twisted wraps a property again for every parameter.
    @given(st.tuples(*STRATEGIES.values()))
    def test_survive_encode_and_decode_on_one_line(self, of_each_class: tuple[Message, ...]) -> None:
        for kind, message in zip(STRATEGIES, of_each_class, strict=True):
            line = codec.encode(message)
            decoded = _decode(kind, line)

            assert type(decoded) is type(message) is kind
            assert decoded == message
            assert codec.encode(decoded) == line
            assert b"\n" not in line
            assert isinstance(json.loads(line), dict)

    @given(any_message)
    def test_may_be_spaced_and_ordered_differently(self, message: Message) -> None:
        fields = json.loads(codec.encode(message))
        backwards = dict(reversed(fields.items()), unknown={"to": "us"})
        line = json.dumps(backwards, indent=1).replace("\n", "\r\t").encode()

        decoded = codec.decode(line)

        assert type(decoded) is type(message)
        if isinstance(decoded, messages.Store | messages.Record):
            assert isinstance(message, messages.Store | messages.Record)
            sent = decode_batch(message.batch)
            assert decode_batch(decoded.batch) == sent
        else:
            assert decoded == message

    def test_types_differ(self) -> None:
        tags = [kind.__struct_config__.tag for kind in MESSAGES]
        assert len(set(tags)) == len(tags)


def _piece(columns: dict[str, Any], more: bytes = b"") -> bytes:
    """
    A piece of a copy as a line; `more` bytes follow each column of numbers.
    """
    kinds = {"ids": "<{}q", "stamps": "<{}q", "owners": "<{}i"}
    packed = {
        name: base64.b64encode(struct.pack(kind.format(len(columns[name])), *columns[name]) + more).decode()
        for name, kind in kinds.items()
    }
    return json.dumps(
        {"type": "copy_piece", "position": {}, "tenants": columns["tenants"], **packed}
    ).encode()


class TestBatches:
    @given(any_batches)
    def test_survive_encode_and_decode(self, batch: Batch) -> None:
        raw = encode_batch(batch)

        assert b"\n" not in raw
        assert decode_batch(raw) == batch
        assert decode_batch(Raw(raw)) == batch

    @given(any_batches, st.booleans(), st.sampled_from([None, 1, 2]))
    def test_keep_their_bytes_on_the_whole_way(self, batch: Batch, escaped: bool, indent: int | None) -> None:
        # As another client may write it: with spaces, or without a character beyond ASCII.
        fields = json.loads(encode_batch(batch))
        text = json.dumps(fields, ensure_ascii=escaped, indent=indent)
        sent = text.replace("\n", "\r").encode()

        store = codec.decode(b'{"request":7,"batch":' + sent + b',"type":"store"}')
        assert isinstance(store, messages.Store)
        assert bytes(store.batch) == sent
        line = codec.encode(messages.Record(1, 2, 3, 4, store.batch))
        record = codec.decode(line)
        assert isinstance(record, messages.Record)
        assert bytes(record.batch) == sent
        assert sent in line
        assert decode_batch(record.batch) == batch

    @given(batches())
    @example(Batch([1], [1], ["a"], bases=[MAX_STAMP]))
    def test_are_the_same_packed(self, batch: Batch) -> None:
        assert batch.packed() is None
        packed = batch.pack()
        columns = packed.packed()
        assert columns is not None
        assert list(Piece(*columns).entries()) == list(zip(*batch.columns(), strict=True))
        assert packed.items == batch.items == len(batch.ids)
        assert packed.largest_stamp() == batch.largest_stamp()

    @given(batches())
    def test_stamps_go_one_tick_per_item_from_each_base(self, batch: Batch) -> None:
        expected = batch.stamps
        if expected is None:
            assert batch.bases is not None
            expected = [
                base + tick
                for base, size in zip(batch.bases, batch.slices, strict=True)
                for tick in range(size)
            ]

        assert list(batch.item_stamps()) == expected
        assert batch.largest_stamp() == max(expected, default=0)
        assert len(batch.item_stamps()) == len(batch.ids)

    @pytest.mark.parametrize(
        "fields",
        [
            {"slices": [], "ids": [], "tenants": [], "bases": []},
            {"slices": [], "ids": [], "tenants": [], "stamps": []},
            {"slices": [1], "ids": [-(2**63)], "tenants": [None], "bases": [MAX_STAMP]},
            {"slices": [1], "ids": [2**63 - 1], "tenants": [" "], "stamps": [0]},
            {"slices": [1], "ids": [1], "tenants": ["a"], "bases": [0], "stamps": None},
        ],
    )
    def test_accepted(self, fields: dict[str, Any]) -> None:
        batch = decode_batch(json.dumps(fields).encode())
        assert batch.ids == fields["ids"]

    @pytest.mark.parametrize(
        "changes",
        [
            # columns that do not fit each other
            {"ids": [1, 2]},
            {"ids": [1, 2, 3, 4]},
            {"tenants": ["a", "b"]},
            {"slices": [2]},
            {"slices": [2, 2]},
            {"slices": [1, 1, 1]},
            {"slices": []},
            {"bases": [1]},
            {"bases": [1, 2, 3]},
            {"bases": []},
            {"bases": None},
            {"stamps": [1, 2, 3]},
            {"bases": None, "stamps": [1, 2]},
            {"bases": None, "stamps": [1, 2, 3, 4]},
            # sizes of slices
            {"slices": [0, 3]},
            {"slices": [4, -1]},
            {"slices": [2**63, 1]},
            {"slices": [2.0, 1]},
            # stamps
            {"bases": [-1, 1]},
            {"bases": [1, MAX_STAMP + 1]},
            {"bases": [MAX_STAMP, 1]},
            {"bases": [True, 1]},
            {"bases": ["1", 1]},
            {"bases": None, "stamps": [1, 2, MAX_STAMP + 1]},
            {"bases": None, "stamps": [1, 2, -1]},
            # IDs and tenants
            {"ids": [1, 2, 2**63]},
            {"ids": [1, 2, -(2**63) - 1]},
            {"ids": [1, 2, 10**400]},
            {"ids": [1, 2, 3.0]},
            {"ids": [1, 2, None]},
            {"ids": [1, 2, False]},
            {"ids": [1, 2, "3"]},
            {"ids": {}},
            {"tenants": ["a", "b", ""]},
            {"tenants": ["a", "b", 3]},
            {"tenants": "abc"},
        ],
        ids=json.dumps,
    )
    def test_refused(self, changes: dict[str, Any]) -> None:
        good = {
            "slices": [2, 1],
            "ids": [1, 2, 3],
            "tenants": ["a", None, "c"],
            "bases": [5, 7],
        }
        decode_batch(json.dumps(good).encode())

        raw = json.dumps(good | changes).encode()

        with pytest.raises(MalformedMessage):
            decode_batch(raw)
        # The line around it is a message all the same: only who opens the batch can tell.
        assert isinstance(codec.decode(b'{"type":"store","request":1,"batch":' + raw + b"}"), messages.Store)

    @pytest.mark.parametrize(
        "changes",
        [
            {"ids": "AAAAAAAAAAA="},
            {"ids": [1, 2]},
            {"ids": "no base64"},
            {"owners": "AAAAAA=="},
            {"owners": None},
            {"owners": "AAAAAAIAAAA="},
            {"owners": "AAAAAP////8="},
            {"tenants": ["a"]},
            {"tenants": ["a", ""]},
            {"slices": [1]},
            {"slices": [1, 1]},
            {"bases": None},
            {"bases": [MAX_STAMP]},
            {"stamps": "AAAAAAAAAAAAAAAAAAAAAA=="},
            {"bases": None, "stamps": [1, 2]},
            {"bases": None, "stamps": "AAAAAAAAAAA="},
            {"bases": None, "stamps": "AAAAAAAAAAD//////////w=="},
        ],
        ids=json.dumps,
    )
    def test_refused_packed(self, changes: dict[str, Any]) -> None:
        good = {
            "slices": [2],
            "ids": "AQAAAAAAAAACAAAAAAAAAA==",
            "tenants": ["a", None],
            "owners": "AAAAAAEAAAA=",
            "bases": [5],
        }
        assert decode_batch(json.dumps(good).encode()) == Batch([2], [1, 2], ["a", None], [5]).pack()
        with pytest.raises(MalformedMessage):
            decode_batch(json.dumps(good | changes).encode())

    def test_a_missing_column_is_refused(self) -> None:
        good = {"slices": [1], "ids": [1], "tenants": ["a"], "bases": [5]}
        for name in good:
            rest = {key: value for key, value in good.items() if key != name}
            with pytest.raises(MalformedMessage):
                decode_batch(json.dumps(rest).encode())

    @pytest.mark.parametrize(
        "changes",
        [
            {"ids": [1, 2]},
            {"stamps": [1, 2]},
            {"owners": [0, 0]},
            {"ids": []},
            {"stamps": [-1]},
            {"owners": [1]},
            {"owners": [-1]},
            {"tenants": []},
            {"tenants": [""]},
        ],
    )
    def test_pieces_of_a_copy_with_bad_columns_are_refused(self, changes: dict[str, Any]) -> None:
        good = {"ids": [1], "stamps": [1], "owners": [0], "tenants": ["a"]}
        codec.decode(_piece(good))

        with pytest.raises(MalformedMessage):
            codec.decode(_piece(good | changes))

    def test_a_column_of_half_numbers_is_refused(self) -> None:
        with pytest.raises(MalformedMessage):
            codec.decode(_piece({"ids": [1], "stamps": [1], "owners": [0], "tenants": ["a"]}, more=b"x"))


# JSON that is nearly a message: the right names, any value.
names = st.sampled_from(sorted({name for kind in MESSAGES for name in kind.__struct_fields__}))
tags = st.sampled_from([str(kind.__struct_config__.tag) for kind in MESSAGES])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 3)
    | st.floats()
    | st.text(max_size=5)
    | st.text(st.characters(), max_size=3)
    | nonces,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names | st.just("0") | texts, inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def nearly_messages(draw: st.DrawFn) -> bytes:
    """
    An object with all fields of some message, a few of them replaced by something else.
    """
    fields = json.loads(codec.encode(draw(any_message)))
    for name in draw(st.lists(st.sampled_from(sorted(fields)) | names, max_size=3)):
        fields[name] = draw(tags if name == "type" else values)
    # It writes NaN, Infinity and, as escapes, lone surrogates.
    return json.dumps(fields).encode()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """
    A good line with some of its bytes changed, repeated or gone.
    """
    line = bytearray(codec.encode(draw(any_message)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(line)))
        end = min(len(line), start + draw(st.integers(0, 6)))
        new = draw(
            st.binary(max_size=3)
            | st.sampled_from([bytes(line[start:end]) * 2, b'"', b"[", b"{", b"\\ud800", b"\\", b"-", b"e9"])
        )
        line[start:end] = new
    return bytes(line)


def _assert_malformed_or_sound(line: bytes) -> None:
    """
    Decoding either gives a message, which can be sent on, or raises our error.
    """
    try:
        message = codec.decode(line)
    except MalformedMessage:
        pass
    else:
        assert type(message) in MESSAGES
        again = codec.encode(message)
        assert codec.encode(codec.decode(again)) == again
        if isinstance(message, messages.Store | messages.Record):
            assert bytes(message.batch) in line
            _assert_batch_malformed_or_sound(bytes(message.batch))
    _assert_batch_malformed_or_sound(line)


def _assert_batch_malformed_or_sound(raw: bytes) -> None:
    try:
        batch = decode_batch(raw)
    except MalformedMessage:
        return
    packed = batch.packed()
    columns = packed[:3] if packed else batch.columns()
    assert [len(column) for column in columns] == [batch.items] * 3
    assert 0 <= batch.largest_stamp() <= MAX_STAMP
    for tenant in batch.tenants:
        assert tenant is None or tenant.encode()
    assert decode_batch(encode_batch(batch)) == batch


# Cheap, and what arrives is the one thing that nobody here decides.
_MANY = settings(max_examples=300)
_NESTED = 100_000
_HELLO = (
    b'{"type":"hello","cluster":"","role":"node","node":1,"to":1,"members":[],"nonce":"%s","protocol":%s,'
    b'"port":1,"boot":"","instance":""}'
)


class TestWhateverArrives:
    @_MANY
    @given(st.binary())
    @example(b"")
    def test_bytes(self, line: bytes) -> None:
        _assert_malformed_or_sound(line)

    @_MANY
    @given(mutated())
    def test_mutated_messages(self, line: bytes) -> None:
        _assert_malformed_or_sound(line)

    @_MANY
    @given(nearly_messages())
    def test_other_json_values(self, line: bytes) -> None:
        _assert_malformed_or_sound(line)

    @pytest.mark.parametrize(
        "line",
        [
            b"null",
            b"[]",
            b'"copy"',
            b"{}",
            b'{"type":"nothing"}',
            b'{"type":1}',
            b'{"type":"copy"} {"type":"copy"}',
            b'{"type":"copy"}\x00',
            b'\xef\xbb\xbf{"type":"copy"}',
            b"{'type':'copy'}",
            b'{"type":"copy",}',
            '{"type":"copy"}'.encode("utf-16"),
            # numbers that are no integers of 64 bits
            b'{"type":"beat","stamp":NaN}',
            b'{"type":"beat","stamp":Infinity}',
            b'{"type":"beat","stamp":1e2}',
            b'{"type":"beat","stamp":1.0}',
            b'{"type":"beat","stamp":1e999999999}',
            b'{"type":"beat","stamp":-1}',
            b'{"type":"beat","stamp":01}',
            b'{"type":"beat","stamp":9223372036854775808}',
            b'{"type":"beat","stamp":' + b"9" * 100_000 + b"}",
            b'{"type":"beat","stamp":"1"}',
            b'{"type":"beat","stamp":true}',
            b'{"type":"beat","stamp":null}',
            b'{"type":"beat"}',
            _HELLO % (b"n" * 32, b"9" * 100_000),
            b'{"type":"unfollow","node":65536}',
            b'{"type":"stored","request":1,"run":1,"number":1,"stamp":1,"refused":{"'
            + b"9" * 5_000
            + b'":""}}',
            b'{"type":"stored","request":1,"run":1,"number":1,"stamp":1,"refused":{"01":""}}',
            b'{"type":"await","request":1,"position":{},"wait":3600001}',
            # text that is no Unicode
            b'{"type":"farewell","reason":"\xff"}',
            b'{"type":"farewell","reason":"\xed\xa0\x80"}',
            b'{"type":"farewell","reason":"\xc0\x80"}',
            rb'{"type":"farewell","reason":"\ud800"}',
            rb'{"type":"farewell","reason":"\udc00\ud800"}',
            rb'{"type":"farewell","reason":"\ud800\u0041"}',
            b'{"type":"farewell","reason":"\x00"}',
            rb'{"type":"farewell","reason":"\x00"}',
            b'{"type":"farewell","reason":"',
            # nonces of another length
            _HELLO % (b"n" * 31, b"1"),
            _HELLO % (b"n" * 129, b"1"),
            # nested to exhaust the stack, where it is read and where it is skipped
            b"[" * _NESTED,
            b'{"a":' * _NESTED,
            b'{"type":"store","request":1,"batch":' + b"[" * _NESTED + b"]" * _NESTED + b"}",
            b'{"type":"store","request":1,"batch":' + b'{"a":' * _NESTED,
            b'{"type":"copy","unknown":' + b"[" * _NESTED + b"]" * _NESTED + b"}",
            b'{"type":"count","request":1,"tenants":' + b"[" * _NESTED,
        ],
        ids=lambda line: line[:50].decode("latin-1"),
    )
    def test_no_messages(self, line: bytes) -> None:
        with pytest.raises(MalformedMessage, match="not a message"):
            codec.decode(line)
        with pytest.raises(MalformedMessage, match="not a batch"):
            decode_batch(line)

    @pytest.mark.parametrize(
        "raw",
        [
            rb'{"slices":[1],"ids":[1],"tenants":["\ud800"],"bases":[1]}',
            b'{"slices":[1],"ids":[1],"tenants":["\xff"],"bases":[1]}',
            b'{"slices":[1],"ids":[1],"tenants":["\xed\xb2\x80"],"bases":[1]}',
            b'"\xff"',
            b"3",
            b"null",
        ],
    )
    def test_no_batches_in_a_message(self, raw: bytes) -> None:
        with pytest.raises(MalformedMessage, match="not a batch"):
            decode_batch(raw)
        _assert_malformed_or_sound(b'{"type":"store","request":1,"batch":' + raw + b"}")

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (b'{"type":"beat","stamp":1,"stamp":2}', messages.Beat(2)),
            (b' {"stamp": 3,\t"type" : "beat"}\r', messages.Beat(3)),
            (b'{"type":"beat","stamp":4,"more":[{"deep":[null]}]}', messages.Beat(4)),
            (b'{"type":"beat","stamp":-0}', messages.Beat(0)),
            (rb'{"type":"farewell","reason":"\ud83d\ude00\u0000\n"}', messages.Farewell("\U0001f600\x00\n")),
            (
                _HELLO % ("é".encode() * 128, b"2"),
                messages.Hello(2, "", "node", 1, 1, [], "é" * 128, 1, "", ""),
            ),
        ],
    )
    def test_unusual_messages(self, line: bytes, message: Message) -> None:
        assert codec.decode(line) == message

    def test_the_error_is_the_fault_of_the_peer(self) -> None:
        assert issubclass(MalformedMessage, PeerError)


class TestLineSplitter:
    @given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b""))), st.data())
    def test_lines_come_out_whatever_the_pieces(self, lines: list[bytes], data: st.DataObject) -> None:
        stream = b"".join(line + b"\n" for line in lines)
        rest = data.draw(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")))
        stream += rest
        splitter = LineSplitter(20)

        found = []
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            found += splitter.feed(stream[:size])
            stream = stream[size:]

        assert found == lines
        assert splitter.feed(b"\n") == [rest]

    @given(st.integers(0, 30), st.integers(1, 30), st.booleans())
    def test_a_line_may_be_as_long_as_the_limit(self, length: int, step: int, ended: bool) -> None:
        splitter = LineSplitter(15)
        stream = b"ok\n" + b"x" * length + b"\n" * ended

        def feed() -> list[bytes]:
            pieces = (stream[at : at + step] for at in range(0, len(stream), step))
            return [line for piece in pieces for line in splitter.feed(piece)]

        if length > 15:
            with pytest.raises(MalformedMessage, match="more than 15 bytes"):
                feed()
        else:
            assert feed() == [b"ok"] + [b"x" * length] * ended

    def test_nothing_beyond_the_limit_is_kept(self) -> None:
        splitter = LineSplitter(10)
        splitter.feed(b"x" * 10)
        with pytest.raises(MalformedMessage):
            splitter.feed(b"x" * 1_000_000)

        assert splitter.feed(b"y\n") == [b"y"]

    def test_the_limit_may_grow(self) -> None:
        splitter = LineSplitter(1)
        splitter.feed(b"x")
        splitter.limit = 3
        assert splitter.feed(b"yz\n") == [b"xyz"]


# docs/protocol.md

PAGE = Path(__file__).parent.parent / "docs" / "protocol.md"
VALUES: tuple[type[Any], ...] = (Batch, NodePosition, Position, Opening, LostRun)
SECTIONS: dict[str, str] = dict(
    re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)


def _examples(kind: type[Any]) -> list[bytes]:
    blocks = re.findall(r"^```json\n(.*?)^```$", SECTIONS[kind.__name__], re.MULTILINE | re.DOTALL)
    return [block.removesuffix("\n").encode() for block in blocks]


def _all_examples() -> Iterator[Any]:
    for kind in (*VALUES, *MESSAGES):
        for number, line in enumerate(_examples(kind) if kind.__name__ in SECTIONS else []):
            yield pytest.param(kind, line, id=f"{kind.__name__}-{number}")


class TestPage:
    def test_every_message_has_a_section_and_nothing_else_has(self) -> None:
        assert set(SECTIONS) == {kind.__name__ for kind in (*VALUES, *MESSAGES)}

    @pytest.mark.parametrize("kind", [*VALUES, *MESSAGES], ids=lambda kind: kind.__name__)
    def test_every_section_has_an_example_and_all_fields(self, kind: type[Any]) -> None:
        assert _examples(kind)
        rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| .+ \| .*\|$", SECTIONS[kind.__name__], re.MULTILINE)
        assert rows == [
            (field.encode_name, "yes" if field.required else "no") for field in msgspec.structs.fields(kind)
        ]

    @pytest.mark.parametrize(("kind", "line"), list(_all_examples()))
    def test_examples_are_what_they_are_said_to_be(self, kind: type[Any], line: bytes) -> None:
        if kind in MESSAGES:
            message = _decode(kind, line)
            assert type(message) is kind
            # Just as we write it.
            assert codec.encode(message) == line
            if isinstance(message, messages.Store | messages.Record):
                batch = decode_batch(message.batch)
                assert encode_batch(batch) == bytes(message.batch)
                if isinstance(message, messages.Record):
                    assert message.stamp == batch.largest_stamp()
        else:
            value = msgspec.json.decode(line, type=kind)
            assert msgspec.json.encode(value) == line

    def test_the_handshake_of_the_examples_is_a_real_one(self) -> None:
        lines = [_examples(kind)[0] for kind in (messages.Hello, messages.Challenge, messages.Proof)]
        hello, challenge, proof = map(codec.decode, lines)
        assert isinstance(hello, messages.Hello)
        assert isinstance(challenge, messages.Challenge)
        assert isinstance(proof, messages.Proof)
        secret = b"a secret of this cluster"
        text = PAGE.read_text("utf-8")
        assert f"{len(secret)} bytes `{secret.decode()}`" in text

        identity = Identity(hello.cluster, secret, hello.members, hello.boot)
        caller = Caller(
            identity,
            role=hello.role,
            node=hello.node,
            to=hello.to,
            port=hello.port,
            nonce=hello.nonce,
        )
        callee = Callee(
            identity,
            node=challenge.node,
            run=challenge.run,
            nonce=challenge.nonce,
            instance=challenge.instance,
        )
        assert caller.hello == hello
        assert callee.greet(hello, hello.port) == challenge
        assert caller.answer(challenge) == proof
        callee.verify(proof)

        # And as a client in another language would make it, from the page alone.
        [claims] = re.findall(r'^```\n(\["node", .*\])\n```$', text, re.MULTILINE)
        assert hmac.digest(secret, claims.encode(), "sha256").hex() == challenge.proof
        claims = claims.replace("node", "caller")
        assert hmac.digest(secret, claims.encode(), "sha256").hex() == proof.proof

    def test_its_limits_are_those_of_the_code(self) -> None:
        from dcounter.limits import Limits
        from dcounter.links.connection import HANDSHAKE_LINE

        text = PAGE.read_text("utf-8")
        limits = Limits()
        assert f"{limits.line // 2**20} MiB ({limits.line:,} bytes" in text
        assert f"{HANDSHAKE_LINE // 1024} KiB\n  ({HANDSHAKE_LINE:,} bytes)" in text
        assert f"{limits.handshake:g} s after the connection" in text
        assert f"heartbeat ({limits.heartbeat * 1000:g} ms)" in text
        assert f"a coordinator that was silent for {limits.idle:g} s" in text
        assert f"that was silent for {limits.suspicion:g} s" in text
