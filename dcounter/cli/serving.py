"""
The command that runs the daemon.
"""

from typing import Any, cast

import click


@click.command(
    # All that follows is for the daemon, --help as well.
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION]...")
def serve(options: tuple[str, ...]) -> None:
    """
    Run the daemon in the foreground.

    It takes the options of 'twistd dcounter' (docs/configuration.md): 'dcounter serve --help' lists them.
    Ctrl-C stops it.
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
