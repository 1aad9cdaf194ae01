"""
Starts and stops what is measured: the daemon as its users start it, and the peers as theirs would.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.processes import family, free_port, memory, processor_seconds, settle

_BIN: Final = Path(sys.executable).parent
_PATIENCE: Final = 300.0
# Below the ports that the kernel gives to callers; each daemon passes over up to 100.
_node_ports: Final = count(20_000, 100)


class ServerFailed(Exception):
    """
    A server does not start, or does not do what it must.
    """


def ask(port: int, path: str, body: bytes | None = None, *, timeout: float = 30.0) -> tuple[int, Any]:
    """
    One request on a connection of its own.

    :returns: status and decoded body.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        return answer.status, msgspec.json.decode(answer.read())
    finally:
        connection.close()


class Server(ABC):
    """
    A server under measurement.

    :cvar name: what it is called in results.
    :cvar counts: whether it stores and counts; ceilings do not.
    """

    name: str
    counts = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def start(self) -> None:
        """
        Start it, and return when it answers.
        """

    def drain(self) -> None:  # noqa: B027 - with one copy there is nothing to wait for
        """
        Return when every copy has all that was answered.
        """

    def pids(self) -> list[int]:
        return [pid for process in self._processes for pid in family(process.pid)]

    def settle(self) -> None:
        settle(self.pids())

    def processor_seconds(self) -> float:
        return processor_seconds(self.pids())

    def front_seconds(self) -> float:
        """
        Processor time of the process that speaks HTTP, which is started last, without its children's.
        """
        return processor_seconds([self._processes[-1].pid])

    def stop(self) -> None:
        """
        Stop it in order, the process that was started last first.
        """
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def run(self, *command: str | Path, **environment: str) -> None:
        """
        Start a process whose output goes to a log in the folder. Ctrl-C is for us, not for it.
        """
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
                start_new_session=True,
            )
        self._processes.append(process)

    def _await(self, path: str = "/items/nobody/count") -> None:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            if any(process.poll() is not None for process in self._processes):
                break
            try:
                if ask(self.port, path)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        log = (self.folder / "log").read_text(errors="replace")
        raise ServerFailed(f"{self.name} does not start:\n{log[-3000:]}")


class Daemon(Server):
    """
    dcounter with its default settings: four node processes, on disk, ack=node.
    """

    name = "dcounter"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._node_port = next(_node_ports)
        self._markers = count(-(2**62))

    def start(self) -> None:
        self.launch()
        self.wait()

    def wait(self) -> None:
        """
        Return when all nodes take items.
        """
        self._await("/readyz")

    def launch(self) -> None:
        """
        Start it, and wait for nothing.
        """
        self.run(
            _BIN / "twistd",
            *["-n", "--pidfile=", "dcounter"],
            f"--http=tcp:{self.port}:interface=127.0.0.1",
            f"--node-port={self._node_port}",
            f"--data-dir={self.folder / 'data'}",
        )

    def kill(self) -> None:
        """
        Kill all its processes: no goodbye.
        """
        # The daemon first, or it would start its nodes again. They end with it, perhaps before their turn.
        pids = self.pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()
        self._processes.clear()
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            time.sleep(0.01)

    def nodes(self) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = ask(self.port, "/cluster")[1]["nodes"]
        return nodes

    def drain(self) -> None:
        """
        Store one item at each node, until all of it is on the disk of every node.

        A node's log is copied in order: with these items all before them have arrived, too. To ask
        /cluster would tell it up to a heartbeat late.
        """
        until = time.monotonic() + _PATIENCE
        nodes = len(self.nodes())
        while time.monotonic() < until:
            items = [{"ID": next(self._markers), "tenant": "drained"} for _ in range(nodes)]
            status, _ = ask(self.port, "/items?ack=all", msgspec.json.encode(items))
            if status == 200:
                return
        raise ServerFailed("the nodes do not become equal")

    def settle(self) -> None:
        """
        Besides: what `drain` took for certain must be true.
        """
        super().settle()
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            nodes = self.nodes()
            if all(node["lag"] == 0 and node["applied"] == nodes[0]["applied"] for node in nodes):
                return
            time.sleep(0.1)
        raise ServerFailed(f"the nodes are not equal after a drain: {self.nodes()}")

    def disk_bytes(self) -> int:
        """
        Bytes in the files of all nodes.
        """
        return sum(path.stat().st_size for path in (self.folder / "data").rglob("*") if path.is_file())

    def node_memory(self) -> int:
        """
        Bytes of memory of an average node.
        """
        pids = [node["pid"] for node in self.nodes()]
        return sum(map(memory, pids)) // len(pids)


