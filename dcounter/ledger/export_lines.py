"""
Rows of a ledger as lines of JSON, in the form in which they can be stored again.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec
import numpy as np

from dcounter.ledger.rows import Ids, Stamps

_LINE: Final = b'{"ID":%d,"tenant":%b,"lastUpdateDt":"%b.%09dZ"}\n'
_DELETED: Final = b'{"ID":%d,"deleted":true%.0b,"lastUpdateDt":"%b.%09dZ"}\n'
_LINE_BYTES: Final = 80
"""
The most bytes of a line, without the name of its tenant.
"""

_SECOND: Final = 1_000_000_000

_lines_of: Final = msgspec.json.Encoder().encode_lines


class ExportedRows(NamedTuple):
    """
    Some rows of a ledger as lines.

    :ivar rows: how many lines there are.
    :ivar next: the number of the first row that was not looked at.
    """

    lines: bytes
    rows: int
    next: int


def fitting(names: Sequence[str], limit: float) -> int:
    """
    How many lines with these names fit into so many bytes; at least one. Characters count as one byte.
    """
    if _LINE_BYTES * len(names) + sum(map(len, names)) <= limit:
        return len(names)
    sizes = accumulate(_LINE_BYTES + len(name) for name in names)
    return max(1, sum(size <= limit for size in sizes))


def export_lines(ids: Ids, stamps: Stamps, names: Sequence[str]) -> bytes:
    """
    Turn rows into lines, in their order.

    :param names: of their tenants; empty for deleted IDs.
    """
    # Many rows share a second, and NumPy knows the calendar.
    seconds, nanoseconds = np.divmod(stamps, _SECOND)
    known, places = np.unique(seconds, return_inverse=True)
    shown: list[bytes] = np.datetime_as_string(known.view("M8[s]")).astype(bytes).tolist()
    number = len(names)
    values: list[int | bytes] = [0] * (4 * number)
    values[0::4] = ids.tolist()
    # One call for all names is three times as fast as one for each. No name has a line break in JSON.
    values[1::4] = _lines_of(names).split(b"\n")[:number]
    values[2::4] = map(shown.__getitem__, places.tolist())
    values[3::4] = nanoseconds.tolist()
    # And one format for all lines is as fast again.
    form = b"".join([_LINE if name else _DELETED for name in names]) if "" in names else _LINE * number
    return form % tuple(values)
