"""
The commands that list tenants and items.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from dcounter.cli.counting import is_exact, read_options
from dcounter.cli.drawing import bar
from dcounter.cli.exits import Exit
from dcounter.cli.output import coloured, columns, is_terminal, shown
from dcounter.cli.remote import remote
from dcounter.cli.screens import redraw, width
from dcounter.cli.session import Session
from dcounter.words import Consistency, Order

if TYPE_CHECKING:
    from dcounter.http.answer_bodies import CountOf

_PAGE: Final = 1_000
_TOP: Final = 10
_BETWEEN_PICTURES_S: Final = 1.0
_BAR: Final = 30
_LONGEST_NAME: Final = 60


async def _walk(
    session: Session,
    limit: int | None,
    ask: Callable[[int, str | None], Awaitable[Any]],
    write: Callable[[Any], int],
) -> Exit | None:
    """
    Ask for page after page, and write each.

    :param limit: of the elements; `None`: all of them.
    :param ask: for a page of at most so many elements, after a cursor.
    :param write: writes a page, and says how many elements it has.
    """
    left = limit
    cursor = None
    exact = True
    while left is None or left > 0:
        page = await ask(_PAGE if left is None else min(left, _PAGE), cursor)
        written = write(page)
        exact = is_exact(session.output, page) and exact
        if left is not None:
            left -= written
        cursor = page.cursor or None
        if cursor is None:
            break
    return None if exact else Exit.NO


@click.command()
@click.option("--prefix", metavar="TEXT", default="", help="Only tenants whose names begin with this.")
@click.option("--by-count", is_flag=True, help="Those that own most first; else in the order of names.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.")
@read_options
@remote
async def tenants(
    session: Session,
    prefix: str,
    by_count: bool,
    limit: int | None,
    consistency: Consistency | None,
    after: str | None,
) -> Exit | None:
    """
    List the tenants that own items, and how many.

    With --json each line is a tenant.
    """
    sort: Order | None = "-count" if by_count else None

    def write(page: Any) -> int:
        for each in page.tenants:
            session.output.result(each, f"{each.counter:>12}  {shown(each.tenant)}")
        return len(page.tenants)

    return await _walk(
        session,
        limit,
        lambda size, cursor: session.client.tenants(
            sort=sort, prefix=prefix, limit=size, cursor=cursor, consistency=consistency, after=after
        ),
        write,
    )


@click.command()
@click.argument("tenant")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.")
@read_options
@remote
async def items(
    session: Session, tenant: str, limit: int | None, consistency: Consistency | None, after: str | None
) -> Exit | None:
    """
    List the IDs that a tenant owns, in ascending order.

    With --json each line is an ID.
    """

    def write(page: Any) -> int:
        for each in page.IDs:
            session.output.result({"ID": each}, str(each))
        return len(page.IDs)

    return await _walk(
        session,
        limit,
        lambda size, cursor: session.client.items_of(
            tenant, limit=size, cursor=cursor, consistency=consistency, after=after
        ),
        write,
    )


@click.command()
@click.argument("number", metavar="[N]", type=click.IntRange(1, _PAGE), default=_TOP)
@click.option("--prefix", metavar="TEXT", default="", help="Only tenants whose names begin with this.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C, and show how fast counts change.")
@remote
async def top(session: Session, number: int, prefix: str, watch: bool) -> Exit | None:
    """
    Show the tenants that own most.

    N is how many, 10 if it is left out.
    """
    before: dict[str, int] = {}
    at = session.reactor.seconds()

    async def draw() -> tuple[Any, str]:
        nonlocal before, at
        page = await session.client.tenants(sort="-count", prefix=prefix, limit=number)
        now = session.reactor.seconds()
        text = _picture(page.tenants, before, now - at, rates=watch)
        before, at = {each.tenant: each.counter for each in page.tenants}, now
        return page, text

    if watch:
        await redraw(session, _BETWEEN_PICTURES_S, draw)
    page, text = await draw()
    session.output.result(page, text)
    return None if is_exact(session.output, page) else Exit.NO


def _picture(found: "Sequence[CountOf]", before: dict[str, int], elapsed: float, *, rates: bool) -> str:
    if not found:
        return "no tenant owns an item"
    most = found[0].counter
    rows = []
    for each in found:
        name = shown(each.tenant)
        row = [f"{each.counter:,}"]
        if rates:
            gained = each.counter - before.get(each.tenant, each.counter)
            rate = f"{gained / elapsed:+,.0f}/s" if gained and elapsed else ""
            row.append(coloured(rate, "green" if gained > 0 else "red"))
        if is_terminal():
            name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
            row.append(coloured(bar(each.counter / most, min(_BAR, max(5, width() // 3))), "cyan"))
        rows.append([*row, name])
    return columns([], rows, right=[0, 1] if rates else [0])
