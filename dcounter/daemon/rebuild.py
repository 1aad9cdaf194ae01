"""
Whether a node may be made anew: only if the other ones keep all that it has.

Making a node anew deletes nothing, but what only its journal holds is counted no more. So this is decided by
what is on the disks, before anything is changed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dcounter.protocol.position import Position, join_all

Condition = Literal["whole", "doubtful", "damaged", "unreadable", "newer"]
"""
Of a journal: it can be read; that too, but the disk may not keep it; something in it is not what was written;
it may be whole, but something else keeps it from being read; a newer version of dcounter wrote it.
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """
    What a node keeps on its disk; nothing unless something is said.

    :ivar position: what it has, as far as it can be read.
    :ivar removed: members that it knows to have been given up.
    :ivar complete: it is not in the middle of being made anew itself.
    :ivar why: what is wrong with it.
    """

    condition: Condition = "whole"
    position: Position = field(default_factory=Position)
    removed: frozenset[int] = frozenset()
    complete: bool = True
    why: str = ""

    @property
    def holds(self) -> bool:
        """
        Whether it has any batch.
        """
        return bool(self.position.nodes)


@dataclass(frozen=True, slots=True)
class Objections:
    """
    What speaks against making nodes anew, a sentence each.

    :ivar never: reasons that nobody can set aside.
    :ivar losses: what would be lost.
    """

    never: Sequence[str] = ()
    losses: Sequence[str] = ()


def objections(kept: Mapping[int, Kept], chosen: Collection[int]) -> Objections:
    """
    Look for what speaks against it.

    :param kept: what each node keeps.
    :param chosen: the nodes to be made anew, all at once.
    """
    never = [
        f"the journal of node {node} was written by a newer version of dcounter ({kept[node].why}): "
        "start that version"
        for node in sorted(chosen)
        if kept[node].condition == "newer"
    ]
    given_up = frozenset[int]().union(*(each.removed for each in kept.values()))
    going = {node: kept[node] for node in sorted(chosen) if node not in given_up}
    keepers = [
        each
        for node, each in kept.items()
        if node not in chosen and node not in given_up and each.condition == "whole"
    ]
    return Objections(never, [*_alone(going, keepers), *_unread(going, keepers), *_given_up(kept, chosen)])


def _alone(going: Mapping[int, Kept], keepers: Sequence[Kept]) -> list[str]:
    """
    What nobody else has.
    """
    staying = join_all(each.position for each in keepers)
    batches = sum(staying.missing(join_all(each.position for each in going.values())).values())
    if not batches:
        return []
    holders = [node for node, each in going.items() if not staying.covers(each.position)]
    return [f"no other node has at least {_number(batches, 'batch', 'batches')} that {_nodes(holders)} has"]


def _unread(going: Mapping[int, Kept], keepers: Sequence[Kept]) -> list[str]:
    """
    What nobody else can be relied on to have, since it cannot be read.
    """
    found = [
        f"the journal of node {node} cannot be read ({each.why}): mend that, and it may be whole"
        for node, each in going.items()
        if each.condition == "unreadable"
    ]
    if any(each.holds and each.complete for each in keepers):
        return found
    return found + [
        f"the journal of node {node} is damaged ({each.why}), and no other node "
        + ("is complete" if any(keeper.holds for keeper in keepers) else "can be relied on to make it from")
        for node, each in going.items()
        if each.condition == "damaged"
    ]


def _given_up(kept: Mapping[int, Kept], chosen: Collection[int]) -> list[str]:
    """
    Whom only those know to have been given up.
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
    return [f"no other node knows that {_nodes(gone)} was given up, and it would be a member again"]


def _nodes(nodes: Collection[int]) -> str:
    return ("node " if len(nodes) == 1 else "one of nodes ") + ", ".join(map(str, sorted(nodes)))


def _number(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
