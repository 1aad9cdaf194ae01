"""
Daemons for the programs that call them.

Nothing here is skipped: a program that is missing fails its test. `make test-clients` installs them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.e2e.conftest import CALM
from tests.e2e.harness import Daemon, Ports
from tests.support.clients import IDLE, MAX_BODY


def _daemon(directory: Path, *options: str) -> Iterator[Daemon]:
    started: Any = Deferred.fromCoroutine(Daemon.start(directory, CALM, *options))
    daemon = pytest_twisted.blockon(started)
    yield daemon
    pytest_twisted.blockon(Deferred.fromCoroutine(daemon.stop()))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """
    A daemon that closes idle connections soon.
    """
    yield from _daemon(tmp_path_factory.mktemp("daemon"), IDLE, MAX_BODY)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Daemon]:
    """
    A daemon as a proxy in front finds it.
    """
    yield from _daemon(tmp_path, "--host=counter.example.org")


@pytest.fixture
def ports() -> Iterator[Ports]:
    """
    Ports for a daemon that a test starts itself.
    """
    mine = Ports()
    yield mine
    mine.release()
