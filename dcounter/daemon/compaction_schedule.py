"""
Has old deletions forgotten when they take too much of the nodes' memory.
"""

from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dcounter.coordinator.compacting import Tombstones
from dcounter.daemon.schedule import Schedule
from dcounter.errors import Refusal
from dcounter.links.throttle import Throttle
from dcounter.stamps import show_stamp

_log = Logger()

LOOK_S: Final = 10.0
"""
Time (s) between two looks at how many tombstones there are.
"""

LEAST: Final = 100_000
"""
So many tombstones take a few megabytes: fewer are not worth that nodes refuse old updates.
"""

_PARTS: Final = 8
"""
Into how many parts the least age is divided. A compaction costs a node as much as copying its ledger, so the
next one waits until the deletions of another part are old enough.
"""

_AGAIN_S: Final = 60.0
"""
Time (s) after a compaction that failed.
"""

_COMPLAIN_S: Final = 3_600.0
"""
Time (s) between two lines in the log that say why there is none.
"""


class Compactor(Protocol):
    """
    What compacts.
    """

    late_at: int | None

    def tombstones(self) -> Tombstones:
        """
        How many there are.
        """
        ...

    async def compact(self, before: int | None) -> int:
        """
        Have those up to a stamp forgotten.
        """
        ...


class CompactionSchedule(Schedule):
    """
    Looks again and again whether there are too many tombstones, and then has the old ones dropped.

    It never does so while updates come that are older than what it would compact: nodes would refuse them.

    :param share: the share of tombstones among all IDs of a node, above which it acts; 0: never.
    :param age_s: the least age (s) of what is dropped.
    :param wall: the wall clock (ns since 1970).
    """

    def __init__(
        self,
        compactor: Compactor,
        *,
        share: float,
        age_s: float,
        wall: Callable[[], int],
        time: IReactorTime,
    ) -> None:
        super().__init__("compactions", self._look, LOOK_S if share else 0, time)
        self._compactor = compactor
        self._share = share
        self._age = round(age_s * 1e9)
        self._wall = wall
        self._time = time
        self._not_before = 0.0
        self._compacts = False
        self._complaints = Throttle(1, _COMPLAIN_S, time.seconds)

    def use_share(self, share: float) -> None:
        """
        Change the share above which it acts.

        :param share: the share of tombstones among all IDs of a node; 0: never.
        """
        self._share = share
        self.use_interval(LOOK_S if share else 0)

    async def _look(self) -> None:
        found = self._compactor.tombstones()
        before = self._wall() - self._age
        if (
            self._compacts
            or self._time.seconds() < self._not_before
            or found.number < LEAST
            or found.share <= self._share
            or before < found.compacted + self._age // _PARTS
        ):
            return
        late_at = self._compactor.late_at
        if late_at is not None and before < late_at:
            self._complain("updates have come that nodes would refuse after it")
            return
        self._compacts = True
        self._not_before = self._time.seconds() + _AGAIN_S
        try:
            await self._compactor.compact(before)
        except Refusal as error:
            self._complain(str(error))
        else:
            _log.info(
                "{share:.0%} of the IDs are deleted ones: deletions up to {before} are forgotten",
                share=found.share,
                before=show_stamp(before),
            )
        finally:
            self._compacts = False

    def _complain(self, why: str) -> None:
        if self._complaints.passes():
            _log.info("old deletions are not forgotten now: {why}", why=why)
