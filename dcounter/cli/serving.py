"""
The command that runs the daemon.
"""

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, cast

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from dcounter.daemon.settings import Setting

_NODE: Final = "node"
"""
The subcommand that runs a single node.
"""


class _Serve(click.Command):
    """
    A command with the options of the daemon, which reads them itself.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_NODE] = _NODE in args
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from dcounter.daemon.options import in_help

        for group, members in groupby(_settings(node=ctx.meta[_NODE]), lambda each: each.group):
            rows = [
                (f"--{each.name}", each.help)
                if each.is_flag
                else (f"--{each.name} {_metavar(each)}", in_help(each))
                for each in members
            ]
            with formatter.section(group):
                formatter.write_dl(rows)
        with formatter.section("Configuration"):
            formatter.write_dl([("--config FILE", "A file with options (TOML).")])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        found = [CompletionItem(f"--{each.name}", help=each.help) for each in _settings(node=ctx.meta[_NODE])]
        return [each for each in found if each.value.startswith(incomplete)]


def _settings(*, node: bool) -> "Sequence[Setting]":
    from dcounter.daemon.option_table import DAEMON, NODE

    return NODE if node else DAEMON


def _metavar(setting: "Setting") -> str:
    if setting.kind.is_path:
        return "FILE" if setting.name.endswith(("file", "cert", "key", "ca")) else "DIR"
    return (setting.kind.unit or "VALUE").upper()


@click.command(
    cls=_Serve,
    options_metavar="",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[node] [OPTION]...")
def serve(options: tuple[str, ...]) -> None:
    """
    Run the daemon in the foreground.

    It is short for 'twistd --nodaemon --pidfile= dcounter', and has its options. Each of them can also be set
    by an environment variable or in a file: see docs/configuration.md. With the word 'node', a single node
    runs instead. Ctrl-C stops it.
    """
    from twisted.python.usage import UsageError
    from twisted.scripts import twistd

    config = cast(Any, twistd).ServerOptions()
    try:
        # No pid file: a foreground process needs none, and a stale one would stop the next start.
        config.parseOptions(["--nodaemon", "--pidfile=", "dcounter", *options])
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    twistd.runApp(config)
