"""
Starts the nodes of a daemon as child processes that end together with it.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from dcounter.daemon.notifying import VARIABLES as OF_SYSTEMD
from dcounter.daemon.options import HOST, SECRET_VARIABLE, Options
from dcounter.daemon.secrets import in_hexadecimal
from dcounter.daemon.settings import VARIABLES
from dcounter.daemon.supervisor import PROGRESS_DESCRIPTOR
from dcounter.errors import ConfigurationError
from dcounter.links.address_book import Address
from dcounter.node.progress import Progress
from dcounter.protocol.handshake import Identity

BOOT_VARIABLE = "DCOUNTER_BOOT"
"""
The environment variable that tells a child to which start of the daemon it belongs.
"""

_TWISTD = "from twisted.scripts.twistd import run; run()"
"""
The program of a node's process. `python -m` would import modules from the working directory.
"""

_PR_SET_PDEATHSIG = 1


def report_progress(descriptor: int, progress: Progress) -> None:
    """
    Report the progress of this node's start to the process that started it.
    """
    # A pipe has room for a line; if its reader is gone, this process is about to be killed.
    with contextlib.suppress(OSError):
        os.write(descriptor, progress.to_line())


def child_environment(identity: Identity) -> dict[str, str]:
    """
    The environment of a node's process: the parent's, the secrets, and the id of this start of the daemon.
    """
    accepted = in_hexadecimal(identity.secrets.accepted)
    # Options in the environment, and what systemd says there, are for the daemon: a node has its own on its
    # command line.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((VARIABLES, "LISTEN_")) and name not in OF_SYSTEMD
    }
    environment |= {SECRET_VARIABLE: accepted, BOOT_VARIABLE: identity.boot}
    path = environment.pop("PYTHONPATH", "")
    # Python takes an empty part, as in "$NOT_SET:/opt/lib", for the working directory.
    parts = [part for part in path.split(os.pathsep) if part]
    return {**environment, "PYTHONPATH": os.pathsep.join(parts)} if parts else environment


def node_command(
    node: int, cluster: str, addresses: Mapping[int, Address], path: str | None, options: Options
) -> Sequence[str]:
    """
    The command line that starts one of our nodes.
    """
    # The daemon's new user may not have the right to enter the directory in which it was started.
    command = [sys.executable, "-P", "-c", _TWISTD, "-n", "--pidfile=", "--rundir=/", "dcounter", "node"]
    command += ["--id", str(node), "--parent", str(os.getpid()), "--cluster", cluster]
    command += ["--status", str(PROGRESS_DESCRIPTOR), "--log-level", options["log-level"]]
    # Whatever the daemon's own format: this is how it knows level and time of a line.
    command += ["--log-format", "json"]
    command += ["--listen", f"tcp:{addresses[node].port}:interface={HOST}"]
    for peer, address in addresses.items():
        if peer != node:
            command += ["--peer", f"{peer}=tcp:{address.host}:{address.port}"]
    command += ["--suspicion", str(options["suspicion"])]
    return [*command, "--in-memory"] if path is None else [*command, "--data-dir", path]


def die_with(parent: int) -> None:
    """
    Have the kernel kill this process when its parent ends, even if this process is frozen.

    :raises ConfigurationError: the parent has ended already.
    """
    # Ctrl-C reaches a whole process group, but only the parent may stop its nodes: it does that in order.
    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ConfigurationError(f"process {parent}, which started this node, has ended")
