from dataclasses import replace

import msgspec
import pytest

from dcounter.limits import Limits
from dcounter.node.durability import Own
from dcounter.protocol import messages
from dcounter.protocol.batch import decode_batch
from dcounter.protocol.messages import Record
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted
from tests.support.machines import Machines, has, report
from tests.support.replicas import store

NEEDED = has((1, 5, 2))
WANTED = ReceiptWanted(NEEDED, 500)
MINE = has((0, 7, 1))


def wanting(request: int = 4, wanted: ReceiptWanted | None = WANTED) -> messages.Store:
    return msgspec.structs.replace(store(request, [1, 2]), receipt=wanted)


def own(message: messages.Store) -> Own:
    """
    The batch of a message, as it comes back from the journal.
    """
    batch = decode_batch(message.batch)
    return Own.of(Record(0, 7, 1, batch.largest_stamp(), message.batch), batch, 1, message)


@pytest.fixture
def node() -> Machines:
    node = Machines()
    # It takes writes.
    node.hears(report(1), report(2))
    node.empty_journal.decide()
    node.effects()
    return node


def test_a_batch_waits_for_what_its_receipt_requires(node: Machines) -> None:
    assert node.receipts.hold_back(1, wanting(), 0.0)
    waiting = [node.receipts.waiting]
    assert node.receipts.take_ready() == []
    node.contents.applied = NEEDED
    assert node.receipts.take_ready() == [(1, wanting())]
    assert [*waiting, node.receipts.waiting] == [True, False]
    assert node.receipts.take_expired(9.0) == []


def test_one_whose_time_is_over_is_stored_with_what_there_is(node: Machines) -> None:
    assert node.receipts.hold_back(1, wanting(), 1.0)
    assert node.receipts.take_expired(1.4) == []
    assert node.receipts.take_expired(1.5) == [(1, wanting())]


@pytest.mark.parametrize("wanted", [None, ReceiptWanted(NEEDED, 0), ReceiptWanted()])
def test_others_do_not_wait(node: Machines, wanted: ReceiptWanted | None) -> None:
    assert not node.receipts.hold_back(1, wanting(wanted=wanted), 0.0)
    assert not node.receipts.waiting


def test_it_waits_for_a_ledger_that_is_not_complete(node: Machines) -> None:
    node.contents.applied = NEEDED
    node.contents.loading = True
    assert node.receipts.hold_back(1, wanting(), 0.0)
    node.contents.loading = False
    assert len(node.receipts.take_ready()) == 1


def test_what_the_node_refuses_does_not_wait(node: Machines) -> None:
    node.status.drain()
    assert not node.receipts.hold_back(1, wanting(), 0.0)


def test_no_more_than_may_wait_do() -> None:
    node = Machines(replace(Limits(), waits=1))
    node.hears(report(1), report(2))
    node.empty_journal.decide()
    assert [node.receipts.hold_back(1, wanting(each), 0.0) for each in (4, 5)] == [True, False]


def test_what_came_on_a_connection_that_is_gone_waits_no_longer(node: Machines) -> None:
    for channel in (1, 2):
        node.receipts.hold_back(channel, wanting(), 0.0)
    node.receipts.disconnected(1)
    assert node.receipts.take_expired(9.0) == [(2, wanting())]


@pytest.mark.parametrize("complete", [True, False])
def test_a_receipt_says_what_a_batch_changed_and_what_it_includes(node: Machines, *, complete: bool) -> None:
    if complete:
        node.contents.applied = NEEDED
    node.contents.ledger.merge([1], [1], ["u"])
    given = node.receipts.apply(own(wanting()), WANTED)
    position = NEEDED.join(MINE) if complete else MINE
    assert given == ReceiptGiven("mc", complete, position, {"t": 2, "u": 0})
    assert node.contents.applied == position


def test_a_packed_batch_has_the_same_receipt(node: Machines) -> None:
    node.contents.ledger.merge([1], [1], ["u"])
    plain = own(wanting())
    packed = replace(plain, batch=plain.batch.pack())
    assert node.receipts.apply(packed, ReceiptWanted()).changes == "mc"
    assert dict(node.contents.ledger.tenants()) == {"t": 2}


def test_counts_that_are_too_long_for_a_message_are_left_out() -> None:
    node = Machines(replace(Limits(), line_bytes=11))
    assert node.receipts.apply(own(wanting()), WANTED).counts is None
    node = Machines(replace(Limits(), line_bytes=12))
    assert node.receipts.apply(own(wanting()), WANTED).counts == {"t": 2}
