"""
A node as a service: where it listens, whom it serves, how it starts and stops.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from dcounter.errors import CorruptJournal, DirectoryInUse, NewerJournal
from dcounter.journal.framing import JournalEntry
from dcounter.journal.memory import MemoryJournal
from dcounter.limits import Limits
from dcounter.links.connection import Conversation
from dcounter.node.progress import Progress
from dcounter.protocol import messages
from dcounter.protocol.abilities import Abilities
from dcounter.protocol.handshake import Caller
from dcounter.protocol.messages import Report
from dcounter.protocol.position import NodePosition, Position
from dcounter.store import Items
from dcounter.testing import Cluster, MemoryTransport, ProcessClock
from tests.support.nodes import Visitor, alone, make_node, started, stopped, visit
from tests.support.replicas import store

Failures = Callable[..., list[Failure]]


class Unreadable(MemoryJournal):
    """
    A journal that gives errors, one at each try to open it, before it is empty.
    """

    def __init__(self, cluster: Cluster, *errors: Exception) -> None:
        super().__init__(ProcessClock(cluster.clock))
        self.errors = list(errors)

    def recover(self) -> Iterator[JournalEntry]:
        if self.errors:
            raise self.errors.pop(0)
        yield from super().recover()


class FullDisk(MemoryJournal):
    """
    A journal that breaks off its first snapshot after a line, and keeps what it was given.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(ProcessClock(cluster.clock))
        self.due = True
        self.kept: list[Iterator[bytes]] = []

    def snapshot(self, lines: Iterator[bytes], ready: Callable[[], bool]) -> Deferred[bool]:
        self.due = False
        self.kept.append(lines)
        next(lines)
        return succeed(False)


def test_a_snapshot_that_breaks_off_does_not_keep_tombstones() -> None:
    cluster = Cluster(1)
    journal = FullDisk(cluster)
    node = make_node(cluster, 0, journal=journal)
    ledger = node.replica.contents.ledger
    ledger.merge([1, 2], [5, 6], ["t", None])
    cluster.nodes[0] = node
    node.startService()
    cluster.wait_for(lambda: bool(journal.kept))
    dropping = ledger.compact(6)
    # So many steps are more than enough for two rows.
    assert any(next(dropping, "dropped") == "dropped" for _ in range(100))
    stopped(cluster)


class TestStart:
    def _told(self, cluster: Cluster, **changes: Any) -> list[Progress]:
        told: list[Progress] = []
        started(cluster, tell=told.append, **changes)
        return told

    def test_is_told_when_it_listens(self) -> None:
        cluster = Cluster(1)
        assert self._told(cluster) == [Progress("up")]
        stopped(cluster)

    @pytest.mark.parametrize(
        ("error", "why"),
        [
            (
                CorruptJournal("1.journal: damaged"),
                (
                    "its journal is damaged: 1.journal: damaged (in /data/node-0). "
                    "Start once with --rebuild 0 to make it anew from the other nodes"
                ),
            ),
            (
                NewerJournal("1.journal: type 'x'"),
                (
                    "its journal was written by a newer version of dcounter: 1.journal: type 'x' "
                    "(in /data/node-0); start it with that version or a newer one"
                ),
            ),
            (
                OSError(errno.EACCES, "Permission denied", "/data/node-0/owner"),
                (
                    "its journal cannot be used: [Errno 13] Permission denied: '/data/node-0/owner'; "
                    "see that it and all in it can be written by the user that runs dcounter"
                ),
            ),
        ],
    )
    def test_a_journal_that_cannot_be_used_is_told_and_nothing_listens(
        self, error: Exception, why: str
    ) -> None:
        cluster = Cluster(1)
        told = self._told(cluster, journal=Unreadable(cluster, error), place="/data/node-0")
        assert told == [Progress("cannot start", why)]
        assert cluster.network.ports == {}
        stopped(cluster)

    def test_a_directory_in_use_is_waited_for_and_told_once(self) -> None:
        cluster = Cluster(1)
        journal = Unreadable(cluster, *[DirectoryInUse("/data/node-0 is used by process 7")] * 300)
        told = self._told(cluster, journal=journal)
        cluster.run(9.9)
        # It may be about to end.
        assert told == []
        cluster.run(1)
        assert told == [Progress("waits", "/data/node-0 is used by process 7")]
        cluster.run(10)
        assert told == [Progress("waits", "/data/node-0 is used by process 7"), Progress("up")]
        stopped(cluster)

    @pytest.mark.parametrize(
        ("number", "state"), [(errno.EADDRNOTAVAIL, "cannot start"), (errno.EMFILE, "waits")]
    )
    def test_an_address_that_is_not_ours_lasts_and_others_do_not(self, number: int, state: str) -> None:
        class Foreign:
            def listen(self, protocolFactory: object) -> Deferred[Any]:
                error = OSError(number, "No")
                return fail(CannotListenError("192.0.2.1", 8090, error))

        cluster = Cluster(1)
        told = self._told(cluster, listen=lambda port: Foreign())
        cluster.run(5)
        [progress] = told
        assert progress.state == state
        assert progress.why.startswith("it cannot listen on any port from 8090 to 8189: Couldn't listen on ")
        stopped(cluster)

    def test_unless_it_is_run_by_something_the_log_has_it(self, caplog: pytest.LogCaptureFixture) -> None:
        cluster = Cluster(1)
        started(cluster, journal=Unreadable(cluster, OSError("odd")))
        assert caplog.text.count("node 0 cannot start: its journal cannot be used: odd") == 1
        stopped(cluster)


