"""
Which process holds each node id.
"""

import pytest
from twisted.internet.task import Clock

from dcounter.node.holders import _REMEMBERED, Holders


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def holders(clock: Clock) -> Holders:
    """
    Those that node 0 knows: one process of node 1, on two connections.
    """
    found = Holders((0, "zero"), patience=1.0, seconds=clock.seconds)
    found.joined(1, 1, "one", "a")
    found.joined(2, 1, "one", "b")
    return found


def test_a_process_may_connect_more_than_once(holders: Holders) -> None:
    assert holders.note_rival(1, "one") is None


def test_all_that_are_connected_as_a_node_are_known(holders: Holders) -> None:
    assert holders.processes(1) == {"one"}
    holders.joined(3, 1, "other", "c")
    assert holders.processes(1) == {"one", "other"}
    holders.left(3)
    assert (holders.processes(1), holders.processes(0), holders.processes(2)) == ({"one"}, {"zero"}, set())


def test_another_one_has_a_rival_and_others_nodes_have_none(holders: Holders) -> None:
    assert holders.note_rival(1, "copy") == "a"
    assert holders.note_rival(2, "two") is None


def test_a_copy_of_the_node_itself_has_a_rival(holders: Holders) -> None:
    assert holders.note_rival(0, "copy") == "this machine"


def test_a_rival_is_there_until_its_last_connection_is_gone(holders: Holders) -> None:
    holders.left(1)
    assert holders.note_rival(1, "new") == "b"


def test_a_new_process_comes_in_as_soon_as_the_old_one_is_gone(holders: Holders) -> None:
    # As after kill -9: its successor was never seen before.
    holders.left(1)
    holders.left(2)
    assert holders.note_rival(1, "new") is None


def test_one_that_was_refused_does_not_slip_in_while_the_other_one_reconnects(
    holders: Holders, clock: Clock
) -> None:
    assert holders.note_rival(1, "copy") == "a"
    holders.left(1)
    holders.left(2)
    clock.advance(0.9)
    assert holders.note_rival(1, "copy") == "b"
    assert holders.note_rival(1, "one") is None
    clock.advance(0.1)
    assert holders.note_rival(1, "copy") is None


def test_a_connection_of_nobody_may_be_gone(holders: Holders) -> None:
    holders.left(9)
    assert holders.note_rival(1, "one") is None


def test_what_is_remembered_is_bounded(holders: Holders) -> None:
    for number in range(3 * _REMEMBERED):
        assert holders.note_rival(1, f"copy {number}") == "a"
    assert len(holders._refused) == _REMEMBERED  # noqa: SLF001
