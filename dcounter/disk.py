"""
What the journal asks of a disk, and the disk of this machine.

The seam is small on purpose: a simulated disk can then lose what was not synced and tear what was.
"""

import contextlib
import fcntl
import os
from typing import Protocol

from dcounter.errors import DirectoryInUse

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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

        :raises DirectoryInUse: another process uses it.
        """

    def close(self) -> None:
        """
        Let others use it.
        """

    def list(self) -> list[str]:
        """
        Names of all that is there, sorted.
        """
        ...

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """
        A file from `start` on: all of it or `size` bytes; fewer only at its end.
        """
        ...

    def create(self, name: str) -> AppendFile:
        """
        A new, empty file; its name is durable after `sync`.

        :raises FileExistsError: there is one.
        """
        ...

    def rewrite(self, name: str, data: bytes) -> None:
        """
        Write to a file, durably, what it begins with already: that needs no room.

        More than a sync, which says nothing of bytes that an earlier one failed to keep.
        """

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
        Remove a file, if it is there.
        """

    def shorten(self, name: str, size: int) -> bool:
        """
        Take the last `size` bytes from a file that nobody needs, which is removed when they are all of it.

        :returns: whether it is gone.
        """
        ...

    def sync(self) -> None:
        """
        Make all names durable.
        """


def sync_directory(path: str) -> None:
    """
    Make the names in a directory durable.
    """
    descriptor = os.open(path, _DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: str) -> None:
    """
    Make a directory, and those it is in, unless it is there; its name is durable.
    """
    path = os.path.abspath(path)
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_directory(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        # Whoever made it may have had no time to do this, or may have forbidden it.
        with contextlib.suppress(OSError):
            sync_directory(parent)
    else:
        sync_directory(parent)


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

    It is reached through the descriptor that is locked: should somebody move it away and put another one
    in its place, nothing gets into that one.

    :param path: the directory.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory: int | None = None

    def open(self) -> None:
        make_directory(self._path)
        directory = os.open(self._path, _DIRECTORY)
        try:
            # The directory itself is locked: that needs no file, which a full disk would not take.
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(directory)
            raise DirectoryInUse(
                f"{self._path} is used by another process, or cannot be locked: {error}"
            ) from error
        self._directory = directory

    def close(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            os.close(directory)

    def list(self) -> list[str]:
        return sorted(os.listdir(self._opened))

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        with open(self._open_file(name, os.O_RDONLY), "rb") as file:
            file.seek(start)
            return file.read(size)

    def create(self, name: str) -> AppendFile:
        return _RealFile(self._open_file(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND))

    def rewrite(self, name: str, data: bytes) -> None:
        file = _RealFile(self._open_file(name, os.O_WRONLY))
        try:
            file.write(data)
            file.sync()
        finally:
            file.close()

    def truncate(self, name: str, size: int) -> None:
        descriptor = self._open_file(name, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._opened, dst_dir_fd=self._opened)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(name, dir_fd=self._opened)

    def shorten(self, name: str, size: int) -> bool:
        descriptor = self._open_file(name, os.O_WRONLY)
        try:
            rest = os.fstat(descriptor).st_size - size
            if rest > 0:
                os.ftruncate(descriptor, rest)
        finally:
            os.close(descriptor)
        if rest <= 0:
            self.remove(name)
        return rest <= 0

    def sync(self) -> None:
        os.fsync(self._opened)

    @property
    def _opened(self) -> int:
        assert self._directory is not None, "the disk is not open"
        return self._directory

    def _open_file(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self._opened)
