"""
What a node does to the world outside.

A replica gives effects, and the service around it performs them in order.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dcounter.journal.framing import JournalEntry
from dcounter.protocol import codec, messages

Level = Literal["info", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Send:
    """
    Write a line to a channel.
    """

    channel: int
    line: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """
    Write a line to the journal, and call `synced` when it is durable, `failed` when it is not.

    :ivar waits: whether a request waits for it.
    """

    entry: JournalEntry
    waits: bool


@dataclass(frozen=True, slots=True)
class FlushJournal:
    """
    Write the lines that were appended without delay: a request waits for them now.
    """


@dataclass(frozen=True, slots=True)
class StreamReady:
    """
    There is something to stream: call `stream` whenever the channel takes more, until it gives nothing.
    """

    channel: int


@dataclass(frozen=True, slots=True)
class StepsLeft:
    """
    Answers are being computed in steps: call `inquiries.step` in the next turn of the reactor.
    """


@dataclass(frozen=True, slots=True)
class CloseChannel:
    """
    Close a channel.
    """

    channel: int
    reason: str


@dataclass(frozen=True, slots=True)
class LogMessage:
    """
    Tell the operator.
    """

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    Take a snapshot now: the ledger has what no line of the journal is certain to keep.
    """


@dataclass(frozen=True, slots=True)
class StopFollowing:
    """
    Stop following a node, and looking for it: it was removed.
    """

    node: int


Effect = (
    Send
    | Append
    | FlushJournal
    | StreamReady
    | StepsLeft
    | CloseChannel
    | LogMessage
    | Snapshot
    | StopFollowing
)


class Outbox:
    """
    Collects effects until the service takes them.

    The parts of a replica get this, and never the replica.
    """

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def add(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, channel: int, message: messages.Message) -> None:
        """
        Send a message to a channel.
        """
        self.add(Send(channel, codec.encode(message)))

    def broadcast(self, channels: Iterable[int], message: messages.Message) -> None:
        """
        Send a message, which is encoded once, to many channels.
        """
        line = codec.encode(message)
        for channel in channels:
            self.add(Send(channel, line))

    def say(self, level: Level, text: str) -> None:
        """
        Tell the operator.
        """
        self.add(LogMessage(level, text))

    def take(self) -> list[Effect]:
        """
        All effects since this was called last, in their order.
        """
        effects, self._effects = self._effects, []
        return effects
