"""
Positions: how much of every node's log a process has.

Each node numbers its batches 1, 2, ... within a run, so "all up to here" is one number per run. A position
holds that for every node; positions join by taking the higher number of each, which makes them a lattice:
nodes, coordinators and callers can combine what they know in any order. They are version vectors (Parker et
al., 1983) with one entry per run of a node.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

from msgspec import Meta, Struct

from dcounter.protocol.clock import MAX_STAMP

Stamp = Annotated[int, Meta(ge=0, le=MAX_STAMP)]
NodeId = Annotated[int, Meta(ge=0, le=65_535)]
Number = Annotated[int, Meta(ge=1, le=MAX_STAMP)]


class NodePosition(Struct, frozen=True, omit_defaults=True):
    """
    How much of one node's log a process has.

    :ivar folded: runs below this one are complete (or lost, see `LostRun`) and no longer listed.
    :ivar runs: run -> the highest number without a hole, for runs that are not folded.
    """

    folded: Stamp = 0
    runs: dict[Stamp, Number] = {}

    def number(self, run: int) -> int:
        """
        The highest number of `run` without a hole; 0 if it has none.
        """
        return MAX_STAMP if run < self.folded else self.runs.get(run, 0)

    def join(self, other: "NodePosition") -> "NodePosition":
        """
        The join: the higher number of each run.
        """
        if self is other:
            return self
        folded = max(self.folded, other.folded)
        runs = {run: number for run, number in self.runs.items() if run >= folded}
        for run, number in other.runs.items():
            if run >= folded and number > runs.get(run, 0):
                runs[run] = number
        return NodePosition(folded, runs)

    def covers(self, other: "NodePosition") -> bool:
        """
        Whether this position has everything that `other` has.
        """
        return other.folded <= self.folded and all(
            self.number(run) >= number for run, number in other.runs.items()
        )


_NOTHING = NodePosition()


class Position(Struct, frozen=True, omit_defaults=True):
    """
    How much of every node's log a process has; immutable.
    """

    nodes: dict[NodeId, NodePosition] = {}

    def of(self, node: int) -> NodePosition:
        """
        The part about one node.
        """
        return self.nodes.get(node, _NOTHING)

    def number(self, node: int, run: int) -> int:
        """
        The highest number without a hole of a node's run.
        """
        return self.of(node).number(run)

    def advance(self, node: int, run: int, number: int) -> "Position":
        """
        This position, and all of `run` up to `number`.
        """
        known = self.of(node)
        if known.number(run) >= number:
            return self
        moved = NodePosition(known.folded, {**known.runs, run: number})
        return Position({**self.nodes, node: moved})

    def fold(self, node: int, run: int) -> "Position":
        """
        This position with all runs of `node` below `run` counted as complete.
        """
        return self.join(Position({node: NodePosition(run)}))

    def without(self, node: int, run: int, beyond: int) -> "Position":
        """
        This position without the numbers of a run above `beyond`.
        """
        known = self.of(node)
        runs = {r: min(n, beyond) if r == run else n for r, n in known.runs.items()}
        kept = NodePosition(known.folded, {r: n for r, n in runs.items() if n > 0})
        nodes = {**self.nodes, node: kept}
        if kept == _NOTHING:
            del nodes[node]
        return Position(nodes)

    def unfold(self, node: int, run: int) -> "Position":
        """
        This position, folded for a node no further than `run`.
        """
        known = self.of(node)
        return Position({**self.nodes, node: NodePosition(min(known.folded, run), known.runs)})

    def join(self, other: "Position") -> "Position":
        """
        The join: everything that either position has.
        """
        if not other.nodes or self == other:
            # Without writes, positions are compared far more often than they grow.
            return self
        if not self.nodes:
            return other
        nodes = dict(self.nodes)
        for node, known in other.nodes.items():
            mine = nodes.get(node)
            nodes[node] = known if mine is None else mine.join(known)
        return Position(nodes)

    def covers(self, other: "Position") -> bool:
        """
        Whether this position has everything that `other` has.
        """
        return all(self.of(node).covers(part) for node, part in other.nodes.items())

    def missing(self, other: "Position") -> dict[int, int]:
        """
        How many batches of each node's log `other` has and this position lacks.

        A node whose parts differ only in their fold counts as one batch.
        """
        found: dict[int, int] = {}
        for node, part in other.nodes.items():
            mine = self.of(node)
            if not mine.covers(part):
                behind = sum(max(0, n - mine.number(run)) for run, n in part.runs.items())
                found[node] = max(1, behind)
        return found

    def entries(self) -> Iterator[tuple[int, int, int]]:
        """
        Node, run and number of each run that is not folded.
        """
        for node, part in self.nodes.items():
            for run, number in part.runs.items():
                yield node, run, number

    def shown(self) -> dict[str, dict[str, int]]:
        """
        The position as the status shows it: node -> run -> number, keys as text.
        """
        return {
            str(node): {str(run): number for run, number in sorted(part.runs.items())}
            for node, part in sorted(self.nodes.items())
        }


def join_all(positions: Iterable[Position]) -> Position:
    """
    The join of all positions.
    """
    joined = Position()
    for position in positions:
        joined = joined.join(position)
    return joined


class Opening(Struct, frozen=True):
    """
    How a node announced a run when it opened it.

    :ivar run: the run it opened.
    :ivar previous: the run before it; 0 if there was none.
    :ivar last: the last number of that run.
    :ivar wiped: the node had lost its journal: `previous` and `last` are what its peers knew.
    """

    run: Stamp
    previous: Stamp
    last: Annotated[int, Meta(ge=0, le=MAX_STAMP)]
    wiped: bool = False


class LostRun(Struct, frozen=True, order=True):
    """
    What is left of the runs of a node that came back without its journal.

    Only numbers up to `last` of `run` are left, and nothing of any run between it and `until`, the run that
    the node opened when it came back.
    """

    node: NodeId
    run: Stamp
    last: Annotated[int, Meta(ge=0, le=MAX_STAMP)]
    until: Stamp

    def takes(self, node: int, run: int, number: int) -> bool:
        """
        Whether that batch is among the lost ones.
        """
        return node == self.node and ((run == self.run and number > self.last) or self.run < run < self.until)
