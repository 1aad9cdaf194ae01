"""
Finds what is wrong in a data directory that no process uses, and changes nothing in it.

Three things are looked at: every line of every file, by its checksum; whether a node could start with them,
and what it would hold; and whether the nodes fit together.
"""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Final

import msgspec

from dcounter.daemon.data_directory import CLUSTER_FILE, lock_unchanged, read_cluster
from dcounter.daemon.kept import read_all
from dcounter.daemon.rebuild import NodeJournal, objections
from dcounter.daemon.remedies import trouble
from dcounter.errors import ConfigurationError, DirectoryInUse
from dcounter.journal.disk import Disk, ReadOnlyDisk
from dcounter.journal.file_names import OWNER, is_snapshot, take_inventory
from dcounter.journal.framing import JournalEntry
from dcounter.journal.inspection import Inspected, inspect
from dcounter.ledger.ledger import Ledger
from dcounter.limits import Limits
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.copies import CopyBegin, CopyEnd
from dcounter.protocol.handshake import journal_owner
from dcounter.protocol.position import Position

_NODE: Final = re.compile(r"node-([0-9]+)")
_OWNER: Final = re.compile(r"node ([0-9]+) of cluster (\S+)")
_BEGINS, _ENDS = (f'{{"type":"{kind.__struct_config__.tag}"'.encode() for kind in (CopyBegin, CopyEnd))


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Something that is wrong.

    :ivar file: in the directory.
    :ivar why: completes the sentence "the file ...".
    :ivar begin: the first byte that is concerned, from 0, and `end` the one behind the last.
    """

    file: str
    why: str
    begin: int | None = None
    end: int | None = None


class NodeChecked(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What is in the directory of a node.

    :ivar whole: whether nothing in it is wrong.
    :ivar bytes: of the files of its journal; `files` and `lines` likewise.
    :ivar items: how many IDs have a tenant, after a start with these files; left out if it could not start.
    :ivar digest: of its items without deleted IDs: equal if those are.
    """

    node: int
    whole: bool
    files: int = 0
    lines: int = 0
    bytes: int = 0
    items: int | None = None
    tombstones: int | None = None
    tenants: int | None = None
    digest: str | None = None


class Checked(msgspec.Struct, frozen=True):
    """
    What is in a data directory.

    :ivar cluster: the id of the cluster; empty if that is not known.
    :ivar faults: what is wrong.
    :ivar remarks: what is not wrong, and good to know.
    :ivar advice: what to do about the faults.
    """

    directory: str
    cluster: str
    nodes: Sequence[NodeChecked]
    faults: Sequence[Fault]
    remarks: Sequence[str]
    advice: Sequence[str]


class Totals(msgspec.Struct, frozen=True):
    """
    What a ledger holds.
    """

    items: int
    tombstones: int
    tenants: int
    digest: str


def check(path: str, limits: Limits, say: Callable[[str], object] = lambda text: None) -> Checked:
    """
    Check the data directory of a daemon, or that of one node.

    :param say: takes what is looked at next.
    :raises ConfigurationError: it is none, or it cannot be read; the message says what to do.
    :raises DirectoryInUse: a process uses it.
    """
    path = os.path.abspath(path)
    with ExitStack() as locks:
        try:
            locks.callback(os.close, lock_unchanged(path))
            names = sorted(os.listdir(path))
        except DirectoryInUse:
            raise
        except OSError as error:
            raise ConfigurationError(trouble(error, path, elsewhere=False)) from error
        there = [int(found[1]) for found in map(_NODE.fullmatch, names) if found]
        if CLUSTER_FILE in names or there:
            return _Check(path, limits, locks, say).cluster(there)
        if OWNER in names or take_inventory(names).last:
            locks.pop_all().close()
            return _Check(path, limits, locks, say).node()
        raise ConfigurationError(
            f"{path} is no data directory: it has neither {CLUSTER_FILE} nor the journal of a node"
        )


