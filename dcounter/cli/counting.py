"""
The commands that ask for counts and for items.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, get_args

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import Output, columns, many, shown
from dcounter.cli.remote import remote
from dcounter.cli.session import Session
from dcounter.words import Consistency

_AT_ONCE: Final = 1_000
"""
How many tenants or IDs the daemon takes in one request.
"""

_F = TypeVar("_F", bound=Callable[..., Any])


def read_options(command: _F) -> _F:
    """
    Adds the options of every question.
    """
    consistency = click.option(
        "--consistency",
        type=click.Choice(get_args(Consistency)),
        help="What to answer if the exact number is not known now.",
    )
    after = click.option(
        "--after", metavar="POSITION", help="The answer includes everything that this position covers."
    )
    return consistency(after(command))


def is_exact(output: Output, answer: Any) -> bool:
    """
    Whether an answer is exact; if it is not, people are told.
    """
    if answer.complete is not False:
        return True
    nodes = ", ".join(map(str, answer.missing))
    output.warn(f"the answer is not exact: items of these nodes may be missing: {nodes}")
    return False


@click.command()
@click.argument("tenants", nargs=-1, metavar="[TENANT]...")
@click.option("--prefix", metavar="TEXT", help="Count what all tenants own whose names begin with this.")
@read_options
@remote
async def count(
    session: Session,
    tenants: Sequence[str],
    prefix: str | None,
    consistency: Consistency | None,
    after: str | None,
) -> Exit | None:
    """
    Count the items of tenants.

    For one tenant it writes the number alone, for several a line for each. Without a TENANT it counts
    everything.
    """
    if tenants and prefix is not None:
        raise click.UsageError("--prefix and TENANT cannot be used together")
    client, output = session.client, session.output
    if not tenants:
        whole = await client.count_prefix(prefix or "", consistency=consistency, after=after)
        output.result(whole, f"{many(whole.counter, 'item')} of {many(whole.tenants, 'tenant')}")
        return None if is_exact(output, whole) else Exit.NO
    exact = True
    for first in range(0, len(tenants), _AT_ONCE):
        some = await client.counts(tenants[first : first + _AT_ONCE], consistency=consistency, after=after)
        text = columns([], [[str(each.counter), shown(each.tenant)] for each in some.counts], right=[0])
        output.result(some, str(some.counts[0].counter) if len(tenants) == 1 else text)
        exact &= is_exact(output, some)
    return None if exact else Exit.NO


# A negative ID is no option.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("ids", nargs=-1, required=True, type=int, metavar="ID...")
@read_options
@remote
async def get(
    session: Session, ids: Sequence[int], consistency: Consistency | None, after: str | None
) -> Exit | None:
    """
    Show which tenant owns an ID.

    The exit status is 3 if no tenant owns one of them.
    """
    complete = True
    for first in range(0, len(ids), _AT_ONCE):
        some = await session.client.look_up(
            ids[first : first + _AT_ONCE], consistency=consistency, after=after
        )
        rows = [[str(each.ID), shown(each.tenant), each.lastUpdateDt] for each in some.items]
        text = columns([], rows, right=[0]) if rows else None
        session.output.result(some, text)
        for each in some.unknown:
            session.output.remark(f"ID {each}: no tenant owns it")
        complete &= is_exact(session.output, some) and not some.unknown
    return None if complete else Exit.NO
