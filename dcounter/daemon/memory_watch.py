"""
Warns when the memory that this process and its nodes may use is nearly used up.
"""

from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dcounter.daemon.schedule import Schedule
from dcounter.daemon.surroundings import Memory
from dcounter.limits import MEBIBYTE

_log = Logger()

_LOOK_S: Final = 10.0
"""
Time (s) between two looks.
"""

_MUCH: Final = 0.9
_ENOUGH: Final = 0.85
"""
Shares of the limit: from the first one on there is a warning, below the second one it ends.
"""


class MemoryWatch(Schedule):
    """
    Looks again and again at the memory of the control group.

    :param memory: what it is now; `None` if there is no limit.
    """

    def __init__(self, memory: Callable[[], Memory | None], time: IReactorTime) -> None:
        super().__init__("looks at the memory", self._look, _LOOK_S, time)
        self._memory = memory
        self._found: Memory | None = None

    def warnings(self) -> Sequence[str]:
        """
        What an operator should know for as long as it is so.
        """
        if self._found is None:
            return []
        used, limit = (round(each / MEBIBYTE) for each in (self._found.used, self._found.limit))
        why = "at the limit the kernel kills processes. Give it more"
        return [f"{used} MiB of {limit} MiB of memory of this service or container are in use: {why}"]

    def look(self) -> Sequence[str]:
        """
        Look now, such as at the start; returns the warnings.
        """
        found = self._memory()
        least = _MUCH if self._found is None else _ENOUGH
        self._found = found if found is not None and found.used >= least * found.limit else None
        return self.warnings()

    async def _look(self) -> None:
        known = self._found is not None
        for warning in self.look():
            if not known:
                _log.warn("{warning}", warning=warning)
