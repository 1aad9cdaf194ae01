"""
Compressed bodies, as they arrive, and those that are bombs.
"""

import gzip
import zlib
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter import zstd
from dcounter.errors import MalformedBody
from dcounter.http.decoding import decoder_for
from dcounter.http.limits import HttpLimits
from dcounter.http.problems import ExpandsTooMuch, UnsupportedEncoding

MEBIBYTE = 2**20
COMPRESS: dict[str, Any] = {"gzip": gzip.compress, "zstd": zstd.compress}
BOTH = pytest.mark.parametrize("encoding", COMPRESS)


def decode(encoding: str, parts: Iterable[bytes], **limits: Any) -> bytes:
    decoder = decoder_for({b"content-encoding": [encoding.encode()]}, HttpLimits(**limits))
    decoded = b""
    for part in parts:
        for found in decoder.feed(part):
            assert len(found) <= 64 * 1024
            decoded += found
    decoder.end()
    return decoded


@given(st.sampled_from([*COMPRESS]), st.data())
def test_arrive_in_any_parts(encoding: str, data: st.DataObject) -> None:
    plain = data.draw(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
    # Several one after the other are one body.
    whole = b"".join(map(COMPRESS[encoding], plain))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert decode(encoding, parts) == b"".join(plain)


@given(st.data())
def test_zeros_after_gzip_are_nothing(data: st.DataObject) -> None:
    # As gzip itself, Python and tar have it.
    zeros = st.integers(0, 20).map(bytes)
    whole = b"".join(
        gzip.compress(data.draw(st.binary(max_size=50))) + data.draw(zeros)
        for _ in range(data.draw(st.integers(1, 3)))
    )
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert decode("gzip", parts) == gzip.decompress(whole)


@pytest.mark.parametrize(
    ("encoding", "whole"),
    [
        # Without the time of day: the names of these tests are the same in all processes that run them.
        ("gzip", b"\0" + gzip.compress(b"a", mtime=0)),
        ("gzip", gzip.compress(b"a", mtime=0) + b"\0\0x"),
        ("zstd", zstd.compress(b"a") + b"\0"),
    ],
)
def test_other_bytes_around_it_are_refused(encoding: str, whole: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode(encoding, [whole])


@BOTH
def test_what_comes_of_one_part_is_cut(encoding: str) -> None:
    plain = bytes(range(256)) * 4_000
    assert decode(encoding, [COMPRESS[encoding](plain)]) == plain


@BOTH
def test_one_that_is_not_whole_is_refused(encoding: str) -> None:
    whole = COMPRESS[encoding](b"something")
    for end in range(1, len(whole)):
        with pytest.raises(MalformedBody, match="in the middle"):
            decode(encoding, [whole[:end]])
    assert decode(encoding, []) == b""


@BOTH
@pytest.mark.parametrize("bad", [b"[1]" * 10, zlib.compress(b"zlib"), b"\x1f\x8b\x08\x20" + b"\xff" * 20])
def test_what_is_something_else_is_refused(encoding: str, bad: bytes) -> None:
    with pytest.raises(MalformedBody, match=encoding):
        decode(encoding, [bad])
    with pytest.raises(MalformedBody, match=encoding):
        decode(encoding, [COMPRESS[encoding](b"good") + bad])


@BOTH
def test_a_wrong_checksum_is_refused(encoding: str) -> None:
    options: Any = {zstd.CompressionParameter.checksum_flag: 1}
    whole = gzip.compress(b"good") if encoding == "gzip" else zstd.compress(b"good", options=options)
    at = len(whole) - (5 if encoding == "gzip" else 1)
    with pytest.raises(MalformedBody):
        decode(encoding, [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]])


@BOTH
def test_bombs_are_refused_before_they_explode(encoding: str) -> None:
    bomb = COMPRESS[encoding](bytes(64 * MEBIBYTE))
    decoder = decoder_for({b"content-encoding": [encoding.encode()]}, HttpLimits())
    parts: list[bytes] = []
    with pytest.raises(ExpandsTooMuch, match="500 times"):
        parts.extend(decoder.feed(bomb))
    assert len(b"".join(parts)) <= max(MEBIBYTE, 500 * len(bomb)) < 64 * MEBIBYTE


@BOTH
def test_bombs_one_after_the_other_are_refused_too(encoding: str) -> None:
    with pytest.raises(ExpandsTooMuch):
        decode(encoding, [COMPRESS[encoding](bytes(8 * MEBIBYTE))] * 10)


@BOTH
def test_a_little_may_expand_much(encoding: str) -> None:
    plain = b'{"ID":1,"tenant":"a"}\n' * (MEBIBYTE // 22)
    assert decode(encoding, [COMPRESS[encoding](plain)], max_expansion=1) == plain


@BOTH
def test_the_whole_is_bounded(encoding: str) -> None:
    plain = bytes(1_000)
    assert decode(encoding, [COMPRESS[encoding](plain)], max_decoded_bytes=1_000) == plain
    with pytest.raises(ExpandsTooMuch, match="999 bytes"):
        decode(encoding, [COMPRESS[encoding](plain)], max_decoded_bytes=999)


@pytest.mark.parametrize(
    ("encoding", "empty"),
    [
        ("gzip", gzip.compress(b"", mtime=0)),
        ("zstd", zstd.compress(b"")),
        # One that is to be skipped.
        ("zstd", b"\x50\x2a\x4d\x18" + bytes(4)),
    ],
)
def test_others_have_their_turn_between_streams_without_content(encoding: str, empty: bytes) -> None:
    decoder = decoder_for({b"content-encoding": [encoding.encode()]}, HttpLimits())
    assert list(decoder.feed(empty * 1_000)) == [b""] * 1_000
    decoder.end()


def test_zstd_may_not_ask_for_much_memory() -> None:
    def compressed(window_log: int) -> bytes:
        options: Any = {zstd.CompressionParameter.window_log: window_log}
        compressor = zstd.ZstdCompressor(options=options)
        # In two steps: the window of one that knows its size is as small as that.
        return compressor.compress(bytes(1_000)) + compressor.flush()

    assert decode("zstd", [compressed(23)]) == bytes(1_000)
    with pytest.raises(MalformedBody, match="memory"):
        decode("zstd", [compressed(24)])


@pytest.mark.parametrize(
    ("values", "known"),
    [
        ([], True),
        ([b""], True),
        ([b"identity"], True),
        ([b"GZIP"], True),
        ([b"x-gzip"], True),
        ([b"identity, zstd"], True),
        ([b"identity", b"zstd"], True),
        ([b"br"], False),
        ([b"gzip, gzip"], False),
        ([b"gzip", b"zstd"], False),
        ([b"deflate"], False),
        ([b"\xff"], False),
    ],
)
def test_the_header_says_which(values: list[bytes], known: bool) -> None:
    headers = {b"content-encoding": values} if values else {}
    if known:
        decoder_for(headers, HttpLimits())
        return
    with pytest.raises(UnsupportedEncoding, match="one of gzip, zstd") as refused:
        decoder_for(headers, HttpLimits())
    assert refused.value.headers() == [(b"Accept-Encoding", b"gzip, zstd, identity")]


def test_no_encoding_is_nothing_to_do() -> None:
    decoder = decoder_for({}, HttpLimits())
    assert list(decoder.feed(b"as it is")) == [b"as it is"]
    decoder.end()
