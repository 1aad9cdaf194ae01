"""
Stores the items of a file, and tells how it goes.
"""

import io
import os
import random
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from typing import IO, Final

import click
import msgspec

from dcounter.cli.exits import Exit
from dcounter.cli.explaining import explained
from dcounter.cli.failures import Failed
from dcounter.cli.formats import Measured, Reading
from dcounter.cli.output import Output, many, shown
from dcounter.cli.persisting import GaveUp
from dcounter.cli.pieces import in_thread, pieces
from dcounter.cli.progress import Bar
from dcounter.cli.sending import Mistake, Piece, Sending
from dcounter.cli.session import Session
from dcounter.cli.stamping import Stamps
from dcounter.client_answers import Refused
from dcounter.client_requests import of_store
from dcounter.http.answer_bodies import Stored
from dcounter.stamps import show_stamp
from dcounter.store import Ack

_SECOND: Final = 1_000_000_000
_SMALL_BYTES: Final = 1024 * 1024
"""
A file of this size is stored so quickly that nobody stops it.
"""

_SHOWN_MISTAKES: Final = 5
"""
How many refused lines people are shown. A file takes all of them.
"""


class Account(msgspec.Struct, frozen=True):
    """
    What became of a file, for programs.

    :ivar finished: whether all of it was sent.
    :ivar items: how many items are stored.
    :ivar refused: how many lines are refused.
    :ivar repeated: how many requests were sent again.
    :ivar seconds: time that it took.
    :ivar stamp: that of the run, for --stamp.
    """

    finished: bool
    items: int
    refused: int
    repeated: int
    seconds: float
    stamp: str


async def store_file(
    session: Session,
    path: str,
    *,
    stamp: int | None,
    columns: Mapping[str, str],
    ack: Ack | None,
    refused: str | None,
    parallel: int,
    patience_s: float,
) -> Exit | None:
    """
    Store the items of a file; tell what became of them, also if that is stopped.

    The parameters are those of the command `put`.

    :raises Failed: not all of it could be sent.
    """
    if stamp is None:
        stamp = await _now(session)
    started = session.reactor.seconds()
    finished = False
    size = _size(path)
    if size is None or size > _SMALL_BYTES:
        # Also a process that is killed has said it.
        session.output.remark(f"stamp of this run: {show_stamp(stamp)}")
    with ExitStack() as closing:
        file = Measured(closing.enter_context(_open(path)))
        reading = Reading(file, columns)
        taken = closing.enter_context(_create(refused)) if refused else None
        bar = closing.enter_context(Bar(size, enabled=not session.output.json))
        watching = _Watching(session.output, bar, taken)

        async def post(body: bytes) -> Stored:
            parameters = {**of_store(ack, None, None), "partial": "1"}
            answer = await session.client.ask("POST", "/items", parameters=parameters, body=body)
            if answer.code == "stamp_too_old":
                _refuse_if_all_are_too_old(answer.refused(), stamp)
            return answer.read(Stored)

        sending = Sending(
            in_thread(session.reactor, pieces(reading, Stamps(stamp), file)),
            post,
            watching,
            clock=session.reactor,
            jitter=random.random,
            patience_s=patience_s,
        )
        try:
            await sending.run(parallel)
            finished = True
        except GaveUp as error:
            failed = explained(error, session.url)
            raise Failed(
                failed.message,
                exit=Exit.UNKNOWN if sending.sent.stored else failed.exit,
                code=failed.code,
                details=failed.details,
            ) from error
        finally:
            watching.close(reading.unit)
            _tell(
                session.output,
                Account(
                    finished,
                    sending.sent.stored,
                    sending.sent.refused,
                    sending.sent.repeated,
                    round(session.reactor.seconds() - started, 3),
                    show_stamp(stamp),
                ),
                sending.sent.warning,
                path,
            )
    return Exit.NO if sending.sent.refused else None


async def _now(session: Session) -> int:
    """
    A stamp for a new run: newer than what is stored, although the clock of this machine may be slow.
    """
    here = session.wall()
    try:
        date = parsedate_to_datetime((await session.client.ask("GET", "/readyz")).date)
    except ValueError:
        return here
    # It is rounded down.
    there = (int(date.timestamp()) + 1) * _SECOND
    if here >= there - _SECOND:
        return here
    session.output.remark("the clock of this machine is behind that of the daemon, which is used instead")
    return there


def _refuse_if_all_are_too_old(refused: Refused, stamp: int) -> None:
    """
    End a run whose own stamp is too old, rather than have each line refused.

    :raises Failed: it is.
    """
    floor = str(refused.problem.get("floor"))
    if show_stamp(stamp) <= floor:
        raise Failed(
            f"the stamp of this run is too old: deletions up to {floor} are forgotten",
            "Store the file in a new run, without --stamp.",
            exit=Exit.REFUSED,
            code=refused.code,
        ) from refused


class _Watching:
    """
    Follows the sending on a terminal, and keeps what is refused.
    """

    def __init__(self, output: Output, bar: Bar, file: IO[bytes] | None) -> None:
        self._output = output
        self._bar = bar
        self._file = file
        self._first: list[Mistake] = []

    def done(self, piece: Piece, sending: Sending) -> None:
        self._bar.advance(piece.read_bytes, sending.sent.stored, sending.sent.refused)

    def refused(self, mistake: Mistake) -> None:
        if len(self._first) < _SHOWN_MISTAKES:
            self._first.append(mistake)
        if self._file is not None:
            line, why = mistake
            source = line.source.decode(errors="replace")
            self._file.write(msgspec.json.encode({"line": line.number, "why": why, "source": source}) + b"\n")

    def waits(self, why: str, sending: Sending) -> None:
        self._bar.trouble(why)

    def close(self, unit: str) -> None:
        """
        Take down the bar, and show what was refused first.

        :param unit: what the numbers of the items count.
        """
        self._bar.close()
        for line, why in sorted(self._first, key=lambda each: each.line.number):
            self._output.remark(click.style(f"{unit} {line.number}: {shown(why)}", fg="yellow"))


def _tell(output: Output, account: Account, warning: str, path: str) -> None:
    rate = account.items / account.seconds if account.seconds else 0
    text = f"stored {many(account.items, 'item')} in {account.seconds:.1f} s, {rate:,.0f} per second"
    if account.refused:
        text += f"; refused {many(account.refused, 'other')}"
    if account.repeated:
        text += f"; sent {many(account.repeated, 'request')} again"
    output.result(account, text)
    if warning:
        output.warn(warning)
    if not account.finished:
        again = shlex.join(["dcounter", "put", path, "--stamp", account.stamp])
        output.remark(f"not all of it was sent; to go on without harm:\n  {again}")


def _open(path: str) -> io.RawIOBase:
    try:
        # Standard input without Python's buffer, which a thread that waits would keep locked at the end.
        return io.FileIO(sys.stdin.fileno(), closefd=False) if path == "-" else io.FileIO(path)
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}", "Nothing was sent.") from error


def _create(path: str) -> IO[bytes]:
    try:
        return open(path, "wb")
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}", "Nothing was sent.") from error


def _size(path: str) -> int | None:
    """
    How many bytes a file has; `None` if that cannot be known.
    """
    size = os.fstat(sys.stdin.fileno()).st_size if path == "-" else os.stat(path).st_size
    return size or None
