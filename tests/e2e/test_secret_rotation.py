"""
The secret of a cluster is changed while callers store and count: nothing is refused, and nothing is lost.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

from tests.e2e.conftest import CALM, StartDaemon
from tests.e2e.harness import Client, Ports, Twistd, eventually, is_open, items, together

_PAGE = Path(__file__).parents[2] / "docs" / "securing.md"

OLD, NEW = "the old secret of this cluster", "the new secret of this cluster"
REFUSALS = r"does not have this cluster's secret|another cluster, or another secret"


class Load:
    """
    A caller that stores and counts until it is told to stop.

    :ivar stored: how many items were acknowledged.
    """

    def __init__(self, client: Client, tenant: str) -> None:
        self.stored = 0
        self._client = client
        self._tenant = tenant
        self._over = False
        self._running = Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        while not self._over:
            await self._client.store(items(range(self.stored, self.stored + 10), self._tenant))
            self.stored += 10
            assert await self._client.count(self._tenant) == self.stored

    async def goes_on(self) -> None:
        """
        Wait until some more is stored.
        """
        wanted = self.stored + 30

        async def more() -> bool:
            if self._running.called:
                await self._running
            return self.stored >= wanted

        await eventually(more, what="further writes")

    async def end(self) -> int:
        self._over = True
        await self._running
        return self.stored


async def until_accepted(client: Client, secrets: int) -> None:
    """
    Wait until the coordinator and all nodes say that they accept so many secrets.
    """

    async def all_do() -> bool:
        cluster = await client.cluster()
        accepted = {each["secrets_accepted"] for each in [cluster, *cluster["nodes"]]}
        return accepted == {secrets} and all(each["state"] == "up" for each in cluster["nodes"])

    await eventually(all_do, what=f"{secrets} accepted secrets")


async def rotate(
    client: Client,
    place: list[Callable[[Sequence[str]], None]],
    secrets: tuple[str, str],
    restart: Callable[[int], Awaitable[None]],
) -> None:
    """
    Change the secret in three steps, and kill a node and start it again before, between and after them.

    :param place: gives secrets to each process.
    :param restart: kills a node, and starts it again.
    """
    old, new = secrets
    load = Load(client, "rotated")
    await load.goes_on()
    token = (await client.store(items([10_000_000], "other")))["position"]
    for step, accepted in enumerate([(old, new), (new, old), (new,)]):
        # In another order of the machines each time.
        for give in place[step:] + place[:step]:
            give(accepted)
            await load.goes_on()
        await until_accepted(client, len(accepted))
        await restart(step)
        await until_accepted(client, len(accepted))
        assert await client.count_now("other") == 1
        # What the step before sealed is still valid.
        assert (await client.ask_count("other", after=token)).ok()["counter"] == 1
        token = (await client.store(items([10_000_001 + step], "another")))["position"]
    stored = await load.end()
    await client.until_equal(stored + 4)
    assert await client.count("rotated") == stored


def script(begin: str) -> str:
    """
    The commands of the page that begin so.
    """
    section = _PAGE.read_text().split("\n## Changing the secret\n")[1].split("\n## ")[0]
    [found] = [
        each for each in re.findall(r"\n```sh\n(.*?)```\n", section, re.DOTALL) if each.startswith(begin)
    ]
    return str(found)


class Machines:
    """
    Three nodes by themselves and a coordinator, each with a file of its own for the secret.
    """

    NODES = range(3)

    def __init__(self, directory: Path, ports: Ports) -> None:
        self._directory = directory
        self._ports = ports
        self.peers = [f"tcp:127.0.0.1:{ports.nodes[30 * node]}" for node in self.NODES]
        self.processes: dict[str, Twistd] = {}
        self.outputs: list[str] = []
        self.cluster = ""
        for name in ("c", *map(str, self.NODES)):
            self._file(name).write_text(OLD)

    def _file(self, name: str) -> Path:
        return self._directory / f"secret-{name}"

    def give(self, name: str, accepted: Sequence[str]) -> None:
        """
        Put secrets into the file of a process, as the page says, and tell it.
        """
        used, *others = accepted
        commands = script("umask 077\nprintf")
        if not others:
            commands = commands.replace(' "$NEW"', "")
        commands = re.sub(r"\bsecret\b", f"secret-{name}", commands)
        secrets = {"CLUSTER": self.cluster, "OLD": used, "NEW": "".join(others)}
        pid = str(self.processes[name].pid)
        subprocess.run(
            ["/bin/sh", "-ec", commands], cwd=self._directory, env={**secrets, "PID": pid}, check=True
        )

    def start(self, name: str, *options: str) -> None:
        self.processes[name] = Twistd(
            ["-n", "--pidfile=", "dcounter", *options, f"--secret-file={self._file(name)}", CALM],
            self._directory,
        )

    def start_node(self, node: int) -> None:
        others = [f"--peer={each}={self.peers[each]}" for each in self.NODES if each != node]
        listen = f"--listen={self.peers[node].replace('127.0.0.1:', '')}:interface=127.0.0.1"
        data = f"--data-dir={self._directory / f'data-{node}'}"
        self.start(str(node), "node", f"--id={node}", listen, data, *others)

    def start_coordinator(self) -> None:
        joined = [f"--join={peer}" for peer in self.peers]
        self.start("c", f"--http=tcp:{self._ports.http}:interface=127.0.0.1", *joined)

    async def kill(self, name: str) -> None:
        process = self.processes[name]
        process.send_signal(signal.SIGKILL)
        self.outputs.append((await process.end()).output)

    async def restart(self, node: int) -> None:
        await self.kill(str(node))
        self.start_node(node)

    async def stop(self) -> list[str]:
        running = [each for each in self.processes.values() if each.running]
        for each in running:
            each.send_signal(signal.SIGTERM)
        return [*self.outputs, *(ended.output for ended in await together(each.end() for each in running))]


async def until_ready(client: Client, port: int) -> None:
    async def ready() -> bool:
        if not is_open(port):
            return False
        answer = await client.ask("GET", "/readyz")
        return bool(answer.status == 200 and answer.content["exact"])

    await eventually(ready, what="a ready cluster")


@pytest_twisted.ensureDeferred
async def test_machines(tmp_path: Path, ports: Ports) -> None:
    machines = Machines(tmp_path, ports)
    for node in machines.NODES:
        machines.start_node(node)
    machines.start_coordinator()
    client = Client(ports.http)
    outputs: list[str] = []
    try:
        await until_ready(client, ports.http)
        machines.cluster = (await client.cluster())["cluster"]

        def giver(name: str) -> Callable[[Sequence[str]], None]:
            return lambda accepted: machines.give(name, accepted)

        await rotate(client, [giver(name) for name in ("0", "c", "1", "2")], (OLD, NEW), machines.restart)
        assert not re.findall(REFUSALS, "".join(each.output for each in machines.processes.values()))
        assert not re.findall(REFUSALS, "".join(machines.outputs))

        # A coordinator that starts later finds the cluster, too.
        await machines.kill("c")
        machines.start_coordinator()
        await until_ready(client, ports.http)

        # A node that has the old secret only is left out, and says why.
        await machines.kill("2")
        machines._file("2").write_text(f"cluster {machines.cluster}\n{OLD}\n")  # noqa: SLF001
        machines.start_node(2)

        async def refused() -> bool:
            return bool(re.search(REFUSALS, machines.processes["0"].output))

        await eventually(refused, what="the refusal of the old secret")
        assert (await client.nodes())[2]["state"] == "down"
        machines.give("2", (NEW,))
        await client.until_equal()
    finally:
        await client.close()
        outputs = await machines.stop()
        print(*outputs, sep="\n")  # noqa: T201 - shown if the test fails
    assert not any("Traceback" in each or OLD in each or NEW in each for each in outputs)


@pytest_twisted.ensureDeferred
async def test_a_daemon_and_its_nodes(tmp_path: Path, start_daemon: StartDaemon) -> None:
    daemon = await start_daemon(processes=True)
    client = daemon.client()
    file = tmp_path / "data" / "cluster.json"
    before: dict[str, Any] = json.loads(file.read_bytes())
    (tmp_path / "dcounter-data").symlink_to("data")
    new, steps = "02" * 32, script("cd dcounter-data")
    done: list[int] = []

    def give(accepted: Sequence[str]) -> None:
        done.append(len(done) + 1)
        others = rf"^change .*# step (?!{done[-1]}\n).*\n"
        commands = re.sub(others, "", steps.replace("change()", f"NEW={new}\nchange()"), flags=re.MULTILINE)
        given = {**os.environ, "PID": str(daemon.pid)}
        subprocess.run(["/bin/sh", "-ec", commands], cwd=tmp_path, env=given, check=True)
        now = json.loads(file.read_bytes())
        assert [now["secret"], *now.get("accepted", [])] == list(accepted)

    async def restart(node: int) -> None:
        pid = (await client.nodes())[node]["pid"]
        os.kill(pid, signal.SIGKILL)

        async def another() -> bool:
            there = (await client.nodes())[node]
            return bool(there["pid"] != pid and there["state"] == "up")

        await eventually(another, what="another process of the node")

    await rotate(client, [give], (before["secret"], new), restart)
    assert not re.findall(REFUSALS, daemon.log)
    await client.close()
    await daemon.stop()
    assert before["secret"] not in daemon.log

    # The cluster is the same, and its data is there.
    again = await start_daemon(processes=True, ports=Ports())
    client = again.client()
    assert await client.count("other") == 1
    assert (await client.cluster())["cluster"] == before["cluster"]
    await client.close()
