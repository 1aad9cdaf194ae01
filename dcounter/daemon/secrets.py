"""
The secret that all nodes and coordinators of a cluster share, and the identity that follows from it.
"""

import hashlib
from collections.abc import Sequence

from dcounter.errors import ConfigurationError
from dcounter.protocol.handshake import Identity


def read_secret(path: str) -> bytes:
    """
    Read the secret that all nodes and coordinators of a cluster share.
    """
    try:
        with open(path, "rb") as file:
            secret = file.read().strip()
    except OSError as error:
        raise ConfigurationError(f"--secret-file: {error}") from error
    if len(secret) < 16:
        raise ConfigurationError(
            f"--secret-file: {path} holds fewer than 16 bytes: use the secret of the cluster's other "
            "processes, or a longer one for a new cluster"
        )
    return secret


def identity_of(secret: bytes, members: Sequence[int], cluster: str | None = None) -> Identity:
    """
    The cluster that shares a secret; its id is derived from the secret unless it is given.
    """
    derived = hashlib.blake2b(secret, digest_size=16, person=b"cluster id").hexdigest()
    return Identity(cluster or derived, secret, members)
