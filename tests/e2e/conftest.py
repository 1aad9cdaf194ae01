"""
Daemons for end-to-end tests.
"""

import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.e2e.harness import Client, Daemon, Ports

CALM = "--suspicion=5"
"""
For tests in which no node falls silent: a busy machine must not make it seem so.
"""

StartDaemon = Callable[..., Coroutine[Deferred[Any], Any, Daemon]]


@pytest.fixture
def ports() -> Iterator[Ports]:
    """
    Ports for a daemon that a test starts itself.
    """
    mine = Ports()
    yield mine
    mine.release()


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """
    Starts daemons of the test's own, with further options; they are stopped, and their logs read, afterwards.
    """
    daemons: list[Daemon] = []

    async def start(
        *options: str,
        ports: Ports | None = None,
        passed: socket.socket | None = None,
        processes: bool = False,
    ) -> Daemon:
        daemon = await Daemon.start(tmp_path, CALM, *options, ports=ports, passed=passed, processes=processes)
        daemons.append(daemon)
        return daemon

    yield start
    stopping = [Deferred.fromCoroutine(each.stop()) for each in daemons if each.process.running]
    pytest_twisted.blockon(gatherResults(stopping, consumeErrors=True))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """
    One daemon for all tests of a module that leave it as they found it, but for items of their own.
    """
    shared = pytest_twisted.blockon(
        Deferred.fromCoroutine(Daemon.start(tmp_path_factory.mktemp("daemon"), CALM))
    )
    yield shared
    pytest_twisted.blockon(Deferred.fromCoroutine(shared.stop()))


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """
    A caller of the module's daemon; the test fails if the daemon logged an error meanwhile.
    """
    caller = daemon.client()
    before = len(daemon.bad_lines())
    yield caller
    pytest_twisted.blockon(Deferred.fromCoroutine(caller.close()))
    assert daemon.bad_lines()[before:] == []
