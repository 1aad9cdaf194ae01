"""
The lines of a journal: a batch's line as it went over the wire, with a checksum before it.
"""

import zlib
from dataclasses import dataclass

from dcounter.errors import CorruptJournal


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One line of a journal, and the batch it holds.

    :ivar node: with `run` the origin, whose `number`-th batch it is; all 0 if the line holds none.
    """

    line: bytes
    node: int = 0
    run: int = 0
    number: int = 0


def frame(entry: Entry) -> bytes:
    """
    An entry as a line of a segment.
    """
    checked = b"%d %d %d %d %s" % (len(entry.line), entry.node, entry.run, entry.number, entry.line)
    return b"%08x %s\n" % (zlib.crc32(checked), checked)


def unframe(line: bytes) -> Entry | None:
    """
    A line of a segment, without its end, as an entry; `None` if it is not what was written.
    """
    code, _, checked = line.partition(b" ")
    if len(code) != 8 or code != b"%08x" % zlib.crc32(checked):
        return None
    length, node, run, number, body = checked.split(b" ", 4)
    return Entry(body, int(node), int(run), int(number)) if int(length) == len(body) else None


def scan(data: bytes) -> tuple[list[Entry], int]:
    """
    The entries at the beginning of a file.

    :returns: the entries, and the size (bytes) of the part of the file that they take.
    :raises CorruptJournal: something damaged is followed by something that is not.
    """
    *lines, _torn = data.split(b"\n")
    entries: list[Entry] = []
    size = 0
    for place, line in enumerate(lines):
        entry = unframe(line)
        if entry is None:
            if any(unframe(later) for later in lines[place + 1 :]):
                raise CorruptJournal(f"damaged at byte {size}, and valid lines follow")
            break
        entries.append(entry)
        size += len(line) + 1
    return entries, size
