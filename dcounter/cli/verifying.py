"""
Reads backups from files, and proves them.
"""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import BinaryIO

import msgspec

from dcounter.backups.form import Damaged, NotABackup
from dcounter.backups.reading import Reading, Section
from dcounter.backups.recount import Recount, recount
from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.output import Output, many, shown
from dcounter.cli.progress import Bar
from dcounter.ledger.ledger import Ledger

_HASH_BITS = 64


class Counter(msgspec.Struct, frozen=True):
    """
    What a tenant owns.
    """

    tenant: str
    counter: int


class Verified(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What a whole backup holds, for programs.

    :ivar backup: `False` for a plain export, which proves less.
    :ivar started: when it was begun, `finished` when it had everything (RFC 3339).
    """

    file: str
    backup: bool
    position: str
    items: int
    tombstones: int
    tenants: int
    digest: str
    bytes: int
    counts: list[Counter]
    cluster: str = ""
    dcounter: str = ""
    started: str = ""
    finished: str = ""


def verify_file(output: Output, path: str) -> Exit | None:
    """
    Prove a backup.

    :raises Failed: it is damaged, or no backup.
    """
    with opened(path) as file, explained_damage(path):
        size = size_of(file)
        reading = Reading(file)
        with Bar(size, enabled=not output.json, done="counted") as bar:
            found = recount(reading, Ledger(random.getrandbits(_HASH_BITS)), lambda each: follow(bar, each))
    output.result(_verified(path, size, found, backup=reading.is_backup), _text(path, found))
    if not reading.is_backup:
        output.warn(
            f"{path} is an export, not a backup: it has all its lines, but no hash shows whether they changed"
        )
    return None


def _verified(path: str, size: int, found: Recount, *, backup: bool) -> Verified:
    head, end = found.head, found.end
    return Verified(
        path,
        backup,
        head.position,
        found.items,
        found.tombstones,
        len(found.counts),
        found.digest,
        size,
        [Counter(*each) for each in sorted(found.counts.items())],
        head.cluster,
        head.dcounter,
        head.started,
        end.finished,
    )


def _text(path: str, found: Recount) -> str:
    head, end = found.head, found.end
    lines = [f"{path} is whole: {held(found.items, len(found.counts), found.tombstones)}"]
    if head.started:
        lines.append(f"written from {shown(head.started)} to {shown(end.finished)}")
    if head.cluster:
        lines.append(f"cluster   {shown(head.cluster)}")
    lines.append(f"position  {shown(head.position)}")
    lines.append(f"digest    {found.digest}")
    return "\n".join(lines)


def held(items: int, tenants: int, tombstones: int) -> str:
    """
    What a backup holds, in words.
    """
    return f"{many(items, 'item')} of {many(tenants, 'tenant')} and {many(tombstones, 'deleted ID')}"


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """
    A file that can be read more than once; what comes from standard input is kept in one meanwhile.

    :raises Failed: it cannot be read.
    """
    try:
        if path != "-":
            with open(path, "rb") as file:
                yield file
            return
        with TemporaryFile() as kept:
            shutil.copyfileobj(sys.stdin.buffer, kept)
            kept.seek(0)
            yield kept
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def explained_damage(path: str) -> Iterator[None]:
    """
    Say in words what is wrong with a backup.

    :raises Failed: something is.
    """
    try:
        yield
    except Damaged as error:
        raise Failed(
            f"{path} {error}",
            "Use another copy of it, or another backup.",
            exit=Exit.NO,
            code="damaged",
            details={"file": path},
        ) from error
    except NotABackup as error:
        raise Failed(f"{path} {error}", code="no_backup", details={"file": path}) from error


def follow(bar: Bar, section: Section) -> None:
    """
    Show that a section is done, and all before it.
    """
    bar.advance(section.read_bytes, section.first + section.rows - 2, 0)


def size_of(file: BinaryIO) -> int:
    """
    The bytes of a file.
    """
    return os.fstat(file.fileno()).st_size
