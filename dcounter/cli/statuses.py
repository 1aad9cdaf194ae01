"""
The command that shows the state of the cluster.
"""

from typing import TYPE_CHECKING, Final

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import coloured, columns, shown
from dcounter.cli.remote import remote
from dcounter.cli.screens import good, redraw
from dcounter.cli.session import Session

if TYPE_CHECKING:
    from dcounter.cli.standing import Look, Standing

_BETWEEN_LOOKS_S: Final = 0.5
"""
Time (s) between two looks, from which rates are told: nodes report five times a second.
"""

_BETWEEN_PICTURES_S: Final = 1.0


@click.command()
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@remote
async def status(session: Session, watch: bool) -> Exit | None:
    """
    Show whether counts are exact, writes are taken, and how the nodes are.

    The first line says how many more nodes may be lost for good: whichever they are, what was stored at least
    half a second ago is still there. The exit status is 3 unless counts are exact and writes are taken.
    """
    from twisted.internet.task import deferLater

    from dcounter.cli.standing import Standing, standing

    last = await _look(session)

    async def draw() -> tuple[Standing, str]:
        nonlocal last
        now = await _look(session)
        found, last = standing(last, now), now
        return found, _picture(found)

    await deferLater(session.reactor, _BETWEEN_LOOKS_S)
    if watch:
        await redraw(session, _BETWEEN_PICTURES_S, draw)
    found, text = await draw()
    session.output.result(found, text)
    return None if found.exact and found.writes else Exit.NO


async def _look(session: Session) -> "Look":
    from dcounter.cli.standing import Look
    from dcounter.client_answers import Refused

    try:
        ready = await session.client.readiness()
        told = True, ready.exact, ready.warnings
    except Refused as refused:
        if refused.code != "not_ready":
            raise
        told = False, refused.problem["exact"], refused.problem["warnings"]
    try:
        cluster = await session.client.status()
    except Refused as refused:
        # An engine over another database has no nodes.
        if refused.code != "not_supported":
            raise
        cluster = None
    return Look(session.reactor.seconds(), *told, cluster)


def _picture(found: "Standing") -> str:
    line = f"exact: {_yes_or_no(found.exact)}  writes: {_yes_or_no(found.writes)}"
    if found.may_be_lost is not None:
        number = good(str(found.may_be_lost), well=found.may_be_lost > 0)
        line += f"  nodes that may still be lost: {number} of {len(found.nodes)}"
    parts = [line]
    if found.nodes:
        rows = [
            [
                str(each.id),
                click.style(each.role, bold=True) if each.role == "primary" else each.role,
                each.state if each.state == "up" else good(each.state, well=False),
                f"{each.items:,}",
                f"{each.lag:,}",
                "-" if each.writes_per_s is None else f"{each.writes_per_s:,.0f}",
                shown(each.address),
                coloured(shown("; ".join(each.remarks)), "yellow"),
            ]
            for each in found.nodes
        ]
        heads = ["node", "role", "state", "items", "lag", "writes/s", "address", ""]
        parts += ["", columns(heads, rows, right=[0, 3, 4, 5])]
    if found.warnings:
        parts += ["", *(coloured(f"! {shown(each)}", "yellow") for each in found.warnings)]
    return "\n".join(parts)


def _yes_or_no(well: bool) -> str:
    return good("yes" if well else "no", well=well)
