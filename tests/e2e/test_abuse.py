"""
What strangers, and callers without manners, can do to a daemon: nothing that others notice.
"""

import hashlib
import json
import os
import random
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from dcounter.protocol import codec, messages
from dcounter.protocol.abilities import PROTOCOL
from dcounter.protocol.handshake import Caller, Identity
from dcounter.protocol.secrets import Secrets
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import (
    Client,
    Daemon,
    Ports,
    Raw,
    Twistd,
    eventually,
    is_open,
    items,
    port_of,
    together,
)
from tests.e2e.sockets import accepted, sockets_of

MEBIBYTE = 2**20

# A node accepts so many connections, and closes each that says nothing for 5 s.
CONNECTIONS = 1000


class Watch:
    """
    What must not change while a daemon is abused.
    """

    def __init__(self, daemon: Daemon, client: Client, node_ports: list[int]) -> None:
        self.daemon = daemon
        self.client = client
        self.node_ports = node_ports
        self._links = self._between_nodes()
        self._memory = daemon.memory()
        self.stored = 0

    def _between_nodes(self) -> set[int]:
        every = [each for each in sockets_of(self.daemon.pid) if each.established]
        pairs = {(each.port, each.peer_port) for each in every}
        # Both ends belong to the daemon.
        return {each.inode for each in every if (each.peer_port, each.port) in pairs}

    async def well(self) -> None:
        """
        Items are taken and counted at once, by all nodes; no connection between nodes was lost.
        """
        # Once for the connections that the client has kept, once for a new one.
        for client in (self.client, self.daemon.client()):
            started = time.monotonic()
            ids = self.daemon.new_ids(8)
            await client.store(items(ids, "abuse"))
            self.stored += len(ids)
            assert await client.count_now("abuse") == self.stored
            assert time.monotonic() - started < 2
        await client.close()
        cluster = await self.client.cluster()
        assert cluster["primary"] == 0
        assert [each["state"] for each in cluster["nodes"]] == ["up"] * 4
        assert self._between_nodes() == self._links
        assert self.daemon.memory() - self._memory < 64 * MEBIBYTE


@pytest.fixture
def watch(daemon: Daemon, client: Client) -> Iterator[Watch]:
    async def begin() -> Watch:
        await client.until_at_work()
        # What the first items bring along is no news.
        await client.store(items(daemon.new_ids(8), "before"), ack="all")
        watching = Watch(daemon, client, [port_of(each) for each in await client.nodes()])
        # What the tests before this one stored.
        watching.stored = await client.count("abuse")
        return watching

    watching = pytest_twisted.blockon(Deferred.fromCoroutine(begin()))
    yield watching
    pytest_twisted.blockon(Deferred.fromCoroutine(watching.well()))


async def cut_off(connection: Raw, because: bytes | None = None) -> None:
    """
    The node hangs up, and says why.
    """
    if because is not None:
        await connection.until_received(because)
        assert connection.received.startswith(b'{"type":"farewell"')
    await connection.until_closed()


@pytest_twisted.ensureDeferred
async def test_random_bytes_cost_their_connection_only(watch: Watch) -> None:
    dice = random.Random(1)
    for port in watch.node_ports:
        for size in (10, 1000, 100_000):
            connection = await Raw.connect(port)
            connection.write(dice.randbytes(size) + b"\n")
            await cut_off(connection)
            await watch.well()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"{}",
        b"null",
        b"[]",
        b'{"type":"hello"}',
        b'{"type":"proof","proof":""}',
        b'{"type":"store","request":1,"batch":{"slices":[1],"ids":[1],"tenants":["x"],"bases":[1]}}',
        b'{"type":"count","request":1,"tenants":["abuse"]}',
        b'{"type":"copy"}',
        b"GET / HTTP/1.1\r",
        b"[" * 8000,
        b"\xff" * 8000,
        b"9" * 8000,
    ],
)
@pytest_twisted.ensureDeferred
async def test_lines_that_do_not_belong_there_cost_their_connection_only(line: bytes, watch: Watch) -> None:
    connection = await Raw.connect(watch.node_ports[0])
    connection.write(line + b"\n")
    await cut_off(connection, b"farewell")


