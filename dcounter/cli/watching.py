"""
The command that shows what changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import shown
from dcounter.cli.remote import remote
from dcounter.cli.session import Session

_NODES: Final = {
    "up": "is up",
    "down": "is down",
    "primary": "is the primary now",
    "refuses": "takes no writes",
    "accepts": "takes writes again",
    "removed": "was removed",
}


@click.command()
@click.argument("tenants", nargs=-1, metavar="[TENANT]...")
@click.option("--prefix", metavar="TEXT", default="", help="Only tenants whose names begin with this.")
@remote
async def events(session: Session, tenants: Sequence[str], prefix: str) -> Exit | None:
    """
    Show what changes, as it happens, until Ctrl-C.

    A connection that is lost is made again. With --json each line is an event.
    """
    if tenants and prefix:
        raise click.UsageError("--prefix and TENANT cannot be used together")
    async for event in session.client.events(tenants=tenants, prefix=prefix):
        session.output.result({"event": event.name, "data": event.data}, in_words(event.name, event.data))
    return None


def in_words(name: str, data: Mapping[str, Any]) -> str | None:
    """
    An event for people; `None` if it tells them nothing.
    """
    match name:
        case "count":
            return f"{data['counter']:>12}  {shown(data['tenant'])}"
        case "node":
            reason = f": {shown(data['reason'])}" if data.get("reason") else ""
            return f"node {data['node']} {_NODES.get(data['change'], data['change'])}{reason}"
        case "reset":
            return "events are missing: ask for the counts again"
        case "dropped":
            return f"the daemon ends this: {shown(data['detail'])}"
        case _:
            return None
