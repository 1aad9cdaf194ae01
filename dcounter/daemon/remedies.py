"""
Advice for operators about errors of the operating system.
"""

import errno
import os
import stat

_ELSEWHERE = ", or name another directory"
"""
The end of advice that is dropped if another directory would not do.
"""

_REMEDIES = {
    errno.ENOSPC: f"make room there (df shows it, df -i the inodes){_ELSEWHERE}",
    errno.EDQUOT: f"raise the quota{_ELSEWHERE}",
    errno.EROFS: f"make that file system writable{_ELSEWHERE}",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "repair the symbolic links on that path",
    errno.EMFILE: "raise the limit on open files (ulimit -n, LimitNOFILE=)",
    errno.ENFILE: "raise the limit on open files of this machine (sysctl fs.file-max)",
    errno.EIO: "look at the kernel's log (dmesg), and copy what can be read before you replace the disk",
    errno.ENOLCK: "put the directory on a local file system",
}

SET_ASIDE = (
    "If all other nodes of the cluster are up and take writes, set that directory aside (keep it) and "
    "start the node again: it is rebuilt from them. Otherwise leave it: it may hold data that no other has"
)
"""
What to do about a damaged journal of a node by itself, if its cluster has other nodes.
"""

RESTORE = "The cluster has no other node to rebuild it from: restore a backup, but keep that directory"
"""
What to do about a damaged journal of a node by itself, if its cluster has no other node.
"""


def trouble(error: OSError, path: str, *, elsewhere: bool = True) -> str:
    """
    One line about an error: the path, what is wrong, what to do.

    :param path: the path that the error is about, if the error itself does not name one.
    :param elsewhere: another directory would do as well, if this one is empty. What it holds would not be
        counted in another one.
    """
    named = error.filename if isinstance(error.filename, str) else path
    remedy = _remedy(error, named)
    if not (elsewhere and holds_nothing(path)):
        remedy = remedy.removesuffix(_ELSEWHERE)
    return f"{named}: {error.strerror or error}: {remedy}"


def holds_nothing(path: str) -> bool:
    """
    Whether a directory is empty or does not exist.
    """
    try:
        return not os.listdir(path)
    except OSError as error:
        # A directory that cannot be read may hold data.
        return error.errno in (errno.ENOENT, errno.ENOTDIR)


def _remedy(error: OSError, path: str) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        there = os.readlink(path)
        return f"it is a symbolic link to {there}, which does not exist: repair the link, or mount its target"
    match error.errno:
        case errno.EEXIST | errno.ENOTDIR:
            obstacle = _obstacle(path)
            if obstacle is not None:
                return f"{obstacle} is not a directory: move it away{_ELSEWHERE}"
        case errno.EACCES | errno.EPERM:
            return f"{_user()} needs the right to read and write there (chown, chmod)"
        case errno.EBUSY if os.path.ismount(path):
            return (
                "a mount point cannot be renamed: move the files in it elsewhere, and start without --rebuild"
            )
    return _REMEDIES.get(error.errno or 0, f"find out what prevents it{_ELSEWHERE}")


def _obstacle(path: str) -> str | None:
    """
    The part of a path that exists and is not a directory, if there is one.
    """
    while path != os.path.dirname(path):
        try:
            found = os.stat(path)
        except OSError:
            path = os.path.dirname(path)
            continue
        if not stat.S_ISDIR(found.st_mode):
            return path
        path = os.path.dirname(path)
    return None


def _user() -> str:
    return f"the user with uid {os.geteuid()}"
