from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dcounter.coordinator.counts import CountQuestion, Counts
from dcounter.errors import Incomplete, PositionLost, Refusal
from dcounter.limits import Limits
from dcounter.protocol import messages
from dcounter.protocol.position import Position
from dcounter.store import Consistency, Count

NOWHERE = Position()
SEEN = Position().advance(1, 5, 3)


@dataclass
class FakeCaller:
    told: list[Count | Refusal] = field(default_factory=list)

    def callback(self, result: Any) -> None:
        self.told.append(result)

    def errback(self, fail: Refusal) -> None:
        self.told.append(fail)


class Desk:
    def __init__(self, **limits: Any) -> None:
        self.begun: list[CountQuestion] = []
        self.counts = Counts(replace(Limits(), **limits), begin=self.begun.append)

    def count(self, tenant: str, consistency: Consistency = "exact", extra: Position = NOWHERE) -> FakeCaller:
        caller = FakeCaller()
        self.counts.count(tenant, caller, consistency, extra, until=2.0)
        return caller

    def tenants(self) -> list[list[str]]:
        return [question.tenants for question in self.begun]


class TestJoining:
    def test_exact_counts_of_one_turn_share_a_question(self) -> None:
        desk = Desk()
        for tenant in "aba":
            desk.count(tenant)
        assert desk.tenants() == [["a", "b", "a"]]
        assert desk.begun[0].until == 2.0

    def test_the_next_turn_has_its_own(self) -> None:
        desk = Desk()
        desk.count("a")
        desk.counts.turn_ended()
        desk.count("b")
        assert desk.tenants() == [["a"], ["b"]]

    @pytest.mark.parametrize(
        ("consistency", "extra"), [("exact", SEEN), ("available", NOWHERE), ("eventual", NOWHERE)]
    )
    def test_what_differs_is_asked_apart_and_is_not_joined(
        self, consistency: Consistency, extra: Position
    ) -> None:
        desk = Desk()
        desk.count("a")
        desk.count("b", consistency, extra)
        desk.count("c", consistency, extra)
        desk.count("d")
        assert desk.tenants() == [["a", "d"], ["b"], ["c"]]
        assert (desk.begun[1].consistency, desk.begun[1].extra) == (consistency, extra)

    def test_a_question_is_bounded(self) -> None:
        desk = Desk(batch_bytes=4)
        for tenant in ("aaa", "bbb", "c", "d"):
            desk.count(tenant)
        assert desk.tenants() == [["aaa", "bbb"], ["c", "d"]]


class TestCallers:
    def _two(self) -> tuple[CountQuestion, FakeCaller, FakeCaller]:
        desk = Desk()
        first, second = desk.count("a"), desk.count("b")
        return desk.begun[0], first, second

    def test_get_each_their_own_count(self) -> None:
        question, first, second = self._two()
        assert question.message(7, SEEN, 100) == messages.Count(7, ["a", "b"], SEEN, 100)
        answer = messages.Counted(7, [3, 5], False, SEEN, 1)
        question.tell(answer, "token", [2], complete=False)
        assert first.told == [Count(3, "token", False, [2])]
        assert second.told == [Count(5, "token", False, [2])]

    @pytest.mark.parametrize("best", [None, messages.Counted(7, [3, 5], False, SEEN, 1)])
    def test_are_told_what_is_known_if_no_answer_is_exact(self, best: messages.Counted | None) -> None:
        question, *callers = self._two()
        question.best = best
        question.refuse_incomplete("too late", [2])
        refusals = [each for caller in callers for each in caller.told]
        found = [
            (str(each), each.counter_so_far, each.missing)
            for each in refusals
            if isinstance(each, Incomplete)
        ]
        assert found == [("too late", None if best is None else counter, (2,)) for counter in (3, 5)]

    def test_are_told_that_what_they_have_seen_is_lost(self) -> None:
        question, first, second = self._two()
        refusal = PositionLost("gone")
        question.refuse(refusal)
        assert first.told == second.told == [refusal]
