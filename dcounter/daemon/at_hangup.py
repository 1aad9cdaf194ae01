"""
What a process reads again at SIGHUP.
"""

import os
from collections.abc import Callable
from functools import partial

from twisted.python.usage import Options as TwistedOptions

from dcounter.daemon.data_directory import DataDirectory
from dcounter.daemon.instructions import LOG_LEVEL, SECRETS
from dcounter.daemon.options import Options
from dcounter.daemon.process import Process
from dcounter.daemon.reloading import Reloading
from dcounter.daemon.secrets import Rotation, in_hexadecimal, read_secrets
from dcounter.daemon.supervisor import InlineSupervisor, ProcessSupervisor
from dcounter.protocol.handshake import Identity


def reloading_of(
    options: Options, daemon: Process, supervisor: InlineSupervisor | ProcessSupervisor | None
) -> Reloading:
    """
    What reads the configuration again at SIGHUP.
    """
    reloading = Reloading(options)

    def use_level(level: str) -> None:
        daemon.use_level(level)
        if isinstance(supervisor, ProcessSupervisor):
            supervisor.tell(LOG_LEVEL, level)

    reloading.on_change("log-level", use_level)
    reloading.on_change("drain-delay", daemon.use_drain)
    daemon.on_hangup(reloading.reload)
    return reloading


def reread_secrets(
    options: Options,
    daemon: Process,
    identity: Identity,
    directory: DataDirectory | None,
    supervisor: InlineSupervisor | ProcessSupervisor | None,
) -> None:
    """
    Have a daemon read its secrets again at SIGHUP, if they are in a file.
    """
    if options["join"]:
        daemon.on_hangup(rotation(identity, options).reload)
    elif directory is not None:
        daemon.on_hangup(Rotation(identity, directory.read_secrets, _teller(identity, supervisor)).reload)


def rotation(identity: Identity, options: TwistedOptions) -> Rotation:
    # twistd changes the working directory afterwards.
    return Rotation(identity, partial(read_secrets, os.path.abspath(options["secret-file"])))


def _teller(
    identity: Identity, supervisor: InlineSupervisor | ProcessSupervisor | None
) -> Callable[[], None]:
    """
    What tells other processes of this daemon that the secrets were replaced.
    """

    def tell() -> None:
        if isinstance(supervisor, ProcessSupervisor):
            supervisor.tell(SECRETS, in_hexadecimal(identity.secrets.accepted))

    return tell
