"""
Time that a test moves, and the part of it that each process sees.
"""

from bisect import insort
from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

_NEVER = 1e9
"""
A time (s) that no test reaches.
"""


class Time(Clock):
    """
    A clock that keeps its calls in order as they come, for tests that schedule very many.
    """

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> DelayedCall:
        call = DelayedCall(
            self.seconds() + delay, callable, args, kw, self.calls.remove, lambda _: None, self.seconds
        )
        insort(self.calls, call, key=DelayedCall.getTime)
        return call

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        # Those that were put off have moved.
        self.calls.sort(key=DelayedCall.getTime)
        while self.calls and self.calls[0].getTime() <= self.rightNow:
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)


@implementer(IReactorTime)
class ProcessClock:
    """
    The clock as one process sees it; what it has scheduled dies with it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: list[IDelayedCall] = []
        self._dead = False
        self._stopped: list[tuple[IDelayedCall, float]] = []

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> IDelayedCall:
        call = self._clock.callLater(delay, callable, *args, **kw)
        if self._dead:
            call.cancel()
        self._calls = [each for each in self._calls if each.active()]
        self._calls.append(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return [each for each in self._calls if each.active()]

    def kill(self) -> None:
        """
        The process is dead.
        """
        self._dead = True
        for call in self.getDelayedCalls():
            call.cancel()

    def freeze(self) -> None:
        """
        The process does nothing until it thaws.
        """
        self._stopped = [(call, call.getTime()) for call in self.getDelayedCalls()]
        for call, _ in self._stopped:
            call.reset(_NEVER)

    def thaw(self) -> None:
        """
        The process goes on: what was due meanwhile happens at once.
        """
        stopped, self._stopped = self._stopped, []
        for call, when in stopped:
            if call.active():
                call.reset(max(0.0, when - self.seconds()))
