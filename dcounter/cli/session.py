"""
What a command that calls a daemon has to work with.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dcounter.cli.output import Output

if TYPE_CHECKING:
    # To show the help of a command must not import Twisted.
    from dcounter.client import Client


@dataclass(frozen=True)
class Session:
    """
    A daemon, and where to write.

    :ivar url: of the daemon.
    :ivar client: calls it.
    :ivar output: takes the result.
    :ivar reactor: for timers.
    :ivar wall: the wall clock (ns since 1970).
    """

    url: str
    client: "Client"
    output: Output
    reactor: Any
    wall: Callable[[], int]

    def ask(self, question: str) -> None:
        """
        Go on only if the person at the terminal says yes.

        :raises click.Abort: the answer is no.
        """
        # While people think, nothing else is under way that Ctrl-C would have to end in order.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            click.confirm(question, abort=True, err=True)
        finally:
            signal.signal(signal.SIGINT, before)
