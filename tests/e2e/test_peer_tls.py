"""
Nodes and coordinators that speak TLS among each other: they work as always, and nobody else gets a word in.
"""

import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.e2e.harness import Client, Ports, Twistd, eventually, is_open, items, together
from tests.support.certificates import Authority
from tests.support.logs import bad_lines

NODES = range(3)


async def in_thread(function: Callable[[], Any]) -> Any:
    return await deferToThread(function)


class Machines:
    """
    Three nodes by themselves and a coordinator.
    """

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.authority = Authority(directory, "cluster")
        self._directory = directory
        self._ports = ports
        (directory / "secret").write_text("a secret that is long enough\n")
        self.peers = [f"tcp:127.0.0.1:{ports.nodes[30 * node]}" for node in NODES]
        self.processes: dict[str, Twistd] = {}

    def tls(self, name: str) -> list[str]:
        certificate, key = self.authority.issue(name)
        return [
            f"--peer-tls-cert={certificate}",
            f"--peer-tls-key={key}",
            f"--peer-tls-ca={self.authority.file}",
        ]

    def start(self, name: str, *options: str) -> None:
        common = [f"--secret-file={self._directory / 'secret'}", "--suspicion=5", *options]
        self.processes[name] = Twistd(["-n", "--pidfile=", "dcounter", *common], self._directory)

    def start_node(self, node: int) -> None:
        others = [f"--peer={each}={self.peers[each]}" for each in NODES if each != node]
        own = [f"--id={node}", f"--data-dir={self._directory / str(node)}", *others]
        listen = f"--listen={self.peers[node].replace('127.0.0.1:', '')}:interface=127.0.0.1"
        secret = f"--secret-file={self._directory / 'secret'}"
        self.processes[str(node)] = Twistd(
            [
                "-n",
                "--pidfile=",
                "dcounter",
                "node",
                secret,
                "--suspicion=5",
                listen,
                *own,
                *self.tls(f"n{node}"),
            ],
            self._directory,
        )

    def start_coordinator(self, name: str, http: int, *tls: str) -> None:
        joined = [f"--join={peer}" for peer in self.peers]
        self.start(name, f"--http=tcp:{http}:interface=127.0.0.1", *joined, *tls)

    async def stop(self) -> list[str]:
        for each in self.processes.values():
            each.send_signal(signal.SIGTERM)
        return [ended.output for ended in await together(each.end() for each in self.processes.values())]


def speak(port: int, said: bytes, context: ssl.SSLContext | None) -> bytes:
    """
    What a port answers.
    """
    heard = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        suppress(OSError),
        plain if context is None else context.wrap_socket(plain) as there,
    ):
        there.sendall(said)
        while data := there.recv(65_536):
            heard += data
    return heard


@pytest_twisted.ensureDeferred
async def test_a_cluster_over_tls(tmp_path: Path, ports: Ports) -> None:
    machines = Machines(tmp_path, ports)
    for node in NODES:
        machines.start_node(node)
    machines.start_coordinator("coordinator", ports.http, *machines.tls("coordinator"))
    client = Client(ports.http)
    try:

        async def ready() -> bool:
            assert all(each.running for each in machines.processes.values())
            if not is_open(ports.http):
                return False
            answer = await client.ask("GET", "/readyz")
            return answer.status == 200 and answer.content["exact"] is True

        await eventually(ready, what="a ready cluster")
        # Large enough that it is sent in pieces, and that a copy of it is worth its name.
        await client.store(items(range(50_000), "tls" * 20), ack="all")
        assert await client.count("tls" * 20) == 50_000

        # A node that dies comes back.
        machines.processes["1"].send_signal(signal.SIGKILL)
        await machines.processes["1"].end()
        await client.store(items(range(50_000, 60_000), "tls" * 20))
        machines.start_node(1)
        await client.until_equal(60_000)

        # No word without TLS, none without a certificate of the cluster, and none of the protocol in between.
        port = ports.nodes[0]
        hello = b'{"type":"hello"}\n'
        assert b"{" not in await in_thread(partial(speak, port, hello, None))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        assert await in_thread(partial(speak, port, hello, context)) == b""
        context.load_cert_chain(*Authority(tmp_path, "foreign").issue("stranger"))
        assert await in_thread(partial(speak, port, hello, context)) == b""
        context.load_cert_chain(*machines.authority.issue("friend"))
        assert b"not a hello" in await in_thread(partial(speak, port, hello, context))

        async def told() -> bool:
            said = machines.processes["0"].output
            return all(
                each in said
                for each in (
                    "refused the certificate of 'stranger' (authority 'foreign'): its authority is not in",
                    "refused TLS with the other end: certificate verify failed",
                    "refused TLS with the other end: peer did not return a certificate",
                )
            )

        await eventually(told, what="the reasons in the log")

        # New certificates are read while it works.
        machines.tls("n0")
        machines.processes["0"].send_signal(signal.SIGHUP)

        async def read() -> bool:
            return machines.processes["0"].output.count("TLS uses the certificate in") == 2

        await eventually(read, what="the new certificate")
        machines.processes["2"].send_signal(signal.SIGKILL)
        await machines.processes["2"].end()
        machines.start_node(2)
        await client.until_equal(60_000)
    finally:
        await client.close()
        outputs = await machines.stop()
        print(*outputs, sep="\n\n")  # noqa: T201 - shown if the test fails
    assert [line for each in outputs for line in bad_lines(each) if " error " not in line] == []
