"""
The `twistd dcounter` command: options, and the only wiring of the daemon.
"""

import os
import random
import resource
import secrets
import time
from dataclasses import replace
from typing import Any, ClassVar, cast, get_args

from twisted.application import strports
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IReactorTCP,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError
from zope.interface import implementer

from dcounter import __version__
from dcounter.clock import HybridClock
from dcounter.coordinator import Coordinator
from dcounter.handshake import Identity, Role
from dcounter.journal import MemoryJournal
from dcounter.limits import MEBIBYTE, Limits
from dcounter.link import Directory
from dcounter.node import Node
from dcounter.position import TokenSeal
from dcounter.store import Ack, Consistency
from dcounter.supervisor import InlineSupervisor

_log = Logger()

_HOST = "127.0.0.1"
_CONNECT_TIMEOUT = 2
"""
Time (s) for a connection to a node of this machine.
"""


def _at_least(option: str, least: int) -> Any:
    def coerce(text: str) -> int:
        if not (text.isdecimal() and int(text) >= least):
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


class Options(TwistedOptions):
    """
    What `twistd dcounter` takes.
    """

    synopsis = "[options]"
    longdesc = "Stores items and counts, exactly, how many each tenant owns."

    optParameters: ClassVar[list[list[Any]]] = [
        ["http", None, "tcp:8085:interface=127.0.0.1", "Where HTTP listens: a Twisted endpoint description."],
        ["nodes", None, 4, "How many nodes store and count.", _at_least("nodes", 1)],
        ["node-port", None, 8090, "First port for nodes; a taken one is skipped.", _at_least("node-port", 1)],
        ["data-dir", None, "./dcounter-data", "Where nodes keep their journals."],
        ["max-body", None, 16 * MEBIBYTE, "Largest body of a request, bytes.", _at_least("max-body", 1024)],
        ["max-tenant", None, 256, "Longest tenant name, in bytes of UTF-8.", _at_least("max-tenant", 1)],
        ["ack", None, "node", f"How wide a store is durable by default: {', '.join(get_args(Ack))}."],
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
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["in-memory", None, "Keep nothing on disk: what is stored is gone when the daemon stops."],
        ["inline", None, "Run the nodes in this process (in this version they always do)."],
    ]

    def opt_version(self) -> None:
        """
        Show the version of dcounter and exit.
        """
        # Twisted's own would show Twisted's; this is a command's output, not a log.
        os.write(1, f"dcounter {__version__}\n".encode())
        raise SystemExit(0)

    def postOptions(self) -> None:
        """
        Check what was given.

        :raises UsageError: it cannot work.
        """
        for name, words in (("ack", get_args(Ack)), ("consistency", get_args(Consistency))):
            if self[name] not in words:
                raise UsageError(f"--{name} must be one of {', '.join(words)}, not {self[name]!r}")
        if self["nodes"] > 64:
            raise UsageError("--nodes: at most 64, since every node follows every other one")
        if self["node-port"] + self["nodes"] > 65_536:
            raise UsageError(f"--node-port: no room for {self['nodes']} nodes from {self['node-port']} on")
        try:
            # A reactor is not there yet; the description alone is checked.
            serverFromString(cast(Any, None), self["http"])
        except (ValueError, TypeError, LookupError, AttributeError, OSError) as error:
            raise UsageError(f"--http: {self['http']!r} is no endpoint: {error}") from error
        if not self["in-memory"]:
            self._check_directory(self["data-dir"])

    def _check_directory(self, path: str) -> None:
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--data-dir: {error}") from error
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise UsageError(f"--data-dir: {path!r} cannot be written")


