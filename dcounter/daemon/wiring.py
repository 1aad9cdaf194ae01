"""
Puts a daemon, or a node by itself, together: the only module that names real sockets, disks and clocks.
"""

import os
import random
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    wrapClientTLS,
    wrapServerTLS,
)
from twisted.internet.interfaces import (
    IProcessProtocol,
    IProcessTransport,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.usage import Options as TwistedOptions

from dcounter import __version__
from dcounter.coordinator.service import Coordinator
from dcounter.daemon.account import Account
from dcounter.daemon.at_hangup import reloading_of, reread_secrets
from dcounter.daemon.audit_schedule import AuditSchedule
from dcounter.daemon.children import child_environment, node_command
from dcounter.daemon.compaction_schedule import CompactionSchedule
from dcounter.daemon.data_directory import DataDirectory, open_data_directory
from dcounter.daemon.descriptors import Descriptors
from dcounter.daemon.first_screen import FirstScreen, Start
from dcounter.daemon.measuring import measuring
from dcounter.daemon.memory_watch import MemoryWatch
from dcounter.daemon.notifying import Heartbeat, Notifier
from dcounter.daemon.operations import Operations
from dcounter.daemon.operator_token import FILE_NAME, open_operator_token
from dcounter.daemon.options import HOST, Options, twistd_options
from dcounter.daemon.process import Daemon, Process
from dcounter.daemon.process_figures import ProcessFigures
from dcounter.daemon.rebuilding import Rebuilding
from dcounter.daemon.reloading import Reloading
from dcounter.daemon.secrets import (
    ClusterSecrets,
    identity_of,
    read_secrets,
)
from dcounter.daemon.setting_aside import SettingAside, prepare
from dcounter.daemon.software import this_software
from dcounter.daemon.supervisor import PROGRESS_DESCRIPTOR, InlineSupervisor, ProcessSupervisor
from dcounter.daemon.surroundings import memory_of_group
from dcounter.daemon.tenant_figures import TenantFigures
from dcounter.daemon.tenure import Tenure
from dcounter.daemon.tls import tls_of_peers
from dcounter.daemon.trial import check_can_listen
from dcounter.errors import ConfigurationError
from dcounter.figures import Samples
from dcounter.http.auth import OperatorToken
from dcounter.journal.disk import RealDisk
from dcounter.journal.file import FileJournal
from dcounter.journal.interface import Journal
from dcounter.journal.memory import MemoryJournal
from dcounter.journal.thread import WriterThread
from dcounter.limits import Limits
from dcounter.links.address_book import Address, AddressBook
from dcounter.links.connection import Complaints
from dcounter.node.progress import Tell
from dcounter.node.replica import Replica
from dcounter.node.service import Node
from dcounter.protocol.clock import HybridClock, SteadyWall
from dcounter.protocol.codec import is_chunk
from dcounter.protocol.handshake import Identity, journal_owner
from dcounter.protocol.messages import Role
from dcounter.protocol.token import TokenSeal

if TYPE_CHECKING:
    from dcounter.daemon.certificates import Certificates

_log = Logger()

_CONNECT_TIMEOUT = 2
"""
Longest time (s) to connect to a node.
"""


class Wiring:
    """
    Makes the services of one process from what they have in common.
    """

    def __init__(
        self,
        reactor: Any,
        identity: Identity,
        addresses: Mapping[int, Address],
        limits: Limits,
        tls: "Certificates | None" = None,
    ) -> None:
        self.reactor = reactor
        self.tls = tls
        self.identity = identity
        self.addresses = addresses
        self.limits = limits
        # Unlike the monotonic clock, this one goes on while the machine sleeps.
        self.wall = SteadyWall(time.time_ns, partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME))
        self.complaints = Complaints(reactor.seconds)
        # Of the process, where a node is all of it.
        self.figures: Callable[[], Sequence[Samples]] = tuple

    def descriptors(self, nodes: int) -> int:
        """
        How many file descriptors a process with that many nodes may need.
        """
        # Nodes accept connections and connect to each other; a hundred more for files, timers and the like.
        members = len(self.identity.members)
        return nodes * (self.limits.connections + 2 * members) + members + 100

    def nonce(self) -> str:
        return secrets.token_hex(16)

    def jitter(self) -> float:
        return random.uniform(-1, 1)

    def connect(self, host: str, port: int) -> IStreamClientEndpoint:
        endpoint = TCP4ClientEndpoint(self.reactor, host, port, timeout=_CONNECT_TIMEOUT)
        return endpoint if self.tls is None else wrapClientTLS(self.tls, endpoint)

    def listen(self, port: int, interface: str) -> IStreamServerEndpoint:
        # As many connections may wait to be accepted as there may be open ones.
        backlog = self.limits.connections
        endpoint = TCP4ServerEndpoint(self.reactor, port, backlog=backlog, interface=interface)
        return endpoint if self.tls is None else wrapServerTLS(self.tls, endpoint, self.reactor)

    def address_book(self, role: Role, node: int | None) -> AddressBook:
        return AddressBook(
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
        The owner that the journal of a node names.
        """
        return journal_owner(node, self.identity.cluster)

    def journal(self, node: int, path: str | None) -> Journal:
        if path is None:
            return MemoryJournal(self.reactor)
        return FileJournal(
            RealDisk(path),
            is_chunk=is_chunk,
            in_thread=WriterThread(self.reactor, f"journal of node {node}"),
            clock=self.reactor,
            owner=self.owner(node),
            segment_bytes=self.limits.segment_bytes,
            snapshot_bytes=self.limits.snapshot_bytes,
            pace_s=self.limits.commit_pace_s,
        )

    def node(self, node: int, path: str | None, interface: str, *, tell: Tell, remedy: str = "") -> Node:
        return Node(
            node,
            identity=self.identity,
            address_book=self.address_book("node", node),
            listen=partial(self.listen, interface=interface),
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
            process=self.figures,
        )

    def coordinator(self, troubles: Callable[[], Sequence[str]]) -> Coordinator:
        return Coordinator(
            troubles=troubles,
            cluster=self.identity.cluster,
            address_book=self.address_book("coordinator", None),
            clock=HybridClock(self.wall),
            wall=self.wall,
            seal=TokenSeal(self.identity.secrets, self.identity.cluster),
            jitter=self.jitter,
        )


def make_daemon(options: Options, reactor: Any, undo: ExitStack) -> IService:
    # Importing klein installs a reactor, so it must wait until the reactor is chosen.
    from dcounter.daemon.http_side import HttpSide

    twistd = twistd_options(options)
    refuse_chroot(options)
    http, tls = HttpSide(options, reactor), tls_of_peers(options)
    limits = _coordinator_limits(options)
    own = [(HOST, options["node-port"] + node) for node in range(options["nodes"])]
    addresses = addresses_of(options["join"] or own, limits)
    identity, directory = _identity(options, list(addresses), undo)
    aside: SettingAside | None = None
    if twistd:
        # Before anything is changed, and while the terminal still shows errors.
        check_can_listen(options["http"])
    if not options["join"]:
        # The boot id tells our nodes from those of a daemon on a copy of the data directory.
        identity = replace(identity, boot=secrets.token_hex(16))
    wiring = Wiring(reactor, identity, addresses, limits, tls)
    if directory is not None and options["rebuild"]:
        aside = _set_aside(options, wiring, directory, undo)

    token = _operator_token(
        options["operator-token-file"], None if directory is None else options["data-dir"]
    )
    notifier = Notifier(os.environ, os.getpid())
    daemon = Daemon(
        reactor,
        twistd=twistd,
        level=options["log-level"],
        log_format=options["log-format"],
        notifier=notifier,
        drain_s=options["drain-delay"],
    )
    inline = len(addresses) if options["inline"] and not options["join"] else 0
    Descriptors(http.connections + wiring.descriptors(inline)).setServiceParent(daemon)
    if directory is not None:
        in_background = not twistd.get("nodaemon", True)
        Tenure(directory, aside, wall=time.time_ns, in_background=in_background).setServiceParent(daemon)
    supervisor: InlineSupervisor | ProcessSupervisor | None = None
    if not options["join"]:
        supervisor = _supervisor(options, wiring, directory, daemon)
        supervisor.setServiceParent(daemon)
    reloading = reloading_of(options, daemon, supervisor)
    if tls is not None:
        daemon.on_hangup(tls.reload)
    reread_secrets(options, daemon, identity, directory, supervisor)
    memory = MemoryWatch(memory_of_group, reactor)
    memory.setServiceParent(daemon)
    sources: list[Callable[[], Sequence[str]]] = [
        *([] if supervisor is None else [supervisor.troubles]),
        http.warnings,
        *([] if tls is None else [tls.warnings]),
        memory.warnings,
    ]
    coordinator = wiring.coordinator(lambda: [warning for warnings in sources for warning in warnings()])
    coordinator.setServiceParent(daemon)
    operations = _operations(wiring, coordinator, supervisor, directory)
    _upkeep(options, wiring, coordinator, daemon, reloading)
    start = FirstScreen(
        _start(options, directory),
        show=daemon.show,
        warnings=lambda: [*http.warnings(), *memory.look()],
    )
    heartbeat = Heartbeat(notifier, operations.state, reactor)
    server = http.serve(
        coordinator,
        operations,
        token=token,
        measure=_measuring(options, wiring, coordinator, daemon, reloading),
        daemon=daemon,
        reloading=reloading,
        tell=[start, heartbeat.listens_now],
    )
    heartbeat.setServiceParent(daemon)
    daemon.after(coordinator, server.ended)
    return daemon


def _start(options: Options, directory: DataDirectory | None) -> Start:
    elsewhere = bool(options["join"])
    nodes = len(options["join"]) or options["nodes"]
    return Start(
        __version__,
        nodes,
        options["ack"],
        elsewhere=elsewhere,
        directory=None if directory is None else directory.path,
        places=[] if directory is None else [directory.node(node) for node in range(nodes)],
        new=not elsewhere if directory is None else directory.new,
    )


def _measuring(
    options: Options, wiring: Wiring, coordinator: Coordinator, daemon: Daemon, reloading: Reloading
) -> Callable[[], Awaitable[Sequence[Samples]]]:
    """
    What gives the figures of `GET /metrics`.
    """
    reactor = wiring.reactor
    diskless = options["join"] or options["in-memory"]
    process = ProcessFigures(reactor, "coordinator", None if diskless else options["data-dir"])
    process.setServiceParent(daemon)
    patience_s = wiring.limits.scrape_s
    tenants = TenantFigures(coordinator, options["metrics-tenants"], reactor, patience_s=patience_s)
    reloading.on_change("metrics-tenants", tenants.use)
    return measuring(coordinator, process, tenants)


def _set_aside(options: Options, wiring: Wiring, directory: DataDirectory, undo: ExitStack) -> SettingAside:
    """
    Prepare that nodes are rebuilt.
    """
    with Account.of(twistd_options(options)).acting():
        aside = prepare(
            directory,
            options["rebuild"],
            accept_loss=options["accept-data-loss"],
            owner=wiring.owner,
            limits=wiring.limits,
        )
        undo.callback(aside.close)
    return aside


def _upkeep(
    options: Options, wiring: Wiring, coordinator: Coordinator, daemon: Daemon, reloading: Reloading
) -> None:
    """
    What a daemon does to its nodes by itself.
    """
    audits = AuditSchedule(coordinator.audit, options["audit-every"], wiring.reactor)
    audits.setServiceParent(daemon)
    reloading.on_change("audit-every", audits.use_interval)
    compactions = CompactionSchedule(
        coordinator.compacting,
        share=options["compact-share"],
        age_s=wiring.limits.compact_age_s,
        wall=wiring.wall,
        time=wiring.reactor,
    )
    compactions.setServiceParent(daemon)
    reloading.on_change("compact-share", compactions.use_share)


def _operations(
    wiring: Wiring,
    coordinator: Coordinator,
    supervisor: InlineSupervisor | ProcessSupervisor | None,
    directory: DataDirectory | None,
) -> Operations:
    if supervisor is None:
        return Operations(coordinator, None, software=this_software())
    rebuilding = Rebuilding(
        supervisor,
        coordinator,
        directory,
        owner=wiring.owner,
        limits=wiring.limits,
        wall=time.time_ns,
        time=wiring.reactor,
        new_thread=lambda: WriterThread(wiring.reactor, "reads a journal"),
    )
    return Operations(coordinator, supervisor, rebuilding, software=this_software())


def _identity(
    options: Options, nodes: Sequence[int], undo: ExitStack
) -> tuple[Identity, DataDirectory | None]:
    """
    The cluster to which the daemon belongs, and its data directory if it has one.
    """
    if options["join"]:
        return identity_of(read_secrets(options["secret-file"]), nodes), None
    if options["in-memory"]:
        return identity_of(ClusterSecrets(None, (secrets.token_hex(32).encode(),)), nodes), None
    directory = open_data_directory(
        options["data-dir"],
        len(nodes),
        secrets.token_bytes,
        account=Account.of(twistd_options(options)),
    )
    undo.callback(directory.close)
    return directory.identity, directory


def _operator_token(file: str | None, directory: str | None) -> OperatorToken | None:
    """
    The operator's token, from the given file or the one in the data directory.
    """
    if file is None and directory is not None:
        file = os.path.join(directory, FILE_NAME)
    return None if file is None else open_operator_token(file, secrets.token_bytes)


def refuse_chroot(options: TwistedOptions) -> None:
    """
    Refuse `--chroot`, which cannot work.

    The data directory is opened before twistd changes the root, and the nodes would not find Python
    afterwards.
    """
    if twistd_options(options).get("chroot") is not None:
        raise ConfigurationError(
            "twistd changes the root (--chroot) too late for dcounter: use a container instead, "
            "or RootDirectory= of systemd"
        )


def _supervisor(
    options: Options, wiring: Wiring, directory: DataDirectory | None, daemon: Process
) -> InlineSupervisor | ProcessSupervisor:
    def journal_path(node: int) -> str | None:
        return None if directory is None else directory.node(node)

    def hopeless() -> None:
        _log.error("dcounter does not start: none of its nodes can start, see above")
        daemon.end(1)

    members = wiring.identity.members
    if options["inline"]:
        return InlineSupervisor(
            members,
            lambda node, tell: wiring.node(node, journal_path(node), HOST, tell=tell),
            clock=wiring.reactor,
            hopeless=hopeless,
        )

    def spawn(protocol: IProcessProtocol, node: int) -> IProcessTransport:
        return wiring.reactor.spawnProcess(  # type: ignore[no-any-return]
            protocol,
            sys.executable,
            node_command(node, wiring.identity.cluster, wiring.addresses, journal_path(node), options),
            env=child_environment(wiring.identity),
            childFDs={0: "w", 1: "r", 2: "r", PROGRESS_DESCRIPTOR: "r"},
        )

    return ProcessSupervisor(
        members,
        spawn=spawn,
        clock=wiring.reactor,
        patience=wiring.limits.drain_s + 5,
        at_once=2 * len(os.sched_getaffinity(0)),
        hopeless=hopeless,
    )


def limits_of(options: TwistedOptions) -> Limits:
    limits = Limits()
    return replace(
        limits,
        # A long suspicion must not make checks of deadlines rarer.
        heartbeat_s=min(limits.heartbeat_s, options["suspicion"] / 5),
        suspicion_s=options["suspicion"],
    )


def _coordinator_limits(options: TwistedOptions) -> Limits:
    limits = limits_of(options)
    return replace(
        limits,
        # All slices of a request need room at once, perhaps at a single node.
        window_bytes=max(limits.window_bytes, 2 * options["max-body"]),
        window_batches=max(limits.window_batches, 2 * options["max-body"] // limits.slice_bytes),
        queue_bytes=max(limits.queue_bytes, 2 * options["max-body"]),
        compact_age_s=options["compact-age"],
    )


def addresses_of(places: Sequence[tuple[str, int]], limits: Limits) -> dict[int, Address]:
    return {node: Address.from_port(host, port, limits.ports) for node, (host, port) in enumerate(places)}
