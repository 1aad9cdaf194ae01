"""
What a command that calls a daemon has to work with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
