"""
The lines of a journal: a batch's line as it went over the wire, with a checksum before it.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from dcounter.errors import CorruptJournal


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One line of a journal, and the batch it holds.

    :ivar line: without the line's end, as all messages are.
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
    try:
        length, node, run, number, body = checked.split(b" ", 4)
        entry = Entry(body, int(node), int(run), int(number))
        return entry if int(length) == len(body) else None
    except ValueError:
        # The checksum of nothing is 0: "00000000" is such a line.
        return None


def unframe_all(data: bytes) -> Iterator[tuple[Entry | None, int]]:
    """
    Each whole line of a file as an entry (`None` if it is none), with the size of the file up to its end.
    """
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield unframe(data[start:end]), end + 1
        start = end + 1


def scan(data: bytes) -> tuple[list[Entry], int]:
    """
    The entries at the beginning of a file; what follows them was never written whole.

    :returns: the entries, and the size (bytes) of the part of the file that they take.
    :raises CorruptJournal: something damaged is followed by something that is not.
    """
    entries: list[Entry] = []
    size = 0
    lines = unframe_all(data)
    for entry, end in lines:
        if entry is None:
            if any(later is not None for later, _ in lines):
                raise CorruptJournal(f"damaged at byte {size}, and valid lines follow")
            break
        entries.append(entry)
        size = end
    return entries, size
