"""
What `twistd dcounter` builds when nodes are processes, and what `twistd dcounter node` is.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError

from dcounter.coordinator.service import Coordinator
from dcounter.daemon.announcing import Announced, CannotListen
from dcounter.daemon.children import die_with
from dcounter.daemon.operations import Operations
from dcounter.daemon.options import Options
from dcounter.daemon.process import Daemon, Process
from dcounter.daemon.supervisor import ProcessSupervisor
from dcounter.daemon.tenure import Tenure
from dcounter.errors import ConfigurationError, NotSupported
from dcounter.journal.file import FileJournal
from dcounter.journal.memory import MemoryJournal
from dcounter.node.progress import CANNOT_START, Progress
from dcounter.node.service import Node
from dcounter.protocol.position import Position
from dcounter.tap import makeService


class Reactor(MemoryReactorClock):
    """
    A reactor in memory that remembers what it was to start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[tuple[list[str], dict[str, str]]] = []
        self.stops = 0

    def spawnProcess(self, protocol: Any, program: str, arguments: Any, env: Any, childFDs: Any) -> None:
        assert program == sys.executable
        self.spawned.append((list(arguments), dict(env)))

    def stop(self) -> None:
        self.stops += 1

    def run_hooks(self) -> None:
        """
        Call what is to be called when it runs.
        """
        for call, arguments, named in self.whenRunningHooks:
            call(*arguments, **named)

    def callFromThread(self, callable: Any, *args: Any, **kw: Any) -> None:
        callable(*args, **kw)


def built(*arguments: str) -> tuple[Any, Reactor]:
    reactor = Reactor()
    options = Options()
    options.parseOptions(list(arguments))
    daemon = makeService(options, reactor)
    assert isinstance(daemon, MultiService)
    return daemon, reactor


def begun_and_ended(daemon: Any, reactor: Reactor) -> None:
    """
    Let a daemon begin to use its directory, and end.
    """
    only(daemon, Tenure).startService()
    only(daemon, Tenure).stopService()


