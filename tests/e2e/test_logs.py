"""
The log of real daemons: nobody reads it, it is moved away, and it is short.
"""

import json
import os
import pty
import re
import signal
from pathlib import Path
from typing import Any

import pytest_twisted

from tests.e2e.harness import Client, Ports, Twistd, eventually, is_open, pause

_MOST_LINES = 25
"""
Lines of a start and a stop with four nodes.
"""


def _options(ports: Ports, directory: Path) -> list[str]:
    return [
        f"--http=tcp:{ports.http}:interface=127.0.0.1",
        f"--node-port={ports.nodes[0]}",
        f"--data-dir={directory / 'data'}",
    ]


async def _until_ready(process: Twistd, ports: Ports) -> None:
    client = Client(ports.http)

    async def ready() -> bool:
        assert process.running, process.output
        return is_open(ports.http) and (await client.ask("GET", "/readyz")).status == 200

    try:
        await eventually(ready, what="a ready daemon")
    finally:
        await client.close()


async def _stop(process: Twistd) -> str:
    process.send_signal(signal.SIGTERM)
    ended = await process.end()
    assert ended.code == 0, ended
    return ended.output


@pytest_twisted.ensureDeferred
async def test_a_start_and_a_stop_write_few_lines(tmp_path: Path) -> None:
    ports = Ports()
    process = Twistd(["-n", "--pidfile=", "dcounter", *_options(ports, tmp_path)], tmp_path)
    try:
        await _until_ready(process, ports)
        lines = (await _stop(process)).splitlines()
    finally:
        process.send_signal(signal.SIGKILL)
        ports.release()
    assert len(lines) <= _MOST_LINES, "\n".join(lines)
    noise = ("Scheduling retry", "Starting factory", "Stopping factory", "Main loop terminated")
    assert not [line for line in lines if any(each in line for each in noise)]


@pytest_twisted.ensureDeferred
async def test_files_of_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    imported = tmp_path / "imported"
    for name in ("secrets", "queue", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(imported)!r}, 'a').write({name!r})\n")
    ports = Ports()
    process = Twistd(["-n", "--pidfile=", "dcounter", *_options(ports, tmp_path)], tmp_path)
    try:
        await _until_ready(process, ports)
        await _stop(process)
    finally:
        process.send_signal(signal.SIGKILL)
        ports.release()
    assert not imported.exists()


@pytest_twisted.ensureDeferred
async def test_sighup_opens_the_log_file_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ports = Ports()
    process = Twistd(
        ["-n", "--pidfile=", f"--logfile={log}", "dcounter", *_options(ports, tmp_path)], tmp_path
    )
    client = Client(ports.http)

    async def reopened() -> bool:
        return log.exists() and "received SIGHUP: opened the log file" in log.read_text()

    try:
        await _until_ready(process, ports)
        log.rename(tmp_path / "old")
        process.send_signal(signal.SIGHUP)
        await eventually(reopened, what="a new log file")
        assert (await client.ask("GET", "/readyz")).ok()
        await _stop(process)
    finally:
        await client.close()
        process.send_signal(signal.SIGKILL)
        ports.release()
    assert log.read_text().rstrip().endswith("stopped")


@pytest_twisted.ensureDeferred
async def test_a_daemon_whose_output_nobody_reads_answers(tmp_path: Path) -> None:
    ports = Ports()
    options = [*_options(ports, tmp_path)[:2], "--in-memory", "--inline", "--nodes=1"]
    process = Twistd(["-n", "--pidfile=", "dcounter", *options], tmp_path)
    client = Client(ports.http)

    async def log_much() -> None:
        # Each is a line. What comes at once is one signal.
        for _ in range(500):
            process.send_signal(signal.SIGUSR2)
            await pause(0)

    async def full() -> bool:
        before = process.unread()
        await log_much()
        assert (await client.ask("GET", "/readyz")).ok()
        return 0 < before == process.unread()

    async def all_read() -> bool:
        return process.output.rstrip().endswith(
            "received SIGHUP: the log is not a file, so there is nothing to open again"
        )

    try:
        await _until_ready(process, ports)
        process.read_output(False)
        await eventually(full, what="a full pipe")
        for _ in range(4):
            await log_much()
            assert (await client.ask("GET", "/readyz")).ok()
        process.read_output(True)
        await pause()
        process.send_signal(signal.SIGHUP)
        await eventually(all_read, what="the rest of the log")
        await _stop(process)
    finally:
        await client.close()
        process.send_signal(signal.SIGKILL)
        ports.release()


@pytest_twisted.ensureDeferred
async def test_json_for_programs_and_another_level_at_sighup(tmp_path: Path) -> None:
    ports = Ports()
    file = tmp_path / "dcounter.toml"
    file.write_text('nodes = 2\nlog-format = "json"\n')
    process = Twistd(
        ["-n", "--pidfile=", "dcounter", f"--config={file}", *_options(ports, tmp_path)], tmp_path
    )

    def entries() -> list[dict[str, Any]]:
        # The last line may not be complete.
        return [json.loads(line) for line in process.output.split("\n")[:-1]]

    async def debugs() -> bool:
        return {0, 1} <= {each.get("node") for each in entries() if each["level"] == "debug"}

    try:
        await _until_ready(process, ports)
        assert not [each for each in entries() if each["level"] not in ("info", "warn")]
        file.write_text('nodes = 2\nlog-format = "json"\nlog-level = "debug"\n')
        process.send_signal(signal.SIGHUP)
        await eventually(debugs, what="entries of both nodes for debugging")
        await _stop(process)
    finally:
        process.send_signal(signal.SIGKILL)
        ports.release()
    told = [
        each for each in entries() if each.get("template") == "{name} is {new} now, it was {old} ({source})"
    ]
    assert [each["fields"]["new"] for each in told] == ["debug"]
    assert "stopped" in {each["message"] for each in entries()}


@pytest_twisted.ensureDeferred
async def test_a_terminal_shows_what_to_try(tmp_path: Path) -> None:
    ports = Ports()
    outer, inner = pty.openpty()
    options = [*_options(ports, tmp_path)[:2], "--in-memory", "--inline", "--nodes=1"]
    process = Twistd(["-n", "--pidfile=", "dcounter", *options], tmp_path, terminal=inner)
    client = Client(ports.http)
    try:
        await _until_ready(process, ports)
        await _stop(process)
        os.set_blocking(outer, False)
        shown = os.read(outer, 65_536).decode().replace("\r\n", "\n")
        [(url, body)] = re.findall(r"Try +curl (\S+)/items -d '(.*)'\n", shown)
    finally:
        await client.close()
        process.send_signal(signal.SIGKILL)
        ports.release()
        os.close(outer)
        os.close(inner)
    assert url == f"http://127.0.0.1:{ports.http}"
    assert json.loads(body) == [{"ID": 1, "tenant": "hello"}]
    assert f"Dashboard   {url}/\n" in shown
    assert re.search(r"^\d\d:\d\d:\d\d info  stopped$", shown, re.MULTILINE)
    assert "\x1b" not in shown
