"""
Restores backups.
"""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

import msgspec
from twisted.internet.task import deferLater

from dcounter.backups.parsing import parse
from dcounter.backups.reading import Reading, Section
from dcounter.backups.summary import Summary
from dcounter.cli.bookmark import Bookmark
from dcounter.cli.exits import Exit
from dcounter.cli.explaining import exit_of, explained
from dcounter.cli.failures import Failed
from dcounter.cli.output import many, shown
from dcounter.cli.persisting import GaveUp, Persistence
from dcounter.cli.progress import Bar
from dcounter.cli.session import Session
from dcounter.cli.verifying import explained_damage, follow, held, opened, size_of
from dcounter.client import Refused
from dcounter.http.answer_bodies import Loaded
from dcounter.http.audit_bodies import AuditResult
from dcounter.words import Ack

_BOOKMARK: Final = ".restoring"
_SECTION_TIMEOUT_S: Final = 600.0
"""
Time (s) for a section: a daemon that does not store it in that time is not going to.
"""

_FORBIDDEN: Final = frozenset({"unauthenticated", "forbidden"})


@dataclass(frozen=True)
class Wishes:
    """
    How to restore.

    :ivar merge: also into a cluster that has items.
    :ivar audit: compare the nodes with the backup at the end.
    :ivar patience_s: time (s) without any success after which to give up.
    """

    merge: bool
    audit: bool
    ack: Ack | None
    patience_s: float


class Contents(NamedTuple):
    """
    What a file holds that was found to be whole.

    :ivar sha256: of its lines.
    :ivar digest: that an audit of the same items gives.
    """

    sha256: str
    items: int
    tenants: int
    tombstones: int
    digest: str


