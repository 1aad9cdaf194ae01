"""
Asks again until a daemon has answered.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dcounter.client_answers import Refused, Unexpected, Unreachable
from dcounter.client_export import ExportCutShort
from dcounter.errors import DcounterError

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
"""
Times (s) before something is asked again: the first one, and the longest one unless the daemon asks for more.
"""

_OF_PROXIES: Final = frozenset({502, 503, 504})

_Problem = Refused | Unreachable | Unexpected | ExportCutShort
_T = TypeVar("_T")


class GaveUp(DcounterError):
    """
    Nothing has succeeded for too long.

    :ivar error: the last one.
    :ivar patience_s: the time (s).
    """

    def __init__(self, error: _Problem, patience_s: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.patience_s = patience_s


class Persistence:
    """
    Repeats what fails and may succeed later. Only what does no harm when it is done twice is fit for it.

    :param clock: for the time between two attempts.
    :param jitter: random numbers from 0 to 1.
    :param patience_s: how long (s) attempts may fail, without any success between them, before it gives
        up. An attempt that takes long has not failed.
    :param again: is told why something must be repeated.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        jitter: Callable[[], float],
        patience_s: float,
        again: Callable[[str], object],
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._patience_s = patience_s
        self._again = again
        self._success_at = clock.seconds()

    def progressed(self) -> None:
        """
        Something has succeeded.
        """
        self._success_at = self._clock.seconds()

    async def until_answered(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """
        Ask until it succeeds.

        :raises GaveUp: nothing has succeeded for too long.
        :raises Refused: the daemon would refuse it again; so it is with `Unexpected`.
        """
        delay = FIRST_DELAY_S
        failed_at: float | None = None
        while True:
            try:
                result = await ask()
            except (Refused, Unreachable, Unexpected, ExportCutShort) as error:
                if not _passes(error):
                    raise
                now = self._clock.seconds()
                failed_at = now if failed_at is None else failed_at
                if now - max(failed_at, self._success_at) > self._patience_s:
                    raise GaveUp(error, self._patience_s) from error
                asked = getattr(error, "retry_after", None) or 0.0
                self._again(str(error))
                await deferLater(self._clock, max(asked, delay * (0.5 + self._jitter() / 2)))
                delay = min(2 * delay, LONGEST_DELAY_S)
            else:
                self.progressed()
                return result


def _passes(error: _Problem) -> bool:
    """
    Whether the same request may succeed later.
    """
    match error:
        case Refused():
            return error.retryable
        case Unreachable() | ExportCutShort():
            return True
        case Unexpected():
            return error.status in _OF_PROXIES
