"""
Where HTTP listens: what a description leaves open, and how to call what listens there.
"""

import os
import socket
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

from dcounter.daemon.http_endpoint import complete, curl, passed_by_systemd, speaks_tls


@pytest.mark.parametrize(
    ("description", "completed"),
    [
        ("tcp:8085", "tcp:8085:backlog=99"),
        ("tcp:port=8085", "tcp:port=8085:backlog=99"),
        ("tcp:8085:interface=127.0.0.1", "tcp:8085:interface=127.0.0.1:backlog=99"),
        ("tcp:8085:127.0.0.1", "tcp:8085:127.0.0.1:backlog=99"),
        ("tcp:8085:127.0.0.1:7", "tcp:8085:127.0.0.1:7"),
        ("tcp:8085:backlog=7", "tcp:8085:backlog=7"),
        ("tcp:backlog=7:8085", "tcp:backlog=7:8085"),
        ("tcp:8085:interface=\\:\\:1", "tcp:8085:interface=\\:\\:1:backlog=99"),
        ("tcp6:8085", "tcp6:8085:backlog=99"),
        ("tcp6:8085:7", "tcp6:8085:7"),
        ("tcp6:8085:interface=\\:\\:1", "tcp6:8085:interface=\\:\\:1:backlog=99"),
        ("ssl:8443:privateKey=/k.pem", "ssl:8443:privateKey=/k.pem:backlog=99"),
        ("ssl:8443:/k.pem:/c.pem:TLSv1_2_METHOD", "ssl:8443:/k.pem:/c.pem:TLSv1_2_METHOD:backlog=99"),
        ("ssl:8443:/k.pem:/c.pem:TLSv1_2_METHOD::7", "ssl:8443:/k.pem:/c.pem:TLSv1_2_METHOD::7"),
        ("tls:/certs:8443", "tls:/certs:8443:backlog=99"),
        ("tls:/certs:8443:7", "tls:/certs:8443:7"),
        ("unix:/run/x", "unix:/run/x:mode=660:backlog=99"),
        ("unix:address=/run/x", "unix:address=/run/x:mode=660:backlog=99"),
        ("unix:/run/a\\:b\\=c", "unix:/run/a\\:b\\=c:mode=660:backlog=99"),
        ("unix:/run/x:mode=666", "unix:/run/x:mode=666:backlog=99"),
        ("unix:/run/x:600", "unix:/run/x:600:backlog=99"),
        ("unix:/run/x:600:7", "unix:/run/x:600:7"),
        ("unix:/run/x:backlog=7:lockfile=0", "unix:/run/x:backlog=7:lockfile=0:mode=660"),
        ("haproxy:tcp:8085", "haproxy:tcp:8085:backlog=99"),
        ("haproxy:unix:/run/x", "haproxy:unix:/run/x:mode=660:backlog=99"),
        ("HAProxy:haproxy:tcp6:80:7", "HAProxy:haproxy:tcp6:80:7"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ("haproxy:systemd:domain=UNIX:index=0", "haproxy:systemd:domain=UNIX:index=0"),
        ("fd:7", "fd:7"),
        ("stdio:", "stdio:"),
        ("", ""),
        ("tcp", "tcp:backlog=99"),
        ("stdio", "stdio"),
    ],
)
def test_what_a_description_leaves_open(description: str, completed: str) -> None:
    assert complete(description, 99) == completed


@pytest.mark.parametrize(
    "description", ["tcp:80", "tcp:80:127.0.0.1", "tcp:80:127.0.0.1:99", "haproxy:tcp:port=80"]
)
def test_twisted_listens_so(description: str) -> None:
    reactor = MemoryReactor()
    serverFromString(reactor, complete(description, 99)).listen(Factory())
    [(port, _, backlog, _)] = reactor.tcpServers
    assert (port, backlog) == (80, 99)


def test_twisted_makes_such_sockets() -> None:
    reactor = MemoryReactor()
    for path, mode in [("/run/a\\:b", 0o660), ("/run/x:mode=600", 0o600), ("/run/x:666", 0o666)]:
        serverFromString(reactor, complete(f"unix:{path}", 99)).listen(Factory())
        _, _, backlog, found, _ = reactor.unixServers.pop()
        assert (backlog, found) == (99, mode)


@pytest_twisted.ensureDeferred
async def test_a_socket_in_the_file_system_is_for_owner_and_group(tmp_path: Path) -> None:
    from twisted.internet import reactor

    for more, mode in (("", 0o660), (":mode=606", 0o606)):
        path = tmp_path / "socket"
        port = await serverFromString(reactor, complete(f"unix:{path}{more}", 99)).listen(Factory())
        assert path.stat().st_mode & 0o777 == mode
        await port.stopListening()


@pytest.mark.parametrize(
    ("description", "address", "expected"),
    [
        ("tcp:8085", IPv4Address("TCP", "127.0.0.1", 8085), ("", "http://127.0.0.1:8085")),
        ("tcp:80", IPv4Address("TCP", "0.0.0.0", 80), ("", "http://127.0.0.1:80")),
        ("tcp:80", IPv4Address("TCP", "10.0.0.0", 80), ("", "http://10.0.0.0:80")),
        ("tcp6:80", IPv6Address("TCP", "::", 80), ("", "http://[::1]:80")),
        ("tcp6:80", IPv6Address("TCP", "::1", 8085), ("", "http://[::1]:8085")),
        ("tcp6:80", IPv6Address("TCP", "2001:db8::1", 80), ("", "http://[2001:db8::1]:80")),
        ("tcp6:80", IPv6Address("TCP", "fe80::1%eth0", 80), ("", "http://[fe80::1%25eth0]:80")),
        ("ssl:8443", IPv4Address("TCP", "0.0.0.0", 8443), ("", "https://127.0.0.1:8443")),
        ("tls:/certs:8443", IPv6Address("TCP", "::", 8443), ("", "https://[::1]:8443")),
        ("unix:/run/x", UNIXAddress("/run/x"), ("--unix-socket /run/x", "http://localhost")),
        ("unix:/run/a b", UNIXAddress("/run/a b"), ("--unix-socket '/run/a b'", "http://localhost")),
        ("systemd:index=0", UNIXAddress(b"\0x"), ("--abstract-unix-socket x", "http://localhost")),
        ("systemd:index=0", IPv4Address("TCP", "0.0.0.0", 80), ("", "http://127.0.0.1:80")),
        ("systemd:index=0", UNIXAddress(None), None),
        ("haproxy:tcp:80", IPv4Address("TCP", "1.2.3.4", 80), ("--haproxy-protocol", "http://1.2.3.4:80")),
        ("haproxy:ssl:80", IPv4Address("TCP", "1.2.3.4", 80), ("--haproxy-protocol", "https://1.2.3.4:80")),
        (
            "haproxy:unix:/run/x",
            UNIXAddress("/run/x"),
            ("--haproxy-protocol --unix-socket /run/x", "http://localhost"),
        ),
        ("haproxy:nonsense", HostnameAddress(b"x", 1), None),
    ],
)
def test_how_to_call(description: str, address: Any, expected: tuple[str, str] | None) -> None:
    assert curl(description, address) == expected


def test_how_to_call_what_options_encrypt() -> None:
    address = cast(Any, IPv4Address("TCP", "0.0.0.0", 443))
    assert curl("haproxy:tcp:443", address, encrypted=True) == ("--haproxy-protocol", "https://127.0.0.1:443")


@pytest.mark.parametrize(
    ("description", "expected"),
    [("ssl:1", True), ("tls:/c", True), ("haproxy:ssl:1", True), ("tcp:1", False), ("unix:/ssl:1", False)],
)
def test_which_speak_tls_by_themselves(description: str, expected: bool) -> None:
    assert speaks_tls(description) is expected


def test_a_socket_is_named_so_that_it_is_found_from_anywhere() -> None:
    found = curl("unix:here", cast(Any, UNIXAddress("here")))
    assert found == (f"--unix-socket {os.getcwd()}/here", "http://localhost")


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (socket.AF_INET, "systemd:domain=INET:name=http"),
        (socket.AF_INET6, "systemd:domain=INET6:name=http"),
        (socket.AF_UNIX, "systemd:domain=UNIX:name=http"),
        (socket.AF_NETLINK, None),
    ],
)
def test_a_socket_that_systemd_passes_is_found(family: int, expected: str | None) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as passed:
        assert passed_by_systemd({"http": passed.fileno()}.__getitem__) == expected
        # It is still open.
        assert passed.family == family
        assert passed_by_systemd({"other": passed.fileno()}.__getitem__) is None
    assert passed_by_systemd({"http": -1}.__getitem__) is None