@pytest_twisted.ensureDeferred
async def test_half_a_line_is_cut_off_after_a_while(watch: Watch) -> None:
    connections = await together(Raw.connect(port) for port in watch.node_ports)
    for each in connections:
        each.write(b'{"type":"hel')
    await watch.well()
    for each in connections:
        await cut_off(each, b"no handshake in time")


@pytest_twisted.ensureDeferred
async def test_64_mebibytes_without_a_newline_are_cut_off(watch: Watch) -> None:
    for port in watch.node_ports[:2]:
        connection = await Raw.connect(port)
        piece = b"x" * MEBIBYTE

        async def ended(connection: Raw = connection) -> bool:
            return connection.closed

        for _ in range(64):
            if connection.closed:
                break
            connection.write(piece)
            await eventually(lambda: _sent_or_closed(connection), what="room to write")  # noqa: B023
        await eventually(ended)
        await watch.well()


async def _sent_or_closed(connection: Raw) -> bool:
    transport = connection.tcp
    return connection.closed or not (transport.dataBuffer or transport._tempDataBuffer)  # noqa: SLF001


def strangers(cluster: str) -> dict[str, tuple[Identity, dict[str, Any]]]:
    secret = b"x" * 32
    right = Identity(cluster, Secrets(secret), range(4))
    coordinator: dict[str, Any] = {"role": "coordinator", "node": None, "to": 0}
    return {
        "another cluster": (Identity("0" * 32, Secrets(secret), range(4)), coordinator),
        "this is node 0, not node 1": (right, {**coordinator, "to": 1}),
        "members [0, 1, 2] instead of": (Identity(cluster, Secrets(secret), range(3)), coordinator),
        "a coordinator with node id 1": (right, {**coordinator, "node": 1}),
        "a node with node id None": (right, {**coordinator, "role": "node"}),
        "node 9 is not a member": (right, {**coordinator, "role": "node", "node": 9}),
        "another start of the daemon": (right, coordinator),
    }


@pytest.mark.parametrize("reason", list(strangers("")))
@pytest_twisted.ensureDeferred
async def test_a_wrong_hello_is_refused(reason: str, watch: Watch) -> None:
    identity, how = strangers((await watch.client.cluster())["cluster"])[reason]
    connection = await Raw.connect(watch.node_ports[0])
    caller = Caller(identity, **how, port=watch.node_ports[0], nonce="n" * 32)
    connection.write(codec.encode(caller.hello) + b"\n")
    await cut_off(connection, reason.encode())


@pytest_twisted.ensureDeferred
async def test_another_protocol_is_refused(watch: Watch) -> None:
    cluster = (await watch.client.cluster())["cluster"]
    hello = messages.Hello(
        PROTOCOL + 1,
        cluster,
        "coordinator",
        None,
        0,
        [0, 1, 2, 3],
        "n" * 32,
        watch.node_ports[0],
        "",
        "",
    )
    connection = await Raw.connect(watch.node_ports[0])
    connection.write(codec.encode(hello) + b"\n")
    await cut_off(connection, b"the caller speaks 3, the node 2")


@pytest.mark.parametrize("mirror", [False, True], ids=["a made-up proof", "the node's own proof"])
@pytest_twisted.ensureDeferred
async def test_who_does_not_have_the_secret_is_refused(mirror: bool, tmp_path: Path, ports: Ports) -> None:
    # A node by itself: those of a daemon refuse before that whoever does not belong to this start of it.
    secret = b"a secret that is long enough"
    (tmp_path / "secret").write_bytes(secret)
    port = ports.nodes[0]
    how = f"--id=0 --in-memory --secret-file=secret --listen=tcp:{port}:interface=127.0.0.1"
    node = Twistd(["-n", "--pidfile=", "dcounter", "node", *how.split()], tmp_path)

    async def listens() -> bool:
        return is_open(port)

    await eventually(listens, what="a node that listens")
    cluster = hashlib.blake2b(secret, digest_size=16, person=b"cluster id").hexdigest()
    identity = Identity(cluster, Secrets(b"guessed"), range(1))
    caller = Caller(identity, role="coordinator", node=None, to=0, port=port, nonce="n" * 32)
    connection = await Raw.connect(port)
    connection.write(codec.encode(caller.hello) + b"\n")
    await connection.until_received(b"\n")
    challenge = codec.decode(bytes(connection.received).rstrip())
    assert isinstance(challenge, messages.Challenge)
    connection.received.clear()
    proof = challenge.proof if mirror else "0" * 64
    batch = b'{"type":"store","request":1,"batch":{"slices":[1],"ids":[1],"tenants":["abuse"],"bases":[1]}}\n'
    connection.write(codec.encode(messages.Proof(proof)) + b"\n" + batch)
    await cut_off(connection, b"does not have this cluster's secret")
    node.send_signal(signal.SIGTERM)
    await node.end()


