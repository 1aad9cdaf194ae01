"""
Questions asked at a position: which node to ask, how long to wait, which other node to ask, when to fail.

A kind of question is a subclass of `Question` (`dcounter.coordinator.counts` has the first one): it says what
is sent to a node and what its callers are told. All else is the same for every question and is here.

An answer must include a position: what was required when the node was asked, and what the caller has seen
before. The primary is asked first; if it does not answer soon, another node is asked as well, and the first
answer that includes enough is the answer. If there is none in time the question fails closed: no wrong answer
is given, and what is missing is named.

A question is asked at the end of the turn of the reactor in which it began; until then others may join it.

Pure: `dcounter.coordinator.asking` does the sending. What holds, after each call:

- an exact answer is complete only if it includes all that was required when that node was asked, and no
  member was unheard of then;
- a question ends once.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from dcounter.coordinator.view import View
from dcounter.errors import Incomplete, Refusal
from dcounter.limits import Limits
from dcounter.protocol import messages
from dcounter.protocol.batch import RequestId
from dcounter.protocol.position import LostRun, NodeId, Position, Stamp
from dcounter.store import Consistency


class NodeAnswer(Protocol):
    """
    What a node answers, whatever the question.
    """

    @property
    def complete(self) -> bool:
        """
        Whether it includes all that was required.
        """
        ...

    @property
    def position(self) -> Position:
        """
        What it includes.
        """
        ...

    @property
    def stamp(self) -> Stamp:
        """
        The largest stamp that the node has heard of.
        """
        ...


A = TypeVar("A", bound=NodeAnswer)


class Caller(Protocol):
    """
    What waits for an answer; a `Deferred` is one.
    """

    def callback(self, result: Any, /) -> None:
        """
        There is an answer.
        """

    def errback(self, fail: Refusal, /) -> None:
        """
        There is none.
        """


class UnderWay(Protocol):
    """
    An answer that a node has yet to give; a `Deferred` is one.
    """

    def cancel(self) -> None:
        """
        The node need not give it.
        """


@dataclass(slots=True, eq=False)
class Question(ABC, Generic[A]):
    """
    A question under way, of one or several callers.

    :cvar feature: what a node must be able to do to be asked; empty if every node can.
    :ivar extra: what the answer must include besides what is required of all.
    :ivar until: when (s) there must be an answer.
    :ivar asked_at: when (s) a node was asked last.
    :ivar tried: nodes that were asked.
    :ivar outstanding: nodes that have yet to answer.
    :ivar under_way: the answers that nodes have yet to give.
    :ivar declined: why a node gave no answer; empty if none did so.
    :ivar best: the best answer that was not good enough.
    :ivar told_by: the node that gave the answer which the callers are told, or the best one.
    :ivar callers: those that wait for the answer.
    """

    feature: ClassVar[str] = ""
    consistency: Consistency
    extra: Position
    until: float
    asked_at: float = float("-inf")
    tried: set[NodeId] = field(default_factory=set)
    outstanding: int = 0
    under_way: list[UnderWay] = field(default_factory=list)
    declined: str = ""
    best: A | None = None
    told_by: NodeId | None = None
    callers: list[Caller] = field(default_factory=list)

    @property
    def requires_more(self) -> bool:
        """
        Whether an answer must include something that the node may not have yet.
        """
        return self.consistency != "eventual" or bool(self.extra.nodes)

    @abstractmethod
    def message(self, number: RequestId, required: Position, wait: int) -> messages.Request:
        """
        What a node is sent.

        :param required: what its answer must include.
        :param wait: how long (ms) it may wait until it has that.
        """

    @abstractmethod
    def tell(self, answer: A, token: str, missing: Sequence[NodeId], *, complete: bool) -> None:
        """
        Give the callers their answer.

        :param token: its position, sealed.
        :param missing: nodes whose items it does not account for.
        """

    def is_answer(self, answer: A) -> bool:
        """
        Whether a caller that takes what is not exact can be told this.
        """
        return True

    def why_declined(self, answer: A) -> str:
        """
        Why the node gave no answer, while others may; empty if it gave one.
        """
        return ""

    def counter_so_far(self, i: int) -> int | None:
        """
        What the best answer says to a caller that asked for a number; `None` if there is no such thing.
        """
        return None

    def refuse(self, refusal: Refusal) -> None:
        """
        Tell the callers that there is no answer.
        """
        for caller in self.callers:
            caller.errback(refusal)

    def refuse_incomplete(self, why: str, missing: Sequence[NodeId]) -> None:
        """
        Tell the callers that no node could answer exactly in time.

        :param missing: nodes whose items are not accounted for.
        """
        for i, caller in enumerate(self.callers):
            so_far = self.counter_so_far(i)
            caller.errback(Incomplete(why, counter_so_far=so_far, missing=missing, retry_after=1))


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    A node that can be asked.

    :ivar required: what its answer must include.
    :ivar wait: how long (ms) it may wait until it has that.
    :ivar unaccounted: whether members are unheard of now: what holds when the answer comes says nothing about
        what was required of it.
    """

    node: NodeId
    required: Position
    wait: int
    unaccounted: bool


