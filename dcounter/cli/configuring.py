"""
The command that checks a configuration.
"""

from typing import Final, Literal

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import Output, shown
from dcounter.cli.remote import offline

_SURE: Final = "nothing is wrong"


@click.group()
def config() -> None:
    """
    Check the configuration of a daemon.
    """


@config.command()
@click.argument("file", type=click.Path(dir_okay=False), required=False)
@click.option("--node", "is_node", is_flag=True, help="It is that of 'twistd dcounter node'.")
@offline
def check(output: Output, file: str | None, is_node: bool) -> Exit | None:
    """
    Find what is wrong in a configuration, without starting anything.

    FILE is what --config would name; without it, only the variables DCOUNTER_... are checked. The files
    that it names are read as well. Nothing is made or changed, and no port is tried. The exit status is 3 if
    a daemon would not start with it.
    """
    import os

    from dcounter.daemon.configuration_check import check as examine

    role: Literal["daemon", "node"] = "node" if is_node else "daemon"
    findings = examine(file, os.environ, role)
    lines = [shown(str(each)) if each.fatal else f"note: {shown(str(each))}" for each in findings]
    output.result(
        {"findings": [{"where": each.where, "text": each.text, "fatal": each.fatal} for each in findings]},
        "\n".join(lines) or _SURE,
    )
    return Exit.NO if any(each.fatal for each in findings) else None
