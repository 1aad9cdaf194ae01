"""
What makes a coroutine a command that calls a daemon.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import click

from dcounter.cli.exits import Exit
from dcounter.cli.output import Output
from dcounter.cli.session import Session
from dcounter.cli.settings import Settings, json_option, url_options

_P = ParamSpec("_P")


def remote(work: Callable[Concatenate[Session, _P], Coroutine[Any, Any, Exit | None]]) -> Callable[_P, None]:
    """
    Run a coroutine with a client of the daemon, under the reactor; its result is the exit status.
    """

    @wraps(work)
    def command(*arguments: _P.args, **options: _P.kwargs) -> None:
        from dcounter.cli.running import run

        context = click.get_current_context()
        settings = context.ensure_object(Settings)
        context.exit(run(settings, lambda session: work(session, *arguments, **options)) or Exit.OK)

    return url_options()(json_option(command))


def offline(work: Callable[Concatenate[Output, _P], Exit | None]) -> Callable[_P, None]:
    """
    Run a function that calls no daemon; its result is the exit status.
    """

    @wraps(work)
    def command(*arguments: _P.args, **options: _P.kwargs) -> None:
        context = click.get_current_context()
        output = Output(json=context.ensure_object(Settings).json)
        context.exit(work(output, *arguments, **options) or Exit.OK)

    return json_option(command)
