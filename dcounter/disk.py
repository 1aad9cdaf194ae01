"""
What the journal asks of a disk, and the disk of this machine.

The seam is small on purpose: a simulated disk can then lose what was not synced and tear what was.
"""

import contextlib
import fcntl
import os
from typing import Protocol

from dcounter.errors import ConfigurationError

_LOCK = "lock"


class AppendFile(Protocol):
    """
    A file that is written at its end.
    """

    def write(self, data: bytes) -> None:
        """
        Write all of it.

        :raises OSError: it is not, or not wholly, written.
        """

    def sync(self) -> None:
        """
        Make all that was written survive a loss of power.

        :raises OSError: nobody knows how much of it would.
        """

    def close(self) -> None:
        """
        Let go of the file.
        """


class Disk(Protocol):
    """
    One directory of files.
    """

    def open(self) -> None:
        """
        Use the directory, alone.

        :raises ConfigurationError: another process uses it.
        """

    def close(self) -> None:
        """
        Let others use it.
        """

    def list(self) -> list[str]:
        """
        Names of all files, sorted.
        """
        ...

    def read(self, name: str) -> bytes:
        """
        All of a file.
        """
        ...

    def create(self, name: str) -> AppendFile:
        """
        A new, empty file; its name is durable after `sync`.
        """
        ...

    def truncate(self, name: str, size: int) -> None:
        """
        Cut a file, durably.
        """

    def rename(self, old: str, new: str) -> None:
        """
        Give a file another name, in place of the file that had it.
        """

    def remove(self, name: str) -> None:
        """
        Remove a file.
        """

    def sync(self) -> None:
        """
        Make all names durable.
        """


class _RealFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class RealDisk:
    """
    A directory of this machine, made if it is not there.

    :param path: the directory.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: int | None = None

    def open(self) -> None:
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        lock = os.open(self._at(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise ConfigurationError(f"{self._path} is used by another process") from error
        self._lock = lock

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def list(self) -> list[str]:
        return sorted(name for name in os.listdir(self._path) if name != _LOCK)

    def read(self, name: str) -> bytes:
        with open(self._at(name), "rb") as file:
            return file.read()

    def create(self, name: str) -> AppendFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return _RealFile(os.open(self._at(name), flags, 0o600))

    def truncate(self, name: str, size: int) -> None:
        with open(self._at(name), "r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._at(name))

    def sync(self) -> None:
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _at(self, name: str) -> str:
        return os.path.join(self._path, name)
