"""
Watching this machine's clock: it may jump, and stamps may be ahead of it.

Pure: it says what is wrong; `dcounter.coordinator.service` logs it and shows it to operators and callers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dcounter.protocol.clock import CLOCK_TOLERANCE, HybridClock, SteadyWall

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ClockNews:
    """
    What has changed since the last look at the clocks.

    :ivar begun: what is wrong now and was not then, one text each.
    :ivar over: whether something was wrong then and nothing is now.
    """

    begun: Sequence[str]
    over: bool


class ClockWatch:
    """
    Compares the wall clock with the stamps.

    :param clock: the clock that gives the stamps.
    """

    def __init__(self, clock: HybridClock, wall: SteadyWall) -> None:
        self._clock = clock
        self._wall = wall
        self._known: Collection[str] = ()

    def warnings(self) -> dict[str, str]:
        """
        What is wrong with the wall clock, or with stamps that it does not explain: kind -> text.
        """
        found = {}
        jump = self._wall.disputed()
        if jump:
            way = "ahead" if jump > 0 else "back"
            found["jump"] = (
                f"the wall clock of this machine jumped {span(abs(jump))} {way}; a jump is believed when it "
                f"has lasted {span(self._wall.patience)}"
            )
        ahead = self._stamps_ahead()
        if ahead:
            found["stamps"] = (
                f"the newest stamp is {span(ahead)} ahead of this machine's clock: until that time items "
                "with a correct lastUpdateDt lose to those stored without one. A clock is wrong, or was when "
                "they were stored: see that all machines have the right time"
            )
        return found

    def news(self) -> ClockNews:
        """
        Look again.
        """
        found = self.warnings()
        begun = [text for kind, text in found.items() if kind not in self._known]
        over = bool(self._known) and not found
        self._known = found.keys()
        return ClockNews(begun, over)

    def warning_for_own_stamps(self) -> str | None:
        """
        What a caller that gave items their own stamps should know; `None` if all is well.
        """
        ahead = self._stamps_ahead()
        if not ahead:
            return None
        return (
            f"the newest stamp is {span(ahead)} ahead of this machine's clock: items of this request with "
            "an earlier lastUpdateDt may have lost to it"
        )

    def _stamps_ahead(self) -> int:
        """
        How far (ns) the newest stamp is ahead of the wall clock, if a right clock does not explain it.
        """
        ahead = self._clock.last - self._wall()
        # A coordinator that starts without all nodes goes on from the latest allowed stamp.
        return ahead if ahead > CLOCK_TOLERANCE + _SECOND else 0


def span(ns: int) -> str:
    """
    A time as people say it, in its largest unit that is not too coarse.
    """
    seconds = ns / _SECOND
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
