"""
The question for a piece of an export, and its answer.

A node keeps nothing of an export. Its ledger gives each ID a row, which the ID keeps, so a coordinator asks
for row after row. The coordinator decides when, and may stop at any time.
"""

from typing import Annotated

from msgspec import Meta, Struct

from dcounter.protocol.batch import Natural

Rows = Annotated[int, Meta(ge=1, le=1_000_000)]


class Export(Struct, frozen=True, tag="export", omit_defaults=True):
    """
    Asks for rows of the ledger, as lines that can be stored again.

    It is sent only to a node with the feature `export`.

    :ivar first: the number of the first row, from 0.
    :ivar rows: how many rows to look at, at most.
    :ivar numbering: which numbers are meant, from the answer to the first piece; `None` for that piece.
    :ivar deleted: whether IDs that are deleted have lines, too.
    :ivar prefixes: only items of tenants whose names begin with one of these; none: of all tenants.
    """

    first: Natural
    rows: Rows
    numbering: Natural | None = None
    deleted: bool = False
    prefixes: list[str] = []


class Exported(Struct, frozen=True, tag="export"):
    """
    The rows, as they are now.

    :ivar lines: one line of JSON per row, as `POST /items` of HTTP takes them.
    :ivar rows: how many lines there are.
    :ivar next: the number of the first row that was not looked at.
    :ivar end: the number behind the last row that there is now.
    :ivar items: how many lines all rows together would have now, if those of all tenants were wanted.
    :ivar numbering: which numbers these are. With others, the answer is `Declined`.
    """

    lines: bytes
    rows: Natural
    next: Natural
    end: Natural
    items: Natural
    numbering: Natural
