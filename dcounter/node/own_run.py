"""
The run of this node that is open: where a batch that a coordinator sends gets its number.

What holds, after each call:

- the numbers of a run are 1, 2, 3, ... in the order in which they were given;
- a run that was closed is never opened again, and a new one is above all that any node has heard of: a node
  that lost everything gives no number twice.
"""

from collections.abc import Callable

from dcounter.node.effects import Outbox
from dcounter.protocol.messages import Report
from dcounter.protocol.position import NodeId, NodePosition, Opening, Position

_SALTS = 2**20
"""
What may be added to the number of a run (ns).
"""


class OwnRun:
    """
    The open run of one node.

    :param node: its id.
    :param wall: the wall clock (ns since 1970).
    :param seed: random bits, other ones in each process, so that no run has the number of another one.
    :ivar run: the open run; 0 while none is open.
    """

    def __init__(self, node: NodeId, out: Outbox, wall: Callable[[], int], seed: int) -> None:
        self.run = 0
        self._node = node
        self._out = out
        self._last = 0
        self._wall = wall
        self._salt = seed % _SALTS
        self._noticed: set[int] = set()

    def close(self) -> None:
        """
        The run gets no more batches: the next batch opens a new one.
        """
        self.run = self._last = 0

    def open(self, known: NodePosition, latest: int, *, wiped: bool) -> Opening:
        """
        Open a new run.

        Other nodes hear of it when it is durable: the run before it is closed only then.

        :param known: all that any node is known to have of this node's log.
        :param latest: the latest run that any node has heard of; there may be no batch of it.
        :param wiped: whether this node lost its journal.
        """
        # What is folded has no numbers any more; the fold itself is a run to stay above.
        previous = max([known.folded, *known.runs])
        # A disk that lost the run before, and a clock that went back, must not lead to the same number again.
        self.run = max(self._wall(), previous + 1, latest + 1) + self._salt
        self._last = 0
        return Opening(self.run, previous, known.runs.get(previous, 0), wiped)

    def next_number(self) -> int:
        """
        The number of the next batch.
        """
        self._last += 1
        return self._last

    def compare(self, report: Report, applied: Position) -> None:
        """
        A peer said what it has: if it has more of this node's own log than the node itself, warn, once a run.
        """
        mine = applied.of(self._node)
        for run, number in report.applied.of(self._node).runs.items():
            if number > mine.number(run) and run not in self._noticed:
                self._noticed.add(run)
                self._out.say(
                    "warn",
                    f"node {report.node} holds {number} batches of this node's run {run}, "
                    f"this node {mine.number(run)}: fetching them",
                )
