import pytest
from msgspec.structs import replace

from dcounter.errors import MalformedMessage
from dcounter.limits import Limits
from dcounter.node.channels import Channels
from dcounter.node.effects import CloseChannel, Outbox
from dcounter.protocol.handshake import Peer
from tests.support.machines import report


@pytest.fixture
def out() -> Outbox:
    return Outbox()


@pytest.fixture
def channels(out: Outbox) -> Channels:
    """
    Node 1 was called on channel 1, node 2 called on channel 2, a coordinator on channel 3.
    """
    channels = Channels(out, Limits())
    channels.connected(1, Peer("node", 1), calls=True, now=0)
    channels.connected(2, Peer("node", 2), calls=False, now=0)
    channels.connected(3, Peer("coordinator", None), calls=False, now=0)
    channels.check(0, outcast=False)
    return channels


def test_a_node_that_is_silent_is_cut_off_before_a_coordinator(channels: Channels, out: Outbox) -> None:
    for tenth in range(1, 12):
        channels.check(tenth / 10, outcast=False)
        if tenth == 5:
            channels.heard(2, 0.5)
    assert out.take() == [CloseChannel(1, "silent for 1.1 s")]
    assert list(channels) == [1, 2, 3], "they are gone when the service says so"


def test_after_a_pause_of_our_own_the_silence_of_others_proves_nothing(
    channels: Channels, out: Outbox
) -> None:
    channels.check(50, outcast=False)
    assert out.take() == []


def test_an_outcast_keeps_no_connection(channels: Channels, out: Outbox) -> None:
    channels.check(0.1, outcast=True)
    reason = "the other nodes refuse this process"
    assert out.take() == [CloseChannel(channel, reason) for channel in (1, 2, 3)]


def test_reports_are_of_the_node_at_the_other_end(channels: Channels) -> None:
    with pytest.raises(MalformedMessage, match="a report of node 2"):
        channels.reported(1, report(2))
    with pytest.raises(MalformedMessage, match="a report of node 2"):
        channels.reported(3, report(2))
    channels.reported(2, report(2))
    assert channels.followers() == [None, report(2)]


def test_a_copy_is_asked_of_a_node_that_was_called_and_has_one(channels: Channels) -> None:
    assert [channels.gives_copies(channel) for channel in (1, 2, 3)] == [True, False, False]


@pytest.mark.parametrize("why", ["loading", "in_doubt"])
def test_no_copy_is_asked_of_a_node_whose_ledger_is_unfinished(channels: Channels, why: str) -> None:
    channels.reported(1, replace(report(1), **{why: True}))
    assert not channels.gives_copies(1)
    channels.reported(1, report(1))
    assert channels.gives_copies(1)


def test_all_connections_to_a_node_can_be_closed(channels: Channels, out: Outbox) -> None:
    channels.connected(4, Peer("node", 1), calls=False, now=0)
    channels.close_to(1, "why")
    assert out.take() == [CloseChannel(1, "why"), CloseChannel(4, "why")]


def test_whether_any_of_them_was_made_here(channels: Channels) -> None:
    before = channels.any_calls
    channels.disconnected(1)
    channels.disconnected(1)
    assert (before, channels.any_calls) == (True, False)
    assert 1 not in channels
