"""
The commands that delete.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Final, get_args

import click

from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.output import many, shown
from dcounter.cli.parameters import STAMP
from dcounter.cli.remote import remote
from dcounter.cli.session import Session
from dcounter.words import Ack

_AT_ONCE: Final = 1_000
"""
How many IDs a request may have if it asks for receipts.
"""


def _ids(given: Sequence[str]) -> Iterator[int]:
    for text in given:
        for each in (line.strip() for line in sys.stdin) if text == "-" else [text]:
            try:
                yield int(each)
            except ValueError as error:
                raise Failed(
                    f"{shown(each)!r} is not an ID", "Those before it may be deleted.", exit=Exit.USAGE
                ) from error


# A negative ID is no option.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--receipt", is_flag=True, help="Say for each ID whether it was there.")
@click.option("--stamp", metavar="TIME", type=STAMP, help="Delete only what is not newer. [default: now]")
@click.option("--ack", type=click.Choice(get_args(Ack)), help="Which nodes must have it on disk.")
@remote
async def delete(
    session: Session, ids: Sequence[str], receipt: bool, stamp: int | None, ack: Ack | None
) -> Exit | None:
    """
    Delete items.

    With '-' for an ID, it reads IDs from standard input, one on each line. An ID that no tenant owns is no
    error.
    """
    deleted = 0
    some: list[int] = []

    async def send() -> None:
        nonlocal deleted
        stored = await session.client.delete(some, ack=ack, stamp=stamp, receipt=receipt)
        deleted += stored.items
        for each, word in zip(some, stored.receipts or (), strict=False):
            text = (
                "deleted" if word == "deleted" else "newer than that" if word == "stale" else "was not there"
            )
            session.output.result({"ID": each, "receipt": word}, f"{each}  {text}")
        some.clear()

    for each in _ids(ids):
        some.append(each)
        if len(some) == _AT_ONCE:
            await send()
    if some:
        await send()
    if not receipt:
        session.output.result({"IDs": deleted}, f"deleted {many(deleted, 'ID')}")
    return None


@click.command()
@click.argument("tenant")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--stamp", metavar="TIME", type=STAMP, help="Of an earlier attempt: what was stored after it stays."
)
@click.option("--ack", type=click.Choice(get_args(Ack)), help="Which nodes must have it on disk.")
@remote
async def erase(session: Session, tenant: str, yes: bool, stamp: int | None, ack: Ack | None) -> Exit | None:
    """
    Delete a tenant with everything that it owns.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("give --yes: there is no terminal on which to ask")
        owned = (await session.client.count(tenant)).counter
        session.ask(f"Delete {many(owned, 'item')} of {shown(tenant)!r}?")
    erased = await session.client.erase(tenant, ack=ack, stamp=stamp)
    session.output.result(erased, f"deleted {many(erased.deleted, 'item')} of {shown(erased.tenant)}")
    return None
