"""
Cuts the lines of a load into pieces that are stored together.

Pure: bytes go in, pieces come out.
"""

from collections.abc import Iterator

from msgspec import Struct


class Piece(Struct, frozen=True):
    """
    Some whole lines of a load.

    :ivar data: the lines, each with its end; the last line of a load may have none. Empty if the piece is one
        line that is too long.
    :ivar first: the number of its first line, from 1.
    :ivar lines: how many there are.
    """

    data: bytes
    first: int
    lines: int


class LineCutter:
    """
    Cuts what arrives of a load into pieces.

    It does not wait until a piece is full: all whole lines that are here leave at once. So pieces are large
    if lines arrive faster than they are stored, and lines of a slow caller do not wait.

    :param max_bytes: the most bytes of a piece, and so of a line, its end included.
    :param max_lines: the most lines of a piece.
    :ivar next_line: the number of the first line that is in no piece yet.
    """

    def __init__(self, max_bytes: int, max_lines: int) -> None:
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._rest = b""
        # Whether the line that is arriving was too long already.
        self._skipping = False
        self.next_line = 1

    def feed(self, data: bytes) -> Iterator[Piece]:
        """
        Take what arrived, and cut off what is whole. All pieces must be taken before more is fed.
        """
        at = 0
        if self._skipping:
            at = data.find(b"\n") + 1
            if not at:
                return
            self._skipping = False
        elif self._rest:
            data = self._rest + data
        while True:
            end = self._end(data, at)
            if end:
                yield self._piece(data[at:end], data.count(b"\n", at, end))
                at = end
                continue
            if len(data) - at < self._max_bytes:
                self._rest = data[at:]
                return
            yield self._piece(b"", 1)
            at = data.find(b"\n", at) + 1
            if not at:
                self._rest = b""
                self._skipping = True
                return

    def end(self) -> Iterator[Piece]:
        """
        Take the last line, if it has no end.
        """
        rest, self._rest = self._rest, b""
        if rest:
            yield self._piece(rest, 1)

    def _end(self, data: bytes, at: int) -> int:
        """
        The end of the next piece in `data`; 0 if no line ends within its bounds.
        """
        end = data.rfind(b"\n", at, at + self._max_bytes) + 1
        if data.count(b"\n", at, end) > self._max_lines:
            end -= len(data[at:end].split(b"\n", self._max_lines)[-1])
        return end

    def _piece(self, data: bytes, lines: int) -> Piece:
        piece = Piece(data, self.next_line, lines)
        self.next_line += lines
        return piece
