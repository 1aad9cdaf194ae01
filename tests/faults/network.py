"""
Nodes that run by themselves, each in a network of its own, and cables between them that can be cut.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.faults.processes import Caller, NoAnswer, Process, dcounter, wait_until

_SUBNET = "10.199.77"
_OUTSIDE = 1
_COORDINATOR = 9
_FIRST_NODE = 10
_PORT = 7000
_HTTP = 8085


def run(*command: str, given: str | None = None) -> None:
    """
    Run a command of the system, which must succeed.
    """
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@dataclass(slots=True)
class Network:
    """
    A switch with a cable to each of some namespaces, and one to us.
    """

    name: str = field(default_factory=lambda: f"dc{os.getpid() % 100_000}")
    places: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        run("ip", "link", "add", self.name, "type", "bridge")
        try:
            run("ip", "address", "add", f"{_SUBNET}.{_OUTSIDE}/24", "dev", self.name)
            run("ip", "link", "set", self.name, "up")
            self._add("c", _COORDINATOR)
            for node in range(4):
                self._add(str(node), _FIRST_NODE + node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for place in self.places:
            # A namespace lives as long as anything that was sent there: its cable is to go now.
            subprocess.run(["ip", "link", "delete", self._namespace(place)], check=False, timeout=30)
            subprocess.run(["ip", "netns", "delete", self._namespace(place)], check=False, timeout=30)
        subprocess.run(["ip", "link", "delete", self.name], check=False, timeout=30)

    def _namespace(self, place: str) -> str:
        return f"{self.name}-{place}"

    def _add(self, place: str, number: int) -> None:
        namespace, outside = self._namespace(place), self._namespace(place)
        run("ip", "netns", "add", namespace)
        self.places[place] = address = f"{_SUBNET}.{number}"
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "link", "set", outside, "master", self.name, "up")
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")

    def inside(self, place: str) -> list[str]:
        """
        What to put before a command so that it runs there.
        """
        return ["ip", "netns", "exec", self._namespace(place)]

    def unplug(self, place: str) -> None:
        run("ip", "link", "set", self._namespace(place), "down")

    def plug(self, place: str) -> None:
        run("ip", "link", "set", self._namespace(place), "up")

    def drop(self, place: str, *, arriving: bool, leaving: bool, other: str | None = None) -> None:
        """
        Lose packets that arrive at a place, or leave it; all of them, or those from or to another place.
        """
        rules = []
        for wanted, chain, source in ((arriving, "input", "ip saddr"), (leaving, "output", "ip daddr")):
            if wanted:
                device = "iifname" if chain == "input" else "oifname"
                which = f"{source} {self.places[other]}" if other else f'{device} "eth0"'
                hook = f"type filter hook {chain} priority 0;"
                rules.append(f"chain {chain} {{\n{hook}\n{which} drop\n}}\n")
        run(*self.inside(place), "nft", "-f", "-", given=f"table inet cut {{\n{''.join(rules)}}}\n")

    def heal(self, place: str) -> None:
        """
        Lose nothing any more.
        """
        run(*self.inside(place), "nft", "delete", "table", "inet", "cut")


@dataclass(slots=True)
class Cluster:
    """
    Four nodes and a coordinator, each a process of its own in a namespace of its own.

    :ivar options: what every node is started with beyond the places.
    """

    network: Network
    directory: Path
    options: Sequence[str] = ()
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def secret(self) -> Path:
        return self.directory / "secret"

    def data(self, node: int) -> Path:
        return self.directory / f"node-{node}"

    def caller(self) -> Caller:
        return Caller(_HTTP, self.network.places["c"])

    def start(self, environments: Mapping[int, Mapping[str, str]] | None = None) -> None:
        """
        Start all, and wait until they take items and count exactly.

        :param environments: what some nodes find in their environment.
        """
        self.secret.write_text("a secret of at least sixteen bytes")
        for node in range(4):
            self.start_node(node, (environments or {}).get(node))
        self.start_coordinator()
        self.until_ready()

    def start_node(self, node: int, environment: Mapping[str, str] | None = None) -> None:
        places = self.network.places
        command = dcounter(
            *("node", f"--id={node}", f"--data-dir={self.data(node)}", f"--secret-file={self.secret}"),
            f"--listen=tcp:{_PORT}:interface={places[str(node)]}",
            *(f"--peer={peer}=tcp:{places[str(peer)]}:{_PORT}" for peer in range(4) if peer != node),
            *self.options,
        )
        self._start(str(node), command, environment)

    def start_coordinator(self, environment: Mapping[str, str] | None = None) -> None:
        places = self.network.places
        command = dcounter(
            f"--http=tcp:{_HTTP}:interface={places['c']}",
            "--insecure",
            f"--secret-file={self.secret}",
            *(f"--join=tcp:{places[str(node)]}:{_PORT}" for node in range(4)),
            *self.options,
        )
        self._start("c", command, environment)

    def _start(self, place: str, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        log = self.directory / f"{place}.log"
        self.processes[place] = Process.start([*self.network.inside(place), *command], log, environment)

    def until_ready(self) -> None:
        caller = self.caller()

        def ready() -> bool:
            for each in self.processes.values():
                assert each.popen.poll() is None, f"a process ended:\n{each.text()[-4000:]}"
            try:
                answer = caller.ask("GET", "/readyz")
            except NoAnswer:
                return False
            return answer.status == 200 and answer.content["exact"] is True

        wait_until(ready, "a ready cluster")
        caller.close()

    def stop(self) -> None:
        """
        Stop all in order: the coordinator, then the nodes at once.
        """
        assert self.processes.pop("c").stop() in {0, -15}
        for each in self.processes.values():
            each.popen.terminate()
        for each in self.processes.values():
            assert each.stop() in {0, -15}

    def bad_lines(self) -> list[str]:
        return [line for each in self.processes.values() for line in each.bad_lines()]

    def close(self) -> None:
        """
        End whatever is left.
        """
        for each in self.processes.values():
            each.kill()
