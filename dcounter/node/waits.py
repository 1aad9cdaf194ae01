"""
Questions that wait until this node has what they require.

Each is answered once: when it can be, or when its time is over, unless the coordinator has left before.
(etcd's raft keeps reads that wait for an index in the same way, in its `readOnly`.)
"""

from collections.abc import Callable
from dataclasses import dataclass

from dcounter.protocol import messages, questions

Question = messages.Count | questions.Ask | messages.Await


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    A question that waits.

    :ivar channel: where it came from.
    :ivar until: when (s) it waits no longer.
    """

    channel: int
    question: Question
    until: float


class Waits:
    """
    The questions that wait at a node.

    :param most: how many may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[Waiting] = []

    @property
    def full(self) -> bool:
        """
        Whether no more may wait.
        """
        return len(self._waiting) >= self._most

    @property
    def for_durability(self) -> bool:
        """
        Whether a question waits for the disk.
        """
        return any(isinstance(each.question, messages.Await) for each in self._waiting)

    def add(self, channel: int, question: Question, until: float) -> None:
        """
        Let a question wait.
        """
        self._waiting.append(Waiting(channel, question, until))

    def drop(self, channel: int) -> None:
        """
        The coordinator on a channel has left.
        """
        self._waiting = [each for each in self._waiting if each.channel != channel]

    def take_withdrawn(self, channel: int, request: int) -> list[Waiting]:
        """
        Those for which nobody waits any more; they wait no longer, either.
        """
        return self._take(lambda each: each.channel == channel and each.question.request == request)

    def take_ready(self, can_answer: Callable[[Question], bool]) -> list[Waiting]:
        """
        Those that can be answered now, oldest first; they wait no longer.
        """
        return self._take(lambda each: can_answer(each.question))

    def take_expired(self, now: float) -> list[Waiting]:
        """
        Those whose time is over, oldest first; they wait no longer.
        """
        return self._take(lambda each: each.until <= now)

    def _take(self, over: Callable[[Waiting], bool]) -> list[Waiting]:
        taken: list[Waiting] = []
        left: list[Waiting] = []
        for each in self._waiting:
            (taken if over(each) else left).append(each)
        self._waiting = left
        return taken
