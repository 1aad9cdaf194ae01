"""
Counts: the questions that callers ask with `GET /items/{tenant}/count`.

The counts of one turn of the reactor share one question, unless their callers want less than exact ones or
have seen something that others have not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dcounter.coordinator.reads import Caller, Question
from dcounter.limits import Limits
from dcounter.protocol import messages
from dcounter.protocol.batch import RequestId
from dcounter.protocol.position import NodeId, Position
from dcounter.store import Consistency, Count


@dataclass(slots=True, eq=False)
class CountQuestion(Question[messages.Counted]):
    """
    A question for counts, of one or several callers.

    :ivar tenants: whose items to count; one for each of `callers`.
    :ivar size: about the bytes of its names, at least a sixth of what they take on the wire.
    """

    tenants: list[str] = field(default_factory=list)
    size: int = 0

    def join(self, tenant: str, caller: Caller) -> None:
        """
        One more caller asks.
        """
        self.tenants.append(tenant)
        self.callers.append(caller)
        self.size += len(tenant)

    def message(self, number: RequestId, required: Position, wait: int) -> messages.Count:
        return messages.Count(number, self.tenants, required, wait)

    def tell(
        self, answer: messages.Counted, token: str, missing: Sequence[NodeId], *, complete: bool
    ) -> None:
        for caller, counter in zip(self.callers, answer.counts, strict=True):
            caller.callback(Count(counter, token, complete, missing))

    def counter_so_far(self, i: int) -> int | None:
        return None if self.best is None else self.best.counts[i]


class Counts:
    """
    Lets callers join questions.

    :param begin: takes a new question.
    """

    def __init__(self, limits: Limits, *, begin: Callable[[CountQuestion], None]) -> None:
        self._limits = limits
        self._begin = begin
        self._joinable_question: CountQuestion | None = None

    def count(
        self, tenant: str, caller: Caller, consistency: Consistency, extra: Position, until: float
    ) -> None:
        """
        A caller wants a count.

        :param extra: what the caller has seen.
        :param until: when (s) there must be an answer.
        """
        plain = consistency == "exact" and not extra.nodes
        question = self._joinable_question
        if not plain or question is None or question.size >= self._limits.batch_bytes:
            question = CountQuestion(consistency, extra, until)
            if plain:
                self._joinable_question = question
            self._begin(question)
        question.join(tenant, caller)

    def turn_ended(self) -> None:
        """
        The questions of this turn are asked now: no other caller can join them.
        """
        self._joinable_question = None
