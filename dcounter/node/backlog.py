"""
The part of every node's log that a follower may still need, in memory and bounded.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Run:
    """
    The lines of one run, from number `first` on.

    :ivar gone: lines at the beginning that were dropped and still take their place: to take one away from a
        long list costs as much as the list is long.
    """

    first: int
    lines: list[bytes] = field(default_factory=list)
    gone: int = 0
    bytes: int = 0

    @property
    def next(self) -> int:
        return self.first + len(self.lines) - self.gone

    def after(self, number: int) -> int:
        """
        Where in `lines` the one after `number` is.
        """
        return self.gone + number + 1 - self.first

    def cut(self, through: int) -> int:
        """
        Drop all numbers up to `through`; how many bytes that freed.
        """
        begin, end = self.gone, min(self.after(through), len(self.lines))
        if end <= begin:
            return 0
        freed = sum(map(len, self.lines[begin:end]))
        self.lines[begin:end] = [b""] * (end - begin)
        self.gone = end
        self.first += end - begin
        self.bytes -= freed
        if 2 * self.gone > len(self.lines):
            del self.lines[: self.gone]
            self.gone = 0
        return freed


class Backlog:
    """
    Lines of batches by node, run and number, without holes.

    :param limit: bytes kept; above it the oldest lines of the longest run are cut.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._runs: dict[tuple[int, int], _Run] = {}
        self.bytes = 0

    def append(self, node: int, run: int, number: int, line: bytes) -> None:
        """
        Keep a line; one that does not follow the last of its run starts the run anew.
        """
        kept = self._runs.get((node, run))
        if kept is None or kept.next != number:
            if kept is not None:
                self.bytes -= kept.bytes
            kept = self._runs[node, run] = _Run(number)
        kept.lines.append(line)
        kept.bytes += len(line)
        self.bytes += len(line)
        while self.bytes > self._limit:
            longest = max(self._runs.values(), key=lambda each: each.bytes)
            self.bytes -= longest.cut(longest.first)

    def read(self, node: int, run: int, after: int, size: int) -> list[bytes]:
        """
        The lines that follow `after`, up to the one that makes it `size` bytes or more.

        There are none if the first of them is not here.
        """
        kept = self._runs.get((node, run))
        if kept is None or after + 1 < kept.first:
            return []
        start = end = kept.after(after)
        while end < len(kept.lines) and (end == start or size > 0):
            size -= len(kept.lines[end])
            end += 1
        return kept.lines[start:end]

    def cut(self, node: int, run: int, through: int) -> None:
        """
        Drop a run's lines up to a number: every member has them.
        """
        kept = self._runs.get((node, run))
        if kept is not None:
            self.bytes -= kept.cut(through)

    def fold(self, node: int, run: int) -> None:
        """
        Drop all runs of a node below `run`.
        """
        for key in [key for key in self._runs if key[0] == node and key[1] < run]:
            self.bytes -= self._runs.pop(key).bytes
