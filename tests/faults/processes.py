"""
Real processes, to be killed, frozen, cut off and counted, and a caller of their HTTP.

Everything here is plain and synchronous: writers are threads, and a test waits by looking again and again.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from dcounter.client import Answer, count_path, target
from tests.e2e.harness import Ports
from tests.faults.recording import recorded
from tests.support.logs import bad_lines

DEADLINE = 60.0
"""
Time (s) after which a test that waits for a condition fails: generous, since a passing test waits less.
"""

_PAUSE = 0.02
"""
Time (s) between two looks at what should become true.
"""

Json = Any

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], what: str, *, within: float = DEADLINE) -> _T:
    """
    Ask until the answer is true; return it.
    """
    until = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < until, f"{what} did not come true within {within:g} s: {answer!r}"
        time.sleep(_PAUSE)


class NoAnswer(Exception):
    """
    The connection failed.

    :ivar sent: whether the other end may have received the request.
    """

    def __init__(self, error: Exception, *, sent: bool) -> None:
        super().__init__(repr(error))
        self.sent = sent


class Caller:
    """
    One connection to a daemon's HTTP, made again when it is gone; for one thread at a time.

    It is no `dcounter.client.Client`: writers are threads, and there is no reactor in a thread.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", timeout: float = 15.0) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self._authorization: str | None = None

    def close(self) -> None:
        self._connection.close()

    def remove(self, node: int, data: Path) -> Answer:
        """
        `POST /cluster/remove` with the operator's token of a data directory.
        """
        return self._operate("remove", node, data)

    def restart(self, node: int, data: Path) -> Answer:
        """
        `POST /cluster/restart`, with the same.
        """
        return self._operate("restart", node, data)

    def _operate(self, what: str, node: int, data: Path) -> Answer:
        self._authorization = f"Bearer {(data / 'operator-token').read_text().strip()}"
        try:
            return self.ask("POST", f"/cluster/{what}", {"node": node})
        finally:
            self._authorization = None

    def ask(self, method: str, path: str, content: Json = None, **parameters: str) -> Answer:
        """
        One request, sent once.

        :raises NoAnswer: nobody knows what became of it.
        """
        connection = self._connection
        sent = False
        body = None if content is None else json.dumps(content, separators=(",", ":")).encode()
        try:
            if connection.sock is None:
                connection.connect()
            sent = True
            headers = {"Content-Type": "application/json"}
            if self._authorization is not None:
                headers["Authorization"] = self._authorization
            connection.request(method, target(path, parameters), body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(error, sent=sent) from error

    def count(self, tenant: str, **parameters: str) -> Answer:
        return self.ask("GET", count_path(tenant), **parameters)

    def exact_count(self, tenant: str, *, within: float = DEADLINE) -> int:
        """
        The count; as long as there is no exact one, ask again.
        """

        def complete() -> Answer | None:
            try:
                answer = self.count(tenant)
            except NoAnswer:
                return None
            return None if answer.status == 503 else answer

        answer = wait_until(complete, f"an exact count of {tenant}", within=within)
        assert answer is not None
        return int(answer.ok()["counter"])

    def cluster(self) -> Json:
        return self.ask("GET", "/cluster").ok()

    def primary(self) -> int:
        """
        The node that is asked first, once there is one.
        """

        def known() -> list[int]:
            primary = self.cluster()["primary"]
            return [] if primary is None else [primary]

        return wait_until(known, "a primary")[0]

    def until_at_work(self, *, within: float = DEADLINE) -> None:
        """
        Wait until every node is up and takes writes.
        """

        def well() -> bool:
            nodes = self.cluster()["nodes"]
            return all(each["state"] == "up" and not each["refuses"] for each in nodes)

        wait_until(well, "all nodes at work", within=within)

    def until_equal(self, *, within: float = DEADLINE) -> int:
        """
        Wait until every node is up, lacks nothing and holds as many items as the others; how many.
        """
        last: Json = None

        def equal() -> list[Json]:
            nonlocal last
            last = nodes = self.cluster()["nodes"]
            well = all(each["state"] == "up" and not each["lag"] and not each["refuses"] for each in nodes)
            same = well and len({each["items"] for each in nodes}) == 1
            durable = same and all(each["durable"] == each["applied"] for each in nodes)
            return list(nodes) if durable else []

        try:
            return int(wait_until(equal, "the same items on all nodes", within=within)[0]["items"])
        except AssertionError:
            raise AssertionError(f"the nodes do not become equal: {json.dumps(last, indent=1)}") from None


@dataclass(slots=True)
class Process:
    """
    A process that writes its log to a file.

    :ivar log: where it writes; what earlier processes wrote there stays.
    """

    popen: "subprocess.Popen[bytes]"
    log: Path

    @classmethod
    def start(cls, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Self:
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )
        return cls(popen, log)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def kill(self) -> None:
        """
        End it as `kill -9` does.
        """
        self.popen.kill()
        self.popen.wait(DEADLINE)

    def stop(self) -> int:
        """
        End it in order; how it ended.
        """
        self.popen.terminate()
        try:
            return self.popen.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def bad_lines(self, expected: Iterable[str] = ()) -> list[str]:
        """
        What in the log tells of an error that nobody expected.
        """
        return bad_lines(self.text(), expected)


def dcounter(*arguments: str) -> list[str]:
    """
    The command for `twistd dcounter`.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    return [sys.executable, twistd, "-n", "--pidfile=", "dcounter", *arguments]


def _python_path() -> list[str]:
    path = os.environ.get("PYTHONPATH")
    return [path] if path else []


def children(pid: int) -> dict[int, int]:
    """
    The node processes that a daemon has: node id -> pid.
    """
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                node = _node_of(child)
                if node is not None:
                    found[node] = child
    return found


def _node_of(pid: int) -> int | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    # Until it has become one, a child has its parent's command line.
    return int(words[words.index(b"--id") + 1]) if b"--id" in words else None


def is_alive(pid: int) -> bool:
    """
    Whether there is such a process, and it is not only waiting to be noticed dead.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


@dataclass(slots=True)
class Daemon:
    """
    A daemon with its nodes on one data directory, started again and again.

    :ivar options: what it is started with beyond the places.
    :ivar limits: bounds (`dcounter.limits`) that it has instead of the usual ones.
    :ivar trace: where strace records it.
    """

    directory: Path
    options: Sequence[str] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    ports: Ports = field(default_factory=Ports)
    process: Process | None = None
    trace: Path | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"

    def caller(self) -> Caller:
        return Caller(self.ports.http)

    def start(self) -> None:
        """
        Start it, without waiting for it.
        """
        command = dcounter(
            f"--data-dir={self.data}",
            f"--http=tcp:{self.ports.http}:interface=127.0.0.1",
            f"--node-port={self.ports.nodes[0]}",
            *self.options,
        )
        if self.trace is not None:
            command = recorded(command, self.trace)
        environment = {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).with_name("small")), *_python_path()]),
            "DCOUNTER_TEST_LIMITS": " ".join(f"{name}={bound}" for name, bound in self.limits.items()),
        }
        self.process = Process.start(command, self.log, environment if self.limits else None)

    def until_ready(self, *, within: float = DEADLINE) -> None:
        """
        Wait until it takes items and counts exactly.
        """
        caller = self.caller()

        def ready() -> bool:
            assert self.running.popen.poll() is None, f"the daemon ended:\n{self.running.text()[-4000:]}"
            try:
                answer = caller.ask("GET", "/readyz")
            except NoAnswer:
                return False
            return answer.status == 200 and answer.content["exact"] is True

        wait_until(ready, "a ready daemon", within=within)
        caller.close()

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def nodes(self) -> dict[int, int]:
        """
        Node id -> pid of all nodes, once all are there.
        """

        def all_there() -> dict[int, int]:
            there = children(self.running.pid)
            return there if len(there) == 4 else {}

        return wait_until(all_there, "all nodes as processes")

    def kill(self, *nodes: int) -> float:
        """
        Kill nodes at once; when (s) that was.
        """
        pids = self.nodes()
        for node in nodes:
            os.kill(pids[node], signal.SIGKILL)
        return time.monotonic()

    def kill_all(self) -> dict[int, int]:
        """
        Kill the daemon itself; the pids of the nodes it had.
        """
        orphans = children(self.running.pid)
        self.running.kill()
        return orphans

    def close(self) -> None:
        """
        End whatever is left of it.
        """
        if self.process is not None and self.process.popen.poll() is None:
            orphans = self.kill_all()
            wait_until(lambda: not any(map(is_alive, orphans.values())), "the end of all nodes")
        self.ports.release()
