"""
Looks at every byte of a journal's files, and changes nothing.

A recovery ends at the first damage; this finds all of it. It does not know what the lines mean.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import EIO
from typing import Final

from dcounter.journal.disk import Disk
from dcounter.journal.file_names import Inventory, is_snapshot, take_inventory
from dcounter.journal.flipped import flipped_byte
from dcounter.journal.framing import JournalEntry, unframe_all, unframe_begin

_PART: Final = 2**20
_MOST: Final = 20
"""
The most faults that are told of one file.
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Bytes of a file that are not what was written.

    :ivar name: of the file.
    :ivar begin: the first byte of the damaged lines, from 0; `end` is the one behind them.
    :ivar why: completes the sentence "the file ...".
    """

    name: str
    begin: int
    end: int
    why: str


@dataclass(frozen=True, slots=True)
class HeldFile:
    """
    A segment or a snapshot.

    :ivar size: its bytes.
    :ivar lines: how many lines of it are whole.
    """

    name: str
    size: int
    lines: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """
    What is in a journal's directory.

    :ivar files: those that count.
    :ivar torn: where an incomplete record at the end begins, if there is one: no damage, since nothing was
        acknowledged that is not complete. Its end is that of its file.
    :ivar obsolete: files that the next start removes.
    """

    files: tuple[HeldFile, ...]
    faults: tuple[Fault, ...]
    torn: Fault | None
    obsolete: tuple[str, ...]


def inspect(disk: Disk, seen: Callable[[str, JournalEntry], object] = lambda name, entry: None) -> Inspected:
    """
    Check all lines of the files of a journal.

    :param disk: the directory, already open.
    :param seen: is told of each line that is whole, and of its file.
    """
    found: Inventory = take_inventory(disk.list())
    names = [*([found.snapshot] if found.snapshot else []), *found.segments]
    files: list[HeldFile] = []
    faults: list[Fault] = []
    tails: list[Fault] = []
    for name in names:
        file, damaged = _inspect_file(disk, name, seen)
        if file.size and tails:
            # Only the last file that is not empty may end in the middle of a record.
            faults += tails
            tails.clear()
        files.append(file)
        torn = damaged.pop() if damaged and _is_torn(disk, damaged[-1], file) else None
        if torn is not None:
            tails.append(torn)
        faults += [_explained(disk, each) for each in damaged[:_MOST]]
        if len(damaged) > _MOST:
            last = damaged[-1]
            why = f"is damaged in {len(damaged) - _MOST:,} more places, up to byte {last.end:,}"
            faults.append(Fault(name, damaged[_MOST].begin, last.end, why))
        if not file.size and name == found.snapshot:
            faults.append(Fault(name, 0, 0, "is empty"))
    return Inspected(tuple(files), tuple(faults), tails[0] if tails else None, found.obsolete)


def _inspect_file(
    disk: Disk, name: str, seen: Callable[[str, JournalEntry], object]
) -> tuple[HeldFile, list[Fault]]:
    damaged: list[Fault] = []
    end = lines = 0
    try:
        for entry, behind in unframe_all(_parts(disk, name)):
            if entry is not None:
                lines += 1
                seen(name, entry)
            elif damaged and damaged[-1].end == end:
                # Damage may have made two lines of one.
                damaged[-1] = Fault(name, damaged[-1].begin, behind, _range(damaged[-1].begin, behind))
            else:
                damaged.append(Fault(name, end, behind, _range(end, behind)))
            end = behind
    except OSError as error:
        if error.errno != EIO:
            raise
        damaged.append(Fault(name, end, end, f"cannot be read after byte {end:,}: {error.strerror}"))
    return HeldFile(name, end, lines), damaged


def _range(begin: int, end: int) -> str:
    return f"is damaged from byte {begin:,} to byte {end - 1:,}"


def _parts(disk: Disk, name: str) -> Iterator[bytes]:
    start = 0
    while part := disk.read(name, start, _PART):
        start += len(part)
        yield part


def _is_torn(disk: Disk, fault: Fault, file: HeldFile) -> bool:
    """
    Whether damage is an incomplete record at the end of a segment, as a crash leaves it.

    :param fault: the last one of the file.
    """
    if fault.end != file.size or fault.begin == fault.end or is_snapshot(fault.name):
        return False
    data = disk.read(fault.name, fault.begin, fault.end - fault.begin)
    if b"\n" in data:
        return False
    begin = unframe_begin(data)
    # A record that has its full length was written completely, and is damaged since.
    return begin is None or len(data) < begin[1]


def _explained(disk: Disk, fault: Fault) -> Fault:
    """
    The same, with the byte that was changed if it is only one.
    """
    try:
        line = disk.read(fault.name, fault.begin, fault.end - fault.begin)
    except OSError:
        return fault
    found = flipped_byte(line.removesuffix(b"\n"))
    if found is None:
        return fault
    place, right = found
    why = (
        f"is damaged at byte {fault.begin + place:,}, which is 0x{line[place]:02x} and was 0x{right:02x}, in"
        f" the record from byte {fault.begin:,} to byte {fault.end - 1:,}"
    )
    return Fault(fault.name, fault.begin, fault.end, why)
