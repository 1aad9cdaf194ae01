"""
The command that shows how the cluster is.
"""

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import columns, shown
from dcounter.cli.remote import remote
from dcounter.cli.session import Session


@click.command()
@remote
async def status(session: Session) -> Exit | None:
    """
    Show whether counts are exact, writes are taken, and how the nodes are.

    The exit status is 3 unless counts are exact and writes are taken.
    """
    cluster = await session.client.status()
    rows = [
        [str(each.id), each.role, each.state, str(each.lag), shown(each.address)] for each in cluster.nodes
    ]
    session.output.result(cluster, columns(["node", "role", "state", "lag", "address"], rows))
    return None
