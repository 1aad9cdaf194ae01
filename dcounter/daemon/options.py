"""
The command-line options of `twistd dcounter` and `twistd dcounter node`.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar, cast, get_args

from twisted.internet.endpoints import (
    serverFromString,
)
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from dcounter import __version__
from dcounter.daemon.http_endpoint import speaks_tls
from dcounter.daemon.logs import LEVELS
from dcounter.limits import LONGEST_TENANT, MEBIBYTE, Limits
from dcounter.store import Ack, Consistency

HOST = "127.0.0.1"
"""
The address on which a daemon's own nodes listen.
"""

SECRET_VARIABLE = "DCOUNTER_SECRET"  # noqa: S105 - the name of a variable
"""
The environment variable with the secrets for a child process. Other users can read arguments, but not this.
"""

_MOST_NODES = 16
"""
Every node holds everything and follows every other one, so heartbeats grow with the square of the number. On
2 busy cores 16 nodes became ready in half a minute; 32 nodes were not ready after a minute and a half.
"""


def _at_least(option: str, least: int) -> Any:
    def coerce(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and int(text) >= least):
            raise ValueError(f"--{option} must be an integer >= {least}, not {text!r}")
        return int(text)

    return coerce


def _seconds(option: str, least: float, most: float, *, or_never: bool = False) -> Any:
    """
    :param or_never: 0 is allowed as well.
    """

    def coerce(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1
        if not (least <= number <= most or (or_never and number == 0)):
            never = "0 or " if or_never else ""
            raise ValueError(f"--{option} must be {never}{least:g} to {most:.10g} seconds, not {text!r}")
        return number

    return coerce


def _share(option: str) -> Any:
    def coerce(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1
        if not 0 <= number < 1:
            raise ValueError(f"--{option} must be at least 0 and below 1, not {text!r}")
        return number

    return coerce


def _address(text: str) -> tuple[str, int]:
    """
    Host and port of `tcp:host:port`.
    """
    found = re.fullmatch(r"tcp:([^:]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[2]) < 65_536:
        raise UsageError(f"{text!r} is not an address like tcp:HOST:PORT")
    return found[1], int(found[2])


def _listen_address(text: str) -> tuple[str, int]:
    """
    Interface and first port of `tcp:port:interface=address`.
    """
    found = re.fullmatch(r"tcp:([0-9]{1,5})(?::interface=([0-9.]+))?", text)
    if found is None or not 0 < int(found[1]) < 65_536:
        raise UsageError(f"--listen: {text!r} is not like tcp:8090 or tcp:8090:interface=10.0.0.1")
    return found[2] or "", int(found[1])


def _show_version() -> None:
    # Twisted's own option would show Twisted's version. This is the output of a command, not a log.
    os.write(1, f"dcounter {__version__}\n".encode())
    raise SystemExit(0)


def _level(text: str) -> str:
    if text not in LEVELS:
        raise ValueError(f"--log-level must be one of {', '.join(LEVELS)}, not {text!r}")
    return text


_LOG_LEVEL = ["log-level", None, "info", f"The lowest level that is logged: {', '.join(LEVELS)}.", _level]


_PEER_TLS: list[list[Any]] = [
    ["peer-tls-cert", None, None, "TLS between nodes and coordinators: this process's certificate (PEM)."],
    ["peer-tls-key", None, None, "TLS between nodes and coordinators: its private key (PEM)."],
    ["peer-tls-ca", None, None, "TLS between nodes and coordinators: the authority of all certificates."],
]


def _check_peer_tls(options: TwistedOptions) -> None:
    """
    Refuse a part of what TLS between nodes needs.

    :raises UsageError: something is missing.
    """
    if len({options[name] is None for name, *_ in _PEER_TLS}) > 1:
        raise UsageError("--peer-tls-cert, --peer-tls-key and --peer-tls-ca work only together")


class NodeOptions(TwistedOptions):
    """
    The options of `twistd dcounter node`.
    """

    synopsis = "[options]"
    longdesc = "Runs one node of a cluster."

    optParameters: ClassVar[list[list[Any]]] = [
        ["id", None, 0, "The id of this node; the nodes of a cluster are 0, 1, 2, ...", _at_least("id", 0)],
        ["listen", None, "tcp:8090", "First port of this node: tcp:PORT or tcp:PORT:interface=ADDRESS."],
        ["data-dir", None, "./dcounter-data", "The directory of this node's journal."],
        ["secret-file", None, None, "A file with the secret of the cluster."],
        [
            "suspicion",
            None,
            1.0,
            "Silence after which a node counts as down, in seconds.",
            _seconds("suspicion", 0.1, 3600),
        ],
        *_PEER_TLS,
        ["cluster", None, None, "The id of the cluster; the default is derived from the secret."],
        ["parent", None, 0, "The process with which this one ends.", _at_least("parent", 1)],
        [
            "status",
            None,
            0,
            "The file descriptor for reports about the start.",
            _at_least("status", 3),
        ],
        _LOG_LEVEL,
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["in-memory", None, "Keep nothing on disk: all items are lost when the node stops."],
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
        Another node, as ID=tcp:HOST:PORT; once for each.
        """
        found = re.fullmatch(r"([0-9]{1,5})=(.*)", peer)
        if found is None:
            raise UsageError(f"--peer: {peer!r} is not like 1=tcp:HOST:PORT")
        self["peers"][int(found[1])] = _address(found[2])

    def postOptions(self) -> None:
        """
        Check what was given.

        :raises UsageError: it cannot work.
        """
        members = sorted({self["id"], *self["peers"]})
        if self["id"] in self["peers"] or members != list(range(len(members))):
            raise UsageError(f"--id and --peer must name nodes 0, 1, 2, ..., each once, not {members}")
        self["interface"], self["port"] = _listen_address(self["listen"])
        _check_peer_tls(self)
        if self["secret-file"] is None and SECRET_VARIABLE not in os.environ:
            raise UsageError("--secret-file is needed")


