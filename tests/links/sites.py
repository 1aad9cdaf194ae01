"""
A network in memory with one link, and what the test puts on the ports.
"""

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, DNSLookupError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.errors import HandshakeRefused, MalformedMessage
from dcounter.limits import Limits
from dcounter.links.address_book import Address, AddressBook
from dcounter.links.link import NodeLink
from dcounter.protocol import codec, messages
from dcounter.protocol.abilities import ABILITIES
from dcounter.protocol.codec import LineSplitter
from dcounter.protocol.handshake import Callee, Identity
from dcounter.protocol.messages import Role
from dcounter.protocol.position import Position
from dcounter.protocol.secrets import Secrets
from dcounter.testing import MemoryPort, Network

IDENTITY = Identity("c" * 32, Secrets(b"secret"), range(3))


LIMITS = Limits(line_bytes=20_000)


def lines(*messages: messages.Message) -> bytes:
    return b"".join(codec.encode(message) + b"\n" for message in messages)


BEAT = messages.Beat(1)


def report(node: int) -> messages.Report:
    return messages.Report(node, 9000 + node, 1, 0, Position(), Position(), 0, 0, 0)


class FakeNode(Protocol):
    """
    Whoever listens on a port: does the handshake as told, and keeps what it hears.
    """

    def __init__(self, site: "Site", port: int) -> None:
        self.site = site
        self.port = port
        self.splitter = LineSplitter(10**6)
        self.heard: list[messages.Message] = []
        self.open = True

    def connectionMade(self) -> None:
        self.site.nodes.append(self)
        who = self.site.who[self.port]
        if who is None:
            return
        if isinstance(who, bytes):
            self.write(who)
            return
        self.callee = Callee(
            self.site.identity, node=who, run=0, nonce="n" * 32, abilities=self.site.abilities
        )

    def dataReceived(self, data: bytes) -> None:
        for line in self.splitter.feed(data):
            message = codec.decode(line)
            self.heard.append(message)
            if isinstance(message, messages.Hello) and hasattr(self, "callee"):
                self.refusing(lambda hello=message: self.say(self.callee.greet(hello, self.port)))  # type: ignore[misc]
            elif isinstance(message, messages.Proof):
                if self.site.turned_away is not None:
                    self.say(self.site.turned_away)
                    self.hang_up()
                    return
                self.callee.verify(message)
                self.say(messages.Welcome())

    def refusing(self, answer: Callable[[], None]) -> None:
        try:
            answer()
        except HandshakeRefused as error:
            self.say(messages.Farewell(str(error), error.code))
            self.hang_up()

    def say(self, *messages: messages.Message) -> None:
        self.write(lines(*messages))

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def hang_up(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.open = False


class _Building(Factory):
    noisy = False

    def __init__(self, site: "Site", port: int) -> None:
        self.site = site
        self.port = port

    def buildProtocol(self, addr: IAddress | None) -> FakeNode:
        return FakeNode(self.site, self.port)


@implementer(IStreamClientEndpoint)
class _Nameless:
    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return fail(DNSLookupError("no such name"))


class Site:
    """
    A network in memory with one link, and whoever the test puts on the ports.

    :ivar who: port -> node id, text that a stranger says, or `None` for one that says nothing.
    :ivar abilities: what the nodes there speak.
    :ivar happened: what the link told its user.
    """

    PORTS = range(9000, 9040)

    def __init__(self, *, role: Role = "coordinator", node: int | None = None) -> None:
        import random

        self.clock = Clock()
        self.random = random.Random(1)
        self.network = Network(self.clock, self.random)
        self.identity = IDENTITY
        self.abilities = ABILITIES
        self.who: dict[int, int | bytes | None] = {}
        self.ports: dict[int, MemoryPort] = {}
        self.nodes: list[FakeNode] = []
        self.happened: list[str] = []
        self.received: list[messages.Message] = []
        self.attempts: list[tuple[float, int]] = []
        self.nameless = False
        self.turned_away: messages.Farewell | None = None
        self.refusals: list[tuple[int, messages.Farewell]] = []
        self.address_book = AddressBook(
            IDENTITY,
            role=role,
            node=node,
            addresses={to: Address("memory", 9000 + to, self.PORTS) for to in IDENTITY.members},
            connect=lambda _, port: self._connect(port),
            nonce=lambda: self.random.randbytes(16).hex(),
            limits=LIMITS,
            clock=self.clock,
        )
        self.link = NodeLink(
            1,
            address_book=self.address_book,
            user=self,
            decode=codec.decode_to_coordinator,
            jitter=lambda: 0.0,
            refused=lambda *what: self.refusals.append(what),
        )

    def _connect(self, port: int) -> IStreamClientEndpoint:
        self.attempts.append((self.clock.seconds(), port))
        if self.nameless:
            return _Nameless()
        return self.network.connect("here", port)

    def listen(self, port: int, who: int | bytes | None) -> None:
        self.who[port] = who
        found: list[MemoryPort] = []
        listening: Deferred[MemoryPort] = self.network.listen(port).listen(_Building(self, port))  # type: ignore[assignment]
        listening.addCallback(found.append)
        self.ports[port] = found[0]

    def run(self, seconds: float = 0.05) -> None:
        for _ in range(round(seconds * 1_000)):
            self.clock.advance(0.001)

    def start(self) -> FakeNode:
        """
        Node 1 listens where it is expected, and the link is up.
        """
        self.listen(9001, 1)
        self.link.startService()
        self.run()
        assert self.up()
        return self.nodes[-1]

    def stop(self) -> None:
        stopped: list[object] = []
        if self.link.running:
            self.link.stopService().addBoth(stopped.append)
            self.run(3)
            assert stopped == [None]
        for node in self.nodes:
            if node.open:
                node.hang_up()
        self.run(0.1)
        assert self.clock.getDelayedCalls() == []
        assert self.network.connections == set()

    def up(self) -> bool:
        return self.link.up

    def paused(self) -> bool:
        return self.link.paused

    # LinkUser

    def link_up(self, link: NodeLink) -> None:
        assert link.up
        self.happened.append("up")

    def link_down(self, link: NodeLink) -> None:
        assert not link.up
        self.happened.append("down")

    def link_writable(self, link: NodeLink) -> None:
        self.happened.append("writable")

    def link_received(self, link: NodeLink, message: messages.Report, line: bytes) -> None:
        assert codec.decode(line) == message
        if message.node != link.node:
            raise MalformedMessage("the report of another node")
        self.received.append(message)


def counted(request: int) -> messages.Counted:
    return messages.Counted(request, [1], True, Position(), 0)


def asked(site: Site) -> tuple[list[object], Deferred[messages.Counted]]:
    """
    A count is asked; what becomes of it.
    """
    answer = site.link.ask(lambda number: messages.Count(number, ["t"]))
    found: list[object] = []
    answer.addBoth(found.append)
    return found, answer
