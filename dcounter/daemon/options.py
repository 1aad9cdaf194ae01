"""
What `twistd dcounter` and `twistd dcounter node` take on the command line.
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
from dcounter.daemon.logs import LEVELS
from dcounter.limits import LONGEST_TENANT, MEBIBYTE
from dcounter.store import Ack, Consistency

HOST = "127.0.0.1"
"""
Where a daemon's own nodes listen.
"""

SECRET_VARIABLE = "DCOUNTER_SECRET"  # noqa: S105 - the name of a variable
"""
How a child process is told the secret: its environment is not for others to read, its arguments are.
"""

_MOST_NODES = 16
"""
Every node holds everything and follows every other one, so heartbeats grow with the square of the number: on
2 cores that others used as well 16 nodes became ready in half a minute, 32 not in a minute and a half.
"""


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
        if self["secret-file"] is None and SECRET_VARIABLE not in os.environ:
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


def twistd_options(options: TwistedOptions) -> Mapping[str, Any]:
    """
    The options of `twistd` itself; none if something else runs this.
    """
    above: Any = options
    while isinstance(above, Options | NodeOptions):
        above = above.parent
    return above or {}
