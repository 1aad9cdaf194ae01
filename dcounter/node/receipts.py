"""
Batches whose coordinators want receipts.

Such a batch waits until this node has what was required, and is then stored like any other. When it is
applied, the receipt says what it changed.

What holds, after each call:

- a batch waits at most as long as its coordinator allows, and no longer than its channel lives;
- a receipt is called complete only if the ledger held exactly what `applied` covers when the batch was
  merged, and that covered what was required.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dcounter.limits import Limits
from dcounter.node.answers import Answers
from dcounter.node.contents import Contents
from dcounter.node.durability import Durability, Own
from dcounter.node.status import Status
from dcounter.protocol import messages
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted

_ESCAPED = 6
"""
The most bytes that a character takes in JSON.
"""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """
    A batch that waits.

    :ivar until: when (s) it waits no longer.
    """

    channel: int
    message: messages.Store
    wanted: ReceiptWanted
    until: float


class Receipts:
    """
    The receipts of one node.
    """

    def __init__(
        self, contents: Contents, durability: Durability, answers: Answers, status: Status, limits: Limits
    ) -> None:
        self._contents = contents
        self._durability = durability
        self._answers = answers
        self._status = status
        self._limits = limits
        self._waiting: list[_Waiting] = []

    @property
    def waiting(self) -> bool:
        """
        Whether any batch waits.
        """
        return bool(self._waiting)

    def hold_back(self, channel: int, message: messages.Store, now: float) -> bool:
        """
        Let a batch wait, if its receipt requires what is not here yet.

        :returns: whether it waits.
        """
        wanted = message.receipt
        if wanted is None or wanted.wait == 0 or self._answers.include(wanted.required):
            return False
        # What is refused is refused at once, so that it goes elsewhere.
        if len(self._waiting) >= self._limits.waits or self._status.refuses() is not None:
            return False
        self._waiting.append(_Waiting(channel, message, wanted, now + wanted.wait / 1000))
        return True

    def take_ready(self) -> list[tuple[int, messages.Store]]:
        """
        Something was applied: the batches that wait no longer, oldest first, and where each came from.
        """
        return self._take(lambda each: self._answers.include(each.wanted.required))

    def take_expired(self, now: float) -> list[tuple[int, messages.Store]]:
        """
        Time has passed: the batches that wait no longer, oldest first, and where each came from.
        """
        return self._take(lambda each: each.until <= now)

    def disconnected(self, channel: int) -> None:
        """
        A connection is gone, and its batches with it: the coordinator sends them elsewhere.
        """
        self._waiting = [each for each in self._waiting if each.channel != channel]

    def apply(self, own: Own, wanted: ReceiptWanted) -> ReceiptGiven:
        """
        Apply a batch, and tell what it changed.
        """
        complete = self._answers.include(wanted.required)
        receipt = self._contents.apply_with_receipt(own.record, own.batch, own.line)
        counts: dict[str, int] | None = receipt.counts
        if sum(map(len, receipt.counts)) * _ESCAPED > self._limits.line_bytes // 2:
            counts = None
        position = self._durability.announced(self._contents.applied)
        changes = "".join([change[0] for change in receipt.changes])
        return ReceiptGiven(changes, complete, position, counts)

    def _take(self, over: Callable[[_Waiting], bool]) -> list[tuple[int, messages.Store]]:
        taken = [each for each in self._waiting if over(each)]
        self._waiting = [each for each in self._waiting if each not in taken]
        return [(each.channel, each.message) for each in taken]
