"""
A real daemon in a process of its own, watched and questioned from outside.
"""

import fcntl
import itertools
import os
import random
import re
import signal
import socket
import sys
import termios
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

import dcounter.client
from dcounter.client import Answer
from tests.support.logs import bad_lines

TWISTD = Path(sys.executable).with_name("twistd")
DCOUNTER = TWISTD.with_name("dcounter")

DEADLINE = 60.0
"""
Time (s) after which a test that waits for a condition fails: generous, since a passing test waits less.
"""

_PAUSE = 0.02
"""
Time (s) between two looks at what should become true.
"""

_BLOCK = 120
_NODE_PORTS = 100
_FIRST_BLOCK = 12_000
_LAST_BLOCK = 32_000

_T = TypeVar("_T")

Json = Any


def _reactor() -> Any:
    """
    The reactor that pytest-twisted has chosen, which is no longer too early to import.
    """
    from twisted.internet import reactor

    return reactor


async def pause(seconds: float = _PAUSE) -> None:
    """
    Let the reactor turn.
    """
    await deferLater(_reactor(), seconds)


async def eventually(
    condition: Callable[[], Awaitable[_T]], *, what: str = "it", within: float = DEADLINE
) -> _T:
    """
    Ask until the answer is true; return it.
    """
    until = _reactor().seconds() + within
    while True:
        answer = await condition()
        if answer:
            return answer
        assert _reactor().seconds() < until, f"{what} did not come true within {within:g} s: {answer!r}"
        await pause()


async def together(coroutines: Iterable[Coroutine[Deferred[Any], Any, _T]]) -> list[_T]:
    """
    Run them all at once; the first that fails fails all.
    """
    running = [Deferred.fromCoroutine(each) for each in coroutines]
    try:
        return await gatherResults(running, consumeErrors=True)
    except BaseException as error:
        for each in running:
            each.cancel()
        # FirstError says nothing of what happened in it.
        inner = getattr(error, "subFailure", None)
        if inner is not None:
            raise inner.value from None
        raise


class Ports:
    """
    A block of ports that other test runs on this machine leave alone until it is released.

    Its last port is bound as a mark. Blocks lie below the ports that the system gives to callers.

    :param nodes: other ports for the nodes; the test that names them makes sure that they are free.
    :ivar nodes: where nodes may listen; the first is `--node-port`.
    :ivar http: for HTTP.
    """

    def __init__(self, nodes: range | None = None) -> None:
        firsts = list(range(_FIRST_BLOCK, _LAST_BLOCK - _BLOCK, _BLOCK))
        random.shuffle(firsts)
        for first in firsts:
            with suppress(OSError):
                self._mark = _bound(first + _BLOCK - 1)
                break
        else:
            raise AssertionError("no block of ports is free")
        self.nodes = nodes or range(first, first + _NODE_PORTS)
        self.http = first + _NODE_PORTS

    def release(self) -> None:
        self._mark.close()


def _bound(port: int, *, again: bool = False) -> socket.socket:
    there = socket.socket()
    # What lingers of closed connections is in nobody's way; a listener still is.
    there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, again)
    try:
        there.bind(("127.0.0.1", port))
    except OSError:
        there.close()
        raise
    return there


def occupy(port: int) -> socket.socket:
    """
    Listen on a port, as somebody else's server would.
    """
    there = _bound(port, again=True)
    there.listen()
    return there