class TestVisitors:
    def test_a_coordinator_stores_and_counts(self) -> None:
        cluster, node = alone()
        visitor = visit(cluster, 8090)
        visitor.greet(0)
        visitor.say(store(3, [1, 2]))
        cluster.run(0.05)
        run = node.replica.run
        assert visitor.answers() == [messages.Stored(3, run, 1, 1_001)]
        visitor.say(messages.Count(4, ["t"], node.replica.applied))
        cluster.run(0.05)
        assert visitor.answers()[1:] == [messages.Counted(4, [2], True, node.replica.applied, 1_001)]
        visitor.hang_up()
        stopped(cluster)

    @pytest.mark.parametrize(
        ("messages", "why"),
        [
            ([messages.Beat(1)], "not a hello: Invalid value 'beat' - at `$.type`"),
            ([messages.Proof("x")], "not a hello: Invalid value 'proof' - at `$.type`"),
            (
                [messages.Hello(9, "c", "coordinator", None, 0, [0], "n" * 32, 1, "", "")],
                "no common protocol: the caller speaks 9, the node 2; update the one with the lower numbers",
            ),
        ],
    )
    def test_strangers_are_turned_away(self, messages: list[messages.Message], why: str) -> None:
        cluster, node = alone()
        visitor = visit(cluster, 8090)
        visitor.say(*messages)
        cluster.run(0.05)
        assert visitor.farewell() == why
        assert visitor.lost
        assert node.conversations == set()
        stopped(cluster)

    def test_a_caller_without_a_common_version_is_turned_away_and_the_log_says_why(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        cluster, _ = alone()
        visitor = visit(cluster, 8090)
        caller = Caller(
            cluster.identity,
            role="coordinator",
            node=None,
            to=0,
            port=8090,
            nonce="v" * 32,
            abilities=Abilities(8, 9),
        )
        visitor.say(caller.hello)
        cluster.run(0.05)
        why = (
            "no common protocol: the caller speaks 8 to 9, the node 2; update the one with the lower numbers"
        )
        assert visitor.farewell() == why
        [record] = [each for each in caplog.records if "no common protocol" in each.getMessage()]
        assert record.levelname == "WARNING"
        assert record.getMessage().endswith(f": {why}")
        stopped(cluster)

    def test_a_guest_that_misbehaves_is_turned_away_and_nobody_else(self) -> None:
        cluster, _ = alone()
        good, bad = visit(cluster, 8090), visit(cluster, 8090)
        good.greet(0)
        bad.greet(0)
        bad.say(messages.Gap(0))
        cluster.run(0.05)
        assert bad.farewell() == "not a message of a coordinator: Invalid value 'gap' - at `$.type`"
        assert bad.lost
        assert not good.lost
        good.hang_up()
        stopped(cluster)

    def test_one_that_says_farewell_is_left(self) -> None:
        cluster, _ = alone()
        visitor = visit(cluster, 8090)
        visitor.greet(0)
        visitor.say(messages.Farewell("so long"))
        cluster.run(0.05)
        assert visitor.farewell() == "the other end left: so long"
        assert visitor.lost
        stopped(cluster)

    def test_a_probe_is_no_channel(self) -> None:
        cluster, node = alone()
        visitor = visit(cluster, 8090)
        visitor.greet(0, "probe", 0)
        cluster.run(1)
        assert visitor.reports() == []
        visitor.say(messages.Farewell("the probe is over"))
        cluster.run(0.05)
        assert visitor.lost
        assert node.conversations == set()
        stopped(cluster)

    def test_connections_are_bounded(self) -> None:
        cluster, node = alone(connections=2)
        visitors = [visit(cluster, 8090) for _ in range(3)]
        assert [visitor.lost for visitor in visitors] == [False, False, True]
        visitors[0].hang_up()
        cluster.run(0.05)
        visitors.append(visit(cluster, 8090))
        assert [visitor.lost for visitor in visitors] == [True, False, True, False]
        assert len(node.conversations) == 2
        for visitor in visitors:
            visitor.hang_up()
        stopped(cluster)

    def test_an_answer_after_the_caller_left_goes_nowhere(self) -> None:
        cluster, _ = alone()
        visitor = visit(cluster, 8090)
        visitor.greet(0)
        visitor.say(store(1, [1]))
        visitor.hang_up()
        cluster.run(0.2)
        assert visitor.answers() == []
        stopped(cluster)


class TestStreaming:
    def _sent(self, cluster: Cluster, visitor: Visitor) -> list[int]:
        return [message.number for message in visitor.heard if isinstance(message, messages.Record)]

    def test_a_follower_that_does_not_read_is_not_drowned(self) -> None:
        cluster = Cluster(2)
        node = started(cluster)
        follower = visit(cluster, 8090)
        follower.greet(0, "node", 1)
        report = Report(1, 0, 0, 0, Position(), Position(), 0, 0, 0)
        follower.say(report)
        caller = visit(cluster, 8090)
        caller.greet(0)
        tenant = "x" * 1_000
        for request in range(1_000):
            caller.say(store(request, [request], tenant))
        cluster.run(0.2)
        assert len(caller.answers()) == 1_000

        far = cast(MemoryTransport, follower.transport).other
        assert far is not None
        cluster.network.slow[("node 0", "visitor")] = 0.4
        before = far.delivered
        follower.say(messages.Follow(0, NodePosition()))
        cluster.run(0.3)
        # It stopped at about what the connection holds.
        assert far.delivered == before
        assert 0 < far._bytes < 2 * cluster.limits.stream_bytes  # noqa: SLF001
        [conversation] = [each for each in node.conversations if each.paused]
        assert self._sent(cluster, follower) == []

        del cluster.network.slow[("node 0", "visitor")]
        for _ in range(20):
            cluster.run(0.1)
            follower.say(report)
            caller.say(messages.Beat(1))
        assert self._sent(cluster, follower) == list(range(1, 1_001))
        assert not conversation.paused
        for visitor in (follower, caller):
            visitor.hang_up()
        stopped(cluster)

    def test_a_stranger_that_is_slow_is_paused_too(self) -> None:
        cluster, node = alone()
        visitor = visit(cluster, 8090)
        [conversation] = node.conversations
        conversation.pauseProducing()
        conversation.resumeProducing()
        assert not conversation.paused
        visitor.hang_up()
        stopped(cluster)

    def test_links_stream_and_resume_as_well(self) -> None:
        # Node 1 asks for node 0's log over the connection that node 0 made.
        cluster = Cluster(2).start()
        cluster.run(1)
        tenant = "x" * 1_000
        cluster.network.slow[("node 0", "node 1")] = 0.3
        for first in range(0, 1_000, 100):
            items = Items(list(range(first, first + 100)), [tenant] * 100)
            cluster.result(cluster.coordinator.store(items, ack="node"))
        [end] = cluster.network.between("node 0", 8091)
        assert end.other is not None
        far = cast(Conversation, end.other.protocol)
        [near] = cluster.nodes[0]._links  # noqa: SLF001
        for _ in range(3):
            far.send(messages.Follow(0, NodePosition()))
        cluster.run(0.2)
        paused = near.paused
        del cluster.network.slow[("node 0", "node 1")]
        cluster.run(2)
        assert (paused, near.paused) == (True, False)
        assert cluster.nodes[0].replica.applied == cluster.nodes[1].replica.applied
        stopped(cluster)

    def test_a_silent_channel_is_cut_and_written_to_no_more(self) -> None:
        cluster = Cluster(2)
        started(cluster, 0)
        cluster.run(0.15)
        started(cluster, 1)
        cluster.run(1)
        assert len(cluster.nodes[0].conversations) == 1
        # At whatever moment between two heartbeats that is.
        for moment in range(4):
            cluster.network.silent = {("node 1", "node 0"), ("node 0", "node 1")}
            cluster.run(4)
            assert cluster.nodes[0].conversations == set()
            cluster.network.silent.clear()
            cluster.network.release()
            cluster.run(3 + moment * 0.05)
            assert len(cluster.nodes[0].conversations) == 1
        stopped(cluster)


class SlowJournal(MemoryJournal):
    """
    One that takes its time to close.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.clock)
        self.closing: Deferred[None] = Deferred()
        self.was_closed = False

    def close(self) -> Deferred[None]:
        self.was_closed = True
        return self.closing


class TestStopping:
    def test_hands_over_what_it_has_first(self) -> None:
        cluster = Cluster(2).start()
        cluster.run(1)
        cluster.result(cluster.coordinator.store(Items([1, 2, 3], ["t"] * 3), ack="node"))
        cluster.network.slow[("node 0", "node 1")] = 0.5
        cluster.result(cluster.coordinator.store(Items([4, 5, 6], ["t"] * 3), ack="node"))
        node = cluster.nodes[0]
        cluster.stop_node(0)
        cluster.run(1)
        assert cluster.nodes[1].replica.applied.covers(node.replica.applied)
        stopped(cluster)

    def test_waits_for_a_follower_no_longer_than_allowed(self) -> None:
        cluster = Cluster(2, limits=replace(Limits(), drain_s=0.5)).start()
        cluster.run(1)
        cluster.network.silent = {("node 0", "node 1")}
        cluster.result(cluster.coordinator.store(Items([1, 2], ["t"] * 2), ack="node"))
        before = cluster.clock.seconds()
        cluster.stop_node(0)
        assert 0.5 <= cluster.clock.seconds() - before < 2
        cluster.network.silent.clear()
        cluster.network.release()
        stopped(cluster)

    def test_tells_those_who_are_there(self) -> None:
        cluster, node = alone()
        visitor = visit(cluster, 8090)
        visitor.greet(0)
        visitor.say(store(1, [1]))
        cluster.run(0.01)
        cluster.stop()
        assert visitor.farewell() == "the node is stopping"
        assert visitor.lost
        assert [report.refuses for report in visitor.reports()][-1] == "the node is stopping"
        assert node.replica.ledger.count("t") == 1

    def test_lets_followers_in_until_it_has_drained(self) -> None:
        cluster = Cluster(2, limits=replace(Limits(), drain_s=0.5)).start()
        cluster.run(1)
        cluster.network.silent = {("node 0", "node 1")}
        cluster.result(cluster.coordinator.store(Items([1, 2], ["t"] * 2), ack="node"))
        stopping = cluster.nodes.pop(0).stopService()
        visitor = visit(cluster, 8090)
        visitor.greet(0)
        assert [visitor.lost] == [False]
        cluster.result(stopping)
        assert visitor.lost
        assert list(cluster.network.ports) == [8091]
        cluster.network.silent.clear()
        cluster.network.release()
        stopped(cluster)

    def test_ends_when_the_journal_is_closed(self) -> None:
        cluster = Cluster(1)
        journal = SlowJournal(cluster)
        node = started(cluster, journal=journal)
        done: list[None] = []
        node.stopService().addCallback(done.append)
        del cluster.nodes[0]
        cluster.clock.advance(1)
        assert journal.was_closed
        assert done == []
        journal.closing.callback(None)
        assert done == [None]
        stopped(cluster)

    def test_in_its_first_moment(self) -> None:
        cluster = Cluster(2)
        node = make_node(cluster, 0)
        node.startService()
        cluster.result(node.stopService())
        stopped(cluster)

    def test_closes_at_once_who_does_not_answer(self) -> None:
        cluster, _ = alone()
        visitor = visit(cluster, 8090)
        visitor.greet(0)
        cluster.network.frozen.add("visitor")
        cluster.stop_node(0)
        cluster.network.frozen.clear()
        cluster.network.release()
        stopped(cluster)


def test_what_the_replica_tells_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(2).start()
    cluster.result(cluster.coordinator.store(Items([1, 2], ["t"] * 2), ack="all"))
    cluster.stop_node(0)
    cluster.start_node(0)
    cluster.run(1)
    assert any(
        record.levelname == "WARNING"
        and "node 0: this node has no journal but its peers" in record.getMessage()
        for record in caplog.records
    )
    stopped(cluster)
