"""
The first and the last line of an export, and what a load makes of them.

Pure.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from dcounter.http.lines import Piece

FORM: Final = 1
"""
The form of the lines. A number that this version does not know is refused.
"""

HEADER_BEGIN: Final = b'{"export":'
END_BEGIN: Final = b'{"end":'
"""
How the first and the last line begin.
"""

_BLANK: Final = b" \t\r\n"
_T = TypeVar("_T")


class Header(Struct, frozen=True):
    """
    The first line of an export.

    :ivar export: the form of the lines that follow, `FORM`.
    :ivar position: what they include at least.
    :ivar items: about how many follow; left out if only some tenants are exported.
    :ivar deleted: whether IDs that are deleted are among them.
    :ivar complete: `False` if the export is not exact; left out if it is.
    :ivar missing: ids of the nodes whose items may be missing; left out if it is exact.
    """

    export: int
    position: str
    items: int | UnsetType = UNSET
    deleted: bool = False
    complete: bool | UnsetType = UNSET
    missing: Sequence[int] | UnsetType = UNSET


class End(Struct, frozen=True):
    """
    The last line of an export. Without it, lines are missing.

    :ivar rows: how many lines there are between the first one and this.
    """

    end: bool
    rows: int


_begin = msgspec.json.Decoder(Header)
_end = msgspec.json.Decoder(End)


class Dump:
    """
    Tells the lines of an export that are no items from those that are, in a load.
    """

    def __init__(self) -> None:
        self._header: Header | None = None
        self._end: End | None = None

    def unknown_form(self, piece: Piece) -> str:
        """
        Why the first line of a load is that of an export which this version cannot read; empty if it is not.
        """
        header = self._header_of(piece)
        if header is None or header.export == FORM:
            return ""
        return (
            f"is that of an export of the form {header.export}, and this release reads only the form {FORM}"
        )

    def items_of(self, piece: Piece) -> Piece:
        """
        A piece without the first and the last line of an export; it may have no lines left.

        A line that looks like one of them and is not stays, and is refused as an item.
        """
        header = self._header_of(piece)
        if header is not None and header.export == FORM:
            self._header = header
            piece = Piece(piece.data.partition(b"\n")[2], piece.first + 1, piece.lines - 1)
        return piece if self._header is None or self._end is not None else self._without_end(piece)

    @staticmethod
    def _header_of(piece: Piece) -> Header | None:
        if piece.first == 1 and piece.data.startswith(HEADER_BEGIN):
            return _read(_begin, piece.data.partition(b"\n")[0])
        return None

    def _without_end(self, piece: Piece) -> Piece:
        whole = piece.data.rstrip(_BLANK)
        at = whole.rfind(b"\n") + 1
        if whole.startswith(END_BEGIN, at):
            self._end = _read(_end, whole[at:])
        if self._end is None:
            return piece
        rest = piece.data[:at]
        return Piece(rest, piece.first, rest.count(b"\n"))

    def fault(self, rows: int) -> str:
        """
        Why the load is not a whole export; empty if it is, or is none at all.

        :param rows: how many lines with items it had.
        """
        if self._header is None:
            return ""
        if self._end is None:
            return "its last line, which tells how many others there are, is missing"
        if self._end.rows != rows:
            return f"its last line tells of {self._end.rows} lines with items, and {rows} came"
        return ""


def _read(decoder: msgspec.json.Decoder[_T], line: bytes) -> _T | None:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