class Client:
    """
    A caller of the daemon's HTTP, with connections of its own.

    :param token: the file with the operator's token.
    """

    def __init__(self, port: int, token: Path | None = None) -> None:
        self._token = token
        self._client = dcounter.client.Client(f"http://127.0.0.1:{port}", _reactor(), timeout=DEADLINE)
        self.close = self._client.close
        self.ask = self._client.ask
        self.events = self._client.events

    async def post(self, items: Json, **parameters: str) -> Answer:
        """
        `POST /items`, once.
        """
        return await self.ask("POST", "/items", json=items, parameters=parameters)

    async def store(self, items: Json, **parameters: str) -> Json:
        """
        `POST /items`, which must succeed.
        """
        content = (await self.post(items, **parameters)).ok()
        assert content["status"] == "OK"
        assert content["items"] == len(items)
        return content

    async def ask_count(self, tenant: str, **parameters: str) -> Answer:
        """
        `GET /items/{tenant}/count`, once.
        """
        return await self.ask("GET", f"/items/{tenant}/count", parameters=parameters)

    async def count_now(self, tenant: str) -> int:
        """
        The count, which must be answered at the first request.
        """
        return int((await self.ask_count(tenant)).ok()["counter"])

    async def count(self, tenant: str) -> int:
        """
        The count; as long as there is no exact one, ask again.
        """

        async def complete() -> Answer | None:
            answer = await self.ask_count(tenant)
            if answer.status == 503 and answer.content["code"] == "incomplete":
                return None
            return answer

        answer = await eventually(complete, what=f"an exact count of {tenant}")
        assert answer is not None
        return int(answer.ok()["counter"])

    async def counts(self, tenants: Iterable[str]) -> dict[str, int]:
        """
        The counts of several tenants, without those that are zero.
        """
        found = {tenant: await self.count(tenant) for tenant in sorted(tenants)}
        return {tenant: counter for tenant, counter in found.items() if counter}

    async def cluster(self) -> Json:
        return (await self.ask("GET", "/cluster")).ok()

    async def nodes(self) -> list[Json]:
        nodes = (await self.cluster())["nodes"]
        assert [each["id"] for each in nodes] == list(range(len(nodes)))
        return list(nodes)

    async def operate(self, path: str, body: Json) -> Json:
        """
        Do what only the operator may do.
        """
        assert self._token is not None
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}"}
        return (await self.ask("POST", path, json=body, headers=headers)).ok()

    async def restart(self, node: int) -> None:
        await self.operate("/cluster/restart", {"node": node})

    async def until_equal(self, items: int | None = None) -> list[Json]:
        """
        Wait until every node is up, lacks nothing and holds as many items as the others.
        """

        async def equal() -> list[Json]:
            nodes = await self.nodes()
            held = {each["items"] for each in nodes}
            well = all(each["state"] == "up" and not each["lag"] and not each["refuses"] for each in nodes)
            return nodes if well and len(held) == 1 and (items is None or held == {items}) else []

        return await eventually(equal, what=f"{items if items is not None else 'the same'} items everywhere")

    async def until_at_work(self) -> None:
        """
        Wait until every node is up and takes writes, whatever is on its way to it.
        """

        async def well() -> bool:
            return all(each["state"] == "up" and not each["refuses"] for each in await self.nodes())

        await eventually(well, what="all nodes at work")

    async def until_primary(self, node: int) -> None:
        """
        Make a node the primary by restarting all others; they are full again afterwards.
        """

        async def there() -> bool:
            if (await self.cluster())["primary"] == node:
                return True
            others = [each["id"] for each in await self.nodes() if each["id"] != node]
            await together(self.restart(each) for each in others)
            await self.until_equal()
            return False

        await eventually(there, what=f"node {node} as the primary")


class _Watched(ProcessProtocol):
    def __init__(self) -> None:
        self.output = bytearray()
        self.ended: BaseException | None = None

    def outReceived(self, data: bytes) -> None:
        self.output += data

    def errReceived(self, data: bytes) -> None:
        self.output += data

    def processEnded(self, reason: Failure) -> None:
        self.ended = cast(BaseException, reason.value)


@dataclass(slots=True)
class Ended:
    """
    How a process ended, and all it wrote.
    """

    code: int | None
    signal: int | None
    output: str