@pytest_twisted.ensureDeferred
async def test_400_strangers_leave_a_short_log_and_a_daemon_that_answers(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    client = daemon.client()
    [port, *_] = [port_of(each) for each in await client.nodes()]
    before = daemon.log.count("\n")
    for _ in range(8):
        knocks = await together(Raw.connect(port) for _ in range(50))
        for knock in knocks:
            knock.write(b"GET / HTTP/1.1\r\n\r\n")
        for knock in knocks:
            await knock.until_closed()
        await client.store(items([1], "abuse"))
        assert await client.count_now("abuse") == 1

    async def told() -> bool:
        return sum(map(int, re.findall(r"refused (\d+) more connections", daemon.log))) >= 370

    # 10 of each 10 s are told, and how many there were besides.
    await eventually(told, what="the number of the rest")
    assert daemon.log.count("\n") - before < 60
    assert daemon.log.count("closing the connection with") < 30
    await client.close()


@pytest.fixture
def descriptors() -> Iterator[int]:
    """
    Lets the test open as many descriptors as it is permitted to; gives the usual limit of a process.
    """
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))


@pytest_twisted.ensureDeferred
async def test_connections_without_a_handshake_up_to_the_limit(
    start_daemon: StartDaemon, descriptors: int
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A process inherits the limits of its parent at the moment of its birth.
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, most))
    starting = Deferred.fromCoroutine(start_daemon())
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    daemon = await starting
    client = daemon.client()
    await client.store(items(range(100), "before"), ack="all")
    memory = daemon.memory()
    port = port_of((await client.nodes())[0])
    flood: list[Raw] = []
    while len(flood) < 2 * CONNECTIONS:
        # Fewer at a time than a listener's backlog: what does not fit there comes a second later.
        flood += await together(Raw.connect(port) for _ in range(40))
        # Somebody new every time, for whom the daemon needs a descriptor, too.
        caller = daemon.client()
        await caller.store(items(range(100, 110), "meanwhile"))
        assert await caller.count_now("meanwhile") == 10
        await caller.close()

    async def over_the_limit() -> bool:
        return sum(each.closed for each in flood) >= len(flood) - CONNECTIONS

    await eventually(over_the_limit, what="connections beyond the limit closed", within=4)
    assert [each["state"] for each in await client.nodes()] == ["up"] * 4
    for each in flood:
        await each.until_closed()
    assert daemon.memory() - memory < 64 * MEBIBYTE
    # Those who belong there come in again.
    await client.restart(1)
    await client.until_equal(110)
    await client.close()


@pytest_twisted.ensureDeferred
async def test_300_stalled_requests_stop_nobody(watch: Watch) -> None:
    halves = [
        b"POST /items HT",
        b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Le",
        b'POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n[{"ID":1,',
        b"POST /items HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{",
        b"GET /items/x",
        b"",
    ]
    stalled: list[Raw] = []
    while len(stalled) < 300:
        # Fewer at a time than a listener's backlog, which an answer shows to be empty again.
        stalled += await together(Raw.connect(watch.daemon.ports.http) for _ in range(30))
        (await watch.client.ask("GET", "/healthz")).ok()
    for number, each in enumerate(stalled):
        each.write(halves[number % len(halves)])
    for _ in range(5):
        await watch.well()
    assert not any(each.closed for each in stalled)
    await together(each.abort() for each in stalled)


