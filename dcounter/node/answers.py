"""
Answers to the questions of coordinators: counts, whether something is durable here, and all others.

What holds, after each call:

- each question is answered exactly once, or is one of those that wait, unless its channel is gone;
- an answer is called exact only if the ledger holds exactly what `applied` covers, and that covers what is
  required.
"""

from dcounter.limits import Limits
from dcounter.node.catch_up import CatchUp
from dcounter.node.contents import Contents
from dcounter.node.durability import Durability
from dcounter.node.effects import FlushJournal, Outbox
from dcounter.node.inquiries import Inquiries
from dcounter.node.members import Members
from dcounter.node.waits import Question, Waits
from dcounter.node.watching import Watching
from dcounter.protocol import messages, questions
from dcounter.protocol.position import Position
from dcounter.protocol.watching import Watch


def wanted(question: Question | Watch) -> Position:
    """
    The position that a question requires.
    """
    return question.position if isinstance(question, messages.Await) else question.required


class Answers:
    """
    What one node answers to coordinators.

    :param limits: bound how many questions may wait, and for how long.
    :ivar inquiries: the questions whose answers are being computed.
    :ivar watching: tells whose counts change.
    """

    def __init__(
        self,
        out: Outbox,
        contents: Contents,
        durability: Durability,
        members: Members,
        catch_up: CatchUp,
        limits: Limits,
    ) -> None:
        self._out = out
        self._contents = contents
        self._durability = durability
        self._members = members
        self._catch_up = catch_up
        self._waits = Waits(limits.waits)
        self._patience = limits.read_wait_s
        self.inquiries = Inquiries(
            out,
            contents,
            includes=self._can_answer,
            position=self._position,
            most=limits.slice_bytes,
            at_once=limits.questions,
            room=limits.audit_bytes,
        )
        self.watching = Watching(out, contents, includes=self.include, position=self._position, limits=limits)

    @property
    def exact(self) -> bool:
        """
        Whether the ledger holds exactly what `applied` covers.
        """
        mine = self._contents
        unfinished = mine.loading or self._durability.in_doubt or mine.behind
        return not unfinished and mine.applied.covers(self._catch_up.must_reach)

    def include(self, required: Position) -> bool:
        """
        Whether the ledger holds exactly what `applied` covers, and that covers what is required.
        """
        return self.exact and self._covers(self._contents.applied, required)

    @property
    def for_durability(self) -> bool:
        """
        Whether a question waits for the disk.
        """
        return self._waits.for_durability

    def take(self, channel: int, question: Question | Watch, now: float) -> None:
        """
        Answer a question, now or when it can be.
        """
        if isinstance(question, Watch):
            self.watching.take(channel, question, now)
            return
        able = self._can_answer(question)
        if question.wait == 0 or self._waits.full or able:
            self._answer(channel, question, now, able=able)
        else:
            self._waits.add(channel, question, now + question.wait / 1000)
            if isinstance(question, messages.Await):
                self._out.add(FlushJournal())

    def begin_again(self) -> None:
        """
        There is another ledger.
        """
        self.inquiries.begin_again()
        self.watching.begin_again()

    def answer_ready(self) -> None:
        """
        Something was applied or became durable: waits may be over.
        """
        for each in self._waits.take_ready(self._can_answer):
            self._answer(each.channel, each.question, each.until, able=True)

    def tick(self, now: float) -> None:
        """
        Time has passed: some questions wait no longer, and watchers are told what has changed.
        """
        self.watching.tick(now)
        for each in self._waits.take_expired(now):
            self._answer(each.channel, each.question, now, able=self._can_answer(each.question))
        self.inquiries.audits.tick(now)

    def withdraw(self, channel: int, request: int) -> None:
        """
        Nobody waits for the answer to a question any more.
        """
        for each in self._waits.take_withdrawn(channel, request):
            if isinstance(each.question, questions.Ask):
                self.inquiries.decline(channel, each.question, "late")
        self.inquiries.withdraw(channel, request)

    def disconnected(self, channel: int) -> None:
        """
        A connection is gone, and its questions with it.
        """
        self._waits.drop(channel)
        self.inquiries.disconnected(channel)
        self.watching.disconnected(channel)

    def awaited(self, channel: int, request: int, *, reached: bool) -> None:
        """
        Answer that something is durable here, or is not.
        """
        position = self._members.vouched_for(self._durability.durable)
        self._out.send(channel, messages.Awaited(request, reached, position, self._contents.stamp))

    def _can_answer(self, question: Question) -> bool:
        if isinstance(question, messages.Await):
            return self._covers(self._members.vouched_for(self._durability.durable), question.position)
        return self.include(question.required)

    def _covers(self, mine: Position, required: Position) -> bool:
        """
        Whether we have all that is required; what was lost before its runs were folded, no node has.
        """
        return mine.covers(required) and not self._contents.runs.names_lost(required)

    def _answer(self, channel: int, question: Question, now: float, *, able: bool) -> None:
        """
        :param now: when (s) it is, at the earliest.
        """
        if isinstance(question, messages.Await):
            self.awaited(channel, question.request, reached=able)
            return
        if isinstance(question, questions.Ask):
            self.inquiries.begin(channel, question, now + self._patience)
            return
        counts = [self._contents.ledger.count(tenant) for tenant in question.tenants]
        position, stamp = self._position(), self._contents.stamp
        self._out.send(channel, messages.Counted(question.request, counts, able, position, stamp))

    def _position(self) -> Position:
        """
        What an answer that is made now includes.
        """
        return self._durability.announced(self._contents.applied)
