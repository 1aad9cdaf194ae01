"""
Reads the journals of nodes that do not run.

It reads them as a node does when it starts, and changes nothing. `dcounter.daemon.rebuild` decides by the
result.
"""

import gc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from errno import EROFS
from os import strerror
from typing import NoReturn

from dcounter.daemon.rebuild import NodeJournal
from dcounter.errors import ConfigurationError, CorruptJournal, NewerJournal
from dcounter.journal.disk import AppendFile, Disk
from dcounter.journal.recovery import Recovery
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.rows import Rows
from dcounter.limits import Limits
from dcounter.node.backlog import Backlog
from dcounter.node.catch_up import CatchUp
from dcounter.node.contents import Contents
from dcounter.node.durability import Durability
from dcounter.node.effects import Outbox
from dcounter.node.empty_journal import EmptyJournal
from dcounter.node.folding import Folding
from dcounter.node.members import Members
from dcounter.node.restoring import Restoring
from dcounter.node.runs import Runs
from dcounter.protocol.codec import is_chunk
from dcounter.protocol.position import Position, join_all


class ProvingDisk:
    """
    A disk, already open, that refuses changes.

    It still proves that it keeps what was read (`rewrite`, `sync`). That changes no content, and without that
    proof the data may exist only in the memory of this machine.
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
        # Obsolete files do no harm.
        pass

    def shorten(self, name: str, size: int) -> bool:
        _refuse(name)

    def sync(self) -> None:
        self._disk.sync()


def _refuse(name: str) -> NoReturn:
    raise OSError(EROFS, strerror(EROFS), name)


class _Weightless(Ledger):
    """
    A ledger that stays empty.
    """

    def reserve(self, rows: int) -> None:
        pass

    def merge(self, ids: Sequence[int], stamps: Sequence[int], tenants: Sequence[str | None]) -> None:
        pass

    def merge_rows(self, chunk: Rows) -> None:
        pass


class _State:
    """
    The state that a node would have after its start.

    :ivar contents: what it would hold.
    :ivar members: the members that it would know.
    :ivar restoring: takes in the journal.
    """

    def __init__(self, node: int, members: Collection[int], limits: Limits) -> None:
        out = Outbox()
        durability = Durability(node, out, 0)
        self.contents = Contents(Backlog(0), Runs(limits.unfolded_runs), 0)
        self.contents.ledger = _Weightless()
        self.members = Members(node, members, out)
        self._empty_journal = EmptyJournal(self.members, out)
        self._catch_up = CatchUp(out, limits.suspicion_s)
        self.restoring = Restoring(
            node, self.contents, durability, self.members, self._empty_journal, self._catch_up
        )
        self._folding = Folding(self.contents, durability, self.members)

    @property
    def complete(self) -> bool:
        return not (self._empty_journal.undecided or self._catch_up.wanted)

    def adopt(self, known: Position) -> Position:
        """
        Its position, folded as far as the other nodes know runs to be complete.
        """
        self._folding.adopt(known)
        return self.contents.applied


def read_all(
    members: Collection[int],
    disks: Mapping[int, Disk],
    owner: Callable[[int], str | None],
    limits: Limits,
    look: Callable[[int, Ledger], None] | None = None,
) -> dict[int, NodeJournal]:
    """
    Read what each node of a cluster keeps; a node without a disk keeps nothing.

    :param disks: disks of nodes that do not run, already open.
    :param owner: the owner that a node's journal must name; `None`: any is right, or none.
    :param look: takes the ledger of each node whose journal can be read, one after the other. Without it,
        none is made.
    """
    states = {node: _State(node, members, limits) for node in disks}
    found: dict[int, NodeJournal] = {}
    for node, disk in disks.items():
        contents = states[node].contents
        if look is not None:
            contents.ledger = Ledger()
        found[node] = _read(disk, owner(node), states[node])
        if look is not None and found[node].condition in {"whole", "doubtful"}:
            look(node, contents.ledger)
        if look is not None:
            contents.ledger = _Weightless()
            # A ledger refers to itself: without this, those of several nodes would be in memory.
            gc.collect()
    known = join_all(state.contents.applied for state in states.values())
    return dict.fromkeys(members, NodeJournal()) | {
        node: replace(
            found[node],
            position=state.adopt(known),
            removed=frozenset(state.members.removed),
            complete=state.complete,
        )
        for node, state in states.items()
    }


def read_position(
    node: int, members: Collection[int], disk: Disk, owner: str, limits: Limits, known: Position
) -> NodeJournal:
    """
    Read what a node that does not run has, but not its items: they need not be right.

    :param disk: the node's, already open.
    :param known: what other nodes have.
    """
    state = _State(node, members, limits)
    found = _read(disk, owner, state, items=False)
    return replace(
        found,
        position=state.adopt(known),
        removed=frozenset(state.members.removed),
        complete=state.complete,
    )


def _read(disk: Disk, owner: str | None, state: _State, *, items: bool = True) -> NodeJournal:
    """
    Read a journal into the state, and return its condition.
    """
    recovery = Recovery(ProvingDisk(disk), is_chunk=is_chunk, owner=owner)
    try:
        for entry in recovery.read():
            state.restoring.restore(entry)
        # This checks every checksum, and that this version can read every line.
        for entry in recovery.load() if items else ():
            state.restoring.load(entry)
    except NewerJournal as error:
        return NodeJournal("newer", why=str(error))
    except CorruptJournal as error:
        return NodeJournal("damaged", why=str(error))
    except (ConfigurationError, OSError) as error:
        return NodeJournal("unreadable", why=str(error))
    return NodeJournal("doubtful" if recovery.kept.doubted else "whole")
