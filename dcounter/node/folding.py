"""
Folding: closed runs that every member has durably are no longer listed in positions.

What holds, after each call:

- what is applied and what is durable are folded to the same runs, and the backlog has no line below them;
- a run is folded only if this node has all of it durably, and knows that every member does or did.
"""

from dcounter.node.contents import Contents
from dcounter.node.durability import Durability
from dcounter.node.members import Members
from dcounter.protocol.position import NodeId, Opening, Position


class Folding:
    """
    Folds the runs that one node has.
    """

    def __init__(self, contents: Contents, durability: Durability, members: Members) -> None:
        self._contents = contents
        self._durability = durability
        self._members = members

    def fold(self) -> None:
        """
        Fold the closed runs that every member has durably, and cut the backlog that every member has.
        """
        if not self._members.all_heard:
            return
        mine = self._contents
        everywhere = self._members.everywhere(self._durability.durable)
        known = self._members.known(mine.applied)
        for node, opening in mine.runs.foldable(lambda: self._durability.durable, everywhere, known):
            self._fold_to(node, opening)
        for node, run, number in self._durability.durable.entries():
            held = min(position.number(node, run) for position in everywhere)
            mine.backlog.cut(node, run, min(held, number))

    def adopt(self, heard: Position) -> None:
        """
        Fold what another one has folded, if all of it is here.
        """
        mine = self._contents
        for node, opening in mine.runs.folded_by(heard, lambda: (mine.applied, self._durability.durable)):
            self._fold_to(node, opening)

    def _fold_to(self, node: NodeId, opening: Opening) -> None:
        self._contents.fold(node, opening)
        self._durability.fold(node, opening.run)
