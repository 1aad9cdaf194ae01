"""
The members of the cluster as one node knows them, and what each said last.

Which peers refuse this process is only recorded here: the refusal itself is in `dcounter.protocol.handshake`.

What holds, after each call:

- the set of removed members only grows, and none of them is a peer, has a report or refuses this process.
"""

from collections.abc import Collection

from dcounter.node.effects import Outbox
from dcounter.protocol.messages import Report
from dcounter.protocol.position import NodeId, Position, join_all

_NOWHERE = Position()


class Members:
    """
    The members that one node knows.

    :param node: its id.
    :param members: ids of all nodes.
    :ivar peers: the other members.
    :ivar removed: former members, removed from the cluster for good.
    :ivar refusing: peers that do not let this node in, since another process holds its id.
    :ivar self_removed: whether this node itself was removed.
    :ivar reports: what each peer said last.
    """

    def __init__(self, node: NodeId, members: Collection[NodeId], out: Outbox) -> None:
        self._node = node
        self._out = out
        self.peers = set(members) - {node}
        self.removed: set[NodeId] = set()
        self.refusing: set[NodeId] = set()
        self.self_removed = False
        self.reports: dict[NodeId, Report] = {}

    # What they said

    @property
    def silent(self) -> list[NodeId]:
        """
        Peers that have not reported.
        """
        return sorted(self.peers - self.reports.keys())

    @property
    def all_heard(self) -> bool:
        """
        Whether all peers have reported.
        """
        return self.reports.keys() >= self.peers

    def known(self, mine: Position) -> Position:
        """
        What any node is known to have.

        :param mine: what this node has.
        """
        return join_all([mine, *(each.applied for each in self.reports.values())])

    def everywhere(self, mine: Position) -> list[Position]:
        """
        What is durable at each member.

        :param mine: what is durable here.
        """
        return [mine, *(each.durable for each in self.reports.values())]

    def have_no_more_than(self, mine: Position) -> bool:
        """
        Whether no node is known to have what this node lacks.
        """
        return all(mine.covers(each.applied) for each in self.reports.values())

    def on_report(self, report: Report) -> None:
        """
        A peer said how it is.
        """
        self.reports[report.node] = report

    def is_closed(self, node: NodeId, run: int, *, own_run: int, undecided: bool) -> bool:
        """
        Whether a node, which has heard from all members since it started, adds nothing to a run any more.

        :param own_run: the run that is open here.
        :param undecided: whether this node does not know yet what its empty journal means.
        """
        if node in self.removed:
            return True
        if node == self._node:
            return own_run != run and not undecided
        return self.reports[node].run != run and self.reports[node].refuses is None

    # Removal

    def not_removed(self, nodes: Collection[NodeId]) -> list[NodeId]:
        """
        Those of some nodes other than this one that are not known to have been removed.
        """
        return sorted({*nodes} - self.removed - {self._node})

    def remove(self, node: NodeId) -> None:
        """
        A member was removed from the cluster.
        """
        self.removed.add(node)
        self.peers.discard(node)
        self.refusing.discard(node)
        self.reports.pop(node, None)

    def remove_self(self, text: str) -> bool:
        """
        This node was removed from the cluster; whether that is news.

        :param text: the news, for the operator.
        """
        if self.self_removed:
            return False
        self.self_removed = True
        self._out.say("error", text)
        return True

    # Which process is this node

    def refused_by(self, peer: NodeId, reason: str) -> bool:
        """
        A peer does not let this process in, since another one holds its node id; whether that is news.
        """
        if peer not in self.peers or peer in self.refusing:
            return False
        self.refusing.add(peer)
        self._out.say("error", f"node {peer} refuses this process: {reason}. This process takes no writes")
        return True

    def let_in_by(self, peer: NodeId) -> bool:
        """
        A peer lets this process in; whether that is news.
        """
        if peer not in self.refusing:
            return False
        self.refusing.discard(peer)
        self._out.say("info", f"node {peer} lets this process in again")
        return True

    def vouched_for(self, mine: Position) -> Position:
        """
        What of our own others may take for durable.

        While two processes hold this node's id, it is not certain which of their journals will stay.

        :param mine: what is durable here.
        """
        return _NOWHERE if self.refusing else mine
