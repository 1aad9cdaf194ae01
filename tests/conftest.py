"""
Every test leaves the process as it found it, or fails.

pytest-twisted runs all tests inside one reactor. What a test forgets there (a timer, a socket, a
child process) goes on living, and what goes wrong there is only logged: without this file both
pass unseen. ``test_conftest.py`` shows that it really catches them.
"""

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from hypothesis import settings
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import (
    ILogObserver,
    LogEvent,
    STDLibLogObserver,
    globalLogBeginner,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

# The reactor's greenlet shares the machine with the tests of others: no deadline per example.
# What decides whether a change is merged gives every change the same examples; what looks for more is
# started by hand: pytest --hypothesis-profile=search
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, max_examples=50)
settings.register_profile("search", deadline=None, print_blob=True, max_examples=3_000)
settings.load_profile("ci")

# What is closing when a test ends may finish: so long are sockets and children waited for, and
# that many turns timers that are due at once.
_TURN = 0.01
_TURNS = 100
_TURNS_FOR_TIMERS = 2

# twisted.internet.reactor is a module to the type checker, and no one interface has all we ask.
_Reactor = Any


@implementer(ILogObserver)
@dataclass(slots=True)
class _FailureLog:
    """
    Holds the log events that carry a failure until someone takes them.
    """

    events: list[LogEvent] = field(default_factory=list)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            self.events.append(event)

    def take(self, *types: type[BaseException]) -> list[Failure]:
        """
        Remove and return the failures of these types (none named: all).
        """
        # A Deferred logs the failure that nobody handled when it is collected.
        gc.collect()
        taken = []
        left = []
        for event in self.events:
            failure = cast("Failure", event["log_failure"])
            if types and not failure.check(*types):
                left.append(event)
            else:
                taken.append(failure)
        self.events[:] = left
        return taken


@dataclass(frozen=True, slots=True)
class _Holdings:
    """
    What keeps a reactor or this process busy at one moment.
    """

    timers: frozenset[IDelayedCall]
    sockets: frozenset[Any]
    children: frozenset[int]

    @classmethod
    def now(cls, reactor: _Reactor) -> "_Holdings":
        # The waker and its like belong to the reactor; no public method tells them apart.
        own = reactor._internalReaders  # noqa: SLF001
        return cls(
            frozenset(reactor.getDelayedCalls()),
            frozenset(reactor.getReaders() + reactor.getWriters()) - own,
            frozenset(_children()),
        )

    def __sub__(self, earlier: "_Holdings") -> "_Holdings":
        return _Holdings(
            self.timers - earlier.timers,
            self.sockets - earlier.sockets,
            self.children - earlier.children,
        )

    def __bool__(self) -> bool:
        return bool(self.timers or self.sockets or self.children)

    def report(self) -> Iterator[str]:
        for timer in self.timers:
            yield f"a delayed call is pending: {timer}"
        for socket in self.sockets:
            yield f"a reader or writer is open: {socket!r}"
        for child in self.children:
            yield f"a child process is there: {child}, {_command_line(child)}"

    def drop(self, reactor: _Reactor) -> None:
        """
        Get rid of all this, so that the next test does not suffer for it.
        """
        for timer in self.timers:
            if timer.active():
                timer.cancel()
        for socket in self.sockets:
            reactor.removeReader(socket)
            reactor.removeWriter(socket)
            socket.connectionLost(Failure(ConnectionDone()))
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def _children() -> Iterator[int]:
    for thread in Path("/proc/self/task").iterdir():
        # A thread of a pool may end meanwhile.
        with contextlib.suppress(FileNotFoundError):
            yield from map(int, (thread / "children").read_text().split())


def _command_line(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return "gone"
    return line.replace(b"\0", b" ").decode(errors="replace").strip() or "dead but not reaped"


def _left_behind(reactor: _Reactor, before: _Holdings) -> _Holdings:
    """
    Wait, bounded, for what is closing; what is left then was forgotten.
    """
    for turn in range(_TURNS):
        left = _Holdings.now(reactor) - before
        if not (left.sockets or left.children) and (not left.timers or turn >= _TURNS_FOR_TIMERS):
            return left
        pytest_twisted.blockon(deferLater(reactor, _TURN))
    return _Holdings.now(reactor) - before


@pytest.fixture(scope="session")
def _failure_log() -> Iterator[_FailureLog]:
    """
    Send the log to pytest (which shows it when a test fails) and keep the failures in it.

    At the end of the run nobody may have logged one outside of a test.
    """
    log = _FailureLog()
    # Until logging has begun, Twisted buffers events, and with them all that they mention.
    globalLogBeginner.beginLoggingTo([STDLibLogObserver(), log], discardBuffer=True, redirectStandardIO=False)
    # To look for garbage is quick among what is new: what outlived an earlier look is left out
    # until the end.
    gc.collect()
    gc.freeze()
    yield log
    gc.unfreeze()
    late = log.take()
    globalLogPublisher.removeObserver(log)
    if late:
        pytest.fail(_listed("logged after the last test", map(_traceback, late)), pytrace=False)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(_failure_log: _FailureLog) -> Iterator[None]:
    # Here and not above: the reactor that --reactor names is to be the first one imported.
    from twisted.internet import reactor

    before = _Holdings.now(reactor)
    yield
    left = _left_behind(reactor, before)
    problems = list(left.report())
    left.drop(reactor)
    problems += [f"a failure was logged:\n{_traceback(each)}" for each in _failure_log.take()]
    gc.freeze()
    if problems:
        pytest.fail(_listed("the test left behind", problems), pytrace=False)


@pytest.fixture
def expected_failures(_failure_log: _FailureLog) -> Callable[..., list[Failure]]:
    """
    For a test in which something is to be logged as a failure.

    Call it with the types (none: any) after the fact: it returns what was logged until then, and
    the test does not fail for it.
    """
    return _failure_log.take


def _traceback(failure: Failure) -> str:
    return failure.getTraceback().rstrip()


def _listed(title: str, problems: Iterable[str]) -> str:
    return "\n".join([f"{title}:", *(f"- {each}" for each in problems)])
