"""
Receipts: what a coordinator wants to know of the batch that it stores, and what the node tells it.
"""

from typing import Annotated

from msgspec import Meta, Struct

from dcounter.protocol.batch import Natural, Tenant
from dcounter.protocol.position import Position

Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
Changes = Annotated[str, Meta(pattern="^[cmusd]*$")]


class ReceiptWanted(Struct, frozen=True, omit_defaults=True):
    """
    The coordinator wants to be told what the batch changes.

    :ivar required: what the ledger must include before the batch, for the receipt to be exact.
    :ivar wait: how long (ms) the node may wait until it does.
    """

    required: Position = Position()
    wait: Milliseconds = 0


class ReceiptGiven(Struct, frozen=True, omit_defaults=True):
    """
    What a batch changed in the ledger of the node that stored it.

    :ivar changes: one letter per item, in order: `c`reated, `m`oved, `u`nchanged, `s`tale, `d`eleted; each as
        if the items before it were merged already.
    :ivar complete: whether the ledger included all that was required.
    :ivar position: what the counts include.
    :ivar counts: of all tenants that the items name or were taken from, when all items were merged; `None` if
        their names are too long for one message.
    """

    changes: Changes
    complete: bool
    position: Position
    counts: dict[Tenant, Natural] | None = None
