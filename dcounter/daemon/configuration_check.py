"""
Checks a configuration without starting anything.
"""

import time
from collections.abc import Mapping
from typing import Literal

from twisted.python.usage import UsageError

from dcounter.daemon.configuration import Finding, read_environment, read_file
from dcounter.daemon.options import ConfiguredOptions, NodeOptions, Options
from dcounter.daemon.secrets import read_secrets
from dcounter.daemon.tls import tls_of_http, tls_of_peers
from dcounter.daemon.tokens import TokensFile
from dcounter.errors import ConfigurationError


def check(
    file: str | None, environ: Mapping[str, str], role: Literal["daemon", "node"] = "daemon"
) -> list[Finding]:
    """
    What is wrong with a configuration file and the environment, and with the files that they name.

    Nothing is made or changed, and no port is tried.

    :param file: the configuration file; `None`: the environment alone.
    :param role: whose configuration it is.
    """
    kind: type[ConfiguredOptions] = Options if role == "daemon" else NodeOptions
    sources = [read_environment(kind.settings, environ)]
    if file is not None:
        sources.append(read_file(kind.settings, file))
    findings = [finding for source in sources for finding in source.findings]
    if any(finding.fatal for finding in findings):
        return findings
    where = file or "the environment"
    options = kind(environ)
    try:
        options.parseOptions([] if file is None else ["--config", file])
    except UsageError as error:
        return [*findings, Finding(where, str(error))]
    return [*findings, *(Finding(where, str(error)) for error in _errors_of_files(options))]


def _errors_of_files(options: ConfiguredOptions) -> list[ConfigurationError]:
    """
    Read the files that options name, as a start would.
    """
    errors = []
    for read in (_read_secrets, _read_peer_certificates, _read_tokens, _read_certificates):
        try:
            read(options)
        except ConfigurationError as error:
            errors.append(error)
    return errors


def _read_secrets(options: ConfiguredOptions) -> None:
    if options["secret-file"] is not None:
        read_secrets(options["secret-file"])


def _read_peer_certificates(options: ConfiguredOptions) -> None:
    tls_of_peers(options)


def _read_tokens(options: ConfiguredOptions) -> None:
    if options.get("tokens-file") is not None:
        TokensFile(options["tokens-file"], now=time.time_ns, seconds=time.monotonic)


def _read_certificates(options: ConfiguredOptions) -> None:
    if options.get("tls-cert") is not None:
        tls_of_http(options)
