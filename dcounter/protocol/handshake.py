"""
The handshake: two ends of a connection find out that they belong to one cluster, and what they speak.

Both prove that they have the cluster's secret without revealing it. Each sends a random nonce, and each
answers with a code (HMAC-SHA256) over both nonces and all claims. While the secret is being changed, each
makes its code with the secret that it uses, and accepts a code by any secret that it accepts. The codes of
the two directions differ by a label, so that neither can be sent back to its maker. The port that was called
is among the claims: a process that took a node's old port cannot relay the handshake to the port where the
node listens now.

Each end says which versions of the protocol it speaks and which features it has
(`dcounter.protocol.abilities`); the connection uses the highest version and the features that both have.
Release 0.1.0 sends no abilities: with it, the codes cover the claims that it knows, and the connection uses
its version and no features.

An attacker between two ends that negotiate cannot make them take each other for that release. Each end marks
its nonce (`NEGOTIATES`), and codes of every version cover both nonces. Abilities cannot be changed, because
the codes cover them. They cannot be removed, because a marked nonce without them is refused. The mark cannot
be removed either, because the codes of the two ends would then differ, of whichever kind they are.
"""

import hmac
import json
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from dcounter.errors import HandshakeRefused, Removed, WrongNode
from dcounter.protocol.abilities import ABILITIES, PROTOCOL, Abilities, Common, in_common
from dcounter.protocol.messages import Challenge, Hello, Proof, Role
from dcounter.protocol.secrets import Secrets

NEGOTIATES = "negotiates-"
"""
The beginning of the nonce of an end that sends its abilities.
"""


def journal_owner(node: int, cluster: str) -> str:
    """
    The owner that the journal of a node names.
    """
    return f"node {node} of cluster {cluster}"


