"""
Nodes as child processes: started, started again, stopped in order.
"""

from dataclasses import replace
from errno import EAGAIN
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from dcounter.daemon.log_lines import Record, json, record_of
from dcounter.daemon.supervisor import PROGRESS_DESCRIPTOR, ProcessSupervisor
from dcounter.errors import NodeIsBusy, UnknownNode


class Process:
    """
    A child process that ends when it is told to.
    """

    def __init__(self, node: int, protocol: Any) -> None:
        self.node = node
        self.protocol = protocol
        self.signals: list[str] = []
        self.alive = True
        self.obeys = True
        protocol.makeConnection(self)

    def tell(self, line: str) -> None:
        """
        Write to the pipe on which a node tells how its start goes.
        """
        self.protocol.childDataReceived(PROGRESS_DESCRIPTOR, f"{line}\n".encode())

    def signalProcess(self, name: str) -> None:
        if not self.alive:
            raise ProcessExitedAlready
        self.signals.append(name)
        if self.obeys or name == "KILL":
            self.end()

    def end(self) -> None:
        self.alive = False
        self.protocol.processEnded(Failure(ProcessDone(0)))


class Nursery:
    def __init__(self, nodes: int = 2) -> None:
        self.clock = Clock()
        self.processes: list[Process] = []
        self.full = False
        self.hopeless = 0
        self.supervisor = ProcessSupervisor(
            range(nodes),
            spawn=self._spawn,
            clock=self.clock,
            patience=10.0,
            at_once=2,
            hopeless=self._despair,
        )

    def _despair(self) -> None:
        self.hopeless += 1

    def _spawn(self, protocol: IProcessProtocol, node: int) -> IProcessTransport:
        if self.full:
            raise BlockingIOError(EAGAIN, "no process is left")
        self.processes.append(Process(node, protocol))
        return self.processes[-1]  # type: ignore[return-value]

    @property
    def alive(self) -> list[int]:
        return sorted(process.node for process in self.processes if process.alive)

    def stop(self) -> list[object]:
        stopped: list[object] = []
        self.supervisor.stopService().addCallback(stopped.append)
        return stopped


@pytest.fixture
def nursery() -> Nursery:
    nursery = Nursery()
    nursery.supervisor.startService()
    for process in nursery.processes:
        process.tell("up: ")
    return nursery


def test_starts_and_stops_a_process_for_each_node(nursery: Nursery) -> None:
    assert nursery.alive == [0, 1]
    assert nursery.stop() == [None]
    assert [process.signals for process in nursery.processes] == [["TERM"], ["TERM"]]
    assert nursery.clock.getDelayedCalls() == []


def test_one_that_does_not_stop_is_killed(nursery: Nursery) -> None:
    nursery.processes[1].obeys = False
    stopped = nursery.stop()
    nursery.clock.advance(9.9)
    assert stopped == []
    nursery.clock.advance(0.1)
    assert stopped == [None]
    assert nursery.processes[1].signals == ["TERM", "KILL"]


def test_one_that_ended_by_itself_as_it_was_to_stop_is_no_trouble(nursery: Nursery) -> None:
    nursery.processes[0].alive = False
    stopped = nursery.stop()
    assert stopped == []
    nursery.processes[0].end()
    assert stopped == [None]
    assert nursery.clock.getDelayedCalls() == []


def test_one_that_ends_is_started_again_ever_more_slowly(nursery: Nursery) -> None:
    pauses = []
    for _ in range(8):
        nursery.processes[-1].end()
        [again] = nursery.clock.getDelayedCalls()
        pauses.append(round(again.getTime() - nursery.clock.seconds(), 6))
        nursery.clock.advance(pauses[-1])
        assert nursery.alive == [0, 1]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    # It had no time to say why, but that it is so is said where an operator looks.
    [trouble] = nursery.supervisor.troubles()
    assert "waits: its process ends after every start: " in trouble
    # One that lived long is not thought to be unable to start.
    nursery.clock.advance(60)
    nursery.processes[-1].end()
    [again] = nursery.clock.getDelayedCalls()
    assert again.getTime() - nursery.clock.seconds() == pytest.approx(0.1)
    assert nursery.supervisor.troubles() == []
    nursery.stop()


