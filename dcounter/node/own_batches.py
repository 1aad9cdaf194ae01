"""
Batches that coordinators store at this node: each is refused at once, or journalled, applied and answered.

What holds, after each call:

- a batch is answered once: as stored when it is durable and applied, or as refused;
- nothing of a refused batch is in the ledger.
"""

from msgspec import Raw

from dcounter.errors import UnknownNeeds
from dcounter.node.channels import Channels
from dcounter.node.compaction import accept
from dcounter.node.contents import Contents
from dcounter.node.durability import Own
from dcounter.node.effects import Outbox
from dcounter.node.empty_journal import EmptyJournal
from dcounter.node.members import Members
from dcounter.node.own_run import OwnRun
from dcounter.node.receipts import Receipts
from dcounter.node.status import Status
from dcounter.protocol import messages
from dcounter.protocol.batch import decode_batch, encode_batch
from dcounter.protocol.messages import Record
from dcounter.protocol.position import NodeId


class OwnBatches:
    """
    Stores what coordinators send to one node.

    :param node: its id.
    """

    def __init__(
        self,
        node: NodeId,
        out: Outbox,
        contents: Contents,
        members: Members,
        empty_journal: EmptyJournal,
        own: OwnRun,
        status: Status,
        channels: Channels,
        receipts: Receipts,
    ) -> None:
        self._node = node
        self._out = out
        self._contents = contents
        self._members = members
        self._empty_journal = empty_journal
        self._own = own
        self._status = status
        self._channels = channels
        self._receipts = receipts

    def take(self, channel: int, message: messages.Store) -> Own | None:
        """
        A coordinator stores a batch.

        :returns: what has to be journalled; `None` if the node takes no writes, or not this one.
        """
        try:
            batch = decode_batch(message.batch)
        except UnknownNeeds as error:
            self._refuse(channel, message.request, error.slices, str(error), maybe_stored=False)
            return None
        reason = self._status.refuses()
        if reason is not None:
            self._refuse(channel, message.request, len(batch.slices), reason, maybe_stored=False)
            return None
        accepted = accept(batch, self._contents.floor)
        if accepted.batch is None:
            stamp = self._contents.stamp
            self._out.send(channel, messages.Stored(message.request, 0, 0, stamp, dict(accepted.refused)))
            return None
        raw = message.batch if accepted.whole else Raw(encode_batch(accepted.batch))
        opening = None
        if self._own.run == 0:
            known = self._members.known(self._contents.applied).of(self._node)
            latest = self._contents.runs.latest(self._node)
            opening = self._own.open(known, latest, wiped=self._empty_journal.wiped)
        run, number = self._own.run, self._own.next_number()
        record = Record(self._node, run, number, accepted.batch.largest_stamp(), raw, opening)
        return Own.of(record, accepted.batch, channel, message, accepted.refused)

    def stored(self, own: Own) -> None:
        """
        A batch is durable.
        """
        receipt = None
        if own.receipt is None:
            self._contents.apply(own.record, own.batch, own.line)
        else:
            receipt = self._receipts.apply(own, own.receipt)
        self._status.items_taken += own.batch.items
        self._status.batches_taken += 1
        if own.channel in self._channels:
            stamp = self._contents.stamp
            refused = dict(own.refused)
            self._out.send(
                own.channel,
                messages.Stored(own.request, own.run, own.number, stamp, refused, receipt=receipt),
            )

    def failed(self, own: Own, reason: str) -> None:
        """
        A batch is not durable, and perhaps on the disk all the same.
        """
        if own.channel in self._channels:
            slices = len(own.batch.slices) + len(own.refused)
            self._refuse(own.channel, own.request, slices, reason, maybe_stored=True)

    def _refuse(self, channel: int, request: int, slices: int, reason: str, *, maybe_stored: bool) -> None:
        refused = dict.fromkeys(range(slices), reason)
        stamp = self._contents.stamp
        self._out.send(channel, messages.Stored(request, 0, 0, stamp, refused, doubtful=maybe_stored))