@dataclass(frozen=True, slots=True)
class Identity:
    """
    What all nodes and coordinators of one cluster share.

    :ivar cluster: the cluster id. It stays the same when the secret changes.
    :ivar secrets: what proves that a process belongs to it.
    :ivar members: ids of all nodes, in order.
    :ivar boot: random text of one start of a daemon, for its own nodes; empty for processes that run by
        themselves. A copy of the data directory has the same cluster and secret, but never the same boot.
    """

    cluster: str
    secrets: Secrets
    members: Sequence[int]
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """
    The process at the other end, once it is known.

    :ivar node: its node id; `None` for a coordinator.
    :ivar instance: the process that holds the node id; empty for all but nodes.
    :ivar protocol: the version of the protocol that the connection uses.
    :ivar features: what both ends can do beyond that.
    """

    role: Role
    node: int | None
    instance: str = ""
    protocol: int = PROTOCOL
    features: AbstractSet[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Claims:
    """
    What a node claims about itself.
    """

    node: int
    run: int
    nonce: str
    instance: str
    abilities: Abilities | None


def _code(label: str, identity: Identity, secret: bytes, hello: Hello, its: _Claims) -> str:
    claims = [label, hello.protocol, identity.cluster, list(identity.members)]
    claims += [hello.role, hello.node, hello.to, hello.nonce, hello.port, identity.boot, hello.instance]
    claims += [its.node, its.run, its.nonce, its.instance]
    if hello.abilities is not None and its.abilities is not None:
        for each in (hello.abilities, its.abilities):
            claims += [each.lowest, each.highest, each.features]
    return hmac.digest(secret, json.dumps(claims).encode(), "sha256").hex()


def _own_code(label: str, identity: Identity, hello: Hello, its: _Claims) -> str:
    return _code(label, identity, identity.secrets.used, hello, its)


def _is_proved(code: str, label: str, identity: Identity, hello: Hello, its: _Claims) -> bool:
    return identity.secrets.made(
        code.encode(), lambda secret: _code(label, identity, secret, hello, its).encode()
    )


def _agree(caller: Abilities | None, node: Abilities | None, protocol: int) -> Common:
    """
    What a connection uses.

    :param protocol: the version of an end that sends no abilities.
    :raises HandshakeRefused: the two ends have no version in common.
    """
    caller = caller or Abilities(protocol, protocol)
    node = node or Abilities(protocol, protocol)
    common = in_common(caller, node)
    if common is None:
        raise HandshakeRefused(
            f"no common protocol: the caller speaks {caller}, the node {node}; "
            "update the one with the lower numbers"
        )
    return common


def _require_abilities(nonce: str, abilities: Abilities | None) -> None:
    if nonce.startswith(NEGOTIATES) != (abilities is not None):
        raise HandshakeRefused("the handshake was changed on its way: it does not say what the sender speaks")


class Caller:
    """
    The end that connected.

    :param role: what connects, see `Hello`.
    :param node: its own node id; `None` for a coordinator.
    :param to: the node that it calls.
    :param port: the port that it called.
    :param nonce: random text, at least 32 characters.
    :param instance: random text of this process, if it is a node.
    :param abilities: what it speaks.
    :ivar peer: the process that answered, once it has proved itself.
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
        abilities: Abilities = ABILITIES,
    ) -> None:
        self.peer: Peer | None = None
        self._identity = identity
        self.hello = Hello(
            abilities.lowest,
            identity.cluster,
            role,
            node,
            to,
            list(identity.members),
            NEGOTIATES + nonce,
            port,
            identity.boot,
            instance if role == "node" else "",
            abilities,
        )

    def answer(self, challenge: Challenge) -> Proof:
        """
        Check the node's proof and give ours.

        :raises HandshakeRefused: it is another node, or does not have the secret.
        """
        if challenge.node != self.hello.to:
            raise HandshakeRefused(f"node {challenge.node} answered for node {self.hello.to}")
        _require_abilities(challenge.nonce, challenge.abilities)
        its = _Claims(challenge.node, challenge.run, challenge.nonce, challenge.instance, challenge.abilities)
        if not _is_proved(challenge.proof, "node", self._identity, self.hello, its):
            raise HandshakeRefused(
                "the node does not have this cluster's secret, or the handshake was changed on its way"
            )
        uses = _agree(self.hello.abilities, challenge.abilities, self.hello.protocol)
        self.peer = Peer("node", challenge.node, challenge.instance, *uses)
        return Proof(_own_code("caller", self._identity, self.hello, its))


class Callee:
    """
    The node that was connected to.

    :param run: its open run, 0 if it has none.
    :param nonce: random text, at least 32 characters.
    :param instance: random text of this process.
    :param removed: members that were removed.
    :param abilities: what it speaks.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        node: int,
        run: int,
        nonce: str,
        instance: str = "",
        removed: Collection[int] = (),
        abilities: Abilities = ABILITIES,
    ) -> None:
        self._removed = removed
        self._identity = identity
        self._abilities = abilities
        self._own = _Claims(node, run, NEGOTIATES + nonce, instance, abilities)
        self._hello: Hello | None = None
        self._uses = Common(PROTOCOL, frozenset())

    def greet(self, hello: Hello, port: int) -> Challenge:
        """
        Check what the caller claims and answer with our proof.

        :param port: the port on which this connection arrived.
        :raises HandshakeRefused: the caller does not belong here.
        """
        mine, own = self._identity, self._own
        _require_abilities(hello.nonce, hello.abilities)
        self._uses = _agree(hello.abilities, self._abilities, hello.protocol)
        if hello.cluster != mine.cluster:
            raise HandshakeRefused("another cluster, or another secret")
        if hello.to != own.node:
            raise WrongNode(f"this is node {own.node}, not node {hello.to}")
        if hello.members != list(mine.members):
            raise HandshakeRefused(f"members {hello.members} instead of {list(mine.members)}")
        if (hello.node is None) != (hello.role == "coordinator"):
            raise HandshakeRefused(f"a {hello.role} with node id {hello.node}")
        if hello.node is not None and hello.node not in mine.members:
            raise HandshakeRefused(f"node {hello.node} is not a member")
        if hello.boot != mine.boot:
            raise HandshakeRefused(
                "this node belongs to another start of the daemon; is a copy of its data directory in use?"
            )
        if hello.port != port:
            raise HandshakeRefused(
                f"port {hello.port} was called, and this is port {port}: something relays between them"
            )
        self._hello = hello
        proof = _own_code("node", mine, hello, own)
        return Challenge(own.node, own.run, own.nonce, own.instance, proof, own.abilities)

    def verify(self, proof: Proof) -> Peer:
        """
        Check the caller's proof.

        :raises Removed: the caller is a node that was removed. It can believe this, since a member has proved
            itself.
        :raises HandshakeRefused: the caller does not have the secret, or sent no hello before.
        """
        hello = self._hello
        if hello is None:
            raise HandshakeRefused("a proof before the hello")
        if not _is_proved(proof.proof, "caller", self._identity, hello, self._own):
            raise HandshakeRefused("the caller does not have this cluster's secret")
        if hello.role == "node" and hello.node in self._removed:
            raise Removed(f"node {hello.node} was removed from the cluster")
        return Peer(hello.role, hello.node, hello.instance, *self._uses)
