"""
The secrets that all nodes and coordinators of a cluster share, and their replacement while processes run.

A file holds one secret, from which the id of the cluster is derived. Or it begins with a line that names the
cluster, and has a secret in each further line: then the secret can change, and the cluster stays the same.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from twisted.logger import Logger

from dcounter.errors import ConfigurationError
from dcounter.protocol.handshake import Identity
from dcounter.protocol.secrets import Secrets

_log = Logger()

MOST_SECRETS: Final = 2
"""
How many secrets are accepted: the one before a change, and the one after it.
"""

_LEAST_BYTES: Final = 16
_MOST_BYTES: Final = 64 * 1024
_CLUSTER: Final = re.compile(rb"cluster ([0-9a-f]{32})")


class ClusterSecrets(NamedTuple):
    """
    What a file says of a cluster.

    :ivar cluster: its id; `None` if the file does not name it.
    :ivar accepted: its secrets; the first one is used.
    """

    cluster: str | None
    accepted: tuple[bytes, ...]


def read_secrets(path: str) -> ClusterSecrets:
    """
    Read the file of `--secret-file`.

    :raises ConfigurationError: it cannot be used; the message says why, and shows nothing of a secret.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1).strip()
    except OSError as error:
        raise ConfigurationError(f"--secret-file: {error}") from error
    if len(content) > _MOST_BYTES:
        raise ConfigurationError(f"--secret-file: {path} holds more than {_MOST_BYTES} bytes")
    lines = [line.strip() for line in content.split(b"\n")]
    named = _CLUSTER.fullmatch(lines[0])
    if named is None:
        _check_length(path, content)
        return ClusterSecrets(None, (content,))
    accepted = [line for line in lines[1:] if line]
    for secret in accepted:
        _check_length(path, secret)
    check_number(f"--secret-file: {path}", accepted)
    return ClusterSecrets(named[1].decode(), tuple(accepted))


def _check_length(path: str, secret: bytes) -> None:
    if len(secret) < _LEAST_BYTES:
        raise ConfigurationError(
            f"--secret-file: {path} holds a secret of fewer than {_LEAST_BYTES} bytes: use the secret of the "
            "cluster's other processes, or a longer one for a new cluster"
        )


def check_number(where: str, accepted: Collection[bytes]) -> None:
    """
    Check how many secrets there are.

    :raises ConfigurationError: too few or too many, or the same one twice.
    """
    if not 1 <= len(set(accepted)) == len(accepted) <= MOST_SECRETS:
        raise ConfigurationError(
            f"{where} has {len(accepted)} secrets, {len(set(accepted))} different ones: one is needed, and "
            f"{MOST_SECRETS} different ones at most"
        )


def identity_of(read: ClusterSecrets, members: Sequence[int], cluster: str | None = None) -> Identity:
    """
    The identity of a process, by what it has read.

    :param cluster: the id of the cluster, if an option gives it.
    :raises ConfigurationError: the file names another one.
    """
    if cluster is not None and read.cluster not in (None, cluster):
        raise ConfigurationError(
            f"--cluster is {cluster}, but the file with the secrets names {read.cluster}"
        )
    derived = hashlib.blake2b(read.accepted[0], digest_size=16, person=b"cluster id").hexdigest()
    return Identity(cluster or read.cluster or derived, Secrets(*read.accepted), members)


class Rotation:
    """
    Replaces the secrets of this process by those that a file holds now.

    Connections that exist stay, and prove nothing anew.

    :param identity: that of this process.
    :param read: reads the file, or raises `ConfigurationError`.
    :param changed: called after secrets were replaced.
    """

    def __init__(
        self,
        identity: Identity,
        read: Callable[[], ClusterSecrets],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._identity = identity
        self._read = read
        self._changed = changed

    def reload(self) -> None:
        """
        Use what the file holds now; if it cannot be used, what it held before.
        """
        secrets, cluster = self._identity.secrets, self._identity.cluster
        before = secrets.accepted
        try:
            read = self._read()
            if read.cluster != cluster and (read.cluster is not None or read.accepted != before):
                raise ConfigurationError(
                    f"the file with the secrets names {read.cluster or 'no cluster'}: to change the secret, "
                    f"begin the file with the line 'cluster {cluster}'"
                )
        except ConfigurationError as error:
            _log.error("{error}; the secrets that were read before stay in force", error=error)
            return
        if read.accepted != before:
            secrets.replace(read.accepted)
            self._changed()
            _log.info(
                "the secrets of the cluster were replaced: {now} are accepted, {before} were; {used}",
                now=len(read.accepted),
                before=len(before),
                used=_use(before, read.accepted[0]),
            )


def _use(before: Sequence[bytes], used: bytes) -> str:
    if used == before[0]:
        return "the same one as before is used"
    return "the second one is used now" if used in before else "one that was not accepted before is used"


# How a daemon hands its secrets to the processes of its nodes: through their environment, and later through
# their standard input.


def in_hexadecimal(accepted: Sequence[bytes]) -> str:
    """
    Secrets as one word.
    """
    return ",".join(secret.hex() for secret in accepted)


def from_hexadecimal(text: str) -> tuple[bytes, ...]:
    """
    The secrets that `in_hexadecimal` made to a word.
    """
    return tuple(map(bytes.fromhex, text.split(",")))
