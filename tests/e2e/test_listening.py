"""
Where HTTP may listen besides a port of its own: a socket from systemd, a Unix socket.
"""

import configparser
import http.client
import json
import os
import signal
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest_twisted
from twisted.internet.threads import deferToThread

from dcounter.daemon.options import Options
from dcounter.http.limits import HttpLimits
from tests.e2e.conftest import CALM, StartDaemon
from tests.e2e.harness import Ports, Twistd, eventually, items
from tests.e2e.sockets import sockets_of

ETC = Path(__file__).parents[2] / "etc"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((ETC / name).read_text())
    return parser


@pytest_twisted.ensureDeferred
async def test_a_socket_from_systemd_outlives_the_daemon(start_daemon: StartDaemon, ports: Ports) -> None:
    with socket.create_server(("127.0.0.1", ports.http), backlog=7) as passed:
        first = await start_daemon(ports=ports, passed=passed)
        await first.until_logged(f"HTTP listens on http://127.0.0.1:{ports.http}")
        inode = os.fstat(passed.fileno()).st_ino
        (listening,) = [each for each in sockets_of(first.pid) if each.port == ports.http and each.listening]
        assert listening.inode == inode
        client = first.client()
        await client.store(items(range(10), "passed"))
        assert await client.count("passed") == 10
        # The guard against web pages knows where the caller connected to.
        answer = await client.ask("GET", "/healthz", headers={"Host": "evil.example"})
        assert (answer.status, answer.content["code"]) == (403, "unknown_host")
        await client.close()
        first.process.send_signal(signal.SIGTERM)
        await first.process.end()
        # A caller that comes meanwhile waits for the next one.
        waiting = socket.create_connection(("127.0.0.1", ports.http))
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        second = await start_daemon(ports=ports, passed=passed)
        assert second.pid != first.pid

        def read() -> bytes:
            with waiting, waiting.makefile("rb") as answer:
                return answer.read()

        assert (await deferToThread(read)).endswith(b'{"status":"OK"}')


def test_the_unit_of_the_socket_fits_the_daemon() -> None:
    settings = unit("dcounter.socket")["Socket"]
    limits = HttpLimits()
    options = Options()
    options.parseOptions([])
    host, port = settings["ListenStream"].split(":")
    assert options["http"] == f"tcp:{port}:interface={host}"
    assert int(settings["Backlog"]) == limits.max_connections + limits.reserved_connections
    # By this name the daemon looks for it.
    assert settings["FileDescriptorName"] == "http"


@pytest_twisted.ensureDeferred
async def test_a_unix_socket(tmp_path: Path, ports: Ports) -> None:
    # Paths of sockets are short.
    with TemporaryDirectory(prefix="dc") as short:
        path = Path(short) / "http"
        daemon = Twistd(
            [
                *("-n", "--pidfile=", "dcounter", "--in-memory", "--inline", CALM),
                f"--http=unix:{path}",
                f"--node-port={ports.nodes[0]}",
            ],
            tmp_path,
        )

        def ask(method: str, target: str, body: bytes | None = None) -> tuple[int, Any]:
            client = http.client.HTTPConnection("any.name.will.do", timeout=10)
            client.sock = socket.socket(socket.AF_UNIX)
            client.sock.settimeout(10)
            client.sock.connect(str(path))
            client.request(method, target, body)
            response = client.getresponse()
            answer = response.status, json.load(response)
            client.close()
            return answer

        async def ready() -> bool:
            assert daemon.running, daemon.output
            return path.exists() and (await deferToThread(ask, "GET", "/readyz"))[0] == 200

        await eventually(ready, what="a ready daemon")
        assert path.stat().st_mode & 0o777 == 0o660
        body = json.dumps(items(range(10), "unix")).encode()
        assert (await deferToThread(ask, "POST", "/items", body))[0] == 200
        assert (await deferToThread(ask, "GET", "/items/unix/count"))[1]["counter"] == 10
        # A caller on a Unix socket is on this machine: only the token is missing.
        status, problem = await deferToThread(ask, "POST", "/cluster/restart", b'{"node":1}')
        assert (status, problem["code"]) == (403, "forbidden")
        assert "token" in problem["message"]
        daemon.send_signal(signal.SIGTERM)
        await daemon.end()
        assert not path.exists()
