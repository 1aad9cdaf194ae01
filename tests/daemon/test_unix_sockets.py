"""
Sockets that an unclean end left behind, and those that somebody answers on.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory

from dcounter.daemon.unix_sockets import Cleared, SocketInUse, clear_socket, cleared, socket_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # The path of a socket must be short.
    there = tmp_path / "s"
    assert len(str(there)) < 100
    return there


@pytest.fixture
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(0)
        yield server


def left_behind(path: Path) -> None:
    """
    What a daemon leaves that was killed, and had our number.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    Path(f"{path}.lock").symlink_to(str(os.getpid()))


@pytest.mark.parametrize(
    ("description", "path"),
    [
        ("unix:/run/x", "/run/x"),
        ("unix:address=/run/x:mode=660", "/run/x"),
        ("unix:mode=660:address=/run/x", "/run/x"),
        ("unix:/run/x:mode=660:backlog=5:lockfile=0", "/run/x"),
        (r"unix:/run/a\:b", "/run/a:b"),
        (r"unix:/run/a\=b", "/run/a=b"),
        (r"haproxy:unix:/run/a\:b:mode=660", "/run/a:b"),
        ("haproxy:tcp:8085", None),
        ("unix:", None),
        ("tcp:8085", None),
        ("tcp:8085:interface=unix", None),
    ],
)
def test_the_path_in_a_description(description: str, path: str | None) -> None:
    assert socket_path(description) == path


def test_what_nobody_answers_on_is_removed_whatever_its_lock_says(path: Path, tmp_path: Path) -> None:
    left_behind(path)
    clear_socket(str(path))
    assert os.listdir(tmp_path) == []
    # Nothing is there.
    clear_socket(str(path))


def test_a_lock_without_its_socket_is_removed(path: Path, tmp_path: Path) -> None:
    left_behind(path)
    path.unlink()
    clear_socket(str(path))
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("listening")
def test_what_somebody_answers_on_stays(path: Path) -> None:
    Path(f"{path}.lock").symlink_to("999999999")
    with pytest.raises(SocketInUse, match=f"another process answers on {path}: stop it first"):
        clear_socket(str(path))
    assert path.exists()
    assert Path(f"{path}.lock").is_symlink()


def test_what_takes_no_more_callers_stays(path: Path, listening: socket.socket) -> None:
    waiting = []
    try:
        # Nobody accepts them, and there is room for one.
        for _ in range(2):
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            with suppress(BlockingIOError):
                waiting[-1].connect(str(path))
        with pytest.raises(SocketInUse):
            clear_socket(str(path))
    finally:
        for each in waiting:
            each.close()
    assert path.exists()


def test_what_is_no_socket_stays(path: Path) -> None:
    path.write_text("precious")
    lock = Path(f"{path}.lock")
    lock.write_text("precious")
    clear_socket(str(path))
    path.unlink()
    clear_socket(str(path))
    assert lock.read_text() == "precious"


def test_what_nobody_can_tell_stays(tmp_path: Path) -> None:
    # A path that is too long for a socket cannot be asked.
    long = tmp_path / ("x" * 120)
    lock = Path(f"{long}.lock")
    lock.symlink_to("1")
    clear_socket(str(long))
    assert lock.is_symlink()


class Endpoint:
    """
    An endpoint that only tells that it was asked.
    """

    def __init__(self) -> None:
        self.asked = 0

    def listen(self, protocolFactory: object) -> Deferred[Any]:
        self.asked += 1
        return succeed(None)


class TestEndpoint:
    def test_others_stay_as_they_are(self) -> None:
        endpoint: Any = Endpoint()
        assert cleared(endpoint, "tcp:0") is endpoint

    def test_clears_before_it_listens(self, path: Path, tmp_path: Path) -> None:
        endpoint: Any = Endpoint()
        left_behind(path)
        mine = cleared(endpoint, f"unix:{path}")
        assert isinstance(mine, Cleared)
        mine.listen(Factory())
        assert endpoint.asked == 1
        assert os.listdir(tmp_path) == []

    @pytest.mark.usefixtures("listening")
    def test_does_not_listen_where_somebody_answers(self, path: Path) -> None:
        endpoint: Any = Endpoint()
        failed: list[Any] = []
        cleared(endpoint, f"unix:{path}").listen(Factory()).addErrback(failed.append)
        assert failed[0].check(SocketInUse)
        assert endpoint.asked == 0
