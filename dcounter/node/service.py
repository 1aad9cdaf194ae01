"""
A node as a service: sockets, timers and a journal around a `Replica`.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, assert_never, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, LogLevel

from dcounter.errors import (
    ConfigurationError,
    CorruptJournal,
    DirectoryInUse,
    NewerJournal,
    Outcast,
    PeerError,
    Removed,
    SecondHolder,
    WrongNode,
)
from dcounter.journal.framing import Entry
from dcounter.journal.interface import Journal
from dcounter.limits import Limits
from dcounter.links.address_book import AddressBook
from dcounter.links.connection import Conversation
from dcounter.links.link import PeerLink
from dcounter.links.throttle import Throttle
from dcounter.node.durability import Pending
from dcounter.node.effects import (
    Append,
    CloseChannel,
    Effect,
    FlushJournal,
    LogMessage,
    Send,
    Snapshot,
    StopFollowing,
    StreamReady,
)
from dcounter.node.holders import Holders
from dcounter.node.progress import Progress, Tell, reason
from dcounter.node.replica import Replica
from dcounter.protocol import codec, messages
from dcounter.protocol.handshake import Callee, Identity, Peer, Role

_log = Logger()

_CHECK_DELAY = 0.05
"""
Time (s) after a lost connection until the node looks whether its own port still answers.
"""

_UNHEARD = 3
"""
So many times in a row a connection to its own port must stay unanswered, and unheard of, before the node
takes the port for lost.
"""

_DEAF_PAUSE = 1.0
"""
Time (s) after which a node that found no free port looks again.
"""

_LOCK_PATIENCE = 10.0
_LOCK_PAUSE = 0.05
"""
Time (s) after which a node complains that another process uses its directory, and between two looks.
"""

_RIVALS_INTERVAL = 10.0
"""
Shortest time (s) between two complaints of two processes that hold one node id.
"""

_UNUSABLE = (errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT)
"""
Why no other port is worth a try, or, if it is so for all of them, no later one.
"""

_LASTING = (CorruptJournal, NewerJournal, ConfigurationError, OSError)
"""
Why a node cannot start before somebody has done something about it.
"""

Listen = Callable[[int], IStreamServerEndpoint]
"""
Gives the endpoint to listen on a port.
"""


class _Channel(Protocol):
    """
    What the node needs of a connection, whoever made it.
    """

    @property
    def paused(self) -> bool: ...

    @property
    def host(self) -> str: ...

    def send_line(self, line: bytes) -> None: ...

    def cut(self, reason: str) -> None: ...


class _Accepted(Conversation):
    """
    A conversation that somebody else began.
    """

    def __init__(self, node: "Node", callee: Callee, limits: Limits, clock: IReactorTime) -> None:
        super().__init__(limits, clock, node.complaints)
        self._node = node
        self._callee = callee
        self._state: Literal["hello", "proof"] | Role = "hello"
        self._channel: int | None = None

    @property
    def host(self) -> str:
        """
        The caller's machine.
        """
        return str(self.tcp.getPeer().host)

    def line_received(self, line: bytes) -> None:
        match self._state:
            case "hello":
                hello = codec.decode_hello(line)
                if isinstance(hello, messages.Farewell):
                    self.close("it left before the handshake")
                    return
                self.send(self._callee.greet(hello, self.tcp.getHost().port))
                self._state = "proof"
            case "proof":
                proof = codec.decode_proof(line)
                if isinstance(proof, messages.Farewell):
                    self.close("it left before the handshake")
                    return
                self._welcome(self._callee.verify(proof))
            case "node":
                self._heard(codec.decode_between_nodes(line), line)
            case "coordinator":
                self._heard(codec.decode_from_coordinator(line), line)
            case "probe":
                self.close("the probe has what it wanted")
            case _:
                assert_never(self._state)

    def _heard(
        self, message: messages.FromCoordinator | messages.BetweenNodes | messages.Farewell, line: bytes
    ) -> None:
        if isinstance(message, messages.Farewell):
            self.close(f"the other end left: {message.reason}")
        elif self._channel is not None:
            self._node.received(self._channel, message, line)

    def _welcome(self, peer: Peer) -> None:
        self._node.admit(peer)
        self.welcomed()
        self.send(messages.Welcome())
        self._state = peer.role
        if peer.role != "probe":
            self._channel = self._node.accepted(self, peer)

    def cut(self, reason: str) -> None:
        self.close(reason)

    def refuse(self, error: PeerError) -> None:
        if isinstance(error, WrongNode | SecondHolder | Outcast):
            # The first is no fault, and the others were told already.
            self._close_for(error)
        else:
            super().refuse(error)

    def connectionMade(self) -> None:
        super().connectionMade()
        self._node.conversations.add(self)

    def connectionLost(self, reason: object = None) -> None:
        super().connectionLost()
        self._node.conversations.discard(self)

    def connection_ended(self, reason: str) -> None:
        if self._channel is not None:
            self._node.left(self._channel)

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self._channel is not None:
            self._node.writable(self._channel)


class _Listener(Factory):
    """
    What one listening port of the node serves; it tells when the port is lost.
    """

    noisy = False

    def __init__(self, node: "Node") -> None:
        self._node = node

    def buildProtocol(self, addr: IAddress | None) -> _Accepted | None:
        return self._node.conversation()

    def stopFactory(self) -> None:
        self._node.listenerLost(self)


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
    ) -> None:
        self.node = node
        self._tell = tell or self._log_progress
        self._place = place
        self._remedy = remedy or f"Start once with --rebuild {node} to make it anew from the other nodes"
        self.conversations: set[_Accepted] = set()
        self.complaints = address_book.complaints
        self.replica = replica(node, identity.members, wall=wall, limits=limits, pid=pid)
        self._identity = identity
        self._address_book = address_book
        self._listen = listen
        self._address = address_book.addresses[node]
        self._journal = journal
        self._limits = limits
        self._clock = clock
        self._nonce = nonce
        self._listener: _Listener | None = None
        self._listening: IListeningPort | None = None
        self._listened = False
        self._taken_in = 0
        self._unheard = 0
        self._starting: Deferred[None] = succeed(None)
        self._seeking: Deferred[None] = succeed(None)
        self._check: IDelayedCall | None = None
        self._channels: dict[int, _Channel] = {}
        self._link_channels: dict[PeerLink, int] = {}
        self._last_channel = 0
        self._streams: dict[int, IDelayedCall] = {}
        self._paced_until: dict[int, float] = {}
        self.holders = holders(
            (node, address_book.instance), patience=limits.suspicion, seconds=clock.seconds
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
            self._give_up(error)
            return
        self._journal.open(self)
        self._perform(self.replica.begin())
        self._begin_to_listen(self._address.port)
        for link in self._links:
            if link.node not in self.replica.members.removed:
                link.startService()
        self._ticking.start(self._limits.heartbeat / 4, now=True).addErrback(
            lambda why: _log.failure("node {node} ticks no more", why, node=self.node)
        )
        try:
            while not loaded:
                await deferLater(self._clock, self._limits.load_pause)
                loaded = self._load_some(rest)
        except _LASTING as error:
            # It counted nothing exactly yet, so nobody was told anything wrong. What it took meanwhile goes
            # to the others first.
            await self._shut_down()
            self._give_up(error)

    def _log_progress(self, progress: Progress) -> None:
        if progress.why:
            _log.error("{sentence}", sentence=progress.sentence(self.node))

    def _give_up(self, error: Exception) -> None:
        """
        Leave it to the one that runs this node to say that it cannot start, and to try again.
        """
        self._tell(Progress("cannot start", reason(error, place=self._place, remedy=self._remedy)))

    async def _recover(self) -> None:
        """
        Find out what the journal kept, without stopping whatever else this process does.
        """
        entries, entry = await self._open_journal()
        pause = self._clock.seconds() + self._limits.load
        while entry is not None:
            self.replica.restoring.restore(entry)
            if self._clock.seconds() > pause:
                await deferLater(self._clock, 0)
                pause = self._clock.seconds() + self._limits.load
            entry = next(entries, None)

    def _load_some(self, entries: Iterator[Entry]) -> bool:
        """
        Take more of what the journal kept into the ledger; whether that was all.
        """
        pause = self._clock.seconds() + self._limits.load
        for entry in entries:
            self.replica.restoring.load(entry)
            if self._clock.seconds() >= pause:
                return False
        self._perform(self.replica.loaded())
        return True

    async def _open_journal(self) -> tuple[Iterator[Entry], Entry | None]:
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
        self._seeking.cancel()
        self._perform(self.replica.drain())
        until = self._clock.seconds() + self._limits.drain
        while not self.replica.drained() and self._clock.seconds() < until:
            await deferLater(self._clock, self._limits.heartbeat / 4)
        if self._ticking.running:
            self._ticking.stop()
        if self._check is not None and self._check.active():
            self._check.cancel()
        self.complaints.settle(at_once=True)
        self._listener = None
        if self._listening is not None:
            await maybeDeferred(self._listening.stopListening)
            self._listening = None
        # In an order that the same events repeat.
        for conversation in sorted(self.conversations, key=lambda each: each.tcp.getPeer().port):
            conversation.close("the node is stopping")
        await gatherResults([link.stopService() for link in self._links if link.running])
        while self.conversations:
            await deferLater(self._clock, self._limits.heartbeat / 4)
        await self._journal.close()

    # Listening

    async def _listen_from(self, first: int) -> None:
        """
        Listen on the first free port of the range, from `first` on; as soon as there is one.
        """
        told = ""
        while (refused := await self._listen_once(first)) is not None:
            self._listener = None
            self._perform(self.replica.listening(0))
            ports = self._address.ports
            why = f"it cannot listen on any port from {ports[0]} to {ports[-1]}: {refused}"
            lasting = getattr(refused.socketError, "errno", None) in _UNUSABLE
            if why != told:
                told = why
                self._tell(Progress("cannot start" if lasting and not self._listened else "waits", why))
            await deferLater(self._clock, _DEAF_PAUSE)
        self._listened = True
        self._tell(Progress("up"))

    async def _listen_once(self, first: int) -> CannotListenError | None:
        """
        Listen on the first free port.

        :returns: why there is none; `None` if it listens.
        """
        taken: list[int] = []
        refused: CannotListenError | None = None
        for port in self._address.ports_from(first):
            listener = self._listener = _Listener(self)
            try:
                self._listening = await self._listen(port).listen(listener)
            except CannotListenError as error:
                if getattr(error.socketError, "errno", None) not in _UNUSABLE:
                    taken.append(port)
                    refused = error
                elif refused is None:
                    refused = error
                continue
            passed = f" ({_ranges(taken)} taken)" if taken else ""
            _log.info("node {node} listens on port {port}{passed}", node=self.node, port=port, passed=passed)
            self._perform(self.replica.listening(port))
            return None
        return refused

    def _begin_to_listen(self, first: int) -> None:
        self._seeking = Deferred.fromCoroutine(self._listen_from(first))
        self._seeking.addErrback(lambda why: why.trap(CancelledError))
        self._seeking.addErrback(lambda why: _log.failure("node {node} cannot listen", why, node=self.node))

    def listenerLost(self, listener: _Listener) -> None:
        """
        A listening port is gone; if nobody asked for that, listen on the next one.
        """
        if listener is self._listener and self._listening is not None and self.running:
            lost = self.replica.status.port
            self._listening = None
            _log.warn("node {node} lost its listener on port {port}", node=self.node, port=lost)
            self._begin_to_listen(lost + 1)

    def _check_soon(self) -> None:
        if self._check is None and self.running:
            self._check = self._clock.callLater(_CHECK_DELAY, self._start_check)

    def _start_check(self) -> None:
        checking = Deferred.fromCoroutine(self._check_listener())
        checking.addErrback(lambda why: _log.failure("node {node} cannot check itself", why, node=self.node))

    async def _check_listener(self) -> None:
        """
        Whether our own port still answers: a listener that was closed underneath the reactor tells nobody.

        On a busy machine our own answer may be late; then it is asked again. It is not ours any more if
        another one answers, or if connections get there of which we never hear.
        """
        listening = self._listening
        # A full node would turn away itself.
        if listening is None or len(self.conversations) >= self._limits.connections:
            self._check = None
            return
        before = self._taken_in
        found = await self._address_book.probe(self.node, self.replica.status.port)
        self._check = None
        heard = self._taken_in > before
        self._unheard = 0 if heard or found == "it" else self._unheard + 1
        if found == "it" or listening is not self._listening or not self.running:
            return
        if heard or (found == "nothing in time" and self._unheard < _UNHEARD):
            self._check_soon()
        else:
            self._unheard = 0
            # Its end calls listenerLost.
            await maybeDeferred(listening.stopListening)

    # Conversations that others began

    def conversation(self) -> _Accepted | None:
        """
        A conversation for a new connection; `None` if there are too many.

        A node that drains takes them, too: a follower may have to come back for what it lacks.
        """
        self._taken_in += 1
        if len(self.conversations) >= self._limits.connections or self._listener is None:
            return None
        callee = Callee(
            self._identity,
            node=self.node,
            run=self.replica.run,
            nonce=self._nonce(),
            instance=self._address_book.instance,
            forgotten=self.replica.members.removed,
            abilities=self._address_book.abilities,
        )
        return _Accepted(self, callee, self._limits, self._clock)

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
        host = self.holders.rival(node, instance)
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

    def accepted(self, conversation: _Accepted, peer: Peer) -> int:
        """
        A conversation passed its handshake.
        """
        return self._opened(conversation, peer, calls=False)

    def received(
        self, channel: int, message: messages.FromCoordinator | messages.BetweenNodes, line: bytes
    ) -> None:
        """
        A message arrived on a channel.

        :param line: the same as it came.
        """
        if isinstance(message, messages.Report):
            self._look_where_it_listens(message)
        self._perform(self.replica.receive(channel, message, line, self._clock.seconds()))

    def left(self, channel: int) -> None:
        """
        A conversation that somebody else began is over.
        """
        self._closed(channel)
        self._check_soon()

    def writable(self, channel: int) -> None:
        """
        A channel takes more.
        """
        self._stream(channel)

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
        self._stream(self._link_channels[link])

    def _look_where_it_listens(self, report: messages.Report) -> None:
        for link in self._links:
            if link.node == report.node and report.port:
                link.moved(report.port)

    def _refused(self, peer: int, said: messages.Farewell) -> None:
        """
        A member, which has proved that it is one, does not let this node in.
        """
        if said.code == SecondHolder.code:
            self._perform(self.replica.rivalled(peer, said.reason))
        elif said.code == Removed.code:
            self._perform(self.replica.removed_says(peer))

    def _abandon(self, node: int) -> None:
        for link in self._links:
            if link.node == node and link.running:
                stopping = link.stopService()
                stopping.addErrback(lambda why: _log.failure("a link did not stop", why))

    # The replica and its effects

    def _opened(self, channel: _Channel, peer: Peer, *, calls: bool) -> int:
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
        self._paced_until.pop(channel, None)
        late = self._streams.pop(channel, None)
        if late is not None and late.active():
            late.cancel()
        self._perform(self.replica.disconnected(channel))

    def _tick(self) -> None:
        self._perform(self.replica.tick(self._clock.seconds()))
        self.complaints.settle()
        if self._journal.due and not self.replica.loading:
            self._take_snapshot()

    # The journal

    def journal_synced(self, entries: Sequence[Entry]) -> None:
        self._perform(self.replica.synced(_ours(entries)))

    def journal_doubted(self) -> None:
        self._perform(self.replica.doubted())

    def journal_failed(self, entries: Sequence[Entry], reason: str) -> None:
        self._perform(self.replica.failed(_ours(entries), reason))

    def journal_mended(self) -> None:
        self._perform(self.replica.mended())

    def _take_snapshot(self) -> None:
        taking = self._journal.snapshot(self.replica.copies.snapshot(), self.replica.copies.snapshot_ready)
        taking.addCallback(lambda kept: self._perform(self.replica.snapshot_kept()) if kept else None)
        taking.addErrback(lambda why: _log.failure("node {node}: no snapshot", why, node=self.node))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    if effect.channel in self._channels:
                        self._channels[effect.channel].send_line(effect.line)
                case FlushJournal():
                    self._journal.hurry()
                case Append():
                    self._journal.append(effect.entry, waits=effect.waits)
                case StopFollowing():
                    self._abandon(effect.node)
                case Snapshot():
                    self._take_snapshot()
                case StreamReady():
                    self._stream_soon(effect.channel)
                case CloseChannel():
                    if effect.channel in self._channels:
                        self._channels[effect.channel].cut(effect.reason)
                case LogMessage():
                    level = LogLevel.levelWithName(effect.level)
                    _log.emit(level, "node {node}: {text}", node=self.node, text=effect.text)
                case _:
                    assert_never(effect)

    def _stream_soon(self, channel: int) -> None:
        """
        Stream at once, unless that was done a moment ago: then what comes meanwhile goes along.
        """
        if channel in self._streams:
            return
        left = self._paced_until.get(channel, 0.0) - self._clock.seconds()
        if left <= 0:
            self._stream(channel)
        else:
            self._streams[channel] = self._clock.callLater(left, self._stream_late, channel)

    def _stream_late(self, channel: int) -> None:
        del self._streams[channel]
        self._stream(channel)

    def _stream(self, channel: int) -> None:
        """
        Write what the replica has for a channel, as long as the channel takes more.
        """
        there = self._channels.get(channel)
        self._paced_until[channel] = self._clock.seconds() + self._limits.stream_pace
        while there is not None and not there.paused:
            lines = self.replica.stream(channel)
            if not lines:
                return
            for line in lines:
                there.send_line(line)


def _ranges(ports: Sequence[int]) -> str:
    """
    How ports are named in a message.
    """
    if len(ports) == 1:
        return f"{ports[0]} is"
    return f"{len(ports)} ports from {ports[0]} on are"


def _ours(entries: Sequence[Entry]) -> Sequence[Pending]:
    # The journal gives back what it was given, and only the replica gives it anything.
    return cast("Sequence[Pending]", entries)
