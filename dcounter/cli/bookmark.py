"""
Remembers how far a restore came, in a file beside the backup.
"""

import os
from contextlib import suppress

import msgspec


class _State(msgspec.Struct, frozen=True):
    """
    What the file holds.

    :ivar cluster: the id of the cluster that is restored.
    :ivar sha256: of the lines of the backup.
    :ivar line: all before this line is stored.
    """

    cluster: str
    sha256: str
    line: int


class Bookmark:
    """
    How far the restore of one backup into one cluster came.

    :param path: of the file; `None`: nothing is remembered.
    :param cluster: the id of the cluster.
    :param sha256: of the lines of the backup.
    :ivar line: all before this line is stored; 0 if it is not begun.
    :ivar trouble: why the file could not be written; empty if it could.
    """

    def __init__(self, path: str | None, cluster: str, sha256: str) -> None:
        self._path = path if cluster else None
        self._cluster = cluster
        self._sha256 = sha256
        self.trouble = ""
        self.line = self._read()

    @property
    def is_kept(self) -> bool:
        """
        Whether the same restore can go on.
        """
        return self._path is not None and not self.trouble

    def move(self, line: int) -> None:
        """
        All before this line is stored.
        """
        self.line = line
        if self._path is None or self.trouble:
            return
        try:
            # Half of a file would be taken for none.
            with open(f"{self._path}.new", "wb") as file:
                file.write(msgspec.json.encode(_State(self._cluster, self._sha256, line)))
            os.replace(f"{self._path}.new", self._path)
        except OSError as error:
            self.trouble = f"{self._path} cannot be written: {error.strerror}"

    def remove(self) -> None:
        """
        The restore is complete.
        """
        if self._path is not None:
            with suppress(OSError):
                os.remove(self._path)

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            with open(self._path, "rb") as file:
                state = msgspec.json.decode(file.read(4096), type=_State)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return 0
        same = (state.cluster, state.sha256) == (self._cluster, self._sha256)
        return state.line if same else 0
