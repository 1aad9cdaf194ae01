"""
The options of `twistd dcounter`, and what it builds from them.
"""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService, IServiceMaker, MultiService
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError

from dcounter import __version__
from dcounter.coordinator.service import Coordinator
from dcounter.daemon.announcing import Announced, CannotListen, Listening
from dcounter.daemon.descriptors import Descriptors
from dcounter.daemon.options import Options
from dcounter.daemon.supervisor import InlineSupervisor
from dcounter.daemon.tenure import Tenure
from dcounter.http.limits import HttpLimits
from dcounter.limits import Limits
from dcounter.node.service import Node
from dcounter.protocol.handshake import NEGOTIATES
from dcounter.tap import keep_steady_time, makeService

ROOT = Path(__file__).parent.parent


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(["--in-memory", "--inline", *arguments])
    return options


class TestOptions:
    def test_defaults(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        options = Options()
        options.parseOptions([])
        assert dict(options) == {
            "config": None,
            "http": "tcp:8085:interface=127.0.0.1",
            "nodes": 4,
            "node-port": 8090,
            "data-dir": "./dcounter-data",
            "max-body": 16 * 2**20,
            "max-tenant": 256,
            "ack": "node",
            "consistency": "exact",
            "audit-every": 0.0,
            "compact-share": 0.2,
            "compact-age": 86_400.0,
            "suspicion": 1.0,
            "idle": 75.0,
            "drain-delay": 0.0,
            "operator-token-file": None,
            "tokens-file": None,
            "tls-cert": None,
            "peer-tls-cert": None,
            "peer-tls-key": None,
            "peer-tls-ca": None,
            "tls-key": None,
            "tls-client-ca": None,
            "host": [],
            "cors-origin": [],
            "metrics-tenants": [],
            "log-level": "info",
            "log-format": "text",
            "access-log": False,
            "in-memory": 0,
            "inline": 0,
            "accept-data-loss": 0,
            "insecure": 0,
            "secret-file": None,
            "rebuild": [],
            "join": [],
        }
        assert list(tmp_path.iterdir()) == []

    def test_all_can_be_set(self, tmp_path: Path) -> None:
        options = Options()
        text = "--http tcp:0 --nodes 16 --node-port 65520 --max-body 1024 --max-tenant 1 --ack all"
        text += " --consistency eventual --suspicion 0.1 --inline --data-dir"
        options.parseOptions([*text.split(), str(tmp_path / "a" / "b")])
        assert (options["nodes"], options["node-port"], options["suspicion"]) == (16, 65_520, 0.1)

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["--nodes", "0"], "--nodes must be an integer from 1 to 16, not '0'"),
            (["--nodes", "four"], "--nodes must be an integer from 1 to 16, not 'four'"),
            (["--nodes", "-1"], "--nodes must be an integer from 1 to 16, not '-1'"),
            (["--nodes", "17"], "--nodes must be an integer from 1 to 16, not '17'"),
            (["--node-port", "0"], "--node-port must be an integer from 1 to 65535, not '0'"),
            (["--node-port", "65533"], "--node-port: 65533 is too high for 4 nodes"),
            (
                ["--node-port", "65520", "--nodes", "16", "--max-body", "9"],
                "--max-body must be an integer >= 1024",
            ),
            (["--metrics-tenants=a"] * 1_001, "--metrics-tenants names more than 1,000 tenants"),
            (["--max-tenant", "0"], "--max-tenant must be an integer from 1 to 1048576, not '0'"),
            (
                ["--max-tenant", str(2**20 + 1)],
                "--max-tenant must be an integer .* to 1048576",
            ),
            (["--ack", "some"], "--ack must be one of node, primary, majority, all, not 'some'"),
            (
                ["--consistency", "sure"],
                "--consistency must be one of exact, available, eventual, not 'sure'",
            ),
            (["--compact-share", "1"], "--compact-share must be at least 0 and below 1, not '1'"),
            (["--compact-share", "-0.1"], "--compact-share must be at least 0 and below 1, not '-0.1'"),
            (["--compact-share", "nan"], "--compact-share must be at least 0 and below 1, not 'nan'"),
            (["--compact-share", "much"], "--compact-share must be at least 0 and below 1, not 'much'"),
            (["--compact-age", "59"], "--compact-age must be 60 to 3153600000 seconds, not '59'"),
            (["--suspicion", "0.09"], "--suspicion must be 0.1 to 3600 seconds, not '0.09'"),
            (["--suspicion", "3601"], "--suspicion must be 0.1 to 3600 seconds, not '3601'"),
            (["--suspicion", "nan"], "--suspicion must be 0.1 to 3600 seconds, not 'nan'"),
            (["--suspicion", "soon"], "--suspicion must be 0.1 to 3600 seconds, not 'soon'"),
            (["--idle", "0.9"], "--idle must be 1 to 86400 seconds, not '0.9'"),
            (["--idle", "86401"], "--idle must be 1 to 86400 seconds, not '86401'"),
            (["--host", ""], "--host must be a host name without scheme and port, .* not ''"),
            (["--host", "http://x"], "--host must be a host name without scheme and port, .* not 'http://x'"),
            (["--host", "x:80"], "--host must be a host name .* not 'x:80'"),
            (["--cors-origin", "*"], "--cors-origin must be like https://app.example or .*, not '\\*'"),
            (["--cors-origin", "https://app.example/"], "--cors-origin must be like"),
            (["--cors-origin", "app.example"], "--cors-origin must be like"),
            (["--cors-origin", "null"], "--cors-origin must be like"),
            (["--http", ""], "--http: '' is not an endpoint: Unknown endpoint type: ''"),
            (["--http", "8085"], "--http: '8085' is not an endpoint"),
            (["--http", "tcp"], "--http: 'tcp' is not an endpoint"),
            (["--http", "tcp:http"], "--http: 'tcp:http' is not an endpoint: invalid literal"),
            (["--http", "tcp:80:colour=red"], "--http: .* is not an endpoint: .*colour"),
            (["--http", "ssl:443:privateKey=/nonexistent"], "--http: .* is not an endpoint: .*No such file"),
            (
                ["--http", "systemd:domain=INET:index=9"],
                "--http: systemd has passed no such socket as 'systemd:",
            ),
            (["--http", "haproxy:systemd:domain=INET:name=x"], "--http: systemd has passed no such socket"),
            (["--http", "systemd:domain=INET"], "--http: .* is not an endpoint: Specify exactly one"),
            (
                ["--http", "systemd:domain=UNIX:index=0"],
                "--http: .* is a Unix socket of systemd, .* unix:PATH",
            ),
            (["--http", "systemd:index=0:domain=UNIX"], "--http: .* is a Unix socket of systemd"),
            (["--http", "haproxy:systemd:UNIX:0"], "--http: .* is a Unix socket of systemd"),
            (["--http", "tcp:65536"], "--http: .* is not an endpoint: there is no port 65536"),
            (["--nodes", "\u0664"], "--nodes must be an integer from 1 to 16"),
            (["--accept-data-loss"], "--accept-data-loss works only with --rebuild"),
            (["--log-level", "all"], "--log-level must be one of debug, info, warn, error, not 'all'"),
            (["--tls-cert", "c"], "--tls-cert and --tls-key work only together"),
            (["--tls-key", "k"], "--tls-cert and --tls-key work only together"),
            (["--tls-client-ca", "a"], "--tls-client-ca works only with --tls-cert"),
            (["--tls-cert", "c", "--tls-key", "k", "--http", "haproxy:tls:/c"], "speaks TLS by itself"),
            (
                ["--peer-tls-cert", "c"],
                "--peer-tls-cert, --peer-tls-key and --peer-tls-ca work only together",
            ),
            (
                ["--peer-tls-cert", "c", "--peer-tls-key", "k", "--peer-tls-ca", "a"],
                "--peer-tls-cert works only with --join",
            ),
            (["--colour", "red"], "option --colour not recognized"),
            (["more"], "Unknown command: more"),
        ],
    )
    def test_what_cannot_work_is_refused(self, arguments: list[str], why: str) -> None:
        with pytest.raises(UsageError, match=why):
            parsed(*arguments)

    def test_touch_no_disk(self, tmp_path: Path) -> None:
        Options().parseOptions(["--data-dir", str(tmp_path / "none")])
        assert list(tmp_path.iterdir()) == []

    def test_in_memory_touches_no_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        parsed()
        assert list(tmp_path.iterdir()) == []

    def test_help_explains_each(self) -> None:
        options = Options()
        text = str(options)
        for name in dict(options):
            [line] = [line for line in text.splitlines() if f"--{name} " in f"{line} ".replace("=", " ")]
            assert len(line.split(name, 1)[1]) > 20
        assert "counts, exactly" in text

    def test_version(self, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            parsed("--version")
        assert end.value.code == 0
        assert capfd.readouterr().out == f"dcounter {__version__}\n"


class Port:
    """
    A port that listens somewhere.
    """

    def __init__(self, address: Any) -> None:
        self.address = address

    def getHost(self) -> Any:
        return self.address


class AtOnce:
    """
    An endpoint that listens at once.
    """

    def __init__(self, address: Any) -> None:
        self.port = Port(address)

    def listen(self, protocolFactory: object) -> Deferred[Any]:
        return succeed(self.port)


def told(address: Any, description: str, **more: Any) -> Listening:
    """
    What an endpoint tells that listens at an address.
    """
    found: list[Listening] = []
    port: list[Any] = []
    endpoint = AtOnce(address)
    announced = Announced(cast(Any, endpoint), description, tell=[found.append], **more)
    announced.listen(Factory()).addCallback(port.append)
    assert port == [endpoint.port]
    [listening] = found
    return listening


class TestAnnouncing:
    @pytest.mark.parametrize(
        ("description", "address", "where", "called"),
        [
            ("tcp:80", IPv4Address("TCP", "127.0.0.1", 80), "http://127.0.0.1:80", "http://127.0.0.1:80"),
            (
                *("tcp:80", IPv4Address("TCP", "0.0.0.0", 80)),
                *("http://127.0.0.1:80 (every interface)", "http://127.0.0.1:80"),
            ),
            ("tcp6:80", IPv6Address("TCP", "::", 80), "http://[::1]:80 (every interface)", "http://[::1]:80"),
            (
                *("ssl:80", IPv4Address("TCP", "10.0.0.1", 80)),
                *("https://10.0.0.1:80", "https://10.0.0.1:80"),
            ),
            ("unix:/run/x", UNIXAddress("/run/x"), "/run/x", "--unix-socket /run/x http://localhost"),
        ],
    )
    def test_tells_where_and_how_to_call(
        self, description: str, address: Any, where: str, called: str
    ) -> None:
        url = None if description.startswith("unix") else called
        assert told(address, description) == Listening(where, url, f"curl {called}")

    def test_tells_that_a_token_is_needed(self) -> None:
        shown = '-H "Authorization: Bearer $TOKEN"'
        for description, address, command in [
            ("tcp:80", IPv4Address("TCP", "127.0.0.1", 80), f"curl {shown} http://127.0.0.1:80"),
            ("unix:/run/x", UNIXAddress("/run/x"), f"curl --unix-socket /run/x {shown} http://localhost"),
        ]:
            assert told(address, description, tokens=True).curl == command

    @pytest.mark.parametrize("in_background", [False, True])
    def test_an_error_of_the_system_is_one_line(self, *, in_background: bool) -> None:
        class Failing:
            def listen(self, _: object) -> object:
                return fail(FileNotFoundError(2, "No such file or directory", "/nowhere/http.lock"))

        announced = Announced(cast(Any, Failing()), "unix:/nowhere/http", in_background=in_background)
        found: list[Any] = []
        if in_background:
            announced.listen(Factory()).addErrback(lambda why: found.append(why.value))
        else:
            with suppress(SystemExit):
                announced.listen(Factory()).addErrback(lambda why: found.append(why.value))
        [error] = found
        assert isinstance(error, CannotListen if in_background else SystemExit)
        assert str(error) == ("HTTP cannot listen: [Errno 2] No such file or directory: '/nowhere/http.lock'")

    def test_an_address_that_nobody_can_call(self) -> None:
        listening = told(UNIXAddress(None), "systemd:index=0")
        assert listening.where.startswith("UNIXAddress")
        assert (listening.url, listening.curl) == (None, None)


def built(*arguments: str) -> tuple[Any, MemoryReactorClock, list[IService]]:
    reactor = MemoryReactorClock()
    daemon = makeService(parsed(*arguments), reactor)
    assert isinstance(daemon, MultiService)
    return daemon, reactor, list(daemon)


class TestMakeService:
    def test_builds_and_starts_nothing(self) -> None:
        daemon, reactor, services = built()
        assert not daemon.running
        assert reactor.getDelayedCalls() == []
        assert reactor.tcpServers == []
        kinds = {type(service) for service in services}
        assert {InlineSupervisor, Coordinator, StreamServerEndpointService} <= kinds

    def test_nodes_are_what_was_asked_for(self) -> None:
        _, _, services = built("--nodes", "3", "--suspicion", "2")
        [supervisor] = [service for service in services if isinstance(service, InlineSupervisor)]
        nodes = [service for service in supervisor if isinstance(service, Node)]
        assert [node.node for node in nodes] == [0, 1, 2]

    def test_nobody_can_tell_where_a_ledger_puts_an_id(self) -> None:
        _, _, services = built()
        [supervisor] = [service for service in services if isinstance(service, InlineSupervisor)]
        ids = np.arange(10)
        # It shows in nothing else but the time that IDs take which somebody chose.
        places = {
            tuple(node.replica.ledger._entries.table._hash(ids).tolist())  # noqa: SLF001
            for node in supervisor
            if isinstance(node, Node)
        }
        assert len(places) == 4

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], Limits()),
            (["--suspicion", "0.5"], Limits(suspicion_s=0.5, heartbeat_s=0.1)),
            (["--max-body", str(2**25)], Limits(window_bytes=2**26)),
            (["--max-body", str(2**26)], Limits(window_bytes=2**27, queue_bytes=2**27)),
            (
                ["--max-body", str(2**28)],
                Limits(window_bytes=2**29, window_batches=256, queue_bytes=2**29),
            ),
            (["--max-body", "1024"], Limits()),
            # What is stored under one option is copied under any other.
            (["--max-tenant", "4096"], Limits()),
            (["--max-tenant", str(2**20)], Limits()),
        ],
    )
    def test_limits_follow_the_options(self, arguments: list[str], expected: Limits) -> None:
        _, _, services = built(*arguments)
        [supervisor] = [service for service in services if isinstance(service, InlineSupervisor)]
        [coordinator] = [service for service in services if isinstance(service, Coordinator)]
        found = {node._limits for node in supervisor if isinstance(node, Node)}  # noqa: SLF001
        assert found == {expected}
        assert coordinator._limits == expected  # noqa: SLF001

    def test_starting_listens_and_stopping_leaves_nothing(self) -> None:
        daemon, reactor, _ = built("--nodes", "2", "--http", "tcp:8085", "--insecure")
        daemon.startService()
        assert [server[0] for server in reactor.tcpServers] == [8090, 8091, 8085]
        assert [server[3] for server in reactor.tcpServers] == ["127.0.0.1", "127.0.0.1", ""]
        # As many callers may knock at once as may be connected.
        limits = HttpLimits()
        accepted = limits.max_connections + limits.reserved_connections + limits.max_watchers
        assert reactor.tcpServers[2][2] == accepted
        # Nodes and the coordinator call each other.
        reactor.advance(0)
        assert {(host, port) for host, port, *_ in reactor.tcpClients} == {
            ("127.0.0.1", 8090),
            ("127.0.0.1", 8091),
        }
        assert {client[3] for client in reactor.tcpClients} == {2}
        # Each conversation has a nonce of its own.
        nodes: list[Any] = [server[1] for server in reactor.tcpServers[:2]]
        nonces = {node.buildProtocol(None)._callee._own.nonce for node in nodes for _ in range(2)}  # noqa: SLF001
        assert len(nonces) == 4
        assert {len(nonce.removeprefix(NEGOTIATES)) for nonce in nonces} == {32}
        stopped: list[object] = []
        daemon.stopService().addCallback(stopped.append)
        reactor.advance(10)
        assert len(stopped) == 1
        assert reactor.getDelayedCalls() == []

    def test_options_of_http_reach_it(self) -> None:
        _, _, services = built("--idle", "33", "--host", "a.example", "--host", "[::2]", "--max-tenant", "7")
        [http] = [service for service in services if isinstance(service, StreamServerEndpointService)]
        site: Any = http.factory
        assert (site.limits.idle_s, site.limits.max_tenant_bytes) == (33, 7)
        for host, ours in ((b"a.example", True), (b"[::2]:80", True), (b"b.example", False)):
            headers = {b"host": [host]}
            refusal = site.shared.guard.objection(headers, inside=True, secure=False, body=False)
            assert (refusal is None) is ours

    def test_the_operators_token_is_where_it_was_said(self, tmp_path: Path) -> None:
        data, file = tmp_path / "data", tmp_path / "token"
        for arguments, made in [
            (["--data-dir", str(data)], data / "operator-token"),
            (["--data-dir", str(data), "--operator-token-file", str(file)], file),
        ]:
            options = Options()
            options.parseOptions(["--inline", *arguments])
            daemon: Any = makeService(options, MemoryReactorClock())
            assert made.stat().st_mode & 0o777 == 0o600
            [tenure] = [service for service in daemon if isinstance(service, Tenure)]
            tenure.startService()
            tenure.stopService()
        file.unlink()
        built("--operator-token-file", str(file))
        assert len(file.read_bytes()) == 65
        (data / "operator-token").write_bytes(b"short")
        options = Options()
        options.parseOptions(["--inline", "--data-dir", str(data)])
        with pytest.raises(
            SystemExit, match=r"dcounter does not start: .* does not hold an operator's token"
        ):
            makeService(options, MemoryReactorClock())

    def test_each_daemon_has_a_secret_of_its_own(self) -> None:
        identities = []
        for _ in range(2):
            _, _, services = built("--nodes", "1")
            [supervisor] = [service for service in services if isinstance(service, InlineSupervisor)]
            [node] = [service for service in supervisor if isinstance(service, Node)]
            identities.append(node._identity)  # noqa: SLF001
        assert identities[0].secrets.used != identities[1].secrets.used
        assert identities[0].cluster != identities[1].cluster
        assert min(len(identity.secrets.used) for identity in identities) >= 32

    def test_ports_end_where_they_must(self) -> None:
        _, _, services = built("--node-port", "65500")
        [coordinator] = [service for service in services if isinstance(service, Coordinator)]
        links = coordinator._links.values()  # noqa: SLF001
        found = {max(a.ports) for link in links for a in link._address_book.addresses.values()}  # noqa: SLF001
        assert found == {65_535}

    def test_without_a_reactor_it_takes_twisteds_own(self) -> None:
        from twisted.internet import reactor

        daemon = makeService(parsed("--nodes", "1"))
        [supervisor] = [service for service in daemon if isinstance(service, InlineSupervisor)]  # type: ignore[attr-defined]
        [node] = list(supervisor)
        assert node._clock is reactor  # noqa: SLF001

    def test_timers_go_on_although_the_wall_clock_is_set_back(self) -> None:
        wall = [1_000_000.0]
        reactor = SimpleNamespace(seconds=lambda: wall[0])
        keep_steady_time(reactor)
        due = reactor.seconds()
        assert due >= 1_000_000
        wall[0] -= 3600
        assert reactor.seconds() >= due


