"""
Writes files that take their names only when they are whole.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from dcounter.cli.failures import Failed
from dcounter.journal.disk import sync_directory

_PART: Final = ".part"


@contextmanager
def replaced(path: str) -> Iterator[BinaryIO]:
    """
    A file that takes its name when it is complete and on the disk.

    :raises Failed: it cannot be written, or another process is writing it.
    """
    part = path + _PART
    try:
        # What a cluster holds is not for every user of this machine.
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}", "Nothing was asked for.") from error
    with open(descriptor, "r+b") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may just have got its final name.
            ours = os.path.samestat(os.fstat(descriptor), os.stat(part))
        except OSError:
            ours = False
        if not ours:
            raise Failed(f"another process is writing {part}", "Nothing was asked for.")
        complete = False
        try:
            # What a process that was killed has left in it.
            file.truncate()
            yield file
            file.flush()
            os.fsync(descriptor)
            os.replace(part, path)
            complete = True
        except OSError as error:
            raise Failed(
                f"{path} cannot be written: {error.strerror}", "What had this name before is as it was."
            ) from error
        finally:
            if not complete:
                os.remove(part)
        sync_directory(os.path.dirname(os.path.abspath(path)))
