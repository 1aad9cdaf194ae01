"""
The refusals that come from compactions.
"""

from collections.abc import Mapping

from dcounter.errors import NOTHING_STORED, Refusal
from dcounter.stamps import show_stamp


class CompactionStopped(Refusal):
    """
    A compaction stopped before its end. No answer is wrong because of it, and it can be repeated.

    :param stamp: the stamp (ns since 1970) at or below which new items may be refused from now on.
    """

    code = "compaction_stopped"
    status = 503
    title = "Compaction stopped"
    outcome = "unknown"
    retryable = True

    def __init__(self, why: str, *, stamp: int) -> None:
        super().__init__(
            f"{why}; new items with a lastUpdateDt up to {show_stamp(stamp)} may be refused from now on;"
            " repeat the request when all nodes are up"
        )
        self.stamp = stamp
        self.retry_after = 1

    def details(self) -> Mapping[str, object]:
        return {"before": show_stamp(self.stamp)}


class StampTooOld(Refusal):
    """
    Items have stamps at or below one up to which deletions are compacted. Nothing of the request was stored.

    :param floor: that stamp (ns since 1970).
    """

    code = "stamp_too_old"
    status = 409
    title = "Stamp too old"
    outcome = "not_applied"

    def __init__(self, floor: int) -> None:
        super().__init__(
            f"lastUpdateDt must be later than {show_stamp(floor)}: deletions up to that time are compacted,"
            f" so an older update could bring back what was deleted{NOTHING_STORED}"
        )
        self.floor = floor

    def details(self) -> Mapping[str, object]:
        return {"floor": show_stamp(self.floor)}
