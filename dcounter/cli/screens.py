"""
A part of the terminal that is drawn again and again.
"""

import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import click

from dcounter.cli.output import coloured, is_terminal
from dcounter.cli.session import Session


async def redraw(session: Session, every_s: float, draw: Callable[[], Awaitable[tuple[Any, str]]]) -> None:
    """
    Draw until Ctrl-C. On a terminal the new picture takes the place of the old one.

    While the daemon cannot be asked, the reason is drawn instead.

    :param every_s: time (s) between two pictures.
    :param draw: what to show: a value for programs, and a text for people.
    """
    from twisted.internet.task import deferLater

    if session.output.json or not is_terminal():
        while True:
            session.output.result(*await _drawn(session, draw))
            await deferLater(session.reactor, every_s)
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            _, text = await _drawn(session, draw)
            live.update(Text.from_ansi(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            await deferLater(session.reactor, every_s)


async def _drawn(session: Session, draw: Callable[[], Awaitable[tuple[Any, str]]]) -> tuple[Any, str]:
    from dcounter.cli.explaining import explained
    from dcounter.client_answers import Refused, Unexpected, Unreachable

    try:
        return await draw()
    except (Refused, Unexpected, Unreachable) as error:
        if isinstance(error, Refused) and not error.retryable:
            raise
        failed = explained(error, session.url)
        return failed.document(), coloured(f"{failed.message}; trying again", "red")


def width() -> int:
    """
    How many columns the terminal has.
    """
    return shutil.get_terminal_size().columns


def good(text: str, *, well: bool) -> str:
    """
    A text in the colour of what is well, or of what is not.
    """
    return click.style(text, fg="green" if well else "red", bold=True)
