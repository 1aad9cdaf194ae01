"""
Writes a backup.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from dcounter import zstd
from dcounter.backups.form import SECTION_BYTES, End, Head, encode_end, encode_head, seal
from dcounter.backups.parsing import parse
from dcounter.backups.summary import Summary

_OPTIONS: Final[Mapping[int, int]] = {zstd.CompressionParameter.checksum_flag: 1}


class Writer:
    """
    Makes a backup of the lines of an export.

    :param write: takes the bytes of the file.
    :param compressed: whether they are to be compressed.
    :ivar rows: how many lines with items it has so far.
    :ivar size: bytes of the file so far.
    """

    def __init__(self, head: Head, write: Callable[[bytes], object], *, compressed: bool = True) -> None:
        self.rows = 0
        self.size = 0
        self._write = write
        self._compressed = compressed
        self._summary = Summary()
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._head = encode_head(head)
        self._lines: list[bytes] = []
        self._waiting = 0

    def add(self, lines: bytes) -> None:
        """
        Add lines with items.

        :param lines: whole ones.
        :raises Damaged: a line is not as exports write it.
        """
        self.rows += lines.count(b"\n")
        self._lines.append(lines)
        self._waiting += len(lines)
        if self._waiting >= SECTION_BYTES:
            section = self._section()
            self._plain.update(section)
            self._emit(section)

    def end(self, finished: str) -> End:
        """
        Write the last line, and what belongs behind it.

        :param finished: the time (RFC 3339).
        :raises Damaged: a line is not as exports write it.
        """
        section = self._section()
        summary = self._summary
        end = End(
            end=True,
            rows=summary.rows,
            items=summary.items,
            tombstones=summary.tombstones,
            tenants=summary.tenants,
            digest=summary.digest,
            finished=finished,
        )
        before, after = encode_end(end)
        self._plain.update(section + before)
        sha256 = self._plain.hexdigest()
        self._emit(b"".join([section, before, sha256.encode(), after]))
        if self._compressed:
            self._put(seal(self._packed.hexdigest()))
        return replace(end, sha256=sha256)

    def _section(self) -> bytes:
        """
        Count the lines that wait, and take them.
        """
        lines = b"".join(self._lines)
        # Many at once: that is several times as fast. The first line of the file is the one before all items.
        self._summary.add(parse(lines, self._summary.rows + 2))
        self._lines.clear()
        self._waiting = 0
        head, self._head = self._head, b""
        return head + lines

    def _emit(self, plain: bytes) -> None:
        if not self._compressed:
            self._put(plain)
            return
        frame = zstd.compress(plain, options=_OPTIONS)
        self._packed.update(frame)
        self._put(frame)

    def _put(self, data: bytes) -> None:
        self.size += len(data)
        self._write(data)
