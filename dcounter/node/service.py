"""
A node as a service: sockets, timers and a journal around a `Replica`.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import TypeVar, assert_never, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, LogLevel

from dcounter.errors import (
    ConfigurationError,
    CorruptJournal,
    DirectoryInUse,
    NewerJournal,
    Outcast,
    Removed,
    SecondHolder,
)
from dcounter.figures import Samples
from dcounter.journal.framing import JournalEntry
from dcounter.journal.interface import Journal
from dcounter.limits import Limits
from dcounter.links.address_book import AddressBook
from dcounter.links.link import PeerLink
from dcounter.links.throttle import Throttle
from dcounter.node.channels import ToNode
from dcounter.node.durability import Pending
from dcounter.node.effects import (
    Append,
    CloseChannel,
    Effect,
    FlushJournal,
    LogMessage,
    Send,
    Snapshot,
    StepsLeft,
    StopFollowing,
    StreamReady,
)
from dcounter.node.holders import Holders
from dcounter.node.incoming import Incoming
from dcounter.node.listener import Listen, Listener
from dcounter.node.progress import Progress, Tell, reason
from dcounter.node.replica import Replica
from dcounter.node.streams import Channel, Streams
from dcounter.protocol import codec, messages
from dcounter.protocol.handshake import Callee, Identity, Peer

_log = Logger()

_T = TypeVar("_T")

_LOCK_PATIENCE = 10.0
"""
Time (s) after which a node complains that another process uses its directory.
"""

_LOCK_PAUSE = 0.05
"""
Time (s) between two attempts to lock the directory.
"""

_RIVALS_INTERVAL = 10.0
"""
Shortest time (s) between two complaints of two processes that hold one node id.
"""

_LASTING = (CorruptJournal, NewerJournal, ConfigurationError, OSError)
"""
Why a node cannot start before an operator has done something about it.
"""


class Node(Service):
    """
    One node: listens, follows its peers, answers coordinators.

    :param node: its id.
    :param identity: what it shares with the others of its cluster.
    :param address_book: how it reaches its peers, and itself.
    :param listen: gives the endpoint for a port.
    :param wall: the wall clock, ns since 1970.
    :param nonce: gives a new random text, at least 32 characters.
    :param jitter: gives a random number around 0, for the pauses between attempts.
    :param pid: the id of this process.
    :param replica: makes its state machine.
    :param holders: makes what knows the processes of its peers.
    :param tell: is told how its start goes; the log, unless something runs this node.
    :param place: the directory of its journal, for messages.
    :param remedy: how a damaged journal is made anew, for messages.
    :param process: gives the figures of its process, unless another node or a coordinator there shows them.
    """

    def __init__(
        self,
        node: int,
        *,
        identity: Identity,
        address_book: AddressBook,
        listen: Listen,
        journal: Journal,
        limits: Limits,
        clock: IReactorTime,
        wall: Callable[[], int],
        nonce: Callable[[], str],
        jitter: Callable[[], float],
        pid: int,
        replica: Callable[..., Replica] = Replica,
        holders: Callable[..., Holders] = Holders,
        tell: Tell | None = None,
        place: str = "",
        remedy: str = "",
        process: Callable[[], Sequence[Samples]] = tuple,
    ) -> None:
        self.node = node
        self._tell = tell or self._log_progress
        self._place = place
        self._remedy = remedy or f"Start once with --rebuild {node} to make it anew from the other nodes"
        self.conversations: set[Incoming] = set()
        self.complaints = address_book.complaints
        self.replica = replica(node, identity.members, wall=wall, limits=limits, pid=pid)
        self.replica.status.accepted_secrets = lambda: len(identity.secrets.accepted)
        self.replica.figures.attach(journal, process)
        self._identity = identity
        self._address_book = address_book
        self._journal = journal
        self._limits = limits
        self._clock = clock
        self._nonce = nonce
        probe = partial(address_book.probe, node)
        self._listener = Listener(node, address_book.addresses[node], listen, probe, user=self, clock=clock)
        self._starting: Deferred[None] = succeed(None)
        self._channels: dict[int, Channel] = {}
        self._link_channels: dict[PeerLink, int] = {}
        self._last_channel = 0
        self._streams = Streams(self._channels, self.replica.stream, limits.stream_pace_s, clock)
        self.holders = holders(
            (node, address_book.instance), patience=limits.suspicion_s, seconds=clock.seconds
        )
        self._rivals = Throttle(1, _RIVALS_INTERVAL, clock.seconds)
        self._links = [
            PeerLink(
                peer,
                address_book=address_book,
                user=self,
                decode=codec.decode_between_nodes,
                jitter=jitter,
                refused=self._refused,
            )
            for peer in identity.members
            if peer != node
        ]
        self._stepping: IDelayedCall | None = None
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    # Service

    def startService(self) -> None:
        Service.startService(self)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(lambda why: why.trap(CancelledError))
        self._starting.addErrback(lambda why: _log.failure("node {node} did not start", why, node=self.node))

    async def _start(self) -> None:
        try:
            await self._recover()
            rest = iter(self._journal.load())
            loaded = self._load_some(rest)
        except _LASTING as error:
            await self._journal.close()
            self._cannot_start(error)
            return
        self._journal.open(self)
        self._perform(self.replica.begin())
        self._listener.start()
        for link in self._links:
            if link.node not in self.replica.members.removed:
                link.startService()
        self._ticking.start(self._limits.heartbeat_s / 4, now=True).addErrback(
            lambda why: _log.failure("node {node}: heartbeat stopped", why, node=self.node)
        )
        try:
            while not loaded:
                await deferLater(self._clock, self._limits.load_pause_s)
                loaded = self._load_some(rest)
        except _LASTING as error:
            # It counted nothing exactly yet, so no caller was told anything wrong. What it took meanwhile
            # goes to the others first.
            await self._shut_down()
            self._cannot_start(error)

    def _log_progress(self, progress: Progress) -> None:
        if progress.why:
            _log.error("{sentence}", sentence=progress.sentence(self.node))

    def _cannot_start(self, error: Exception) -> None:
        """
        Leave it to the one that runs this node to say that it cannot start, and to try again.
        """
        self._tell(Progress("cannot start", reason(error, place=self._place, remedy=self._remedy)))

    async def _recover(self) -> None:
        """
        Find out what the journal kept, without stopping whatever else this process does.
        """
        entries, entry = await self._open_journal()
        pause = self._clock.seconds() + self._limits.load_s
        while entry is not None:
            self.replica.restoring.restore(entry)
            if self._clock.seconds() > pause:
                await deferLater(self._clock, 0)
                pause = self._clock.seconds() + self._limits.load_s
            entry = next(entries, None)

    def _load_some(self, entries: Iterator[JournalEntry]) -> bool:
        """
        Take more of what the journal kept into the ledger; whether that was all.
        """
        pause = self._clock.seconds() + self._limits.load_s
        for entry in entries:
            self.replica.restoring.load(entry)
            if self._clock.seconds() >= pause:
                return False
        self._perform(self.replica.loaded())
        return True

    async def _open_journal(self) -> tuple[Iterator[JournalEntry], JournalEntry | None]:
        """
        What the journal kept, and the first line of it.

        Another process may have the directory, and be about to end: it is waited for.
        """
        began: float | None = self._clock.seconds()
        while True:
            entries = iter(self._journal.recover())
            try:
                return entries, next(entries, None)
            except DirectoryInUse as error:
                if began is not None and self._clock.seconds() >= began + _LOCK_PATIENCE:
                    began = None
                    self._tell(Progress("waits", str(error)))
            await deferLater(self._clock, _LOCK_PAUSE)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._starting.cancel()
        await self._shut_down()

    async def _shut_down(self) -> None:
        self._listener.stop_seeking()
        self._perform(self.replica.drain())
        until = self._clock.seconds() + self._limits.drain_s
        while not self.replica.drained() and self._clock.seconds() < until:
            await deferLater(self._clock, self._limits.heartbeat_s / 4)
        if self._ticking.running:
            self._ticking.stop()
        self.complaints.log_rest(at_once=True)
        await self._listener.stop()
        # In an order that the same events repeat.
        for conversation in sorted(self.conversations, key=lambda each: each.tcp.getPeer().port):
            conversation.close("the node is stopping")
        await gatherResults([link.stopService() for link in self._links if link.running])
        while self.conversations:
            await deferLater(self._clock, self._limits.heartbeat_s / 4)
        if self._stepping is not None:
            self._stepping.cancel()
            self._stepping = None
        await self._journal.close()

    # What the listener asks for

    @property
    def full(self) -> bool:
        return len(self.conversations) >= self._limits.connections

    def listening(self, port: int) -> None:
        self._perform(self.replica.listening(port))

    def progress(self, progress: Progress) -> None:
        self._tell(progress)

    # Conversations that others began

    def conversation(self) -> Incoming:
        """
        A conversation for a new connection.

        A node that drains takes them, too: a follower may have to come back for what it lacks.
        """
        callee = Callee(
            self._identity,
            node=self.node,
            run=self.replica.run,
            nonce=self._nonce(),
            instance=self._address_book.instance,
            removed=self.replica.members.removed,
            abilities=self._address_book.abilities,
        )
        return Incoming(self, callee, self._limits, self._clock)

    def admit(self, peer: Peer) -> None:
        """
        A caller has proved itself; is it the only process that holds its node id, and are we?

        :raises SecondHolder: it is not.
        :raises Outcast: we are not.
        """
        if peer.node != self.node and self.replica.outcast():
            raise Outcast(f"the other nodes refuse this process, since another one is node {self.node}")
        if peer.role == "node" and peer.node is not None:
            self._look_for_rival(peer.node, peer.instance)

    def _look_for_rival(self, node: int, instance: str) -> None:
        host = self.holders.note_rival(node, instance)
        if host is None:
            return
        text = f"node {node} is connected already, as another process at {host}"
        said = self.replica.members.reports.get(node)
        if said is not None:
            text += f" (process {said.pid}, port {said.port})"
        if self._rivals.passes():
            _log.error(
                "node {here}: refused a second process of node {node}: {text}. "
                "Two processes must not use copies of one journal: stop the one that should not run",
                here=self.node,
                node=node,
                text=text,
            )
        raise SecondHolder(f"{text}: two processes must not use copies of one journal")

    def accepted(self, conversation: Incoming, peer: Peer) -> int:
        """
        A conversation passed its handshake.
        """
        return self._opened(conversation, peer, calls=False)

    def received(self, channel: int, message: ToNode, line: bytes) -> None:
        """
        A message arrived on a channel.

        :param line: the same as it came.
        """
        if isinstance(message, messages.Report):
            self._look_where_it_listens(message)
        self._perform(self.replica.receive(channel, message, line, self._clock.seconds()))

    def left(self, channel: int) -> None:
        """
        A conversation that another process began is over.
        """
        self._closed(channel)
        self._listener.check_soon()

    def writable(self, channel: int) -> None:
        """
        A channel takes more.
        """
        self._streams.now(channel)

    # Links to peers

    def link_up(self, link: PeerLink) -> None:
        try:
            self._look_for_rival(link.node, link.peer.instance)
        except SecondHolder as error:
            link.mistake(str(error))
        else:
            self._link_channels[link] = self._opened(link, link.peer, calls=True)

    def link_down(self, link: PeerLink) -> None:
        channel = self._link_channels.pop(link, None)
        if channel is not None:
            self._closed(channel)

    def link_received(self, link: PeerLink, message: messages.BetweenNodes, line: bytes) -> None:
        self.received(self._link_channels[link], message, line)

    def link_writable(self, link: PeerLink) -> None:
        self._streams.now(self._link_channels[link])

    def _look_where_it_listens(self, report: messages.Report) -> None:
        for link in self._links:
            if link.node == report.node and report.port:
                link.moved(report.port)

    def _refused(self, peer: int, said: messages.Farewell) -> None:
        """
        A member, which has proved that it is one, does not let this node in.
        """
        if said.code == SecondHolder.code:
            self._perform(self.replica.refused_by(peer, said.reason))
        elif said.code == Removed.code:
            self._perform(self.replica.removed_by(peer))

    def _stop_following(self, node: int) -> None:
        for link in self._links:
            if link.node == node and link.running:
                stopping = link.stopService()
                stopping.addErrback(lambda why: _log.failure("a link did not stop", why))

    # The replica and its effects

    def _opened(self, channel: Channel, peer: Peer, *, calls: bool) -> int:
        self._last_channel += 1
        number = self._last_channel
        self._channels[number] = channel
        if peer.node is not None:
            self.holders.joined(number, peer.node, peer.instance, channel.host)
        self._perform(self.replica.connected(number, peer, calls=calls, now=self._clock.seconds()))
        return number

    def _closed(self, channel: int) -> None:
        del self._channels[channel]
        self.holders.left(channel)
        self._streams.closed(channel)
        self._perform(self.replica.disconnected(channel))

    def _tick(self) -> None:
        self._perform(self.replica.tick(self._clock.seconds()))
        self.complaints.log_rest()
        if self._journal.due and not self.replica.contents.loading:
            self._take_snapshot()

    def _step(self) -> None:
        self._stepping = None
        self.replica.contents.journal_bytes = self._journal.size
        self._perform(self.replica.inquiries.step(self._clock.seconds()))

    # The journal

    def journal_synced(self, entries: Sequence[JournalEntry]) -> None:
        self._perform(self.replica.synced(_ours(entries)))

    def journal_doubted(self) -> None:
        self._perform(self.replica.doubted())

    def journal_failed(self, entries: Sequence[JournalEntry], reason: str) -> None:
        self._perform(self.replica.failed(_ours(entries), reason))

    def journal_mended(self) -> None:
        self._perform(self.replica.mended())

    def _take_snapshot(self) -> None:
        lines = self.replica.copies.snapshot()
        taking = self._journal.snapshot(lines, self.replica.copies.snapshot_ready)
        # If it breaks off, a failure may hold them for long. No tombstone is dropped until they are closed.
        taking.addBoth(_closed, lines)
        taking.addCallback(lambda kept: self._perform(self.replica.snapshot_kept()) if kept else None)
        taking.addErrback(lambda why: _log.failure("node {node}: no snapshot", why, node=self.node))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    if effect.channel in self._channels:
                        self._channels[effect.channel].send_line(effect.line)
                case FlushJournal():
                    self._journal.flush()
                case Append():
                    self._journal.append(effect.entry, waits=effect.waits)
                case StopFollowing():
                    self._stop_following(effect.node)
                case Snapshot():
                    self._take_snapshot()
                case StreamReady():
                    self._streams.soon(effect.channel)
                case StepsLeft():
                    if self._stepping is None:
                        self._stepping = self._clock.callLater(0, self._step)
                case CloseChannel():
                    if effect.channel in self._channels:
                        self._channels[effect.channel].cut(effect.reason)
                case LogMessage():
                    level = LogLevel.levelWithName(effect.level)
                    _log.emit(level, "node {node}: {text}", node=self.node, text=effect.text)
                case _:
                    assert_never(effect)


def _closed(result: _T, lines: Generator[bytes, None, None]) -> _T:
    lines.close()
    return result


def _ours(entries: Sequence[JournalEntry]) -> Sequence[Pending]:
    # The journal gives back what it was given, and only the replica gives it anything.
    return cast("Sequence[Pending]", entries)
