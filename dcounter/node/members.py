"""
The members of the cluster as one node knows them, what each said last, and what an empty journal means.

What holds, after each call:

- the set of removed members only grows, and none of them is a peer, has a report or is a rival;
- a node that found its journal empty waits until every peer has reported: only all of them together can tell
  whether the cluster is new or the journal was lost;
- what a node found out about that is in its journal, or else it would take what its peers gave back for
  all it ever had, if it died again while they did.
"""

from collections.abc import Collection

from dcounter.node.effects import Outbox
from dcounter.protocol import messages
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
    :ivar rivals: peers that do not let this node in, since another process holds its id.
    :ivar self_removed: whether this node itself was removed.
    :ivar reports: what each peer said last.
    :ivar awaited: whether it is not known yet what the empty journal means.
    :ivar wiped: whether the node had a journal before, and has not opened a run since.
    """

    def __init__(self, node: NodeId, members: Collection[NodeId], out: Outbox) -> None:
        self._node = node
        self._out = out
        self.peers = set(members) - {node}
        self.removed: set[NodeId] = set()
        self.rivals: set[NodeId] = set()
        self.self_removed = False
        self.reports: dict[NodeId, Report] = {}
        self.awaited = bool(self.peers)
        self.wiped = False
        # Whether the journal says so.
        self._says = False

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

    def is_closed(self, node: NodeId, run: int, *, own_run: int) -> bool:
        """
        Whether a node, which has heard from all members since it started, adds nothing to a run any more.

        :param own_run: the run that is open here.
        """
        if node in self.removed:
            return True
        if node == self._node:
            return own_run != run and not self.awaited
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
        self.rivals.discard(node)
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
        if peer not in self.peers or peer in self.rivals:
            return False
        self.rivals.add(peer)
        self._out.say("error", f"node {peer} refuses this process: {reason}. This process takes no writes")
        return True

    def let_in_by(self, peer: NodeId) -> bool:
        """
        A peer lets this process in; whether that is news.
        """
        if peer not in self.rivals:
            return False
        self.rivals.discard(peer)
        self._out.say("info", f"node {peer} lets this process in again")
        return True

    def vouched_for(self, mine: Position) -> Position:
        """
        What of our own others may take for durable.

        While two processes hold this node's id, it is not certain which of their journals will stay.

        :param mine: what is durable here.
        """
        return _NOWHERE if self.rivals else mine

    # What an empty journal means

    def restored(self, message: messages.JournalState | None) -> None:
        """
        The journal has a line: one that says what it is, or another one.
        """
        if message is not None:
            self._says = True
            self.awaited = not message.known and bool(self.peers)
            self.wiped = message.wiped
        elif not self._says:
            # Only a journal that was empty says what it is.
            self.awaited = False

    def begin(self) -> bool:
        """
        All that the journal has is known; whether it must be told now what it is.
        """
        if not self.awaited or self._says:
            return False
        self._says = True
        return True

    def journal_state(self) -> messages.JournalState | None:
        """
        What the journal must say; `None` if it was not empty.
        """
        return messages.JournalState(not self.awaited, self.wiped) if self._says else None

    def settle(self) -> bool:
        """
        See whether it is known by now what the empty journal means; whether that is so since this call.
        """
        if not self.awaited or not self.all_heard:
            return False
        self.awaited = False
        self.wiped = self.wiped or any(each.applied.nodes for each in self.reports.values())
        return True

    def opened_run(self) -> bool:
        """
        A run of this node is durable, and says whether the journal was lost; whether it was.
        """
        was = self.wiped
        self.wiped = False
        return was
