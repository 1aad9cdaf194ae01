"""
Connections: what strangers, lines, time and loss do to them.
"""

import re
from itertools import pairwise

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from dcounter.errors import LinkLost
from dcounter.links.address_book import Address
from dcounter.protocol import codec, messages
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.protocol.handshake import Identity, Peer
from dcounter.protocol.messages import Role
from dcounter.protocol.position import Position
from dcounter.protocol.secrets import Secrets
from tests.links.sites import BEAT, IDENTITY, Site, asked, counted, lines, report
from tests.support.callers import LOCAL, Wire


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
        node.say(report(1))
        site.run()
        assert site.received == [report(1)]
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
        assert "does not answer a request" in failure.getErrorMessage()
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
        node.say(report(2))
        site.run()
        assert node.heard[-1] == messages.Farewell("the report of another node")
        site.stop()

    def test_what_may_not_be_said_costs_it_too(self) -> None:
        site = Site()
        node = site.start()
        node.say(messages.Gap(0))
        site.run()
        farewell = node.heard[-1]
        assert isinstance(farewell, messages.Farewell)
        assert farewell.reason.startswith("not a message to a coordinator: Invalid value 'gap'")
        assert site.received == []
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
        assert "the connection to node 1 ended" in failure.getErrorMessage()
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

    def test_a_transport_that_is_ready_before_the_handshake_is_no_news(self) -> None:
        # As one of TLS is, when its own handshake is done.
        site = Site()
        call = site.link.call()
        call.makeConnection(Wire(LOCAL))
        call.resumeProducing()
        assert not call.paused
        assert site.happened == []
        call.connectionLost(Failure(ConnectionDone()))
        site.stop()


class TestReconnecting:
    def test_ever_later_if_the_node_says_what_is_refused(self) -> None:
        site = Site()
        node = site.start()
        began = site.clock.seconds()
        waited = []
        for _ in range(10):
            node.say(messages.Gap(0))
            site.run()
            assert not site.up()
            before = site.clock.seconds()
            while not site.up():
                site.run(0.01)
            waited.append(round(site.clock.seconds() - before, 1))
            node = site.nodes[-1]
        assert waited[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
        assert waited[-3:] == [5.0] * 3
        assert site.clock.seconds() - began < 40
        # Another reason for the end has nothing to do with that, and neither has a refusal much later.
        node.hang_up()
        site.run(0.1)
        assert site.up()
        site.nodes[-1].say(messages.Gap(0))
        site.run(0.2)
        assert site.up()
        for _ in range(3):
            site.run(11)
            site.nodes[-1].say(messages.Gap(0))
            site.run(0.2)
            assert site.up()
        site.stop()

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
        site.identity = Identity("d" * 32, Secrets(b"secret"), IDENTITY.members)
        site.listen(9001, 1)
        [told] = self._told(site, caplog)
        assert told.endswith('; still searching. Port 9001 answered: "another cluster, or another secret"')
        assert "WARNING" in {each.levelname for each in caplog.records if "unreachable" in each.getMessage()}
        assert self._told(site, caplog) == []
        site.identity = Identity(IDENTITY.cluster, Secrets(b"secret"), range(2))
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
        site.identity = Identity(IDENTITY.cluster, Secrets(b"guess"), IDENTITY.members)
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
        site.identity = Identity("d" * 32, Secrets(b"secret"), IDENTITY.members)
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
        site.identity = Identity(IDENTITY.cluster, Secrets(b"guess"), IDENTITY.members)
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


class TestAbilities:
    def test_the_user_knows_what_the_connection_uses(self) -> None:
        site = Site()
        site.abilities = Abilities(2, 7, ["later", *ABILITIES.features])
        site.start()
        assert site.link.peer == Peer("node", 1, "", ABILITIES.highest, frozenset(ABILITIES.features))
        site.stop()

    def test_no_common_version_is_said_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        site = Site()
        site.abilities = Abilities(8, 9)
        site.listen(9001, 1)
        with caplog.at_level("INFO"):
            site.link.startService()
            site.run(4)
        assert not site.up()
        why = (
            "no common protocol: the caller speaks 2, the node 8 to 9; update the one with the lower numbers"
        )
        [record] = [record for record in caplog.records if "unreachable" in record.getMessage()]
        assert record.levelname == "WARNING"
        assert f'Port 9001 answered: "{why}"' in record.getMessage()
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
