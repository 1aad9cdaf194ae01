"""
How two ends of a connection find out that they belong together, before anything else is said.

Both prove that they have the cluster's secret without showing it: each gives a random nonce, each answers
with a code (HMAC-SHA256) over both nonces and all that was claimed. The codes of the two directions differ
by a label, so that none can be sent back to its maker.
"""

import hmac
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from dcounter.errors import HandshakeRefused, WrongNode
from dcounter.wire import PROTOCOL, Challenge, Hello, Proof

Role = Literal["node", "coordinator", "probe"]


@dataclass(frozen=True, slots=True)
class Identity:
    """
    What all nodes and coordinators of one cluster share.

    :ivar cluster: the cluster id.
    :ivar members: ids of all nodes, in order.
    """

    cluster: str
    secret: bytes
    members: Sequence[int]


@dataclass(frozen=True, slots=True)
class Peer:
    """
    Who turned out to be at the other end.

    :ivar node: its node id; `None` for a coordinator.
    """

    role: Role
    node: int | None


def _code(label: str, identity: Identity, hello: Hello, node: int, run: int, nonce: str) -> str:
    claims = [label, PROTOCOL, identity.cluster, list(identity.members)]
    claims += [hello.role, hello.node, hello.to, hello.nonce, node, run, nonce]
    return hmac.digest(identity.secret, json.dumps(claims).encode(), "sha256").hex()


class Caller:
    """
    The side that connected.

    :param role: what connects, see `Hello`.
    :param node: its own node id; `None` for a coordinator.
    :param to: the node it wants to talk to.
    :param nonce: random text, at least 32 characters.
    """

    def __init__(self, identity: Identity, *, role: Role, node: int | None, to: int, nonce: str) -> None:
        self._identity = identity
        self.hello = Hello(PROTOCOL, identity.cluster, role, node, to, list(identity.members), nonce)

    def answer(self, challenge: Challenge) -> Proof:
        """
        Check the node's proof and give ours.

        :raises HandshakeRefused: it is another node, or does not have the secret.
        """
        if challenge.node != self.hello.to:
            raise HandshakeRefused(f"node {challenge.node} answered for node {self.hello.to}")
        claims = (self.hello, challenge.node, challenge.run, challenge.nonce)
        expected = _code("node", self._identity, *claims)
        if not hmac.compare_digest(expected.encode(), challenge.proof.encode()):
            raise HandshakeRefused("the node does not have this cluster's secret")
        return Proof(_code("caller", self._identity, *claims))


class Callee:
    """
    The node that was connected to.

    :param run: its open run, 0 if it has none.
    :param nonce: random text, at least 32 characters.
    :param forgotten: members that were given up.
    """

    def __init__(
        self, identity: Identity, *, node: int, run: int, nonce: str, forgotten: Collection[int] = ()
    ) -> None:
        self._forgotten = forgotten
        self._identity = identity
        self._node = node
        self._run = run
        self._nonce = nonce
        self._hello: Hello | None = None

    def greet(self, hello: Hello) -> Challenge:
        """
        Check what the caller claims and answer with our proof.

        :raises HandshakeRefused: it does not belong here.
        """
        mine = self._identity
        if hello.protocol != PROTOCOL:
            raise HandshakeRefused(f"protocol {hello.protocol} instead of {PROTOCOL}")
        if hello.cluster != mine.cluster:
            raise HandshakeRefused("another cluster")
        if hello.to != self._node:
            raise WrongNode(f"this is node {self._node}, not node {hello.to}")
        if hello.members != list(mine.members):
            raise HandshakeRefused(f"members {hello.members} instead of {list(mine.members)}")
        if (hello.node is None) != (hello.role == "coordinator"):
            raise HandshakeRefused(f"a {hello.role} with node id {hello.node}")
        if hello.node is not None and hello.node not in mine.members:
            raise HandshakeRefused(f"node {hello.node} is no member")
        if hello.node in self._forgotten:
            raise HandshakeRefused(f"node {hello.node} was given up")
        self._hello = hello
        proof = _code("node", mine, hello, self._node, self._run, self._nonce)
        return Challenge(self._node, self._run, self._nonce, proof)

    def verify(self, proof: Proof) -> Peer:
        """
        Check the caller's proof.

        :raises HandshakeRefused: it does not have the secret, or said nothing before.
        """
        hello = self._hello
        if hello is None:
            raise HandshakeRefused("a proof before the hello")
        expected = _code("caller", self._identity, hello, self._node, self._run, self._nonce)
        if not hmac.compare_digest(expected.encode(), proof.proof.encode()):
            raise HandshakeRefused("the caller does not have this cluster's secret")
        return Peer(hello.role, hello.node)
