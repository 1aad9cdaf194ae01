"""
What `dcounter.daemon.process` makes of `twistd`'s options and of signals.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Application, MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver

from dcounter.daemon.notifying import Notifier
from dcounter.daemon.process import Process

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class _Reactor:
    """
    Runs what it is given at once, and counts how often it was stopped.
    """

    def __init__(self) -> None:
        self.stopped = 0

    def callWhenRunning(self, call: Callable[..., None], *arguments: Any) -> None:
        call(*arguments)

    callFromThread = callWhenRunning

    def stop(self) -> None:
        self.stopped += 1


class _Slow(Service):
    """
    Stops when the test lets it.
    """

    def __init__(self, name: str, order: list[str]) -> None:
        self._called = name
        self._order = order
        self.stops: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._order.append(self._called)
        return self.stops


@pytest.fixture
def handlers() -> Iterator[None]:
    """
    Puts the handlers of signals back.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _twistd(**options: Any) -> dict[str, Any]:
    return {"nodaemon": True, "logfile": None, "syslog": False, "logger": None, **options}


class _Whole:
    """
    An application of `twistd` with a process below it.
    """

    def __init__(self, **options: Any) -> None:
        self.application: Any = Application("test")
        self._at_exit: list[Callable[[], None]] = []
        self.process = Process(_Reactor(), twistd=_twistd(**options), at_exit=self._at_exit.append)
        self.process.setServiceParent(self.application)

    @property
    def observer(self) -> Any:
        return self.application.getComponent(ILogObserver)

    def exit(self) -> None:
        """
        What happens when the interpreter ends.
        """
        for each in self._at_exit:
            each()


class TestLog:
    def test_is_ours_in_a_whole_process(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        whole = _Whole(logfile=str(log))
        whole.observer({"log_format": "a line", "log_time": 0.0, "log_namespace": "dcounter"})
        whole.exit()
        assert log.read_text().endswith(" a line\n")

    def test_is_left_to_another_program_if_twistd_was_told_so(self) -> None:
        whole = _Whole(syslog=True)
        assert whole.observer is None
        whole.exit()

    def test_is_left_to_whatever_else_runs_it(self) -> None:
        process = Process(_Reactor(), twistd={})
        process.setServiceParent(MultiService())
        assert not process.in_background

    def test_in_the_background_needs_a_file(self) -> None:
        with pytest.raises(SystemExit, match="there is no output for --logfile=-"):
            _Whole(nodaemon=False, logfile="-")

    def test_that_cannot_be_opened_stops_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="dcounter does not start: the log file cannot be opened"):
            _Whole(logfile=str(tmp_path / "absent" / "log"))


class TestDraining:
    def _drained(self, notifier: Notifier | None = None) -> tuple[Process, MemoryReactorClock, list[str]]:
        reactor = MemoryReactorClock()
        done: list[str] = []
        reactor.stop = lambda: done.append("stopped")  # type: ignore[method-assign]
        process = Process(reactor, twistd={}, drain_s=5.0, notifier=notifier)
        process.on_drain(lambda: done.append("drains"))
        return process, reactor, done

    def test_comes_before_the_stop(self) -> None:
        process, reactor, done = self._drained()
        process._obey(signal.SIGTERM)  # noqa: SLF001 - a real signal would reach this test
        reactor.advance(4.9)
        assert done == ["drains"]
        reactor.advance(0.1)
        assert done == ["drains", "stopped"]

    def test_ends_with_another_signal(self) -> None:
        process, reactor, done = self._drained()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            process._obey(number)  # noqa: SLF001
        assert done == ["drains", "stopped"]
        assert reactor.getDelayedCalls() == []

    def test_can_be_left_out(self) -> None:
        process, _, done = self._drained()
        process.use_drain(0.0)
        process._obey(signal.SIGTERM)  # noqa: SLF001
        assert done == ["stopped"]

    def test_systemd_is_told(self) -> None:
        told: list[tuple[str, ...]] = []
        notifier = Notifier({}, 0)
        notifier.tell = lambda *assignments: told.append(assignments)  # type: ignore[method-assign]
        process, reactor, _ = self._drained(notifier)
        process._obey(signal.SIGHUP)  # noqa: SLF001
        process._obey(signal.SIGTERM)  # noqa: SLF001
        reactor.advance(5)
        assert [each[0] for each in told] == ["RELOADING=1", "READY=1", "STOPPING=1", "STOPPING=1"]
        assert "STATUS=stops in 5 s" in told[2]


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stop_it_once(self, handlers: None, number: signal.Signals) -> None:
        reactor = _Reactor()
        Process(reactor, twistd={}).startService()
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert reactor.stopped == 1

    @pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
    def test_do_not_stop_it(self, handlers: None, number: signal.Signals) -> None:
        reactor = _Reactor()
        Process(reactor, twistd={}).startService()
        signal.raise_signal(number)
        assert reactor.stopped == 0

    def test_for_twistds_debugger_are_left_alone(self, handlers: None) -> None:
        before = signal.getsignal(signal.SIGUSR2)
        Process(_Reactor(), twistd={"debug": True}).startService()
        assert signal.getsignal(signal.SIGUSR2) is before

    def test_sighup_opens_the_log_file_again(self, handlers: None, tmp_path: Path) -> None:
        log = tmp_path / "log"
        whole = _Whole(logfile=str(log))
        whole.process.startService()
        log.rename(tmp_path / "old")
        signal.raise_signal(signal.SIGHUP)
        whole.exit()
        assert log.exists()


def test_services_stop_one_after_the_other_the_last_one_first() -> None:
    order: list[str] = []
    first, last = _Slow("first", order), _Slow("last", order)
    process = Process(_Reactor(), twistd={})
    first.setServiceParent(process)
    last.setServiceParent(process)
    done: list[None] = []
    process.stopService().addCallback(done.append)
    assert order == ["last"]
    last.stops.callback(None)
    assert order == ["last", "first"]
    assert not done
    first.stops.callback(None)
    assert done == [None]


def test_an_end_stops_it_once() -> None:
    reactor = _Reactor()
    process = Process(reactor, twistd={})
    process.end(1)
    process.end(2)
    assert reactor.stopped == 1
