"""
What the tests of faults show.
"""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median


@dataclass(slots=True)
class Figures:
    """
    What a loop of faults showed.

    :ivar to_exact: for each fault of one node the longest time (s) without an exact count.
    """

    name: str
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    unknown: int = 0
    to_exact: list[float] = field(default_factory=list)

    def shown(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in self.faults.items())
        times = "-"
        if self.to_exact:
            times = f"{median(self.to_exact):.2f} s, {max(self.to_exact):.2f} s"
        counts = f"{self.rounds:>6} {self.acknowledged:>9} {self.unknown:>7}"
        return f"{self.name:<24} {counts}  {times:<16} {faults}"

    @staticmethod
    def heading() -> str:
        return f"{'test':<24} rounds    stored unknown  to exact: median, worst; faults"
