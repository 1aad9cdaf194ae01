"""
Compares what nodes say in an audit, and decides which of them is wrong.

All nodes answer for the same position, and there all rows must be equal: each difference is a fault. What
more than half of the nodes have is right. If nothing is that frequent, that is not decided, and the newest
row is the likely one, because merging never makes a row older.

Pure: `dcounter.coordinator.audits` asks the nodes.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from dcounter.audits import Differences, NodeCount, NodeRow, Row, WrongItem, WrongTenant
from dcounter.protocol.position import NodeId
from dcounter.protocol.questions import AuditCompared, AuditRowsFound, AuditTenantsFound, WrongCount

LISTED = 100
"""
The most tenants and IDs that an answer names.
"""

MOST_GROUPS = 64
AT_ONCE = 16
"""
The most groups whose rows are compared one by one, and how many of them at once, in some milliseconds.
"""

_IN_GROUP = 128
"""
About how many rows a group has.
"""

_MOST_BITS = 16

UNKNOWN = Row(None, None)
"""
What a node has for an ID that it does not know.
"""

_V = TypeVar("_V", bound=Hashable)


def bits_for(rows: int) -> int:
    """
    Into how many groups (2 to that power) so many rows are cut.
    """
    return min(_MOST_BITS, (rows // _IN_GROUP).bit_length())


def most_frequent(values: Mapping[NodeId, _V]) -> tuple[_V | None, list[NodeId]]:
    """
    What more than half of the nodes say, and which nodes say something else; no value if none is as frequent.
    """
    value, times = Counter(values.values()).most_common(1)[0]
    if 2 * times <= len(values):
        return None, []
    return value, [node for node, each in values.items() if each != value]


@dataclass(slots=True)
class Groups:
    """
    The groups of IDs in which nodes differ.

    :ivar differing: their numbers.
    :ivar compared: those whose rows were compared one by one.
    :ivar wrong: nodes that differ from what more than half of the nodes have in some group.
    :ivar undecided: there is a group in which no rows are that frequent.
    """

    bits: int
    differing: list[int] = field(default_factory=list)
    compared: list[int] = field(default_factory=list)
    wrong: set[NodeId] = field(default_factory=set)
    undecided: bool = False


def differing(bits: int, compared: Mapping[NodeId, AuditCompared]) -> Groups:
    """
    Compare the digests of groups.
    """
    found = Groups(bits)
    nodes = list(compared)
    sums = np.array([np.frombuffer(compared[node].sums, "<u8") for node in nodes])
    differing = np.flatnonzero((sums != sums[0]).any(axis=0))
    found.differing = differing.tolist()
    sums = sums[:, differing]
    # As `most_frequent`, for all groups at once: whether more than half of the nodes have the same.
    right = np.array([2 * (sums == one).sum(axis=0) > len(nodes) for one in sums])
    decided = right.any(axis=0)
    found.undecided = not decided.all()
    found.wrong = {node for node, each in zip(nodes, right, strict=True) if (decided & ~each).any()}
    return found


def wrong_items(found: Mapping[NodeId, AuditRowsFound]) -> list[WrongItem]:
    """
    Compare rows, one by one.
    """
    rows = {
        node: {
            item: Row(tenant, stamp)
            for item, stamp, tenant in zip(each.ids, each.stamps, each.tenants, strict=True)
        }
        for node, each in found.items()
    }
    wrong = []
    for item in sorted(set().union(*rows.values())):
        at = {node: each.get(item, UNKNOWN) for node, each in rows.items()}
        if len({*at.values()}) == 1:
            continue
        right, nodes = most_frequent(at)
        newest = max(at.values(), key=_age)
        shown = [NodeRow(node, row) for node, row in at.items()]
        wrong.append(WrongItem(item, newest if right is None else right, right is not None, shown, nodes))
    return wrong


def _age(row: Row) -> tuple[int, str]:
    # Code points of two texts compare as their UTF-8 bytes do.
    return -1 if row.stamp is None else row.stamp, row.tenant or ""


def tenants_of(items: Sequence[WrongItem], counts: Mapping[NodeId, Sequence[WrongCount]]) -> list[str | None]:
    """
    The tenants whose counts may be wrong: those that differing rows name, and those that nodes count wrongly.

    `None` stands for deleted IDs.
    """
    owners = (each.row.tenant for item in items for each in item.nodes if each.row.stamp is not None)
    own = (each.tenant for found in counts.values() for each in found)
    return list(dict.fromkeys([*own, *owners]))


def wrong_tenants(
    tenants: Sequence[str | None], found: Mapping[NodeId, AuditTenantsFound], reliable: Sequence[NodeId]
) -> list[WrongTenant]:
    """
    Compare counts.

    :param reliable: nodes whose rows are right.
    """
    wrong = []
    for i, tenant in enumerate(tenants):
        nodes = [NodeCount(node, each.kept[i], each.counted[i]) for node, each in found.items()]
        right = next((each.counted for each in nodes if each.node in reliable), None)
        expected = right if right is not None else nodes[0].counted
        differ = [e.node for e in nodes if e.kept != e.counted or (right is not None and e.counted != right)]
        if differ or any(each.counted != expected for each in nodes):
            wrong.append(WrongTenant(tenant, right, nodes, differ))
    return wrong


@dataclass(slots=True)
class Findings:
    """
    All that is wrong, as it is found.

    :ivar counts: node -> the counts that it keeps and that are not those of its rows.
    :ivar all_counts: node -> how many there are.
    :ivar groups: groups of IDs in which nodes differ.
    :ivar items: IDs for which they differ.
    :ivar tenants: tenants with wrong counts.
    """

    counts: dict[NodeId, Sequence[WrongCount]] = field(default_factory=dict)
    all_counts: dict[NodeId, int] = field(default_factory=dict)
    groups: Groups = field(default_factory=lambda: Groups(0))
    items: list[WrongItem] = field(default_factory=list)
    tenants: list[WrongTenant] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """
        Whether anything is wrong.
        """
        return bool(self.groups.differing) or any(self.all_counts.values())

    def reliable(self, nodes: Sequence[NodeId]) -> list[NodeId]:
        """
        Those of these nodes whose rows are right.
        """
        return [] if self.groups.undecided else [node for node in nodes if node not in self.groups.wrong]

    def differences(self) -> Differences | None:
        """
        What is wrong; `None` if nothing is.
        """
        if not self.any:
            return None
        counting = {node for node, number in self.all_counts.items() if number}
        more = len(self.groups.differing) > len(self.groups.compared)
        more |= any(number > len(self.counts[node]) for node, number in self.all_counts.items())
        named = {each.tenant for each in self.tenants}
        unnamed = max(self.all_counts.values(), default=0)
        return Differences(
            wrong_nodes=sorted(self.groups.wrong | counting),
            undecided=self.groups.undecided,
            tenants=self.tenants[:LISTED],
            all_tenants=max(len(named), unnamed),
            items=self.items[:LISTED],
            all_items=max(len(self.items), len(self.groups.differing)),
            more=more,
        )


def next_to_repair(findings: Findings) -> NodeId:
    """
    The node that is made anew first.

    One with wrong rows comes before those that only count wrongly: it could fill them with its rows.
    """
    counting = (node for node, number in findings.all_counts.items() if number)
    return min(findings.groups.wrong or counting)


def objection(findings: Findings, nodes: Sequence[NodeId], members: Sequence[NodeId]) -> str | None:
    """
    Why no node may be made anew from the others; `None` if those that are wrong may be, one after the other.

    :param nodes: the nodes that were audited.
    """
    if missing := sorted({*members} - {*nodes}):
        return f"nodes {missing} were not audited: a node might be made anew from one that is wrong as well"
    if findings.groups.undecided:
        return (
            "no row is that of more than half of the nodes, so it cannot be told which node is wrong: "
            "look at the differences, and rebuild the node that you find to be wrong (--rebuild)"
        )
    wrong = sorted(findings.groups.wrong)
    if len(wrong) > 1:
        words = " ".join(f"--rebuild {node}" for node in wrong)
        return (
            f"several nodes have wrong rows, {wrong}, and one would be made anew from another: "
            f"start the daemon once with {words}, which sets all of them aside first"
        )
    if len(members) == 1:
        return "there is no other node: start it again, which counts its items anew"
    return None