class Restored(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What was restored, for programs.

    :ivar items: how many items the backup holds; `tenants` and `tombstones` likewise.
    :ivar sent: how many lines were sent; an earlier attempt had stored the others.
    :ivar equal: whether an audit has found just what the backup holds; left out without that comparison.
    """

    items: int
    tenants: int
    tombstones: int
    sent: int
    seconds: float
    equal: bool | None = None
    audit: AuditResult | None = None


async def restore_file(session: Session, path: str, wishes: Wishes) -> Exit | None:
    """
    Restore a backup.

    :raises Failed: it is damaged, the cluster must not take it, or does not.
    """
    started = session.reactor.seconds()
    with opened(path) as file, explained_damage(path):
        contents = await _examined(session, file)
        sending = _Sending(session, path, wishes)
        until_answered = sending.persistence.until_answered
        cluster = (await until_answered(session.client.status)).cluster
        bookmark = Bookmark(None if path == "-" else path + _BOOKMARK, cluster, contents.sha256)
        begun = bool(bookmark.line)
        if begun:
            session.output.remark(f"going on at line {bookmark.line:,}: what is before it is stored")
        empty = not begun and await until_answered(lambda: _check_target(session, wishes))
        file.seek(0)
        await sending.run(file, bookmark)
    audit = await _audited(session, sending.persistence) if wishes.audit else None
    bookmark.remove()
    # With items of others there, it need not be equal.
    compared = audit is not None and (empty or (begun and not wishes.merge))
    return _tell(session, contents, sending.sent, started, audit, compared=compared)


async def _examined(session: Session, file: BinaryIO) -> Contents:
    """
    Read all of a file: nothing of a damaged one may be sent.
    """
    reading = Reading(file)
    summary = Summary()
    with Bar(size_of(file), enabled=not session.output.json, done="checked") as bar:
        for section in reading:
            if not reading.is_backup:
                summary.add(parse(section.lines, section.first))
            follow(bar, section)
            # For Ctrl-C.
            await deferLater(session.reactor, 0)
    assert reading.end is not None
    told = reading.end if reading.is_backup else summary
    return Contents(reading.sha256, told.items, told.tenants, told.tombstones, told.digest)


async def _check_target(session: Session, wishes: Wishes) -> bool:
    """
    See that the cluster may be restored; whether it is empty.

    :raises Failed: it must not be.
    """
    there = await session.client.statistics(consistency="exact")
    empty = not there.items and not there.tombstones
    if not empty and not wishes.merge:
        raise Failed(
            f"the cluster is not empty: it has {many(there.items, 'item')} and"
            f" {many(there.tombstones, 'deleted ID')}",
            "Nothing was sent.",
            "With --merge the backup is restored all the same: of each ID the later update wins, whether it"
            " is in the cluster or in the backup, and what only the cluster has stays.",
            exit=Exit.REFUSED,
            code="not_empty",
            details={"items": there.items, "tombstones": there.tombstones},
        )
    if empty and wishes.audit:
        await _check_rights(session)
    return empty


async def _check_rights(session: Session) -> None:
    """
    See that this caller may audit, while there is nothing to audit.

    :raises Failed: it may not.
    """
    try:
        await session.client.audit()
    except Refused as error:
        if error.code not in _FORBIDDEN:
            raise
        failed = explained(error, session.url)
        raise Failed(
            f"the audit at the end is not possible: {failed.message}",
            "Nothing was sent.",
            *(each for each in failed.notes if each != "Nothing was changed."),
            "Or leave the audit out: --no-audit.",
            exit=failed.exit,
            code=failed.code,
        ) from error


class _Sending:
    """
    Sends the sections of a backup, one after the other.

    :ivar sent: how many lines were sent.
    :ivar persistence: repeats what fails.
    """

    def __init__(self, session: Session, path: str, wishes: Wishes) -> None:
        self._session = session
        self._path = path
        self._ack = wishes.ack
        self._bar: Bar | None = None
        self.sent = 0
        self.persistence = Persistence(
            session.reactor, jitter=random.random, patience_s=wishes.patience_s, again=self._again
        )

    async def run(self, file: BinaryIO, bookmark: Bookmark) -> None:
        """
        Send all that is not stored yet.

        :param bookmark: how far an earlier attempt came.
        :raises Failed: the daemon refuses something.
        """
        complete = False
        output = self._session.output
        try:
            with Bar(size_of(file), enabled=not output.json) as self._bar:
                for section in Reading(file):
                    behind = section.first + section.rows
                    if behind > bookmark.line:
                        await self._store(section)
                        self.sent += section.rows
                        bookmark.move(behind)
                    follow(self._bar, section)
            complete = True
        finally:
            if not complete and bookmark.line:
                output.remark(_to_go_on(bookmark))

    async def _store(self, section: Section) -> None:
        async def once() -> Loaded:
            lines = _only(section.lines)
            return await self._session.client.restore(lines, ack=self._ack, within=_SECTION_TIMEOUT_S)

        try:
            await self.persistence.until_answered(once)
        except Refused as error:
            at = error.problem.get("next_line")
            if not isinstance(at, int):
                raise
            raise Failed(
                f"the daemon refuses line {section.first + at - 1:,} of {self._path}: {shown(_why(error))}",
                "What is before that line is stored.",
                exit=exit_of(error.outcome, retryable=error.retryable),
                code=error.code,
            ) from error

    def _again(self, why: str) -> None:
        if self._bar is not None:
            self._bar.trouble(why)


def _to_go_on(bookmark: Bookmark) -> str:
    """
    How to go on after a restore that was stopped.
    """
    if bookmark.is_kept:
        return f"all before line {bookmark.line:,} is stored: repeat the command to go on"
    why = f" ({bookmark.trouble})" if bookmark.trouble else ""
    return (
        f"all before line {bookmark.line:,} is stored, but that is not remembered{why}: repeat the command"
        " with --merge to send everything again, which does no harm"
    )


def _why(error: Refused) -> str:
    """
    Why a line is refused, without its number: the daemon counts those of the section.
    """
    for each in error.problem.get("errors", ()):
        return f"{each['field']}: {each['message']}" if each["field"] else str(each["message"])
    detail = str(error.problem.get("detail"))
    return detail.partition(" stored: ")[2] or detail


async def _only(lines: bytes) -> AsyncIterator[bytes]:
    yield lines


async def _audited(session: Session, persistence: Persistence) -> AuditResult:
    session.output.remark("all is stored; now the nodes are audited")
    try:
        return await persistence.until_answered(session.client.audit)
    except (Refused, GaveUp) as error:
        failed = explained(error, session.url)
        raise Failed(
            f"all items are stored, but the audit was not possible: {failed.message}",
            *failed.notes,
            exit=failed.exit,
            code=failed.code,
        ) from error


def _tell(
    session: Session,
    contents: Contents,
    sent: int,
    started: float,
    audit: AuditResult | None,
    *,
    compared: bool,
) -> Exit | None:
    output = session.output
    seconds = session.reactor.seconds() - started
    equal: bool | None = None
    if audit is not None and compared:
        there = (audit.items, audit.tombstones, audit.digest)
        equal = audit.equal and there == (contents.items, contents.tombstones, contents.digest)
    _, items, tenants, tombstones, _ = contents
    lines = [f"restored {held(items, tenants, tombstones)} in {seconds:.1f} s"]
    if audit is not None:
        lines.append(_of_audit(audit, contents, equal))
    found = Restored(items, tenants, tombstones, sent, round(seconds, 3), equal, audit)
    output.result(found, "\n".join(lines))
    if audit is None:
        output.warn("no audit has compared the nodes with the backup")
    return Exit.NO if equal is False or (audit is not None and not audit.equal) else None


def _of_audit(audit: AuditResult, contents: Contents, equal: bool | None) -> str:
    """
    What the audit says of the restore.
    """
    nodes = ", ".join(map(str, audit.nodes))
    there = f"{many(audit.items, 'item')} and {many(audit.tombstones, 'deleted ID')}"
    if not audit.equal:
        return f"the nodes {nodes} do not agree: 'dcounter audit --last' shows where"
    if equal is None:
        return f"the nodes {nodes} hold the same, and count it rightly: {there}"
    if equal:
        return f"equal: the nodes {nodes} hold just what the backup holds, as an audit has counted it"
    if audit.items == contents.items and audit.tombstones < contents.tombstones:
        return (
            f"the nodes {nodes} hold {there}: a compaction has dropped deleted IDs, so it cannot be compared"
        )
    return (
        f"different: the nodes {nodes} hold {there} with the digest {audit.digest}, and the backup the digest"
        f" {contents.digest}; others have written meanwhile, or something was lost: repeat the command with"
        " --merge"
    )
