"""
What a journal counts and measures about itself.
"""

from dcounter.figures import NUMBERS, Histogram, histogram


class JournalFigures:
    """
    The figures of one journal.

    :ivar commits: time (s) from the moment a commit begins until the node learns that its lines are durable.
    :ivar syncs: time (s) of the sync in it, for which the disk alone is to blame.
    :ivar lines: how many lines share a sync.
    :ivar snapshots: how many were taken.
    :ivar failures: how often the disk failed.
    """

    def __init__(self) -> None:
        self.commits: Histogram = histogram()
        self.syncs: Histogram = histogram()
        self.lines: Histogram = histogram(NUMBERS)
        self.snapshots = 0
        self.failures = 0

    def committed(self, lines: int, commit_s: float, sync_s: float) -> None:
        """
        Count lines that became durable together.
        """
        self.lines.add(lines)
        self.commits.add(max(0.0, commit_s))
        self.syncs.add(max(0.0, sync_s))
