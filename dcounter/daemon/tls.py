"""
The certificates that the options name. OpenSSL, which few processes need, is loaded only for those.
"""

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from twisted.python.usage import Options

if TYPE_CHECKING:
    from dcounter.daemon.certificates import Certificates


def tls_of_http(options: Options) -> "Certificates | None":
    """
    What HTTP uses; `None` if it is not encrypted.

    :raises ConfigurationError: a file cannot be used.
    """
    if options["tls-cert"] is None:
        return None
    from dcounter.daemon.certificates import OF_HTTP, Certificates

    return Certificates(
        *_paths(options, OF_HTTP), named=OF_HTTP, protocols=[b"http/1.1"], now=_now, seconds=time.monotonic
    )


def tls_of_peers(options: Options) -> "Certificates | None":
    """
    What nodes and coordinators use among each other; `None` if it is not encrypted.

    :raises ConfigurationError: a file cannot be used.
    """
    if options["peer-tls-cert"] is None:
        return None
    from dcounter.daemon.certificates import OF_PEERS, Certificates

    return Certificates(*_paths(options, OF_PEERS), named=OF_PEERS, now=_now, seconds=time.monotonic)


def _now() -> datetime:
    return datetime.now(UTC)


def _paths(options: Options, named: tuple[str, str, str]) -> tuple[str, str, str | None]:
    """
    The files that options name, from anywhere: twistd changes the working directory afterwards.
    """
    certificate, key, authority = (options[each.removeprefix("--")] for each in named)
    return os.path.abspath(certificate), os.path.abspath(key), authority and os.path.abspath(authority)
