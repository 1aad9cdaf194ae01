"""
The command `dcounter` against a real daemon: what it writes, and how it ends.
"""

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import DCOUNTER, Client, Daemon, Ports, Twistd, eventually, is_open, items
from tests.support.certificates import Authority


class Shell:
    """
    Runs `dcounter`.

    :param port: of the daemon.
    """

    def __init__(self, port: int, directory: Path) -> None:
        self.directory = directory
        self._url = f"http://127.0.0.1:{port}"

    async def run(
        self, *arguments: str, status: int = 0, variables: Mapping[str, str] | None = None
    ) -> tuple[str, str]:
        """
        Run a command to its end, which must be that status; return its output and its remarks.
        """
        environment = {**os.environ, "DCOUNTER_URL": self._url, **(variables or {})}
        done: Any = await getProcessOutputAndValue(
            str(DCOUNTER), [*arguments], env=environment, path=str(self.directory)
        )
        out, err, code = done
        assert (code, b"Traceback" in err) == (status, False), err.decode()
        return out.decode(), err.decode()

    async def json(self, *arguments: str, status: int = 0) -> list[Any]:
        """
        The lines of JSON that a command writes.
        """
        out, _ = await self.run(*arguments, "--json", status=status)
        return [json.loads(line) for line in out.splitlines()]

    def begin(self, *arguments: str) -> Twistd:
        """
        Start a command.
        """
        return Twistd(["--url", self._url, *arguments], self.directory, program=DCOUNTER)

    async def bash(self, script: str) -> str:
        """
        What a script of bash writes.
        """
        environment = {
            **os.environ,
            "DCOUNTER_URL": self._url,
            "PATH": f"{DCOUNTER.parent}:{os.environ['PATH']}",
        }
        done: Any = await getProcessOutputAndValue(
            "/bin/bash", ["-c", script], env=environment, path=str(self.directory)
        )
        out, err, _ = done
        assert err == b""
        return str(out.decode())


@pytest.fixture
def shell(daemon: Daemon, tmp_path: Path) -> Shell:
    return Shell(daemon.ports.http, tmp_path)


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return str(path)


