"""
The secrets of the processes of a cluster, and a change of the secret, process by process.
"""

from collections.abc import Callable, Sequence
from random import Random

from dcounter.protocol.secrets import Secrets


class SecretFiles:
    """
    What each process finds in its file with the secrets, also when it is started again.

    :param make: makes the secrets of a process.
    :param random: gives new secrets.
    """

    def __init__(self, make: Callable[..., Secrets], random: Random) -> None:
        self._make = make
        self._random = random
        self._files: dict[str, Secrets] = {}
        self._accepted: tuple[bytes, ...] = (self._new(),)
        self._step = 0

    def of(self, process: str) -> Secrets:
        """
        The secrets of a process; one that was never started gets the newest file.
        """
        if process not in self._files:
            self._files[process] = self._make(*self._accepted)
        return self._files[process]

    @property
    def behind(self) -> Sequence[str]:
        """
        The processes that have not taken the present step of the change.
        """
        return [process for process, each in self._files.items() if each.accepted != self._accepted]

    def begin_step(self) -> tuple[bytes, ...]:
        """
        Begin the next step of a change, or the next change; all processes have taken the step before.

        :returns: what is accepted in it; the first is used.
        """
        assert not self.behind
        self._step = self._step % 3 + 1
        if self._step == 1:
            self._accepted = (*self._accepted, self._new())
        elif self._step == 2:
            self._accepted = self._accepted[::-1]
        else:
            self._accepted = self._accepted[:1]
        return self._accepted

    def take_step(self, process: str) -> None:
        """
        Give a process the present file.
        """
        self._files[process].replace(self._accepted)

    def _new(self) -> bytes:
        return self._random.randbytes(32)
