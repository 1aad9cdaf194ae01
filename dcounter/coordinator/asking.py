"""
Sends questions to nodes, and gives their answers to the callers.

What to do when is decided by `dcounter.coordinator.reads`; what is sent and told, by each kind of question.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.coordinator.reads import Attempt, NodeAnswer, Question, Reads
from dcounter.coordinator.view import View
from dcounter.errors import InvalidPosition, LinkLost, NotSupportedHere, PositionLost
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol.clock import HybridClock
from dcounter.protocol.position import LostRun, NodeId, Position
from dcounter.protocol.token import TokenSeal

_log = Logger()


class Asking:
    """
    The questions of a coordinator.

    :param links: node -> the link to it; removed members are deleted from it.
    :param view: the coordinator's picture of the nodes.
    :param clock: the coordinator's clock, moved past every stamp that a node has heard of.
    :param seal: makes tokens of the positions that answers include.
    :param flush_soon: asks for `flush` at the end of this turn of the reactor.
    :ivar retries: how often a question was asked again.
    """

    def __init__(
        self,
        links: Mapping[NodeId, NodeLink],
        view: View,
        *,
        clock: HybridClock,
        seal: TokenSeal,
        limits: Limits,
        time: IReactorTime,
        flush_soon: Callable[[], None],
    ) -> None:
        self._links = links
        self._view = view
        self._clock = clock
        self._seal = seal
        self._limits = limits
        self._time = time
        self._flush_soon = flush_soon
        self._reads = Reads(view, limits)
        self.retries = 0

    @property
    def busy(self) -> bool:
        """
        Whether a question has not ended.
        """
        return bool(self._reads.open)

    @property
    def open(self) -> int:
        """
        How many questions have not ended.
        """
        return len(self._reads.open)

    def until(self) -> float:
        """
        When (s) a question that begins now must be answered.
        """
        return self._reads.until(self._time.seconds())

    def begin(self, question: Question[Any]) -> None:
        """
        Ask a question at the end of this turn.
        """
        self._reads.begin(question)
        self._flush_soon()

    def flush(self) -> None:
        """
        The turn ends: ask what came in it.
        """
        for question in self._reads.take_unasked():
            self._ask(question)

    def tick(self, now: float) -> None:
        """
        Time has passed: slow nodes, deadlines.
        """
        # Others may join what this turn has not asked yet: a caller whose answer was due asked at once.
        for question in self._reads.begun:
            match self._reads.late(question, now):
                case "expired":
                    self.expire(question)
                case "ask":
                    self._ask(question)
                case "wait":
                    pass

    def stop(self) -> None:
        """
        Answer all callers now.
        """
        for question in self._reads.open:
            self.expire(question)

    def _ask(self, question: Question[Any]) -> None:
        """
        Ask the best node that was not asked yet, if there is one.
        """
        now = self._time.seconds()
        for attempt in self._reads.attempts(question, now):
            link = self._links[attempt.node]
            if question.feature and question.feature not in link.peer.features:
                continue
            make = partial(question.message, required=attempt.required, wait=attempt.wait)
            try:
                answer = link.ask(make)
            except LinkLost:
                continue
            self.retries += question.asked_at > float("-inf")
            self._reads.sent(question, now)
            if question.feature:
                question.under_way.append(answer)
            answer.addCallback(self._answered, question, attempt)
            answer.addErrback(self._not_answered, question)
            answer.addErrback(lambda why: _log.failure("a question was not answered", why))
            return
        declined = question.declined and not question.outstanding
        if declined or len(self._unable(question)) == len(self._links):
            self.expire(question)

    def _unable(self, question: Question[Any]) -> list[NodeId]:
        """
        The nodes that could be asked, if none of them can answer; they are of an older release.
        """
        readers = self._view.readers() if question.feature else []
        able = any(question.feature in self._links[node].peer.features for node in readers)
        return [] if able else readers

    def _answered(self, answer: NodeAnswer, question: Question[Any], attempt: Attempt) -> None:
        self._clock.observe(answer.stamp)
        match self._reads.answered(question, answer, attempt):
            case "complete":
                self._finish(question, answer, complete=True)
            case "incomplete":
                self._finish(question, answer, complete=False)
            case "ask":
                self._ask(question)
            case "wait":
                pass

    def _not_answered(self, why: Failure, question: Question[Any]) -> None:
        why.trap(LinkLost, CancelledError)
        if self._reads.node_gone(question) == "ask":
            self._ask(question)

    def withdraw(self, question: Question[Any]) -> None:
        """
        End a question: its callers have left, or have their answer. Nodes need not answer it any more.
        """
        self._reads.end(question)
        for answer in question.under_way:
            answer.cancel()

    def _finish(self, question: Question[Any], answer: NodeAnswer, *, complete: bool) -> None:
        self.withdraw(question)
        if answer.complete:
            # A later answer must not go back behind what this one told.
            self._view.require(answer.position)
        token = self._seal.seal(answer.position, self._clock.last)
        missing = [] if complete else self._reads.missing(question)
        question.tell(answer, token, missing, complete=complete)

    def expire(self, question: Question[Any]) -> None:
        """
        The time of a question is over, whether it has begun or not.
        """
        best = question.best
        if question.consistency == "available" and best is not None:
            self._finish(question, best, complete=False)
            return
        self.withdraw(question)
        lost = self._reads.lost_of(question, self._time.seconds())
        if lost:
            question.refuse(_position_lost(lost))
            return
        unable = self._unable(question)
        if unable:
            question.refuse(
                NotSupportedHere(
                    f"nodes {unable} run a release of dcounter that cannot answer this: upgrade them"
                )
            )
            return
        missing = self._reads.missing(question)
        why = question.declined or "none has answered"
        if best is not None:
            why = "some items are not accounted for"
        if missing:
            why = f"the items of nodes {missing} are not accounted for"
        question.refuse_incomplete(
            f"no node could answer exactly within {self._limits.read_wait_s:g} s: {why}", missing
        )

    def move_past(self, token: str | None) -> Position:
        """
        Read a caller's token, and move the clock past it.
        """
        position, stamp = self.read_token(token)
        # What this clock is past already cannot move it.
        if stamp > self._clock.last:
            if stamp > self._clock.latest_allowed():
                raise InvalidPosition(
                    "the position is from a clock that is ahead of this one by more than 10 s"
                )
            self._clock.observe(stamp)
        return position

    def read_token(self, token: str | None) -> tuple[Position, int]:
        """
        Read a caller's token: its position and its stamp.
        """
        if token is None:
            return Position(), 0
        try:
            position, stamp = self._seal.open(token)
        except ValueError as error:
            raise InvalidPosition(
                "the position was not given out by this cluster, or its secret was replaced since "
                f"({error}): ask again without it"
            ) from error
        now = self._time.seconds()
        lost = self._view.lost_of(position, now, since=now)
        if lost:
            raise _position_lost(lost)
        return position, stamp


def _position_lost(lost: Sequence[LostRun]) -> PositionLost:
    """
    What a caller is told that has seen what is lost now.
    """
    return PositionLost(f"the position names items of node {lost[0].node} that no member has any more")
