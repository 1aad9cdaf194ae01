"""
Connections: what strangers, lines and time do to them.
"""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from dcounter.errors import MalformedMessage
from dcounter.limits import Limits
from dcounter.links.connection import Complaints, Conversation
from dcounter.protocol import codec, messages
from dcounter.protocol.handshake import Identity
from dcounter.protocol.secrets import Secrets
from tests.links.sites import BEAT, IDENTITY, LIMITS, Site, lines


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
    A conversation that writes down what it hears, all but gaps; `Welcome` ends its handshake.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        super().__init__(limits, clock, Complaints(clock.seconds))
        self.heard: list[messages.Message] = []
        self.endings: list[str] = []

    def line_received(self, line: bytes) -> None:
        message = codec.decode(line)
        if isinstance(message, messages.Gap):
            raise MalformedMessage("no gaps here")
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
        assert line.endings == ["no gaps here"]

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
        site.identity = Identity(IDENTITY.cluster, Secrets(b"guess"), IDENTITY.members)
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
        complaints.log_rest()
        assert caplog.text == ""
        knock(20)
        clock.advance(10)
        complaints.log_rest()
        assert "refused 11 more connections" in caplog.text


def test_every_failure_of_a_link_is_ours() -> None:
    reasons: Iterable[Exception] = (ConnectionDone(), ConnectionLost())
    for why in reasons:
        line = Line()
        line.lose(why)
        assert line.endings == [Failure(why).getErrorMessage()]
