"""
Does something again and again.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()


class Schedule(Service):
    """
    Does something at regular intervals, as long as it runs.

    :param name: what the log calls it.
    :param do: does it once. It is not waited for: it sees to it itself if it takes longer than the interval.
    :param every_s: the time (s) between two; 0: never.
    """

    def __init__(
        self, name: str, do: Callable[[], Coroutine[Any, Any, None]], every_s: float, time: IReactorTime
    ) -> None:
        self._name = name
        self._do = do
        self._every_s = every_s
        self._calls = LoopingCall(self._begin)
        self._calls.clock = time

    def use_interval(self, every_s: float) -> None:
        """
        Change the time between two; it counts from now.

        :param every_s: the time (s); 0: never.
        """
        self._every_s = every_s
        if self.running:
            self._stop_calls()
            self._start_calls()

    def startService(self) -> None:
        super().startService()
        self._start_calls()

    def _start_calls(self) -> None:
        if self._every_s:
            self._calls.start(self._every_s, now=False).addErrback(
                lambda why: _log.failure("the schedule of {name} stopped", why, name=self._name)
            )

    def stopService(self) -> None:
        super().stopService()
        self._stop_calls()

    def _stop_calls(self) -> None:
        if self._calls.running:
            self._calls.stop()

    def _begin(self) -> None:
        Deferred.fromCoroutine(self._do()).addErrback(
            lambda why: _log.failure("the schedule of {name}: it failed this time", why, name=self._name)
        )
