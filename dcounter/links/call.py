"""
The calling side of a connection to a node: its part of the handshake, and what other ports answered to it.
"""

from typing import Literal, assert_never

from twisted.internet.interfaces import IReactorTime

from dcounter.errors import PeerError, WrongNode
from dcounter.limits import Limits
from dcounter.links.connection import NO_ANSWER, Complaints, Conversation
from dcounter.protocol import codec, messages
from dcounter.protocol.handshake import Caller, Peer

_SHOWN_PORTS = 3
"""
Ports whose answers one log line shows.
"""

_SHOWN_CHARACTERS = 200
"""
Characters of a stranger's answer that the log shows.
"""


class Call(Conversation):
    """
    The calling side of a conversation.

    :ivar refusal: why either end ended the handshake; empty if neither gave a reason.
    """

    def __init__(self, caller: Caller, limits: Limits, clock: IReactorTime, complaints: Complaints) -> None:
        super().__init__(limits, clock, complaints)
        self._caller = caller
        self._state: Literal["hello", "proof", "welcome"] = "hello"
        self.refusal = messages.Farewell("")

    def connectionMade(self) -> None:
        super().connectionMade()
        # A node answers at once: what is silent for this long is not a node, or is as good as down.
        wait = min(self._limits.handshake_s, self._limits.suspicion_s)
        self._start_timeout(wait, lambda: self.close(NO_ANSWER))
        self.send(self._caller.hello)

    def line_received(self, line: bytes) -> None:
        match self._state:
            case "welcome":
                self.received(line)
            case "hello":
                challenge = codec.decode_challenge(line)
                if isinstance(challenge, messages.Farewell):
                    self.left(challenge)
                    return
                self.send(self._caller.answer(challenge))
                self._state = "proof"
            case "proof":
                welcome = codec.decode_welcome(line)
                if isinstance(welcome, messages.Farewell):
                    self.left(welcome)
                    return
                self._state = "welcome"
                self.welcomed()
            case _:
                assert_never(self._state)

    def left(self, farewell: messages.Farewell) -> None:
        """
        The node closes the connection, and says why.
        """
        self.refusal = farewell
        self.close(f"the node says: {farewell.reason}")

    def refuse(self, error: PeerError) -> None:
        if self._state == "welcome":
            super().refuse(error)
        else:
            # A search for a node meets others: that is no reason for a warning.
            self.refusal = messages.Farewell(str(error))
            self.close(str(error))

    @property
    def proved(self) -> bool:
        """
        Whether the other end has proved that it is a member, so that its words can be believed.
        """
        return self._state != "hello"

    @property
    def peer(self) -> Peer | None:
        """
        The process that answered, once it has proved itself.
        """
        return self._caller.peer

    def received(self, line: bytes) -> None:
        """
        Take a line that came after the handshake.
        """


class SearchLog:
    """
    What ports answered to a search that did not find the node.

    Other programs and nodes listen in the same range. So it keeps only the answer of the port on which the
    node is expected, and those with which nodes of dcounter refused us.

    :param expected: the port on which the node is expected.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._said: dict[int, messages.Farewell] = {}

    def heard(self, port: int, said: messages.Farewell) -> None:
        """
        A port answered, but not as the node.
        """
        refused = said.code not in ("", WrongNode.code)
        if said.reason and (refused or port == self._expected):
            self._said[port] = said

    def __str__(self) -> str:
        ports = sorted(self._said, key=lambda port: (port != self._expected, port))[:_SHOWN_PORTS]
        return "".join(f'. Port {port} answered: "{_shown(self._said[port].reason)}"' for port in ports)


def _shown(text: str) -> str:
    """
    What a stranger said, made safe for a log line.
    """
    return "".join(each if each.isprintable() else "?" for each in text[:_SHOWN_CHARACTERS])
