from collections.abc import Callable

import pytest

from dcounter.limits import Limits
from tests.support.machines import Machines, has, report


def heard_all(node: Machines) -> None:
    node.hears(report(1), report(2))
    assert node.empty_journal.decide()


def test_a_node_that_has_heard_of_all_takes_writes() -> None:
    node = Machines()
    assert node.status.refuses() == "the node starts empty and has not heard from nodes [1, 2]"
    assert node.status.report().passing
    heard_all(node)
    assert node.status.refuses() is None
    assert not node.status.report().passing


def drained(node: Machines) -> None:
    node.status.drain()


def removed(node: Machines) -> None:
    node.members.remove_self("removed")


def rivalled(node: Machines) -> None:
    node.members.refused_by(2, "why")


def failed(node: Machines) -> None:
    node.durability.failed([], "no room", node.contents.applied)


def unfolded(node: Machines) -> None:
    node.contents.applied = has(*((0, run, 1) for run in range(1, Limits().unfolded_runs + 2)))


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (drained, "the node is stopping"),
        (removed, "this node was removed from the cluster"),
        (rivalled, "another process holds the id of this node at nodes [2]"),
        (failed, "the disk failed: no room"),
        (unfolded, "more than 64 runs are not on every node yet"),
    ],
)
def test_why_a_node_takes_no_writes(happens: Callable[[Machines], None], why: str) -> None:
    node = Machines()
    heard_all(node)
    happens(node)
    assert node.status.refuses() == why
    assert node.status.report().refuses == why


def test_the_report_names_what_is_certain_only() -> None:
    node = Machines()
    heard_all(node)
    node.contents.applied = has((0, 5, 3), (1, 6, 2))
    node.durability.restored(has((0, 5, 3), (1, 6, 1)))
    said = node.status.report()
    assert (said.applied, said.durable) == (node.contents.applied, node.durability.durable)
    node.durability.doubted(node.contents.applied)
    said = node.status.report()
    assert said.in_doubt
    assert said.applied.number(0, 5) == 0
    assert said.applied.number(1, 6) == 2
    assert said.durable == has()


class TestDraining:
    def _node(self) -> Machines:
        node = Machines()
        heard_all(node)
        node.durability.restored(has((0, 5, 3), (1, 6, 1)))
        node.status.drain()
        return node

    def test_waits_for_each_follower(self) -> None:
        node = self._node()
        all_of_it, less = has((0, 5, 3), (1, 6, 1)), has((0, 5, 2), (1, 6, 1))
        assert node.status.drained([])
        assert node.status.drained([report(1, all_of_it), report(2, all_of_it)])
        assert not node.status.drained([report(1, all_of_it), report(2, less)])
        assert not node.status.drained([report(1, all_of_it, less)]), "applied is not durable"
        assert not node.status.drained([None])

    def test_what_comes_from_others_meanwhile_is_theirs_to_hand_on(self) -> None:
        node = self._node()
        node.durability.restored(has((0, 5, 3), (1, 6, 9)))
        assert node.status.drained([report(1, has((0, 5, 3), (1, 6, 1)))])

    def test_what_comes_of_its_own_is_handed_on(self) -> None:
        node = self._node()
        node.durability.restored(has((0, 5, 4), (1, 6, 1)))
        assert not node.status.drained([report(1, has((0, 5, 3), (1, 6, 1)))])
