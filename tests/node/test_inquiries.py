"""
Answers that take several steps.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import Steps, StepSizes
from dcounter.node.effects import Effect, LogMessage, StepsLeft
from dcounter.node.inquiries import Inquiries, PlainQuestion, steps_to
from dcounter.protocol.messages import Message
from dcounter.protocol.position import Position
from dcounter.protocol.questions import (
    Ask,
    Declined,
    ItemsListed,
    ListItems,
    ListTenants,
    LookedUp,
    LookUp,
    Measure,
    Measured,
    PrefixSummed,
    Question,
    SumPrefix,
    TenantsListed,
    Told,
)
from tests.support.machines import Machines, has
from tests.support.strategies import item_ids, owners, stamps

NEEDED = has((1, 5, 2))
LONG = LookUp(list(range(100)))


Meanwhile = Callable[[], object]


class Inquiring(Machines):
    """
    Node 0, whose ledger has one item of tenant "t".
    """

    AT_ONCE = 100

    def __init__(self) -> None:
        super().__init__()
        self.exact = True
        self.contents.ledger.merge([1], [1], ["t"])
        self.all = Inquiries(
            self.out,
            self.contents,
            includes=lambda ask: self.exact and self.contents.applied.covers(ask.required),
            position=lambda: self.contents.applied,
            most=1_000,
            at_once=self.AT_ONCE,
        )

    def ask(self, number: int, what: Question = LONG, *, channel: int = 1, until: float = 9.0) -> None:
        self.all.begin(channel, Ask(number, what, NEEDED), until)

    def step(self, now: float = 0.0) -> tuple[list[Told], bool]:
        """
        What is told in the next step, and whether there is another one.
        """
        return self.told(self.all.step(now))

    def told(self, effects: list[Effect] | None = None) -> tuple[list[Told], bool]:
        effects = self.effects() if effects is None else effects
        more = [each for each in effects if isinstance(each, StepsLeft)]
        for each in effects:
            if not isinstance(each, StepsLeft):
                self.out.add(each)
        sent: list[tuple[int, Message]] = self.sent()
        return [message for _, message in sent if isinstance(message, Told)], bool(more)


@pytest.fixture
def node() -> Inquiring:
    return Inquiring()


def test_a_short_question_is_answered_at_once(node: Inquiring) -> None:
    node.contents.applied = NEEDED
    node.ask(3, LookUp([1, 2]))
    assert node.told() == ([Told(3, LookedUp([1, 0], ["t", None]), True, NEEDED, 0)], False)


def test_others_wait_for_the_next_turn(node: Inquiring) -> None:
    node.ask(3)
    node.ask(4)
    assert node.told() == ([], True)
    [first], more = node.step()
    assert (first.request, more) == (3, True)
    [second], more = node.step()
    assert (second.request, more) == (4, False)
    assert node.step() == ([], False)


def test_an_answer_is_that_of_its_last_step(node: Inquiring) -> None:
    node.ask(3)
    node.contents.applied = NEEDED
    node.contents.ledger.merge([2], [2], ["u"])
    [told], _ = node.step()
    assert isinstance(told.what, LookedUp)
    assert told.what.tenants[:4] == [None, "t", "u", None]
    assert (told.complete, told.position) == (True, NEEDED)


@pytest.mark.parametrize("exact", [True, False])
def test_an_answer_without_what_is_required_says_so(node: Inquiring, exact: bool) -> None:
    node.exact = exact
    if not exact:
        node.contents.applied = NEEDED
    node.ask(3)
    [told], _ = node.step()
    assert not told.complete


def test_one_that_comes_too_late_is_declined(node: Inquiring) -> None:
    node.contents.applied = NEEDED
    node.ask(3, until=1.0)
    node.ask(4, until=2.0)
    [told], more = node.step(1.0)
    assert (told.request, told.what, told.complete, more) == (3, Declined("late"), False, True)
    [told], more = node.step(1.0)
    assert (told.request, told.complete, more) == (4, True, False)


def test_one_that_nobody_waits_for_is_declined_without_further_steps(node: Inquiring) -> None:
    node.contents.applied = NEEDED
    node.ask(3)
    node.ask(3, channel=2)
    node.ask(4)
    node.effects()
    node.all.withdraw(1, 3)
    [told], _ = node.told()
    assert (told.request, told.what, told.complete) == (3, Declined("late"), False)
    # What was answered, or never asked, needs no other answer.
    for number in (3, 5):
        node.all.withdraw(1, number)
    assert node.told() == ([], False)
    assert [node.step()[0][0].request for _ in range(2)] == [3, 4]
    assert node.step() == ([], False)


def test_no_more_than_there_may_be_are_taken(node: Inquiring) -> None:
    node.contents.applied = NEEDED
    for number in range(node.AT_ONCE):
        node.ask(number)
    node.effects()
    node.ask(1_000)
    assert node.told() == ([Told(1_000, Declined("busy"), False, NEEDED, 0)], False)
    # Short ones are answered at once, and take no place.
    node.ask(1_001, LookUp([1]))
    [told], _ = node.told()
    assert told.complete
    node.step()
    node.ask(1_002)
    told_so_far, more = node.told()
    assert (told_so_far, more) == ([], True)


def test_a_mistake_in_one_stops_no_other_and_is_logged_once(
    node: Inquiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.contents.applied = NEEDED

    def wrong(prefix: str) -> Steps[None]:
        yield
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(node.contents.ledger, "prefix_sum", wrong)
    node.ask(1, SumPrefix("a"))
    node.ask(2, SumPrefix("b"))
    node.ask(3)
    said: list[LogMessage] = []
    told: list[Told] = []
    more = True
    while more:
        effects = node.all.step(0.0)
        said += [each for each in effects if isinstance(each, LogMessage)]
        answers, more = node.told([each for each in effects if not isinstance(each, LogMessage)])
        told += answers
    assert [(each.request, each.what == Declined("failed"), each.complete) for each in told] == [
        (3, False, True),
        (1, True, False),
        (2, True, False),
    ]
    [message] = said
    assert message.level == "error"
    assert "a question of the kind SumPrefix could not be answered: Traceback" in message.text
    assert "ZeroDivisionError: a mistake" in message.text


def test_one_whose_caller_has_left_is_dropped(node: Inquiring) -> None:
    node.ask(3)
    node.ask(4, channel=2)
    node.all.disconnected(1)
    node.effects()
    [told], more = node.step()
    assert (told.request, more) == (4, False)


def test_only_some_of_many_are_under_way(node: Inquiring) -> None:
    ledger = node.contents.ledger = Ledger(sizes=StepSizes(compared=1))
    ledger.merge(range(10), range(1, 11), ["t"] * 10)
    for number in range(100):
        node.ask(number, ListItems("t", 3))
    answered = []
    for steps in range(1, 2_000):
        told, _ = node.step()
        answered += [(each.request, steps) for each in told]
        # What watches merges costs each of them time.
        assert len(ledger._entries.watchers) <= 8  # noqa: SLF001 - it shows nowhere else
    assert [number for number, _ in answered] == list(range(100))
    # A few take turns, so that a short one need not wait for a long one; the first does not wait for all.
    assert 70 <= answered[0][1] <= 90


def test_an_answer_that_fits_no_line_is_declined(node: Inquiring) -> None:
    node.contents.applied = NEEDED
    node.contents.ledger.merge([1, 2], [2, 2], ["n" * 500, "m" * 501])
    node.ask(3, LookUp([1, 2]))
    [told], _ = node.told()
    assert (told.what, told.complete) == (Declined("too_large"), True)
    node.ask(4, LookUp([1]))
    [told], _ = node.told()
    assert told.what == LookedUp([2], ["n" * 500])


def finished(ledger: Ledger, what: PlainQuestion, most: int = 10**9, meanwhile: Meanwhile = print) -> Any:
    """
    The answer, when all its steps are taken.

    :param meanwhile: what happens between two of them.
    """
    contents = Machines().contents
    contents.ledger = ledger
    contents.journal_bytes = 77
    steps = steps_to(contents, what, most)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value
        meanwhile()


rows = st.lists(st.tuples(item_ids, stamps, owners), max_size=20)


@given(rows, st.lists(item_ids, max_size=5))
def test_looking_up(stored: list[tuple[int, int, str | None]], more: list[int]) -> None:
    ledger = Ledger()
    winners: dict[int, tuple[int, str]] = {}
    for item, stamp, tenant in stored:
        ledger.merge([item], [stamp], [tenant])
        entry = (stamp, tenant or "")
        winners[item] = max(entry, winners.get(item, entry))
    ids = [item for item, _, _ in stored] + more
    expected = [winners.get(item, (0, "")) for item in ids]
    assert finished(ledger, LookUp(ids)) == LookedUp(
        [stamp for stamp, _ in expected], [tenant or None for _, tenant in expected]
    )


class TestPages:
    @pytest.fixture
    def ledger(self) -> Ledger:
        ledger = Ledger()
        owners = ["b", "a/x", "b", "a/y", "a/y", "b", None]
        ledger.merge(range(7), range(1, 8), owners)
        return ledger

    @pytest.mark.parametrize(
        ("what", "names", "counts", "more"),
        [
            (ListTenants("name", 9), ["a/x", "a/y", "b"], [1, 2, 3], False),
            (ListTenants("name", 2), ["a/x", "a/y"], [1, 2], True),
            (ListTenants("name", 2, "", "a/x"), ["a/y", "b"], [2, 3], False),
            (ListTenants("name", 9, "a/"), ["a/x", "a/y"], [1, 2], False),
            (ListTenants("name", 9, "c"), [], [], False),
            (ListTenants("count", 9), ["b", "a/y", "a/x"], [3, 2, 1], False),
            (ListTenants("count", 1, "a/"), ["a/y"], [2], True),
            (ListTenants("count", 9, "", "b", 3), ["a/y", "a/x"], [2, 1], False),
        ],
    )
    def test_of_tenants(
        self, ledger: Ledger, what: PlainQuestion, names: list[str], counts: list[int], more: bool
    ) -> None:
        assert finished(ledger, what) == TenantsListed(names, counts, more)

    @pytest.mark.parametrize(("most", "fitting"), [(7, 3), (6, 2), (5, 1), (3, 1), (0, 1)])
    def test_are_cut_to_what_fits_a_line(self, ledger: Ledger, most: int, fitting: int) -> None:
        found = finished(ledger, ListTenants("name", 3), most)
        assert (len(found.tenants), len(found.counts), found.more) == (fitting, fitting, fitting < 3)

    def test_of_items(self, ledger: Ledger) -> None:
        assert finished(ledger, ListItems("b", 2)) == ItemsListed([0, 2], 2)
        assert finished(ledger, ListItems("b", 2, 2)) == ItemsListed([5], None)
        assert finished(ledger, ListItems("c", 2)) == ItemsListed([], None)

    def test_of_a_ledger_that_changes_between_steps_are_of_its_last_moment(self, ledger: Ledger) -> None:
        stamps = iter(range(100, 200))

        def move() -> None:
            ledger.merge([0, 8], [next(stamps)] * 2, ["a/x", "b"])

        assert finished(ledger, ListItems("b", 9), meanwhile=move) == ItemsListed([2, 5, 8], None)

    def test_sum(self, ledger: Ledger) -> None:
        assert finished(ledger, SumPrefix("a/")) == PrefixSummed(3, 2)
        assert finished(ledger, SumPrefix("")) == PrefixSummed(6, 3)
        assert finished(ledger, SumPrefix("c")) == PrefixSummed(0, 0)

    def test_measure(self, ledger: Ledger) -> None:
        found = finished(ledger, Measure())
        assert isinstance(found, Measured)
        assert (found.items, found.tenants, found.tombstones, found.disk) == (6, 3, 1, 77)
        assert 0 < found.memory < 10**6
        assert found.memory_of_ten >= found.memory
        assert found.memory_of_ten > 0


def test_nothing_required_is_included() -> None:
    node = Inquiring()
    node.all.begin(1, Ask(3, LookUp([1])), 9.0)
    [told], _ = node.told()
    assert (told.complete, told.position) == (True, Position())
