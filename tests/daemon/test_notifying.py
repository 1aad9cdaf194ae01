"""
What systemd is told, on the socket that it listens on.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactorClock

from dcounter.daemon.notifying import Heartbeat, Notifier


class Systemd:
    """
    The other end.
    """

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.close = self._socket.close

    def told(self) -> list[list[str]]:
        """
        What it was told since it was asked last.
        """
        found = []
        while True:
            try:
                found.append(self._socket.recv(65_536).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify"


@pytest.fixture
def systemd(address: str) -> Iterator[Systemd]:
    other = Systemd(address.replace("@", "\0"))
    yield other
    other.close()


@pytest.fixture
def notifier(address: str, systemd: Systemd) -> Iterator[Notifier]:
    found = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "7"}, 7)
    yield found
    found.close()


def test_each_sign_is_a_datagram(notifier: Notifier, systemd: Systemd) -> None:
    notifier.reloading()
    notifier.ready()
    notifier.stopping("stops in 5 s", 5)
    [[reloading, when], ready, stopping] = systemd.told()
    assert (reloading, ready) == ("RELOADING=1", ["READY=1"])
    assert when.startswith("MONOTONIC_USEC=")
    assert stopping == ["STOPPING=1", "STATUS=stops in 5 s", "EXTEND_TIMEOUT_USEC=35000000"]


def test_nothing_is_sent_where_nobody_listens(notifier: Notifier, systemd: Systemd) -> None:
    systemd.close()
    notifier.ready()
    alone = Notifier({"WATCHDOG_USEC": "1"}, 1)
    alone.ready()
    assert alone.watchdog_s is None


def test_the_watchdog_of_another_process_is_not_ours(address: str) -> None:
    found = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "8"}, 7)
    assert found.watchdog_s is None
    found.close()


class Beating:
    """
    A heartbeat whose time and state the test sets.
    """

    def __init__(self, notifier: Notifier) -> None:
        self.clock = MemoryReactorClock()
        self.state = (False, "starts")
        self.heart = Heartbeat(notifier, lambda: self.state, self.clock)
        self.heart.startService()


@pytest.fixture
def beating(notifier: Notifier) -> Iterator[Beating]:
    found = Beating(notifier)
    yield found
    found.heart.stopService()
    assert found.clock.getDelayedCalls() == []


def test_the_start_is_over_when_it_listens_and_is_ready(beating: Beating, systemd: Systemd) -> None:
    assert systemd.told() == [["WATCHDOG=1", "STATUS=starts", "EXTEND_TIMEOUT_USEC=30000000"]]
    beating.state = (True, "ready")
    beating.clock.advance(0.5)
    assert systemd.told() == [["WATCHDOG=1", "STATUS=ready", "EXTEND_TIMEOUT_USEC=30000000"]]
    beating.heart.listens_now(None)
    beating.clock.advance(0.5)
    beating.clock.advance(0.5)
    beating.state = (False, "not ready")
    beating.clock.advance(0.5)
    assert systemd.told() == [["WATCHDOG=1", "READY=1"], ["WATCHDOG=1"], ["WATCHDOG=1", "STATUS=not ready"]]


def test_a_daemon_that_is_not_ready_has_started_after_a_while(beating: Beating, systemd: Systemd) -> None:
    beating.heart.listens_now(None)
    beating.clock.pump([0.5] * 119)
    assert not [told for told in systemd.told() if "READY=1" in told]
    beating.clock.advance(0.5)
    assert [told for told in systemd.told() if "READY=1" in told]


def test_without_a_watchdog_only_changes_are_told(address: str, systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address}, 7)
    clock = MemoryReactorClock()
    heart = Heartbeat(notifier, lambda: (True, "ready"), clock, listens=True)
    heart.startService()
    clock.advance(1)
    heart.stopService()
    notifier.close()
    assert systemd.told() == [["STATUS=ready", "READY=1"]]
