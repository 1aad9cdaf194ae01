"""
What the journal asks of a disk, and the disk of this machine.

The seam is small on purpose: a simulated disk can then lose what was not synced and tear what was.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from typing import Protocol

from dcounter.journal.locks import lock_directory

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


def make_directory(path: str, give: Callable[[int], object] | None = None) -> list[str]:
    """
    Make a directory, and those it is in, unless it is there; its name is durable.

    :param give: takes the descriptor of each that is made, to give it to its owner.
    :returns: those that were made, the outermost one first.
    :raises OSError: it cannot be made; then none of them is.
    """
    made: list[str] = []
    try:
        _make_directory(os.path.abspath(path), give, made)
    except OSError:
        unmake_directories(made)
        raise
    return made


def unmake_directories(made: Iterable[str]) -> None:
    """
    Remove directories that were made for nothing, unless something is in them.
    """
    for each in reversed([*made]):
        with contextlib.suppress(OSError):
            os.rmdir(each)


def _make_directory(path: str, give: Callable[[int], object] | None, made: list[str]) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_directory(parent, give, made)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        # Whoever made it may have had no time to do this, or may have forbidden it.
        with contextlib.suppress(OSError):
            sync_directory(parent)
        return
    made.append(path)
    if give is not None:
        # Not by its name: in a directory of others it might be something else by now.
        descriptor = os.open(path, _DIRECTORY | os.O_NOFOLLOW)
        try:
            give(descriptor)
        finally:
            os.close(descriptor)
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
    :param patience: time (s) to wait, and do nothing else, for another process that uses it.
    """

    def __init__(self, path: str, *, patience: float = 0.0) -> None:
        self._path = path
        self._patience = patience
        self._directory: int | None = None

    def open(self) -> None:
        make_directory(self._path)
        self._directory = lock_directory(self._path, patience=self._patience)

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
