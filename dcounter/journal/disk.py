"""
What the journal asks of a disk, and the disk of this machine.

The seam is small on purpose: a simulated disk can then lose what was not synced and tear what was.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from errno import EROFS
from typing import NoReturn, Protocol

from dcounter.journal.locks import DIRECTORY, lock_directory


class AppendFile(Protocol):
    """
    A file that is written at its end.
    """

    def write(self, data: bytes) -> None:
        """
        Write all of it.

        :raises OSError: none of it, or only a part, is written.
        """

    def sync(self) -> None:
        """
        Make all that was written survive a loss of power.

        :raises OSError: how much of it would survive is unknown.
        """

    def close(self) -> None:
        """
        Release the file.
        """


class Disk(Protocol):
    """
    One directory of files.
    """

    def open(self) -> None:
        """
        Lock the directory.

        :raises DirectoryInUse: another process uses it.
        """

    def close(self) -> None:
        """
        Unlock it.
        """

    def list(self) -> list[str]:
        """
        The names of all files, sorted.
        """
        ...

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """
        The bytes of a file from `start`: all, or `size` of them; fewer only at its end.
        """
        ...

    def create(self, name: str) -> AppendFile:
        """
        A new, empty file; its name is durable after `sync`.

        :raises FileExistsError: the name is taken.
        """
        ...

    def rewrite(self, name: str, data: bytes) -> None:
        """
        Write to a file, durably, the bytes that it begins with already. That needs no room.

        It does more than a sync, which says nothing about bytes that an earlier sync failed to keep.
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
        Cut the last `size` bytes off an obsolete file, and remove it when nothing is left.

        :returns: whether it is removed.
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
    descriptor = os.open(path, DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: str, give: Callable[[int], object] | None = None) -> list[str]:
    """
    Make a directory and its missing parents; their names are durable.

    :param give: takes the descriptor of each new directory, to change its owner.
    :returns: the new directories, the outermost one first.
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
    Remove directories that turned out not to be needed, unless they hold something.
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
        # The process that made it may not have come to this yet, and it may not be readable to us.
        with contextlib.suppress(OSError):
            sync_directory(parent)
        return
    made.append(path)
    if give is not None:
        # Not by its name: in a directory that others can write to, the name may have been taken meanwhile.
        descriptor = os.open(path, DIRECTORY | os.O_NOFOLLOW)
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
    A directory of this machine; it is made if it is missing.

    All access goes through the locked descriptor: if the directory is moved away and another one takes its
    path, nothing is written to that one.

    :param path: the directory.
    :param patience: time (s) to block while another process uses it.
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


class ReadOnlyDisk(RealDisk):
    """
    A directory of this machine in which nothing is changed, as if its file system were mounted read-only.
    """

    def open(self) -> None:
        self._directory = lock_directory(self._path, patience=self._patience)

    def create(self, name: str) -> AppendFile:
        _refuse(name)

    def rewrite(self, name: str, data: bytes) -> None:
        _refuse(name)

    def truncate(self, name: str, size: int) -> None:
        _refuse(name)

    def rename(self, old: str, new: str) -> None:
        _refuse(old)

    def remove(self, name: str) -> None:
        _refuse(name)

    def shorten(self, name: str, size: int) -> bool:
        _refuse(name)

    def sync(self) -> None:
        # Not even the times of files change.
        _refuse(self._path)


def _refuse(name: str) -> NoReturn:
    raise OSError(EROFS, os.strerror(EROFS), name)
