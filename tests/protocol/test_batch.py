"""
What a node journals under one number.
"""

import base64
import json
import struct
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from dcounter.errors import MalformedMessage, UnknownNeeds
from dcounter.ledger.rows import Rows
from dcounter.protocol import codec, copies, messages
from dcounter.protocol.batch import Batch, decode_batch, encode_batch
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.position import Position
from tests.protocol.drawn import any_batches, batches


def _piece(columns: dict[str, Any], more: bytes = b"") -> bytes:
    """
    A chunk of a copy as a line; `more` bytes follow each column of numbers.
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
        assert list(Rows(*columns).entries()) == list(zip(*batch.rows(), strict=True))
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


class TestAdditions:
    """
    What a newer version adds to a batch.
    """

    PLAIN: ClassVar[dict[str, Any]] = {
        "slices": [1, 1],
        "ids": [1, 2],
        "tenants": ["a", "b"],
        "bases": [5, 7],
    }

    @pytest.mark.parametrize(
        "more",
        [{"notes": ["x", None]}, {"space": "eu"}, {"weights": "AQAAAAAAAAACAAAAAAAAAA=="}, {"needs": []}],
    )
    def test_what_it_does_not_need_is_ignored(self, more: dict[str, Any]) -> None:
        assert decode_batch(json.dumps(self.PLAIN | more).encode()) == Batch(
            [1, 1], [1, 2], ["a", "b"], bases=[5, 7]
        )

    def test_what_it_needs_and_is_not_known_is_refused(self) -> None:
        raw = json.dumps(self.PLAIN | {"weights": [2, 3], "needs": ["weight", "expiry"]}).encode()
        with pytest.raises(
            UnknownNeeds, match="does not know what the batch needs: weight, expiry"
        ) as refused:
            decode_batch(raw)
        assert refused.value.slices == 2

    def test_a_copy_that_needs_what_is_not_known_is_refused_too(self) -> None:
        plain = codec.encode(copies.CopyBegin(Position(), {}, []))
        line = plain.removesuffix(b"}") + b',"needs":["weight"]}'
        for decode in (codec.decode_between_nodes, codec.decode_kept):
            assert decode(plain) == copies.CopyBegin(Position(), {}, [])
            with pytest.raises(MalformedMessage, match="does not know what the copy needs: weight"):
                decode(line)

    def test_packing_keeps_what_it_needs(self) -> None:
        assert Batch([1], [1], ["a"], bases=[1], needs=["weight"]).pack().needs == ["weight"]
