"""
Whether a port is free, tried before anything is changed.
"""

import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from twisted.internet.error import CannotListenError

from dcounter.daemon.trial import _Trial, check_can_listen
from dcounter.errors import ConfigurationError

_IPV4 = "127.0.0.1"
_IPV6 = "::1"


def _listener(host: str) -> socket.socket:
    there = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    there.bind((host, 0))
    there.listen()
    return there


@pytest.fixture(params=[_IPV4, _IPV6])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """
    An interface, and a port of it on which somebody listens.
    """
    try:
        there = _listener(request.param)
    except OSError:
        pytest.skip(f"this machine has no {request.param}")
    with there:
        yield request.param, there.getsockname()[1]


def _description(kind: str, host: str, port: int) -> str:
    return f"{kind}:{port}:interface={host.replace(':', chr(92) + ':')}"


@pytest.mark.parametrize("kind", ["tcp", "haproxy:tcp"])
def test_a_taken_port_is_told(kind: str, taken: tuple[str, int]) -> None:
    host, port = taken
    with pytest.raises(ConfigurationError, match="in use") as refused:
        check_can_listen(_description(kind, host, port))
    assert str(refused.value).startswith("HTTP cannot listen: Couldn't listen on ")
    assert f"{host}:{port}" in str(refused.value)


def test_a_port_that_every_interface_wants_is_told(taken: tuple[str, int]) -> None:
    host, port = taken
    with pytest.raises(ConfigurationError, match=rf"Couldn't listen on \S+:{port}: .*in use"):
        check_can_listen(f"{'tcp6' if ':' in host else 'tcp'}:{port}")


@pytest.mark.parametrize("host", [_IPV4, _IPV6])
def test_a_free_port_is_left_free(host: str) -> None:
    try:
        there = _listener(host)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    port = there.getsockname()[1]
    there.close()
    for _ in range(2):
        check_can_listen(_description("tcp", host, port))
    with socket.create_server((host, port), family=there.family):
        pass


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"HTTP cannot listen: Couldn't listen on 192\.0\.2\.1:"):
        check_can_listen("tcp:0:interface=192.0.2.1")


def test_a_socket_that_is_answered_is_told() -> None:
    with TemporaryDirectory(prefix="dc") as short, socket.socket(socket.AF_UNIX) as there:
        path = f"{short}/http"
        there.bind(path)
        there.listen()
        with pytest.raises(
            ConfigurationError, match=f"HTTP cannot listen: another process answers on {path}: "
        ):
            check_can_listen(f"unix:{path}")
        there.close()
        # One that was left behind stays until it is replaced.
        check_can_listen(f"unix:{path}")
        assert Path(path).is_socket()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nowhere/at/all", "No such file or directory"),
        # The kernel makes no file there for anybody.
        ("/proc/http", "No such file or directory"),
        (f"/tmp/{'x' * 103}", "a path has at most 107 bytes, not 108"),
    ],
)
def test_a_socket_that_cannot_be_made_is_told(path: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_can_listen(f"unix:{path}")
    assert str(refused.value) == f"HTTP cannot listen on {path}: {why}"


@pytest.mark.parametrize("description", ["systemd:domain=INET:index=0", "fd:3", "unix:below/the/rundir"])
def test_what_a_trial_would_use_up_is_not_tried(description: str) -> None:
    check_can_listen(description)


def test_https_is_a_port_as_well(taken: tuple[str, int]) -> None:
    host, port = taken
    with pytest.raises(CannotListenError, match="in use"):
        _Trial().listenSSL(port, None, None, interface=host)
