"""
Locks that let one process at a time use a directory.

The directory itself is locked (`flock`). That needs no file, for which a full disk has no room, and the lock
ends with the process, however it ends.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress

from dcounter.errors import DirectoryInUse

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""
The flags with which a directory is opened.
"""
PATIENCE = 0.5
"""
Time (s) for which a start waits for a lock. A daemon that was killed may have been about to start a child,
and until that child runs its own program, it has all that the daemon had open.
"""

_PAUSE = 0.02


def lock_directory(
    path: str,
    *,
    named: Iterable[int] = (),
    patience: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """
    Lock a directory for as long as this process has it open.

    :param named: processes that may hold the lock.
    :param patience: time (s) to wait for it.
    :returns: a descriptor; closing it unlocks the directory.
    :raises DirectoryInUse: another process holds the lock.
    :raises OSError: it cannot be opened or locked.
    """
    descriptor = os.open(path, DIRECTORY)
    with ExitStack() as undo:
        undo.callback(os.close, descriptor)
        _lock(descriptor, path, named, patience, sleep)
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise DirectoryInUse(f"{path} was replaced by another process just now")
        undo.pop_all()
    return descriptor


def _lock(
    descriptor: int, path: str, named: Iterable[int], patience: float, sleep: Callable[[float], None]
) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if patience <= 0:
                raise DirectoryInUse(f"{path} is used by {_holder(descriptor, named)}") from error
        except OSError as error:
            raise OSError(error.errno, f"it cannot be locked: {error.strerror}", path) from error
        else:
            return
        sleep(_PAUSE)
        patience -= _PAUSE


def _holder(descriptor: int, named: Iterable[int]) -> str:
    """
    The process that holds the lock of a directory, as far as can be found out.

    The kernel names the process that took the lock. If that process has forked into the background and ended,
    the one that holds the lock now is not named.
    """
    there = os.fstat(descriptor)
    candidates = (*named, *_takers(there.st_ino))
    return next((f"process {pid}" for pid in candidates if _has_open(pid, there)), "another process")


def _takers(inode: int) -> list[int]:
    found = []
    with suppress(OSError), open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            # "1: FLOCK  ADVISORY  WRITE 1234 08:01:131073 0 EOF"; those that wait have "->" before "FLOCK".
            words = line.split()
            if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                found.append(int(words[4]))
    return found


def _has_open(pid: int, there: os.stat_result) -> bool:
    """
    Whether a process has a file open; if that cannot be seen, it is assumed.
    """
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    for descriptor in descriptors:
        with suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{descriptor}"), there):
                return True
    return False
