"""
Connections that other processes make to a node: the callee's side of the handshake, and messages after it.
"""

from typing import Literal, Protocol, assert_never

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from dcounter.errors import Outcast, PeerError, SecondHolder, WrongNode
from dcounter.limits import Limits
from dcounter.links.connection import Complaints, Conversation
from dcounter.node.channels import ToNode
from dcounter.protocol import codec, messages
from dcounter.protocol.handshake import Callee, Peer
from dcounter.protocol.messages import Role


class CalledNode(Protocol):
    """
    The node that was called.
    """

    @property
    def conversations(self) -> "set[Incoming]":
        """
        All that other processes began and that are not over; each adds and removes itself.
        """

    @property
    def complaints(self) -> Complaints: ...

    def admit(self, peer: Peer) -> None:
        """
        A caller has proved itself.

        :raises PeerError: it is not let in.
        """

    def accepted(self, conversation: "Incoming", peer: Peer) -> int:
        """
        A conversation passed its handshake; the number of its channel.
        """

    def received(self, channel: int, message: ToNode, line: bytes) -> None:
        """
        A message arrived on a channel.

        :param line: the same as it came.
        """

    def writable(self, channel: int) -> None:
        """
        A channel takes more.
        """

    def left(self, channel: int) -> None:
        """
        A channel is gone.
        """


class Incoming(Conversation):
    """
    A conversation that another process began.

    :param callee: the part of a node in the handshake.
    """

    def __init__(self, node: CalledNode, callee: Callee, limits: Limits, clock: IReactorTime) -> None:
        super().__init__(limits, clock, node.complaints)
        self._node = node
        self._callee = callee
        self._state: Literal["hello", "proof"] | Role = "hello"
        self._channel: int | None = None

    @property
    def host(self) -> str:
        """
        The caller's machine.
        """
        return str(self.tcp.getPeer().host)

    def line_received(self, line: bytes) -> None:
        match self._state:
            case "hello":
                hello = codec.decode_hello(line)
                if isinstance(hello, messages.Farewell):
                    self.close("it left before the handshake")
                    return
                self.send(self._callee.greet(hello, self.tcp.getHost().port))
                self._state = "proof"
            case "proof":
                proof = codec.decode_proof(line)
                if isinstance(proof, messages.Farewell):
                    self.close("it left before the handshake")
                    return
                self._welcome(self._callee.verify(proof))
            case "node":
                self._heard(codec.decode_between_nodes(line), line)
            case "coordinator":
                self._heard(codec.decode_from_coordinator(line), line)
            case "probe":
                self.close("the probe has what it wanted")
            case _:
                assert_never(self._state)

    def _heard(self, message: ToNode | messages.Farewell, line: bytes) -> None:
        if isinstance(message, messages.Farewell):
            self.close(f"the other end left: {message.reason}")
        elif self._channel is not None:
            self._node.received(self._channel, message, line)

    def _welcome(self, peer: Peer) -> None:
        self._node.admit(peer)
        self.welcomed()
        self.send(messages.Welcome())
        self._state = peer.role
        if peer.role != "probe":
            self._channel = self._node.accepted(self, peer)

    def cut(self, reason: str) -> None:
        self.close(reason)

    def refuse(self, error: PeerError) -> None:
        if isinstance(error, WrongNode | SecondHolder | Outcast):
            # The first is no fault, and the others were told already.
            self._close_for(error)
        else:
            super().refuse(error)

    def connectionMade(self) -> None:
        super().connectionMade()
        self._node.conversations.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._node.conversations.discard(self)

    def connection_ended(self, reason: str) -> None:
        if self._channel is not None:
            self._node.left(self._channel)

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self._channel is not None:
            self._node.writable(self._channel)
