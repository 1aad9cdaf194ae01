"""
What an answer of a `dcounter.store.Store` has, whatever the question; and exports.

It is public by way of `dcounter.store`, which exports all of it.
"""

from collections.abc import AsyncGenerator, Sequence

from msgspec import Struct


class Answered(Struct, frozen=True, kw_only=True):
    """
    What belongs to every answer but a single count, which has the same as a `Count`.

    :ivar position: the token with which later answers do not go back behind this one.
    :ivar complete: whether it includes every write that was answered before it was asked.
    :ivar missing: ids of the nodes whose items may be missing from it, if it is not complete.
    """

    position: str
    complete: bool = True
    missing: Sequence[int] = ()


class ExportPiece(Struct, frozen=True):
    """
    Some items of an export.

    :ivar lines: a line of JSON for each of them, as `POST /items` takes it.
    :ivar rows: how many lines there are.
    """

    lines: bytes
    rows: int


class Export(Answered, frozen=True, kw_only=True):
    """
    Everything that is stored, piece by piece.

    Each item is there exactly once, as it was at `position` or later. IDs that are new since then may be
    missing.

    :ivar items: how many there will be, about; `None` if only some were asked for.
    :ivar pieces: the items. They are read no faster than they are taken. It raises `AnswerBroken` if the rest
        cannot be had; to be closed if no more is wanted.
    """

    items: int | None
    pieces: AsyncGenerator[ExportPiece, None]
