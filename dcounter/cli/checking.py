"""
The command that checks a data directory.
"""

from typing import TYPE_CHECKING

import click

from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed
from dcounter.cli.output import Output, columns, many, shown
from dcounter.cli.progress import Spinner
from dcounter.cli.remote import offline
from dcounter.cli.screens import good

if TYPE_CHECKING:
    from dcounter.daemon.checking import Checked


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False), metavar="DIR")
@offline
def check(output: Output, directory: str) -> Exit | None:
    """
    Find what is wrong in a data directory that no daemon uses.

    DIR is that of a daemon, or of one node. Every line of every journal and snapshot is compared with its
    checksum; then each node is started in memory, and the nodes are compared with each other. Nothing is
    changed. It says which file is wrong and where, and what to do. The exit status is 3 if anything is wrong.
    """
    from dcounter.daemon.checking import check as examine
    from dcounter.errors import ConfigurationError, DirectoryInUse
    from dcounter.limits import Limits

    try:
        with Spinner(enabled=not output.json) as spinner:
            found = examine(directory, Limits(), spinner.say)
    except DirectoryInUse as error:
        raise Failed(
            str(error),
            "What a running daemon writes cannot be checked: stop it first, or check a copy. 'dcounter audit'"
            " compares its nodes while it runs.",
            code="in_use",
        ) from error
    except ConfigurationError as error:
        raise Failed(str(error), code="unreadable") from error
    output.result(found, picture(found))
    return Exit.NO if found.faults else None


def picture(found: "Checked") -> str:
    """
    What was found, for people.
    """
    rows = [
        [
            str(each.node),
            good("whole", well=True) if each.whole else good("wrong", well=False),
            *map(_number, (each.items, each.tombstones, each.tenants)),
            f"{each.files:,}",
            f"{each.lines:,}",
            f"{each.bytes:,}",
        ]
        for each in found.nodes
    ]
    heads = ["node", "state", "items", "deleted", "tenants", "files", "lines", "bytes"]
    faults = [click.style(f"{shown(each.file)} {shown(each.why)}", fg="red") for each in found.faults]
    paragraphs = [
        [columns(heads, rows, right=range(2, len(heads)))],
        [*faults, *map(shown, found.remarks)],
        ["What to do:", *(f"- {shown(each)}" for each in found.advice)] if found.advice else [],
    ]
    if found.faults:
        end = f"{many(len(found.faults), 'fault')} in {shown(found.directory)}"
    else:
        end = f"nothing is wrong in {shown(found.directory)}"
    return "\n\n".join("\n".join(lines) for lines in [*paragraphs, [end]] if lines)


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
