"""
The files of a journal: their names, and how one of them is replaced.

`000000000007.journal` is a segment. `000000000007.snapshot` is a snapshot: it covers all segments with a
lower number, and what was appended since it was begun is in segment 7 and those behind it. A file with any
other name is not the journal's, and stays as it is.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from twisted.logger import Logger

from dcounter.journal.disk import AppendFile, Disk

_log = Logger()

OWNER = "owner"
"""
The file that names the journal's owner.
"""

_SEGMENT = ".journal"
_SNAPSHOT = ".snapshot"
_UNFINISHED = ".unfinished"
_OURS = re.compile(r"[0-9]{12}\.(journal|snapshot|unfinished)")


def segment_name(number: int) -> str:
    return f"{number:012d}{_SEGMENT}"


def snapshot_name(number: int) -> str:
    return f"{number:012d}{_SNAPSHOT}"


def unfinished_name(number: int) -> str:
    """
    What a snapshot is called until it is complete.
    """
    return f"{number:012d}{_UNFINISHED}"


TRIAL = unfinished_name(0)
"""
A file that is written to see whether the disk takes it, before it replaces another one.
"""


@dataclass(frozen=True, slots=True)
class Inventory:
    """
    What the names in a journal's directory say.

    :ivar snapshot: the newest one, if any.
    :ivar segments: those that it does not cover, the oldest first.
    :ivar obsolete: files that are no longer needed.
    :ivar last: the highest number in use.
    """

    snapshot: str | None
    segments: tuple[str, ...]
    obsolete: tuple[str, ...]
    last: int


def take_inventory(names: Iterable[str]) -> Inventory:
    ours = sorted(name for name in names if _OURS.fullmatch(name))
    snapshot = max((name for name in ours if name.endswith(_SNAPSHOT)), default=None)
    covered = "" if snapshot is None else snapshot.removesuffix(_SNAPSHOT)
    segments = tuple(name for name in ours if name.endswith(_SEGMENT) and name >= covered)
    used = {snapshot, *segments}
    return Inventory(
        snapshot=snapshot,
        segments=segments,
        obsolete=tuple(name for name in ours if name not in used),
        last=max((int(name.partition(".")[0]) for name in ours), default=0),
    )


def covered_by(number: int, names: Iterable[str]) -> tuple[str, ...]:
    """
    The files that a snapshot of this number replaces.
    """
    return tuple(name for name in names if _OURS.fullmatch(name) and name < f"{number:012d}")


def holds_lines(name: str) -> bool:
    """
    Whether a file of this name is a segment or a complete snapshot.
    """
    return name.endswith((_SEGMENT, _SNAPSHOT))


def is_snapshot(name: str) -> bool:
    """
    Whether a file of this name is a complete snapshot.
    """
    return name.endswith(_SNAPSHOT)


def put(disk: Disk, name: str, data: bytes) -> None:
    """
    Replace a file, durably, by one that holds these bytes.

    For the last segment of an earlier process this does more than a sync: if a sync of that process failed,
    there may be bytes that can be read and count as written, but are not on the disk.

    :raises OSError: the disk does not take it. The old file is as it was, or the new one is there, but its
        name is not durable.
    """
    try_disk(disk, data)
    disk.rename(TRIAL, name)
    disk.sync()


def try_disk(disk: Disk, data: bytes) -> None:
    """
    Write these bytes to a file of their own.

    :raises OSError: the disk does not take them.
    """
    disk.remove(TRIAL)
    file = disk.create(TRIAL)
    try:
        file.write(data)
        file.sync()
    except OSError:
        # It must not be this file that fills the disk.
        close_file(file)
        disk.remove(TRIAL)
        raise
    close_file(file)


def remove_all(disk: Disk, names: list[str]) -> None:
    """
    Remove files, the last one first, and take each off the list.

    :raises OSError: one cannot be removed; it is still on the list, and so are those before it.
    """
    while names:
        disk.remove(names[-1])
        names.pop()


def sign(disk: Disk, owner: str) -> None:
    """
    Name the journal's owner.
    """
    put(disk, OWNER, f"{owner}\n".encode())


def close_file(file: AppendFile) -> None:
    """
    Close a file that is synced, or does not count: an error changes nothing.
    """
    try:
        file.close()
    except OSError as error:
        _log.warn("could not close a file: {why}", why=str(error))
