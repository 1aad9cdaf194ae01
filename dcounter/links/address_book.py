"""
Where the nodes of a cluster are, and how one is found that has moved to another port.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory

from dcounter.errors import PeerError, WrongNode
from dcounter.limits import Limits
from dcounter.links.connection import NO_ANSWER, Complaints, Conversation
from dcounter.protocol import codec, messages
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.protocol.handshake import Caller, Identity, Peer, Role

_PROBES = 16
"""
Ports that are asked at once where a node is looked for; a few strangers among them do not matter.
"""

_TOLD_PORTS = 3
"""
Ports whose answers one line of the log tells.
"""

_SHOWN = 200
"""
Characters that are shown of what a stranger said.
"""

_LATE = messages.Farewell("")
"""
This very one: nothing was said in time, which does not mean that the node is not there.
"""

Found = Literal["it", "another", "nothing in time"]
"""
What was found on a port where a node was looked for; `another` also if nothing listens there.
"""

Connect = Callable[[str, int], IStreamClientEndpoint]
"""
Gives the endpoint of a port of a machine.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where a node is.

    :ivar host: the machine.
    :ivar port: the port where the node probably listens.
    :ivar ports: the ports on which it may listen.
    """

    host: str
    port: int
    ports: range

    @classmethod
    def from_port(cls, host: str, port: int, ports: int) -> "Address":
        """
        A node that tries so many ports, this one first.
        """
        return cls(host, port, range(port, min(port + ports, 65_536)))

    def ports_from(self, port: int) -> Sequence[int]:
        """
        The ports of the range from that one on, those below it last.
        """
        return sorted(self.ports, key=lambda each: (each < port, each))


class Call(Conversation):
    """
    The calling side of a conversation.

    :ivar refusal: why the other end, or we, ended the handshake; empty if neither said it.
    """

    def __init__(self, address_book: "AddressBook", caller: Caller) -> None:
        super().__init__(address_book.limits, address_book.clock, address_book.complaints)
        self._caller = caller
        self._state: Literal["hello", "proof", "welcome"] = "hello"
        self.refusal = messages.Farewell("")

    def connectionMade(self) -> None:
        super().connectionMade()
        # A node would answer at once: what is silent for so long is none, or as good as gone.
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
        The node hangs up, and says why.
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
        Whether the other end has proved that it is a member: then what it says counts.
        """
        return self._state != "hello"

    @property
    def peer(self) -> Peer | None:
        """
        What answered, once it has proved itself.
        """
        return self._caller.peer

    def received(self, line: bytes) -> None:
        """
        A line after the handshake.
        """


class _Probe(Call):
    """
    A handshake and nothing else: does the node answer there?

    :ivar found: `None` if it does, else why not, as `messages.Farewell` says it.
    """

    def __init__(self, address_book: "AddressBook", caller: Caller) -> None:
        super().__init__(address_book, caller)
        self.found: Deferred[messages.Farewell | None] = Deferred(self._abandon)
        self._wanted = True

    def welcomed(self) -> None:
        super().welcomed()
        self._answer(None)
        self.close("only asking who is there")

    def connection_ended(self, reason: str) -> None:
        self._answer(_LATE if reason == NO_ANSWER else self.refusal)

    def _answer(self, found: messages.Farewell | None) -> None:
        if self._wanted:
            self._wanted = False
            self.found.callback(found)

    def _abandon(self, found: "Deferred[messages.Farewell | None]") -> None:
        self._wanted = False
        self.close("no longer wanted")


class Answers:
    """
    What ports answered where a node was looked for and not found.

    Other programs and other nodes listen in the same range: of them only what the port says on which the
    node is expected, and what refused us as a node of dcounter does.

    :param expected: that port.
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
        ports = sorted(self._said, key=lambda port: (port != self._expected, port))[:_TOLD_PORTS]
        return "".join(f'. Port {port} answered: "{_shown(self._said[port].reason)}"' for port in ports)


def _shown(text: str) -> str:
    """
    What a stranger said, as it may stand in a line of the log.
    """
    return "".join(each if each.isprintable() else "?" for each in text[:_SHOWN])


class AddressBook:
    """
    What a process needs to reach the nodes of its cluster, and to be recognised.

    :param role: what this process is.
    :param node: its node id; `None` for a coordinator.
    :param nonce: gives a new random text, at least 32 characters.
    :param addresses: node id -> where that node is.
    :param instance: random text of this process, if it is a node.
    :param abilities: what this process speaks.
    :param complaints: what the operator is told about refused connections, for all of this process.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        role: Role,
        node: int | None,
        addresses: Mapping[int, Address],
        connect: Connect,
        nonce: Callable[[], str],
        limits: Limits,
        clock: IReactorTime,
        instance: str = "",
        abilities: Abilities = ABILITIES,
        complaints: Complaints | None = None,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.instance = instance
        self.abilities = abilities
        self.complaints = complaints or Complaints(clock.seconds)
        self.addresses = addresses
        self._identity = identity
        self._role = role
        self._node = node
        self._connect = connect
        self._nonce = nonce

    def endpoint(self, node: int, port: int) -> IStreamClientEndpoint:
        """
        The endpoint of a port of the machine where a node is.
        """
        return self._connect(self.addresses[node].host, port)

    def caller(self, to: int, port: int, *, probe: bool = False) -> Caller:
        """
        Our side of a handshake with a node.

        :param port: the port that is called.
        """
        role = "probe" if probe and self._node is not None else self._role
        return Caller(
            self._identity,
            role=role,
            node=self._node,
            to=to,
            port=port,
            nonce=self._nonce(),
            instance=self.instance,
            abilities=self.abilities,
        )

    async def locate(self, node: int, port: int, answers: Answers) -> int | None:
        """
        The port of the range where that node listens, looked for from `port` on; `None` if on none.

        Some ports are asked at once: strangers that listen there and say nothing must not hold it up.

        :param answers: is told what the others said.
        """
        ports = iter(self.addresses[node].ports_from(port))
        found: Deferred[int | None] = Deferred()

        async def look() -> None:
            for each in ports:
                said = await self._probe(node, each)
                if said is not None:
                    answers.heard(each, said)
                elif not found.called:
                    found.callback(each)
                if found.called:
                    return

        looking = [Deferred.fromCoroutine(look()) for _ in range(_PROBES)]
        all_of_them = gatherResults(looking, consumeErrors=True)
        all_of_them.addCallbacks(
            lambda _: None if found.called else found.callback(None),
            lambda why: None if found.called else found.errback(why.value.subFailure),
        )
        # No `finally`: the garbage collector would run it, too, when nothing waits for this any more.
        try:
            port_found = await found
        except Exception:
            all_of_them.cancel()
            raise
        all_of_them.cancel()
        return port_found

    async def probe(self, node: int, port: int) -> Found:
        """
        What is on a port where that node listened.
        """
        said = await self._probe(node, port)
        if said is None:
            return "it"
        return "nothing in time" if said is _LATE else "another"

    async def _probe(self, node: int, port: int) -> messages.Farewell | None:
        """
        `None` if that node listens on that port, else what was said there.
        """
        probe = _Probe(self, self.caller(node, port, probe=True))
        factory = Factory.forProtocol(lambda: probe)
        factory.noisy = False
        try:
            await self.endpoint(node, port).connect(factory)
        except TimeoutError:
            return _LATE
        except (ConnectError, DNSLookupError):
            return messages.Farewell("")
        return await probe.found
