"""
The command that exports everything.
"""

from collections.abc import Callable
from contextlib import ExitStack

import click

from dcounter.cli.counting import read_options
from dcounter.cli.exits import Exit
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
    from dcounter.cli.replacing import replaced

    with ExitStack() as closing:
        write: Callable[[bytes], object] = session.output.raw
        if output is not None:
            write = closing.enter_context(replaced(output)).write
        exported = await session.client.export(deleted=deleted, consistency=consistency, after=after)
        closing.callback(exported.close)
        async for part in exported:
            write(part)
    if output is not None:
        session.output.remark(f"wrote {output}")
    return None