def post(items_: object) -> bytes:
    body = json.dumps(items_).encode()
    return b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class Pipeline:
    """
    A caller who sends request after request, and reads nothing before it is told to.
    """

    def __init__(self, daemon: Daemon, connection: Raw) -> None:
        self._daemon = daemon
        self.connection = connection

    @classmethod
    async def open(cls, daemon: Daemon, requests: bytes) -> Self:
        connection = await Raw.connect(daemon.ports.http)
        # The kernel must not hold all the answers instead.
        connection.tcp.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.tcp.pauseProducing()
        connection.write(requests)
        return cls(daemon, connection)

    def _left(self) -> int:
        """
        Bytes that the daemon has not taken yet.
        """
        transport = self.connection.tcp
        port = transport.getHost().port
        ours = [each.unsent for each in sockets_of(os.getpid()) if each.port == port]
        theirs = [
            each.unread
            for each in accepted(self._daemon.pid, self._daemon.ports.http)
            if each.peer_port == port
        ]
        buffered = len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # noqa: SLF001
        return int(buffered) + sum(ours) + sum(theirs)

    async def until_it_stands(self, client: Client) -> None:
        """
        Wait until the daemon takes no more of it, although it has time for others.
        """

        async def stands() -> bool:
            before = self._left()
            for _ in range(20):
                (await client.ask("GET", "/healthz")).ok()
            return self._left() == before

        await eventually(stands, what="the end of reading from who does not read")

    async def read(self, answers: int) -> None:
        self.connection.tcp.resumeProducing()
        await self.connection.until_received(b"HTTP/1.1 ", answers)


