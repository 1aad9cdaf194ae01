"""
What a daemon tells the processes of its nodes while they run.

Each instruction is a line on their standard input: a word, and what belongs to it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.process import ProcessReader
from twisted.python.failure import Failure

SECRETS: Final = "secrets"
"""
The secrets of the cluster, in hexadecimal.
"""

LOG_LEVEL: Final = "log-level"
"""
The lowest level that is logged.
"""

_STDIN: Final = 0


class Instructions(Service):
    """
    Does what the parent process says.

    :param do: for each word, what to do with what belongs to it.
    """

    def __init__(self, do: Mapping[str, Callable[[str], None]], reactor: Any) -> None:
        self._do = do
        self._reactor = reactor
        self._rest = b""

    def startService(self) -> None:
        super().startService()
        ProcessReader(self._reactor, self, "stdin", _STDIN)

    def childDataReceived(self, name: str, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, more = line.decode().partition(" ")
            # A daemon of another release may have started this process after an upgrade.
            if word in self._do:
                self._do[word](more)

    def childConnectionLost(self, name: str, reason: Failure) -> None:
        """
        The parent has ended, and this process is about to.
        """
