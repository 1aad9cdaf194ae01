"""
The reference of the command `dcounter`, made from the command itself.
"""

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Final

import click

from dcounter.cli.exits import Exit
from dcounter.cli.main import root
from dcounter.cli.table import SECTIONS

_SHARED: Final = frozenset({"url", "token_file", "cert", "json"})
"""
Options that are described once, for all commands.
"""


def commands() -> str:
    """
    Every command: what it is for, its usage, its arguments and options.
    """
    context = click.Context(root, info_name="dcounter")
    parts = []
    for title, rows in SECTIONS.items():
        parts.append(f"### {title}")
        for name in rows:
            command = root.get_command(context, name)
            assert command is not None
            parts += _command(command, click.Context(command, context, info_name=name))
    return "\n\n".join(parts)


def shared_options() -> str:
    """
    The options that may stand before the name of a command.
    """
    return _table(click.Context(root, info_name="dcounter"), without=frozenset())


def exit_statuses() -> str:
    """
    How commands end.
    """
    rows = [f"| {each.value} | {each.meaning} |" for each in Exit]
    return "\n".join(["| status | |", "|---|---|", *rows])


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"#### `{context.command_path}`"
    yield _prose(cleandoc(command.help or ""))
    if isinstance(command, click.Group):
        for name, each in sorted(command.commands.items()):
            yield from _command(each, click.Context(each, context, info_name=name))
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```"
    table = _table(context)
    if table:
        yield table
    if command.epilog:
        yield _prose(command.epilog)
    # `backup FILE` is a command that has a subcommand as well.
    for name, each in getattr(command, "commands", {}).items():
        yield from _command(each, click.Context(each, context, info_name=name))


def _prose(text: str) -> str:
    # "\b" keeps click from wrapping: such lines are shown as they are.
    kept = re.split(r"\n?\x08\n", text)
    return "\n\n".join(
        [_quoted(kept[0].strip()), *(f"```text\n{each.strip()}\n```" for each in kept[1:])]
    ).strip()


def _quoted(text: str) -> str:
    return re.sub(r"'([^']+)'|(?<![\w`-])(--[a-z][\w-]*)", lambda found: f"`{found[1] or found[2]}`", text)


def _table(context: click.Context, without: frozenset[str] = _SHARED) -> str:
    rows = []
    for each in context.command.get_params(context):
        record = each.get_help_record(context)
        if record is not None and record[1] and each.name not in without and "--help" not in each.opts:
            name, text = (" ".join(part.replace("|", "\\|").split()) for part in record)
            rows.append(f"| `{name}` | {_quoted(text)} |")
    return "\n".join(["| option | |", "|---|---|", *rows]) if rows else ""
