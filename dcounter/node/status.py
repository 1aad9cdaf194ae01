"""
What a node says of itself to all others: whether it takes writes, what it has, and whether it may stop.
"""

from collections.abc import Callable, Collection

from dcounter.node.contents import Contents
from dcounter.node.durability import Durability
from dcounter.node.empty_journal import EmptyJournal
from dcounter.node.members import Members
from dcounter.node.own_run import OwnRun
from dcounter.protocol.messages import Report
from dcounter.protocol.position import NodeId, Position


class Status:
    """
    How one node is.

    :param node: its id.
    :param pid: the id of its process.
    :param unfolded_runs: runs of its own that may be unfolded while it takes writes.
    :ivar port: where it listens; 0 if it does not.
    :ivar items_taken: how many items it stored for coordinators.
    :ivar batches_taken: in how many batches they came.
    :ivar accepted_secrets: gives how many secrets of the cluster it accepts.
    """

    def __init__(
        self,
        node: NodeId,
        pid: int,
        contents: Contents,
        durability: Durability,
        members: Members,
        empty_journal: EmptyJournal,
        own: OwnRun,
        unfolded_runs: int,
    ) -> None:
        self.port = 0
        self.items_taken = self.batches_taken = 0
        self.accepted_secrets: Callable[[], int] = lambda: 1
        self._node = node
        self._pid = pid
        self._contents = contents
        self._durability = durability
        self._members = members
        self._empty_journal = empty_journal
        self._own = own
        self._unfolded_runs = unfolded_runs
        # What was durable when the node began to drain; `None` before.
        self._before_drain: Position | None = None

    def refuses(self) -> str | None:
        """
        Why the node takes no writes at present; `None` if it takes them.
        """
        if self._before_drain is not None:
            return "the node is stopping"
        if self._members.self_removed:
            return "this node was removed from the cluster"
        if self._members.refusing:
            return f"another process holds the id of this node at nodes {sorted(self._members.refusing)}"
        if self._durability.failure is not None:
            return f"the disk failed: {self._durability.failure}"
        if self._empty_journal.undecided:
            return f"the node starts empty and has not heard from nodes {self._members.silent}"
        if len(self._contents.applied.of(self._node).runs) > self._unfolded_runs:
            return f"more than {self._unfolded_runs} runs are not on every node yet"
        return None

    def report(self) -> Report:
        """
        How the node is, for all others.
        """
        mine = self._contents
        items = len(mine.ledger)
        return Report(
            node=self._node,
            port=self.port,
            pid=self._pid,
            run=self._own.run,
            applied=self._durability.announced(mine.applied),
            durable=self._members.vouched_for(self._durability.durable),
            stamp=mine.stamp,
            items=items,
            items_taken=self.items_taken,
            openings=mine.runs.live(mine.applied),
            lost=mine.runs.lost,
            removed=sorted(self._members.removed),
            refuses=self.refuses(),
            loading=mine.loading or mine.behind,
            in_doubt=self._durability.in_doubt,
            secrets=self.accepted_secrets(),
            floor=mine.floor,
            compacted=mine.compacted,
            tombstones=mine.ledger.known - items,
            # Then another process takes its place, or the other members report.
            passing=self._before_drain is not None or self._empty_journal.undecided,
        )

    def drain(self) -> None:
        """
        The node takes no more writes: it is about to stop.
        """
        self._before_drain = self._durability.durable

    def drained(self, followers: Collection[Report | None]) -> bool:
        """
        Whether every connected follower has all that this node took.

        What comes from other nodes while it drains is theirs to hand on: under load it never ends.

        :param followers: what each of them said last; `None` if it said nothing yet.
        """
        wanted = self._durability.durable
        if self._before_drain is not None:
            wanted = self._before_drain.join(Position({self._node: wanted.of(self._node)}))
        return not self._durability.own_under_way and all(
            each is not None and each.durable.covers(wanted) for each in followers
        )
