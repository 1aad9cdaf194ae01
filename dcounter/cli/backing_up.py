"""
Writes backups.
"""

import random
import sys
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

import click
import msgspec

from dcounter import __version__
from dcounter.backups.form import FORM, Damaged, End, Head
from dcounter.backups.writing import Writer
from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.output import Output, shown
from dcounter.cli.persisting import GaveUp, Persistence
from dcounter.cli.progress import Bar
from dcounter.cli.replacing import replaced
from dcounter.cli.session import Session
from dcounter.cli.verifying import held
from dcounter.client import ExportCutShort, Exported, Refused, Unreachable
from dcounter.http.dumps import END_BEGIN
from dcounter.stamps import show_stamp

_ATTEMPTS: Final = 3
"""
How often an export may break off in its middle. One may be that the node stops; more have another cause.
"""

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
    output = session.output
    if path == "-" and compressed and sys.stdout.isatty():
        raise click.UsageError("a backup is not for a terminal: name a file, or redirect standard output")
    persistence = Persistence(
        session.reactor,
        jitter=random.random,
        patience_s=patience_s,
        again=lambda why: output.remark(f"it is begun anew, since this attempt failed: {shown(why)}"),
    )
    writing = _Writing(session, path, after, persistence, compressed=compressed)
    try:
        if path == "-":
            # What was written cannot be taken back.
            found = await writing.attempt(sys.stdout.buffer)
        else:
            with replaced(path) as file:
                found = await persistence.until_answered(lambda: writing.attempt(file))
    except (Refused, GaveUp) as error:
        refused = error.error if isinstance(error, GaveUp) else error
        if not isinstance(refused, Refused) or refused.code != "incomplete":
            raise
        raise Failed(
            f"what is stored is not known exactly now: {shown(str(refused.problem.get('detail')))}",
            "There is no backup of what is not exact. 'dcounter status' shows the nodes.",
            exit=Exit.UNAVAILABLE,
            code=refused.code,
        ) from error
    _tell(output, found)
    return None


class _Writing:
    """
    The attempts to write one backup.
    """

    def __init__(
        self, session: Session, path: str, after: str | None, persistence: Persistence, *, compressed: bool
    ) -> None:
        self._session = session
        self._path = path
        self._after = after
        self._persistence = persistence
        self._compressed = compressed
        self._started = session.reactor.seconds()
        self._begun = 0

    async def attempt(self, file: BinaryIO) -> BackedUp:
        """
        Write a backup to a file, in place of what an earlier attempt has written.

        :raises ExportCutShort: the daemon could not complete it.
        """
        if self._begun:
            file.seek(0)
            file.truncate()
        try:
            return await self._write(file)
        except (ExportCutShort, Unreachable) as error:
            if self._begun < _ATTEMPTS:
                raise
            raise Failed(
                f"the daemon could not complete the export, {_ATTEMPTS} times: {shown(str(error))}",
                "Nothing was kept.",
                exit=Exit.UNAVAILABLE,
                code="cut_short",
            ) from error

    async def _write(self, file: BinaryIO) -> BackedUp:
        session = self._session
        cluster = await _cluster(session)
        exported = await session.client.export(deleted=True, consistency="exact", after=self._after)
        try:
            header = await exported.header()
            self._begun += 1
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
            writer = Writer(head, file.write, compressed=self._compressed)
            with Bar(head.items or None, enabled=not session.output.json, done="written") as bar:
                async for lines in _items(exported):
                    writer.add(lines)
                    self._persistence.progressed()
                    bar.advance(writer.rows, writer.rows, 0)
            end = writer.end(show_stamp(session.wall()))
            file.flush()
        except Damaged as error:
            raise Failed(
                f"the export of {session.url} {error}", "Nothing was kept.", code="damaged"
            ) from error
        finally:
            exported.close()
        return _backed_up(self._path, head, end, writer.size, session.reactor.seconds() - self._started)


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
