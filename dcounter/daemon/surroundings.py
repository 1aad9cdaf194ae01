"""
What an operator should know of the machine: its clock, its disks, the memory that this process may have.
"""

import ctypes
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_STATE_BYTES: Final = 512
"""
Room for what adjtimex(2) tells: 208 bytes on 64-bit machines.
"""

_TIME_ERROR: Final = 5
"""
What adjtimex(2) returns if no program synchronises the clock.
"""

_UNLIMITED: Final = 2**60
"""
How many bytes stand for "no limit" in the first version of control groups.
"""

_GROUPS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""
For each version of control groups, by what /proc/self/cgroup calls it: the directory, the files with the
limit and the use, and the name of what the kernel can take back.
"""


def clock_is_kept() -> bool | None:
    """
    Whether a program such as chrony synchronises this machine's clock; `None` if that is not known.
    """
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_STATE_BYTES))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def number_of_disks(paths: Iterable[str]) -> int:
    """
    On how many file systems some directories are, of which some may not exist yet.
    """
    found = set()
    for each in paths:
        path = each
        while not os.path.exists(path):
            path = os.path.dirname(path)
        found.add(os.stat(path).st_dev)
    return len(found)


@dataclass(frozen=True, slots=True)
class Memory:
    """
    The memory of the control group of this process: of the service or the container.

    :ivar used: bytes in use, without what the kernel can take back.
    :ivar limit: bytes that it may use.
    """

    used: int
    limit: int


def memory_of_group(root: str = "/") -> Memory | None:
    """
    The memory of the group of this process, or of one above it: the one that is nearest to its limit.

    :param root: where /proc and /sys are.
    :returns: `None` if no group has a limit.
    """
    try:
        with open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, kind, path = line.split(":", 2)
        if kind in _GROUPS:
            above, *names = _GROUPS[kind]
            base = os.path.join(root, "sys/fs/cgroup", above)
            parts = path.strip("/").split("/")
            # In a container the path may be that of the machine, of which only the end is there.
            groups = (os.path.join(base, *parts[:count]) for count in range(len(parts) + 1))
            found += [memory for group in groups if (memory := _memory(group, *names)) is not None]
    return max(found, key=lambda each: each.used / each.limit, default=None)


def _memory(group: str, limit: str, use: str, reclaimable: str) -> Memory | None:
    try:
        most, used = (int(_read(group, name)) for name in (limit, use))
        left = dict(line.split() for line in _read(group, "memory.stat").splitlines())
    except (OSError, ValueError):
        # No such group, or no limit: "max".
        return None
    return None if not 0 < most < _UNLIMITED else Memory(used - int(left.get(reclaimable, 0)), most)


def _read(group: str, name: str) -> str:
    with open(os.path.join(group, name), encoding="utf-8") as file:
        return file.read()