def test_one_that_cannot_be_started_is_tried_again(nursery: Nursery) -> None:
    nursery.full = True
    nursery.processes[0].end()
    nursery.clock.pump([0.1, 0.2])
    assert nursery.alive == [1]
    with pytest.raises(NodeIsBusy):
        nursery.supervisor.restart(0).send(None)
    nursery.full = False
    nursery.clock.advance(0.4)
    assert nursery.alive == [0, 1]
    assert nursery.stop() == [None]


def test_a_stop_while_one_cannot_be_started_is_in_order() -> None:
    nursery = Nursery()
    nursery.full = True
    nursery.supervisor.startService()
    assert nursery.stop() == [None]
    assert nursery.clock.getDelayedCalls() == []


def test_one_that_waits_to_be_started_again_is_not_when_all_stop(nursery: Nursery) -> None:
    nursery.processes[0].end()
    assert nursery.stop() == [None]
    assert nursery.clock.getDelayedCalls() == []
    assert nursery.alive == []


def test_restarts_one(nursery: Nursery) -> None:
    done: list[object] = []
    Deferred.fromCoroutine(nursery.supervisor.restart(1)).addCallback(done.append)
    assert done == [None]
    assert nursery.processes[1].signals == ["TERM"]
    with pytest.raises(NodeIsBusy):
        nursery.supervisor.restart(1).send(None)
    nursery.clock.advance(0.1)
    assert nursery.alive == [0, 1]
    nursery.stop()


def test_what_is_not_there_is_not_restarted(nursery: Nursery) -> None:
    with pytest.raises(UnknownNode, match="no node 2"):
        nursery.supervisor.restart(2).send(None)
    nursery.stop()


def test_its_output_becomes_warnings_of_our_log(nursery: Nursery) -> None:
    child = nursery.processes[0].protocol
    with capturedLogs() as events:
        child.childDataReceived(1, b"one\ntw")
        child.childDataReceived(2, b"\xff!\nrest")
        child.childDataReceived(1, b"o\n")
        assert [event["line"] for event in events] == ["one", "\ufffd!", "two"]
        nursery.processes[0].end()
    assert events[3]["line"] == "rest"
    records = [record_of(event) for event in events[:4]]
    assert {(record.level, record.node) for record in records if record} == {("warn", 0)}
    nursery.stop()


def test_its_log_becomes_ours_as_it_was_logged(nursery: Nursery) -> None:
    child = nursery.processes[0].protocol
    logged = [
        Record(1_764_042_885.25, "error", "dcounter.node", "one", "one", {"port": 7}, "Traceback\n  x"),
        Record(1_764_042_886.0, "info", "dcounter.node", "node 0 listens"),
    ]
    with capturedLogs() as events:
        for record in logged:
            child.childDataReceived(1, json(record).encode())
    assert [record_of(event) for event in events] == [replace(record, node=0) for record in logged]
    assert [event["log_level"].name for event in events] == ["error", "info"]
    assert [event["line"] for event in events] == ["node 0: one", "node 0 listens"]
    nursery.stop()


def test_a_line_of_a_log_is_not_kept_for_ever(nursery: Nursery) -> None:
    child = nursery.processes[0].protocol
    with capturedLogs() as events:
        for _ in range(10):
            child.childDataReceived(1, b"x" * 30_000)
    assert sum(len(event["line"]) for event in events) > 200_000
    assert max(len(event["line"]) for event in events) < 100_000
    nursery.stop()


class TestTurns:
    def test_so_many_at_once_and_the_next_ones_when_those_are_up(self) -> None:
        nursery = Nursery(5)
        nursery.supervisor.startService()
        assert nursery.alive == [0, 1]
        nursery.processes[1].tell("up: ")
        assert nursery.alive == [0, 1, 2]
        # One that waits for something, or cannot start, keeps no other from it; nor one that ends.
        nursery.processes[0].tell("waits: its directory is in use")
        assert nursery.alive == [0, 1, 2, 3]
        nursery.processes[3].end()
        assert nursery.alive == [0, 1, 2, 4]
        nursery.stop()
        assert nursery.clock.getDelayedCalls() == []

    def test_one_that_says_nothing_has_its_turn_for_a_time(self) -> None:
        nursery = Nursery(4)
        nursery.supervisor.startService()
        nursery.clock.advance(9.9)
        assert nursery.alive == [0, 1]
        nursery.clock.advance(0.1)
        assert nursery.alive == [0, 1, 2, 3]
        nursery.stop()
        assert nursery.clock.getDelayedCalls() == []

    def test_a_stop_ends_all_turns(self) -> None:
        nursery = Nursery(4)
        nursery.supervisor.startService()
        assert nursery.stop() == [None]
        assert [process.node for process in nursery.processes] == [0, 1]
        assert nursery.clock.getDelayedCalls() == []


