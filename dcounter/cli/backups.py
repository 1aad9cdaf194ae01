"""
The commands that write, prove and restore backups.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import Output
from dcounter.cli.remote import offline, remote
from dcounter.cli.session import Session
from dcounter.words import Ack

_PATIENCE_S: Final = 60.0

_patience: Final = click.option(
    "--patience",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=_PATIENCE_S,
    show_default=True,
    help="Give up after this time without any success.",
)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@offline
def verify(output: Output, file: str) -> Exit | None:
    """
    Prove that a backup is whole, without a daemon.

    It is restored in memory, with about 70 bytes per item, and counted anew. Then its counts and its digest
    are compared with those that it was written with, and so is each of its bytes. With --json the counts of
    all tenants are written. The exit status is 3 if the backup is damaged.
    """
    from dcounter.cli.verifying import verify_file

    return verify_file(output, file)


class _Backup(click.Command):
    """
    The command `backup FILE`, with the subcommand `backup verify FILE`.

    :ivar commands: its subcommands.
    """

    commands: Mapping[str, click.Command] = {"verify": verify}

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        other = self.commands.get(args[0]) if args else None
        if other is not None:
            return other.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    cls=_Backup, epilog="'dcounter backup verify FILE' proves that a backup is whole, without a daemon."
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--after", metavar="POSITION", help="Include everything that this position covers.")
@click.option("--uncompressed", is_flag=True, help="Do not compress it (zstd).")
@_patience
@remote
async def backup(
    session: Session, file: str, after: str | None, patience: float, *, uncompressed: bool
) -> Exit | None:
    """
    Write everything that is stored to a file.

    The daemon goes on with its work meanwhile. The backup has every item once, and includes everything that
    was answered before it began; of what is stored meanwhile it may have a part. FILE is there, or replaced,
    only when the backup is whole and on the disk. '-' is standard output.
    """
    from dcounter.cli.backing_up import back_up

    return await back_up(session, file, after=after, compressed=not uncompressed, patience_s=patience)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--merge",
    is_flag=True,
    help="Restore into a cluster that has items. Of each ID the later update wins, whether it is in the"
    " cluster or in the backup; what only the cluster has stays.",
)
@click.option("--ack", type=click.Choice(get_args(Ack)), help="Which nodes must have the items on disk.")
@click.option("--no-audit", is_flag=True, help="Do not compare the nodes with the backup at the end.")
@_patience
@remote
async def restore(
    session: Session, file: str, ack: Ack | None, patience: float, *, merge: bool, no_audit: bool
) -> Exit | None:
    """
    Store the items of a backup in an empty cluster.

    First the whole file is checked: nothing of a damaged one is sent. At the end an audit counts everything
    anew on all nodes, and compares that with the backup; only operators may do this, with --token-file
    DATA-DIR/operator-token. The exit status is 3 if it differs.

    A restore that was stopped goes on where it was when it is repeated: how far it came is in FILE.restoring.
    FILE may be an export as well. '-' is standard input.
    """
    from dcounter.cli.restoring import Wishes, restore_file

    return await restore_file(
        session, file, Wishes(merge=merge, audit=not no_audit, ack=ack, patience_s=patience)
    )
