"""
Nodes as child processes: started, started again, stopped in order.
"""

from errno import EAGAIN
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from dcounter.errors import NodeIsBusy, UnknownNode
from dcounter.supervisor import ProcessSupervisor


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
    def __init__(self) -> None:
        self.clock = Clock()
        self.processes: list[Process] = []
        self.full = False
        self.supervisor = ProcessSupervisor([0, 1], spawn=self._spawn, clock=self.clock, patience=10.0)

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
    # One that lived long is not thought to be unable to start.
    nursery.clock.advance(60)
    nursery.processes[-1].end()
    [again] = nursery.clock.getDelayedCalls()
    assert again.getTime() - nursery.clock.seconds() == pytest.approx(0.1)
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


def test_its_log_becomes_ours(nursery: Nursery) -> None:
    child = nursery.processes[0].protocol
    with capturedLogs() as events:
        child.outReceived(b"one\ntw")
        child.outReceived(b"o\n\xff")
        child.errReceived(b"!\nrest")
        assert [event["line"] for event in events] == ["one", "two", "\ufffd!"]
        nursery.processes[0].end()
    assert [event["log_system"] for event in events[:4]] == ["node 0"] * 4
    assert events[3]["line"] == "rest"
    nursery.stop()
