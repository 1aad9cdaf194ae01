"""
Decides whether nodes may be rebuilt: only if the other ones keep all of their data.

A rebuild deletes nothing, but items that only the node's journal holds are no longer counted. So the decision
is made by the content of all disks, before anything is changed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dcounter.protocol.position import Position, join_all

Condition = Literal["whole", "doubtful", "damaged", "unreadable", "newer"]
"""
The condition of a journal. `whole`: it can be read. `doubtful`: it can be read, but the disk may not keep it.
`damaged`: some of it is not what was written. `unreadable`: something else prevents reading it, and it may be
whole. `newer`: a newer version of dcounter wrote it.
"""


@dataclass(frozen=True, slots=True)
class NodeJournal:
    """
    What a node keeps on its disk; the defaults are those of an empty disk.

    :ivar position: what it has, as far as the journal can be read.
    :ivar removed: members of which it knows that they were removed.
    :ivar complete: it is not itself in the middle of a rebuild.
    :ivar why: what is wrong with the journal.
    """

    condition: Condition = "whole"
    position: Position = field(default_factory=Position)
    removed: frozenset[int] = frozenset()
    complete: bool = True
    why: str = ""

    @property
    def holds(self) -> bool:
        """
        Whether it holds any batch.
        """
        return bool(self.position.nodes)


@dataclass(frozen=True, slots=True)
class Objections:
    """
    The reasons against a rebuild, one sentence each.

    :ivar never: reasons that an operator cannot override.
    :ivar losses: data that would be lost.
    """

    never: Sequence[str] = ()
    losses: Sequence[str] = ()


def objections(kept: Mapping[int, NodeJournal], chosen: Collection[int]) -> Objections:
    """
    Find the reasons against rebuilding nodes.

    :param kept: what each node keeps.
    :param chosen: the nodes to rebuild, all at once.
    """
    never = [
        f"the journal of node {node} was written by a newer version of dcounter ({kept[node].why}): "
        "start that version"
        for node in sorted(chosen)
        if kept[node].condition == "newer"
    ]
    removed = frozenset[int]().union(*(each.removed for each in kept.values()))
    going = {node: kept[node] for node in sorted(chosen) if node not in removed}
    keepers = [
        each
        for node, each in kept.items()
        if node not in chosen and node not in removed and each.condition == "whole"
    ]
    return Objections(never, [*_alone(going, keepers), *_unread(going, keepers), *_removals(kept, chosen)])


def _alone(going: Mapping[int, NodeJournal], keepers: Sequence[NodeJournal]) -> list[str]:
    """
    The batches that only these nodes have.
    """
    staying = join_all(each.position for each in keepers)
    batches = sum(staying.missing(join_all(each.position for each in going.values())).values())
    if not batches:
        return []
    holders = [node for node, each in going.items() if not staying.covers(each.position)]
    return [f"{_nodes(holders)} has at least {_number(batches, 'batch', 'batches')} that no other node has"]


def _unread(going: Mapping[int, NodeJournal], keepers: Sequence[NodeJournal]) -> list[str]:
    """
    The journals that cannot be read, and that no other node can be relied on to replace.
    """
    found = [
        f"the journal of node {node} cannot be read ({each.why}): fix that first, it may be whole"
        for node, each in going.items()
        if each.condition == "unreadable"
    ]
    if any(each.holds and each.complete for each in keepers):
        return found
    return found + [
        f"the journal of node {node} is damaged ({each.why}), and no other node "
        + ("is complete" if any(keeper.holds for keeper in keepers) else "can be relied on as a source")
        for node, each in going.items()
        if each.condition == "damaged"
    ]


def _removals(kept: Mapping[int, NodeJournal], chosen: Collection[int]) -> list[str]:
    """
    The removed members that only the chosen nodes know as removed.
    """
    staying = [
        each
        for node, each in kept.items()
        if node not in chosen and each.condition not in ("damaged", "unreadable")
    ]
    known = frozenset[int]().union(*(each.removed for each in staying))
    gone = frozenset[int]().union(*(kept[node].removed for node in chosen)) - known
    if not gone:
        return []
    return [f"no other node knows that {_nodes(gone)} was removed, so it would be a member again"]


def _nodes(nodes: Collection[int]) -> str:
    return ("node " if len(nodes) == 1 else "one of nodes ") + ", ".join(map(str, sorted(nodes)))


def _number(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
