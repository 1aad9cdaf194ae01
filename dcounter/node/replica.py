"""
One node's behaviour, without sockets, files or clocks: messages in, effects out.

A node is the origin of its own log and a follower of all others. What makes replication safe without
a vote is that the ledger is merged (`dcounter.ledger.ledger`) and that positions
(`dcounter.protocol.position`) say exactly what a copy holds: a batch is journalled, then applied, then
answered and offered to the followers, each of whom accepts only the next number.

`dcounter.node.service` performs the effects, tells what became durable (`synced`), lets time pass (`tick`).
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import assert_never

from dcounter.errors import MalformedMessage
from dcounter.ledger.ledger import Ledger
from dcounter.limits import Limits
from dcounter.node.answers import Answers, wanted
from dcounter.node.backlog import Backlog
from dcounter.node.catch_up import CatchUp, CopyMessage
from dcounter.node.channels import Channels, ToNode
from dcounter.node.compaction import Compaction
from dcounter.node.contents import Contents
from dcounter.node.durability import Agreement, Durability, Followed, Own, Pending, PlainLine, Removal
from dcounter.node.effects import Effect, Outbox
from dcounter.node.empty_journal import EmptyJournal
from dcounter.node.figures import Figures
from dcounter.node.folding import Folding
from dcounter.node.following import Following, RelayFacts
from dcounter.node.ledger_copies import LedgerCopies
from dcounter.node.members import Members
from dcounter.node.own_batches import OwnBatches
from dcounter.node.own_run import OwnRun
from dcounter.node.receipts import Receipts
from dcounter.node.removing import Removing
from dcounter.node.restoring import Restoring
from dcounter.node.runs import Runs
from dcounter.node.status import Status
from dcounter.protocol import codec, compaction, copies, messages, questions, scraping, watching
from dcounter.protocol.batch import decode_batch
from dcounter.protocol.handshake import Peer
from dcounter.protocol.messages import Record, Report
from dcounter.protocol.position import Position


class Replica:
    """
    The state of one node.

    :param node: its id.
    :param members: ids of all nodes.
    :param wall: the wall clock (ns since 1970), for the numbers of runs.
    :param pid: the id of the node's process.
    :param seed: 64 random bits, other ones in each process: for the ledger's hash table
        (`dcounter.ledger.id_table`), and so that no run has the number of another one.
    :param contents: makes what the node has in memory.
    :ivar contents: what the node has in memory.
    :ivar members: the members of the cluster.
    :ivar empty_journal: what it means if the node found its journal empty.
    :ivar status: what it says of itself.
    :ivar restoring: takes in what the journal kept, before `begin`.
    :ivar catch_up: the copies of a ledger that it takes.
    :ivar inquiries: the questions whose answers it is computing.
    :ivar copies: the copies of its ledger that it gives, snapshots among them.
    :ivar figures: what it counts and measures about itself.
    """

    def __init__(
        self,
        node: int,
        members: Collection[int],
        *,
        wall: Callable[[], int],
        limits: Limits,
        pid: int = 0,
        seed: int = 0,
        contents: Callable[[Backlog, Runs, int], Contents] = Contents,
    ) -> None:
        self.node = node
        self._limits = limits
        self._out = out = Outbox()
        backlog = Backlog(limits.backlog_bytes)
        self.contents = contents(backlog, Runs(limits.unfolded_runs), seed)
        self.members = Members(node, members, out)
        self.empty_journal = EmptyJournal(self.members, out)
        self._own = OwnRun(node, out, wall, seed)
        self._durability = Durability(node, out, limits.backlog_bytes)
        self.catch_up = CatchUp(out, limits.suspicion_s)
        self._channels = Channels(out, limits)
        self._following = Following(node, out, backlog, limits.stream_bytes)
        state = (self.contents, self._durability, self.members)
        self.compaction = Compaction(out, *state, self.catch_up, self._append)
        self.restoring = Restoring(node, *state, self.empty_journal, self.catch_up)
        self.copies = LedgerCopies(out, *state, self.empty_journal, self.catch_up, limits)
        self._answers = Answers(out, *state, self.catch_up, limits)
        self.inquiries = self._answers.inquiries
        self._folding = Folding(*state)
        self.status = Status(node, pid, *state, self.empty_journal, self._own, limits.unfolded_runs)
        self._receipts = Receipts(self.contents, self._durability, self._answers, self.status, limits)
        self.figures = Figures(node, out, self.contents, self.members, self.status, self._channels)
        own = (self.members, self.empty_journal, self._own, self.status, self._channels, self._receipts)
        self._own_batches = OwnBatches(node, out, self.contents, *own)
        links = (self._following, self._channels, self._answers)
        calls = (self._append, self._broadcast, self._decide_empty_journal)
        self._removing = Removing(node, out, self._durability, self.members, *links, *calls)
        self._last_beat = float("-inf")

    @property
    def ledger(self) -> Ledger:
        """
        The items.
        """
        return self.contents.ledger

    @property
    def applied(self) -> Position:
        """
        What the ledger holds.
        """
        return self.contents.applied

    @property
    def durable(self) -> Position:
        """
        What is on the disk for certain, see `Durability`.
        """
        return self._durability.durable

    @property
    def run(self) -> int:
        """
        The open run of this node; 0 while none is open.
        """
        return self._own.run

    def report(self) -> Report:
        """
        How the node is.
        """
        return self.status.report()

    # Connections

    def connected(self, channel: int, peer: Peer, *, calls: bool, now: float) -> list[Effect]:
        """
        A connection passed its handshake.

        :param channel: any number above those used before.
        :param calls: whether this node made the connection.
        """
        self._channels.connected(channel, peer, calls=calls, now=now)
        self._following.connected(channel, peer.node, calls=calls)
        if calls and peer.node is not None and self.members.let_in_by(peer.node):
            self._answer_and_offer()
        self._out.send(channel, self.report())
        return self._out.take()

    def disconnected(self, channel: int) -> list[Effect]:
        """
        A connection is gone.
        """
        self._channels.disconnected(channel)
        self._answers.disconnected(channel)
        self._receipts.disconnected(channel)
        self._following.disconnected(channel)
        self.copies.disconnected(channel)
        self.catch_up.disconnected(channel)
        self._choose_relays()
        return self._out.take()

    def refused_by(self, peer: int, reason: str) -> list[Effect]:
        """
        A peer does not let this node in, since another process holds its id: until it does, take no writes.
        """
        if self.members.refused_by(peer, reason):
            self._broadcast()
        return self._out.take()

    def outcast(self) -> bool:
        """
        Whether peers refuse this process for another one, and none lets it in: then it serves no requests.
        """
        return bool(self.members.refusing) and not self._channels.any_calls

    def removed_by(self, peer: int) -> list[Effect]:
        """
        A peer does not let this node in, since it was removed from the cluster.
        """
        text = f"this node was removed from the cluster, node {peer} says: stop it for good"
        if self.members.remove_self(text):
            self._broadcast()
        return self._out.take()

    def receive(self, channel: int, message: ToNode, line: bytes, now: float) -> list[Effect]:
        """
        A message arrived.

        :param line: the same as it came: what is handed on keeps what this version does not know of it.
        :raises MalformedMessage: it has no business here; the channel must be closed.
        """
        if channel not in self._channels:
            return []
        self._channels.heard(channel, now)
        match message:
            case messages.Store():
                if message.receipt is not None:
                    self._folding.adopt(message.receipt.required)
                if not self._receipts.hold_back(channel, message, now):
                    self._store([(channel, message)])
            case messages.Count() | questions.Ask() | messages.Await() | watching.Watch():
                self._folding.adopt(wanted(message))
                self._answers.take(channel, message, now)
            case questions.Withdraw():
                self._answers.withdraw(channel, message.request)
            case Record():
                self._follow_record(channel, message, line)
            case Report():
                self._on_report(channel, message)
            case messages.Remove():
                self._removing.remove({message.node}, channel, message.request)
            case compaction.SetFloor() | compaction.Compact():
                self.compaction.asked(channel, message)
            case scraping.Scrape():
                self.figures.tell(channel, message.request, now)
            case messages.Beat():
                self.contents.observe(message.stamp)
            case messages.Follow():
                self._following.start(channel, message, self.applied)
            case messages.Unfollow():
                self._following.stop(channel, message.node)
            case messages.Gap():
                self.catch_up.want()
                self.catch_up.ask(channel, able=self._channels.gives_copies(channel))
            case copies.Copy():
                self.copies.asked(channel)
            case copies.CopyBegin() | copies.CopyChunk() | copies.CopyEnd():
                self._take_copy(channel, message, line)
            case _:
                assert_never(message)
        return self._out.take()

    def stream(self, channel: int) -> list[bytes]:
        """
        Lines to write to a channel next; none if it has all for now.
        """
        if channel not in self._channels:
            return []
        line = self.copies.next_line(channel)
        if line is not None:
            return [line]
        return self._following.next_lines(channel, self._durability.announced(self.applied))

    # The journal

    def begin(self) -> list[Effect]:
        """
        All that the journal kept is restored, and it takes lines.
        """
        if self.empty_journal.begin():
            self._keep_journal_state()
        return self._out.take()

    def loaded(self) -> list[Effect]:
        """
        All that the journal kept is in the ledger.
        """
        if self.restoring.loaded():
            self._ledger_completed()
        return self._out.take()

    def synced(self, lines: Sequence[Pending]) -> list[Effect]:
        """
        Lines are durable: the oldest of those that were appended.
        """
        for line in lines:
            if isinstance(line, Own):
                self._own_batches.stored(line)
                if self.empty_journal.opened_run():
                    self._keep_journal_state()
            elif isinstance(line, Removal) and line.request:
                self._answers.awaited(line.channel, line.request, reached=True)
            elif isinstance(line, Agreement):
                self.compaction.kept(line, durable=True)
            self._durability.synced(line)
        self._answer_and_offer()
        return self._out.take()

    def failed(self, lines: Sequence[Pending], reason: str) -> list[Effect]:
        """
        Lines that were appended are not durable, and none will be until `mended`.

        Of our own batches nothing was applied or offered: they are refused, and the run ends before them.
        What others have journalled is counted all the same, and journalled later.
        """
        for line in lines:
            if isinstance(line, Own):
                self._own_batches.failed(line, f"the disk failed: {reason}")
            elif isinstance(line, Removal) and line.request:
                self._answers.awaited(line.channel, line.request, reached=False)
            elif isinstance(line, Agreement):
                self.compaction.kept(line, durable=False)
        if self._durability.failed(lines, reason, self.applied):
            self.catch_up.lines_dropped()
        self._own.close()
        self._broadcast()
        return self._out.take()

    def mended(self) -> list[Effect]:
        """
        The journal takes lines again.
        """
        for line in self._durability.mended(snapshot=not self.contents.loading):
            self._append(line)
        if self._durability.settle_doubt(self.members.known, self.applied):
            self._ledger_completed()
        self._broadcast()
        return self._out.take()

    def doubted(self) -> list[Effect]:
        """
        What was restored can be read, but may not be on the disk: a sync may have failed before.

        Until the disk keeps it or another node has it, this node neither counts nor hands it on.
        """
        self._durability.doubted(self.applied)
        return self._out.take()

    def snapshot_kept(self) -> list[Effect]:
        """
        The snapshot is durable.
        """
        self._durability.snapshot_kept()
        self._answer_and_offer()
        return self._out.take()

    # Time, and what the service does

    def tick(self, now: float) -> list[Effect]:
        """
        Time has passed: heartbeats, silent channels, waits that are over.
        """
        self._channels.check(now, outcast=self.outcast())
        if now - self._last_beat >= self._limits.heartbeat_s:
            self._last_beat = now
            self._broadcast()
            self.figures.look(now)
        self._choose_relays()
        if not self.contents.loading:
            self._durability.ask_for_snapshot(now)
        if self.compaction.tick():
            self._ledger_completed()
        self._drop_lost(now)
        self._answers.tick(now)
        self._store(self._receipts.take_expired(now))
        return self._out.take()

    def listening(self, port: int) -> list[Effect]:
        """
        The node listens on this port now (0: on none), and all others are told.
        """
        self.status.port = port
        self._broadcast()
        return self._out.take()

    def drain(self) -> list[Effect]:
        """
        Take no more writes: the node is about to stop.
        """
        self.status.drain()
        self._broadcast()
        return self._out.take()

    def drained(self) -> bool:
        """
        Whether every connected follower has all that this node took.
        """
        return self.status.drained(self._channels.followers())

    # Storing and applying

    def _store(self, batches: Sequence[tuple[int, messages.Store]]) -> None:
        for channel, message in batches:
            own = self._own_batches.take(channel, message)
            if own is not None:
                self._append(own)

    def _append(self, line: Pending) -> None:
        answered = isinstance(line, Own) or (isinstance(line, Removal | Agreement) and line.request != 0)
        if self._durability.append(line, self.applied, waits=answered or self._answers.for_durability):
            self.catch_up.lines_dropped()

    def _keep_journal_state(self) -> None:
        if (state := self.empty_journal.journal_state()) is not None:
            self._append(PlainLine(codec.encode(state)))

    def _follow_record(self, channel: int, record: Record, line: bytes) -> None:
        known = self.applied.number(record.node, record.run)
        if record.number <= known:
            return
        if record.number > known + 1:
            self._following.hole(channel, record.node, record.run, known, self.applied)
            return
        if record.node == self.node and record.run == self._own.run:
            raise MalformedMessage(f"a batch of this node's open run: {record.number}")
        self.contents.apply(record, decode_batch(record.batch), line)
        self._append(Followed(line, record.node, record.run, record.number))
        self._answer_and_offer()

    def _answer_and_offer(self) -> None:
        """
        Something was applied or became durable: waits may be over, followers get more.
        """
        self._answers.answer_ready()
        if self._receipts.waiting:
            self._store(self._receipts.take_ready())
        self._following.offer()

    def _ledger_completed(self) -> None:
        """
        The ledger may hold exactly what `applied` covers by now.
        """
        self.copies.give_waiting()
        self._broadcast()
        self._answer_and_offer()

    # What peers say of themselves

    def _on_report(self, channel: int, report: Report) -> None:
        self._channels.reported(channel, report)
        self.members.on_report(report)
        self.contents.observe(report.stamp)
        self.compaction.heard(report.floor, report.compacted)
        self.contents.runs.learn_all(report.openings.items(), report.lost)
        self._removing.remove(set(report.removed))
        self._folding.adopt(report.applied)
        self._decide_empty_journal()
        if self._durability.settle_doubt(self.members.known, self.applied):
            self._ledger_completed()
        self._own.compare(report, self.applied)
        self._following.reported(channel, report.node, self.applied)
        if self.catch_up.wanted and not self.applied.covers(report.applied):
            self.catch_up.ask(channel, able=self._channels.gives_copies(channel))
        if self.members.have_no_more_than(self.applied) and self.catch_up.covered():
            self._following.anew(self._relay_facts())
        self._choose_relays()
        self._folding.fold()
        self._answer_and_offer()

    def _decide_empty_journal(self) -> None:
        """
        See whether it is known by now what an empty journal means.
        """
        if self.empty_journal.decide():
            self._keep_journal_state()
            self._broadcast()

    def _relay_facts(self) -> RelayFacts:
        # Of one that was removed, a peer may have what others lack.
        nodes = {self.node, *self.members.peers, *self.members.removed}
        return RelayFacts(self._own.run, self.applied, nodes, self.members.reports)

    def _choose_relays(self) -> None:
        if not self.catch_up.wanted:
            self._following.choose(self._relay_facts())

    # Copies of a ledger

    def _take_copy(self, channel: int, message: CopyMessage, line: bytes) -> None:
        before = self.contents.ledger
        taken = self.catch_up.take(channel, message, line, self.contents)
        if self.contents.ledger is not before:
            self._answers.begin_again()
        if isinstance(message, copies.CopyBegin) and self._durability.needs is not None:
            # The journal may lack what this is merged with: only a snapshot can make it durable.
            self.catch_up.lines_dropped()
        if taken is not None:
            self._append(taken)
        if isinstance(message, copies.CopyEnd):
            if taken is None:
                self._durability.need_snapshot(self.applied)
            self.compaction.again()
            self._out.say("info", f"took a copy of the ledger: {len(self.ledger)} items")
            self._following.anew(self._relay_facts())
            self._answer_and_offer()

    def _drop_lost(self, now: float) -> None:
        """
        Require no longer what a copy brought parts of and no member has any more.
        """
        unreached = not (self.contents.loading or self._answers.exact)
        known = None
        if unreached and self._following.sources(self.members.reports).keys() == self.members.peers:
            known = self.members.known(self.applied)
        undecided = self.empty_journal.undecided
        closed = partial(self.members.is_closed, own_run=self._own.run, undecided=undecided)
        self.catch_up.drop_lost(now, known, closed)

    def _broadcast(self) -> None:
        self._out.broadcast(self._channels, self.report())
