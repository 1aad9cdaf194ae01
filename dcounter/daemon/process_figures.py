"""
What a process takes of its machine, and how late its reactor is.
"""

import os
import resource
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall

from dcounter import __version__
from dcounter.figures import Family, Histogram, Samples, histogram

_PROCESS: Final = ("process",)

RESIDENT: Final = Family(
    "process_resident_memory_bytes", "gauge", "Memory that the process has in RAM.", _PROCESS
)
VIRTUAL: Final = Family(
    "process_virtual_memory_bytes", "gauge", "Memory that the process has reserved.", _PROCESS
)
CPU: Final = Family("process_cpu_seconds_total", "counter", "CPU time that the process has used.", _PROCESS)
DESCRIPTORS: Final = Family(
    "process_open_fds", "gauge", "File descriptors that the process has open.", _PROCESS
)
MOST_DESCRIPTORS: Final = Family(
    "process_max_fds", "gauge", "File descriptors that the process may have open.", _PROCESS
)
STARTED: Final = Family(
    "process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.", _PROCESS
)
DELAY: Final = Family(
    "dcounter_reactor_delay_seconds",
    "histogram",
    "How late the reactor of the process calls a timer: for that long, nothing else in it goes on either.",
    _PROCESS,
)
DISK_FREE: Final = Family(
    "dcounter_disk_free_bytes", "gauge", "Room on the disk with the data of the process.", _PROCESS
)
DISK_SIZE: Final = Family(
    "dcounter_disk_size_bytes", "gauge", "Size of the disk with the data of the process.", _PROCESS
)
BUILD: Final = Family("dcounter_build_info", "gauge", "1; the labels tell the release.", ("version",))
FAMILIES: Final = (
    RESIDENT,
    VIRTUAL,
    CPU,
    DESCRIPTORS,
    MOST_DESCRIPTORS,
    STARTED,
    DELAY,
    DISK_FREE,
    DISK_SIZE,
    BUILD,
)

_EVERY_S: Final = 0.1
"""
Time between two looks at how late the reactor is.
"""

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_START_FIELD: Final = 19
"""
Where in `/proc/self/stat`, behind the name of the program, the time of its start is.
"""


class ReactorDelay:
    """
    Measures how late the timers of a reactor are.

    :param seconds: a clock that never goes back.
    :ivar delays: how late they were (s).
    """

    def __init__(self, reactor: Any, seconds: Any = time.monotonic) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._due = 0.0
        self._call: IDelayedCall | None = None
        self.delays: Histogram = histogram()

    def start(self) -> None:
        self._due = self._seconds() + _EVERY_S
        self._call = self._reactor.callLater(_EVERY_S, self._look)

    def stop(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        self.delays.add(max(0.0, self._seconds() - self._due))
        self.start()


class ProcessFigures(Service):
    """
    The figures of this process.

    :param process: its name, for the label.
    :param directory: where its data is; `None` if it has none.
    """

    def __init__(self, reactor: Any, process: str, directory: str | None) -> None:
        self._key = (process,)
        # twistd changes the working directory afterwards.
        self._directory = None if directory is None else os.path.abspath(directory)
        self._delay = ReactorDelay(reactor)
        # Computed again, it would be a little later or earlier: a restart, to who reads it.
        self._started = [*_start()]

    def startService(self) -> None:
        super().startService()
        self._delay.start()

    def stopService(self) -> None:
        super().stopService()
        self._delay.stop()

    def samples(self) -> Sequence[Samples]:
        """
        All figures, with their names. What the system does not tell is left out.
        """
        values = [*_of_system(), *self._started, *_of_disk(self._directory)]
        one_by_one = [Samples(family, [(self._key, value)]) for family, value in values]
        return [*one_by_one, Samples(DELAY, [(self._key, self._delay.delays)])]


def build() -> Samples:
    """
    Which release this is.
    """
    return Samples(BUILD, [((__version__,), 1)])


def _of_system() -> Iterable[tuple[Family, float]]:
    yield CPU, time.process_time()
    yield MOST_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            virtual, resident = file.read().split()[:2]
        # One of them is the descriptor of the directory that is read.
        descriptors = len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return
    yield VIRTUAL, int(virtual) * _PAGE
    yield RESIDENT, int(resident) * _PAGE
    yield DESCRIPTORS, descriptors


def _start() -> Iterable[tuple[Family, float]]:
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[_START_FIELD])
    except OSError:
        return
    yield STARTED, time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS)


def _of_disk(directory: str | None) -> Iterable[tuple[Family, float]]:
    if directory is None:
        return
    try:
        found = os.statvfs(directory)
    except OSError:
        return
    yield DISK_FREE, found.f_bavail * found.f_frsize
    yield DISK_SIZE, found.f_blocks * found.f_frsize
