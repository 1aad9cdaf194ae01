"""
The options of `twistd dcounter` and `twistd dcounter node`, from all their sources.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

from twisted.internet.endpoints import (
    serverFromString,
)
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from dcounter import __version__
from dcounter.daemon.configuration import FILE_VARIABLE, Source, did_you_mean, read_environment, read_file
from dcounter.daemon.http_endpoint import passed_by_systemd, speaks_tls
from dcounter.daemon.option_table import DAEMON, MOST_TENANTS, NODE
from dcounter.daemon.settings import Setting, shown

HOST = "127.0.0.1"
"""
The address on which a daemon's own nodes listen.
"""

SECRET_VARIABLE = "DCOUNTER_SECRET"  # noqa: S105 - the name of a variable
"""
The environment variable with the secrets for a child process. Other users can read arguments, but not this.
"""

_PEER_TLS = ("peer-tls-cert", "peer-tls-key", "peer-tls-ca")


class ConfiguredOptions(TwistedOptions):
    """
    Options that the environment and a configuration file can give as well.

    After parsing, each has its value: that of the command line, else of the environment, else of the file,
    else its default.

    :param environ: the environment; that of this process unless a test passes another one.
    :cvar settings: what there is.
    """

    settings: ClassVar[Sequence[Setting]]
    optParameters: ClassVar[list[list[Any]]]
    optFlags: ClassVar[list[list[Any]]]

    def __init_subclass__(cls) -> None:
        cls.optParameters = [
            ["config", None, None, "A file with options (TOML); see docs/configuration.md.", str],
            *(
                [each.name, None, None, in_help(each), _reader(each)]
                for each in cls.settings
                if not (each.is_flag or each.many)
            ),
        ]
        cls.optFlags = [[each.name, None, each.help] for each in cls.settings if each.is_flag]
        for each in cls.settings:
            if each.many:
                setattr(cls, f"opt_{each.name.replace('-', '_')}", _collector(each))

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._environ = dict(os.environ if environ is None else environ)
        self._arguments: Sequence[str] = ()
        self._sources: list[Source] = []
        # The configuration file; twistd changes the working directory afterwards.
        self.file: str | None = None
        for each in self.settings:
            self[each.name] = None

    def opt_version(self) -> None:
        """
        Show the version of dcounter and exit.
        """
        # Twisted's own option would show Twisted's version. This is the output of a command, not a log.
        os.write(1, f"dcounter {__version__}\n".encode())
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        self._arguments = list(options or ())
        try:
            super().parseOptions(options)
        except UsageError as error:
            unknown = re.fullmatch(r"option --(\S+) not recognized", str(error))
            if unknown is None:
                raise
            raise UsageError(f"{error}{did_you_mean(unknown[1], self.settings, '--')}") from None

    def postOptions(self) -> None:
        """
        Add what the other sources say, and check everything.

        :raises UsageError: it cannot work.
        """
        given = {each.name: self[each.name] for each in self.settings if self[each.name] is not None}
        if self.subCommand is not None:
            if given:
                names = ", ".join(f"--{name}" for name in given)
                raise UsageError(f"options of a node come after the word node: {names}")
            return
        self._sources = [Source("the command line", given), read_environment(self.settings, self._environ)]
        path = self["config"] or self._environ.get(FILE_VARIABLE)
        if path:
            self.file = self["config"] = self.file or os.path.abspath(path)
            self._sources.append(read_file(self.settings, self.file))
        findings = [str(each) for source in self._sources for each in source.findings if each.fatal]
        if findings:
            raise UsageError("\n".join(findings))
        for source in reversed(self._sources):
            self.update(source.values)
        self.settle()

    def settle(self) -> None:
        """
        Check what was given, and fill in the defaults.

        :raises UsageError: it cannot work.
        """
        for each in self.settings:
            if self[each.name] is None:
                self[each.name] = [] if each.many else each.default

    def source_of(self, name: str) -> str:
        """
        Where the value of an option comes from.
        """
        return next((source.name for source in self._sources if name in source.values), "the default")

    def reread(self) -> Self:
        """
        The same options, with what the file says now.

        :raises UsageError: that cannot work.
        """
        again = type(self)(self._environ)
        again.parent, again.file = self.parent, self.file
        again.parseOptions(self._arguments)
        return again


def in_help(setting: Setting) -> str:
    """
    What help says of an option.
    """
    default = setting.shown_default.replace("`", "") or shown(setting.default)
    return (
        f"{setting.help} [default: {default} {setting.kind.unit}".rstrip() + "]" if default else setting.help
    )


def _reader(setting: Setting) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return setting.read(text, f"--{setting.name}")
        except ValueError as error:
            # Twisted would put words of its own before a ValueError.
            raise UsageError(str(error)) from None

    return read


def _collector(setting: Setting) -> Callable[[ConfiguredOptions, str], None]:
    """
    The method by which Twisted adds a value to an option that may be given again.
    """
    read = _reader(setting)

    def collect(self: ConfiguredOptions, text: str) -> None:
        self[setting.name] = [*(self[setting.name] or []), read(text)]

    collect.__doc__ = f"{setting.help} May be given again."
    return collect


class NodeOptions(ConfiguredOptions):
    """
    The options of `twistd dcounter node`.
    """

    synopsis = "[options]"
    longdesc = "Runs one node of a cluster."
    settings = NODE

    def settle(self) -> None:
        super().settle()
        given = [node for node, _ in self["peer"]]
        members = sorted({self["id"], *given})
        if self["id"] in given or len(set(given)) < len(given) or members != list(range(len(members))):
            raise UsageError(f"--id and --peer must name nodes 0, 1, 2, ..., each once, not {members}")
        self["peers"] = dict(self["peer"])
        self["interface"], self["port"] = self["listen"]
        _check_peer_tls(self)
        if self["secret-file"] is None and SECRET_VARIABLE not in self._environ:
            raise UsageError("--secret-file is needed")


_OWN_NODES = ("nodes", "node-port", "data-dir")
"""
Options with a default that are about a daemon's own nodes.
"""


class Options(ConfiguredOptions):
    """
    The options of `twistd dcounter`.
    """

    synopsis = "[options] [node [options]]"
    longdesc = "Stores items and counts, exactly, how many each tenant owns."
    settings = DAEMON

    subCommands: ClassVar[list[Any]] = [["node", None, NodeOptions, "Run one node by itself."]]

    def settle(self) -> None:
        self._refuse_what_has_no_effect()
        if self["http"] is None:
            self["http"] = passed_by_systemd(_descriptor_of)
        super().settle()
        if self["node-port"] + self["nodes"] > 65_536:
            raise UsageError(f"--node-port: {self['node-port']} is too high for {self['nodes']} nodes")
        if self["accept-data-loss"] and not self["rebuild"]:
            raise UsageError("--accept-data-loss works only with --rebuild")
        if any(node >= self["nodes"] for node in self["rebuild"]):
            raise UsageError(f"--rebuild: the cluster has only nodes 0 to {self['nodes'] - 1}")
        if len(self["metrics-tenants"]) > MOST_TENANTS:
            raise UsageError(f"--metrics-tenants names more than {MOST_TENANTS:,} tenants")
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

    def _refuse_what_has_no_effect(self) -> None:
        """
        Refuse options that others make useless. Only what was given has a value so far.
        """
        ignored = [*_OWN_NODES, "in-memory", "inline", "rebuild"]
        given = [f"--{name}" for name in ignored if self[name]]
        if self["join"] and given:
            raise UsageError(
                f"--join starts no nodes, so {', '.join(given)} would have no effect: give one or the other"
            )
        given = [f"--{name}" for name in ("data-dir", "rebuild") if self[name]]
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


def _descriptor_of(name: str) -> int:
    """
    The descriptor of the socket with a name that systemd has passed.

    Twisted knows: it has taken the variables about it out of the environment.

    :raises LookupError: there is none.
    """
    endpoint: Any = serverFromString(cast(Any, None), f"systemd:domain=INET:name={name}")
    return int(endpoint.fileno)


def _check_peer_tls(options: TwistedOptions) -> None:
    """
    Refuse a part of what TLS between nodes needs.

    :raises UsageError: something is missing.
    """
    if len({options[name] is None for name in _PEER_TLS}) > 1:
        raise UsageError("--peer-tls-cert, --peer-tls-key and --peer-tls-ca work only together")


def twistd_options(options: TwistedOptions) -> Mapping[str, Any]:
    """
    The options of `twistd` itself; empty if another program runs this.
    """
    above: Any = options
    while isinstance(above, ConfiguredOptions):
        above = above.parent
    return above or {}
