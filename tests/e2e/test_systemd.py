"""
A daemon as a service of systemd, which the test is: it says how it is, and stops when callers have gone.
"""

import signal
import socket
from pathlib import Path

import pytest_twisted

from tests.e2e.harness import Client, Ports, Twistd, eventually
from tests.support.logs import bad_lines


@pytest_twisted.ensureDeferred
async def test_it_says_how_it_is_and_lets_callers_go_before_it_stops(tmp_path: Path) -> None:
    ports = Ports()
    told: list[str] = []
    options = [
        *(f"--http=tcp:{ports.http}:interface=127.0.0.1", f"--node-port={ports.nodes[0]}"),
        *("--in-memory", "--inline", "--nodes=1", "--drain-delay=60"),
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)

        async def says(word: str) -> bool:
            try:
                while True:
                    told.extend(systemd.recv(65_536).decode().split("\n"))
            except BlockingIOError:
                return word in told

        process = Twistd(
            ["-n", "--pidfile=", "dcounter", *options],
            tmp_path,
            variables={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"},
        )
        client = Client(ports.http)
        try:
            await eventually(lambda: says("READY=1"), what="a daemon that is ready")
            # Nobody has to ask again: it was ready before it said so.
            assert (await client.ask("GET", "/readyz")).status == 200
            assert "STATUS=ready, counts are exact, 1 of 1 nodes are up" in told
            told.clear()
            await eventually(lambda: says("WATCHDOG=1"), what="a daemon that lives")
            process.send_signal(signal.SIGHUP)
            await eventually(lambda: says("READY=1"), what="a daemon that has read its files again")
            assert "RELOADING=1" in told
            process.send_signal(signal.SIGTERM)
            await eventually(lambda: says("STOPPING=1"), what="a daemon that stops")
            answers = [(await client.ask("GET", path)).status for path in ("/healthz", "/readyz", "/livez")]
            assert answers == [503, 503, 200]
            await client.store([{"ID": 1, "tenant": "late"}])
            # A second signal does not wait.
            process.send_signal(signal.SIGTERM)
            ended = await process.end()
        finally:
            await client.close()
            process.send_signal(signal.SIGKILL)
            ports.release()
    assert ended.code == 0
    assert bad_lines(ended.output) == []
