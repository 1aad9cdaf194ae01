"""
How a load is cut into pieces, however its bytes arrive.
"""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.http.lines import LineCutter, Piece

MOST_BYTES, MOST_LINES = 12, 3


def cut(parts: Iterable[bytes], most_bytes: int = MOST_BYTES, most_lines: int = MOST_LINES) -> list[Piece]:
    cutter = LineCutter(most_bytes, most_lines)
    pieces = [piece for part in parts for piece in cutter.feed(part)]
    pieces += cutter.end()
    assert list(cutter.end()) == []
    assert cutter.next_line == 1 + sum(piece.lines for piece in pieces)
    return pieces


def lines_of(pieces: Iterable[Piece]) -> list[tuple[int, bytes | None]]:
    """
    Each line with its number; `None` for one that is too long.
    """
    found: list[tuple[int, bytes | None]] = []
    for piece in pieces:
        lines: list[bytes | None] = [*piece.data.splitlines(keepends=True)] or [None]
        assert len(lines) == piece.lines
        found.extend(enumerate(lines, piece.first))
    return found


def test_all_that_is_whole_leaves_at_once() -> None:
    cutter = LineCutter(MOST_BYTES, MOST_LINES)
    assert list(cutter.feed(b"a\nb\nc")) == [Piece(b"a\nb\n", 1, 2)]
    assert list(cutter.feed(b"")) == []
    assert list(cutter.feed(b"d\n")) == [Piece(b"cd\n", 3, 1)]
    assert list(cutter.end()) == []


def test_nothing_is_no_line() -> None:
    assert cut([]) == cut([b"", b""]) == []


def test_the_last_line_needs_no_end() -> None:
    assert cut([b"a\nb"]) == [Piece(b"a\n", 1, 1), Piece(b"b", 2, 1)]


def test_a_piece_has_its_bounds() -> None:
    assert cut([b"12345\n" * 5]) == [
        Piece(b"12345\n" * 2, 1, 2),
        Piece(b"12345\n" * 2, 3, 2),
        Piece(b"12345\n", 5, 1),
    ]
    assert max(piece.lines for piece in cut([b"\n" * 1_000])) == MOST_LINES
    # A long line in front of many short ones.
    assert lines_of(cut([b"1234567\n\n\n\n\n"])) == [(1, b"1234567\n"), *((i, b"\n") for i in range(2, 6))]


@pytest.mark.parametrize("end", [b"\n", b"\nb\n", b""])
@pytest.mark.parametrize("length", [MOST_BYTES - 1, MOST_BYTES, MOST_BYTES + 1, 5 * MOST_BYTES])
def test_a_line_may_be_as_long_as_a_piece(length: int, end: bytes) -> None:
    line = b"x" * length
    for parts in ([line + end], [line, end], [b"a\n" + line + end], [line[:5], line[5:] + end]):
        [found] = [each for each in lines_of(cut(parts)) if each[1] is None or each[1][:1] == b"x"]
        assert (found[1] is None) == (length >= MOST_BYTES)
        assert lines_of(cut(parts))[-1][1] in {found[1], b"b\n"}


@given(
    st.lists(st.binary(max_size=2 * MOST_BYTES).map(lambda line: line.replace(b"\n", b".")), max_size=12),
    st.booleans(),
    st.data(),
)
def test_it_does_not_matter_how_the_bytes_arrive(lines: list[bytes], ends: bool, data: st.DataObject) -> None:
    # splitlines knows another end of a line.
    whole = b"\n".join(lines).replace(b"\r", b".") + (b"\n" if ends else b"")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    pieces = cut(parts)
    assert lines_of(pieces) == [
        (number, line if len(line.rstrip(b"\n")) < MOST_BYTES else None)
        for number, line in enumerate(whole.splitlines(keepends=True), 1)
    ]
    assert all(len(piece.data) <= MOST_BYTES and piece.lines <= MOST_LINES for piece in pieces)


def test_at_every_byte() -> None:
    whole = b"ab\n\nx234567890123\nc\r\n\nlast"
    expected = lines_of(cut([whole]))
    assert [number for number, line in expected if line is None] == [3]
    for first in range(len(whole)):
        for second in range(first, len(whole)):
            assert lines_of(cut([whole[:first], whole[first:second], whole[second:]])) == expected
