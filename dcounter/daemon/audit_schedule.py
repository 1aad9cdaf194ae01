"""
Audits all nodes at regular intervals.
"""

from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dcounter.daemon.schedule import Schedule
from dcounter.errors import Refusal

_log = Logger()


class AuditSchedule(Schedule):
    """
    Asks for an audit again and again. Its result is logged where it is made.

    :param audit: asks for one.
    :param every_s: the time (s) between two; 0: never.
    """

    def __init__(self, audit: Callable[[], Awaitable[object]], every_s: float, time: IReactorTime) -> None:
        # One that takes longer than the interval makes the next one fail, not come later.
        super().__init__("audits", self._ask, every_s, time)
        self._audit = audit

    async def _ask(self) -> None:
        try:
            await self._audit()
        except Refusal as error:
            _log.info("no audit at the scheduled time: {why}", why=str(error))