class Twistd:
    """
    One `twistd` process.

    :param arguments: what follows `twistd`.
    :param program: another program instead, written in Python.
    :param release: a directory with the package of another release, which is run instead of this version.
    :param passed: a socket that it gets as systemd passes one to a service.
    :param variables: more variables of its environment.
    :param terminal: the descriptor to which it writes, without colours; a pipe if there is none.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        *,
        program: Path = TWISTD,
        terminal: int | None = None,
        variables: Mapping[str, str] | None = None,
        release: Path | None = None,
        passed: socket.socket | None = None,
    ) -> None:
        self._watched = _Watched()
        command = [sys.executable, str(program), *arguments]
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **(variables or {})}
        if terminal is not None:
            descriptors[1] = descriptors[2] = terminal
        if release is not None:
            environment["PYTHONPATH"] = str(release)
        if passed is not None:
            environment |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
            # Only the process itself knows its id before it runs.
            command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
            descriptors[3] = passed.fileno()
        self._transport: IProcessTransport = cast(IReactorProcess, _reactor()).spawnProcess(
            self._watched,
            command[0],
            command,
            env=environment,
            path=str(directory),
            childFDs=descriptors,
        )
        self.pid = int(cast(Any, self._transport).pid)

    @property
    def running(self) -> bool:
        return self._watched.ended is None

    @property
    def output(self) -> str:
        return self._watched.output.decode(errors="replace")

    def send_signal(self, number: int) -> None:
        with suppress(ProcessExitedAlready):
            self._transport.signalProcess(cast(Any, number))

    def read_output(self, wanted: bool) -> None:
        """
        Read what it writes to standard output, or leave it in the pipe.
        """
        pipe = cast(Any, self._transport).pipes[1]
        if wanted:
            pipe.startReading()
        else:
            pipe.stopReading()

    def unread(self) -> int:
        """
        Bytes of its standard output that are still in the pipe.
        """
        number = fcntl.ioctl(cast(Any, self._transport).pipes[1].fileno(), termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(number, sys.byteorder)

    async def end(self, within: float = DEADLINE) -> Ended:
        """
        Wait for the end of the process; if it does not come, force it, and fail.
        """

        async def over() -> bool:
            return not self.running

        try:
            await eventually(over, what="the end of the process", within=within)
        except AssertionError:
            self.send_signal(signal.SIGKILL)
            await eventually(over, what="the end of the killed process")
            raise
        reason = self._watched.ended
        if isinstance(reason, ProcessTerminated):
            return Ended(reason.exitCode, reason.signal, self.output)
        return Ended(0, None, self.output)


@dataclass(slots=True)
class Daemon:
    """
    A running daemon.

    :ivar token: the file with the operator's token.
    :ivar expected: parts of lines that its log may hold although they tell of an error.
    """

    process: Twistd
    ports: Ports
    token: Path
    expected: list[str] = field(default_factory=list)
    _ids: Iterable[int] = field(default_factory=lambda: itertools.count(1_000_000, 1_000_000))

    @classmethod
    async def start(
        cls,
        directory: Path,
        *options: str,
        ports: Ports | None = None,
        passed: socket.socket | None = None,
        processes: bool = False,
    ) -> Self:
        """
        Start a daemon, and wait until it is ready.

        :param passed: a socket as systemd passes it.
        :param processes: whether its nodes are processes with disks. Else all is in one process, in memory.
        """
        ports = ports or Ports()
        token = directory / "operator-token"
        process = Twistd(
            [
                *("-n", "--pidfile=", "dcounter"),
                *([f"--data-dir={directory}/data"] if processes else ["--in-memory", "--inline"]),
                # A socket that is passed is listened on without being asked for.
                *([] if passed else [f"--http=tcp:{ports.http}:interface=127.0.0.1"]),
                f"--node-port={ports.nodes[0]}",
                f"--operator-token-file={token}",
                *options,
            ],
            directory,
            passed=passed,
        )
        self = cls(process, ports, token)
        client = self.client()
        try:
            await eventually(lambda: self._is_ready(client), what="a ready daemon")
        except BaseException:
            process.send_signal(signal.SIGKILL)
            await process.end()
            print(process.output)  # noqa: T201 - shown if the test fails
            ports.release()
            raise
        finally:
            await client.close()
        return self

    async def _is_ready(self, client: Client) -> bool:
        assert self.process.running, f"the daemon did not start:\n{self.process.output}"
        # A daemon that does not listen yet cannot be ready.
        if not is_open(self.ports.http):
            return False
        answer = await client.ask("GET", "/readyz")
        return answer.status == 200 and answer.content["exact"] is True

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.process.output

    def client(self) -> Client:
        return Client(self.ports.http, self.token)

    def new_ids(self, count: int) -> range:
        """
        IDs that no other test of this daemon uses.
        """
        assert count <= 1_000_000
        first = next(iter(self._ids))
        return range(first, first + count)

    async def stop(self) -> Ended:
        """
        Stop it as an operator does; its end and its log must be clean.
        """
        try:
            self.process.send_signal(signal.SIGTERM)
            ended = await self.process.end()
        finally:
            print(self.log)  # noqa: T201 - shown if the test fails
            self.ports.release()
        # twistd shuts down in order and then dies of the signal that it was sent.
        assert (ended.code, ended.signal) in {(0, None), (None, signal.SIGTERM)}, ended
        assert ended.output.rstrip().endswith(" info  stopped")
        assert self.bad_lines() == []
        return ended

    async def until_logged(self, pattern: str, *, times: int = 1) -> list[str]:
        """
        Wait until its log holds a regular expression: a thread writes it, a little after things happened.

        :returns: what matched.
        """

        async def found() -> list[str]:
            matches = re.findall(pattern, self.log)
            return matches if len(matches) >= times else []

        return await eventually(found, what=f"{pattern} in the log")

    def bad_lines(self) -> list[str]:
        """
        What in its log tells of an error that no test announced.
        """
        return bad_lines(self.log, self.expected)

    def memory(self) -> int:
        """
        The most memory (bytes) that it ever held.
        """
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
        raise AssertionError("the process has no memory")


class Raw(Protocol):
    """
    A connection that speaks whatever bytes the test likes.

    :ivar received: all that came.
    :ivar closed: whether the other end, or we, ended it.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = False

    @classmethod
    async def connect(cls, port: int) -> Self:
        endpoint = TCP4ClientEndpoint(_reactor(), "127.0.0.1", port)
        return cast(Self, await endpoint.connect(Factory.forProtocol(cls)))

    @property
    def tcp(self) -> Any:
        return self.transport

    def write(self, data: bytes) -> None:
        self.tcp.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True

    async def abort(self) -> None:
        """
        Hang up at once, and wait until that is done.
        """
        if not self.closed:
            self.tcp.abortConnection()
        await self.until_closed()

    async def until_closed(self, within: float = DEADLINE) -> None:
        async def closed() -> bool:
            return self.closed

        await eventually(closed, what="the end of the connection", within=within)

    async def until_received(self, part: bytes, times: int = 1) -> None:
        async def received() -> bool:
            return self.received.count(part) >= times

        await eventually(received, what=f"{times} times {part!r}")


def port_of(node: Json) -> int:
    """
    Where a node of `GET /cluster` listens.
    """
    host, _, port = node["address"].partition(":")
    assert host == "127.0.0.1"
    return int(port)


def is_open(port: int) -> bool:
    """
    Whether somebody listens on a port of this machine; looks, does not connect.
    """
    wanted = (f"0100007F:{port:04X}", f"00000000:{port:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if local in wanted and state == "0A":
            return True
    return False


def items(ids: Iterable[int], tenant: str, **more: Json) -> list[Json]:
    """
    Items of one tenant.
    """
    return [{"ID": each, "tenant": tenant, **more} for each in ids]
