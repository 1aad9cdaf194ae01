"""
What a daemon says when it has started: what it is, where it listens, where the data is, what to try.
"""

import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.logger import Logger

from dcounter.daemon.announcing import Listening
from dcounter.daemon.surroundings import clock_is_kept, number_of_disks
from dcounter.store import Ack

_log = Logger()

_INDENT: Final = 12
_NARROW: Final = 60
"""
Columns of the names, and the fewest columns that lines are wrapped to.
"""

_EXAMPLE: Final = '[{"ID":1,"tenant":"hello"}]'

_CLOCK: Final = (
    "this machine's clock is not synchronised: updates are ordered by it. Run chrony or systemd-timesyncd"
)

_ONE_DISK: Final = (
    "all nodes keep their data on one disk: it survives the death of processes, but not a failure of that "
    "disk. Back up, or run nodes on several machines"
)

_NOTHING_KEPT: Final = "--in-memory: all items are lost when the daemon stops"


@dataclass(frozen=True, slots=True)
class Start:
    """
    What a daemon was started with.

    :ivar nodes: how many there are.
    :ivar elsewhere: whether they run by themselves.
    :ivar directory: of the data of its own nodes; `None`: they keep nothing on disk.
    :ivar places: the directories of the nodes.
    :ivar ack: which nodes have an item on disk before the answer.
    :ivar new: whether this start made the cluster: an example may store items.
    """

    version: str
    nodes: int
    ack: Ack
    elsewhere: bool = False
    directory: str | None = None
    places: Sequence[str] = ()
    new: bool = False

    @property
    def data(self) -> str:
        """
        Where the items are.
        """
        count = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        if self.elsewhere:
            return f"on {count}, which run by themselves"
        return f"{self.directory or 'in memory'}, {count} on this machine"

    @property
    def durability(self) -> str:
        """
        What an answer to a store means.
        """
        if self.directory is None and not self.elsewhere:
            return "none: nothing is on disk"
        first = {
            "node": "1 node",
            "primary": "1 node and the primary",
            "majority": f"{self.nodes // 2 + 1} of {self.nodes} nodes",
            "all": f"all {self.nodes} nodes",
        }[self.ack]
        later = "" if self.ack == "all" or self.nodes == 1 else ", on all soon after"
        return f"items are on the disk of {first} before the answer{later} (--ack {self.ack})"

    def notes(self) -> list[str]:
        """
        What may be better on a machine for production.
        """
        found = []
        if self.directory is None and not self.elsewhere:
            found.append(_NOTHING_KEPT)
        elif self.nodes > 1 and self.places and number_of_disks(self.places) == 1:
            found.append(_ONE_DISK)
        if clock_is_kept() is False:
            found.append(_CLOCK)
        return found


def screen(start: Start, listening: Listening, warnings: Sequence[str], *, colour: bool, width: int) -> str:
    """
    The lines for a terminal.

    :param width: of the terminal, in characters.
    """

    def bold(text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if colour else text

    def marked(text: str) -> str:
        return f"\x1b[33m{text}\x1b[0m" if colour else text

    def row(name: str, value: str) -> list[str]:
        return textwrap.wrap(
            value,
            max(width, _NARROW),
            initial_indent=f"  {name:<{_INDENT}}",
            subsequent_indent=" " * (_INDENT + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )

    rows = [("Listens on", listening.where)]
    if listening.url is not None:
        rows += [("Dashboard", f"{listening.url}/"), ("Requests", f"{listening.url}/docs")]
    rows += [("Data", start.data), ("Durability", start.durability)]
    lines = ["", bold(f"dcounter {start.version}"), "", *(line for each in rows for line in row(*each)), ""]
    if listening.curl is not None:
        path = f"/items -d '{_EXAMPLE}'" if start.new else "/cluster"
        lines += [f"  {'Try':<{_INDENT}}{bold(listening.curl + path)}", ""]
    for each in warnings:
        first, *more = row("Warning", each)
        lines += [first.replace("Warning", marked("Warning"), 1), *more]
    return "\n".join([*lines, "", ""] if warnings else [*lines, ""])


class FirstScreen:
    """
    Shows the start: as a screen on a terminal, else as entries of the log.

    :param show: writes a text to the terminal on which the log is, given whether it may have colours; says
        whether there is one.
    :param warnings: what else an operator should know.
    """

    def __init__(
        self,
        start: Start,
        *,
        show: Callable[[Callable[[bool], str]], bool],
        warnings: Callable[[], Sequence[str]],
    ) -> None:
        self._start = start
        self._show = show
        self._warnings = warnings

    def __call__(self, listening: Listening) -> None:
        warnings = [*self._warnings(), *self._start.notes()]
        start = self._start
        width = shutil.get_terminal_size().columns
        if self._show(lambda colour: screen(start, listening, warnings, colour=colour, width=width)):
            return
        _log.info(
            "dcounter {version}; data: {data}; durability: {durability}",
            version=start.version,
            data=start.data,
            durability=start.durability,
        )
        _log.info("HTTP listens on {where}", where=listening.where)
        for warning in warnings:
            _log.warn("{warning}", warning=warning)
