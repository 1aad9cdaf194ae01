"""
The machines of one node, without the replica that connects them.
"""

from dcounter.limits import Limits
from dcounter.node.answers import Answers
from dcounter.node.backlog import Backlog
from dcounter.node.catch_up import CatchUp
from dcounter.node.channels import Channels
from dcounter.node.contents import Contents
from dcounter.node.durability import Durability
from dcounter.node.effects import Effect, Outbox, Send
from dcounter.node.empty_journal import EmptyJournal
from dcounter.node.members import Members
from dcounter.node.own_run import OwnRun
from dcounter.node.receipts import Receipts
from dcounter.node.runs import Runs
from dcounter.node.status import Status
from dcounter.protocol import codec, messages
from dcounter.protocol.handshake import Peer
from dcounter.protocol.position import Position

WALL = 1_000


class Machines:
    """
    Node 0 of three, which has no journal to take in and has heard from nobody.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.out = Outbox()
        self.contents = Contents(Backlog(self.limits.backlog_bytes), Runs(self.limits.unfolded_runs), 0)
        self.durability = Durability(0, self.out, self.limits.backlog_bytes)
        self.members = Members(0, range(3), self.out)
        self.empty_journal = EmptyJournal(self.members, self.out)
        self.catch_up = CatchUp(self.out, self.limits.suspicion_s)
        self.channels = Channels(self.out, self.limits)
        self.own = OwnRun(0, self.out, lambda: WALL, 0)
        self.status = Status(
            0,
            7,
            self.contents,
            self.durability,
            self.members,
            self.empty_journal,
            self.own,
            self.limits.unfolded_runs,
        )
        self.answers = Answers(
            self.out, self.contents, self.durability, self.members, self.catch_up, self.limits
        )
        self.receipts = Receipts(self.contents, self.durability, self.answers, self.status, self.limits)

    def hears(self, *reports: messages.Report) -> None:
        for each in reports:
            self.members.on_report(each)

    def coordinator(self, channel: int) -> None:
        self.channels.connected(channel, Peer("coordinator", None), calls=False, now=0)

    def effects(self) -> list[Effect]:
        return self.out.take()

    def sent(self) -> list[tuple[int, messages.Message]]:
        """
        What was sent since this was called last; nothing else was to happen.
        """
        effects = self.out.take()
        assert all(isinstance(each, Send) for each in effects)
        return [(each.channel, codec.decode(each.line)) for each in effects if isinstance(each, Send)]


def has(*runs: tuple[int, int, int]) -> Position:
    """
    A position, from node, run and number of each run.
    """
    position = Position()
    for node, run, number in runs:
        position = position.advance(node, run, number)
    return position


def report(node: int, applied: Position | None = None, durable: Position | None = None) -> messages.Report:
    applied = applied or Position()
    return messages.Report(node, 8090 + node, 0, 0, applied, durable or applied, 0, 0, 0)
