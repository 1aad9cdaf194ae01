"""
A part of the terminal that is drawn again and again.
"""

import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import click

from dcounter.cli.output import is_terminal
from dcounter.cli.session import Session


async def redraw(session: Session, every_s: float, draw: Callable[[], Awaitable[tuple[Any, str]]]) -> None:
    """
    Draw until Ctrl-C. On a terminal the new picture takes the place of the old one.

    :param every_s: time (s) between two pictures.
    :param draw: what to show: a value for programs, and a text for people.
    """
    from twisted.internet.task import deferLater

    if session.output.json or not is_terminal():
        while True:
            session.output.result(*await draw())
            await deferLater(session.reactor, every_s)
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            _, text = await draw()
            live.update(Text.from_ansi(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            await deferLater(session.reactor, every_s)


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
