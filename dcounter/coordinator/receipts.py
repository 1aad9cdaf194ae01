"""
Receipts for callers that want to know what their request changed.

Such a request goes whole to one node, which decides about it in one piece. Before it does, the node waits a
short time for what the receipt requires to be exact: every write that was answered before.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from dcounter.coordinator.stamping import StampedItems
from dcounter.coordinator.view import View
from dcounter.errors import NotSupportedHere, TooManyItems
from dcounter.limits import Limits
from dcounter.protocol.abilities import GIVES_RECEIPTS
from dcounter.protocol.position import NodeId, Position
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted
from dcounter.store import Change, Changes

_CHANGES: Final[Mapping[str, Change]] = {
    "c": "created",
    "m": "moved",
    "u": "unchanged",
    "s": "stale",
    "d": "deleted",
}


class Wanted(Struct, frozen=True):
    """
    A receipt that a node was asked for.

    :ivar unaccounted: whether members were unheard of then: what holds when the receipt comes says nothing
        about what was required of it.
    """

    message: ReceiptWanted
    unaccounted: bool


class Receipts:
    """
    What a coordinator's callers are told of the changes that they make.

    :param view: the coordinator's picture of the nodes.
    :param features: gives what a node can do that is up.
    """

    def __init__(self, view: View, limits: Limits, *, features: Callable[[NodeId], AbstractSet[str]]) -> None:
        self._features = features
        self._view = view
        self._limits = limits

    def givers(self, writers: Collection[NodeId]) -> Sequence[NodeId]:
        """
        Those of these nodes that give receipts, the primary first: it has the most.
        """
        primary = self._view.primary()
        able = [node for node in writers if GIVES_RECEIPTS in self._features(node)]
        return sorted(able, key=lambda node: node != primary)

    def want(self, items: StampedItems, before: Position, writers: Collection[NodeId]) -> Wanted:
        """
        The receipt to ask a node for.

        :param before: what the caller has seen.
        :raises TooManyItems: the items are too many for one node.
        :raises NotSupportedHere: no node that takes writes gives receipts.
        """
        if items.size() > self._limits.slice_bytes:
            raise TooManyItems(
                f"a request with receipt=1 goes to one node whole, so it may have about"
                f" {self._limits.slice_bytes} bytes"
            )
        if writers and not self.givers(writers):
            raise NotSupportedHere(
                "no node that takes writes can give receipts: all are of an earlier version of dcounter"
            )
        # A slice that a node keeps for long is sent to another one as well.
        wait = int(self._limits.slow_after_s / 2 * 1000)
        required = self._view.required.join(before)
        return Wanted(ReceiptWanted(required, wait), bool(self._view.unaccounted()))

    def changes(self, items: StampedItems, wanted: Wanted, given: ReceiptGiven) -> Changes:
        """
        What a caller is told.
        """
        told: list[Change] = [_CHANGES[letter] for letter in given.changes]
        if items.kept is not None:
            # The others gave way to later items of the same request.
            all_of_them: list[Change] = ["stale"] * items.named
            for i, change in zip(items.kept, told, strict=True):
                all_of_them[i] = change
            told = all_of_them
        if given.complete and not wanted.unaccounted:
            # A later answer must not go back behind what this one tells.
            self._view.require(given.position)
            return Changes(told, given.counts)
        missing = self._view.missing(wanted.message.required)
        return Changes(told, given.counts, complete=False, missing=missing)
