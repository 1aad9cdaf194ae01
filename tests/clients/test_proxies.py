"""
nginx and haproxy in front of a real daemon, configured as docs/proxies.md says.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from dcounter.http.limits import HttpLimits
from tests.e2e.conftest import CALM
from tests.e2e.harness import Daemon, Ports, Twistd, eventually, is_open
from tests.e2e.sockets import accepted
from tests.support.clients import COUNTS, EXPECTED, MAX_BODY, TOO_LARGE, one, pieces, thousand

PAGE: Final = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text("utf-8")
NAME: Final = "counter.example.org"

NGINX_AROUND: Final = """
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/client;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{block}
}}
"""


def block(program: str) -> str:
    """
    The configuration on the page.
    """
    (found,) = re.findall(rf"^```{program}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """
    A text with other words, each of which it has once.
    """
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class Proxy:
    """
    A program in front of the daemon.

    :ivar where: how its configuration says where it listens, and what it is told in the test.
    """

    program: str
    where: tuple[str, str]

    @property
    def unchecked(self) -> list[tuple[str, str]]:
        """
        The change that leaves out the checks of haproxy, which have connections of their own.
        """
        return [("127.0.0.1:8085 check", "127.0.0.1:8085")] if self.program == "haproxy" else []

    @contextmanager
    def running(self, directory: Path, front: int, back: int, *changes: tuple[str, str]) -> Iterator[None]:
        """
        Run it as the page says, but for the ports.
        """
        ports = [(self.where[0], self.where[1].format(port=front)), ("127.0.0.1:8085", f"127.0.0.1:{back}")]
        configuration = replaced(block(self.program), *changes, *ports)
        file = directory / self.program
        if self.program == "nginx":
            configuration = NGINX_AROUND.format(directory=directory, block=configuration)
            command = ["nginx", "-c", str(file)]
        else:
            command = ["haproxy", "-db", "-f", str(file)]
        file.write_text(configuration)
        log = directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            print(log.read_text())  # noqa: T201 - shown if the test fails
            process.send_signal(signal.SIGTERM)
            process.wait(20)


PROXIES: Final = [
    Proxy("nginx", ("listen 80;", "listen 127.0.0.1:{port};")),
    Proxy("haproxy", ("bind :80", "bind 127.0.0.1:{port}")),
]
HAPROXY: Final = PROXIES[1]


async def until_open(port: int) -> None:
    async def there() -> bool:
        return is_open(port)

    await eventually(there, what="a proxy that listens")


class Caller:
    """
    One connection to the proxy.
    """

    def __init__(self, port: int) -> None:
        self._client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        headers = {"Host": NAME, **headers}
        self._client.request(method, path, body, headers, encode_chunked=not isinstance(body, bytes | None))
        response = self._client.getresponse()
        return response.status, response.read()

    def field(self, name: str, *arguments: Any, **headers: str) -> tuple[int, Any]:
        status, body = self.ask(*arguments, **headers)
        return status, json.loads(body)[name]


def steps(port: int, first: int) -> dict[str, tuple[int, Any]]:
    """
    What is asked of every client, by one connection.
    """
    tenant = f"t{first}"
    many = thousand(first, tenant)
    with Caller(port) as caller:
        found = {
            "one item": caller.field("items", "POST", "/items", one(first, tenant)),
            "1,000 items": caller.field("items", "POST", "/items", many),
            "1,000 items in chunks": caller.field(
                "items", "POST", "/items", pieces(many), **{"Transfer-Encoding": "chunked"}
            ),
            "HEAD": (caller.ask("HEAD", "/healthz")[0], ""),
            "no such path": caller.field("code", "GET", "/nothing"),
            "an invalid item": caller.field("code", "POST", "/items", b"[{}]"),
        }
        (found["counts, one after the other"],) = {
            caller.field("counter", "GET", f"/items/{tenant}/count") for _ in range(COUNTS)
        }
    return found


async def once(port: int, *arguments: Any, **headers: str) -> tuple[int, bytes]:
    """
    One request, by a connection of its own.
    """

    def ask() -> tuple[int, bytes]:
        with Caller(port) as caller:
            return caller.ask(*arguments, **headers)

    return await deferToThread(ask)


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda each: each.program)
@pytest_twisted.ensureDeferred
async def test_a_proxy_keeps_connections(patient: Daemon, tmp_path: Path, proxy: Proxy) -> None:
    front, back = patient.ports.http + 1, patient.ports.http
    with proxy.running(tmp_path, front, back, *proxy.unchecked):
        await until_open(front)
        first = patient.new_ids(1_001)[0]
        found = await deferToThread(steps, front, first)
        assert found == {step: EXPECTED[step] for step in found}
        (kept,) = accepted(patient.pid, back)
        for _ in range(50):
            # New callers, but hardly a new connection to the daemon.
            assert (await once(front, "GET", "/healthz"))[0] == 200
        now = [each.inode for each in accepted(patient.pid, back)]
        assert kept.inode in now
        # Each thread of haproxy has its own.
        assert len(now) <= (os.cpu_count() or 1)


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda each: each.program)
@pytest_twisted.ensureDeferred
async def test_many_callers_at_once(patient: Daemon, tmp_path: Path, proxy: Proxy) -> None:
    front = patient.ports.http + 1
    with proxy.running(tmp_path, front, patient.ports.http):
        await until_open(front)
        many = [deferToThread(steps, front, patient.new_ids(1_001)[0]) for _ in range(16)]
        for found in await gatherResults(many):
            assert found == {step: EXPECTED[step] for step in found}


@pytest.mark.parametrize(
    ("proxy", "changes"),
    [
        # The page's minute would be a minute of the test.
        (PROXIES[0], [("keepalive_timeout 60s;", "keepalive_timeout 1s;")]),
        (HAPROXY, []),
    ],
    ids=["nginx", "haproxy"],
)
@pytest_twisted.ensureDeferred
async def test_a_proxy_closes_before_the_daemon_does(
    patient: Daemon, tmp_path: Path, proxy: Proxy, changes: list[tuple[str, str]]
) -> None:
    front, back = patient.ports.http + 1, patient.ports.http
    with proxy.running(tmp_path, front, back, *changes, *proxy.unchecked):
        await until_open(front)
        assert (await once(front, "GET", "/healthz"))[0] == 200
        assert len(accepted(patient.pid, back)) == 1

        async def closed() -> bool:
            return not accepted(patient.pid, back)

        # The daemon itself would wait for 75 s.
        await eventually(closed, what="the end of the connection to the daemon", within=30)


def test_the_minute_of_nginx_is_shorter_than_our_patience() -> None:
    (minute,) = re.findall(r"keepalive_timeout (\d+)s;", block("nginx"))
    assert int(minute) + 10 <= HttpLimits().idle_s


HIDDEN: Final = [
    "/cluster/restart",
    "//cluster/restart",
    "/./cluster/restart",
    "/x/../cluster/restart",
    "/%63luster/restart",
    "/cluster%2Frestart",
    "/cluster/%72estart",
    "/cluster/restart/",
    "/cluster/restart?",
    "/cluster/restart#",
    "/healthz#/../cluster/restart",
    "/healthz/../cluster/restart",
    "/cluster/restart/../../healthz",
    "/CLUSTER/restart",
    f"http://{NAME}/cluster/restart",
    f"http://{NAME}//cluster/restart",
    "http://other.example/cluster/restart",
]


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda each: each.program)
@pytest_twisted.ensureDeferred
async def test_what_a_proxy_must_not_pass_on_does_not_arrive(
    patient: Daemon, tmp_path: Path, proxy: Proxy
) -> None:
    # With the token, a caller on this machine may restart nodes: only the proxy stands in between.
    token = {"Authorization": f"Bearer {patient.token.read_text().strip()}"}
    front = patient.ports.http + 1
    with proxy.running(tmp_path, front, patient.ports.http):
        await until_open(front)
        for target in HIDDEN:
            status, _ = await once(front, "POST", target, b'{"node":1}', **token)
            assert status in {400, 403, 404, 405}, target
    assert "restarting node" not in patient.log
    assert (await once(patient.ports.http, "POST", HIDDEN[0], b'{"node":1}', **token))[0] == 200
    await patient.until_logged("restarting node 1")


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda each: each.program)
@pytest_twisted.ensureDeferred
async def test_a_refusal_before_the_end_of_a_body_arrives(tmp_path: Path, ports: Ports, proxy: Proxy) -> None:
    daemon = await Daemon.start(tmp_path, CALM, f"--host={NAME}", MAX_BODY, ports=ports)
    front = ports.http + 1
    with proxy.running(tmp_path, front, ports.http):
        await until_open(front)
        for _ in range(10):
            status, body = await once(front, "POST", "/items", TOO_LARGE)
            assert (status, json.loads(body)["code"]) == (413, "body_too_large")
            encoded = {"Content-Encoding": "gzip"}
            status, body = await once(front, "POST", "/items", TOO_LARGE[:1_000_000], **encoded)
            assert (status, json.loads(body)["code"]) == (415, "unsupported_encoding")
            chunks = {"Transfer-Encoding": "chunked"}
            status, body = await once(front, "POST", "/items", pieces(TOO_LARGE, 100_000), **chunks)
            assert (status, json.loads(body)["code"]) == (413, "body_too_large")
    await daemon.stop()


@pytest_twisted.ensureDeferred
async def test_haproxy_tells_who_calls(tmp_path: Path, ports: Ports) -> None:
    assert "`--http haproxy:tcp:8085:interface=127.0.0.1`" in PAGE
    (server,) = re.findall(r"`(server dcounter 127\.0\.0\.1:8085 send-proxy check)`", PAGE)
    daemon = Twistd(
        [
            *("-n", "--pidfile=", "dcounter", "--in-memory", "--inline", CALM),
            f"--http=haproxy:tcp:{ports.http}:interface=127.0.0.1",
            f"--node-port={ports.nodes[0]}",
            f"--host={NAME}",
        ],
        tmp_path,
    )
    front = ports.http + 1
    changes = [
        ("server dcounter 127.0.0.1:8085 check", server),
        # So that the test can call from elsewhere, and that what depends on it can be called at all.
        ("bind :80", "bind :80 accept-proxy"),
        ("http-request deny if { path_beg /cluster/ }", ""),
    ]

    def ask(origin: str) -> str:
        with socket.create_connection(("127.0.0.1", front), timeout=20) as caller:
            caller.sendall(
                f"PROXY TCP4 {origin} 203.0.113.1 5000 80\r\nPOST /cluster/restart HTTP/1.1\r\n"
                f"Host: {NAME}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
            )
            with caller.makefile("rb") as answer:
                return answer.read().decode()

    with HAPROXY.running(tmp_path, front, ports.http, *changes):
        await until_open(front)

        async def ready() -> bool:
            return "ready to take items" in daemon.output and " 403 " in await deferToThread(ask, "127.0.0.1")

        await eventually(ready, what="a daemon that haproxy finds ready")
        assert "no operator's token" in await deferToThread(ask, "127.0.0.1")
        assert "only callers on the daemon's own machine" in await deferToThread(ask, "203.0.113.7")
    daemon.send_signal(signal.SIGTERM)
    await daemon.end()
