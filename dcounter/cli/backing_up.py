"""
Writes backups.
"""

import fcntl
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import click
import msgspec

from dcounter import __version__
from dcounter.backups.form import END_BEGIN, FORM, Damaged, End, Head
from dcounter.backups.writing import Writer
from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.output import Output, shown
from dcounter.cli.persisting import Persistence
from dcounter.cli.progress import Bar
from dcounter.cli.session import Session
from dcounter.cli.verifying import held
from dcounter.client import Exported, Refused
from dcounter.journal.disk import sync_directory
from dcounter.stamps import show_stamp

_PART: Final = ".part"
_MEBIBYTE: Final = 2**20


class BackedUp(msgspec.Struct, frozen=True):
    """
    A backup that was written, for programs.

    :ivar position: what it includes at least.
    :ivar sha256: of its lines, up to the place where this hash is in it.
    :ivar bytes: of the file.
    """

    file: str
    cluster: str
    position: str
    items: int
    tombstones: int
    tenants: int
    digest: str
    sha256: str
    bytes: int
    seconds: float


async def back_up(
    session: Session, path: str, *, after: str | None, compressed: bool, patience_s: float
) -> Exit | None:
    """
    Write a backup; if the daemon cannot complete it, begin anew.

    :raises Failed: the file cannot be written; the one that had its name is as it was.
    """
    started = session.reactor.seconds()

    async def write(file: BinaryIO) -> BackedUp:
        return await _write(session, file, path, after=after, compressed=compressed, started=started)

    if path == "-":
        if compressed and sys.stdout.isatty():
            raise click.UsageError("a backup is not for a terminal: name a file, or redirect standard output")
        _tell(session.output, await write(sys.stdout.buffer))
        return None
    with replaced(path) as file:

        async def once() -> BackedUp:
            file.seek(0)
            file.truncate()
            return await write(file)

        found = await Persistence(session.reactor, patience_s, _again(session.output)).until_answered(once)
    _tell(session.output, found)
    return None


async def _write(
    session: Session, file: BinaryIO, path: str, *, after: str | None, compressed: bool, started: float
) -> BackedUp:
    cluster = await _cluster(session)
    exported = await session.client.export(deleted=True, consistency="exact", after=after)
    try:
        header = await exported.header()
        head = Head(
            export=header.export,
            position=header.position,
            items=header.items or 0,
            deleted=True,
            backup=FORM,
            dcounter=__version__,
            cluster=cluster,
            started=show_stamp(session.wall()),
        )
        writer = Writer(head, file.write, compressed=compressed)
        with Bar(head.items or None, enabled=not session.output.json, done="written") as bar:
            async for lines in _items(exported):
                writer.add(lines)
                bar.advance(writer.tally.rows, writer.tally.rows, 0)
        end = writer.end(show_stamp(session.wall()))
        file.flush()
    except Damaged as error:
        raise Failed(f"the export of {session.url} {error}", "Nothing was kept.", code="damaged") from error
    finally:
        exported.close()
    return _backed_up(path, head, end, writer.size, session.reactor.seconds() - started)


async def _items(exported: Exported) -> AsyncIterator[bytes]:
    """
    The lines of an export but the first and the last one.
    """
    first = True
    async for lines in exported:
        items = lines.partition(b"\n")[2] if first else lines
        first = False
        last = items.rfind(b"\n", 0, -1) + 1
        if items.startswith(END_BEGIN, last):
            items = items[:last]
        if items:
            yield items


async def _cluster(session: Session) -> str:
    """
    The id of the cluster; none if there is no such thing.
    """
    try:
        return (await session.client.status()).cluster
    except Refused as error:
        if error.retryable:
            raise
        return ""


@contextmanager
def replaced(path: str) -> Iterator[BinaryIO]:
    """
    A file that takes its name when it is complete and on the disk.

    :raises Failed: it cannot be written, or another process is writing it.
    """
    part = path + _PART
    try:
        # What a cluster holds is not for every user of this machine.
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(f"{part} cannot be written: {error.strerror}", "Nothing was asked for.") from error
    with open(descriptor, "r+b") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may just have got its final name.
            ours = os.path.samestat(os.fstat(descriptor), os.stat(part))
        except OSError:
            ours = False
        if not ours:
            raise Failed(f"another process is writing {part}", "Nothing was asked for.")
        try:
            yield file
            file.flush()
            os.fsync(descriptor)
            os.replace(part, path)
        except OSError as error:
            os.remove(part)
            raise Failed(
                f"{path} cannot be written: {error.strerror}", "What had this name before is as it was."
            ) from error
        except BaseException:
            os.remove(part)
            raise
        sync_directory(os.path.dirname(os.path.abspath(path)))


def _again(output: Output) -> Callable[[str], None]:
    return lambda why: output.remark(f"it is begun anew, since this attempt failed: {shown(why)}")


def _backed_up(path: str, head: Head, end: End, size: int, seconds: float) -> BackedUp:
    return BackedUp(
        path,
        head.cluster,
        head.position,
        end.items,
        end.tombstones,
        end.tenants,
        end.digest,
        end.sha256,
        size,
        round(seconds, 3),
    )


def _tell(output: Output, found: BackedUp) -> None:
    """
    Say what was written, where it is not in the way of the backup itself.
    """
    what = held(found.items, found.tenants, found.tombstones)
    lines = [
        f"wrote {found.file}: {what}; {found.bytes / _MEBIBYTE:,.1f} MiB in {found.seconds:.1f} s",
        f"it includes everything up to the position {shown(found.position)}",
    ]
    if found.file != "-":
        output.result(found, "\n".join(lines))
    elif output.json:
        click.echo(msgspec.json.encode(found), err=True)
    else:
        output.remark("\n".join(lines))