@implementer(IStreamServerEndpoint)
class _Announced:
    """
    An endpoint that says where it listens and what to try.
    """

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        return self._endpoint.listen(protocolFactory).addCallback(self._say)

    def _say(self, port: IListeningPort) -> IListeningPort:
        address = port.getHost()
        where = f"{getattr(address, 'host', address)}:{getattr(address, 'port', '')}"
        where = where.replace("0.0.0.0", _HOST)  # noqa: S104 - only shown, not bound
        _log.info("HTTP listens on http://{where}", where=where)
        items = '[{"ID":1,"tenant":"hello"},{"ID":2,"tenant":"publicsonar"}]'
        _log.info("try: curl http://{where}/items -d '{items}'", where=where, items=items)
        _log.info("then: curl http://{where}/items/hello/count", where=where)
        return port


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
    Build the daemon: nodes, a coordinator over them, HTTP over the coordinator.

    :param reactor: Twisted's own unless a test brings one.
    """
    if reactor is None:
        from twisted.internet import reactor
    # Importing klein installs a reactor: not before this one was chosen.
    from dcounter.http.limits import HttpLimits
    from dcounter.http.site import make_site

    wall = time.time_ns
    limits = Limits()
    line = max(limits.line, options["max-body"])
    limits = replace(
        limits,
        # A long suspicion is no reason to look at deadlines more seldom.
        heartbeat=min(limits.heartbeat, options["suspicion"] / 5),
        suspicion=options["suspicion"],
        line=line,
        # A character of a tenant takes up to six bytes in JSON; an ID and a stamp some forty.
        piece=max(1, min(limits.piece, line // (6 * options["max-tenant"] + 64))),
    )
    first = options["node-port"]
    members = range(options["nodes"])
    ports = range(first, min(first + limits.ports, 65_536))
    identity = Identity(secrets.token_hex(16), secrets.token_bytes(32), members)

    def connect(port: int) -> IStreamClientEndpoint:
        return TCP4ClientEndpoint(cast(IReactorTCP, reactor), _HOST, port, timeout=_CONNECT_TIMEOUT)

    def listen(port: int) -> IStreamServerEndpoint:
        return TCP4ServerEndpoint(cast(IReactorTCP, reactor), port, interface=_HOST)

    def nonce() -> str:
        return secrets.token_hex(16)

    def directory(role: Role, node: int | None) -> Directory:
        return Directory(
            identity,
            role=role,
            node=node,
            host=_HOST,
            connect=connect,
            ports=ports,
            nonce=nonce,
            limits=limits,
            clock=cast(IReactorTime, reactor),
        )

    def make_node(node: int) -> Node:
        return Node(
            node,
            identity=identity,
            directory=directory("node", node),
            peer_ports={peer: first + peer for peer in members if peer != node},
            listen=listen,
            port=first + node,
            journal=MemoryJournal(cast(IReactorTime, reactor)),
            limits=limits,
            clock=cast(IReactorTime, reactor),
            wall=wall,
            nonce=nonce,
            jitter=lambda: random.uniform(-1, 1),
            pid=os.getpid(),
        )

    supervisor = InlineSupervisor(members, make_node)
    coordinator = Coordinator(
        cluster=identity.cluster,
        directory=directory("coordinator", None),
        node_ports={node: first + node for node in members},
        clock=HybridClock(wall),
        wall=wall,
        seal=TokenSeal(identity.secret, identity.cluster),
        jitter=lambda: random.uniform(-1, 1),
    )
    http_limits = replace(HttpLimits(), max_body=options["max-body"], max_tenant_bytes=options["max-tenant"])
    site = make_site(
        coordinator,
        reactor=cast(IReactorTime, reactor),
        now=wall,
        limits=http_limits,
        operations=supervisor,
        ack=options["ack"],
        consistency=options["consistency"],
    )
    http = strports.service(options["http"], site, reactor=cast(IReactorCore, reactor))
    http.endpoint = _Announced(http.endpoint)
    daemon = MultiService()
    callers = http_limits.max_connections + http_limits.spare_connections
    # Nodes accept connections, and make some to each other; a hundred for files, timers and the like.
    descriptors = _Descriptors(len(members) * (limits.connections + 2 * len(members)) + callers + 100)
    for service in (descriptors, supervisor, coordinator, http):
        service.setServiceParent(daemon)
    _log.warn("nodes keep their journals in memory: what is stored is gone when the daemon stops")
    return daemon
