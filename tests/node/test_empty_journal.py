import pytest

from dcounter.node.effects import LogMessage, Outbox
from dcounter.node.empty_journal import EmptyJournal
from dcounter.node.members import Members
from dcounter.protocol import messages
from dcounter.protocol.position import Position
from tests.support.machines import has, report

ITEMS = has((1, 5, 4))


def of_three(*reports: messages.Report) -> EmptyJournal:
    members = Members(0, range(3), Outbox())
    for each in reports:
        members.on_report(each)
    return EmptyJournal(members, Outbox())


@pytest.mark.parametrize(
    ("reports", "known", "wiped"),
    [
        ([], False, False),
        ([report(1, ITEMS)], False, False),
        # A new cluster, and one that has a past.
        ([report(1), report(2)], True, False),
        ([report(1), report(2, ITEMS)], True, True),
    ],
)
def test_it_means_what_all_others_say(reports: list[messages.Report], *, known: bool, wiped: bool) -> None:
    journal = of_three(*reports)
    assert journal.begin()
    assert journal.decide() == known
    assert (journal.undecided, journal.wiped) == (not known, wiped)
    assert journal.journal_state() == messages.JournalState(known, wiped)
    # It is decided once, and written once at the beginning.
    assert not journal.decide()
    assert not journal.begin()


def test_a_node_that_is_alone_waits_for_no_report() -> None:
    journal = EmptyJournal(Members(0, [0], Outbox()), Outbox())
    assert not journal.undecided
    assert not journal.begin()
    assert journal.journal_state() is None


def test_a_journal_that_was_not_empty_has_no_line_about_itself() -> None:
    journal = of_three()
    journal.restored(None)
    assert not journal.undecided
    assert not journal.begin()
    assert journal.journal_state() is None


@pytest.mark.parametrize("known", [False, True])
def test_after_a_start_it_is_what_the_journal_says(*, known: bool) -> None:
    journal = of_three()
    journal.restored(messages.JournalState(known, wiped=known))
    # What its peers gave back is no proof.
    journal.restored(None)
    assert (journal.undecided, journal.wiped) == (not known, known)
    assert journal.journal_state() == messages.JournalState(known, known)


def test_a_run_that_says_that_the_journal_was_lost_says_so_once() -> None:
    journal = of_three(report(1, ITEMS), report(2))
    assert journal.begin()
    assert journal.decide()
    assert journal.opened_run()
    assert not journal.opened_run()
    assert journal.journal_state() == messages.JournalState(known=True, wiped=False)


@pytest.mark.parametrize("applied", [None, ITEMS])
def test_the_operator_hears_of_a_lost_journal(applied: Position | None) -> None:
    out = Outbox()
    members = Members(0, range(2), out)
    members.on_report(report(1, applied))
    assert EmptyJournal(members, out).decide()
    refilling = LogMessage("warn", "this node has no journal but its peers hold items: refilling")
    assert out.take() == ([] if applied is None else [refilling])
