"""
Finds the bit of a record that was changed, by its checksum.

A CRC is linear: what a changed bit does to it depends only on how far it is from the end. So the difference
between the checksum that is there and the right one tells which bit it was, if it was only one.
"""

import zlib
from typing import Final

_POLYNOMIAL: Final = 0xEDB88320
_MOST: Final = 4 * 2**20
"""
The longest record in which a bit is looked for: that takes some tenths of a second per MiB.
"""

_CODE: Final = 8


def _table() -> list[int]:
    """
    What a byte does to the register of the CRC.
    """
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE: Final = _table()
# Its highest bytes are all different: so a step can be undone.
_BY_HIGHEST: Final = {value >> 24: byte for byte, value in enumerate(_TABLE)}
_OF_BIT: Final = {_TABLE[1 << bit]: bit for bit in range(8)}


def flipped_byte(line: bytes) -> tuple[int, int] | None:
    """
    The byte of a damaged record in which one bit was changed.

    :param line: the record, without the end of its line.
    :returns: its place and what it was; `None` if more was changed.
    """
    if len(line) < _CODE + 2 or len(line) > _MOST:
        return None
    code, checked = line[:_CODE], line[_CODE + 1 :]
    right = b"%08x" % zlib.crc32(checked)
    if code != right:
        changed = [place for place in range(_CODE) if code[place] != right[place]]
        if len(changed) == 1 and (code[changed[0]] ^ right[changed[0]]).bit_count() == 1:
            return changed[0], right[changed[0]]
    elif line[_CODE] != ord(" "):
        return _CODE, ord(" ")
    try:
        wanted = int(code, 16) ^ zlib.crc32(checked)
    except ValueError:
        return None
    for place in range(len(checked) - 1, -1, -1):
        bit = _OF_BIT.get(wanted)
        if bit is not None:
            return _CODE + 1 + place, checked[place] ^ 1 << bit
        byte = _BY_HIGHEST[wanted >> 24]
        wanted = (wanted ^ _TABLE[byte]) << 8 & 0xFFFFFFFF | byte
    return None
