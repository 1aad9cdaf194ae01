"""
The command that stores the items of a file.
"""

from collections.abc import Sequence
from typing import Final, get_args

import click

from dcounter.cli.exits import Exit
from dcounter.cli.parameters import STAMP, Column
from dcounter.cli.remote import remote
from dcounter.cli.session import Session
from dcounter.words import Ack

_PARALLEL: Final = 4
_PATIENCE_S: Final = 60.0


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--stamp", metavar="TIME", type=STAMP, help="The stamp of an earlier run, to repeat it. [default: now]"
)
@click.option(
    "--column",
    "columns",
    metavar="FIELD=NAME",
    type=Column(("ID", "tenant", "lastUpdateDt", "deleted")),
    multiple=True,
    help="The column of CSV that holds a field, such as ID=customer; may be given again.",
)
@click.option("--ack", type=click.Choice(get_args(Ack)), help="Which nodes must have the items on disk.")
@click.option(
    "--refused", metavar="FILE", type=click.Path(dir_okay=False), help="Write the refused lines to a file."
)
@click.option(
    "--parallel",
    metavar="N",
    type=click.IntRange(1, 64),
    default=_PARALLEL,
    show_default=True,
    help="How many requests are under way at once.",
)
@click.option(
    "--patience",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=_PATIENCE_S,
    show_default=True,
    help="Give up after this time in which nothing could be stored.",
)
@remote
async def put(
    session: Session,
    file: str,
    stamp: int | None,
    columns: Sequence[tuple[str, str]],
    ack: Ack | None,
    refused: str | None,
    parallel: int,
    patience: float,
) -> Exit | None:
    """
    Store the items of a file.

    FILE holds lines of JSON, CSV with a header, or a JSON array, and may be compressed with gzip or zstd;
    its first bytes show what it is. '-' is standard input.

    Each line gets a stamp of its own, unless it has one, in the order of the lines: of two with the same ID
    the later one wins. A run that was stopped can be repeated with --stamp and the stamp that it has shown:
    what is stored already stays as it is, and so does what others have stored since. Without --stamp it is a
    new run, and its items are newer than all others.
    """
    from dcounter.cli.putting import store_file

    return await store_file(
        session,
        file,
        stamp=stamp,
        columns=dict(columns),
        ack=ack,
        refused=refused,
        parallel=parallel,
        patience_s=patience,
    )