class _Check:
    """
    The check of one directory.

    :param locks: takes what must be closed at the end.
    """

    def __init__(self, path: str, limits: Limits, locks: ExitStack, say: Callable[[str], object]) -> None:
        self._path = path
        self._say = say
        self._limits = limits
        self._locks = locks
        self._faults: list[Fault] = []
        self._remarks: list[str] = []
        self._disks: dict[int, Disk] = {}
        self._names: dict[int, str] = {}
        self._inspected: dict[int, Inspected] = {}
        self._totals: dict[int, Totals] = {}
        # Nodes with faults: all; those that must be made anew; those that the others complete by themselves.
        self._wrong: set[int] = set()
        self._broken: set[int] = set()
        self._lacking: set[int] = set()
        self._advice: list[str] = []

    def cluster(self, there: Collection[int]) -> Checked:
        """
        Check the directory of a daemon.

        :param there: the nodes that have directories.
        """
        cluster, members = "", sorted(there)
        try:
            cluster, given = read_cluster(self._path)
            members = list(given)
        except ConfigurationError as error:
            self._fault(CLUSTER_FILE, str(error).removeprefix(f"{self._path}{os.sep}{CLUSTER_FILE} "))
        for node in sorted({*there} - {*members}):
            self._remark(f"node-{node} belongs to no member: {CLUSTER_FILE} does not name node {node}")
        for node in members:
            self._open(node, f"node-{node}")
        owners = {node: self._owner(node) for node in self._disks}
        cluster = self._check_owners(owners, cluster)
        kept = self._read(members)
        self._compare(kept)
        self._advise(kept)
        return self._checked(cluster, members)

    def node(self) -> Checked:
        """
        Check the directory of one node.
        """
        owner = ""
        disk = ReadOnlyDisk(self._path)
        disk.open()
        self._locks.enter_context(closing(disk))
        if OWNER in disk.list():
            owner = disk.read(OWNER).decode(errors="replace").strip()
        found = _OWNER.fullmatch(owner)
        node, cluster = (int(found[1]), found[2]) if found else (0, "")
        self._disks[node], self._names[node] = disk, ""
        if not found:
            self._fault(OWNER, "is missing" if not owner else f"names no node, but {owner!r}", node)
        self._read([node])
        if self._broken:
            self._advice.append("check the directories of the other nodes, which may hold all of it")
        return self._checked(cluster, [node])

    # What is there

    def _open(self, node: int, name: str) -> None:
        disk = ReadOnlyDisk(os.path.join(self._path, name))
        self._names[node] = name
        try:
            disk.open()
        except FileNotFoundError:
            self._fault(name, "is missing", node)
            self._lacking.add(node)
        except OSError as error:
            self._fault(name, f"cannot be read: {error.strerror}", node)
        else:
            self._locks.enter_context(closing(disk))
            self._disks[node] = disk

    def _owner(self, node: int) -> str:
        disk = self._disks[node]
        if OWNER not in disk.list():
            return ""
        return disk.read(OWNER).decode(errors="replace").strip()

    def _check_owners(self, owners: Mapping[int, str], cluster: str) -> str:
        """
        See that the journals belong to these nodes; returns the id of the cluster that most of them name.
        """
        named = [found[2] for found in map(_OWNER.fullmatch, owners.values()) if found]
        most = max(named, key=named.count, default=cluster)
        if most != cluster and 2 * named.count(most) > len(owners):
            if cluster:
                self._fault(CLUSTER_FILE, f"names the cluster {cluster}, and the nodes belong to {most}")
            cluster = most
        for node, owner in owners.items():
            right, file = journal_owner(node, cluster), self._file(node, OWNER)
            if owner == right or not (owner or take_inventory(self._disks[node].list()).last):
                continue
            self._fault(file, f"names {owner!r}, not {right!r}" if owner else "is missing", node)
            self._advice.append(f"write {right!r} to {file}, unless that journal is of another cluster")
        return cluster

    # What is in it

    def _read(self, members: Sequence[int]) -> Mapping[int, NodeJournal]:
        for node in self._disks:
            self._say(f"node {node}: reading every line")
            self._inspect(node)
        self._say("starting the nodes in memory")
        # What is wrong with their owners was told.
        kept = read_all(members, self._disks, lambda node: None, self._limits, self._look)
        for node in self._disks:
            if kept[node].condition == "doubtful":
                # Nothing can be proved of a disk to which nothing may be written.
                kept[node] = replace(kept[node], condition="whole")
            elif kept[node].condition != "whole" and node not in self._wrong:
                self._fault(self._names[node] or OWNER, f"cannot be used: {kept[node].why}", node)
            if kept[node].condition in {"damaged", "unreadable"}:
                self._broken.add(node)
        return kept

    def _inspect(self, node: int) -> None:
        copies: dict[str, bool] = {}

        def seen(name: str, entry: JournalEntry) -> None:
            if is_snapshot(name) and not entry.number:
                if entry.line.startswith(_BEGINS):
                    copies.setdefault(name, False)
                elif entry.line.startswith(_ENDS):
                    copies[name] = True

        found = self._inspected[node] = inspect(self._disks[node], seen)
        for each in found.faults:
            self._fault(self._file(node, each.name), each.why, node, each.begin, each.end)
            self._broken.add(node)
        for file in found.files:
            damaged = any(each.name == file.name for each in found.faults)
            if is_snapshot(file.name) and not damaged and not copies.get(file.name):
                why = f"is cut short: it ends at byte {file.size:,}, before its last lines"
                self._fault(self._file(node, file.name), why, node, file.size, file.size)
                self._broken.add(node)
        if found.torn is not None:
            name = self._file(node, found.torn.name)
            self._remark(
                f"{name} ends with an incomplete record, from byte {found.torn.begin:,} to byte"
                f" {found.torn.end - 1:,}, as a crash leaves it: the next start cuts it off"
            )
        for obsolete in found.obsolete:
            self._remark(f"{self._file(node, obsolete)} is no longer needed: the next start removes it")

    def _look(self, node: int, ledger: Ledger) -> None:
        self._say(f"node {node}: counting what it holds")
        # Without deleted IDs: nodes drop them at different times.
        audit = ledger.audit(floor=MAX_STAMP)
        for _ in audit.steps():
            pass
        items = len(ledger)
        digest = f"{int(audit.sums.sum()):016x}"
        tenants = sum(1 for _ in ledger.tenants())
        self._totals[node] = Totals(items, ledger.known - items, tenants, digest)
        audit.close()

    # Whether it fits together

    def _compare(self, kept: Mapping[int, NodeJournal]) -> None:
        """
        Compare what nodes hold.

        No node may lack what another one has of its own log, and nodes that hold the same batches hold the
        same items.
        """
        sound = {node: each for node, each in kept.items() if node in self._totals and each.complete}
        for node, mine in sound.items():
            for other, theirs in sound.items():
                theirs_of_mine = Position({node: theirs.position.of(node)})
                lost = sum(mine.position.missing(theirs_of_mine).values())
                if lost:
                    what = "1 batch" if lost == 1 else f"{lost:,} batches"
                    why = (
                        f"lacks {what} of its own log, which node-{other} has: its disk lost what it had kept"
                    )
                    self._fault(self._names[node], why, node)
                    self._lacking.add(node)
                    break
        for node, mine in sound.items():
            for other, theirs in sound.items():
                same = mine.position.covers(theirs.position) and theirs.position.covers(mine.position)
                if other < node and same and self._totals[other].digest != self._totals[node].digest:
                    why = f"holds other items than node-{other}, although both hold the same batches"
                    self._fault(self._names[node], why, node)
                    self._advice.append("start the daemon, and run 'dcounter audit': it tells which is wrong")
                    break

    def _advise(self, kept: Mapping[int, NodeJournal]) -> None:
        """
        Say what to do about nodes that are wrong.
        """
        if self._broken:
            found = objections(kept, self._broken)
            options = " ".join(f"--rebuild {node}" for node in sorted(self._broken))
            if reasons := [*found.never, *found.losses]:
                self._advice.append(
                    f"keep a copy of this directory, and restore a backup: {options} would lose data, since"
                    f" {'; '.join(reasons)}"
                )
            else:
                self._advice.append(
                    f"keep a copy of this directory, and start the daemon with {options}: as far as these"
                    " journals can be read, the other nodes have all of it; what only they held after the"
                    " damage cannot be known"
                )
        for node in sorted(self._lacking - self._broken):
            self._advice.append(f"start the daemon: node {node} gets from the others what it lacks")

    # The result

    def _file(self, node: int, name: str) -> str:
        return os.path.join(self._names[node], name)

    def _fault(
        self, file: str, why: str, node: int | None = None, begin: int | None = None, end: int | None = None
    ) -> None:
        self._faults.append(Fault(file, why, begin, end))
        if node is not None:
            self._wrong.add(node)

    def _remark(self, text: str) -> None:
        self._remarks.append(text)

    def _checked(self, cluster: str, members: Sequence[int]) -> Checked:
        return Checked(
            self._path,
            cluster,
            [self._node(node) for node in members],
            self._faults,
            self._remarks,
            [*dict.fromkeys(self._advice)],
        )

    def _node(self, node: int) -> NodeChecked:
        whole = node not in self._wrong
        found = self._inspected.get(node)
        if found is None:
            return NodeChecked(node, whole)
        files = found.files
        totals = self._totals.get(node)
        counts = (totals.items, totals.tombstones, totals.tenants, totals.digest) if totals else ()
        return NodeChecked(
            node,
            whole,
            len(files),
            sum(each.lines for each in files),
            sum(each.size for each in files),
            *counts,
        )
