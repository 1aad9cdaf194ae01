"""
The data directory of a daemon: the identity of the cluster, and the journals of its nodes.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import msgspec

from dcounter.daemon.account import Account
from dcounter.daemon.operator_token import FILE_NAME
from dcounter.daemon.remedies import holds_nothing, trouble
from dcounter.daemon.secrets import ClusterSecrets, check_number, identity_of
from dcounter.errors import ConfigurationError, DirectoryInUse
from dcounter.journal.disk import make_directory, sync_directory, unmake_directories
from dcounter.journal.locks import PATIENCE, lock_directory
from dcounter.protocol.handshake import Identity

_VERSION = 1
CLUSTER_FILE = "cluster.json"
"""
The file with the identity of the cluster.
"""

_PID = "daemon.pid"
_NEW = ".new"
_SECRET_BYTES = 32
_NODE = re.compile(r"node-[0-9]+")
_OF_A_NODE = re.compile(r"owner|[0-9]{12}\.(journal|snapshot)")


class _Versioned(msgspec.Struct):
    """
    The part of a cluster's file that every version can read.
    """

    version: int


class _Cluster(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """
    The content of `cluster.json`.

    :ivar secret: the shared secret, in hexadecimal.
    :ivar members: ids of all nodes.
    :ivar accepted: further secrets that are accepted, while the secret is being changed.
    """

    version: int
    cluster: str
    secret: str
    members: list[int]
    accepted: list[str] = []

    def secrets(self, name: str) -> ClusterSecrets:
        """
        The secrets in it.

        :param name: the file.
        :raises ConfigurationError: they cannot be used.
        """
        try:
            accepted = tuple(map(bytes.fromhex, [self.secret, *self.accepted]))
        except ValueError as error:
            raise ConfigurationError(
                f"{name} cannot be read: a secret is not in hexadecimal: restore the file from a backup"
            ) from error
        if any(len(each) < _SECRET_BYTES for each in accepted):
            raise ConfigurationError(
                f"{name}: the secret has fewer than {_SECRET_BYTES} bytes: restore the file from a backup"
            )
        check_number(name, accepted)
        return ClusterSecrets(self.cluster, accepted)


class DataDirectory:
    """
    A directory that this daemon uses exclusively, until this is closed or the process ends.

    :param made: directories that were made for it, outermost first.
    :ivar path: absolute: twistd may change the working directory.
    :ivar identity: the cluster in it.
    :ivar new: whether this start made the cluster, and nothing uses it yet.
    """

    def __init__(self, path: str, identity: Identity, lock: int, *, made: Sequence[str], new: bool) -> None:
        self.path = path
        self.identity = identity
        self._lock: int | None = lock
        self._made = made
        self.new = new

    def node(self, node: int) -> str:
        """
        The directory of a node's journal.
        """
        return os.path.join(self.path, f"node-{node}")

    def read_secrets(self) -> ClusterSecrets:
        """
        The secrets that it has now.

        :raises ConfigurationError: they cannot be used.
        """
        name = os.path.join(self.path, CLUSTER_FILE)
        return _read_cluster(name).secrets(name)

    def begin(self, pid: int) -> None:
        """
        Begin to use it: from now on, `close` undoes nothing.

        :param pid: this process, for the message that a second daemon gets; nothing else depends on it.
        """
        self._made, self.new = (), False
        with suppress(OSError):
            _write_durably(os.path.join(self.path, _PID), b"%d\n" % pid)

    def close(self) -> None:
        """
        Release the directory. If the daemon never began to use it, undo what its start has changed.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with suppress(OSError):
            os.remove(os.path.join(self.path, _PID))
        if self.new:
            for name in (CLUSTER_FILE, FILE_NAME):
                with suppress(OSError):
                    os.remove(os.path.join(self.path, name))
        unmake_directories(self._made)
        os.close(lock)


