"""
One node's behaviour, without sockets, files or clocks: messages in, effects out.

A node is the origin of its own log and a follower of everybody else's. What makes replication safe without
a vote is that the ledger is merged (`dcounter.ledger.ledger`) and that positions
(`dcounter.protocol.position`) say exactly what a copy holds: a batch is journalled, then applied, then
answered and offered to the followers, each of whom accepts only the next number.

The shell around it (`dcounter.node.service`) performs the effects in their order, tells it when the journal
has made lines durable (`synced`) and lets time pass (`tick`).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar, assert_never

from dcounter.errors import CorruptJournal, MalformedMessage, NewerJournal
from dcounter.journal.framing import Entry
from dcounter.ledger.ledger import Ledger
from dcounter.ledger.rows import Piece
from dcounter.limits import Limits
from dcounter.node.backlog import Backlog
from dcounter.node.catch_up import CatchUp
from dcounter.node.durability import Durability, EndOfCopy, Followed, Own, Part, Pending, Removal
from dcounter.node.effects import CloseChannel, Effect, FlushJournal, Outbox, StopFollowing, StreamReady
from dcounter.node.following import Following, View
from dcounter.node.members import Members
from dcounter.node.runs import Runs
from dcounter.node.waits import Question, Waits
from dcounter.protocol import codec, messages
from dcounter.protocol.batch import Batch, decode_batch
from dcounter.protocol.handshake import Peer
from dcounter.protocol.messages import Opening, Record, Report
from dcounter.protocol.position import NodePosition, Position

_T = TypeVar("_T")
_Raw = TypeVar("_Raw")


_NOWHERE = Position()

_SALTS = 2**20
"""
What may be added to the number of a run (ns).
"""


@dataclass(slots=True)
class _Channel:
    """
    One connection, from either side.

    :ivar calls: we made the connection.
    :ivar report: what it said last on this connection; before that it may have been somebody else.
    :ivar copy: the rest of a copy of our ledger that is being sent.
    :ivar wants_copy: it asked for one, which our ledger is not complete enough for.
    """

    peer: Peer
    calls: bool
    heard: float
    report: Report | None = None
    copy: Iterator[messages.Message] | None = None
    wants_copy: bool = False


def _understand(decode: Callable[[_Raw], _T], raw: _Raw) -> _T:
    """
    Decode what the journal kept.

    Its checksum was right, so it is what was written: if we cannot read it, another version can.

    :raises NewerJournal: it means nothing to this version.
    """
    try:
        return decode(raw)
    except MalformedMessage as error:
        raise NewerJournal(f"this version cannot read a line: {error}") from error


class Replica:
    """
    The state of one node.

    :param node: its id.
    :param members: ids of all nodes.
    :param wall: the wall clock (ns since 1970), for the numbers of runs.
    :param seed: 64 random bits, other ones in each process: for the ledger's hash table
        (`dcounter.ledger.id_table`), and so that no run has the number of another one.
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
    ) -> None:
        self.node = node
        self.ledger = Ledger(seed)
        self.applied = Position()
        self.port = 0
        self.run = 0
        self.stamp = 0
        self.items_taken = 0
        self._out = Outbox()
        self._durability = Durability(node, self._out, limits.log)
        self._pid = pid
        self._salt = seed % _SALTS
        self._members = Members(node, members)
        self._wall = wall
        self._limits = limits
        self._backlog = Backlog(limits.log)
        self._channels: dict[int, _Channel] = {}
        self._runs = Runs(limits.unfolded_runs)
        self._waits = Waits(limits.waits)
        self._following = Following(node, self._out, self._backlog, limits.stream)
        self._last_beat = float("-inf")
        self._last_tick = float("inf")
        self._last_number = 0
        self._told_own: set[int] = set()
        self._draining = False
        self._before_drain: Position | None = None
        self._catch_up = CatchUp(self._out, limits.suspicion)
        # Whether the ledger lacks some of what is applied, until all that the journal kept is loaded.
        self.loading = False
        # Whether the ledger may hold batches of our own that only the memory of this machine has.
        self._in_doubt = False

    @property
    def durable(self) -> Position:
        """
        What stands in the journal for certain, see `Durability`.
        """
        return self._durability.durable

    @property
    def forgotten(self) -> AbstractSet[int]:
        """
        Members that were given up.
        """
        return self._members.forgotten

    @property
    def rivals(self) -> AbstractSet[int]:
        """
        Peers that do not let this node in, since another process holds its id.
        """
        return self._members.rivals

    # What the shell calls

    def connected(self, channel: int, peer: Peer, *, calls: bool, now: float) -> list[Effect]:
        """
        A connection passed its handshake.

        :param channel: any number that is not used again.
        :param calls: whether this node made the connection.
        """
        self._channels[channel] = _Channel(peer, calls, now)
        self._following.connected(channel, peer.node, calls=calls)
        if calls and peer.node in self.rivals:
            self._members.rivals.discard(peer.node)
            self._out.say("info", f"node {peer.node} lets this process in again")
            self._progress()
        self._out.send(channel, self.report())
        return self._out.take()

    def disconnected(self, channel: int) -> list[Effect]:
        """
        A connection is gone.
        """
        self._channels.pop(channel, None)
        self._waits.drop(channel)
        self._following.disconnected(channel)
        self._catch_up.disconnected(channel)
        self._choose_relays()
        return self._out.take()

    def rivalled(self, peer: int, reason: str) -> list[Effect]:
        """
        A peer does not let this node in, since another process holds its id: until it does, take no writes.
        """
        if peer not in self.rivals and peer not in self.forgotten:
            self._members.rivals.add(peer)
            self._out.say(
                "error", f"node {peer} refuses this process: {reason}. This process takes no writes"
            )
            self._broadcast()
        return self._out.take()

    def outcast(self) -> bool:
        """
        Whether peers refuse this process for another one, and none lets it in: then it serves nobody.
        """
        return bool(self.rivals) and not any(there.calls for there in self._channels.values())

    def removed(self, peer: int) -> list[Effect]:
        """
        A peer does not let this node in, since it was removed from the cluster.
        """
        if not self._members.given_up:
            self._members.given_up = True
            self._out.say(
                "error", f"this node was removed from the cluster, node {peer} says: stop it for good"
            )
            self._broadcast()
        return self._out.take()

    def receive(
        self,
        channel: int,
        message: messages.FromCoordinator | messages.BetweenNodes,
        line: bytes,
        now: float,
    ) -> list[Effect]:
        """
        A message arrived.

        :param line: the same as it came: what is handed on keeps what this version does not know of it.
        :raises MalformedMessage: it has no business here; the channel must be closed.
        """
        if channel not in self._channels:
            return []
        self._channels[channel].heard = now
        match message:
            case messages.Store():
                self._store(channel, message)
            case messages.Count() | messages.Await():
                self._ask(channel, message, now)
            case Record():
                self._follow_record(channel, message, line)
            case Report():
                self._on_report(channel, message)
            case messages.Forget():
                self._forget({message.node}, channel, message.request)
            case messages.Beat():
                self.stamp = max(self.stamp, message.stamp)
            case messages.Follow():
                self._following.start(channel, message, self.applied)
            case messages.Unfollow():
                self._following.stop(channel, message.node)
            case messages.Gap():
                self._catch_up.want()
                self._want_copy(channel)
            case messages.Copy():
                self._give_copy(channel)
            case messages.CopyBegin() | messages.CopyPiece() | messages.CopyEnd():
                self._copy_in(channel, message, line)
            case _:
                assert_never(message)
        return self._out.take()

    def synced(self, lines: Sequence[Pending]) -> list[Effect]:
        """
        Lines are durable: the oldest of those that were appended.
        """
        for line in lines:
            match line:
                case Own():
                    self._apply_own(line)
                    if self._members.wiped:
                        # The run that says so is durable.
                        self._members.wiped = False
                        self._keep_standing()
                case Removal() if line.request:
                    self._send_awaited(line.channel, line.request, reached=True)
                case Followed() | Removal() | Part() | EndOfCopy():
                    pass
                case _:
                    assert_never(line)
            self._durability.synced(line)
        self._progress()
        return self._out.take()

    def doubted(self) -> list[Effect]:
        """
        What was restored can be read, but may not be on the disk: a sync may have failed before.

        A loss of power would take it then, and with it, of our own batches, what no other node has: until
        the disk keeps it or another node has it, this node neither counts nor hands it on. What others sent
        us stood in their journals before.
        """
        self._durability.doubted(self.applied)
        self._in_doubt = bool(self.applied.of(self.node).runs)
        return self._out.take()

    def _look_at_doubt(self) -> None:
        """
        Whether all that is in doubt is kept by now.
        """
        if self._in_doubt:
            kept = self._members.known(self._announced())
            self._in_doubt = self._durability.failure is not None and not kept.covers(self.applied)
            if not self._in_doubt:
                self._complete_now()

    def failed(self, lines: Sequence[Pending], reason: str) -> list[Effect]:
        """
        Lines that were appended are not durable, and none will be until `mended`.

        Of our own batches nothing was applied or offered: they are refused, and the run ends before them.
        What others have journalled is counted all the same, and journalled later.
        """
        refused = f"the disk failed: {reason}"
        for line in lines:
            match line:
                case Own() if line.channel in self._channels:
                    slices = dict.fromkeys(range(len(line.batch.slices)), refused)
                    answer = messages.Stored(line.request, 0, 0, self.stamp, slices, doubtful=True)
                    self._out.send(line.channel, answer)
                case Removal() if line.request:
                    self._send_awaited(line.channel, line.request, reached=False)
                case Own() | Followed() | Removal() | Part() | EndOfCopy():
                    pass
                case _:
                    assert_never(line)
        if self._durability.failed(lines, reason, self.applied):
            self._catch_up.given_up()
        self.run = self._last_number = 0
        self._broadcast()
        return self._out.take()

    def mended(self) -> list[Effect]:
        """
        The journal takes lines again.
        """
        for line in self._durability.mended(snapshot=not self.loading):
            self._append(line)
        self._look_at_doubt()
        self._broadcast()
        return self._out.take()

    def snapshot(self) -> Iterator[bytes]:
        """
        The lines of a snapshot, made one after the other while the node goes on.

        :returns: what `snapshot_ready` and `snapshot_kept` speak of.
        """
        self._durability.snapshot_begins()
        loading = self._catch_up.unfinished
        forgotten = sorted(self.forgotten)
        standing = self._members.standing()
        if standing is not None:
            yield codec.encode(standing)
        for message in self._copy_out():
            if isinstance(message, messages.CopyBegin):
                self._durability.snapshot_reaches(message.position)
            elif isinstance(message, messages.CopyEnd):
                self._durability.snapshot_ends(message.position)
            yield codec.encode(message)
        for node in forgotten:
            yield codec.encode(messages.Forget(0, node))
        if loading is not None:
            # The rest of that copy, and its end, are in the log behind this snapshot.
            yield codec.encode(loading)

    def snapshot_ready(self) -> bool:
        """
        Whether the log that is journalled reaches to the end of the snapshot that was made last.
        """
        return self._durability.snapshot_ready()

    def snapshot_kept(self) -> list[Effect]:
        """
        The snapshot is durable.
        """
        self._durability.snapshot_kept()
        self._progress()
        return self._out.take()

    # Starting again

    def restore(self, entry: Entry) -> None:
        """
        Take in a line that the journal kept, all but what the ledger is made of (see `load`).

        That takes little time however large the ledger is: afterwards this node knows what it has, and can
        hand on its log and take writes.

        :param entry: in the order in which they were appended.
        :raises CorruptJournal: a line is missing.
        :raises NewerJournal: this version does not know what the line is.
        """
        if entry.number:
            self._members.restored(None)
            self._restore_record(entry)
            self._durability.restored(self.applied)
            return
        message = _understand(codec.decode_kept, entry.line)
        self._members.restored(message if isinstance(message, messages.Standing) else None)
        match message:
            case messages.Standing():
                pass
            case messages.Forget():
                self._members.forget(message.node)
            case messages.CopyBegin():
                self._catch_up.restored_begin(message)
                self.ledger.reserve(message.entries)
                self.loading = True
            case messages.CopyEnd():
                self._copied(self._catch_up.restored_end(), message)
            case Record() | messages.CopyPiece():
                # Records come with their numbers, and pieces when the ledger is loaded.
                raise NewerJournal(f"this version expects no {type(message).__name__} there")
            case _:
                assert_never(message)
        self._durability.restored(self.applied)

    def _restore_record(self, entry: Entry) -> None:
        node, run, number = entry.node, entry.run, entry.number
        known = self.applied.number(node, run)
        self.loading = True
        if number > known + 1 and node == self.node:
            raise CorruptJournal(f"number {known + 1} of our own run {run} is missing")
        # Others' numbers may lack some that came while the disk failed: they are fetched again.
        if number == known + 1:
            head = _understand(codec.decode_head, entry.line)
            self._advance(node, run, number, head.stamp, head.opening, entry.line)

    def load(self, entry: Entry) -> None:
        """
        Take into the ledger what `restore` left out, in any order, whatever is merged meanwhile.

        :raises NewerJournal: this version does not know what the line is.
        """
        message = _understand(codec.decode_kept, entry.line)
        match message:
            case Record():
                # What is not applied came behind a hole, and is fetched again.
                if message.number <= self.applied.number(message.node, message.run):
                    batch = _understand(decode_batch, message.batch)
                    self._merge(batch)
            case messages.CopyPiece():
                self.ledger.merge_piece(Piece(*message.packed()))
                self._catch_up.reach(message.position)
            case messages.Forget() | messages.CopyBegin() | messages.CopyEnd() | messages.Standing():
                raise NewerJournal(f"this version expects no {type(message).__name__} there")
            case _:
                assert_never(message)

    def loaded(self) -> list[Effect]:
        """
        All that the journal kept is in the ledger.
        """
        if self.loading:
            self.loading = False
            self._complete_now()
        return self._out.take()

    def _complete_now(self) -> None:
        """
        The ledger may have become what the position says.
        """
        for channel, there in self._channels.items():
            if there.wants_copy:
                self._give_copy(channel)
        self._broadcast()
        self._progress()

    def begin(self) -> list[Effect]:
        """
        All that the journal kept is restored, and it takes lines.
        """
        if self._members.begin():
            self._keep_standing()
        return self._out.take()

    def _keep_standing(self) -> None:
        standing = self._members.standing()
        if standing is not None:
            self._append(Part(codec.encode(standing)))

    def stream(self, channel: int) -> list[bytes]:
        """
        Lines to write to a channel next; none if it has all for now.
        """
        there = self._channels.get(channel)
        if there is None:
            return []
        if there.copy is not None:
            piece = next(there.copy, None)
            if piece is not None:
                return [codec.encode(piece)]
            there.copy = None
        return self._following.next_lines(channel, self._announced())

    def tick(self, now: float) -> list[Effect]:
        """
        Time has passed: heartbeats, silent channels, waits that are over.
        """
        # Whoever slept cannot tell who was silent meanwhile.
        slept = max(0.0, now - self._last_tick - self._limits.heartbeat)
        self._last_tick = now
        outcast = self.outcast()
        for channel, there in self._channels.items():
            there.heard += slept
            limit = self._limits.idle if there.peer.node is None else self._limits.suspicion
            if now - there.heard > limit:
                self._out.add(CloseChannel(channel, f"silent for {now - there.heard:.1f} s"))
            elif outcast:
                self._out.add(CloseChannel(channel, "the other nodes refuse this process"))
        if now - self._last_beat >= self._limits.heartbeat:
            self._last_beat = now
            self._broadcast()
        self._choose_relays()
        if not self.loading:
            self._durability.ask(now)
        self._drop_lost_hold(now)
        for each in self._waits.take_expired(now):
            self._answer(each.channel, each.question, able=self._can_answer(each.question))
        return self._out.take()

    def listening(self, port: int) -> list[Effect]:
        """
        The node listens on this port now (0: on none), and everybody is told.
        """
        self.port = port
        self._broadcast()
        return self._out.take()

    def drain(self) -> list[Effect]:
        """
        Take no more writes: the node is about to stop.
        """
        self._draining = True
        self._before_drain = self.durable
        self._broadcast()
        return self._out.take()

    def drained(self) -> bool:
        """
        Whether every connected follower has all that this node took.

        What comes from other nodes while it drains is theirs to hand on: under load it never ends.
        """
        followers = [each for each in self._channels.values() if each.peer.node is not None]
        wanted = self.durable
        if self._before_drain is not None:
            wanted = self._before_drain.join(Position({self.node: self.durable.of(self.node)}))
        return not self._durability.own_under_way and all(
            each.report is not None and each.report.durable.covers(wanted) for each in followers
        )

    def refuses(self) -> str | None:
        """
        Why the node takes no writes at present; `None` if it takes them.
        """
        if self._draining:
            return "the node is stopping"
        if self._members.given_up:
            return "the others have given this node up"
        if self.rivals:
            return f"another process holds the id of this node at nodes {sorted(self.rivals)}"
        if self._durability.failure is not None:
            return f"the disk failed: {self._durability.failure}"
        if self._members.awaited:
            return f"the node starts empty and has not heard from nodes {self._members.silent}"
        if len(self.applied.of(self.node).runs) > self._limits.unfolded_runs:
            return f"more than {self._limits.unfolded_runs} runs are not on every node yet"
        return None

    def follows(self) -> set[int]:
        """
        The peers whose logs come from themselves.
        """
        return {*self._following.sources(self._members.reports)}

    def said_last(self, node: int) -> Report | None:
        """
        How a peer was when it was heard of last.
        """
        return self._members.reports.get(node)

    def report(self) -> Report:
        """
        How the node is.
        """
        return Report(
            node=self.node,
            port=self.port,
            pid=self._pid,
            run=self.run,
            applied=self._announced(),
            durable=self._vouched_for(),
            stamp=self.stamp,
            items=len(self.ledger),
            items_taken=self.items_taken,
            openings=self._runs.live(self.applied),
            lost=self._runs.lost,
            forgotten=sorted(self.forgotten),
            refuses=self.refuses(),
            loading=self.loading,
            in_doubt=self._in_doubt,
            # Then another process takes its place, or the other members report.
            passing=self._draining or self._members.awaited,
        )

    def _announced(self) -> Position:
        """
        What this node tells others that it has.
        """
        if not self._in_doubt:
            return self.applied
        kept = NodePosition(self.applied.of(self.node).folded)
        return Position({**self.applied.nodes, self.node: kept})

    def _vouched_for(self) -> Position:
        """
        What others may take for durable at this node.

        While two processes hold its id nobody knows whose journal is the one that stays.
        """
        return _NOWHERE if self.rivals else self.durable

    # Storing

    def _store(self, channel: int, message: messages.Store) -> None:
        batch = decode_batch(message.batch)
        reason = self.refuses()
        if reason is not None:
            refused = dict.fromkeys(range(len(batch.slices)), reason)
            self._out.send(channel, messages.Stored(message.request, 0, 0, self.stamp, refused))
            return
        opening = None
        if self.run == 0:
            opening = self._open_run()
        self._last_number += 1
        stamp = batch.largest_stamp()
        record = Record(self.node, self.run, self._last_number, stamp, message.batch, opening)
        line = codec.encode(record)
        self._append(
            Own(
                line,
                self.node,
                self.run,
                record.number,
                record=record,
                batch=batch,
                channel=channel,
                request=message.request,
            )
        )

    def _open_run(self) -> Opening:
        known = max((run for _, run, _ in self._known_of(self.node)), default=0)
        last = max((n for _, run, n in self._known_of(self.node) if run == known), default=0)
        # A run may be heard of of which nobody has a batch.
        told = self._runs.latest(self.node)
        # A disk that lost the run before, and a clock that went back, must not lead to the same number again.
        self.run = max(self._wall(), known + 1, told + 1) + self._salt
        # Others hear of it when it is durable: the run before it is closed only then.
        return Opening(self.run, known, last, self._members.wiped)

    def _known_of(self, node: int) -> Iterator[tuple[int, int, int]]:
        """
        Node, run and number of all that anybody is known to have of a node's log.
        """
        everybody = self._members.known(self.applied)
        part = everybody.of(node)
        if part.folded:
            # The run below the fold has no number any more; the fold itself is the run to stay above.
            yield node, part.folded, part.runs.get(part.folded, 0)
        for run, number in part.runs.items():
            yield node, run, number

    def _apply_own(self, own: Own) -> None:
        self._apply(own.record, own.batch, own.line)
        self.items_taken += own.batch.items
        if own.channel in self._channels:
            self._out.send(own.channel, messages.Stored(own.request, own.run, own.number, self.stamp))

    def _apply(self, record: Record, batch: Batch, line: bytes) -> None:
        self._merge(batch)
        stamp = max(record.stamp, batch.largest_stamp())
        self._advance(record.node, record.run, record.number, stamp, record.opening, line)

    def _merge(self, batch: Batch) -> None:
        packed = batch.packed()
        if packed is None:
            self.ledger.merge(*batch.columns())
        else:
            self.ledger.merge_piece(Piece(*packed))

    def _advance(
        self, node: int, run: int, number: int, stamp: int, opening: Opening | None, line: bytes
    ) -> None:
        self.stamp = max(self.stamp, stamp)
        self.applied = self.applied.advance(node, run, number)
        self._backlog.append(node, run, number, line)
        if opening is not None:
            self._runs.learn(node, opening)

    def _append(self, line: Pending) -> None:
        awaited = isinstance(line, Own) or (isinstance(line, Removal) and line.request != 0)
        waits = awaited or self._waits.for_durability
        if self._durability.append(line, self.applied, waits=waits):
            self._catch_up.given_up()

    # Counting and awaiting

    def _ask(self, channel: int, question: Question, now: float) -> None:
        wanted = question.required if isinstance(question, messages.Count) else question.position
        self._adopt_folds(wanted)
        able = self._can_answer(question)
        if question.wait == 0 or self._waits.full or able:
            self._answer(channel, question, able=able)
        else:
            self._waits.add(channel, question, now + question.wait / 1000)
            if isinstance(question, messages.Await):
                self._out.add(FlushJournal())

    def _can_answer(self, question: Question) -> bool:
        if isinstance(question, messages.Await):
            return self._covers(self._vouched_for(), question.position)
        return self._exact() and self._covers(self.applied, question.required)

    def _covers(self, mine: Position, wanted: Position) -> bool:
        """
        Whether we have all that is wanted; what was lost before its runs were folded nobody has.
        """
        return mine.covers(wanted) and not self._runs.names_lost(wanted)

    def _exact(self) -> bool:
        return not (self.loading or self._in_doubt) and self.applied.covers(self._catch_up.must_reach)

    def _answer(self, channel: int, question: Question, *, able: bool) -> None:
        if isinstance(question, messages.Await):
            self._send_awaited(channel, question.request, reached=able)
        else:
            counts = [self.ledger.count(tenant) for tenant in question.tenants]
            self._out.send(
                channel, messages.Counted(question.request, counts, able, self._announced(), self.stamp)
            )

    def _progress(self) -> None:
        """
        Something was applied or became durable: waits may be over, followers get more.
        """
        for each in self._waits.take_ready(self._can_answer):
            self._answer(each.channel, each.question, able=True)
        self._following.offer()

    # Following

    def _follow_record(self, channel: int, record: Record, line: bytes) -> None:
        known = self.applied.number(record.node, record.run)
        if record.number <= known:
            return
        if record.number > known + 1:
            self._following.hole(channel, record.node, record.run, known, self.applied)
            return
        if record.node == self.node and record.run == self.run:
            raise MalformedMessage(f"a batch of this node's open run: {record.number}")
        batch = decode_batch(record.batch)
        self._apply(record, batch, line)
        self._append(Followed(line, record.node, record.run, record.number))
        self._progress()

    def _view(self) -> View:
        # Of one that was removed, somebody may have what others lack.
        nodes = {self.node, *self._members.peers, *self.forgotten}
        return View(self.run, self.applied, nodes, self._members.reports)

    def _choose_relays(self) -> None:
        if not self._catch_up.wanted:
            self._following.choose(self._view())

    # What peers say of themselves

    def _on_report(self, channel: int, report: Report) -> None:
        there = self._channels[channel]
        if there.peer.node != report.node:
            raise MalformedMessage(f"a report of node {report.node} from {there.peer}")
        self._members.reports[report.node] = there.report = report
        self.stamp = max(self.stamp, report.stamp)
        self._runs.learn_all(report.openings.items(), report.lost)
        self._forget(set(report.forgotten))
        self._adopt_folds(report.applied)
        self._look_at_members()
        self._look_at_doubt()
        for run, number in report.applied.of(self.node).runs.items():
            if number > self.applied.number(self.node, run) and run not in self._told_own:
                self._told_own.add(run)
                self._out.say(
                    "warn",
                    f"node {report.node} holds {number} batches of this node's run {run}, "
                    f"this node {self.applied.number(self.node, run)}: fetching them",
                )
        self._following.reported(channel, report.node, self.applied)
        if self._catch_up.wanted and not self.applied.covers(report.applied):
            self._want_copy(channel)
        if self._members.have_no_more_than(self.applied) and self._catch_up.covered():
            self._following.anew(self._view())
        self._choose_relays()
        self._fold()
        self._progress()

    def _look_at_members(self) -> None:
        """
        Whether it is known by now what an empty journal means.
        """
        if self._members.settle():
            self._keep_standing()
            if self._members.wiped:
                self._out.say("warn", "this node has no journal but its peers hold items: refilling")
            self._broadcast()

    def _forget(self, nodes: Collection[int], channel: int = 0, request: int = 0) -> None:
        """
        Members were given up: the list of those only grows, and everybody tells everybody.
        """
        works = self._durability.failure is None
        new = self._members.new_of(set(nodes) - {self.node})
        for node in new:
            self._out.say("warn", f"node {node} was given up: it is a member no longer")
            self._members.forget(node)
            self._following.without(node)
            self._out.add(StopFollowing(node))
            for number, there in self._channels.items():
                if there.peer.node == node:
                    self._out.add(CloseChannel(number, "this node was given up"))
            line = codec.encode(messages.Forget(request, node))
            self._append(Removal(line, channel=channel, request=request if works else 0))
        if new:
            self._broadcast()
            self._look_at_members()
        if request and not (new and works):
            # Nobody waits for a disk that fails: it is known here, told to all, and written down later.
            self._send_awaited(channel, request, reached=works)
        if self.node in nodes and not self._members.given_up:
            self._members.given_up = True
            self._out.say("error", "the others have given this node up")
            self._broadcast()

    # Folding

    def _fold(self) -> None:
        """
        Fold the closed runs that every member has durably, and cut the log that everybody has.
        """
        if not self._members.all_heard:
            return
        everywhere = self._members.everywhere(self.durable)
        known = self._members.known(self.applied)
        for node, opening in self._runs.foldable(lambda: self.durable, everywhere, known):
            self._fold_to(node, opening)
        for node, run, number in self.durable.entries():
            held = min(position.number(node, run) for position in everywhere)
            self._backlog.cut(node, run, min(held, number))

    def _fold_to(self, node: int, opening: Opening) -> None:
        self._runs.note_losses(node, opening, self.applied)
        self.applied = self.applied.fold(node, opening.run)
        self._durability.fold(node, opening.run)
        self._backlog.fold(node, opening.run)

    def _adopt_folds(self, heard: Position) -> None:
        """
        Fold what a peer has folded, if we have all of it ourselves.
        """
        for node, opening in self._runs.folded_by(heard, lambda: (self.applied, self.durable)):
            self._fold_to(node, opening)

    # Copies of the ledger

    def _want_copy(self, channel: int) -> None:
        there = self._channels[channel]
        # One whose ledger is not what it should be would let us wait; when it is, it reports.
        waits = there.report is not None and (there.report.loading or there.report.in_doubt)
        if there.calls and not waits:
            self._catch_up.ask(channel)

    def _give_copy(self, channel: int) -> None:
        there = self._channels[channel]
        there.wants_copy = self.loading or self._in_doubt
        if not there.wants_copy:
            there.copy = self._copy_out()
            self._out.add(StreamReady(channel))

    def _copy_out(self) -> Iterator[messages.Message]:
        yield messages.CopyBegin(
            self.applied, self._runs.live(self.applied), self._runs.lost, self.ledger.rows
        )
        for piece in self.ledger.pieces(self._limits.piece, self._limits.slice):
            yield messages.CopyPiece.of(piece.columns(), self._upper_bound())
        yield messages.CopyEnd(self._upper_bound(), self.stamp)

    def _upper_bound(self) -> Position:
        """
        A position that covers whatever is in the ledger.
        """
        # What a copy of our own brought along may be beyond what we have applied.
        return self.applied.join(self._catch_up.must_reach)

    def _drop_lost_hold(self, now: float) -> None:
        sure = not (self.loading or self._exact()) and self.follows() == self._members.peers
        known = self._members.known(self.applied) if sure else None
        self._catch_up.give_up_lost(now, known, self._is_closed)

    def _is_closed(self, node: int, run: int) -> bool:
        """
        Whether a node, which heard from all members since it started, has another run open than this.
        """
        if node in self.forgotten:
            return True
        if node == self.node:
            return self.run != run and not self._members.awaited
        return self._members.reports[node].run != run and self._members.reports[node].refuses is None

    def _copy_in(
        self,
        channel: int,
        message: messages.CopyBegin | messages.CopyPiece | messages.CopyEnd,
        line: bytes,
    ) -> None:
        match message:
            case messages.CopyBegin():
                self._catch_up.begins(channel, message)
                self.ledger.reserve(message.entries)
                self._append(Part(line))
            case messages.CopyPiece():
                self._catch_up.brings(channel, message.position)
                self.ledger.merge_piece(Piece(*message.packed()))
                # A journal knows pieces by how their lines begin.
                self._append(Part(line if codec.is_piece(line) else codec.encode(message)))
            case messages.CopyEnd():
                taken = self._catch_up.ends(channel)
                self._copied(taken.begin, message)
                if taken.kept:
                    self._append(EndOfCopy(line, covers=taken.begin.position))
                else:
                    self._durability.need_snapshot(self.applied)
                self._out.say("info", f"took a copy of the ledger: {len(self.ledger)} items")
                self._following.anew(self._view())
                self._progress()

    def _copied(self, begin: messages.CopyBegin, end: messages.CopyEnd) -> None:
        """
        All pieces of a copy are in the ledger.
        """
        self.stamp = max(self.stamp, end.stamp)
        self._catch_up.reach(end.position)
        self.applied = self.applied.join(begin.position)
        self._runs.learn_all(begin.openings.items(), begin.lost)

    # Output

    def _send_awaited(self, channel: int, request: int, *, reached: bool) -> None:
        self._out.send(channel, messages.Awaited(request, reached, self._vouched_for(), self.stamp))

    def _broadcast(self) -> None:
        self._out.broadcast(self._channels, self.report())