Verdict = Literal["complete", "incomplete", "ask", "wait"]
"""
What an answer means: it is the answer; it is one that says that it is not complete; another node must be
asked; others have yet to answer, or the question has ended before.
"""


class Reads:
    """
    The questions under way at a coordinator.

    :param view: its picture of the nodes.
    """

    def __init__(self, view: View, limits: Limits) -> None:
        self._view = view
        self._limits = limits
        self._open: dict[Question[Any], None] = {}
        self._unasked: dict[Question[Any], None] = {}

    @property
    def open(self) -> list[Question[Any]]:
        """
        Those that have not ended, oldest first.
        """
        return list(self._open)

    @property
    def begun(self) -> list[Question[Any]]:
        """
        Those that have not ended and began in an earlier turn of the reactor, oldest first.
        """
        return [question for question in self._open if question not in self._unasked]

    def until(self, now: float) -> float:
        """
        When (s) a question that comes now must be answered.
        """
        return now + self._limits.read_wait_s

    def begin(self, question: Question[Any]) -> None:
        """
        A question comes; it waits for the end of this turn.
        """
        self._open[question] = None
        self._unasked[question] = None

    def take_unasked(self) -> list[Question[Any]]:
        """
        The turn ends: the questions that are to be asked now, in their order.
        """
        unasked, self._unasked = self._unasked, {}
        return list(unasked)

    def end(self, question: Question[Any]) -> None:
        """
        It is answered, or failed.
        """
        self._open.pop(question, None)
        self._unasked.pop(question, None)

    # Asking

    def attempts(self, question: Question[Any], now: float) -> Iterator[Attempt]:
        """
        The nodes to ask that were not asked yet, best first; each counts as asked when it is given.
        """
        required = question.extra
        if question.consistency != "eventual":
            required = self._view.required.join(required)
        unaccounted = bool(self._view.unaccounted())
        # The node's own answer, however little it has, is to be here before the time is over.
        left = max(0, int((question.until - now - self._limits.heartbeat_s) * 1000))
        wait = left if question.requires_more else 0
        self._view.elect()
        for node in self._view.candidates(required):
            if node not in question.tried:
                question.tried.add(node)
                yield Attempt(node, required, wait, unaccounted)

    def sent(self, question: Question[Any], now: float) -> None:
        """
        A node was asked.
        """
        question.asked_at = now
        question.outstanding += 1

    def answered(self, question: Question[Any], answer: NodeAnswer, attempt: Attempt) -> Verdict:
        """
        A node answered.
        """
        question.outstanding -= 1
        self._view.answered(attempt.node, answer.position)
        if question not in self._open:
            return "wait"
        declined = question.why_declined(answer)
        if declined:
            question.declined = declined
            return "ask" if question.outstanding == 0 else "wait"
        enough = answer.complete and (question.consistency == "eventual" or not attempt.unaccounted)
        if not question.requires_more or enough:
            question.told_by = attempt.node
            return "complete"
        best = question.best
        if question.is_answer(answer) and (best is None or answer.position.covers(best.position)):
            question.best = answer
            question.told_by = attempt.node
        if question.consistency == "available" and attempt.unaccounted:
            question.told_by = attempt.node
            return "incomplete"
        return "ask" if question.outstanding == 0 else "wait"

    def node_gone(self, question: Question[Any]) -> Verdict:
        """
        A node that was asked is gone.
        """
        question.outstanding -= 1
        return "ask" if question in self._open and question.outstanding == 0 else "wait"

    def late(self, question: Question[Any], now: float) -> Literal["ask", "expired", "wait"]:
        """
        What to do about a question that has not been answered yet.
        """
        if now >= question.until:
            return "expired"
        if question.outstanding == 0:
            if question.best is None or not self._view.unaccounted():
                # The same ones again.
                question.tried.clear()
                return "ask"
            return "wait"
        return "ask" if now - question.asked_at >= self._limits.hedge_after_s else "wait"

    # Failing

    def lost_of(self, question: Question[Any], now: float) -> list[LostRun]:
        """
        What the caller has seen and no member has any more.
        """
        # Reports that are long on their way may be older than the position.
        newer = question.until - self._limits.read_wait_s / 2
        return self._view.lost_of(question.extra, now, since=newer)

    def missing(self, question: Question[Any]) -> list[NodeId]:
        """
        Nodes whose items are not accounted for.
        """
        return self._view.missing(self._view.required.join(question.extra))
