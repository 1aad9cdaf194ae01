"""
The command that makes a load, so that there is something to look at.
"""

from random import Random
from typing import Final

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import many
from dcounter.cli.remote import remote
from dcounter.cli.session import Session

_TICK_S: Final = 0.25
_PAUSE_S: Final = 1.0
"""
Times (s) between two requests, and after one that failed.
"""

_RATE: Final = 200
_MOST_ITEMS: Final = 100_000
_READ_TENANTS: Final = 3


@click.command()
@click.option(
    "--rate",
    metavar="N",
    type=click.IntRange(1, 20_000),
    default=_RATE,
    show_default=True,
    help="At most so many updates per second.",
)
@click.option(
    "--items",
    metavar="N",
    type=click.IntRange(1, 10_000_000),
    default=_MOST_ITEMS,
    show_default=True,
    help="At most so many items: then old ones are deleted.",
)
@click.option(
    "--seconds", metavar="N", type=click.FloatRange(min=0), help="For so long. [default: until Ctrl-C]"
)
@click.option("--clean", is_flag=True, help="Delete everything that a demo has stored, and do nothing else.")
@remote
async def demo(session: Session, rate: int, items: int, seconds: float | None, clean: bool) -> Exit | None:
    """
    Store items of invented tenants that grow, shrink and move.

    All tenants have names that begin with 'demo/', and all IDs are far below zero: what is yours stays as it
    is. 'dcounter top --watch' and the dashboard show what happens.
    """
    if clean:
        await _clean(session)
        return None
    from twisted.internet.task import deferLater

    from dcounter.cli.demo_load import PREFIX, DemoLoad
    from dcounter.client_answers import Refused, Unreachable

    random = Random(session.wall())  # noqa: S311 - it decides about invented items
    load = DemoLoad(random, most=items)
    session.output.remark(
        f"storing at most {rate:,} items per second for {len(load.tenants)} tenants, {PREFIX}...;"
        " Ctrl-C ends it, 'dcounter demo --clean' deletes them"
    )
    await session.client.readiness()
    began = last = session.reactor.seconds()
    stored = 0
    well = True
    try:
        while seconds is None or last - began < seconds:
            await deferLater(session.reactor, _TICK_S)
            now = session.reactor.seconds()
            try:
                updates = load.updates(now - began, min(now - last, 2 * _TICK_S), rate)
                if updates:
                    stored += (await session.client.store(updates)).items
                await session.client.counts(random.sample(load.tenants, _READ_TENANTS))
                if not well:
                    session.output.remark("the daemon stores again")
                well = True
            except (Refused, Unreachable) as error:
                if isinstance(error, Refused) and not error.retryable:
                    raise
                if well:
                    session.output.remark(f"{error}; trying again")
                well = False
                await deferLater(session.reactor, _PAUSE_S)
            last = now
    finally:
        session.output.result({"updates": stored}, f"stored {many(stored, 'update')}")
    return None


async def _clean(session: Session) -> None:
    from dcounter.cli.demo_load import PREFIX

    deleted = await erase_all(session, PREFIX)
    session.output.result({"deleted": deleted}, f"deleted {many(deleted, 'item')}")


async def erase_all(session: Session, prefix: str) -> int:
    """
    Delete all tenants whose names begin with a text.

    :returns: how many items they owned.
    """
    deleted = 0
    while True:
        page = await session.client.tenants(prefix=prefix, limit=1_000)
        for each in page.tenants:
            deleted += (await session.client.erase(each.tenant)).deleted
        if not page.cursor:
            return deleted
