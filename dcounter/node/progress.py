"""
Progress of the start of a node, told by the node to what runs it.

A node in the same process tells it by a call, one in a child process by lines on a pipe.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from dcounter.errors import CorruptJournal, NewerJournal

State = Literal["up", "waits", "cannot start"]
"""
`up`: it listens. `waits`: for something that may end by itself. `cannot start`: for a reason that lasts until
an operator does something about it.
"""

CANNOT_START = 78
"""
The exit status of a node that cannot start; `EX_CONFIG` of sysexits.h.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """
    What a node tells.

    :ivar why: the reason, with what to do about it; empty for `up`.
    """

    state: State
    why: str = ""

    def sentence(self, node: int) -> str:
        """
        For people.
        """
        return f"node {node} {self.state}: {self.why}" if self.why else f"node {node} is {self.state}"

    def to_line(self) -> bytes:
        """
        As a line for the pipe.
        """
        return f"{self.state}: {' '.join(self.why.split())}\n".encode(errors="backslashreplace")

    @classmethod
    def from_line(cls, line: bytes) -> "Progress | None":
        """
        What a line says; `None` if it is something else.
        """
        state, _, why = line.decode(errors="replace").partition(": ")
        return cls(cast(State, state), why.strip()) if state in get_args(State) else None


Tell = Callable[[Progress], None]
"""
Is told how the start goes.
"""

_REMEDIES: Mapping[int, str] = {
    errno.EACCES: "see that it and all in it can be written by the user that runs dcounter",
    errno.EPERM: "see that it and all in it can be written by the user that runs dcounter",
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room for this user on that disk",
    errno.EROFS: "mount it so that it can be written",
    errno.EEXIST: "if it is a link, mount what it leads to; if it is a file, move it away",
    errno.ENOTDIR: "move the file that is in the place of a directory away",
    errno.EMFILE: "raise the limit of open files",
    errno.ENFILE: "raise the limit of open files",
}


def reason(error: Exception, *, place: str, remedy: str) -> str:
    """
    Why a node cannot start, and what to do.

    :param place: the directory of its journal; empty if it has none.
    :param remedy: how a damaged journal is made anew.
    """
    where = f" (in {place})" if place and place not in str(error) else ""
    if isinstance(error, CorruptJournal):
        return f"its journal is damaged: {error}{where}. {remedy}"
    if isinstance(error, NewerJournal):
        return (
            f"its journal was written by a newer version of dcounter: {error}{where}; "
            "start it with that version or a newer one"
        )
    todo: str | None = "put this node's own directory in its place, or start it with its own id and secret"
    if isinstance(error, OSError):
        todo = _REMEDIES.get(error.errno or 0)
    return f"its journal cannot be used: {error}{where}" + (f"; {todo}" if todo else "")
