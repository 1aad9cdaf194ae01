"""
Audits all nodes at regular intervals.
"""

from collections.abc import Awaitable, Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dcounter.errors import Refusal

_log = Logger()


class AuditSchedule(Service):
    """
    Asks for an audit again and again. Its result is logged where it is made.

    :param audit: asks for one.
    :param every_s: the time (s) between two; 0: never.
    """

    def __init__(self, audit: Callable[[], Awaitable[object]], every_s: float, time: IReactorTime) -> None:
        self._audit = audit
        self._every_s = every_s
        self._calls = LoopingCall(self._begin)
        self._calls.clock = time

    def startService(self) -> None:
        super().startService()
        if self._every_s:
            self._calls.start(self._every_s, now=False).addErrback(
                lambda why: _log.failure("the schedule of audits stopped", why)
            )

    def stopService(self) -> None:
        super().stopService()
        if self._calls.running:
            self._calls.stop()

    def _begin(self) -> None:
        # Not waited for: one that takes longer than the interval makes the next one fail, not come later.
        Deferred.fromCoroutine(self._run()).addErrback(
            lambda why: _log.failure("a scheduled audit has failed", why)
        )

    async def _run(self) -> None:
        try:
            await self._audit()
        except Refusal as error:
            _log.info("no audit at the scheduled time: {why}", why=str(error))
