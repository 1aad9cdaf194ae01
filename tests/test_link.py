"""
Connections: what strangers, lines, time and loss do to them.
"""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost, DNSLookupError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.errors import HandshakeRefused, LinkLost, MalformedMessage
from dcounter.limits import Limits
from dcounter.links.address_book import Address, AddressBook, Found
from dcounter.links.connection import Complaints, Conversation
from dcounter.links.link import Link
from dcounter.protocol import codec, messages
from dcounter.protocol.codec import LineSplitter
from dcounter.protocol.handshake import Callee, Identity, Role
from dcounter.protocol.position import Position
from dcounter.testing import MemoryPort, Network

IDENTITY = Identity("c" * 32, b"secret", range(3))
LIMITS = Limits(line=20_000)


class Wire(StringTransport):
    """
    A transport that remembers what was done to it.
    """

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "10.0.0.1", 5))
        self.no_delay = False
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def abortConnection(self) -> None:
        self.aborted = True

    def messages(self) -> list[messages.Message]:
        return [codec.decode(line) for line in self.value().splitlines()]


class Talk(Conversation):
    """
    A conversation that writes down what it hears; `Welcome` ends its handshake.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        super().__init__(limits, clock, Complaints(clock.seconds))
        self.heard: list[messages.Message] = []
        self.endings: list[str] = []

    def message_received(self, message: messages.Message) -> None:
        if isinstance(message, messages.Gap):
            super().message_received(message)
        self.heard.append(message)
        if isinstance(message, messages.Welcome):
            self.welcomed()

    def connection_ended(self, reason: str) -> None:
        self.endings.append(reason)


class Line:
    """
    A conversation, its transport and its time.
    """

    def __init__(self, make: Callable[[Limits, Clock], Conversation] = Talk) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.talk = make(LIMITS, self.clock)
        self.talk.makeConnection(self.wire)

    def hung_up(self) -> bool:
        return bool(self.wire.disconnecting)

    def cut_off(self) -> bool:
        return self.wire.aborted

    def lose(self, why: Exception | None = None) -> None:
        self.talk.connectionLost(Failure(why or ConnectionDone()))

    @property
    def heard(self) -> list[messages.Message]:
        assert isinstance(self.talk, Talk)
        return self.talk.heard

    @property
    def endings(self) -> list[str]:
        assert isinstance(self.talk, Talk)
        return self.talk.endings


def lines(*messages: messages.Message) -> bytes:
    return b"".join(codec.encode(message) + b"\n" for message in messages)


BEAT = messages.Beat(1)


class TestConversation:
    def test_small_messages_leave_at_once(self) -> None:
        line = Line()
        assert line.wire.no_delay
        line.talk.send(BEAT)
        assert line.wire.value() == b'{"type":"beat","stamp":1}\n'

    def test_a_handshake_has_a_time_limit(self) -> None:
        line = Line()
        line.clock.advance(4.9)
        assert not line.hung_up()
        line.clock.advance(0.1)
        assert line.wire.messages() == [messages.Farewell("no handshake in time")]
        assert line.hung_up()
        assert line.endings == ["no handshake in time"]

    def test_afterwards_there_is_none(self) -> None:
        line = Line()
        line.talk.dataReceived(lines(messages.Welcome()))
        assert line.clock.getDelayedCalls() == []
        line.lose()
        assert line.clock.getDelayedCalls() == []

    def test_lines_of_strangers_are_short(self) -> None:
        line = Line()
        line.talk.dataReceived(b"x" * 8_192)
        assert line.endings == []
        line.talk.dataReceived(b"x")
        assert line.endings == ["a line of more than 8192 bytes"]

    def test_lines_of_friends_may_be_longer_but_not_endless(self) -> None:
        line = Line()
        line.talk.dataReceived(lines(messages.Welcome()))
        line.talk.dataReceived(b" " * 19_900 + lines(BEAT))
        assert line.heard == [messages.Welcome(), BEAT]
        for _ in range(3):
            line.talk.dataReceived(b"x" * 10_000)
        assert line.endings == ["a line of more than 20000 bytes"]

    @pytest.mark.parametrize("rest", [0, 12_000])
    def test_a_long_line_may_arrive_together_with_the_welcome(self, rest: int) -> None:
        line = Line()
        long = b" " * 12_000 + lines(BEAT)
        line.talk.dataReceived(lines(messages.Welcome()) + long + b" " * rest)
        line.talk.dataReceived(lines(BEAT))
        assert line.endings == []
        assert line.heard == [messages.Welcome(), BEAT, BEAT]

    @pytest.mark.parametrize("line_", [b"", b"GET / HTTP/1.1", b"\xff\xfe", b"[" * 8_000, b'{"type":"beat"}'])
    def test_garbage_costs_the_connection(self, line_: bytes) -> None:
        line = Line()
        line.talk.dataReceived(line_ + b"\n" + lines(BEAT))
        assert len(line.endings) == 1
        assert line.heard == []
        [farewell] = line.wire.messages()
        assert isinstance(farewell, messages.Farewell)
        assert farewell.reason.startswith("not a message")
        assert line.hung_up()

    def test_a_message_that_is_not_expected_costs_it_too(self) -> None:
        line = Line()
        line.talk.dataReceived(lines(messages.Gap(0)))
        assert line.endings == ["Gap was not expected"]

    def test_nothing_is_heard_after_the_end(self) -> None:
        line = Line()
        line.talk.close("enough")
        line.talk.dataReceived(lines(BEAT))
        assert line.heard == []

    def test_nor_after_an_end_in_the_middle_of_a_chunk(self) -> None:
        line = Line()
        line.talk.dataReceived(lines(BEAT, messages.Gap(0), BEAT))
        assert line.heard == [BEAT]

    @given(st.data())
    def test_messages_may_be_split_anywhere(self, data: st.DataObject) -> None:
        said: list[messages.Message] = [
            messages.Beat(5),
            messages.Farewell("\u00e4\u2028 \U0001f600\n"),
            messages.Welcome(),
            messages.Proof("x" * 9_000),
            BEAT,
        ]
        raw = lines(*said)
        cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=12)))
        line = Line()
        for first, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            line.talk.dataReceived(raw[first:end])
        assert line.heard == said
        assert line.endings == []

    def test_closing_tells_why_and_lingers(self) -> None:
        line = Line()
        line.talk.close("enough")
        line.talk.close("again")
        assert line.wire.messages() == [messages.Farewell("enough")]
        assert line.wire.producer is None
        assert line.hung_up()
        assert line.endings == ["enough"]
        line.clock.advance(0.9)
        assert not line.cut_off()
        line.clock.advance(0.1)
        assert line.cut_off()
        line.lose(ConnectionLost())
        assert line.endings == ["enough"]
        assert line.clock.getDelayedCalls() == []

    def test_who_hangs_up_in_time_is_not_cut_off(self) -> None:
        line = Line()
        line.talk.close("enough")
        line.lose()
        assert line.clock.getDelayedCalls() == []
        assert not line.cut_off()

    def test_a_lost_connection_ends_once(self) -> None:
        line = Line()
        line.lose(ConnectionLost("the cable"))
        assert len(line.endings) == 1
        assert "the cable" in line.endings[0]

    def test_back_pressure(self) -> None:
        line = Line()
        assert line.wire.producer is line.talk
        assert line.wire.streaming
        assert not line.talk.paused
        line.talk.pauseProducing()
        assert line.talk.paused
        line.talk.resumeProducing()
        assert not line.talk.paused
        line.talk.stopProducing()
        assert line.talk.paused

    def test_by_default_nothing_is_expected(self) -> None:
        line = Line(lambda limits, clock: Conversation(limits, clock, Complaints(clock.seconds)))
        line.talk.dataReceived(lines(BEAT))
        assert line.wire.messages() == [messages.Farewell("Beat was not expected")]
        line.lose()


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
        self.callee = Callee(self.site.identity, node=who, run=0, nonce="n" * 32)

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
    :ivar happened: what the link told its user.
    """

    PORTS = range(9000, 9040)

    def __init__(self, *, role: Role = "coordinator", node: int | None = None) -> None:
        import random

        self.clock = Clock()
        self.random = random.Random(1)
        self.network = Network(self.clock, self.random)
        self.identity = IDENTITY
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
        self.link = Link(
            1,
            address_book=self.address_book,
            user=self,
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

    def link_up(self, link: Link) -> None:
        assert link.up
        self.happened.append("up")

    def link_down(self, link: Link) -> None:
        assert not link.up
        self.happened.append("down")

    def link_writable(self, link: Link) -> None:
        self.happened.append("writable")

    def link_received(self, link: Link, message: messages.Message) -> None:
        if isinstance(message, messages.Gap):
            raise MalformedMessage("no gaps here")
        self.received.append(message)


def counted(request: int) -> messages.Counted:
    return messages.Counted(request, [1], True, Position(), 0)


def asked(site: Site) -> tuple[list[object], Deferred[messages.Counted]]:
    """
    A count is asked; what becomes of it.
    """
    answer = site.link.ask(lambda number: messages.Count(number, ["t"]), messages.Counted)
    found: list[object] = []
    answer.addBoth(found.append)
    return found, answer


class TestLink:
    def test_is_up_after_the_handshake(self) -> None:
        site = Site()
        assert not site.up()
        assert site.paused()
        node = site.start()
        assert site.happened == ["up"]
        assert not site.paused()
        assert site.link.address == "memory:9001"
        hello = node.heard[0]
        assert isinstance(hello, messages.Hello)
        assert (hello.role, hello.node, hello.to) == ("coordinator", None, 1)
        site.stop()
        assert site.happened == ["up", "down"]

    def test_answers_find_their_questions(self) -> None:
        site = Site()
        node = site.start()
        first, _ = asked(site)
        second, _ = asked(site)
        site.run()
        requests = [message.request for message in node.heard if isinstance(message, messages.Count)]
        assert len(set(requests)) == 2
        node.say(counted(requests[1]))
        site.run()
        assert (first, second) == ([], [counted(requests[1])])
        node.say(counted(requests[0]))
        site.run()
        assert first == [counted(requests[0])]
        site.stop()

    def test_other_messages_are_told(self) -> None:
        site = Site()
        node = site.start()
        node.say(BEAT)
        site.run()
        assert site.received == [BEAT]
        site.link.send_line(codec.encode(messages.Beat(9)))
        site.run()
        assert node.heard[-1] == messages.Beat(9)
        site.stop()

    @pytest.mark.parametrize(
        "answer", [messages.Stored(1, 0, 0, 0), messages.Awaited(1, True, Position(), 0), counted(2)]
    )
    def test_an_answer_to_nothing_costs_the_connection(self, answer: messages.Message) -> None:
        site = Site()
        node = site.start()
        found, _ = asked(site)
        site.run()
        node.say(answer)
        site.run()
        [failure] = found
        assert isinstance(failure, Failure)
        assert failure.check(LinkLost)
        assert "answers nothing that was asked" in failure.getErrorMessage()
        assert any(isinstance(message, messages.Farewell) for message in node.heard)
        site.run(0.2)
        assert site.happened == ["up", "down", "up"]
        site.stop()

    def test_an_answer_comes_once(self) -> None:
        site = Site()
        node = site.start()
        found, _ = asked(site)
        node.say(counted(1), counted(1))
        site.run()
        assert found == [counted(1)]
        assert site.happened[:2] == ["up", "down"]
        site.stop()

    def test_what_the_user_refuses_costs_the_connection(self) -> None:
        site = Site()
        node = site.start()
        node.say(messages.Gap(0))
        site.run()
        assert node.heard[-1] == messages.Farewell("no gaps here")
        site.stop()

    def test_questions_fail_when_the_connection_is_lost(self) -> None:
        site = Site()
        node = site.start()
        found, _ = asked(site)
        node.hang_up()
        site.run()
        [failure] = found
        assert isinstance(failure, Failure)
        assert failure.check(LinkLost)
        assert "node 1 is gone" in failure.getErrorMessage()
        site.stop()

    def test_a_question_that_was_given_up_hurts_nobody(self) -> None:
        site = Site()
        node = site.start()
        found, answer = asked(site)
        answer.cancel()
        assert len(found) == 1
        other, _ = asked(site)
        node.say(counted(1), counted(2))
        site.run()
        assert other == [counted(2)]
        site.stop()

    def test_nothing_can_be_asked_without_a_connection(self) -> None:
        site = Site()
        with pytest.raises(LinkLost, match="node 1 is not connected"):
            asked(site)
        # What needs no answer is dropped.
        site.link.send_line(b"{}")
        site.link.cut("no matter")

    def test_a_node_that_says_farewell_is_left(self) -> None:
        site = Site()
        node = site.start()
        node.say(messages.Farewell("stopping"))
        site.run()
        assert site.happened[:2] == ["up", "down"]
        assert node.heard[-1] == messages.Farewell("the node says: stopping")
        site.stop()

    def test_a_link_that_is_cut_is_made_again(self) -> None:
        site = Site()
        site.start()
        site.link.cut("silent")
        assert not site.up()
        site.run(0.2)
        assert site.up()
        assert site.happened == ["up", "down", "up"]
        site.stop()

    def test_back_pressure_is_told(self) -> None:
        site = Site()
        site.start()
        site.link.send_line(b" " * 100_000 + codec.encode(BEAT))
        assert site.paused()
        site.run()
        assert not site.paused()
        assert site.happened == ["up", "writable"]
        site.stop()


class TestReconnecting:
    def test_with_growing_pauses(self) -> None:
        site = Site()
        site.link.startService()
        site.run(4)
        times = sorted({when for when, port in site.attempts if port == 9001})
        pauses = [round(after - before, 2) for before, after in pairwise(times)]
        assert pauses[0] < 0.1
        assert max(pauses) == 0.2
        others = sorted({when for when, port in site.attempts if port == 9002})
        assert all(after - before >= 1 for before, after in pairwise(others))
        assert len(others) == 4
        # As soon as the node is there, it is found.
        site.listen(9001, 1)
        site.run(0.3)
        assert site.up()
        site.stop()

    def test_a_name_that_is_not_known_is_looked_for_as_a_port_is(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        site = Site()
        site.nameless = True
        with caplog.at_level("INFO"):
            site.link.startService()
            site.run(4)
        assert "node 1 is unreachable" in caplog.text
        assert "Scheduling" not in caplog.text
        assert len([port for _, port in site.attempts if port == 9001]) < 40
        site.nameless = False
        site.listen(9001, 1)
        site.run(0.3)
        assert site.up()
        site.stop()

    def test_the_log_says_who_is_looked_for(self, caplog: pytest.LogCaptureFixture) -> None:
        site = Site()
        with caplog.at_level("INFO"):
            site.link.startService()
            site.run(1)
            assert "unreachable" not in caplog.text
            site.run(9)
        told = "node 1 is unreachable on port 9001 and on the rest of its range; still searching"
        assert caplog.text.count("unreachable") == 1
        [record] = [record for record in caplog.records if "unreachable" in record.getMessage()]
        assert (record.levelname, record.getMessage()) == ("INFO", told)
        site.stop()

    def _told(self, site: Site, caplog: pytest.LogCaptureFixture, seconds: float = 4) -> list[str]:
        caplog.clear()
        with caplog.at_level("INFO"):
            if not site.link.running:
                site.link.startService()
            site.run(seconds)
        return [text for record in caplog.records if "unreachable" in (text := record.getMessage())]

    def test_the_log_says_what_was_told_when_it_is_known_and_when_it_changes(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        site = Site()
        site.identity = Identity("d" * 32, b"secret", IDENTITY.members)
        site.listen(9001, 1)
        [told] = self._told(site, caplog)
        assert told.endswith('; still searching. Port 9001 answered: "another cluster, or another secret"')
        assert "WARNING" in {each.levelname for each in caplog.records if "unreachable" in each.getMessage()}
        assert self._told(site, caplog) == []
        site.identity = Identity(IDENTITY.cluster, b"secret", range(2))
        [told] = self._told(site, caplog)
        assert told.endswith('Port 9001 answered: "members [0, 1, 2] instead of [0, 1]"')
        site.identity = IDENTITY
        site.run(2)
        assert site.up()
        site.stop()

    def test_a_wrong_order_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        site = Site()
        site.listen(9001, 2)
        [told] = self._told(site, caplog)
        assert told.endswith('Port 9001 answered: "this is node 2, not node 1"')
        site.stop()

    def test_a_wrong_secret_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        site = Site()
        site.identity = Identity(IDENTITY.cluster, b"guess", IDENTITY.members)
        site.listen(9001, 1)
        [told] = self._told(site, caplog)
        assert "answered: \"the node does not have this cluster's secret" in told
        site.stop()

    def test_of_the_rest_of_the_range_only_refusals_are_told(self, caplog: pytest.LogCaptureFixture) -> None:
        site = Site()
        site.listen(9000, 0)
        site.listen(9020, b"SSH-2.0\n")
        site.listen(9021, None)
        # The one that is silent holds up each search for a second.
        [told] = self._told(site, caplog, 9)
        assert told.endswith("still searching")
        site.identity = Identity("d" * 32, b"secret", IDENTITY.members)
        for port in range(9002, 9008):
            site.listen(port, 1)
        [told] = self._told(site, caplog, 9)
        assert re.findall(r"Port (\d+) answered", told) == ["9000", "9002", "9003"]
        site.stop()

    def test_what_strangers_say_is_shown_in_one_short_line(self, caplog: pytest.LogCaptureFixture) -> None:
        site = Site()
        site.listen(9001, lines(messages.Farewell("x\n\x1b[2J" + "y" * 1_000)))
        [told] = self._told(site, caplog)
        assert 'answered: "x??[2Jyyy' in told
        assert len(told) < 400
        site.stop()

    def test_a_refused_port_means_looking_on_the_others(self) -> None:
        site = Site()
        site.listen(9030, 1)
        site.link.startService()
        site.run(0.1)
        assert site.up()
        assert site.link.address == "memory:9030"
        site.stop()

    def test_ports_below_are_looked_at_last(self) -> None:
        address = Address("memory", 9001, range(9000, 9040))
        assert list(address.ports_from(9038)) == [9038, 9039, *range(9000, 9038)]
        # One beyond the range wraps around: whoever listened there could not be found.
        assert list(address.ports_from(9040)) == list(range(9000, 9040))

    def test_another_node_on_the_port_means_looking_on_the_others(self) -> None:
        site = Site()
        site.listen(9001, 2)
        site.listen(9002, 1)
        site.link.startService()
        site.run(0.5)
        assert site.up()
        assert site.link.address == "memory:9002"
        assert site.happened == ["up"]
        site.stop()

    @pytest.mark.parametrize("stranger", [None, b"SSH-2.0\n", b"x" * 9_000])
    def test_so_does_a_stranger(self, stranger: bytes | None) -> None:
        site = Site()
        for port in range(9000, 9010):
            site.listen(port, stranger)
        site.listen(9035, 1)
        site.link.startService()
        site.run(3)
        assert site.up()
        assert site.link.address == "memory:9035"
        site.stop()

    @pytest.mark.parametrize("before", [None, b"SSH-2.0\n"])
    def test_one_that_is_silent_holds_up_no_node_that_starts_again(self, before: bytes | None) -> None:
        site = Site()
        site.listen(9020, None)
        if before is not None:
            site.listen(9001, before)
        site.link.startService()
        # The stranger has a second for its handshake, and the search waits for it.
        site.run(0.5)
        if before is not None:
            site.ports[9001].lose()
        site.listen(9001, 1)
        site.run(0.3 if before is None else 0.8)
        assert site.up()
        site.stop()

    def test_a_node_with_another_secret_is_a_stranger(self) -> None:
        site = Site()
        site.identity = Identity(IDENTITY.cluster, b"guess", IDENTITY.members)
        site.listen(9001, 1)
        site.link.startService()
        site.run(1)
        assert not site.up()
        assert site.happened == []
        site.stop()

    def test_a_node_that_said_where_it_listens_is_called_there(self) -> None:
        site = Site()
        node = site.start()
        site.ports[9001].lose()
        site.listen(9020, 1)
        site.link.moved(9020)
        assert site.link.address == "memory:9020"
        site.attempts.clear()
        node.hang_up()
        site.run(0.3)
        assert site.up()
        assert [port for _, port in site.attempts] == [9020]
        site.stop()

    def test_a_node_that_moved_silently_is_found_again(self) -> None:
        site = Site()
        node = site.start()
        site.ports[9001].lose()
        site.listen(9020, 1)
        node.hang_up()
        site.run(0.5)
        assert site.up()
        assert site.link.address == "memory:9020"
        site.stop()

    @pytest.mark.parametrize(
        ("role", "node", "asks"), [("coordinator", None, "coordinator"), ("node", 2, "probe")]
    )
    def test_who_looks_says_so(self, role: Role, node: int | None, asks: str) -> None:
        site = Site(role=role, node=node)
        site.listen(9030, 1)
        site.link.startService()
        site.run(0.3)
        hellos = [
            message for each in site.nodes for message in each.heard if isinstance(message, messages.Hello)
        ]
        assert [hello.role for hello in hellos] == [asks, role]
        site.stop()

    def test_an_answer_before_the_handshake_is_no_answer(self) -> None:
        site = Site()
        site.listen(9001, lines(messages.Welcome()))
        site.link.startService()
        site.run(0.3)
        assert site.happened == []
        site.stop()


class TestRefusals:
    """
    What a node says that does not let us in.
    """

    def test_of_one_that_has_proved_itself_is_passed_on(self) -> None:
        site = Site()
        site.turned_away = messages.Farewell("no", "removed")
        site.listen(9001, 1)
        site.link.startService()
        site.run(0.03)
        assert site.refusals == [(1, site.turned_away)]
        site.turned_away = None
        site.run(2)
        assert site.up()
        site.stop()

    def test_of_a_stranger_means_nothing(self) -> None:
        site = Site()
        for port in site.PORTS:
            site.listen(port, lines(messages.Farewell("no", "removed")))
        site.link.startService()
        site.run(2)
        assert site.refusals == []
        site.stop()

    def test_nor_does_what_is_said_after_a_wrong_proof(self) -> None:
        site = Site()
        site.identity = Identity(IDENTITY.cluster, b"guess", IDENTITY.members)
        site.turned_away = messages.Farewell("no", "removed")
        site.listen(9001, 1)
        site.link.startService()
        site.run(2)
        assert site.refusals == []
        site.stop()

    def test_are_logged_at_a_bounded_rate(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = Clock()
        complaints = Complaints(clock.seconds)
        peer = IPv4Address("TCP", "10.0.0.1", 5)

        def knock(times: int) -> list[str]:
            caplog.clear()
            for _ in range(times):
                complaints.refused(peer, MalformedMessage("nonsense"))
            return [record.getMessage() for record in caplog.records]

        told = knock(400)
        assert len(told) == 10
        assert told[0].startswith("closing the connection with")
        assert told[0].endswith(": nonsense")
        clock.advance(10)
        assert knock(1)[0] == "refused 390 more connections in the last 10 s"
        caplog.clear()
        complaints.settle()
        assert caplog.text == ""
        knock(20)
        clock.advance(10)
        complaints.settle()
        assert "refused 11 more connections" in caplog.text


class TestAddressBook:
    def _ask(self, site: Site, node: int, port: int) -> tuple[list[object], Deferred[Found]]:
        asking = Deferred.fromCoroutine(site.address_book.probe(node, port))
        found: list[object] = []
        asking.addBoth(found.append)
        return found, asking

    def test_tells_who_answers(self) -> None:
        site = Site()
        site.listen(9001, 1)
        site.listen(9002, None)
        found = [
            self._ask(site, node, port)[0] for node, port in [(1, 9001), (2, 9001), (1, 9003), (1, 9002)]
        ]
        site.run(0.5)
        assert found == [["it"], ["another"], ["another"], []]
        site.run(1)
        assert found[3] == ["nothing in time"]
        site.run(1)
        site.stop()

    def test_asking_can_be_given_up(self) -> None:
        site = Site()
        site.listen(9002, None)
        found, asking = self._ask(site, 1, 9002)
        site.run()
        asking.cancel()
        assert len(found) == 1
        site.run(2)
        site.stop()

    def test_who_hangs_up_is_not_there(self) -> None:
        site = Site()
        site.listen(9002, None)
        found, _ = self._ask(site, 1, 9002)
        site.run()
        site.nodes[0].hang_up()
        site.run()
        assert found == ["another"]
        site.stop()


class TestStopping:
    def _stops(self, site: Site, seconds: float) -> None:
        stopped: list[object] = []
        site.link.stopService().addBoth(stopped.append)
        site.run(seconds)
        assert stopped == [None]
        site.stop()

    def test_while_it_is_up(self) -> None:
        site = Site()
        node = site.start()
        self._stops(site, 0.1)
        assert node.heard[-1] == messages.Farewell("stopping")
        assert site.happened == ["up", "down"]

    def test_while_it_waits_before_the_next_attempt(self) -> None:
        site = Site()
        site.link.startService()
        site.run(0.7)
        self._stops(site, 0.1)

    def test_while_it_looks_for_the_node(self) -> None:
        site = Site()
        for port in site.PORTS:
            site.listen(port, None)
        site.ports[9001].lose()
        site.link.startService()
        site.run(0.2)
        assert len([each for each in site.nodes if each.open]) == 16
        self._stops(site, 0.1)

    def test_during_the_handshake(self) -> None:
        site = Site()
        site.listen(9001, None)
        site.link.startService()
        site.run(0.1)
        assert site.happened == []
        self._stops(site, 2.0)

    def test_before_it_was_started_there_is_nothing_to_stop(self) -> None:
        site = Site()
        site.stop()

    def test_of_a_node_that_does_not_read(self) -> None:
        site = Site()
        site.start()
        site.network.silent.add(("here", ""))
        self._stops(site, 1.5)


def test_every_failure_of_a_link_is_ours() -> None:
    reasons: Iterable[Exception] = (ConnectionDone(), ConnectionLost())
    for why in reasons:
        line = Line()
        line.lose(why)
        assert line.endings == [Failure(why).getErrorMessage()]
