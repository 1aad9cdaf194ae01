"""
Which process holds each node id, as one node sees it: two at once would be copies of one journal.

A process that starts is a new one, so a node that was killed comes back as another process: that is let in at
once when the connections of its predecessor are gone, as they are when a process ends. A process that was
refused already has to wait until its rival has been gone for a while: it must not slip in between two
connections of the rival.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_REMEMBERED = 64
"""
Processes that were refused last and are remembered: copies of a journal are few.
"""


@dataclass(frozen=True, slots=True)
class _Holder:
    """
    A process at the other end of a connection.

    :ivar host: the machine that it is on, for people.
    """

    node: int
    instance: str
    host: str


class Holders:
    """
    The processes that are connected to one node, by the ids that they hold.

    :param own: the id of the node itself, and the text of its process.
    :param patience: time (s) for which a process that was refused waits after its rival is gone.
    :param seconds: the clock (s).
    """

    def __init__(self, own: tuple[int, str], *, patience: float, seconds: Callable[[], float]) -> None:
        self._patience = patience
        self._seconds = seconds
        self._holders: dict[int, _Holder] = {0: _Holder(*own, "this machine")}
        self._gone: dict[int, tuple[_Holder, float]] = {}
        self._refused: deque[str] = deque(maxlen=_REMEMBERED)

    def joined(self, channel: int, node: int, instance: str, host: str) -> None:
        """
        A process is connected.

        :param channel: any number above 0 that no other connection has.
        """
        self._holders[channel] = _Holder(node, instance, host)

    def left(self, channel: int) -> None:
        """
        A connection is gone.
        """
        holder = self._holders.pop(channel, None)
        if holder is not None:
            self._gone[holder.node] = holder, self._seconds()

    def processes(self, node: int) -> set[str]:
        """
        The processes that are connected as this node.
        """
        return {holder.instance for holder in self._holders.values() if holder.node == node}

    def note_rival(self, node: int, instance: str) -> str | None:
        """
        Where another process is that holds this node id; `None` if there is none.

        If there is one, the asking process counts as refused from now on.
        """
        for holder in self._holders.values():
            if holder.node == node and holder.instance != instance:
                if instance not in self._refused:
                    self._refused.append(instance)
                return holder.host
        if instance in self._refused and node in self._gone:
            holder, since = self._gone[node]
            if holder.instance != instance and self._seconds() - since < self._patience:
                return holder.host
        return None
