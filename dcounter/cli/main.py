"""
The entry point of `dcounter`.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from dcounter import __version__
from dcounter.cli.exits import Exit
from dcounter.cli.failures import Failed, Stopped
from dcounter.cli.group import LazyGroup
from dcounter.cli.settings import Settings, json_option, url_options

COMPLETE = "_DCOUNTER_COMPLETE"
"""
The environment variable by which a shell asks for completions.
"""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="'dcounter COMMAND --help' tells more about a command.",
)
@url_options(root=True)
@json_option
@click.version_option(__version__, message="dcounter %(version)s")
@click.pass_context
def root(context: click.Context) -> None:
    """
    Count items per tenant, exactly, while machines die.
    """
    settings = context.ensure_object(Settings)
    settings.token = os.environ.get("DCOUNTER_TOKEN") or None
    if os.environ.get("NO_COLOR"):
        context.color = False


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run `dcounter`, and end the process.
    """
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    if COMPLETE in os.environ:
        from click.shell_completion import shell_complete

        raise SystemExit(shell_complete(root, {}, "dcounter", COMPLETE, os.environ[COMPLETE]))
    try:
        code = run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        _end_by(signal.SIGPIPE)
    raise SystemExit(code)


def run(arguments: Sequence[str], group: click.Group = root) -> int:
    """
    Run `dcounter`; return the exit status.

    :param group: other commands instead, for tests.
    """
    context: click.Context | None = None
    try:
        with group.make_context("dcounter", [*arguments]) as context:
            group.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        settings = context.find_object(Settings) if context else None
        if isinstance(error, Failed) and settings is not None and settings.json:
            import msgspec

            click.echo(msgspec.json.encode(error.document()), err=True)
        else:
            error.show()
        return error.exit if isinstance(error, Failed) else error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        # Such as a full disk behind standard output.
        where = f": {error.filename}" if error.filename else ""
        Failed(f"{error.strerror or error}{where}").show()
        return Exit.FAILED
    except Stopped as stopped:
        _end_by(stopped.number)
    except (KeyboardInterrupt, click.Abort):
        _end_by(signal.SIGINT)
    return 0


def _end_by(number: int) -> NoReturn:
    """
    End this process as a signal does whose default nobody has changed, so that shells see why it ended.
    """
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # It is blocked.
    raise SystemExit(128 + number)