class TestTroubles:
    def _cannot(self, nursery: Nursery, node: int, why: str = "it is damaged") -> None:
        process = [each for each in nursery.processes if each.node == node][-1]
        process.tell(f"cannot start: {why}")
        process.end()

    def test_are_said_once_and_shown_as_long_as_they_last(
        self, nursery: Nursery, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(3):
            self._cannot(nursery, 1)
            assert nursery.supervisor.troubles() == ["node 1 cannot start: it is damaged"]
            assert nursery.alive == [0]
            nursery.clock.advance(29.9)
            assert nursery.alive == [0]
            nursery.clock.advance(0.1)
            assert nursery.alive == [0, 1]
        assert caplog.text.count("node 1 cannot start: it is damaged") == 1
        assert "Starting it again" not in caplog.text
        self._cannot(nursery, 1, "no room")
        assert caplog.text.count("node 1 cannot start: no room") == 1
        nursery.clock.advance(30)
        nursery.processes[-1].tell("up: ")
        assert nursery.supervisor.troubles() == []
        nursery.stop()
        assert nursery.clock.getDelayedCalls() == []

    def test_an_operator_may_try_at_once(self, nursery: Nursery, caplog: pytest.LogCaptureFixture) -> None:
        self._cannot(nursery, 1)
        Deferred.fromCoroutine(nursery.supervisor.restart(1))
        assert nursery.alive == [0, 1]
        self._cannot(nursery, 1)
        assert caplog.text.count("node 1 cannot start: it is damaged") == 2
        nursery.stop()
        assert nursery.clock.getDelayedCalls() == []

    def test_an_operator_may_try_again_before_it_has_ended(self, nursery: Nursery) -> None:
        nursery.processes[1].tell("cannot start: it is damaged")
        Deferred.fromCoroutine(nursery.supervisor.restart(1))
        assert nursery.processes[1].signals == ["TERM"]
        assert nursery.supervisor.troubles() == []
        nursery.clock.advance(0.1)
        assert nursery.alive == [0, 1]
        nursery.stop()
        assert nursery.clock.getDelayedCalls() == []

    def test_one_that_dies_later_of_something_else_is_started_again_soon(self, nursery: Nursery) -> None:
        self._cannot(nursery, 1)
        nursery.clock.advance(30)
        nursery.processes[-1].end()
        assert nursery.supervisor.troubles() == []
        nursery.clock.advance(0.2)
        assert nursery.alive == [0, 1]
        nursery.stop()

    def test_none_that_can_start_is_the_end_at_the_start_only(self, nursery: Nursery) -> None:
        for node in (0, 1):
            self._cannot(nursery, node)
        assert nursery.hopeless == 0, "they were up"
        nursery.stop()
        fresh = Nursery()
        fresh.supervisor.startService()
        self._cannot(fresh, 0)
        assert fresh.hopeless == 0
        self._cannot(fresh, 1)
        assert fresh.hopeless == 1
        fresh.stop()
        assert fresh.clock.getDelayedCalls() == []

    def test_what_is_no_progress_is_ignored(self, nursery: Nursery) -> None:
        nursery.processes[0].tell("something else")
        assert nursery.supervisor.troubles() == []
        nursery.stop()


@pytest.mark.parametrize("fails", [False, True])
def test_something_is_done_while_a_restarted_node_does_not_run(fails: bool) -> None:
    nursery = Nursery()
    nursery.supervisor.startService()
    nursery.clock.advance(60)
    done: Deferred[None] = Deferred()

    async def between() -> None:
        assert nursery.alive == [0]
        await done

    ended: list[object] = []
    restarting = Deferred.fromCoroutine(nursery.supervisor.restart(1, between))
    restarting.addBoth(ended.append)
    nursery.clock.advance(60)
    # However long it takes.
    assert nursery.alive == [0]
    with pytest.raises(NodeIsBusy):
        nursery.supervisor.restart(1).send(None)
    assert ended == []
    if fails:
        done.errback(ValueError("it fails"))
        [failure] = ended
        assert isinstance(failure, Failure)
        assert failure.check(ValueError)
    else:
        done.callback(None)
        assert ended == [None]
    nursery.clock.advance(0)
    assert nursery.alive == [0, 1]
    nursery.stop()
