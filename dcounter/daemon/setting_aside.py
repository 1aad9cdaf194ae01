"""
Sets aside the journals of nodes that are rebuilt.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from errno import EBUSY
from glob import escape, glob

from twisted.logger import Logger

from dcounter.daemon.data_directory import DataDirectory
from dcounter.daemon.kept import read_all
from dcounter.daemon.rebuild import NodeJournal, objections
from dcounter.daemon.remedies import trouble
from dcounter.errors import ConfigurationError, DirectoryInUse
from dcounter.journal.disk import RealDisk, sync_directory
from dcounter.journal.locks import PATIENCE
from dcounter.limits import Limits

_log = Logger()

_ASIDE = ".set-aside-"


class SettingAside:
    """
    A rebuild that is permitted, and not yet performed.

    Until then, or until it is closed, no other process can use the directories of the nodes.

    :param paths: the directories to set aside.
    :param locks: the locks that are released afterwards.
    """

    def __init__(self, paths: Sequence[str], locks: ExitStack) -> None:
        self._paths = paths
        self._locks = locks

    def perform(self, now: int) -> None:
        """
        Rename all of the directories, or none of them.

        :param now: the wall clock (ns since 1970), which becomes part of the new names.
        :raises ConfigurationError: that is not possible; the message says what to do.
        """
        try:
            set_aside(self._paths, now)
        except ConfigurationError as error:
            raise ConfigurationError(f"--rebuild: {error}") from error
        finally:
            self.close()
        for path in self._paths:
            earlier = len(glob(escape(path + _ASIDE) + "*")) - 1
            if earlier:
                _log.warn(
                    "{path} was set aside {times} times before: is --rebuild still among the options?",
                    path=path,
                    times=earlier,
                )

    def close(self) -> None:
        """
        Release the directories.
        """
        self._locks.close()


def set_aside(paths: Sequence[str], now: int) -> None:
    """
    Rename all directories of some nodes, or none of them.

    :param now: the wall clock (ns since 1970), which becomes part of the new names.
    :raises ConfigurationError: that is not possible; the message says what to do.
    """
    done: list[tuple[str, str]] = []
    try:
        for path in paths:
            os.rename(path, aside := f"{path}{_ASIDE}{now}")
            done.append((path, aside))
    except OSError as error:
        for before, after in reversed(done):
            with suppress(OSError):
                os.rename(after, before)
        raise ConfigurationError(trouble(error, paths[len(done)], elsewhere=False)) from error
    for path, aside in done:
        with suppress(OSError):
            sync_directory(os.path.dirname(path))
        _log.warn("set {path} aside as {aside}: the node is rebuilt", path=path, aside=aside)


def prepare(
    directory: DataDirectory,
    chosen: Collection[int],
    *,
    accept_loss: bool,
    owner: Callable[[int], str],
    limits: Limits,
) -> SettingAside:
    """
    Decide by the content of all disks whether nodes may be rebuilt.

    :param accept_loss: the operator accepts that data will be lost.
    :param owner: the owner that a node's journal must name.
    :raises ConfigurationError: they may not be rebuilt; nothing is changed.
    """
    members = directory.identity.members
    with ExitStack() as locks:
        disks: dict[int, RealDisk] = {}
        unusable: dict[int, NodeJournal] = {}
        for node in members:
            path = directory.node(node)
            if not os.path.lexists(path):
                continue
            disk = RealDisk(path, patience=PATIENCE)
            try:
                disk.open()
            except DirectoryInUse as error:
                raise ConfigurationError(f"--rebuild: {error}: stop that first") from error
            except OSError as error:
                unusable[node] = NodeJournal(
                    "unreadable", complete=False, why=trouble(error, path, elsewhere=False)
                )
            else:
                locks.enter_context(closing(disk))
                disks[node] = disk
        _judge({**read_all(members, disks, owner, limits), **unusable}, chosen, accept_loss=accept_loss)
        paths = [path for node in sorted({*chosen}) if os.path.lexists(path := directory.node(node))]
        for path in filter(os.path.ismount, paths):
            # Fail now rather than when HTTP listens already.
            busy = OSError(EBUSY, os.strerror(EBUSY))
            raise ConfigurationError(f"--rebuild: {trouble(busy, path, elsewhere=False)}")
        return SettingAside(paths, locks.pop_all())


def _judge(kept: Mapping[int, NodeJournal], chosen: Collection[int], *, accept_loss: bool) -> None:
    found = objections(kept, chosen)
    words = " ".join(f"--rebuild {node}" for node in sorted({*chosen}))
    if found.never:
        raise ConfigurationError(f"{words} is refused: {'; '.join(found.never)}. Nothing was changed")
    for node in sorted({*chosen}):
        if kept[node].condition == "damaged":
            # If no other node has it, no node can know that it is lost.
            _log.warn(
                "node {node}: what its journal holds after the damage ({why}) cannot be compared with the "
                "other nodes, and items that only it held are no longer counted: keep the directory",
                node=node,
                why=kept[node].why,
            )
    if not found.losses:
        return
    if accept_loss:
        _log.warn("--accept-data-loss: {losses}", losses="; ".join(found.losses))
        return
    raise ConfigurationError(
        f"{words} is refused because data would be lost: {'; '.join(found.losses)}. Nothing was changed. "
        "Repair the other nodes first, or start without --rebuild. If you accept that loss, "
        "start once with --accept-data-loss as well"
    )
