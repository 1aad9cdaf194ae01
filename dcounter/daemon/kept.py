"""
Reads what nodes keep on their disks while they do not run.

It takes what a node would take if it started, and changes nothing: `dcounter.daemon.rebuild` decides by it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from errno import EROFS
from os import strerror
from typing import Any, NoReturn

from dcounter.daemon.rebuild import Kept
from dcounter.errors import ConfigurationError, CorruptJournal, NewerJournal
from dcounter.journal.disk import AppendFile, Disk
from dcounter.journal.recovery import Recovery
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.rows import Piece
from dcounter.limits import Limits
from dcounter.node.replica import Replica
from dcounter.protocol.codec import is_piece
from dcounter.protocol.position import Position, join_all


class ProvingDisk:
    """
    A disk, already open, on which nothing is changed.

    It may still be asked to prove that it keeps what was read (`rewrite`, `sync`): that changes nothing, and
    what is in the memory of this machine only is not something to rely on.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def list(self) -> list[str]:
        return self._disk.list()

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        return self._disk.read(name, start, size)

    def create(self, name: str) -> AppendFile:
        _refuse(name)

    def rewrite(self, name: str, data: bytes) -> None:
        self._disk.rewrite(name, data)

    def truncate(self, name: str, size: int) -> None:
        _refuse(name)

    def rename(self, old: str, new: str) -> None:
        _refuse(old)

    def remove(self, name: str) -> None:
        # What is not used any more is in nobody's way.
        pass

    def shorten(self, name: str, size: int) -> bool:
        _refuse(name)

    def sync(self) -> None:
        self._disk.sync()


def _refuse(name: str) -> NoReturn:
    raise OSError(EROFS, strerror(EROFS), name)


class _Weightless(Ledger):
    """
    A ledger that nothing is put into.
    """

    def reserve(self, rows: int) -> None:
        pass

    def merge(self, ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]) -> None:
        pass

    def merge_piece(self, piece: Piece) -> None:
        pass


class _State(Replica):
    """
    What a node would know at its start.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.ledger = _Weightless()

    @property
    def complete(self) -> bool:
        return not (self._members.awaited or self._catch_up.wanted)

    def adopt(self, known: Position) -> Position:
        """
        What it has, put as others put it who know that runs are complete.
        """
        self._adopt_folds(known)
        return self.applied


def read_all(
    members: Collection[int], disks: Mapping[int, Disk], owner: Callable[[int], str], limits: Limits
) -> dict[int, Kept]:
    """
    What each node of a cluster keeps; nodes that have no disk keep nothing.

    :param disks: of nodes that do not run, already open.
    :param owner: whose journal that of a node has to be.
    """
    states = {node: _State(node, members, wall=lambda: 0, limits=replace(limits, log=0)) for node in disks}
    found = {node: _read(disk, owner(node), states[node]) for node, disk in disks.items()}
    known = join_all(state.applied for state in states.values())
    return dict.fromkeys(members, Kept()) | {
        node: replace(
            found[node],
            position=state.adopt(known),
            forgotten=frozenset(state.forgotten),
            complete=state.complete,
        )
        for node, state in states.items()
    }


def _read(disk: Disk, owner: str, state: _State) -> Kept:
    """
    What condition a journal is in; how much of it can be read is in the state.
    """
    recovery = Recovery(ProvingDisk(disk), is_piece=is_piece, owner=owner)
    try:
        for entry in recovery.read():
            state.restore(entry)
        for entry in recovery.load():
            # To see that all of it is as it was written, and that this version can read it.
            state.load(entry)
    except NewerJournal as error:
        return Kept("newer", why=str(error))
    except CorruptJournal as error:
        return Kept("damaged", why=str(error))
    except (ConfigurationError, OSError) as error:
        return Kept("unreadable", why=str(error))
    return Kept("doubtful" if recovery.kept.doubted else "whole")
