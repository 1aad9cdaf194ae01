"""
Reads the lines of a backup as rows of a ledger.

Exports write their lines in one way only, so that they can be read several times as fast as those of callers.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from dcounter.backups.form import Damaged
from dcounter.ledger.rows import Rows, Stamps

_SECOND: Final = 1_000_000_000
_FORM: Final = "0000-00-00T00:00:00.000000000Z"
_SHOWN: Final = len(_FORM)
_SECONDS: Final = _FORM.index(".")
_DIGITS: Final = [place for place, letter in enumerate(_FORM) if letter == "0"]
_MARKED: Final = [place for place, letter in enumerate(_FORM) if letter != "0"]
_MARKS: Final = np.frombuffer(_FORM.encode(), np.uint8)[_MARKED]
_POWERS: Final = 10 ** np.arange(8, -1, -1, dtype=np.int64)
_ZERO: Final = ord("0")
_NINE: Final = 9

_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class _Row(Struct, forbid_unknown_fields=True, gc=False):
    """
    A line: of an item if it has a tenant, else of an ID that is deleted.
    """

    ID: _Int64
    lastUpdateDt: str
    tenant: Annotated[str, Meta(min_length=1)] | None = None
    deleted: bool = False


_rows: Final = msgspec.json.Decoder(_Row).decode_lines
_row: Final = msgspec.json.Decoder(_Row).decode


def parse(lines: bytes, first: int) -> Rows:
    """
    Turn lines into rows.

    :param lines: each with its end.
    :param first: the number of the first one in its file.
    :raises Damaged: one of them is not as exports write it.
    """
    try:
        rows = _rows(lines)
        if len(rows) == lines.count(b"\n"):
            return _packed(rows)
    except (msgspec.DecodeError, ValueError, OverflowError):
        pass
    raise _mistake(lines, first)


def _packed(rows: Sequence[_Row]) -> Rows:
    """
    :raises ValueError: a row is not as exports write it.
    """
    tenants = [each.tenant for each in rows]
    if [each is None for each in tenants] != [each.deleted for each in rows]:
        raise ValueError("it needs either a tenant or the mark of a deleted one")
    ids = np.array([each.ID for each in rows], np.int64)
    stamps = _stamps([each.lastUpdateDt for each in rows])
    numbers: dict[str | None, int] = {}
    owners = np.array([numbers.setdefault(each, len(numbers)) for each in tenants], np.int32)
    return Rows(ids, stamps, owners, [*numbers])


def _stamps(shown: Sequence[str]) -> Stamps:
    """
    :raises ValueError: one of them is not a stamp as exports write it.
    """
    letters = np.frombuffer("".join(shown).encode("ascii"), np.uint8)
    if {*map(len, shown)} - {_SHOWN}:
        raise ValueError("its stamp is none that an export writes")
    letters = letters.reshape(-1, _SHOWN)
    if (letters[:, _MARKED] != _MARKS).any() or (letters[:, _DIGITS] - _ZERO > _NINE).any():
        raise ValueError("its stamp is none that an export writes")
    days = np.ascontiguousarray(letters[:, :_SECONDS]).view(f"S{_SECONDS}").astype("M8[s]")
    seconds: NDArray[np.int64] = days.view(np.int64)[:, 0]
    fraction = (letters[:, _SECONDS + 1 : -1] - _ZERO).astype(np.int64) @ _POWERS
    if (seconds < 0).any():
        raise ValueError("its stamp is before 1970")
    return seconds * _SECOND + fraction


def _mistake(lines: bytes, first: int) -> Damaged:
    """
    What is wrong with the first line that is.
    """
    for number, line in enumerate(lines.split(b"\n")[:-1], first):
        try:
            _packed([_row(line)])
        except (msgspec.DecodeError, ValueError, OverflowError) as error:
            return Damaged(f"is damaged in line {number:,}, which is no item: {error}")
    # Two items on one line.
    return Damaged(f"is damaged in the lines from {first:,} on, which are not one item each")
