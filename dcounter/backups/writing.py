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
from dcounter.backups.tally import Tally

_OPTIONS: Final[Mapping[int, int]] = {zstd.CompressionParameter.checksum_flag: 1}


class Writer:
    """
    Makes a backup of the lines of an export.

    :param write: takes the bytes of the file.
    :param compressed: whether they are to be compressed.
    :ivar tally: what it holds so far.
    :ivar size: bytes of the file so far.
    """

    def __init__(self, head: Head, write: Callable[[bytes], object], *, compressed: bool = True) -> None:
        self.tally = Tally()
        self.size = 0
        self._write = write
        self._compressed = compressed
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._lines: list[bytes] = [encode_head(head)]
        self._waiting = 0

    def add(self, lines: bytes) -> None:
        """
        Add lines with items.

        :param lines: whole ones.
        :raises Damaged: a line is not as exports write it.
        """
        # The first line of the file is the one before all items.
        self.tally.add(parse(lines, self.tally.rows + 2))
        self._lines.append(lines)
        self._waiting += len(lines)
        if self._waiting >= SECTION_BYTES:
            self._flush()

    def end(self, finished: str) -> End:
        """
        Write the last line, and what belongs behind it.

        :param finished: the time (RFC 3339).
        """
        tally = self.tally
        end = End(
            end=True,
            rows=tally.rows,
            items=tally.items,
            tombstones=tally.tombstones,
            tenants=tally.tenants,
            digest=tally.digest,
            finished=finished,
        )
        before, after = encode_end(end)
        self._lines.append(before)
        for each in self._lines:
            self._plain.update(each)
        sha256 = self._plain.hexdigest()
        self._emit(b"".join([*self._lines, sha256.encode(), after]))
        if self._compressed:
            self._put(seal(self._packed.hexdigest()))
        return replace(end, sha256=sha256)

    def _flush(self) -> None:
        whole = b"".join(self._lines)
        self._lines.clear()
        self._waiting = 0
        self._plain.update(whole)
        self._emit(whole)

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
