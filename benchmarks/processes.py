"""
What Linux knows of processes: their children, memory and processor time; and free ports.
"""

import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """
    A process and all below it.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def processor_seconds(pids: Iterable[int]) -> float:
    """
    Time that processes have spent on the processors so far.
    """
    stats = [_stat(pid) for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats if stat) / _TICK


def memory(pid: int) -> int:
    """
    Bytes that a process holds, its share of what it shares with others included.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no Pss of process {pid}")


def settle(pids: list[int], *, most: float = 15.0) -> None:
    """
    Wait until processes do next to nothing, so that what they still do is not another's loss.
    """
    until = time.monotonic() + most
    while time.monotonic() < until:
        before = processor_seconds(pids)
        time.sleep(0.3)
        if processor_seconds(pids) - before <= 0.06:
            return


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _stat(pid: int) -> list[str] | None:
    """
    The fields of /proc/PID/stat from the third on: the second, the name, may hold anything.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
