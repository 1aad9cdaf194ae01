import pytest

from dcounter.node.effects import LogMessage, Outbox
from dcounter.node.members import Members
from dcounter.protocol import messages
from dcounter.protocol.position import Position


def has(number: int) -> Position:
    return Position().advance(1, 5, number) if number else Position()


def report(node: int, applied: int = 0, durable: int = 0) -> messages.Report:
    return messages.Report(node, 8090, 0, 0, has(applied), has(durable), 0, 0, 0)


def three(*reports: messages.Report) -> Members:
    members = Members(0, range(3), Outbox())
    for each in reports:
        members.on_report(each)
    return members


def test_one_that_was_removed_is_no_member_any_more() -> None:
    members = three(report(1, 4), report(2, 9))
    assert members.refused_by(2, "why")
    assert members.not_removed([2, 1]) == [1, 2]
    members.remove(2)
    assert (members.peers, members.refusing, set(members.reports)) == ({1}, set(), {1})
    assert members.not_removed([2, 1]) == [1]
    assert members.all_heard
    assert members.known(Position()) == has(4)


def test_which_process_is_this_node() -> None:
    out = Outbox()
    members = Members(0, range(3), out)
    assert members.vouched_for(has(4)) == has(4)
    assert not members.let_in_by(1)
    assert members.refused_by(1, "node 0 is elsewhere")
    assert not members.refused_by(1, "again")
    assert not members.refused_by(7, "no member")
    assert members.vouched_for(has(4)) == Position()
    assert members.let_in_by(1)
    assert members.vouched_for(has(4)) == has(4)
    assert out.take() == [
        LogMessage("error", "node 1 refuses this process: node 0 is elsewhere. This process takes no writes"),
        LogMessage("info", "node 1 lets this process in again"),
    ]


def test_its_own_removal_is_told_once() -> None:
    out = Outbox()
    members = Members(0, range(3), out)
    assert members.remove_self("you are removed")
    assert not members.remove_self("you are removed")
    assert members.self_removed
    assert out.take() == [LogMessage("error", "you are removed")]
    assert members.not_removed([0, 1]) == [1], "it is no other node of its own"


@pytest.mark.parametrize(
    ("node", "run", "closed"),
    [
        # This node has run 8 open, node 1 run 5; node 2 is out.
        (0, 8, False),
        (0, 7, True),
        (1, 5, False),
        (1, 4, True),
        (2, 5, True),
    ],
)
def test_a_run_is_closed_if_its_node_can_add_nothing_to_it(node: int, run: int, *, closed: bool) -> None:
    members = three(messages.Report(1, 8091, 0, 5, has(1), has(1), 0, 0, 0), report(2))
    members.remove(2)
    assert members.is_closed(node, run, own_run=8, undecided=False) == closed


def test_no_run_is_known_to_be_closed_before_its_node_has_heard_of_all() -> None:
    members = three(messages.Report(1, 8091, 0, 0, has(1), has(1), 0, 0, 0, refuses="it waits"))
    assert not members.is_closed(1, 5, own_run=0, undecided=True)
    assert not members.is_closed(0, 5, own_run=0, undecided=True)


def test_what_is_known_of_all() -> None:
    members = three(report(1, 4, 3))
    assert members.silent == [2]
    assert members.known(has(2)) == has(4)
    assert members.everywhere(has(2)) == [has(2), has(3)]
    assert members.have_no_more_than(has(4))
    assert not members.have_no_more_than(has(3))
