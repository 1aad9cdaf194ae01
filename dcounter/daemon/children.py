"""
How a daemon's nodes are started as processes, and end with it.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from dcounter.daemon.options import HOST, SECRET_VARIABLE, Options
from dcounter.daemon.supervisor import STATUS
from dcounter.errors import ConfigurationError
from dcounter.links.address_book import Address
from dcounter.node.progress import Progress
from dcounter.protocol.handshake import Identity

BOOT_VARIABLE = "DCOUNTER_BOOT"
"""
How a child process is told which start of the daemon it belongs to.
"""

_TWISTD = "from twisted.scripts.twistd import run; run()"
"""
What the process of a node runs. `python -m` would import what lies in the working directory.
"""

_PR_SET_PDEATHSIG = 1


def report_progress(descriptor: int, progress: Progress) -> None:
    """
    Tell the process that started this node how its start goes.
    """
    # A pipe takes that much; if nobody reads it, this process is about to be killed.
    with contextlib.suppress(OSError):
        os.write(descriptor, progress.to_line())


def child_environment(identity: Identity) -> dict[str, str]:
    """
    The environment of the process of a node: its parent's, the secret, and which start this is.
    """
    environment = {**os.environ, SECRET_VARIABLE: identity.secret.hex(), BOOT_VARIABLE: identity.boot}
    path = environment.pop("PYTHONPATH", "")
    # An empty part, as in "$NOT_SET:/opt/lib", would be the working directory.
    parts = [part for part in path.split(os.pathsep) if part]
    return {**environment, "PYTHONPATH": os.pathsep.join(parts)} if parts else environment


def node_command(
    node: int, cluster: str, addresses: Mapping[int, Address], path: str | None, options: Options
) -> Sequence[str]:
    """
    The command line of the process of one of our nodes.
    """
    # The user that the daemon became may not be permitted to enter the directory in which it was started.
    command = [sys.executable, "-P", "-c", _TWISTD, "-n", "--pidfile=", "--rundir=/", "dcounter", "node"]
    command += ["--id", str(node), "--parent", str(os.getpid()), "--cluster", cluster]
    command += ["--status", str(STATUS), "--log-level", options["log-level"]]
    command += ["--listen", f"tcp:{addresses[node].port}:interface={HOST}"]
    for peer, address in addresses.items():
        if peer != node:
            command += ["--peer", f"{peer}=tcp:{address.host}:{address.port}"]
    command += ["--suspicion", str(options["suspicion"])]
    return [*command, "--in-memory"] if path is None else [*command, "--data-dir", path]


def die_with(parent: int) -> None:
    """
    Have the kernel kill this process when its parent ends, whatever state it is in.

    :raises ConfigurationError: the parent has ended already.
    """
    # Ctrl-C reaches a whole process group: the parent stops its nodes in order, nobody else does.
    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ConfigurationError(f"process {parent}, which started this node, has ended")
