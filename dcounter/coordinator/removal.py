"""
Removing a member for good.
"""

from collections.abc import Mapping

from twisted.internet.defer import TimeoutError
from twisted.internet.interfaces import IReactorTime

from dcounter.coordinator.view import View
from dcounter.errors import LinkLost, NoAnswer, NodeIsUp, NotApplied, UnknownNode
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol import messages
from dcounter.protocol.position import NodeId


async def remove(
    node: NodeId, links: Mapping[NodeId, NodeLink], view: View, *, limits: Limits, time: IReactorTime
) -> None:
    """
    Tell every other node that is up that a member is removed.

    Each node that answers knows it and tells all others; a node whose disk fails writes it down later.

    :param links: node -> the link to it; members that were removed are deleted from it.
    :raises UnknownNode: there is no such member.
    :raises NodeIsUp: it is connected.
    :raises NotApplied: no other node could be told.
    :raises NoAnswer: whether one was told is not known.
    """
    up = view.up()
    again = node in view.removed
    if again:
        # A node that knew it may have lost that with its power: then the others wait for the member for ever.
        up = [other for other in up if not _knows(view, other, node)]
    if node not in links and not (again and up):
        raise UnknownNode(f"there is no node {node}, only nodes {sorted(links)}")
    if view.state(node) == "up":
        raise NodeIsUp(f"node {node} is up: stop it first, so that nothing only it holds is lost")
    told = unanswered = 0
    for other in up:
        link = links.get(other)
        if link is None:
            continue
        try:
            answer = link.ask(lambda number: messages.Remove(number, node))
            await answer.addTimeout(limits.request_s, time)
        except (LinkLost, TimeoutError):
            unanswered += 1
            continue
        told += 1
    if unanswered and not told:
        raise NoAnswer(f"no other node answered in time: if GET /cluster still shows node {node}, ask again")
    if not told:
        raise NotApplied("no other node could be told", retry_after=1)


def _knows(view: View, node: NodeId, removed: NodeId) -> bool:
    report = view.report(node)
    return report is not None and removed in report.removed
