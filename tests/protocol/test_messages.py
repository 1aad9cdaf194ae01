"""
Messages: who may say which and when, and what becomes of whatever else arrives.
"""

import json
from collections.abc import Callable
from itertools import product
from typing import Any, get_args, get_overloads, get_type_hints

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from dcounter.errors import MalformedMessage, PeerError
from dcounter.links.link import Link
from dcounter.protocol import codec, compaction, copies, messages, questions, scraping, watching
from dcounter.protocol.batch import decode_batch, encode_batch
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.messages import Message
from tests.protocol.drawn import MESSAGES, STRATEGIES, any_message, decode_line, nonces, texts


def test_what_journals_keep_is_not_what_is_sent() -> None:
    standing = codec.encode(messages.JournalState(known=True, wiped=False))
    with pytest.raises(MalformedMessage, match="not a message"):
        codec.decode(standing)
    with pytest.raises(MalformedMessage, match="not a line of a journal"):
        codec.decode_kept(codec.encode(messages.Welcome()))


def test_no_message_is_forgotten() -> None:
    assert set(STRATEGIES) == set(MESSAGES)


COORDINATORS: set[type[Any]] = {
    messages.Store,
    messages.Count,
    questions.Ask,
    questions.Withdraw,
    messages.Await,
    watching.Watch,
    messages.Remove,
    compaction.SetFloor,
    compaction.Compact,
    scraping.Scrape,
    messages.Beat,
}
ANSWERS: set[type[Any]] = {
    messages.Stored,
    messages.Counted,
    questions.Told,
    messages.Awaited,
    watching.Changed,
    compaction.Agreed,
    scraping.Scraped,
    messages.Report,
}
NODES: set[type[Any]] = {
    messages.Report,
    messages.Follow,
    messages.Unfollow,
    messages.Record,
    messages.Gap,
    copies.Copy,
    copies.CopyBegin,
    copies.CopyChunk,
    copies.CopyEnd,
}
MOMENTS: list[tuple[Callable[[bytes], object], set[type[Any]]]] = [
    (codec.decode_hello, {messages.Hello}),
    (codec.decode_challenge, {messages.Challenge}),
    (codec.decode_proof, {messages.Proof}),
    (codec.decode_welcome, {messages.Welcome}),
    (codec.decode_from_coordinator, COORDINATORS),
    (codec.decode_to_coordinator, ANSWERS),
    (codec.decode_between_nodes, NODES),
]


# All in one: pytest-twisted wraps a property again for every parameter.
@given(st.tuples(*STRATEGIES.values()))
def test_only_what_fits_the_moment_may_be_said_and_farewell(
    of_each_class: tuple[Message, ...],
) -> None:
    for (decode, may), message in product(MOMENTS, of_each_class):
        line = codec.encode(message)
        if type(message) in {*may, messages.Farewell}:
            assert decode(line) == message
        else:
            with pytest.raises(MalformedMessage, match=r"Invalid value '\w+' - at `\$.type`"):
                decode(line)


def test_every_request_has_its_reply_and_the_link_knows_which() -> None:
    assert set(messages.REPLIES) == set(get_args(messages.Request))
    assert set(messages.REPLIES.values()) == set(get_args(messages.Reply))
    # What type checkers are told is what happens; the last one is for those that do not know the request.
    told: dict[type[Any], type[Any]] = {}
    *overloads, general = get_overloads(Link.ask)
    assert get_type_hints(general)["return"] == Deferred[Any]
    for overload in overloads:
        hints = get_type_hints(overload)
        [reply] = get_args(hints["return"])
        if reply is Any:
            # For callers that are told which kind of question they ask.
            continue
        _, made = get_args(hints["make"])
        told |= dict.fromkeys(get_args(made) or (made,), reply)
    assert told == messages.REPLIES


class TestMessages:
    @given(st.tuples(*STRATEGIES.values()))
    def test_survive_encode_and_decode_on_one_line(self, of_each_class: tuple[Message, ...]) -> None:
        for kind, message in zip(STRATEGIES, of_each_class, strict=True):
            line = codec.encode(message)
            decoded = decode_line(kind, line)

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
    columns = packed[:3] if packed else batch.rows()
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


class TestQuestions:
    def test_each_has_an_answer_with_its_tag(self) -> None:
        assert set(questions.ANSWERS) == set(get_args(questions.Question))
        assert {*questions.ANSWERS.values(), questions.Declined} == set(get_args(questions.Answer))
        for kind, answer in questions.ANSWERS.items():
            assert kind.__struct_config__.tag == answer.__struct_config__.tag
