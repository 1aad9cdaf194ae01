"""
A process under `twistd`: its log, its signals, and its exit status.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.components import Componentized

from dcounter.daemon.log_lines import Record, colour_of, layout_for
from dcounter.daemon.logs import LinesObserver, LogFile, LogWriter, Output, Sink
from dcounter.daemon.notifying import Notifier
from dcounter.errors import ConfigurationError

_log = Logger()

_LOG_FILE = "twistd.log"
"""
The file to which twistd logs in the background by default.
"""

_ACCESS = "dcounter.http.access"
"""
The module of which these entries are.
"""

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_REOPENING = (signal.SIGHUP, signal.SIGUSR1)


class Process(MultiService):
    """
    The services of one process. They stop one after the other, the last one first.

    :param twistd: twistd's own options; empty if another program runs this.
    :param level: the lowest level that is logged.
    :param log_format: how lines are written: `text` or `json`.
    :param notifier: tells systemd; `None`: nobody is told.
    :param drain_s: the time (s) between the order to stop and the stop.
    :param child: this is a child process, whose parent already logs that everything stops.
    :param at_exit: registers a function that is called when the interpreter exits.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        twistd: Mapping[str, Any],
        level: str = "info",
        log_format: str = "text",
        notifier: Notifier | None = None,
        drain_s: float = 0.0,
        child: bool = False,
        at_exit: Callable[[Callable[[], None]], object] = atexit.register,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._twistd = twistd
        self._at_exit = at_exit
        self._level = LogLevel.levelWithName(level)
        self._log_format = log_format
        self._observer: LinesObserver | None = None
        self._colour: bool | None = None
        self._stop_level = LogLevel.debug if child else LogLevel.info
        self._writer: LogWriter | None = None
        self._notifier = notifier or Notifier({}, 0)
        self._drain_s = drain_s
        self._draining: IDelayedCall | None = None
        self._drains: list[Callable[[], None]] = []
        self._stopping = False
        self._status = 0
        self._reloads: list[Callable[[], None]] = []

    @property
    def in_background(self) -> bool:
        """
        Whether twistd has left the terminal, so that output and exit status are not seen.
        """
        return not self._twistd.get("nodaemon", True)

    def end(self, status: int) -> None:
        """
        Stop everything, and exit with that status.
        """
        self._status = self._status or status
        self._reactor.callWhenRunning(self._stop_reactor)

    def show(self, text: Callable[[bool], str]) -> bool:
        """
        Write a text among the log, if that is on a terminal, and say whether it is.

        :param text: makes it, given whether it may have colours.
        """
        if self._writer is None or self._colour is None:
            return False
        self._writer.write(text(self._colour).encode("utf-8", "backslashreplace"))
        return True

    def write_entry(self, template: str, text: str, values: Mapping[str, object]) -> None:
        """
        Log an entry of the access log, of which there may be many: past the loggers of Twisted.
        """
        if self._level > LogLevel.info:
            return
        if self._writer is None:
            _log.info("{text}", text=text)
        else:
            self._writer.log(Record(time.time(), "info", _ACCESS, text, template, values))

    def use_level(self, level: str) -> None:
        """
        Change the lowest level that is logged.
        """
        self._level = LogLevel.levelWithName(level)
        if self._observer is not None:
            self._observer.level = self._level
        _log.debug("entries of level {lowest} and above are logged from now on", lowest=level)

    def on_hangup(self, reload: Callable[[], None]) -> None:
        """
        Set what else to do at SIGHUP: read a file again.
        """
        self._reloads.append(reload)

    def use_drain(self, drain_s: float) -> None:
        """
        Change the time (s) between the order to stop and the stop.
        """
        self._drain_s = drain_s

    def on_drain(self, begin: Callable[[], None]) -> None:
        """
        Set what to do at the order to stop, some time before it is carried out.
        """
        self._drains.append(begin)

    # Service

    def setServiceParent(self, parent: Any) -> None:
        """
        Join the application of twistd, and take over its log.

        :raises SystemExit: the log cannot be written; the message says why.
        """
        super().setServiceParent(parent)
        if isinstance(parent, Componentized) and "nodaemon" in self._twistd:
            # twistd starts its logger next, and takes the observer that it finds here.
            if not (self._twistd["syslog"] or self._twistd["logger"]):
                sink = self._sink()
                descriptor = sink.descriptor if isinstance(sink, Output) else None
                layout = layout_for(self._log_format, descriptor, os.environ)
                if self._log_format == "text" and descriptor is not None:
                    self._colour = colour_of(descriptor, os.environ)
                self._writer = LogWriter(sink, wall=time.time, layout=layout)
                self._observer = LinesObserver(self._writer, self._level)
                parent.setComponent(ILogObserver, self._observer)
            # twistd always exits with 0, and before the log is written completely.
            self._at_exit(self._finish)

    def privilegedStartService(self) -> None:
        if self._writer is not None:
            self._writer.start()
        super().privilegedStartService()

    def startService(self) -> None:
        super().startService()
        # The reactor installs its own handlers when it starts.
        self._reactor.callWhenRunning(self._listen_to_signals)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService)
            await self.stopped(service)
        self._notifier.close()
        _log.emit(self._stop_level, "stopped")

    async def stopped(self, service: IService) -> None:
        """
        Called when one of the services has stopped.
        """

    # The log

    def _sink(self) -> Sink:
        name = self._twistd["logfile"]
        if name == "-" and self.in_background:
            raise SystemExit("dcounter does not start: in the background there is no output for --logfile=-")
        if name == "-" or not (name or self.in_background):
            return Output(1)
        try:
            return LogFile(name or _LOG_FILE)
        except ConfigurationError as error:
            raise SystemExit(f"dcounter does not start: {error}") from error

    def _reopen(self, name: str) -> None:
        if self._writer is None:
            _log.info("received {name}: nothing to do", name=name)
        else:
            self._writer.reopen(lambda told: _log.info("received {name}: {told}", name=name, told=told))

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.finish()
        if self._status:
            for stream in (sys.__stdout__, sys.__stderr__):
                if stream is not None:
                    stream.flush()
            os._exit(self._status)

    # Signals

    def _listen_to_signals(self) -> None:
        for number in (*_STOPPING, *_REOPENING, signal.SIGUSR2):
            if number != signal.SIGUSR2 or not self._twistd.get("debug"):
                signal.signal(number, self._received)

    def _received(self, number: int, frame: object) -> None:
        # The signal may have interrupted anything, even a log call: act in the next turn.
        self._reactor.callFromThread(self._obey, signal.Signals(number))

    def _obey(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self._notifier.reloading()
            self._reopen(number.name)
            for reload in self._reloads:
                reload()
            self._notifier.ready()
        elif number in _REOPENING:
            self._reopen(number.name)
        elif number not in _STOPPING:
            _log.info("received {name}: nothing to do", name=number.name)
        elif self._drain_s and self._draining is None and not self._stopping:
            self._drain(number.name)
        elif not self._stopping:
            _log.emit(self._stop_level, "received {name}: stopping", name=number.name)
            self._stop_reactor()

    def _drain(self, name: str) -> None:
        """
        Have callers go elsewhere, and stop when they had the time to notice. Another signal stops at once.
        """
        _log.info(
            "received {name}: stopping in {drain:g} s; until then requests are answered, and GET /healthz and"
            " /readyz are 503",
            name=name,
            drain=self._drain_s,
        )
        self._notifier.stopping(f"stops in {self._drain_s:g} s", self._drain_s)
        for begin in self._drains:
            begin()
        self._draining = self._reactor.callLater(self._drain_s, self._stop_reactor)

    def _stop_reactor(self) -> None:
        """
        Stop the reactor, and end without an error.

        Twisted's own handler would let the process die of the signal.
        """
        if not self._stopping:
            self._stopping = True
            if self._draining is not None and self._draining.active():
                self._draining.cancel()
            self._notifier.stopping("stops")
            self._reactor.stop()


class Daemon(Process):
    """
    The services of the daemon. Callers that wait are answered while it stops.
    """

    def __init__(self, reactor: Any, **more: Any) -> None:
        super().__init__(reactor, **more)
        self._after: dict[IService, Callable[[], Awaitable[None]]] = {}

    def after(self, service: IService, action: Callable[[], Awaitable[None]]) -> None:
        """
        Set what to do when that service has stopped.
        """
        self._after[service] = action

    async def stopped(self, service: IService) -> None:
        if service in self._after:
            await self._after[service]()
