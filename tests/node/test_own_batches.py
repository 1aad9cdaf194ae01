import msgspec
import pytest

from dcounter.node.own_batches import OwnBatches
from dcounter.protocol import messages
from dcounter.protocol.messages import Stored
from dcounter.protocol.position import Opening
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted
from tests.support.machines import WALL, Machines, has, report
from tests.support.replicas import store


@pytest.fixture
def node() -> Machines:
    node = Machines()
    node.coordinator(1)
    node.hears(report(1), report(2))
    node.empty_journal.decide()
    return node


@pytest.fixture
def batches(node: Machines) -> OwnBatches:
    return OwnBatches(
        0,
        node.out,
        node.contents,
        node.members,
        node.empty_journal,
        node.own,
        node.status,
        node.channels,
        node.receipts,
    )


def test_a_batch_is_numbered_and_counts_when_it_is_durable(node: Machines, batches: OwnBatches) -> None:
    first, second = batches.take(1, store(4, [1, 2])), batches.take(1, store(5, [3], base=2_000))
    assert first is not None
    assert second is not None
    assert [(each.run, each.number, each.request) for each in (first, second)] == [
        (WALL, 1, 4),
        (WALL, 2, 5),
    ]
    assert (first.record.opening, second.record.opening) == (Opening(WALL, 0, 0, wiped=False), None)
    assert node.effects() == []
    assert node.contents.ledger.count("t") == 0
    batches.stored(first)
    assert node.contents.ledger.count("t") == 2
    assert node.contents.applied == has((0, WALL, 1))
    assert node.status.items_taken == 2
    assert node.sent() == [(1, Stored(4, WALL, 1, node.contents.stamp))]


def test_a_run_goes_on_behind_what_others_have_of_this_nodes_log(node: Machines, batches: OwnBatches) -> None:
    node.hears(report(2, has((0, 5_000, 7))))
    own = batches.take(1, store(4, [1]))
    assert own is not None
    assert own.record.opening == Opening(5_001, 5_000, 7, wiped=False)


def test_a_batch_is_refused_with_each_of_its_slices(node: Machines, batches: OwnBatches) -> None:
    node.status.drain()
    assert batches.take(1, store(4, [1])) is None
    assert node.sent() == [(1, Stored(4, 0, 0, 0, {0: "the node is stopping"}))]
    assert node.own.run == 0


def test_of_a_batch_that_failed_nothing_counts(node: Machines, batches: OwnBatches) -> None:
    own = batches.take(1, store(4, [1]))
    assert own is not None
    batches.failed(own, "the disk failed")
    assert node.sent() == [(1, Stored(4, 0, 0, 0, {0: "the disk failed"}, doubtful=True))]
    assert node.contents.ledger.count("t") == 0


def test_a_batch_whose_coordinator_wants_a_receipt_tells_what_it_changed(
    node: Machines, batches: OwnBatches
) -> None:
    node.contents.ledger.merge([1], [1], ["u"])
    own = batches.take(1, msgspec.structs.replace(store(4, [1, 2]), receipt=ReceiptWanted()))
    assert own is not None
    batches.stored(own)
    given = ReceiptGiven("mc", True, has((0, WALL, 1)), {"t": 2, "u": 0})
    assert node.sent() == [(1, Stored(4, WALL, 1, node.contents.stamp, receipt=given))]
    assert node.contents.applied == has((0, WALL, 1))


@pytest.mark.parametrize("kept", [True, False])
def test_a_coordinator_that_has_left_is_not_answered(
    node: Machines, batches: OwnBatches, *, kept: bool
) -> None:
    own = batches.take(1, store(4, [1]))
    assert own is not None
    node.channels.disconnected(1)
    if kept:
        batches.stored(own)
    else:
        batches.failed(own, "the disk failed")
    assert node.sent() == []
    assert node.contents.ledger.count("t") == kept


def test_a_run_of_a_node_that_was_wiped_says_so(node: Machines, batches: OwnBatches) -> None:
    node.empty_journal.wiped = True
    own = batches.take(1, store(4, [1]))
    assert own is not None
    assert isinstance(own.record, messages.Record)
    assert own.record.opening == Opening(WALL, 0, 0, wiped=True)
