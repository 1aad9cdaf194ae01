"""
The wall clocks of all processes, which a test sets wrong.
"""

from collections.abc import Callable
from functools import partial

from dcounter.protocol.clock import CLOCK_PATIENCE, SteadyWall
from dcounter.testing.clock import Time


class WallClocks:
    """
    The wall clock of each process; call it to read one.

    :param time: the time that passes for all of them.
    :param believe: makes of a wall clock what a coordinator believes of it.
    :ivar epoch: what they show (ns since 1970) when the test begins.
    :ivar skew: by how much (ns) all of them are off.
    :ivar skews: process -> by how much (ns) its clock is off besides.
    :ivar drifts: process -> how much faster its clock goes (1e-6: a millionth).
    :ivar believed: coordinator -> its wall clock as it believes it.
    :ivar patience: how long (ns) a jump must last until a coordinator believes it.
    """

    def __init__(self, time: Time, believe: Callable[..., SteadyWall]) -> None:
        self._time = time
        self._believe = believe
        self.epoch = 1_800_000_000_000_000_000
        self.skew = 0
        self.skews: dict[str, int] = {}
        self.drifts: dict[str, float] = {}
        self.believed: dict[str, SteadyWall] = {}
        self.patience = CLOCK_PATIENCE

    def __call__(self, process: str = "") -> int:
        """
        The wall clock (ns since 1970) of a process.
        """
        passed = self._time.seconds() * (1 + self.drifts.get(process, 0.0))
        return self.epoch + int(passed * 1e9) + self.skew + self.skews.get(process, 0)

    def of_coordinator(self, process: str) -> SteadyWall:
        """
        The wall clock of a coordinator that starts now, as it believes it.
        """
        self.believed[process] = self._believe(
            partial(self, process), lambda: int(self._time.seconds() * 1e9), self.patience
        )
        return self.believed[process]
