"""
The directory of a daemon: which cluster its nodes are, and where each keeps its journal.
"""

import os
from collections.abc import Callable

import msgspec

from dcounter.errors import ConfigurationError
from dcounter.handshake import Identity

_NAME = "cluster.json"


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
    os.makedirs(path, mode=0o700, exist_ok=True)
    name = os.path.join(path, _NAME)
    if not os.path.exists(name):
        strangers = [each for each in os.listdir(path) if each.startswith("node-")]
        if strangers:
            raise ConfigurationError(f"{path} has {sorted(strangers)}, but {_NAME} is gone")
        cluster = _Cluster(1, randbytes(16).hex(), randbytes(32).hex(), list(range(nodes)))
        _write_durably(path, name, msgspec.json.encode(cluster))
    with open(name, "rb") as file:
        try:
            cluster = msgspec.json.decode(file.read(), type=_Cluster)
            secret = bytes.fromhex(cluster.secret)
        except ValueError as error:
            raise ConfigurationError(f"{name} cannot be read: {error}") from error
    if cluster.version != 1:
        raise ConfigurationError(f"{name} is of version {cluster.version}, this dcounter reads version 1")
    if cluster.members != list(range(nodes)):
        raise ConfigurationError(
            f"the cluster in {path} has nodes {cluster.members}; start it with --nodes {len(cluster.members)}"
        )
    return Identity(cluster.cluster, secret, cluster.members)


def node_directory(path: str, node: int) -> str:
    """
    Where a node keeps its journal.
    """
    return os.path.join(path, f"node-{node}")


def _write_durably(path: str, name: str, data: bytes) -> None:
    descriptor = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.rename(name + ".new", name)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