_OWN_NODES: Mapping[str, Any] = {"nodes": 4, "node-port": 8090, "data-dir": "./dcounter-data"}
"""
Options about a daemon's own nodes, with their defaults.
"""


class Options(TwistedOptions):
    """
    The options of `twistd dcounter`.
    """

    synopsis = "[options] [node [options]]"
    longdesc = "Stores items and counts, exactly, how many each tenant owns."

    subCommands: ClassVar[list[Any]] = [["node", None, NodeOptions, "Run one node by itself."]]
    optParameters: ClassVar[list[list[Any]]] = [
        ["http", None, "tcp:8085:interface=127.0.0.1", "Where HTTP listens: a Twisted endpoint description."],
        # The defaults of these are in _OWN_NODES, so that an option that was given can be told from a
        # default.
        ["nodes", None, None, "How many nodes store and count. [default: 4]", _at_least("nodes", 1)],
        [
            "node-port",
            None,
            None,
            "First port for nodes; a port in use is skipped. [default: 8090]",
            _at_least("node-port", 1),
        ],
        ["data-dir", None, None, "The directory of the nodes' journals. [default: ./dcounter-data]"],
        ["secret-file", None, None, "With --join: a file with the secret of the cluster."],
        [
            "max-body",
            None,
            16 * MEBIBYTE,
            "Largest body of a request, in bytes.",
            _at_least("max-body", 1024),
        ],
        ["max-tenant", None, 256, "Longest tenant name, in bytes of UTF-8.", _at_least("max-tenant", 1)],
        [
            "ack",
            None,
            "node",
            f"Which nodes must have the items on disk before the answer: {', '.join(get_args(Ack))}.",
        ],
        [
            "idle",
            None,
            75.0,
            "Silence after which an HTTP connection is closed, in seconds.",
            _seconds("idle", 1, 86_400),
        ],
        [
            "operator-token-file",
            None,
            None,
            "A file with the token for what only operators may do, such as to restart a node.",
        ],
        [
            "tokens-file",
            None,
            None,
            "A file with the tokens that callers must show, and their rights.",
        ],
        *_PEER_TLS,
        ["tls-cert", None, None, "HTTPS: a file with the certificate (PEM), and the chain after it."],
        ["tls-key", None, None, "HTTPS: a file with the private key of the certificate (PEM)."],
        ["tls-client-ca", None, None, "HTTPS: callers must have a certificate of an authority in this file."],
        [
            "consistency",
            None,
            "exact",
            f"What a count may answer by default: {', '.join(get_args(Consistency))}.",
        ],
        [
            "audit-every",
            None,
            0.0,
            "Compare all nodes again and again: the time between two audits, in seconds. 0: only on request.",
            _seconds("audit-every", 10, 31_536_000, or_never=True),
        ],
        [
            "compact-share",
            None,
            0.2,
            "Forget old deletions when they are more than this share of all IDs, 0 to 1. 0: only on request.",
            _share("compact-share"),
        ],
        [
            "compact-age",
            None,
            Limits().compact_age_s,
            "Forget only deletions that are older than this, in seconds; older updates are then refused.",
            _seconds("compact-age", 60, 3_153_600_000),
        ],
        [
            "suspicion",
            None,
            1.0,
            "Silence after which a node counts as down, in seconds.",
            _seconds("suspicion", 0.1, 3600),
        ],
        _LOG_LEVEL,
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["in-memory", None, "Keep nothing on disk: all items are lost when the daemon stops."],
        ["inline", None, "Run the nodes in this process instead of each in its own."],
        [
            "insecure",
            None,
            "Let anyone on other machines store and count, without tokens or client certificates.",
        ],
        [
            "accept-data-loss",
            None,
            "With --rebuild: rebuild although data is lost. A start without this option names that data.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["rebuild"] = []
        self["join"] = []
        self["host"] = []
        self["cors-origin"] = []

    def opt_version(self) -> None:
        """
        Show the version of dcounter and exit.
        """
        _show_version()

    def opt_rebuild(self, node: str) -> None:
        """
        Rebuild this node from the other ones, if they have all of its data; may be given again.
        """
        try:
            self["rebuild"].append(int(node))
        except ValueError as error:
            raise UsageError(f"--rebuild: {node!r} is not a node id") from error

    def opt_host(self, name: str) -> None:
        """
        Another host name of the daemon, as a proxy passes it on in the header Host; may be given again.
        """
        if re.fullmatch(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", name) is None:
            raise UsageError(f"--host: {name!r} is not a host name; leave out scheme and port")
        self["host"].append(name)

    def opt_cors_origin(self, origin: str) -> None:
        """
        A site of which web pages may call, such as https://app.example; may be given again.
        """
        if re.fullmatch(r"https?://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", origin) is None:
            raise UsageError(f"--cors-origin: {origin!r} is not like https://app.example or http://HOST:PORT")
        self["cors-origin"].append(origin)

    def opt_join(self, address: str) -> None:
        """
        Start no nodes but use this one, as tcp:HOST:PORT; once for each, in the order of their ids.
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
                f"--max-tenant must be at most {LONGEST_TENANT}: a name must fit into one message"
            )
        self._settle_nodes()
        if self["nodes"] > _MOST_NODES:
            raise UsageError(
                f"--nodes must be at most {_MOST_NODES}: every node holds everything and follows all others"
            )
        if self["node-port"] + self["nodes"] > 65_536:
            raise UsageError(f"--node-port: {self['node-port']} is too high for {self['nodes']} nodes")
        if self["accept-data-loss"] and not self["rebuild"]:
            raise UsageError("--accept-data-loss works only with --rebuild")
        if any(not 0 <= node < self["nodes"] for node in self["rebuild"]):
            raise UsageError(f"--rebuild: the cluster has only nodes 0 to {self['nodes'] - 1}")
        self._check_http()

    def _check_http(self) -> None:
        """
        Refuse an endpoint that cannot work.
        """
        passed = re.match(r"(?:haproxy:)?systemd:", self["http"], re.IGNORECASE)
        if passed is not None and re.search(r"(?:^|:)(?:domain=)?UNIX(?:$|:)", self["http"][passed.end() :]):
            # Twisted gives every user the right to connect to it, and removes it at the end.
            raise UsageError(
                f"--http: {self['http']!r} is a Unix socket of systemd, which Twisted would not leave as it"
                " is: give the daemon the path as unix:PATH, or have systemd listen on a port"
            )
        try:
            # A reactor is not there yet; the description alone is checked.
            serverFromString(cast(Any, None), self["http"])
        except LookupError as error:
            raise UsageError(
                f"--http: systemd has passed no such socket as {self['http']!r} to this process:"
                " start it by a unit with a .socket"
            ) from error
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise UsageError(f"--http: {self['http']!r} is not an endpoint: {error}") from error
        self._check_tls()
        port = re.match(r"(?:tcp6?|ssl):(?:port=)?([0-9]+)", self["http"])
        if port is not None and int(port[1]) > 65_535:
            raise UsageError(f"--http: {self['http']!r} is not an endpoint: there is no port {port[1]}")

    def _check_tls(self) -> None:
        """
        Refuse half of what TLS needs.
        """
        if (self["tls-cert"] is None) != (self["tls-key"] is None):
            raise UsageError("--tls-cert and --tls-key work only together")
        if self["tls-cert"] is None and self["tls-client-ca"] is not None:
            raise UsageError("--tls-client-ca works only with --tls-cert and --tls-key")
        if self["tls-cert"] is not None and speaks_tls(self["http"]):
            raise UsageError(f"--http: {self['http']!r} speaks TLS by itself: use tcp: with --tls-cert")

    def _settle_nodes(self) -> None:
        """
        Refuse options that would have no effect, and fill in the defaults of the daemon's own nodes.
        """
        ignored = [*_OWN_NODES, "in-memory", "inline", "rebuild"]
        given = [f"--{name}" for name in ignored if self[name] not in (None, [], False)]
        if self["join"] and given:
            raise UsageError(
                f"--join starts no nodes, so {', '.join(given)} would have no effect: give one or the other"
            )
        given = [f"--{name}" for name in ("data-dir", "rebuild") if self[name] not in (None, [])]
        if self["in-memory"] and given:
            raise UsageError(f"--in-memory keeps nothing on disk, so {', '.join(given)} would have no effect")
        _check_peer_tls(self)
        if self["peer-tls-cert"] is not None and not self["join"]:
            raise UsageError(
                "--peer-tls-cert works only with --join: a daemon calls its own nodes on this machine only"
            )
        if self["join"] and self["secret-file"] is None:
            raise UsageError("--join needs --secret-file")
        if self["secret-file"] is not None and not self["join"]:
            raise UsageError(
                "--secret-file works only with --join: a daemon that starts its nodes makes its own secret"
            )
        for name, default in _OWN_NODES.items():
            if self[name] is None:
                self[name] = default


def twistd_options(options: TwistedOptions) -> Mapping[str, Any]:
    """
    The options of `twistd` itself; empty if another program runs this.
    """
    above: Any = options
    while isinstance(above, Options | NodeOptions):
        above = above.parent
    return above or {}
