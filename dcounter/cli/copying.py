"""
The command that exports everything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import click

from dcounter.cli.counting import read_options
from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.remote import remote
from dcounter.cli.session import Session
from dcounter.words import Consistency


@click.command()
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write to a file. [default: standard output]",
)
@click.option(
    "--deleted", is_flag=True, help="Include the IDs that are deleted: an exact restore needs them."
)
@read_options
@remote
async def export(
    session: Session, output: str | None, deleted: bool, consistency: Consistency | None, after: str | None
) -> Exit | None:
    """
    Write everything that is stored, as lines of JSON.

    The first line tells the position that the export includes, the last one how many lines came: without it
    the export is not whole, and the exit status is 1. FILE is there, or replaced, only when it is whole.
    """
    exported = await session.client.export(deleted=deleted, consistency=consistency, after=after)
    try:
        if output is None:
            async for part in exported:
                session.output.raw(part)
        else:
            with _whole(output) as file:
                async for part in exported:
                    file.write(part)
            session.output.remark(f"wrote {output}")
    finally:
        exported.close()
    return None


@contextmanager
def _whole(path: str) -> Iterator[IO[bytes]]:
    """
    A file to write, which has its name only when it is whole.

    :raises Failed: it cannot be written.
    """
    unfinished = f"{path}.part"
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(unfinished)
