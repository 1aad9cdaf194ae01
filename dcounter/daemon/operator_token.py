"""
The file with the operator's token, which only the operator can read.
"""

import os
import re
import stat
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from dcounter.errors import ConfigurationError
from dcounter.http.auth import OperatorToken
from dcounter.journal.disk import sync_directory

_log = Logger()

FILE_NAME: Final = "operator-token"
"""
The name of the file in a data directory.
"""

_RANDOM_BYTES: Final = 32
_TOKEN: Final = re.compile(rb"[!-~]{16,256}")


def open_operator_token(path: str, randbytes: Callable[[int], bytes]) -> OperatorToken:
    """
    Read the token in a file, or make a new file with one.

    :raises ConfigurationError: the file cannot be made or read, or does not hold a token.
    """
    path = os.path.abspath(path)
    try:
        if not os.path.lexists(path):
            _make(path, randbytes)
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            value = file.read(4096).strip()
    except OSError as error:
        raise ConfigurationError(
            f"the operator's token cannot be read or made: {error.strerror}: {path}"
        ) from error
    if _TOKEN.fullmatch(value) is None:
        raise ConfigurationError(
            f"{path} does not hold an operator's token (16 to 256 visible ASCII characters without blanks): "
            "name another file, or move this one away and start again to get a new one"
        )
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        _log.warn(
            "other users can read the operator's token in {path}: set its mode to 600, and make sure that it "
            "belongs to the user that runs dcounter",
            path=path,
        )
    return OperatorToken(path, value)


def _make(path: str, randbytes: Callable[[int], bytes]) -> None:
    """
    Put a new token into a file, atomically. A file that another process makes meanwhile is left alone.
    """
    directory = os.path.dirname(path)
    unfinished = f"{path}.{randbytes(8).hex()}.new"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            owner = os.stat(directory)
            if os.geteuid() == 0:
                # A daemon that root starts may later run as the owner of this directory.
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(randbytes(_RANDOM_BYTES).hex().encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(unfinished, path)
        except FileExistsError:
            return
    finally:
        os.unlink(unfinished)
    sync_directory(directory)
