"""
Reads a backup, section by section, and notices if it is not what was written.

What is damaged in a compressed backup may show only at the end of its section: what came of it until then is
not to be trusted before `Reading` has come to the end of the file.
"""

import hashlib
from collections.abc import Generator, Iterator, Mapping
from typing import BinaryIO, Final, NamedTuple

from dcounter import zstd
from dcounter.backups.form import (
    SEAL,
    SECTION_BYTES,
    ZSTD,
    Damaged,
    End,
    Head,
    NotABackup,
    decode_end,
    decode_head,
    seal,
)
from dcounter.http.dumps import END_BEGIN, HEADER_BEGIN

_READ_BYTES: Final = 256 * 1024
_OUT_BYTES: Final = 1024 * 1024
_LONGEST_LINE: Final = 1024 * 1024
_MAX_WINDOW_LOG: Final = 27
"""
The largest window (128 MiB, as a power of 2) of frames that are not our own: exports that people compress.
"""

_OPTIONS: Final[Mapping[int, int]] = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
_GZIP: Final = b"\x1f\x8b"


class Section(NamedTuple):
    """
    Some whole lines with items.

    :ivar first: the number of the first line in the file, from 1.
    :ivar rows: how many there are.
    :ivar read_bytes: how much of the file was read for it and all before it.
    """

    lines: bytes
    first: int
    rows: int
    read_bytes: int


class Reading:
    """
    One reading of a backup, or of a plain export: iterate over its sections.

    Iterating raises `Damaged` or `NotABackup`, and so may making one.

    :param file: where it begins.
    :ivar head: its first line.
    :ivar end: its last line; `None` until all of it was read and found to be whole.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._read_bytes = 0
        self._line = 0
        self._rest = b""
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        # Whether the hash at the end of a compressed backup was right.
        self._sealed = False
        self.end: End | None = None
        begin = self._read()
        self._compressed = begin.startswith(ZSTD)
        if begin.startswith(_GZIP):
            raise NotABackup("is compressed with gzip: decompress it first")
        self._parts = self._frames(begin) if self._compressed else self._plain_parts(begin)
        self.head = self._read_head()

    def __iter__(self) -> Iterator[Section]:
        end = b""
        while lines := self._next_lines():
            if end:
                raise self._too_long()
            lines, end = self._without_end(lines)
            if lines:
                self._plain.update(lines)
                rows = lines.count(b"\n")
                yield Section(lines, self._line + 1, rows, self._read_bytes)
                self._line += rows
            self._line += 1 if end else 0
        if not end:
            raise self._cut_short()
        self._check(end)

    @property
    def is_backup(self) -> bool:
        """
        Whether it is more than a plain export.
        """
        return bool(self.head.backup)

    @property
    def sha256(self) -> str:
        """
        Of all its lines, when they were read: two files with the same one hold the same.
        """
        return self._plain.hexdigest()

    # The lines

    def _read_head(self) -> Head:
        while b"\n" not in self._rest:
            part = next(self._parts, b"")
            if not part:
                raise self._cut_short() if self._rest.startswith(HEADER_BEGIN) else _no_backup()
            self._rest += part
            if not self._rest.startswith(HEADER_BEGIN[: len(self._rest)]) or len(self._rest) > _LONGEST_LINE:
                raise _no_backup()
        line, _, self._rest = self._rest.partition(b"\n")
        head = decode_head(line)
        self._plain.update(line + b"\n")
        self._line = 1
        return head

    def _next_lines(self) -> bytes:
        """
        Some whole lines; none at the end.
        """
        parts, size = [self._rest], len(self._rest)
        while size < SECTION_BYTES and (part := next(self._parts, b"")):
            parts.append(part)
            size += len(part)
        whole, line_break, self._rest = b"".join(parts).rpartition(b"\n")
        if not line_break and self._rest:
            if len(self._rest) >= _LONGEST_LINE:
                raise Damaged(f"is damaged in line {self._line + 1:,}: it is longer than any item")
            raise self._cut_short()
        return whole + line_break

    def _without_end(self, lines: bytes) -> tuple[bytes, bytes]:
        """
        The lines, and the last line of the file if it is among them.
        """
        at = 0 if lines.startswith(END_BEGIN) else lines.find(b"\n" + END_BEGIN) + 1
        if not lines.startswith(END_BEGIN, at):
            return lines, b""
        end, _, more = lines[at:].partition(b"\n")
        if more:
            raise self._too_long()
        return lines[:at], end

    def _check(self, line: bytes) -> None:
        end, covered = decode_end(line)
        self._plain.update(covered)
        if bool(end.sha256) != self.is_backup:
            raise Damaged("is damaged: its first and its last line do not fit together")
        if end.rows != self._line - 2:
            raise Damaged(
                f"is damaged: its last line tells of {end.rows:,} lines with items, and there are"
                f" {self._line - 2:,}"
            )
        if self.is_backup and self._plain.hexdigest() != end.sha256:
            raise Damaged("is damaged somewhere in its lines: their SHA-256 is not the one that was written")
        if self.is_backup and self._compressed and not self._sealed:
            raise self._cut_short()
        self.end = end

    # The bytes

    def _read(self) -> bytes:
        data = self._file.read(_READ_BYTES)
        self._read_bytes += len(data)
        return data

    def _plain_parts(self, begin: bytes) -> Iterator[bytes]:
        while begin:
            yield begin
            begin = self._read()

    def _frames(self, data: bytes) -> Iterator[bytes]:
        """
        What frames decompress to.
        """
        while data := data or self._read():
            at = self._read_bytes - len(data)
            if len(data) < len(SEAL):
                data += self._read()
            if data.startswith(SEAL):
                self._check_seal(data, at)
                return
            data = yield from self._frame(data, at)

    def _frame(self, data: bytes, at: int) -> Generator[bytes, None, bytes]:
        """
        What one frame decompresses to.

        :param at: where in the file it begins.
        :returns: what comes behind it.
        """
        frame = zstd.ZstdDecompressor(options=_OPTIONS)
        fed = data
        while True:
            try:
                part = frame.decompress(data, _OUT_BYTES)
            except zstd.ZstdError as error:
                raise self._damaged_at(at, str(error)) from error
            if part:
                yield part
            if frame.eof:
                break
            data = b""
            if frame.needs_input:
                self._packed.update(fed)
                data = fed = self._read()
                if not data:
                    raise self._cut_short()
        left = frame.unused_data
        self._packed.update(fed[: len(fed) - len(left)])
        return left

    def _check_seal(self, data: bytes, at: int) -> None:
        while part := self._read():
            data += part
        right = seal(self._packed.hexdigest())
        if data == right:
            self._sealed = True
        elif right.startswith(data):
            raise self._cut_short()
        else:
            raise Damaged(
                "is damaged, although its items can be decompressed: they, or the SHA-256 that begins at byte"
                f" {at:,}, are not what was written"
            )

    # What is wrong

    def _damaged_at(self, at: int, why: str) -> Damaged:
        return Damaged(f"is damaged between byte {at:,} and byte {self._read_bytes:,}: {why}")

    def _cut_short(self) -> Damaged:
        return Damaged(f"is cut short: it ends at byte {self._read_bytes:,}, and its last line is missing")

    def _too_long(self) -> Damaged:
        return Damaged("is damaged: more follows after its last line")


def _no_backup() -> NotABackup:
    return NotABackup("is no backup: it does not begin like one")
