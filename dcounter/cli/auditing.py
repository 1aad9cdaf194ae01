"""
The command that proves the counts.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import columns, shown
from dcounter.cli.remote import remote
from dcounter.cli.screens import good
from dcounter.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dcounter.http.audit_bodies import AuditResult, RunningAudit

_BETWEEN_LOOKS_S: Final = 0.5
_SHOWN: Final = 10
"""
How many wrong counts and items people are shown; --json shows all that the daemon tells.
"""


@click.command()
@click.argument("tenants", nargs=-1, metavar="[TENANT]...")
@click.option("--repair", is_flag=True, help="Make a node anew from the others if it is found to be wrong.")
@click.option("--last", is_flag=True, help="Only show the last audit of this daemon.")
@remote
async def audit(session: Session, tenants: Sequence[str], repair: bool, last: bool) -> Exit | None:
    """
    Count everything anew, and compare all nodes.

    Nothing is stopped for it. It shows what each TENANT owns, as counted anew. The exit status is 3 if the
    nodes differ. Only operators may do this: on the daemon's machine, with
    --token-file DATA-DIR/operator-token.
    """
    if last:
        if tenants or repair:
            raise click.UsageError("--last asks for no new audit: leave out the rest")
        state = await session.client.audits()
        session.output.result(state, None)
        if not session.output.json:
            click.echo(_of_all(state))
        return Exit.NO if not state.last or not state.last.equal else None
    result = await _followed(session, session.client.audit(tenants, repair=repair))
    session.output.result(result, picture(result))
    return None if result.equal else Exit.NO


async def _followed(session: Session, asking: "Coroutine[Any, Any, AuditResult]") -> "AuditResult":
    """
    Await an audit, and show on a terminal how far it is.
    """
    from twisted.internet.defer import CancelledError, Deferred
    from twisted.internet.task import LoopingCall

    from dcounter.client_answers import Refused, Unexpected, Unreachable

    with ExitStack() as closing:
        if sys.stderr.isatty() and not session.output.json:
            from rich.console import Console

            shown_now = closing.enter_context(Console(stderr=True).status("auditing"))

            async def look() -> None:
                with suppress(Refused, Unexpected, Unreachable):
                    state = await session.client.audits()
                    if state.running:
                        shown_now.update(_progress(state.running))

            looking = LoopingCall(lambda: Deferred.fromCoroutine(look()))
            looking.clock = session.reactor
            looking.start(_BETWEEN_LOOKS_S)
            closing.callback(looking.stop)
        try:
            return await asking
        except CancelledError:
            session.output.remark("the audit goes on without this command: 'dcounter audit --last' shows it")
            raise


def _progress(running: "RunningAudit") -> str:
    return f"an audit runs: {running.phase}, {running.counted:.0%} of the rows are counted"


def _of_all(state: Any) -> str:
    parts = []
    if state.running:
        parts.append(_progress(state.running))
    if state.failure:
        parts.append(f"the last audit was not finished, or could not repair: {shown(state.failure)}")
    if state.last:
        parts += [f"audited {state.age_ms / 1000:,.0f} s ago", picture(state.last)]
    return "\n".join(parts) or "nothing was audited since the daemon started"


def picture(result: "AuditResult") -> str:
    """
    The result of an audit for people.
    """
    nodes = ", ".join(map(str, result.nodes))
    what = f"{result.items:,} items, {result.tombstones:,} deleted IDs, in {result.duration_ms / 1000:.1f} s"
    if result.equal:
        lines = [f"{good('equal', well=True)}: the nodes {nodes} hold the same and count it rightly: {what}"]
    else:
        lines = [f"{good('different', well=False)}: the nodes {nodes} do not agree: {what}"]
    lines += [f"node {each.node} was not audited: {shown(each.why)}" for each in result.not_audited]
    if result.repaired:
        lines.append(f"made anew before: node {', '.join(map(str, result.repaired))}")
    if result.differences:
        lines += _differences(result.differences)
    if result.counts:
        rows = [[f"{each.counter:,}", shown(each.tenant)] for each in result.counts]
        lines.append(columns([], rows, right=[0]))
    return "\n".join(lines)


def _differences(found: Any) -> list[str]:
    lines = []
    if found.wrong_nodes:
        lines.append(
            f"wrong: node {', '.join(map(str, found.wrong_nodes))}. To make it anew: dcounter audit --repair"
        )
    if found.undecided:
        lines.append("for some items no more than half of the nodes agree: it is not known which are wrong")
    for each in found.counts[:_SHOWN]:
        told = ", ".join(f"node {at.node} tells {at.kept:,} and has {at.counted:,}" for at in each.nodes)
        name = "deleted IDs" if each.tenant is None else shown(each.tenant)
        lines.append(f"count of {name}: {told}")
    for each in found.items[:_SHOWN]:
        told = ", ".join(f"node {at.node}: {_row(at.row)}" for at in each.nodes)
        lines.append(f"ID {each.ID}: {told}")
    lines.append(
        f"{found.all_counts:,} wrong counts and {found.all_items:,} different items; --json shows more"
    )
    return lines


def _row(row: Any) -> str:
    return shown(row.tenant) if row.state == "stored" else str(row.state)