@contextmanager
def handlers_kept() -> Iterator[None]:
    """
    Signal handlers are afterwards what they were.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def only(daemon: Any, kind: type[Any]) -> Any:
    [found] = [service for service in daemon if isinstance(service, kind)]
    return found


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text("a secret that is long enough\n")
    return str(tmp_path / "secret")


class _Above(dict[str, Any]):
    """
    The options of `twistd` itself.
    """

    parent = None


class TestProcesses:
    def test_a_command_for_each_node(self, tmp_path: Path) -> None:
        daemon, reactor = built(
            *("--nodes", "2", "--data-dir", str(tmp_path), "--suspicion", "9", "--log-level", "warn")
        )
        only(daemon, ProcessSupervisor).startService()
        commands = [command for command, _ in reactor.spawned]
        assert len(commands) == 2
        for node, command in enumerate(commands):
            options = Options()
            options.parseOptions([*command[command.index("dcounter") + 1 :], "--secret-file", "/dev/null"])
            inner = options.subOptions
            assert (inner["id"], inner["port"], inner["interface"]) == (node, 8090 + node, "127.0.0.1")
            assert inner["peers"] == {1 - node: ("127.0.0.1", 8091 - node)}
            assert inner["data-dir"] == str(tmp_path / f"node-{node}")
            assert (inner["parent"], inner["suspicion"]) == (os.getpid(), 9.0)
            assert (inner["log-level"], inner["status"]) == ("warn", 3)

    def test_nothing_of_the_working_directory_is_on_the_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for given, kept in [(":/a::/b:", "/a:/b"), (":", None)]:
            monkeypatch.setenv("PYTHONPATH", given)
            daemon, reactor = built("--nodes", "1", "--data-dir", str(tmp_path))
            only(daemon, ProcessSupervisor).startService()
            [(command, environment)] = reactor.spawned
            assert command[1] == "-P"
            assert environment.get("PYTHONPATH") == kept
            begun_and_ended(daemon, reactor)

    def test_the_secret_is_in_no_command(self, tmp_path: Path) -> None:
        daemon, reactor = built("--nodes", "1", "--data-dir", str(tmp_path))
        only(daemon, ProcessSupervisor).startService()
        [(command, environment)] = reactor.spawned
        secret = environment["DCOUNTER_SECRET"]
        assert len(bytes.fromhex(secret)) >= 16
        address_book = only(daemon, Coordinator)._links[0]._address_book  # noqa: SLF001
        assert environment["DCOUNTER_BOOT"] == address_book._identity.boot  # noqa: SLF001
        assert not any(secret in word for word in command)

    def test_in_memory_means_the_nodes_too(self) -> None:
        daemon, reactor = built("--nodes", "1", "--in-memory")
        only(daemon, ProcessSupervisor).startService()
        [(command, _)] = reactor.spawned
        assert "--in-memory" in command
        assert "--data-dir" not in command

    def test_a_node_that_keeps_nothing_is_set_aside_when_the_daemon_starts(self, tmp_path: Path) -> None:
        begun_and_ended(*built("--nodes", "2", "--data-dir", str(tmp_path)))
        (tmp_path / "node-1").mkdir()
        options = ["--nodes", "2", "--data-dir", str(tmp_path), "--rebuild", "1", "--rebuild", "0"]
        daemon, reactor = built(*options)
        # A start that fails changes nothing: HTTP does not listen yet.
        assert sorted(os.listdir(tmp_path)) == ["cluster.json", "node-1", "operator-token"]
        begun_and_ended(daemon, reactor)
        cluster, aside, token = sorted(os.listdir(tmp_path))
        assert (cluster, token) == ("cluster.json", "operator-token")
        assert aside.startswith("node-1.set-aside-")

    @pytest.mark.parametrize(
        ("nodaemon", "error"), [(None, SystemExit), (True, SystemExit), (False, ConfigurationError)]
    )
    def test_what_cannot_be_set_aside_ends_the_daemon(
        self, nodaemon: bool | None, error: type[BaseException], tmp_path: Path
    ) -> None:
        begun_and_ended(*built("--nodes", "1", "--data-dir", str(tmp_path)))
        (tmp_path / "node-0").mkdir()
        options = Options()
        cast(Any, options).parent = None if nodaemon is None else _Above(nodaemon=nodaemon)
        options.parseOptions(["--nodes", "1", "--data-dir", str(tmp_path), "--rebuild", "0"])
        daemon = makeService(options, Reactor())
        (tmp_path / "node-0").rmdir()
        with pytest.raises(error, match=r"--rebuild: .*node-0: No such file"):
            only(daemon, Tenure).startService()
        only(daemon, Tenure).stopService()

    def test_a_rebuild_without_another_copy_is_refused(self, tmp_path: Path) -> None:
        begun_and_ended(*built("--nodes", "1", "--data-dir", str(tmp_path)))
        (tmp_path / "node-0").mkdir()
        (tmp_path / "node-0" / "000000000001.journal").write_text("damaged\nall of it\n")
        options = ["--nodes", "1", "--data-dir", str(tmp_path), "--rebuild", "0"]
        with pytest.raises(SystemExit, match="--rebuild 0 is refused because data would be lost"):
            built(*options)
        assert sorted(os.listdir(tmp_path)) == ["cluster.json", "node-0", "operator-token"]
        begun_and_ended(*built(*options, "--accept-data-loss"))
        assert not (tmp_path / "node-0").exists()

    def test_a_directory_of_another_cluster_is_refused(self, tmp_path: Path) -> None:
        begun_and_ended(*built("--nodes", "2", "--data-dir", str(tmp_path)))
        with pytest.raises(SystemExit, match=r"dcounter does not start: .*--nodes 2"):
            built("--nodes", "1", "--data-dir", str(tmp_path))

    def test_a_start_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SystemExit, match=r"does not start: .*file is not a directory"):
            built("--data-dir", str(tmp_path / "file" / "data"))
        assert os.listdir(tmp_path) == ["file"]

    def test_the_directory_is_the_same_wherever_twistd_goes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        daemon, reactor = built("--nodes", "1", "--data-dir", "data")
        only(daemon, Tenure).startService()
        only(daemon, ProcessSupervisor).startService()
        [(command, _)] = reactor.spawned
        assert command[-1] == str(tmp_path / "data" / "node-0")
        only(daemon, Tenure).stopService()

    def test_twistd_changes_the_root_too_late(self, tmp_path: Path, secret: str) -> None:
        for words in (["--data-dir", str(tmp_path / "data")], ["node", "--secret-file", secret]):
            options = Options()
            cast(Any, options).parent = _Above(chroot="/srv")
            options.parseOptions(words)
            with pytest.raises(SystemExit, match=r"changes the root \(--chroot\) too late"):
                makeService(options, Reactor())
        assert os.listdir(tmp_path) == ["secret"]


class TestStarts:
    def test_each_start_of_a_daemon_is_another_one_and_its_tokens_are_good_for_all(
        self, tmp_path: Path
    ) -> None:
        daemons = []
        for _ in range(2):
            daemon, reactor = built("--nodes", "1", "--data-dir", str(tmp_path))
            begun_and_ended(daemon, reactor)
            daemons.append(daemon)
        coordinators = [only(daemon, Coordinator) for daemon in daemons]
        boots = {each._links[0]._address_book._identity.boot for each in coordinators}  # noqa: SLF001
        assert len(boots) == 2
        assert {len(boot) for boot in boots} == {32}
        one, other = (each._seal for each in coordinators)  # noqa: SLF001
        assert other.open(one.seal(Position(), 1)) == (Position(), 1)

    def test_what_runs_by_itself_belongs_to_none(self, secret: str) -> None:
        service, _ = built(*f"node --id 0 --in-memory --secret-file {secret}".split())
        joined, _ = built("--join", "tcp:a:1", "--secret-file", secret)
        assert only(service, Node)._identity.boot == ""  # noqa: SLF001
        assert only(joined, Coordinator)._links[0]._address_book._identity.boot == ""  # noqa: SLF001

    def test_each_process_of_a_node_is_another_one(self, secret: str) -> None:
        nodes = [
            only(built(*f"node --id 0 --in-memory --secret-file {secret}".split())[0], Node) for _ in range(2)
        ]
        assert len({node._address_book.instance for node in nodes}) == 2  # noqa: SLF001


class TestJoining:
    def test_a_coordinator_without_nodes_of_its_own(self, secret: str) -> None:
        daemon, _ = built("--join", "tcp:a:1", "--join", "tcp:b:2", "--secret-file", secret)
        assert not [service for service in daemon if isinstance(service, ProcessSupervisor)]
        addresses = only(daemon, Coordinator)._links[1]._address_book.addresses  # noqa: SLF001
        assert [(each.host, each.port) for each in addresses.values()] == [("a", 1), ("b", 2)]

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["--join", "tcp:a:1"], "--join needs --secret-file"),
            (["--secret-file", "s"], "--secret-file works only with --join"),
            *(
                (
                    ["--join", "tcp:a:1", "--secret-file", "s", *ignored],
                    f"so {ignored[0]} would have no effect",
                )
                for ignored in (
                    # Whether or not it is what the option is anyway.
                    ["--nodes", "4"],
                    ["--node-port", "8090"],
                    ["--data-dir", "./dcounter-data"],
                    ["--in-memory"],
                    ["--inline"],
                    ["--rebuild", "0"],
                )
            ),
            (
                ["--join", "tcp:a:1", "--secret-file", "s", "--inline", "--nodes", "2"],
                "so --nodes, --inline would have no effect",
            ),
            (["--join", "a:1"], "--join must be an address like tcp:HOST:PORT, not 'a:1'"),
            (["--join", "tcp:a:99999"], "--join must be an address"),
            (["--rebuild", "x"], "--rebuild must be an integer >= 0, not 'x'"),
            (["--rebuild", "4"], "--rebuild: the cluster has only nodes 0 to 3"),
            (["--in-memory", "--data-dir", "d"], "nothing on disk, so --data-dir would have no effect"),
            (["--in-memory", "--rebuild", "0"], "nothing on disk, so --rebuild would have no effect"),
        ],
    )
    def test_what_cannot_work_is_refused(self, arguments: list[str], why: str) -> None:
        with pytest.raises(UsageError, match=why):
            built(*arguments)

    def test_a_secret_must_be_readable_and_long(self, tmp_path: Path) -> None:
        (tmp_path / "short").write_text("short")
        for name, why in [("short", "fewer than 16 bytes"), ("none", "No such file")]:
            with pytest.raises(SystemExit, match=f"dcounter does not start: --secret-file: .*{why}"):
                built("--join", "tcp:a:1", "--secret-file", str(tmp_path / name))

    def test_restarts_no_node_that_it_did_not_start(self) -> None:
        with pytest.raises(NotSupported, match="did not start its nodes"):
            Operations(None, None).restart(0).send(None)  # type: ignore[arg-type]


class TestNode:
    def test_is_one_node(self, tmp_path: Path, secret: str) -> None:
        arguments = [
            "node",
            "--id",
            "1",
            "--listen",
            "tcp:7000",
            "--peer",
            "0=tcp:a:1",
            "--peer",
            "2=tcp:c:3",
            "--secret-file",
        ]
        service, _ = built(*arguments, secret, "--data-dir", str(tmp_path / "data"))
        node = only(service, Node)
        assert node.node == 1
        assert list(node._identity.members) == [0, 1, 2]  # noqa: SLF001
        assert node._identity.secrets.used == b"a secret that is long enough"  # noqa: SLF001
        assert isinstance(node._journal, FileJournal)  # noqa: SLF001

    def test_who_shares_the_secret_shares_the_cluster(self, secret: str) -> None:
        one, _ = built(*f"node --id 0 --peer 1=tcp:b:2 --in-memory --secret-file {secret}".split())
        other, _ = built(*f"node --id 1 --peer 0=tcp:a:1 --in-memory --secret-file {secret}".split())
        assert only(one, Node)._identity == only(other, Node)._identity  # noqa: SLF001
        assert isinstance(only(one, Node)._journal, MemoryJournal)  # noqa: SLF001

    def test_a_child_has_its_secret_from_its_parent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DCOUNTER_SECRET", b"from the parent".hex())
        monkeypatch.setenv("DCOUNTER_BOOT", "this start")
        service, _ = built("node", "--cluster", "cd" * 16, "--in-memory")
        assert only(service, Node)._identity.secrets.used == b"from the parent"  # noqa: SLF001
        assert only(service, Node)._identity.cluster == "cd" * 16  # noqa: SLF001
        assert only(service, Node)._identity.boot == "this start"  # noqa: SLF001
        assert not {"DCOUNTER_SECRET", "DCOUNTER_BOOT"} & os.environ.keys()

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ("--peer 1", "--peer must be like 1=tcp:HOST:PORT, not"),
            ("--peer 2=tcp:a:1", "must name nodes 0, 1, 2"),
            ("--peer 0=tcp:a:1", "must name nodes 0, 1, 2"),
            ("--listen 8090", "--listen must be like tcp:8090 or .*, not '8090'"),
            ("--listen tcp:0", "--listen"),
            ("", "--secret-file is needed"),
            ("--peer-tls-key k", "--peer-tls-cert, --peer-tls-key and --peer-tls-ca work only together"),
        ],
    )
    def test_what_cannot_work_is_refused(self, arguments: str, why: str) -> None:
        with pytest.raises(UsageError, match=why):
            built("node", "--in-memory", *arguments.split())

    def test_a_child_that_cannot_use_its_directory_tells_its_parent(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "node-0").write_text("a file")
        told: list[Progress | None] = []
        reading, writing = os.pipe()
        try:
            # The second time nobody reads it any more.
            for _ in range(2):
                monkeypatch.setenv("DCOUNTER_SECRET", "00" * 32)
                with pytest.raises(SystemExit) as ended:
                    built("node", "--status", str(writing), "--data-dir", str(tmp_path / "node-0"))
                assert ended.value.code == CANNOT_START
                if not told:
                    told.append(Progress.from_line(os.read(reading, 4096).removesuffix(b"\n")))
                    os.close(reading)
        finally:
            os.close(writing)
        [progress] = told
        assert progress is not None
        assert progress.state == "cannot start"
        path = tmp_path / "node-0"
        assert progress.why.startswith(f"{path}: File exists: {path} is not a directory: move it away")

    @pytest.mark.parametrize("child", [False, True])
    def test_a_node_that_cannot_start_ends_the_process(
        self,
        child: bool,
        tmp_path: Path,
        secret: str,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        reading, writing = os.pipe()
        try:
            where = ["--data-dir", str(tmp_path / "node")]
            if child:
                monkeypatch.setenv("DCOUNTER_SECRET", "00" * 32)
                process, reactor = built("node", *where, "--status", str(writing))
            else:
                process, reactor = built("node", *where, "--secret-file", secret)
            [node] = [each for each in process if isinstance(each, Node)]
            node._tell(Progress("cannot start", "it is damaged"))  # noqa: SLF001
            os.close(writing)
            assert os.read(reading, 4096) == (b"cannot start: it is damaged\n" if child else b"")
        finally:
            os.close(reading)
        assert ("node 0 cannot start: it is damaged" in caplog.text) != child
        reactor.run_hooks()
        assert reactor.stops == 1

    def test_without_its_parent_it_does_not_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[int, ...]] = []

        class Library:
            def prctl(self, *arguments: int) -> int:
                asked.append(arguments)
                return 0

        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library())
        monkeypatch.setattr(os, "setsid", lambda: None)
        die_with(os.getppid())
        assert asked == [(1, signal.SIGKILL)]
        with pytest.raises(ConfigurationError, match="has ended"):
            die_with(1 if os.getppid() != 1 else 2)


class TestStopping:
    def test_one_after_the_other_the_last_one_first(self) -> None:
        happened: list[str] = []
        first_ends: Deferred[None] = Deferred()

        class Part(MultiService):
            def stopService(self) -> Any:
                happened.append(str(self.name))
                return first_ends if self.name == "last" else None

        async def between() -> None:
            happened.append("between")

        daemon = Daemon(Reactor(), twistd={}, level="info")
        parts: list[IService] = []
        for name in ("first", "last"):
            part = Part()
            part.setName(name)
            part.setServiceParent(daemon)
            parts.append(part)
        daemon.after(parts[1], between)
        stopped: list[None] = []
        daemon.stopService().addCallback(stopped.append)
        assert happened == ["last"]
        first_ends.callback(None)
        assert happened == ["last", "between", "first"]
        assert stopped == [None]

    def test_a_signal_is_an_order(self) -> None:
        reactor = Reactor()
        Process(reactor, twistd={}).startService()
        with handlers_kept():
            reactor.run_hooks()
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert reactor.stops == 1

    @pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
    def test_other_signals_end_nothing(
        self, number: signal.Signals, caplog: pytest.LogCaptureFixture
    ) -> None:
        reactor = Reactor()
        Process(reactor, twistd={}).startService()
        with handlers_kept(), caplog.at_level("INFO"):
            reactor.run_hooks()
            os.kill(os.getpid(), number)
        assert reactor.stops == 0
        assert f"received {number.name}: nothing to do" in caplog.text

    def test_an_end_for_a_reason_is_one(self) -> None:
        reactor = Reactor()
        process = Process(reactor, twistd={})
        for _ in range(2):
            process.end(1)
        assert reactor.stops == 0
        reactor.run_hooks()
        assert reactor.stops == 1

    def test_a_taken_http_port_is_said_in_one_line(self) -> None:
        class Taken:
            def listen(self, protocolFactory: object) -> Deferred[Any]:
                return fail(CannotListenError("127.0.0.1", 8085, OSError("taken")))

        # twistd hears only of the one when it is in the background, and shows a traceback of it otherwise.
        for in_background, kind in [(False, SystemExit), (True, CannotListen)]:
            ended: list[Any] = []
            announced = Announced(Taken(), in_background=in_background)  # type: ignore[arg-type]
            announced.listen(Factory()).addErrback(ended.append)
            assert ended[0].check(kind)
            assert "HTTP cannot listen" in str(ended[0].value)