@pytest.mark.parametrize(
    "requests",
    [
        [get("/openapi.json")],
        [
            get("/openapi.json"),
            get("/items/x/count"),
            get("/nothing"),
            get("/cluster?what"),
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n[]",
            b"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n[",
        ],
    ],
    ids=["long answers", "all kinds"],
)
@pytest_twisted.ensureDeferred
async def test_who_never_reads_its_answers_does_not_grow_the_daemon(
    requests: list[bytes], daemon: Daemon, watch: Watch
) -> None:
    memory = daemon.memory()
    round_ = b"".join(requests)
    pipeline = await Pipeline.open(daemon, round_ * (4 * MEBIBYTE // len(round_)))
    await pipeline.until_it_stands(watch.client)
    await watch.well()
    assert daemon.memory() - memory < 32 * MEBIBYTE
    # It goes on as soon as the caller does.
    await pipeline.read(500)
    await pipeline.connection.abort()


@pytest_twisted.ensureDeferred
async def test_who_reads_its_answers_at_last_gets_all_in_order(daemon: Daemon, watch: Watch) -> None:
    number = 400
    requests = [get("/openapi.json") + get(f"/items/n{each}/count") for each in range(number)]
    pipeline = await Pipeline.open(daemon, b"".join(requests))
    await pipeline.until_it_stands(watch.client)
    assert not pipeline.connection.received
    await pipeline.read(2 * number)
    await pipeline.connection.until_received(b'"tenant":"n%d"' % (number - 1))
    heard = bytes(pipeline.connection.received)
    assert heard.count(b"HTTP/1.1 200 OK") == 2 * number
    tenants = re.findall(rb'"openapi":"3|"tenant":"n(\d+)"', heard)
    assert tenants == [each for n in range(number) for each in (b"", b"%d" % n)]
    await pipeline.connection.abort()


@pytest_twisted.ensureDeferred
async def test_300_callers_at_once_are_connected_at_once(daemon: Daemon, watch: Watch) -> None:
    # A daemon that accepts nobody for a while shows what waits in front of it.
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        callers = await together(Raw.connect(daemon.ports.http) for _ in range(300))
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    for each in callers:
        each.write(get("/healthz"))
    for each in callers:
        await each.until_received(b"HTTP/1.1 200 OK")
    await together(each.abort() for each in callers)


@pytest_twisted.ensureDeferred
async def test_web_pages_elsewhere_store_nothing(daemon: Daemon, watch: Watch) -> None:
    body = items(daemon.new_ids(3), "pages")
    for headers in (
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null"},
        {"Host": f"evil.example:{daemon.ports.http}"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ):
        assert (await watch.client.ask("POST", "/items", json=body, headers=headers)).status == 403
        assert (await watch.client.ask("GET", "/items/pages/count", headers=headers)).status == 403
    assert await watch.client.count_now("pages") == 0
    own = {"Origin": f"http://127.0.0.1:{daemon.ports.http}"}
    (await watch.client.ask("POST", "/items", json=body, headers=own)).ok()
    assert await watch.client.count_now("pages") == 3


@pytest_twisted.ensureDeferred
async def test_nodes_are_restarted_with_the_operators_token_only(daemon: Daemon, watch: Watch) -> None:
    await watch.client.store(items(daemon.new_ids(40), "before"), ack="all")
    # A node that was restarted has no open run; what else is shown may lag by a heartbeat.
    before = [each["run"] for each in await watch.client.until_equal()]
    for headers in ({}, {"Authorization": "Bearer guessed-by-somebody"}):
        refused = await watch.client.ask("POST", "/cluster/restart", json={"node": 1}, headers=headers)
        assert (refused.status, refused.content["code"]) == (403, "forbidden")
        assert str(daemon.token) in refused.content["detail"]
    assert [each["run"] for each in await watch.client.nodes()] == before
    assert daemon.token.stat().st_mode & 0o777 == 0o600
    assert daemon.token.read_text().strip() not in daemon.log


@pytest_twisted.ensureDeferred
async def test_callers_that_hang_up_hurt_nobody_else(daemon: Daemon, watch: Watch) -> None:
    stayed = gone = 0
    for round_ in range(5):
        leavers = await together(Raw.connect(daemon.ports.http) for _ in range(50))
        staying = [watch.client.store(items(daemon.new_ids(7), "stayed")) for _ in range(50)]
        stayed += 7 * len(staying)

        async def leave(connection: Raw, round_: int = round_) -> None:
            connection.write(post(items(daemon.new_ids(7), "gone")))
            if round_ % 2:
                # The request is on its way, and nothing but the answer is missing.
                connection.tcp.loseWriteConnection()
            await eventually(lambda: _sent_or_closed(connection))
            await connection.abort()

        gone += 7 * len(leavers)
        results = await together([*staying, *(leave(each) for each in leavers)])
        assert sum(each is not None for each in results) == 50
    assert await watch.client.count_now("stayed") == stayed
    assert 0 <= await watch.client.count_now("gone") <= gone
    # Whatever became of it: it is the same everywhere.
    await watch.client.until_equal()


@pytest_twisted.ensureDeferred
async def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(
    daemon: Daemon, watch: Watch
) -> None:
    connection = await Raw.connect(daemon.ports.http)
    connection.write(
        b"POST /items HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        % (16 * MEBIBYTE + 1)
    )
    await connection.until_received(b'"body_too_large"')
    assert connection.received.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in connection.received
    await connection.until_closed()


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_is_cut_off_at_the_limit(daemon: Daemon, watch: Watch) -> None:
    connection = await Raw.connect(daemon.ports.http)
    connection.write(b"POST /items HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n%b\r\n" % (MEBIBYTE, b" " * MEBIBYTE)
    sent = 0
    while not connection.closed and not connection.received:
        assert sent < 32, "32 MiB were swallowed"
        connection.write(chunk)
        sent += 1
        await eventually(lambda: _sent_or_closed(connection))
    await connection.until_received(b'"body_too_large"')
    assert connection.received.startswith(b"HTTP/1.1 413 ")
    await connection.abort()


@pytest_twisted.ensureDeferred
async def test_the_limit_of_a_body_is_an_option(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon("--max-body=2048", "--max-tenant=3")
    client = daemon.client()
    refused = await client.post(items(range(200), "abc"))
    assert refused.status == 413
    assert refused.content["code"] == "body_too_large"
    assert "2048" in refused.content["message"]
    assert (await client.post(items([1], "abcd"))).status == 422
    await client.store(items([1], "abc"))
    assert await client.count("abc") == 1
    await client.close()


def test_the_environment_lets_us_do_all_that() -> None:
    assert Path("/proc/self/net/tcp").exists()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 2 * CONNECTIONS + 100