@pytest.fixture
def descriptors() -> Iterator[int]:
    """
    How many descriptors this process could open; few are permitted meanwhile.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestDescriptors:
    def _started(self, wanted: int) -> int:
        Descriptors(wanted).privilegedStartService()
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def test_as_many_as_are_wanted(self, descriptors: int, caplog: pytest.LogCaptureFixture) -> None:
        assert self._started(300) == 300
        # Never fewer than there were.
        assert self._started(100) == 300
        assert caplog.text == ""

    def test_as_many_as_are_permitted(self, descriptors: int, caplog: pytest.LogCaptureFixture) -> None:
        assert self._started(descriptors + 1) == descriptors
        assert f"only {descriptors} file descriptors are permitted" in caplog.text

    def test_the_daemon_wants_enough_for_all_its_connections(self) -> None:
        _, _, services = built("--nodes", "3")
        [wanted] = [service._wanted for service in services if isinstance(service, Descriptors)]  # noqa: SLF001
        assert wanted > 3 * Limits().connections


class TestImporting:
    @pytest.mark.parametrize("module", ["dcounter.tap", "twisted.plugins.dcounter_plugin"])
    def test_chooses_no_reactor(self, module: str) -> None:
        code = (
            f"import sys, {module}\n"
            "bad = [each for each in ('klein', 'twisted.internet.reactor') if each in sys.modules]\n"
            "assert not bad, bad\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")

    def test_the_plugin_is_data_only(self) -> None:
        code = "import sys, twisted.plugins.dcounter_plugin as p; assert 'dcounter' not in sys.modules"
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stderr) == (0, "")

    def test_twistd_finds_it(self) -> None:
        [plugin] = [each for each in getPlugins(IServiceMaker) if each.tapname == "dcounter"]
        assert plugin.options is Options
        assert plugin.makeService is makeService
