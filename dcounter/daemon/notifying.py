"""
Tells systemd how this process is, as sd_notify(3) describes it: ready, reloading, stopping, alive.
"""

import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()

_MICROSECONDS: Final = 1_000_000

_LOOK_S: Final = 1.0
"""
Time (s) between two looks at the state, unless the watchdog wants to hear more often.
"""

_PATIENCE_S: Final = 60.0
"""
Time (s) after which a daemon that listens counts as started, although it is not ready: it answers what it
can, and to start it again would not help. Until then systemd waits for it.
"""

_EXTENSION_S: Final = 30.0
"""
Time (s) that systemd is asked to wait for the next sign of a process that starts or stops.
"""

VARIABLES: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
"""
The environment variables by which systemd says where and how often it wants to be told.
"""


class Notifier:
    """
    Sends datagrams to systemd; does nothing if this process is no service of it.

    :param environ: the environment of the process.
    :param pid: of this process.
    :ivar watchdog_s: the time (s) within which systemd must hear of this process; `None`: whenever.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte with which abstract addresses begin.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self.watchdog_s: float | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            usec = environ.get("WATCHDOG_USEC", "")
            if usec.isdecimal() and environ.get("WATCHDOG_PID", str(pid)) == str(pid):
                self.watchdog_s = int(usec) / _MICROSECONDS

    def tell(self, *assignments: str) -> None:
        """
        Send assignments such as `READY=1`. A datagram that cannot be sent is lost.
        """
        if self._socket is not None:
            try:
                self._socket.sendto("\n".join(assignments).encode(), self._address)
            except OSError as error:
                _log.debug("systemd was not told: {error}", error=error)

    def reloading(self) -> None:
        """
        The process begins to read its files again; it is `ready` afterwards.
        """
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def ready(self) -> None:
        """
        The process has started, or has read its files again.
        """
        self.tell("READY=1")

    def stopping(self, why: str, within_s: float = 0.0) -> None:
        """
        The process begins to stop.

        :param within_s: the time (s) before it does more than that.
        """
        wait = round((within_s + _EXTENSION_S) * _MICROSECONDS)
        self.tell("STOPPING=1", f"STATUS={why}", f"EXTEND_TIMEOUT_USEC={wait}")

    def close(self) -> None:
        """
        Tell nothing more.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Heartbeat(Service):
    """
    Tells systemd again and again that the reactor turns, and what the state is; once, that the start is over.

    :param state: whether the process is ready, and its state in words.
    :param listens: whether callers can connect, or there are none.
    """

    def __init__(
        self,
        notifier: Notifier,
        state: Callable[[], tuple[bool, str]],
        time: IReactorTime,
        *,
        listens: bool = False,
    ) -> None:
        self._notifier = notifier
        self._state = state
        self._time = time
        self._told = ""
        self._started = False
        self._until = 0.0
        self._listens = listens
        self._calls = LoopingCall(self._beat)
        self._calls.clock = time

    def listens_now(self, listening: object) -> None:
        """
        Take note that callers can connect.
        """
        self._listens = True

    def startService(self) -> None:
        super().startService()
        self._until = self._time.seconds() + _PATIENCE_S
        watchdog = self._notifier.watchdog_s
        every = _LOOK_S if watchdog is None else min(_LOOK_S, watchdog / 3)
        self._calls.start(every).addErrback(lambda why: _log.failure("systemd hears nothing more", why))

    def stopService(self) -> None:
        super().stopService()
        if self._calls.running:
            self._calls.stop()

    def _beat(self) -> None:
        ready, words = self._state()
        tell = [] if self._notifier.watchdog_s is None else ["WATCHDOG=1"]
        if words != self._told:
            self._told = words
            tell.append(f"STATUS={words}")
        if not self._started:
            self._started = self._listens and (ready or self._time.seconds() >= self._until)
            extension = f"EXTEND_TIMEOUT_USEC={round(_EXTENSION_S * _MICROSECONDS)}"
            tell.append("READY=1" if self._started else extension)
        if tell:
            self._notifier.tell(*tell)
