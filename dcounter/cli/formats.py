"""
Reads items from files: lines of JSON, CSV with a header, or a JSON array; as they are, or compressed.

What a file is, its first bytes tell. However long it is, only a small part of it is in memory.
"""

import csv
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from gzip import BadGzipFile, GzipFile
from select import select
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from dcounter import zstd
from dcounter.cli.failures import Failed

_BUFFER_BYTES: Final = 256 * 1024
_LONGEST_ITEM: Final = 1024 * 1024
"""
How many bytes an item may have, with all fields that nobody reads: a bound for the memory.
"""

FIELDS: Final = ("ID", "tenant", "lastUpdateDt", "deleted")
"""
The fields of items.
"""

_SHOWN_CHARACTERS: Final = 80
_BOM: Final = b"\xef\xbb\xbf"
_DELIMITERS: Final = ",;\t|"
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y"})
_FALSE: Final = frozenset({"", "0", "false", "f", "no", "n"})
_SPACE: Final = " \t\r\n"


class Entry(NamedTuple):
    """
    An item as it is in a file.

    :ivar number: its line, from 1; in a JSON array its place, from 1.
    :ivar text: JSON, on one line.
    """

    number: int
    text: bytes


class Measured(io.RawIOBase):
    """
    A file that counts what is read of it.

    :ivar read_bytes: so many.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        super().__init__()
        self._file = file
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        size = self._file.readinto(buffer)
        self.read_bytes += size or 0
        return size

    def waits(self) -> bool:
        """
        Whether there is nothing to read at present, as in a pipe.
        """
        return not select([self._file], [], [], 0)[0]


class Reading:
    """
    The items of a file, in its order: iterate over it once.

    In between it gives `None`, when all lines were given that have arrived.

    :param columns: field of an item -> the column of CSV that holds it; by default they have the same names.
    :ivar unit: what the numbers of the items count.
    :raises Failed: the file cannot be understood from here on.
    """

    def __init__(self, file: io.RawIOBase, columns: Mapping[str, str] | None = None) -> None:
        self._file = file
        self._columns = {field: field for field in FIELDS} | dict(columns or {})
        self._number = 0
        self.unit: Literal["line", "item"] = "line"

    def __iter__(self) -> Iterator[Entry | None]:
        try:
            for entry in self._entries(_expanded(io.BufferedReader(self._file, _BUFFER_BYTES))):
                if entry is not None:
                    self._number = entry.number
                yield entry
        except (EOFError, BadGzipFile, zlib.error, zstd.ZstdError) as error:
            raise self._broken(f"it cannot be decompressed: {error}") from error
        except UnicodeDecodeError as error:
            raise self._broken(f"it is not UTF-8: {error.reason}") from error
        except csv.Error as error:
            raise self._broken(f"it is not CSV: {error}") from error
        except OSError as error:
            raise self._broken(f"it cannot be read: {error.strerror or error}") from error
        except Unreadable as error:
            raise self._broken(str(error)) from error

    def _entries(self, stream: io.BufferedReader) -> Iterator[Entry | None]:
        start = stream.peek(1).removeprefix(_BOM).lstrip()[:1]
        if start == b"[":
            self.unit = "item"
            return _array(io.TextIOWrapper(stream, "utf-8-sig"))
        # A first line that is blank is told as what it is.
        if start in {b"{", b""}:
            return _lines(stream)
        return _rows(io.TextIOWrapper(stream, "utf-8-sig", newline=""), self._columns)

    def _broken(self, why: str) -> Failed:
        where = f"the input breaks off after {self.unit} {self._number}" if self._number else "the input"
        return Failed(f"{where}: {why}", code="input")


class Unreadable(ValueError):
    """
    The input is not what its beginning promised.
    """


def _expanded(stream: io.BufferedReader) -> io.BufferedReader:
    start = stream.peek(4)[:4]
    if start.startswith(b"\x1f\x8b"):
        return io.BufferedReader(cast(io.RawIOBase, GzipFile(fileobj=stream)), _BUFFER_BYTES)
    if start == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(cast(io.RawIOBase, zstd.ZstdFile(stream)), _BUFFER_BYTES)
    return stream


def _lines(stream: io.BufferedReader) -> Iterator[Entry | None]:
    number = 0
    rest = b""
    while True:
        part = stream.read1(_BUFFER_BYTES)
        lines = (rest + part).split(b"\n") if part else [rest, b""]
        rest = lines.pop()
        for line in lines:
            number += 1
            text = (line.removeprefix(_BOM) if number == 1 else line).strip()
            if text:
                yield Entry(number, text)
        if not part:
            return
        if len(rest) > _LONGEST_ITEM:
            raise Unreadable(f"the next one is longer than {_LONGEST_ITEM} bytes")
        yield None


def _rows(text: io.TextIOWrapper, columns: Mapping[str, str]) -> Iterator[Entry]:
    head = text.readline(_LONGEST_ITEM)
    delimiter = max(_DELIMITERS, key=head.count)
    fields = {column.lower(): field for field, column in columns.items()}
    # Case does not matter, as in JSON.
    names = [fields.get(each.strip().lower()) for each in next(csv.reader([head], delimiter=delimiter), [])]
    for field in FIELDS:
        if names.count(field) > 1:
            raise Failed(f"the input has more than one column {columns[field]!r}", code="input")
        if field not in names and (field == "ID" or (field == "tenant" and "deleted" not in names)):
            raise Failed(
                f"the input is neither lines of JSON nor an array nor CSV with a column {columns[field]!r}",
                f"Its first line is: {head.strip()[:_SHOWN_CHARACTERS]!r}",
                "That of CSV names the columns: ID, tenant, lastUpdateDt, deleted, or others with --column.",
                code="input",
            )
    rows = csv.reader(text, delimiter=delimiter)
    for row in rows:
        if row:
            cells = {name: cell for name, cell in zip(names, row, strict=False) if name is not None}
            yield Entry(rows.line_num + 1, msgspec.json.encode(_item(cells)))


def _item(cells: Mapping[str, str]) -> dict[str, Any]:
    """
    An item of a row of CSV. What is none is left for the daemon to refuse.
    """
    item: dict[str, Any] = {}
    for name, cell in cells.items():
        match name:
            case "ID":
                item[name] = int(cell) if _INTEGER.fullmatch(cell.strip()) and len(cell) < 30 else cell
            case "deleted":
                word = cell.strip().lower()
                if word not in _FALSE:
                    item[name] = True if word in _TRUE else cell
            case "tenant" if cell or "deleted" not in cells:
                item[name] = cell
            case "lastUpdateDt" if cell.strip():
                item[name] = cell.strip()
    return item


def _array(text: io.TextIOWrapper) -> Iterator[Entry]:
    """
    The elements of a JSON array, which is read bit by bit.
    """
    scan = json.JSONDecoder().raw_decode
    rest = text.read(_BUFFER_BYTES)
    place = rest.index("[") + 1
    number = 0
    while True:
        # With the comma before it.
        start = place = _after_space(rest, place)
        if rest[place : place + 1] == "]":
            if rest[place + 1 :].strip() or text.read(_BUFFER_BYTES).strip():
                raise Unreadable("more follows after the end of the JSON array")
            return
        if number and place < len(rest):
            if rest[place] != ",":
                raise Unreadable("a comma or the end of the JSON array is missing")
            place = _after_space(rest, place + 1)
        try:
            _, end = scan(rest, place)
            # A number that ends with the buffer may go on.
            whole = end < len(rest) or not rest[end - 1].isalnum()
        except json.JSONDecodeError:
            end, whole = place, False
        except RecursionError as error:
            raise Unreadable("the next item is nested too deeply") from error
        if whole:
            number += 1
            # Line breaks in JSON are blanks: in a text they are escaped.
            yield Entry(number, re.sub(r"[\r\n]", " ", rest[place:end]).encode())
            place = end
            continue
        if len(rest) - start > _LONGEST_ITEM:
            raise Unreadable(f"the next item is no JSON, or longer than {_LONGEST_ITEM} characters")
        more = text.read(_BUFFER_BYTES)
        if not more:
            raise Unreadable("the JSON array breaks off, or the next item is no JSON")
        rest, place = rest[start:] + more, 0


def _after_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in _SPACE:
        place += 1
    return place
