"""
Single nodes on the network in memory, for tests of what is around a node.
"""

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol

from dcounter.journal.memory import MemoryJournal
from dcounter.limits import Limits
from dcounter.node.service import Node
from dcounter.protocol import codec, messages
from dcounter.protocol.codec import LineSplitter
from dcounter.protocol.handshake import Caller
from dcounter.protocol.messages import Report, Role
from dcounter.testing import Cluster, ProcessClock


def make_node(cluster: Cluster, node: int, **changes: Any) -> Node:
    """
    A node that is not started, as `Cluster.start_node` makes it but for some of what is passed in.
    """
    process = f"node {node}"
    clock = ProcessClock(cluster.clock)
    given: dict[str, Any] = {
        "identity": cluster.identity,
        "address_book": cluster.processes.address_book("node", cluster.identity, process, clock, node),
        "listen": lambda port: cluster.network.listen(port, process),
        "journal": MemoryJournal(clock),
        "limits": cluster.limits,
        "clock": clock,
        "wall": cluster.wall,
        "nonce": lambda: cluster.random.randbytes(16).hex(),
        "jitter": lambda: 0.0,
        "pid": 0,
    }
    return Node(node, **{**given, **changes})


class Visitor(Protocol):
    """
    Whoever connects to a node: says what the test tells it to, and keeps what it hears.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.splitter = LineSplitter(10**9)
        self.heard: list[messages.Message] = []
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += map(codec.decode, self.splitter.feed(data))

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def say(self, *messages: messages.Message) -> None:
        for message in messages:
            self.write(codec.encode(message) + b"\n")

    def hang_up(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def greet(self, node: int, role: Role = "coordinator", own: int | None = None) -> None:
        """
        The whole handshake.
        """
        port = self.transport.getPeer().port  # type: ignore[union-attr]
        caller = Caller(self.cluster.identity, role=role, node=own, to=node, port=port, nonce="v" * 32)
        self.say(caller.hello)
        self.cluster.run(0.02)
        [challenge] = self.heard
        assert isinstance(challenge, messages.Challenge)
        self.say(caller.answer(challenge))
        self.cluster.run(0.02)
        assert messages.Welcome() in self.heard

    def answers(self) -> list[messages.Message]:
        ours = (messages.Challenge, messages.Welcome, Report)
        return [message for message in self.heard if not isinstance(message, ours)]

    def reports(self) -> list[Report]:
        return [message for message in self.heard if isinstance(message, Report)]

    def farewell(self) -> str:
        [message] = [message for message in self.heard if isinstance(message, messages.Farewell)]
        return message.reason


def visit(cluster: Cluster, port: int) -> Visitor:
    visitor = Visitor(cluster)
    connecting = cluster.network.connect("visitor", port).connect(Factory.forProtocol(lambda: visitor))
    connecting.addErrback(lambda why: pytest.fail(f"nobody listens there: {why}"))
    cluster.run(0.01)
    return visitor


def started(cluster: Cluster, node: int = 0, **changes: Any) -> Node:
    """
    A node that runs; `Cluster.stop` stops it.
    """
    service = cluster.nodes[node] = make_node(cluster, node, **changes)
    service.startService()
    cluster.clock.advance(0.01)
    return service


def alone(**limits: float) -> tuple[Cluster, Node]:
    cluster = Cluster(1, limits=replace(Limits(), **limits))  # type: ignore[arg-type]
    return cluster, started(cluster)


def stopped(cluster: Cluster) -> None:
    """
    All stops, and nothing is left of it.
    """
    cluster.stop()
    assert cluster.clock.getDelayedCalls() == []
    assert cluster.network.connections == set()
    assert cluster.network.ports == {}