class _OverRedis(Server):
    """
    A service over a Redis of its own that syncs to disk before it answers.
    """

    def start(self) -> None:
        # Snapshots beside the append-only file would only cost time.
        self.run(
            "redis-server",
            *("--unixsocket", self._socket, "--dir", self.folder, "--save", ""),
            *["--port", "0", "--appendonly", "yes", "--appendfsync", "always"],
        )
        _await_file(Path(self._socket))
        self._serve()
        self._await()

    @abstractmethod
    def _serve(self) -> None:
        """
        Start the service.
        """

    @property
    def _socket(self) -> str:
        return str(self.folder / "socket")

    def used_memory(self) -> int:
        """
        Bytes that Redis has allocated.
        """
        info = subprocess.run(
            ["redis-cli", "-s", self._socket, "info", "memory"], capture_output=True, text=True, check=True
        ).stdout
        return int(info.split("used_memory:")[1].split()[0])


class FastApiRedis(_OverRedis):
    """
    One uvicorn worker.
    """

    name = "FastAPI + Redis"

    def _serve(self) -> None:
        _run_uvicorn(self, "fastapi_redis", BENCH_REDIS=self._socket)


class NodeRedis(_OverRedis):
    """
    One process of Node.js.
    """

    name = "Node.js + Redis"

    def _serve(self) -> None:
        self.run(
            *("node", Path(__file__).parent / "peers/node_redis/server.mjs"),
            NODE_ENV="production",
            BENCH_REDIS=self._socket,
            BENCH_PORT=str(self.port),
        )


class FastApiPostgres(Server):
    """
    One uvicorn worker, and a PostgreSQL with the settings it comes with.
    """

    name = "FastAPI + PostgreSQL"

    def start(self) -> None:
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        data = self.folder / "data"
        as_user: list[str] = []
        if os.geteuid() == 0:
            # It refuses to run as root.
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(self.folder, "postgres", "postgres")
        if not data.exists():
            subprocess.run(
                [*as_user, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust"],
                check=True,
                capture_output=True,
                cwd="/",
            )
        self.run(
            *as_user,
            *(programs / "postgres", "-D", data, "-k", self.folder),
            *["-c", "listen_addresses=", "-c", "synchronous_commit=on"],
        )
        _await_file(self.folder / ".s.PGSQL.5432")
        _run_uvicorn(
            self, "fastapi_postgres", BENCH_POSTGRES=f"postgresql://postgres@/postgres?host={self.folder}"
        )
        self._await()

    def stop(self) -> None:
        # "Fast": it does not wait for those who are connected.
        self._processes[0].send_signal(signal.SIGINT)
        super().stop()


class _Ceiling(Server):
    counts = False
    kind: str

    def start(self) -> None:
        self.run(sys.executable, "-m", "benchmarks.peers.ceilings", self.kind, str(self.port))
        self._await()


class BareKlein(_Ceiling):
    """
    A Klein route that decodes the body.
    """

    name = "bare Klein"
    kind = "klein"


class BareResource(_Ceiling):
    """
    A resource of twisted.web that decodes the body.
    """

    name = "bare twisted.web"
    kind = "resource"


def check(server: Server) -> None:
    """
    What a server must be able to do before its speed is of interest.

    :raises ServerFailed: it cannot.
    """

    def store(*items: tuple[int, str, str | None]) -> None:
        content = [{"ID": id, "tenant": tenant, "lastUpdateDt": stamp} for id, tenant, stamp in items]
        status, answer = ask(server.port, "/items", msgspec.json.encode(content))
        if status != 200:
            raise ServerFailed(f"{server.name}: {status} {answer}")

    def expect(**counts: int) -> None:
        for tenant, expected in counts.items():
            status, answer = ask(server.port, f"/items/{tenant}/count")
            if status != 200 or answer["counter"] != expected:
                raise ServerFailed(f"{server.name}: {tenant} has {expected} items, not {status} {answer}")

    if not server.counts:
        return
    store((-1, "one", None), (-2, "two", None))
    expect(one=1, two=1)
    store((-1, "two", None))
    expect(one=0, two=2)
    # Late: what is newer stays.
    store((-1, "one", "2020-01-01T00:00:00Z"))
    expect(one=0, two=2)
    # Twice in one request: the last one counts.
    store((-2, "one", None), (-2, "three", None))
    expect(one=0, two=1, three=1)
    # Again, and both at once.
    store((-3, "one", "2021-01-01T00:00:00Z"), (-3, "one", "2021-01-01T00:00:00Z"))
    expect(one=1, two=1, three=1)
    status, _ = ask(server.port, "/items", b'[{"ID":"4","tenant":"one"}]')
    if status != 422:
        raise ServerFailed(f"{server.name}: takes what is no item")


def _run_uvicorn(server: Server, app: str, **environment: str) -> None:
    server.run(
        _BIN / "uvicorn",
        f"benchmarks.peers.{app}:app",
        f"--port={server.port}",
        *["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"],
        **environment,
    )


def _await_file(path: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            raise ServerFailed(f"there is no {path}")
        time.sleep(0.01)