def open_data_directory(
    path: str,
    nodes: int,
    randbytes: Callable[[int], bytes],
    *,
    account: Account | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> DataDirectory:
    """
    Open the directory of a cluster, or make a new cluster there.

    :param nodes: how many nodes the cluster must have.
    :param account: the user to which it must belong.
    :raises ConfigurationError: it cannot be used; the message says what to do, and nothing is changed.
    """
    path = _absolute(path)
    account = account or Account()
    with _usable(path, account) as made, account.acting():
        _refuse_a_nodes_directory(path)
        try:
            lock = lock_directory(path, named=_named_pids(path), patience=PATIENCE, sleep=sleep)
        except DirectoryInUse as error:
            raise ConfigurationError(
                f"{error}: stop that daemon first, or give this one another "
                "--data-dir, --http and --node-port"
            ) from error
        with ExitStack() as undo:
            undo.callback(os.close, lock)
            new = _make_cluster(path, nodes, randbytes)
            identity = _read_identity(path, nodes)
            undo.pop_all()
    return DataDirectory(path, identity, lock, made=made, new=new)


def lock_unchanged(path: str) -> int:
    """
    Lock the directory of a daemon or of a node, and change nothing in it.

    :returns: a descriptor; closing it unlocks the directory.
    :raises DirectoryInUse: a daemon or a node uses it.
    :raises OSError: it cannot be opened.
    """
    return lock_directory(path, named=_named_pids(path), patience=PATIENCE)


def read_cluster(path: str) -> tuple[str, Sequence[int]]:
    """
    The id and the members of the cluster in a directory.

    :raises ConfigurationError: its file cannot be read, or is damaged.
    """
    name = os.path.join(path, CLUSTER_FILE)
    cluster = _read_cluster(name)
    cluster.secrets(name)
    return cluster.cluster, cluster.members


def open_node_directory(
    path: str,
    *,
    account: Account | None = None,
    alone: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """
    Check that a node can use a directory, make it if it does not exist, and return its absolute path.

    :param alone: the node is not a daemon's. A daemon's node waits for an earlier process that may be about
        to end.
    :raises ConfigurationError: it cannot be used; the message says what to do.
    """
    path = _absolute(path)
    account = account or Account()
    # The journals of the daemon's nodes are one level below, so everything stored would seem to be gone.
    with _usable(path, account, elsewhere=alone), account.acting():
        if os.path.lexists(os.path.join(path, CLUSTER_FILE)):
            raise ConfigurationError(
                f"{path} is the directory of a daemon (it has {CLUSTER_FILE}): give this node one of its own"
            )
        if alone:
            try:
                os.close(lock_directory(path, patience=PATIENCE, sleep=sleep))
            except DirectoryInUse as error:
                raise ConfigurationError(
                    f"{error}: stop that node first; if this is another one, give it its own --id, --listen "
                    "and --data-dir"
                ) from error
    return path


def _absolute(path: str) -> str:
    if not path:
        raise ConfigurationError("--data-dir is empty: name a directory")
    return os.path.abspath(path)


@contextmanager
def _usable(path: str, account: Account, *, elsewhere: bool = True) -> Iterator[list[str]]:
    """
    Make a directory if necessary and check that it is writable; if the block fails, remove it again.

    Yields the directories that were made, outermost first.

    :param elsewhere: another directory would do as well.
    """
    made: list[str] = []
    try:
        made = make_directory(path, account.own)
        with account.acting():
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
                raise ConfigurationError(_why_not_writable(path, elsewhere=elsewhere))
        yield made
    except OSError as error:
        unmake_directories(made)
        raise ConfigurationError(trouble(error, path, elsewhere=elsewhere)) from error
    except BaseException:
        unmake_directories(made)
        raise


def _why_not_writable(path: str, *, elsewhere: bool) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        other = ", or name another directory" if elsewhere and holds_nothing(path) else ""
        return f"{path} cannot be written: make that file system writable{other}"
    return (
        f"{path} cannot be written: the user with uid {os.geteuid()} needs the right to read and write there "
        "(chown -R, chmod); but stop a daemon of another user that uses it first"
    )


def _refuse_a_nodes_directory(path: str) -> None:
    if os.path.lexists(os.path.join(path, CLUSTER_FILE)):
        return
    parent, name = os.path.split(path)
    ours = sorted(each for each in os.listdir(path) if _OF_A_NODE.fullmatch(each))
    if ours or (_NODE.fullmatch(name) and os.path.lexists(os.path.join(parent, CLUSTER_FILE))):
        raise ConfigurationError(
            f"{path} is the directory of a node"
            + (f" (it has {ours[0]})" if ours else "")
            + ": give the daemon a directory of its own"
        )


def _make_cluster(path: str, nodes: int, randbytes: Callable[[int], bytes]) -> bool:
    """
    Make a new cluster, unless there is one already; return whether one was made.
    """
    name = os.path.join(path, CLUSTER_FILE)
    # A dangling symbolic link is no reason to make a new cluster.
    if os.path.lexists(name):
        return False
    strangers = sorted(each for each in os.listdir(path) if each.startswith("node-"))
    if strangers:
        raise ConfigurationError(
            f"{path} has {strangers}, but {CLUSTER_FILE} is missing: restore it from a backup"
        )
    secret = randbytes(_SECRET_BYTES).hex()
    cluster = _Cluster(_VERSION, randbytes(16).hex(), secret, list(range(nodes)))
    _write_durably(name, msgspec.json.encode(cluster))
    return True


def _read_identity(path: str, nodes: int) -> Identity:
    name = os.path.join(path, CLUSTER_FILE)
    cluster = _read_cluster(name)
    secrets = cluster.secrets(name)
    if cluster.members != list(range(nodes)):
        raise ConfigurationError(
            f"the cluster in {path} has nodes {cluster.members}; start it with --nodes {len(cluster.members)}"
        )
    return identity_of(secrets, cluster.members)


def _read_cluster(name: str) -> _Cluster:
    try:
        with open(name, "rb") as file:
            content = file.read()
        # First the version alone: the additional fields of a newer version are not damage.
        version = msgspec.json.decode(content, type=_Versioned).version
        if version != _VERSION:
            raise ConfigurationError(
                f"{name} has version {version}, and this dcounter reads version {_VERSION}: start the "
                "dcounter that wrote it, or a newer one"
            )
        return msgspec.json.decode(content, type=_Cluster)
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {trouble(error, name, elsewhere=False)}") from error
    except ValueError as error:
        raise ConfigurationError(f"{name} cannot be read: {error}: restore it from a backup") from error


def _named_pids(path: str) -> list[int]:
    """
    The process id in the file, if it holds one.
    """
    with suppress(OSError, ValueError), open(os.path.join(path, _PID), "rb") as file:
        return [int(file.read(20))]
    return []


def _write_durably(name: str, data: bytes) -> None:
    """
    Write a file, or leave nothing of it.
    """
    try:
        descriptor = os.open(name + _NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(name + _NEW, name)
        sync_directory(os.path.dirname(name))
    except BaseException:
        for each in (name + _NEW, name):
            with suppress(OSError):
                os.remove(each)
        raise
