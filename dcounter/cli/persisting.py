"""
Asks again until a daemon has answered.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dcounter.cli.sending import FIRST_DELAY_S, LONGEST_DELAY_S, passes
from dcounter.client import ExportCutShort, Refused, Unexpected, Unreachable

_T = TypeVar("_T")


class Persistence:
    """
    Repeats what fails and may succeed later; only what can be repeated without harm is fit for it.

    :param clock: for the time between two attempts.
    :param patience_s: time (s) without any success after which to give up.
    :param again: is told why something must be repeated.
    """

    def __init__(self, clock: IReactorTime, patience_s: float, again: Callable[[str], object]) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._again = again
        self._success_at = clock.seconds()

    def succeeded(self) -> None:
        """
        Something has succeeded.
        """
        self._success_at = self._clock.seconds()

    async def until_answered(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """
        Ask until it succeeds.

        :raises Refused: the daemon refuses, and would do so again, or nothing has succeeded for too long. So
            it is with `Unreachable`, `Unexpected` and `ExportCutShort`.
        """
        delay = FIRST_DELAY_S
        while True:
            try:
                result = await ask()
            except (Refused, Unreachable, Unexpected, ExportCutShort) as error:
                asked = getattr(error, "retry_after", None) or 0.0
                pause = max(asked, delay)
                late = self._clock.seconds() + pause - self._success_at > self._patience_s
                if late or not (isinstance(error, ExportCutShort) or passes(error)):
                    raise
                self._again(str(error))
                await deferLater(self._clock, pause)
                delay = min(2 * delay, LONGEST_DELAY_S)
            else:
                self.succeeded()
                return result
