"""
Makes a node of this daemon anew from the others, while the daemon runs.

The node stops and hands over what it has, its journal is set aside, and it starts empty. Before anything is
set aside, its journal is read: the others must have all of it on their disks.
"""

from collections.abc import Callable, Collection
from contextlib import closing
from functools import partial
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dcounter.audits import NotRepaired
from dcounter.daemon.data_directory import DataDirectory
from dcounter.daemon.kept import read_position
from dcounter.daemon.rebuild import NodeJournal
from dcounter.daemon.setting_aside import set_aside
from dcounter.daemon.supervisor import Between
from dcounter.errors import ConfigurationError
from dcounter.journal.disk import RealDisk
from dcounter.journal.thread import InThread
from dcounter.limits import Limits
from dcounter.protocol.position import Position

_PATIENCE_S = 10.0
"""
Time (s) that the other nodes have to put on their disks what the node has.
"""

_PAUSE_S = 0.1
"""
Time (s) between two looks at that.
"""


class Restarter(Protocol):
    """
    Runs the nodes, and can restart one.
    """

    async def restart(self, node: int, between: Between | None = None) -> None:
        """
        Stop a node and start it again.

        :param between: what to do while it does not run. If that fails, the node is started all the same.
        """


class Positions(Protocol):
    """
    Knows what the nodes have.
    """

    def applied_at(self, node: int) -> Position:
        """
        What a node has, as far as is known.
        """
        ...

    def durable_elsewhere(self, node: int) -> Position:
        """
        What the other nodes that are up have on their disks, together.
        """
        ...


class Rebuilding:
    """
    Makes nodes anew, one at a time.

    :param restarter: runs the nodes.
    :param directory: the data directory; `None` if nodes have no journals: then they always start empty.
    :param owner: the owner that the journal of a node names.
    :param wall: the wall clock (ns since 1970).
    :param new_thread: makes a thread in which a journal is read.
    """

    def __init__(
        self,
        restarter: Restarter,
        positions: Positions,
        directory: DataDirectory | None,
        *,
        owner: Callable[[int], str],
        limits: Limits,
        wall: Callable[[], int],
        time: IReactorTime,
        new_thread: Callable[[], InThread],
    ) -> None:
        self._restarter = restarter
        self._positions = positions
        self._directory = directory
        self._owner = owner
        self._limits = limits
        self._wall = wall
        self._time = time
        self._new_thread = new_thread

    async def rebuild(self, node: int) -> None:
        """
        Let a node start empty, and be refilled by the others.

        :raises NotRepaired: the others do not have all that it has, or that cannot be told; its journal is
            where it was.
        """
        await self._wait_for_others(node, self._positions.applied_at(node))
        await self._restarter.restart(node, partial(self._set_aside, node))

    async def _set_aside(self, node: int) -> None:
        if self._directory is None:
            return
        path = self._directory.node(node)
        thread = self._new_thread()
        try:
            known = self._positions.durable_elsewhere(node)
            kept = await thread(partial(self._read, node, self._directory.identity.members, path, known))
        finally:
            thread.stop()
        if kept.condition != "whole":
            raise NotRepaired(
                f"node {node} is not made anew, because its journal is {kept.condition} ({kept.why}), so it "
                "cannot be told whether the others have all of it: stop the daemon and use "
                f"--rebuild {node}"
            )
        await self._wait_for_others(node, kept.position)
        try:
            set_aside([path], self._wall())
        except ConfigurationError as error:
            raise NotRepaired(f"node {node} is not made anew: {error}") from error

    def _read(self, node: int, members: Collection[int], path: str, known: Position) -> NodeJournal:
        disk = RealDisk(path)
        try:
            disk.open()
        except (ConfigurationError, OSError) as error:
            return NodeJournal("unreadable", why=str(error))
        with closing(disk):
            return read_position(node, members, disk, self._owner(node), self._limits, known)

    async def _wait_for_others(self, node: int, position: Position) -> None:
        """
        Wait until the other nodes have all of a position on their disks.
        """
        until = self._time.seconds() + _PATIENCE_S
        while missing := self._positions.durable_elsewhere(node).missing(position):
            if self._time.seconds() >= until:
                raise NotRepaired(
                    f"node {node} is not made anew, because no other node has "
                    f"{sum(missing.values())} of its batches on its disk"
                )
            await deferLater(self._time, _PAUSE_S)
