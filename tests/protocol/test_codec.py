"""
Bytes to lines.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.errors import MalformedMessage
from dcounter.protocol.codec import LineSplitter


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
