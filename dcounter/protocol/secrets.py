"""
The secrets that the processes of a cluster share.
"""

import hmac
from collections.abc import Callable, Sequence


class Secrets:
    """
    The secrets with which the processes of a cluster know each other: one, or two while it is being changed.

    It stays the same object when the secrets change, so that everything that holds it uses the new ones.

    :param accepted: see `replace`.
    :ivar accepted: what proves that another process belongs to the cluster. A new object after each change.
    """

    def __init__(self, *accepted: bytes) -> None:
        self.accepted = accepted

    # They change.
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secrets) and self.accepted == other.accepted

    @property
    def used(self) -> bytes:
        """
        The one with which this process proves itself, and seals.
        """
        return self.accepted[0]

    def replace(self, accepted: Sequence[bytes]) -> None:
        """
        Use and accept others from now on.

        :param accepted: at least one; the first is the one to use.
        """
        self.accepted = tuple(accepted)

    def made(self, code: bytes, make: Callable[[bytes], bytes]) -> bool:
        """
        Whether one of them made a code.

        :param make: makes the code with a given secret.
        """
        return any(hmac.compare_digest(make(secret), code) for secret in self.accepted)
