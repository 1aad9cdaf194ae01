"""
How two ends of a connection find out that they belong together, before anything else is said.

Both prove that they have the cluster's secret without showing it: each gives a random nonce, each answers
with a code (HMAC-SHA256) over both nonces and all that was claimed. The codes of the two directions differ
by a label, so that none can be sent back to its maker. The port that was called is among the claims: a
process that took a node's old port can't relay the handshake to where the node listens now.
"""

import hmac
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from dcounter.errors import HandshakeRefused, Removed, WrongNode
from dcounter.protocol.messages import PROTOCOL, Challenge, Hello, Proof

Role = Literal["node", "coordinator", "probe"]


@dataclass(frozen=True, slots=True)
class Identity:
    """
    What all nodes and coordinators of one cluster share.

    :ivar cluster: the cluster id.
    :ivar members: ids of all nodes, in order.
    :ivar boot: random text of one start of a daemon, for its own nodes; empty for what runs by itself. A copy
        of the data directory has the same cluster and secret, but never the same boot.
    """

    cluster: str
    secret: bytes
    members: Sequence[int]
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """
    Who turned out to be at the other end.

    :ivar node: its node id; `None` for a coordinator.
    :ivar instance: the process that holds the node id; empty for all but nodes.
    """

    role: Role
    node: int | None
    instance: str = ""


@dataclass(frozen=True, slots=True)
class _Claims:
    """
    What a node says of itself.
    """

    node: int
    run: int
    nonce: str
    instance: str


def _code(label: str, identity: Identity, hello: Hello, its: _Claims) -> str:
    claims = [label, PROTOCOL, identity.cluster, list(identity.members)]
    claims += [hello.role, hello.node, hello.to, hello.nonce, hello.port, identity.boot, hello.instance]
    claims += [its.node, its.run, its.nonce, its.instance]
    return hmac.digest(identity.secret, json.dumps(claims).encode(), "sha256").hex()


class Caller:
    """
    The side that connected.

    :param role: what connects, see `Hello`.
    :param node: its own node id; `None` for a coordinator.
    :param to: the node it wants to talk to.
    :param port: the port that it called.
    :param nonce: random text, at least 32 characters.
    :param instance: random text of this process, if it is a node.
    :ivar found: the process that answered, once it has proved itself.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        role: Role,
        node: int | None,
        to: int,
        port: int,
        nonce: str,
        instance: str = "",
    ) -> None:
        self.found = ""
        self._identity = identity
        self.hello = Hello(
            PROTOCOL,
            identity.cluster,
            role,
            node,
            to,
            list(identity.members),
            nonce,
            port,
            identity.boot,
            instance if role == "node" else "",
        )

    def answer(self, challenge: Challenge) -> Proof:
        """
        Check the node's proof and give ours.

        :raises HandshakeRefused: it is another node, or does not have the secret.
        """
        if challenge.node != self.hello.to:
            raise HandshakeRefused(f"node {challenge.node} answered for node {self.hello.to}")
        its = _Claims(challenge.node, challenge.run, challenge.nonce, challenge.instance)
        expected = _code("node", self._identity, self.hello, its)
        if not hmac.compare_digest(expected.encode(), challenge.proof.encode()):
            raise HandshakeRefused(
                "the node does not have this cluster's secret, or the handshake was changed on its way"
            )
        self.found = challenge.instance
        return Proof(_code("caller", self._identity, self.hello, its))


class Callee:
    """
    The node that was connected to.

    :param run: its open run, 0 if it has none.
    :param nonce: random text, at least 32 characters.
    :param instance: random text of this process.
    :param forgotten: members that were removed.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        node: int,
        run: int,
        nonce: str,
        instance: str = "",
        forgotten: Collection[int] = (),
    ) -> None:
        self._forgotten = forgotten
        self._identity = identity
        self._own = _Claims(node, run, nonce, instance)
        self._hello: Hello | None = None

    def greet(self, hello: Hello, port: int) -> Challenge:
        """
        Check what the caller claims and answer with our proof.

        :param port: where this connection arrived.
        :raises HandshakeRefused: it does not belong here.
        """
        mine, own = self._identity, self._own
        if hello.protocol != PROTOCOL:
            raise HandshakeRefused(f"protocol {hello.protocol} instead of {PROTOCOL}")
        if hello.cluster != mine.cluster:
            raise HandshakeRefused("another cluster, or another secret")
        if hello.to != own.node:
            raise WrongNode(f"this is node {own.node}, not node {hello.to}")
        if hello.members != list(mine.members):
            raise HandshakeRefused(f"members {hello.members} instead of {list(mine.members)}")
        if (hello.node is None) != (hello.role == "coordinator"):
            raise HandshakeRefused(f"a {hello.role} with node id {hello.node}")
        if hello.node is not None and hello.node not in mine.members:
            raise HandshakeRefused(f"node {hello.node} is no member")
        if hello.boot != mine.boot:
            raise HandshakeRefused(
                "this node belongs to another start of the daemon; is a copy of its data directory in use?"
            )
        if hello.port != port:
            raise HandshakeRefused(
                f"port {hello.port} was called, and this is port {port}: something relays between them"
            )
        self._hello = hello
        proof = _code("node", mine, hello, own)
        return Challenge(own.node, own.run, own.nonce, own.instance, proof)

    def verify(self, proof: Proof) -> Peer:
        """
        Check the caller's proof.

        :raises Removed: it is a node that was removed; by now it knows that a member says so.
        :raises HandshakeRefused: it does not have the secret, or said nothing before.
        """
        hello = self._hello
        if hello is None:
            raise HandshakeRefused("a proof before the hello")
        expected = _code("caller", self._identity, hello, self._own)
        if not hmac.compare_digest(expected.encode(), proof.proof.encode()):
            raise HandshakeRefused("the caller does not have this cluster's secret")
        if hello.role == "node" and hello.node in self._forgotten:
            raise Removed(f"node {hello.node} was removed from the cluster")
        return Peer(hello.role, hello.node, hello.instance)