@pytest_twisted.ensureDeferred
async def test_every_command_answers_programs(
    shell: Shell, daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    ids = daemon.new_ids(30)
    file = write(tmp_path / "items", items(ids[:20], "a/x") + items(ids[20:], "a/y"))
    [put] = await shell.json("put", file)
    assert (put["items"], put["refused"], put["finished"]) == (30, 0, True)
    [counted] = await shell.json("count", "a/x", "a/y")
    assert [each["counter"] for each in counted["counts"]] == [20, 10]
    [found] = await shell.json("get", str(ids[0]))
    assert found["items"][0]["tenant"] == "a/x"
    assert await shell.json("tenants", "--prefix", "a/") == [
        {"tenant": "a/x", "counter": 20},
        {"tenant": "a/y", "counter": 10},
    ]
    assert [each["ID"] for each in await shell.json("items", "a/y")] == list(ids[20:])
    [top] = await shell.json("top", "1", "--prefix", "a/")
    assert top["tenants"] == [{"tenant": "a/x", "counter": 20}]
    [status] = await shell.json("status")
    assert (status["exact"], status["writes"], status["may_be_lost"], len(status["nodes"])) == (
        True,
        True,
        3,
        4,
    )
    header, *exported, end = await shell.json("export")
    assert (header["export"], end["end"]) == (1, True)
    assert {each["ID"] for each in exported} >= set(ids)
    assert await shell.json("delete", str(ids[20])) == [{"IDs": 1}]
    [erased] = await shell.json("erase", "a/x", "--yes")
    assert erased["deleted"] == 20
    [audited] = await shell.json("audit", "a/y", "--token-file", str(daemon.token))
    assert (audited["equal"], audited["counts"]) == (True, [{"tenant": "a/y", "counter": 9}])
    [last] = await shell.json("audit", "--last")
    assert last["last"]["digest"] == audited["digest"]
    [demo] = await shell.json("demo", "--seconds", "0.6")
    assert demo["updates"] > 0
    assert (await shell.json("demo", "--clean"))[0]["deleted"] > 0
    [bench] = await shell.json("bench", "--seconds", "0.2")
    assert bench["store"]["requests"] == sum(each["requests"] for each in bench["store"]["histogram"])
    assert await client.count_now("a%2Fy") == 9


@pytest_twisted.ensureDeferred
async def test_errors_have_statuses_and_are_told_once(shell: Shell, client: Client, ports: Ports) -> None:
    out, err = await shell.run("audit", "--json", status=4)
    error = json.loads(err)["error"]
    assert (out, error["code"], error["exit"]) == ("", "forbidden", 4)
    await shell.run("get", "999999999999", status=3)
    await shell.run("count", "--consistency", "perhaps", status=2)
    _, err = await shell.run("count", "--url", f"http://127.0.0.1:{ports.http}", status=5)
    assert err.startswith(f"dcounter: cannot reach http://127.0.0.1:{ports.http}: nothing listens there\n")
    await shell.run("count", "--token-file", "none", status=2)


@pytest_twisted.ensureDeferred
async def test_a_closed_pipe_ends_a_command_without_a_word(
    shell: Shell, daemon: Daemon, client: Client
) -> None:
    # More than a pipe holds.
    await client.store(items(daemon.new_ids(5_000), "pipe"))
    for command in ("export", "items pipe"):
        out = await shell.bash(
            f"dcounter {command} | head -n 1 > first; echo ${{PIPESTATUS[*]}}; wc -l < first"
        )
        assert out.split() == ["141", "0", "1"]


@pytest_twisted.ensureDeferred
async def test_ctrl_c_ends_a_command_in_order(shell: Shell, daemon: Daemon, client: Client) -> None:
    watching = shell.begin("events", "ctrl-c")
    number = 0

    async def told() -> bool:
        nonlocal number
        await client.store(items(daemon.new_ids(1), "ctrl-c"))
        return "ctrl-c" in watching.output

    await eventually(told, what="an event")
    watching.send_signal(signal.SIGINT)
    ended = await watching.end()
    assert (ended.signal, "Traceback" in ended.output) == (signal.SIGINT, False)

    waiting = shell.begin("put", "-")

    async def begun() -> bool:
        return "stamp of this run: " in waiting.output

    await eventually(begun, what="a run")
    waiting.send_signal(signal.SIGTERM)
    ended = await waiting.end()
    assert ended.signal == signal.SIGTERM
    assert "dcounter put - --stamp 20" in ended.output


@pytest_twisted.ensureDeferred
async def test_a_load_that_is_stopped_and_repeated_is_exact_although_the_primary_is_killed(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = await start_daemon(processes=True)
    daemon.expected += ["killed", "signal"]
    client = daemon.client()
    decide = random.Random(5)
    lines = [{"ID": decide.randrange(40_000), "tenant": f"t{decide.randrange(20)}"} for _ in range(60_000)]
    path = write(tmp_path / "items", lines)
    shell = Shell(daemon.ports.http, tmp_path)

    loading = shell.begin("put", path, "--parallel", "2")

    async def begun() -> bool:
        return any(each["items"] > 1_000 for each in await client.nodes())

    await eventually(begun, what="a load that has begun")
    cluster = await client.cluster()
    known = max(each["items"] for each in cluster["nodes"])
    os.kill(cluster["nodes"][cluster["primary"]]["pid"], signal.SIGKILL)

    async def goes_on() -> bool:
        return not loading.running or any(each["items"] > known + 1_000 for each in await client.nodes())

    await eventually(goes_on, what="a load that goes on without the primary")
    loading.send_signal(signal.SIGINT)
    ended = await loading.end()
    # However quick it was: it was stopped, or was done.
    assert ended.signal == signal.SIGINT or ended.output.count("stored 60,000 items") == 1
    [stamp] = {word for line in ended.output.splitlines() for word in line.split() if word.endswith("Z")}

    [put] = await shell.json("put", path, "--stamp", stamp)
    assert (put["items"], put["stamp"]) == (60_000, stamp)
    expected = Counter({each["ID"]: str(each["tenant"]) for each in lines}.values())
    assert await client.counts(expected) == expected
    await client.until_equal(sum(expected.values()))
    await client.close()


@pytest_twisted.ensureDeferred
async def test_the_daemon_runs_in_the_foreground(tmp_path: Path, ports: Ports) -> None:
    options = ["--in-memory", "--inline", f"--http=tcp:{ports.http}:interface=127.0.0.1"]
    serving = Twistd(["serve", *options, f"--node-port={ports.nodes[0]}"], tmp_path, program=DCOUNTER)
    shell = Shell(ports.http, tmp_path)

    async def ready() -> bool:
        assert serving.running
        return f":{ports.http}" in serving.output

    await eventually(ready, what="a daemon that listens")
    out, _ = await shell.run("count")
    assert out == "0 items of 0 tenants\n"
    serving.send_signal(signal.SIGINT)
    ended = await serving.end()
    assert (ended.code, ended.signal) in {(0, None), (None, signal.SIGINT)}
    assert "Traceback" not in ended.output
    assert os.listdir(tmp_path) == []
    out, _ = await shell.run("serve", "--help")
    assert "--node-port" in out
    _, err = await shell.run("serve", "--no-such-option", status=2)
    assert "no-such-option" in err


@pytest_twisted.ensureDeferred
async def test_a_daemon_on_a_unix_socket_is_called(tmp_path: Path, ports: Ports) -> None:
    url = f"unix:{tmp_path}/socket"
    shell = Shell(1, tmp_path)
    _, err = await shell.run("count", "--url", url, status=5)
    assert f"cannot reach {url}" in err
    options = ["--in-memory", "--inline", f"--http={url}", f"--node-port={ports.nodes[0]}"]
    serving = Twistd(["serve", *options], tmp_path, program=DCOUNTER)

    async def listens() -> bool:
        return (tmp_path / "socket").exists()

    await eventually(listens, what="a socket")
    out, _ = await shell.run("count", "--url", url)
    assert out == "0 items of 0 tenants\n"
    serving.send_signal(signal.SIGTERM)
    await serving.end()


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_asks_for_certificates_is_shown_one(tmp_path: Path, ports: Ports) -> None:
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.issue("both")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    options = [
        *("--in-memory", "--inline", f"--http=tcp:{ports.http}:interface=127.0.0.1"),
        *(f"--node-port={ports.nodes[0]}", f"--tls-cert={certificate}", f"--tls-key={key}"),
        f"--tls-client-ca={ours.file}",
    ]
    serving = Twistd(["serve", *options], tmp_path, program=DCOUNTER)
    shell = Shell(1, tmp_path)
    url = ["--url", f"https://localhost:{ports.http}"]

    async def listens() -> bool:
        return is_open(ports.http)

    await eventually(listens, what="a port")
    await shell.run("count", *url, "--cert", str(both), status=5)
    trust = {"SSL_CERT_FILE": str(ours.file)}
    out, _ = await shell.run("count", *url, "--cert", str(both), variables=trust)
    assert out == "0 items of 0 tenants\n"
    await shell.run("count", *url, variables=trust, status=6)
    serving.send_signal(signal.SIGTERM)
    await serving.end()


@pytest_twisted.ensureDeferred
async def test_shells_complete_words(tmp_path: Path) -> None:
    shell = Shell(1, tmp_path)
    for name in ("bash", "zsh", "fish"):
        out, _ = await shell.run("completion", name)
        assert f"_DCOUNTER_COMPLETE={name}_complete" in out
    script = """
        eval "$(dcounter completion bash)"
        complete -p dcounter
        COMP_WORDS=(dcounter to) COMP_CWORD=1
        _dcounter_completion dcounter
        echo "${COMPREPLY[*]}"
    """
    *_, completed = (await shell.bash(script)).splitlines()
    assert completed == "token top"
