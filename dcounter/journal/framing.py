"""
The framing of a journal's lines: each is a line as it went over the wire, behind a checksum and a length.

A file of a later format than 1 begins with a line that gives its format: the lowest one whose readers make of
the file what was meant. A file of format 1 begins with a record at once, as all files of release 0.1.0 do:
what is written in this format, that release can read as well.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dcounter.errors import CorruptJournal

FORMAT = 1
"""
The format that this version of dcounter writes, and the highest that it reads.
"""

_HEADER = re.compile(rb'\{"type":"journal","format":([1-9][0-9]{0,8})\}')


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """
    One line of a journal, and which batch it holds.

    :ivar line: the message, without a line end.
    :ivar node: with `run` the origin of the batch, which is its `number`-th; 0 if the line holds no batch.
    """

    line: bytes
    node: int = 0
    run: int = 0
    number: int = 0


def frame(entry: JournalEntry) -> bytes:
    """
    An entry as a line of a segment.
    """
    checked = b"%d %d %d %d %s" % (len(entry.line), entry.node, entry.run, entry.number, entry.line)
    return b"%08x %s\n" % (zlib.crc32(checked), checked)


def unframe(line: bytes) -> JournalEntry | None:
    """
    A line of a segment, without its end, as an entry; `None` if it is damaged.
    """
    code, _, checked = line.partition(b" ")
    if len(code) != 8 or code != b"%08x" % zlib.crc32(checked):
        return None
    try:
        length, node, run, number, body = checked.split(b" ", 4)
        entry = JournalEntry(body, int(node), int(run), int(number))
        return entry if int(length) == len(body) else None
    except ValueError:
        # The checksum of nothing is 0: "00000000" is such a line.
        return None


def header(file_format: int) -> bytes:
    """
    What a file of a format begins with.
    """
    if file_format == 1:
        return b""
    # Release 0.1.0 takes it for a message that it does not know, and says so: a newer version wrote it.
    return frame(JournalEntry(b'{"type":"journal","format":%d}' % file_format))


def format_of(line: bytes) -> int | None:
    """
    The format that a line gives, without its checksum; `None` if it is no header.
    """
    found = _HEADER.fullmatch(line)
    return None if found is None else int(found[1])


def unframe_all(parts: Iterable[bytes]) -> Iterator[tuple[JournalEntry | None, int]]:
    """
    Each line of a file as an entry, with the size (bytes) of the file up to the line's end.

    A damaged line is `None`, and so is a last line without an end.

    :param parts: the file, cut anywhere.
    """
    end = 0
    rest = b""
    for part in parts:
        data = rest + part
        start = 0
        while (stop := data.find(b"\n", start)) >= 0:
            end += stop + 1 - start
            yield unframe(data[start:stop]), end
            start = stop + 1
        rest = data[start:]
    if rest:
        yield None, end + len(rest)


def scan(parts: Iterable[bytes]) -> Iterator[tuple[JournalEntry | None, int]]:
    """
    The entries of a file as `unframe_all` gives them, but a torn tail is a single `None`.

    :raises CorruptJournal: a damaged line is followed by a valid one.
    """
    size = 0
    lines = unframe_all(parts)
    for entry, end in lines:
        if entry is None:
            rest = [end]
            for later, last in lines:
                if later is not None:
                    raise CorruptJournal(f"damaged at byte {size}, and valid lines follow")
                rest.append(last)
            yield None, rest[-1]
        else:
            size = end
            yield entry, end


def unframe_begin(begin: bytes) -> tuple[bytes, int] | None:
    """
    The beginning of the message in a line, and the line's size (bytes) without its end.

    :param begin: the beginning of a line.
    :returns: `None` if it is not that.
    """
    try:
        _, length, _, _, _, body = begin.split(b" ", 5)
        size = int(length)
    except ValueError:
        return None
    return (body, len(begin) - len(body) + size) if size >= 0 else None
