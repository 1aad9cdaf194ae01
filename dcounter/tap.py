"""
The `twistd dcounter` command: options, and the only wiring of the daemon.

`twistd dcounter` is a coordinator with HTTP; it starts its nodes, or joins nodes that run elsewhere.
`twistd dcounter node` is one node.
"""

import atexit
import contextlib
import ctypes
import gc
import hashlib
import os
import random
import re
import resource
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast, get_args

from twisted.application import strports
from twisted.application.service import IService, Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProcessProtocol,
    IProcessTransport,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError
from zope.interface import implementer

from dcounter import __version__
from dcounter.coordinator.service import Coordinator
from dcounter.daemon.account import Account
from dcounter.daemon.data_directory import DataDirectory, open_data_directory, open_node_directory
from dcounter.daemon.listening import complete, curl
from dcounter.daemon.logs import LEVELS
from dcounter.daemon.operator_token import FILE_NAME, open_operator_token
from dcounter.daemon.process import Process
from dcounter.daemon.setting_aside import SettingAside, prepare
from dcounter.daemon.supervisor import STATUS, InlineSupervisor, ProcessSupervisor
from dcounter.daemon.trial import see_that_it_can_listen
from dcounter.daemon.unix_sockets import cleared
from dcounter.errors import ConfigurationError, UnknownNode
from dcounter.http.auth import OperatorToken
from dcounter.journal.disk import RealDisk
from dcounter.journal.file import FileJournal, WriterThread
from dcounter.journal.interface import Journal
from dcounter.journal.memory import MemoryJournal
from dcounter.limits import LONGEST_TENANT, MEBIBYTE, Limits
from dcounter.links.link import Address, Complaints, Directory
from dcounter.node.replica import Replica
from dcounter.node.service import Node
from dcounter.node.startup import CANNOT_START, Progress, Tell
from dcounter.protocol.clock import HybridClock, SteadyWall
from dcounter.protocol.handshake import Identity, Role
from dcounter.protocol.token import TokenSeal
from dcounter.protocol.wire import is_piece
from dcounter.store import Ack, Consistency

_log = Logger()

_HOST = "127.0.0.1"
_CONNECT_TIMEOUT = 2
"""
Time (s) for a connection to a node.
"""

_CHILD_VARIABLE = "DCOUNTER_SECRET"
"""
How a child process is told the secret: its environment is not for others to read, its arguments are.
"""

_MOST_NODES = 16
"""
Every node holds everything and follows every other one, so heartbeats grow with the square of the number: on
2 cores that others used as well 16 nodes became ready in half a minute, 32 not in a minute and a half.
"""

_BOOT_VARIABLE = "DCOUNTER_BOOT"
"""
How a child process is told which start of the daemon it belongs to.
"""

_SET_ASIDE = (
    "If all other nodes of the cluster are up and take writes, set that directory aside, but keep it, and "
    "start the node again: it is made anew from them. Else leave it there: it may hold what no other one has"
)
_RESTORE = "The cluster has no other node to make it anew from: put back a backup, but keep that directory"
"""
What to do about a damaged journal of a node by itself: with others in its cluster, and without.
"""

_TWISTD = "from twisted.scripts.twistd import run; run()"
"""
What the process of a node runs. `python -m` would import what lies in the working directory.
"""

_PR_SET_PDEATHSIG = 1


def _at_least(option: str, least: int) -> Any:
    def coerce(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and int(text) >= least):
            raise ValueError(f"--{option} must be a whole number from {least} on, not {text!r}")
        return int(text)

    return coerce


