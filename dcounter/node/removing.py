"""
Members that are removed from the cluster, as one node carries it out.

What holds, after each call:

- a removal that a coordinator asked for is answered once, when it is durable, or at once if nothing waits for
  the disk.
"""

from collections.abc import Callable, Collection

from dcounter.node.answers import Answers
from dcounter.node.channels import Channels
from dcounter.node.durability import Durability, Removal
from dcounter.node.effects import Outbox, StopFollowing
from dcounter.node.following import Following
from dcounter.node.members import Members
from dcounter.protocol import codec, messages
from dcounter.protocol.position import NodeId


class Removing:
    """
    Removes members.

    :param node: the id of this node.
    :param append: has a line journalled.
    :param broadcast: tells all others how this node is.
    :param decide: sees whether it is known by now what an empty journal means.
    """

    def __init__(
        self,
        node: NodeId,
        out: Outbox,
        durability: Durability,
        members: Members,
        following: Following,
        channels: Channels,
        answers: Answers,
        append: Callable[[Removal], None],
        broadcast: Callable[[], None],
        decide: Callable[[], None],
    ) -> None:
        self._node = node
        self._out = out
        self._durability = durability
        self._members = members
        self._following = following
        self._channels = channels
        self._answers = answers
        self._append = append
        self._broadcast = broadcast
        self._decide = decide

    def remove(self, nodes: Collection[NodeId], channel: int = 0, request: int = 0) -> None:
        """
        Members were removed from the cluster: the list of those only grows, and all nodes tell each other.

        :param request: the request to answer; 0 if a peer says so.
        """
        works = self._durability.failure is None
        new = self._members.not_removed(nodes)
        for node in new:
            self._out.say("warn", f"node {node} was removed from the cluster")
            self._members.remove(node)
            self._following.without(node)
            self._out.add(StopFollowing(node))
            self._channels.close_to(node, "this node was removed from the cluster")
            line = codec.encode(messages.Remove(request, node))
            self._append(Removal(line, channel=channel, request=request if works else 0))
        if new:
            self._broadcast()
            self._decide()
        if request and not (new and works):
            # Nothing waits for a disk that fails: it is known here, told to all, and written down later.
            self._answers.awaited(channel, request, reached=works)
        if self._node in nodes and self._members.remove_self(
            "this node was removed from the cluster: stop it for good"
        ):
            self._broadcast()
