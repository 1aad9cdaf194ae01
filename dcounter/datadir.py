"""
The directory of a daemon: which cluster its nodes are, and where each keeps its journal.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

import msgspec

from dcounter.disk import make_directory, sync_directory
from dcounter.errors import ConfigurationError
from dcounter.handshake import Identity

_VERSION = 1
_CLUSTER = "cluster.json"
_NEW = ".new"
_SECRET_BYTES = 32


class _Cluster(msgspec.Struct, forbid_unknown_fields=True):
    """
    What a data directory says of its cluster.

    :ivar secret: the shared secret, in hexadecimal.
    :ivar members: ids of all nodes.
    """

    version: int
    cluster: str
    secret: str
    members: list[int]


def open_data_directory(path: str, nodes: int, randbytes: Callable[[int], bytes]) -> Identity:
    """
    Read who the cluster in a directory is, or make a new one there.

    :param nodes: how many nodes it must have.
    :raises ConfigurationError: it has another number of nodes, or cannot be read.
    """
    make_directory(path)
    name = os.path.join(path, _CLUSTER)
    with _locked(path):
        if not os.path.exists(name):
            strangers = sorted(each for each in os.listdir(path) if each.startswith("node-"))
            if strangers:
                raise ConfigurationError(f"{path} has {strangers}, but {_CLUSTER} is gone")
            secret = randbytes(_SECRET_BYTES).hex()
            cluster = _Cluster(_VERSION, randbytes(16).hex(), secret, list(range(nodes)))
            _write_durably(name, msgspec.json.encode(cluster))
    try:
        with open(name, "rb") as file:
            cluster = msgspec.json.decode(file.read(), type=_Cluster)
        secret_bytes = bytes.fromhex(cluster.secret)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name} cannot be read: {error}") from error
    if cluster.version != _VERSION:
        raise ConfigurationError(
            f"{name} is of version {cluster.version}, this dcounter reads version {_VERSION}"
        )
    if len(secret_bytes) < _SECRET_BYTES:
        raise ConfigurationError(f"{name}: the secret is too short to be one")
    if cluster.members != list(range(nodes)):
        raise ConfigurationError(
            f"the cluster in {path} has nodes {cluster.members}; start it with --nodes {len(cluster.members)}"
        )
    return Identity(cluster.cluster, secret_bytes, cluster.members)


def node_directory(path: str, node: int) -> str:
    """
    Where a node keeps its journal.
    """
    return os.path.join(path, f"node-{node}")


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """
    Let two daemons that start at once look into a directory one after the other.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _write_durably(name: str, data: bytes) -> None:
    descriptor = os.open(name + _NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.rename(name + _NEW, name)
    sync_directory(os.path.dirname(name))