def _seconds(option: str, least: float, most: float) -> Any:
    def coerce(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1
        if not least <= number <= most:
            raise ValueError(f"--{option} must be {least:g} to {most:g} seconds, not {text!r}")
        return number

    return coerce


def _address(text: str) -> tuple[str, int]:
    """
    Host and port of `tcp:host:port`.
    """
    found = re.fullmatch(r"tcp:([^:]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[2]) < 65_536:
        raise UsageError(f"{text!r} is no address like tcp:host:port")
    return found[1], int(found[2])


def _listen_address(text: str) -> tuple[str, int]:
    """
    Interface and first port of `tcp:port:interface=address`.
    """
    found = re.fullmatch(r"tcp:([0-9]{1,5})(?::interface=([0-9.]+))?", text)
    if found is None or not 0 < int(found[1]) < 65_536:
        raise UsageError(f"--listen: {text!r} is not like tcp:8090 or tcp:8090:interface=10.0.0.1")
    return found[2] or "", int(found[1])


def _read_secret(path: str) -> bytes:
    """
    The secret that all nodes and coordinators of a cluster share.
    """
    try:
        with open(path, "rb") as file:
            secret = file.read().strip()
    except OSError as error:
        raise ConfigurationError(f"--secret-file: {error}") from error
    if len(secret) < 16:
        raise ConfigurationError(
            f"--secret-file: {path} holds less than 16 bytes: put the secret there that the cluster's other "
            "processes have; a new cluster needs a longer one"
        )
    return secret


def _show_version() -> None:
    # Twisted's own option would show Twisted's; this is a command's output, not a log.
    os.write(1, f"dcounter {__version__}\n".encode())
    raise SystemExit(0)


def _level(text: str) -> str:
    if text not in LEVELS:
        raise ValueError(f"--log-level must be one of {', '.join(LEVELS)}, not {text!r}")
    return text


_LOG_LEVEL = ["log-level", None, "info", f"The least level that is logged: {', '.join(LEVELS)}.", _level]


class NodeOptions(TwistedOptions):
    """
    What `twistd dcounter node` takes.
    """

    synopsis = "[options]"
    longdesc = "Runs one node of a cluster."

    optParameters: ClassVar[list[list[Any]]] = [
        ["id", None, 0, "The id of this node; the nodes of a cluster are 0, 1, 2, ...", _at_least("id", 0)],
        ["listen", None, "tcp:8090", "First port of this node: tcp:PORT or tcp:PORT:interface=ADDRESS."],
        ["data-dir", None, "./dcounter-data", "Where this node keeps its journal."],
        ["secret-file", None, None, "A file with the secret that all of the cluster share."],
        [
            "suspicion",
            None,
            1.0,
            "Silence after which a node is taken for gone, in seconds.",
            _seconds("suspicion", 0.1, 3600),
        ],
        ["cluster", None, None, "The id of the cluster; unless given, it follows from the secret."],
        ["parent", None, 0, "The process without which this one must not live.", _at_least("parent", 1)],
        [
            "status",
            None,
            0,
            "The descriptor on which to say how the start goes.",
            _at_least("status", 3),
        ],
        _LOG_LEVEL,
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["in-memory", None, "Keep nothing on disk: what is stored is gone when the node stops."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["peers"] = {}

    def opt_version(self) -> None:
        """
        Show the version of dcounter and exit.
        """
        _show_version()

    def opt_peer(self, peer: str) -> None:
        """
        Another node, as ID=tcp:host:port; once for each.
        """
        found = re.fullmatch(r"([0-9]{1,5})=(.*)", peer)
        if found is None:
            raise UsageError(f"--peer: {peer!r} is not like 1=tcp:host:port")
        self["peers"][int(found[1])] = _address(found[2])

    def postOptions(self) -> None:
        """
        Check what was given.

        :raises UsageError: it cannot work.
        """
        members = sorted({self["id"], *self["peers"]})
        if self["id"] in self["peers"] or members != list(range(len(members))):
            raise UsageError(f"the nodes must be 0, 1, 2, ..., each once; not {members} from --id and --peer")
        self["interface"], self["port"] = _listen_address(self["listen"])
        if self["secret-file"] is None and _CHILD_VARIABLE not in os.environ:
            raise UsageError("--secret-file is needed")


_OWN_NODES: Mapping[str, Any] = {"nodes": 4, "node-port": 8090, "data-dir": "./dcounter-data"}
"""
Options about a daemon's own nodes, and what they are unless given.
"""


class Options(TwistedOptions):
    """
    What `twistd dcounter` takes.
    """

    synopsis = "[options] [node [options]]"
    longdesc = "Stores items and counts, exactly, how many each tenant owns."

    subCommands: ClassVar[list[Any]] = [["node", None, NodeOptions, "Run one node by itself."]]
    optParameters: ClassVar[list[list[Any]]] = [
        ["http", None, "tcp:8085:interface=127.0.0.1", "Where HTTP listens: a Twisted endpoint description."],
        # The defaults of these are in _OWN_NODES: what is given must be told from what is not.
        ["nodes", None, None, "How many nodes store and count. [default: 4]", _at_least("nodes", 1)],
        [
            "node-port",
            None,
            None,
            "First port for nodes; a taken one is skipped. [default: 8090]",
            _at_least("node-port", 1),
        ],
        ["data-dir", None, None, "Where nodes keep their journals. [default: ./dcounter-data]"],
        ["secret-file", None, None, "With --join: a file with the secret that all of the cluster share."],
        ["max-body", None, 16 * MEBIBYTE, "Largest body of a request, bytes.", _at_least("max-body", 1024)],
        ["max-tenant", None, 256, "Longest tenant name, in bytes of UTF-8.", _at_least("max-tenant", 1)],
        ["ack", None, "node", f"How wide a store is durable by default: {', '.join(get_args(Ack))}."],
        [
            "idle",
            None,
            75.0,
            "Silence after which an HTTP connection is closed, in seconds.",
            _seconds("idle", 1, 86_400),
        ],
        ["operator-token-file", None, None, "A file with the token that restarts and gives up nodes."],
        [
            "consistency",
            None,
            "exact",
            f"What a count may answer by default: {', '.join(get_args(Consistency))}.",
        ],
        [
            "suspicion",
            None,
            1.0,
            "Silence after which a node is taken for gone, in seconds.",
            _seconds("suspicion", 0.1, 3600),
        ],
        _LOG_LEVEL,
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["in-memory", None, "Keep nothing on disk: what is stored is gone when the daemon stops."],
        ["inline", None, "Run the nodes in this process instead of each in its own."],
        [
            "accept-data-loss",
            None,
            "With --rebuild: do it even if data is lost; without, the start says which.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["rebuild"] = []
        self["join"] = []
        self["host"] = []

    def opt_version(self) -> None:
        """
        Show the version of dcounter and exit.
        """
        _show_version()

    def opt_rebuild(self, node: str) -> None:
        """
        Make this node anew from the other ones, if they keep all it has; may be given again.
        """
        try:
            self["rebuild"].append(int(node))
        except ValueError as error:
            raise UsageError(f"--rebuild: {node!r} is no node id") from error

    def opt_host(self, name: str) -> None:
        """
        A further name of the daemon in the header Host, as a proxy passes it on. May be given again.
        """
        if re.fullmatch(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", name) is None:
            raise UsageError(f"--host: {name!r} is no name of a host; leave out scheme and port")
        self["host"].append(name)

    def opt_join(self, address: str) -> None:
        """
        Start no nodes but use this one, as tcp:host:port; once for each, in the order of their ids.
        """
        self["join"].append(_address(address))

    def postOptions(self) -> None:
        """
        Check what was given.

        :raises UsageError: it cannot work.
        """
        if self.subCommand is not None:
            return
        for name, words in (("ack", get_args(Ack)), ("consistency", get_args(Consistency))):
            if self[name] not in words:
                raise UsageError(f"--{name} must be one of {', '.join(words)}, not {self[name]!r}")
        if self["max-tenant"] > LONGEST_TENANT:
            raise UsageError(
                f"--max-tenant must be at most {LONGEST_TENANT}: a name has to fit into one message"
            )
        self._settle_nodes()
        if self["nodes"] > _MOST_NODES:
            raise UsageError(
                f"--nodes: at most {_MOST_NODES}, since every node holds everything and follows all others"
            )
        if self["node-port"] + self["nodes"] > 65_536:
            raise UsageError(f"--node-port: no room for {self['nodes']} nodes from {self['node-port']} on")
        if self["accept-data-loss"] and not self["rebuild"]:
            raise UsageError("--accept-data-loss is for --rebuild only")
        if any(not 0 <= node < self["nodes"] for node in self["rebuild"]):
            raise UsageError(f"--rebuild: only nodes 0 to {self['nodes'] - 1} are there")
        try:
            # A reactor is not there yet; the description alone is checked.
            serverFromString(cast(Any, None), self["http"])
        except (ValueError, TypeError, LookupError, AttributeError, OSError) as error:
            raise UsageError(f"--http: {self['http']!r} is no endpoint: {error}") from error
        port = re.match(r"(?:tcp6?|ssl):(?:port=)?([0-9]+)", self["http"])
        if port is not None and int(port[1]) > 65_535:
            raise UsageError(f"--http: {self['http']!r} is no endpoint: there is no port {port[1]}")

    def _settle_nodes(self) -> None:
        """
        Refuse what would do nothing, and fill in the defaults of the daemon's own nodes.
        """
        ignored = [*_OWN_NODES, "in-memory", "inline", "rebuild"]
        given = [f"--{name}" for name in ignored if self[name] not in (None, [], False)]
        if self["join"] and given:
            raise UsageError(
                f"--join starts no nodes, so {', '.join(given)} would do nothing: leave out one or the other"
            )
        given = [f"--{name}" for name in ("data-dir", "rebuild") if self[name] not in (None, [])]
        if self["in-memory"] and given:
            raise UsageError(f"--in-memory keeps nothing on disk, so {', '.join(given)} would do nothing")
        if self["join"] and self["secret-file"] is None:
            raise UsageError("--join needs --secret-file")
        if self["secret-file"] is not None and not self["join"]:
            raise UsageError(
                "--secret-file is for --join: a daemon that starts its nodes has a secret of its own"
            )
        for name, default in _OWN_NODES.items():
            if self[name] is None:
                self[name] = default


@implementer(IStreamServerEndpoint)
class _Announced:
    """
    An endpoint that says where it listens and what to try.

    :param description: what it was made of.
    :param new: whether the cluster was made just now.
    """

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        description: str = "",
        *,
        in_background: bool = False,
        new: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._description = description
        self._in_background = in_background
        self._new = new

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        return self._endpoint.listen(protocolFactory).addCallbacks(self._say, self._taken)

    def _taken(self, why: Failure) -> IListeningPort:
        # The lock of a Unix socket fails with an error of the system.
        why.trap(CannotListenError, OSError)
        text = f"HTTP cannot listen: {why.getErrorMessage()}"
        raise CannotListen(text) if self._in_background else SystemExit(text)

    def _say(self, port: IListeningPort) -> IListeningPort:
        address = port.getHost()
        how = curl(self._description, address)
        if how is None:
            _log.info("HTTP listens on {address}", address=address)
            return port
        options, url = how
        where = os.fsdecode(address.name or b"") if isinstance(address, UNIXAddress) else url
        _log.info("HTTP listens on {where}", where=where)
        command = f"curl {options} {url}" if options else f"curl {url}"
        if not self._new:
            # Items of an example would take the place of real ones.
            _log.info("try: {command}/cluster", command=command)
            return port
        items = '[{"ID":1,"tenant":"hello"},{"ID":2,"tenant":"publicsonar"}]'
        _log.info("try: {command}/items -d '{items}'", command=command, items=items)
        _log.info("then: {command}/items/hello/count", command=command)
        return port


class CannotListen(Exception):
    """
    HTTP cannot listen, and the process is in the background already.

    Not `SystemExit`: twistd would never hear of that, and wait for the process for ever.
    """


class _Daemon(Process):
    """
    The services of the daemon: whoever waits is answered while it stops.
    """

    def __init__(self, reactor: Any, *, twistd: Mapping[str, Any], level: str) -> None:
        super().__init__(reactor, twistd=twistd, level=level)
        self._after: dict[IService, Callable[[], Awaitable[None]]] = {}

    def after(self, service: IService, action: Callable[[], Awaitable[None]]) -> None:
        """
        What is to be done when that service has stopped.
        """
        self._after[service] = action

    async def stopped(self, service: IService) -> None:
        if service in self._after:
            await self._after[service]()


class _Tenure(Service):
    """
    Uses the data directory for as long as the daemon lives: the first to start, the last to stop.

    :param aside: journals to be set aside before the nodes start. That is done when HTTP listens, so that a
        start that fails changes nothing.
    :param in_background: twistd has left the terminal: it tells nobody of a `SystemExit`, and waits for ever.
    """

    def __init__(
        self, directory: DataDirectory, aside: SettingAside | None, *, in_background: bool = False
    ) -> None:
        self._directory = directory
        self._aside = aside
        self._in_background = in_background

    def startService(self) -> None:
        super().startService()
        self._directory.begin(os.getpid())
        if self._aside is not None:
            try:
                self._aside.perform(time.time_ns())
            except ConfigurationError as error:
                if self._in_background:
                    raise
                raise SystemExit(f"dcounter does not start: {error}") from error

    def stopService(self) -> None:
        super().stopService()
        self._directory.close()


class _Operations:
    """
    What an operator may do to the nodes.

    :param supervisor: who runs them; `None` if they run elsewhere.
    """

    def __init__(
        self, coordinator: Coordinator, supervisor: InlineSupervisor | ProcessSupervisor | None
    ) -> None:
        self._coordinator = coordinator
        self._supervisor = supervisor

    async def restart(self, node: int) -> None:
        if self._supervisor is None:
            raise UnknownNode("this daemon did not start its nodes: restart them where they run")
        await self._supervisor.restart(node)

    async def forget(self, node: int) -> None:
        await self._coordinator.forget(node)


class _Wiring:
    """
    What all services of one process have in common.
    """

    def __init__(
        self, reactor: Any, identity: Identity, addresses: Mapping[int, Address], limits: Limits
    ) -> None:
        self.reactor = reactor
        self.identity = identity
        self.addresses = addresses
        self.limits = limits
        # Unlike the monotonic clock, this one goes on while the machine sleeps.
        self.wall = SteadyWall(time.time_ns, partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME))
        self.complaints = Complaints(reactor.seconds)

    def descriptors(self, nodes: int) -> int:
        """
        How many descriptors a process with so many nodes may need.
        """
        # Nodes accept connections, and make some to each other; a hundred for files, timers and the like.
        members = len(self.identity.members)
        return nodes * (self.limits.connections + 2 * members) + members + 100

    def nonce(self) -> str:
        return secrets.token_hex(16)

    def jitter(self) -> float:
        return random.uniform(-1, 1)

    def connect(self, host: str, port: int) -> IStreamClientEndpoint:
        return TCP4ClientEndpoint(self.reactor, host, port, timeout=_CONNECT_TIMEOUT)

    def directory(self, role: Role, node: int | None) -> Directory:
        return Directory(
            self.identity,
            role=role,
            node=node,
            addresses=self.addresses,
            connect=self.connect,
            nonce=self.nonce,
            limits=self.limits,
            clock=self.reactor,
            instance=self.nonce() if role == "node" else "",
            complaints=self.complaints,
        )

    def owner(self, node: int) -> str:
        """
        Whose journal that of a node is.
        """
        return f"node {node} of cluster {self.identity.cluster}"

    def journal(self, node: int, path: str | None) -> Journal:
        if path is None:
            return MemoryJournal(self.reactor)
        return FileJournal(
            RealDisk(path),
            is_piece=is_piece,
            in_thread=WriterThread(self.reactor, f"journal of node {node}"),
            clock=self.reactor,
            owner=self.owner(node),
            segment=self.limits.segment,
            most=self.limits.snapshot,
            pace=self.limits.commit_pace,
        )

    def node(self, node: int, path: str | None, interface: str, *, tell: Tell, remedy: str = "") -> Node:
        return Node(
            node,
            identity=self.identity,
            directory=self.directory("node", node),
            # As many may knock at once as there may be connections.
            listen=lambda port: TCP4ServerEndpoint(
                self.reactor, port, backlog=self.limits.connections, interface=interface
            ),
            journal=self.journal(node, path),
            limits=self.limits,
            clock=self.reactor,
            wall=self.wall,
            nonce=self.nonce,
            jitter=self.jitter,
            pid=os.getpid(),
            replica=partial(Replica, seed=secrets.randbits(64)),
            tell=tell,
            place="" if path is None else os.path.abspath(path),
            remedy=remedy,
        )

    def coordinator(self, troubles: Callable[[], Sequence[str]]) -> Coordinator:
        return Coordinator(
            troubles=troubles,
            cluster=self.identity.cluster,
            directory=self.directory("coordinator", None),
            clock=HybridClock(self.wall),
            wall=self.wall,
            seal=TokenSeal(self.identity.secret, self.identity.cluster),
            jitter=self.jitter,
        )


class _Descriptors(Service):
    """
    Lets this process open as many descriptors as its connections may need, if that is permitted.

    Otherwise strangers on the port of a node could use up all there are, and callers found none.

    :param wanted: how many that is.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = self._wanted if hard == resource.RLIM_INFINITY else min(self._wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < self._wanted:
            _log.warn(
                "only {most} descriptors are permitted; all connections at once may need {wanted}",
                most=most,
                wanted=self._wanted,
            )


def makeService(options: Options, reactor: Any = None) -> IService:
    """
    Build the daemon: nodes, a coordinator over them, HTTP over the coordinator; or one node.

    :param reactor: Twisted's own unless a test brings one.
    :raises SystemExit: it cannot work; the message says why.
    """
    at_exit: Callable[[Callable[[], None]], object] = _nothing
    if reactor is None:
        from twisted.internet import reactor

        at_exit = atexit.register
        # Until the reactor runs: a reload that comes while we start must not be the end.
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        _keep_steady_time(reactor)
        # What is there by then stays. To look through it took the collector 25 ms, every few seconds.
        cast(Any, reactor).callWhenRunning(gc.freeze)
    try:
        if options.subCommand == "node":
            return _node_service(cast(NodeOptions, options.subOptions), reactor)
        with ExitStack() as undo:
            daemon = _daemon(options, reactor, undo)
            # Twistd may fail before it starts anything, and tells nobody.
            at_exit(undo.pop_all().close)
            return daemon
    except ConfigurationError as error:
        if options.subCommand == "node" and cast(NodeOptions, options.subOptions)["status"]:
            # Its parent says it, once, and not for each try.
            _report(cast(NodeOptions, options.subOptions)["status"], Progress("cannot start", str(error)))
            raise SystemExit(CANNOT_START) from error
        raise SystemExit(f"dcounter does not start: {error}") from error


def _report(descriptor: int, progress: Progress) -> None:
    """
    Tell the process that started this node how its start goes.
    """
    # A pipe takes that much; if nobody reads it, this process is about to be killed.
    with contextlib.suppress(OSError):
        os.write(descriptor, progress.to_line())


def _nothing(undo: Callable[[], None]) -> None:
    pass


def _daemon(options: Options, reactor: Any, undo: ExitStack) -> IService:
    # Importing klein installs a reactor: not before this one was chosen.
    from dcounter.http.limits import HttpLimits
    from dcounter.http.site import make_site

    twistd = _twistd(options)
    _refuse_chroot(options)
    limits = _coordinator_limits(options)
    own = [(_HOST, options["node-port"] + node) for node in range(options["nodes"])]
    addresses = _addresses(options["join"] or own, limits)
    directory = aside = None
    if options["join"]:
        identity = _identity(_read_secret(options["secret-file"]), list(addresses))
    elif options["in-memory"]:
        identity = _identity(secrets.token_hex(32).encode(), list(addresses))
    else:
        directory = open_data_directory(
            options["data-dir"], len(addresses), secrets.token_bytes, account=Account.of(_twistd(options))
        )
        undo.callback(directory.close)
        identity = directory.identity
    if twistd:
        # Before anything is changed, and while somebody can read what is wrong.
        see_that_it_can_listen(options["http"])
    if not options["join"]:
        # Its own nodes are its processes, not those of another daemon on a copy of its data directory.
        identity = replace(identity, boot=secrets.token_hex(16))
    wiring = _Wiring(reactor, identity, addresses, limits)
    if directory is not None and options["rebuild"]:
        with Account.of(_twistd(options)).acting():
            aside = prepare(
                directory,
                options["rebuild"],
                accept_loss=options["accept-data-loss"],
                owner=wiring.owner,
                limits=limits,
            )
            undo.callback(aside.close)

    token = _operator_token(
        options["operator-token-file"], None if directory is None else options["data-dir"]
    )
    http_limits = replace(
        HttpLimits(),
        max_body=options["max-body"],
        max_tenant_bytes=options["max-tenant"],
        idle=options["idle"],
    )
    daemon = _Daemon(reactor, twistd=twistd, level=options["log-level"])
    inline = len(addresses) if options["inline"] and not options["join"] else 0
    wanted = http_limits.max_connections + http_limits.spare_connections + wiring.descriptors(inline)
    _Descriptors(wanted).setServiceParent(daemon)
    if directory is not None:
        in_background = not _twistd(options).get("nodaemon", True)
        _Tenure(directory, aside, in_background=in_background).setServiceParent(daemon)
    supervisor: InlineSupervisor | ProcessSupervisor | None = None
    if not options["join"]:
        supervisor = _supervisor(options, wiring, directory, daemon)
        supervisor.setServiceParent(daemon)
    coordinator = wiring.coordinator(tuple if supervisor is None else supervisor.troubles)
    coordinator.setServiceParent(daemon)
    site = make_site(
        coordinator,
        reactor=reactor,
        now=wiring.wall,
        limits=http_limits,
        operations=_Operations(coordinator, supervisor),
        token=token,
        names=options["host"],
        ack=options["ack"],
        consistency=options["consistency"],
    )
    backlog = http_limits.max_connections + http_limits.spare_connections
    http = strports.service(complete(options["http"], backlog), site, reactor=reactor)
    http.endpoint = _Announced(
        cleared(http.endpoint, options["http"]),
        options["http"],
        in_background=daemon.in_background,
        new=directory.new if directory is not None else options["in-memory"],
    )
    http.setServiceParent(daemon)
    daemon.after(coordinator, site.ended)
    if options["in-memory"]:
        _log.warn("in memory: what is stored is gone when the daemon stops")
    return daemon


def _operator_token(file: str | None, directory: str | None) -> OperatorToken | None:
    """
    The operator's token, from the file that was named or that of the data directory.
    """
    if file is None and directory is not None:
        file = os.path.join(directory, FILE_NAME)
    return None if file is None else open_operator_token(file, secrets.token_bytes)


def _twistd(options: TwistedOptions) -> Mapping[str, Any]:
    """
    The options of `twistd` itself; none if something else runs this.
    """
    above: Any = options
    while isinstance(above, Options | NodeOptions):
        above = above.parent
    return above or {}


def _refuse_chroot(options: TwistedOptions) -> None:
    """
    Refuse what cannot work.

    What is made before the root is changed would be outside, and Python would be gone for the nodes.
    """
    if _twistd(options).get("chroot") is not None:
        raise ConfigurationError(
            "twistd changes the root (--chroot) too late for dcounter: use a container instead, "
            "or RootDirectory= of systemd"
        )


def _keep_steady_time(reactor: Any) -> None:
    """
    Have a reactor's timers follow a clock that nobody sets.

    Twisted's follow the wall clock: after it was set back by an hour, no heartbeat would be sent and no
    deadline would pass for an hour.
    """
    # Calls that wait already are due by the same count.
    ahead = reactor.seconds() - time.monotonic()
    reactor.seconds = lambda: ahead + time.monotonic()


def _node_service(options: NodeOptions, reactor: Any) -> IService:
    if options["parent"]:
        _die_with(options["parent"])
    inherited = os.environ.pop(_CHILD_VARIABLE, None)
    secret = bytes.fromhex(inherited) if inherited else _read_secret(options["secret-file"])
    limits = _limits(options)
    places = {**options["peers"], options["id"]: (options["interface"] or _HOST, options["port"])}
    addresses = _addresses([places[node] for node in sorted(places)], limits)
    _refuse_chroot(options)
    boot = os.environ.pop(_BOOT_VARIABLE, "") if inherited else ""
    identity = replace(_identity(secret, list(addresses), options["cluster"]), boot=boot)
    wiring = _Wiring(reactor, identity, addresses, limits)
    path = None
    if not options["in-memory"]:
        path = open_node_directory(
            options["data-dir"], account=Account.of(_twistd(options)), alone=not options["parent"]
        )
    node = Process(
        reactor, twistd=_twistd(options), level=options["log-level"], child=bool(options["parent"])
    )
    _Descriptors(wiring.descriptors(1)).setServiceParent(node)

    def tell(progress: Progress) -> None:
        if options["status"]:
            _report(options["status"], progress)
        elif progress.why:
            _log.error("{sentence}", sentence=progress.sentence(options["id"]))
        if progress.state == "cannot start":
            node.end(CANNOT_START)

    remedy = "" if options["parent"] else _SET_ASIDE if options["peers"] else _RESTORE
    wiring.node(options["id"], path, options["interface"], tell=tell, remedy=remedy).setServiceParent(node)
    return node


def _supervisor(
    options: Options, wiring: _Wiring, directory: DataDirectory | None, daemon: Process
) -> InlineSupervisor | ProcessSupervisor:
    def place(node: int) -> str | None:
        return None if directory is None else directory.node(node)

    def hopeless() -> None:
        _log.error("dcounter does not start: none of its nodes can, see above")
        daemon.end(1)

    members = wiring.identity.members
    if options["inline"]:
        return InlineSupervisor(
            members,
            lambda node, tell: wiring.node(node, place(node), _HOST, tell=tell),
            clock=wiring.reactor,
            hopeless=hopeless,
        )

    def spawn(protocol: IProcessProtocol, node: int) -> IProcessTransport:
        return wiring.reactor.spawnProcess(  # type: ignore[no-any-return]
            protocol,
            sys.executable,
            _node_command(node, wiring, place(node), options),
            env=_child_environment(wiring.identity),
            childFDs={0: "w", 1: "r", 2: "r", STATUS: "r"},
        )

    return ProcessSupervisor(
        members,
        spawn=spawn,
        clock=wiring.reactor,
        patience=wiring.limits.drain + 5,
        at_once=2 * len(os.sched_getaffinity(0)),
        hopeless=hopeless,
    )


def _child_environment(identity: Identity) -> dict[str, str]:
    """
    The environment of the process of a node: its parent's, the secret, and which start this is.
    """
    environment = {**os.environ, _CHILD_VARIABLE: identity.secret.hex(), _BOOT_VARIABLE: identity.boot}
    path = environment.pop("PYTHONPATH", "")
    # An empty part, as in "$NOT_SET:/opt/lib", would be the working directory.
    parts = [part for part in path.split(os.pathsep) if part]
    return {**environment, "PYTHONPATH": os.pathsep.join(parts)} if parts else environment


def _node_command(node: int, wiring: _Wiring, path: str | None, options: Options) -> Sequence[str]:
    """
    The command line of the process of one of our nodes.
    """
    # The user that the daemon became may not be permitted to enter the directory in which it was started.
    command = [sys.executable, "-P", "-c", _TWISTD, "-n", "--pidfile=", "--rundir=/", "dcounter", "node"]
    command += ["--id", str(node), "--parent", str(os.getpid()), "--cluster", wiring.identity.cluster]
    command += ["--status", str(STATUS), "--log-level", options["log-level"]]
    command += ["--listen", f"tcp:{wiring.addresses[node].port}:interface={_HOST}"]
    for peer, address in wiring.addresses.items():
        if peer != node:
            command += ["--peer", f"{peer}=tcp:{address.host}:{address.port}"]
    command += ["--suspicion", str(options["suspicion"])]
    return [*command, "--in-memory"] if path is None else [*command, "--data-dir", path]


def _limits(options: TwistedOptions) -> Limits:
    limits = Limits()
    return replace(
        limits,
        # A long suspicion is no reason to look at deadlines more seldom.
        heartbeat=min(limits.heartbeat, options["suspicion"] / 5),
        suspicion=options["suspicion"],
    )


def _coordinator_limits(options: TwistedOptions) -> Limits:
    limits = _limits(options)
    return replace(
        limits,
        # All slices of a request need room at once, perhaps at a single node.
        window_bytes=max(limits.window_bytes, 2 * options["max-body"]),
        window_batches=max(limits.window_batches, 2 * options["max-body"] // limits.slice),
        queue_bytes=max(limits.queue_bytes, 2 * options["max-body"]),
    )


def _addresses(places: Sequence[tuple[str, int]], limits: Limits) -> dict[int, Address]:
    return {node: Address.from_port(host, port, limits.ports) for node, (host, port) in enumerate(places)}


def _identity(secret: bytes, members: Sequence[int], cluster: str | None = None) -> Identity:
    """
    The cluster that shares a secret; unless it is told, its id follows from the secret.
    """
    derived = hashlib.blake2b(secret, digest_size=16, person=b"cluster id").hexdigest()
    return Identity(cluster or derived, secret, members)


def _die_with(parent: int) -> None:
    """
    Have the kernel kill this process when its parent ends, whatever state it is in.

    :raises ConfigurationError: the parent has ended already.
    """
    # Ctrl-C reaches a whole process group: the parent stops its nodes in order, nobody else does.
    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ConfigurationError(f"process {parent}, which started this node, has ended")
