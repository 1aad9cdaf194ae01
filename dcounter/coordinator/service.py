"""
The coordinator: a `Store` over our own nodes.

It gives each item its stamp, sends slices to the nodes and asks them for counts. It keeps nothing that the
nodes do not have. What to do when is decided by the pure machines beside it: `dispatch`, `reads` and `view`.
Here are the links, the timers and the callers' Deferreds.
"""

from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Raw
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.coordinator.acks import Acks
from dcounter.coordinator.asking import Asking
from dcounter.coordinator.audits import Auditing, Audits
from dcounter.coordinator.clock_watch import ClockWatch
from dcounter.coordinator.compacting import Compacting
from dcounter.coordinator.counts import CountQuestion, Counts
from dcounter.coordinator.dispatch import Dispatch
from dcounter.coordinator.erasing import Erasing
from dcounter.coordinator.inquiries import Inquiries, OwnedInquiry
from dcounter.coordinator.receipts import Receipts
from dcounter.coordinator.removal import remove
from dcounter.coordinator.requests import Request
from dcounter.coordinator.scraping import Scraping
from dcounter.coordinator.stamping import StampedItems, stamped
from dcounter.coordinator.status import cluster_status
from dcounter.coordinator.unplaced import why_unplaced
from dcounter.coordinator.view import View
from dcounter.coordinator.watches import Watches
from dcounter.coordinator.windows import Flight
from dcounter.errors import (
    NOTHING_STORED,
    LinkLost,
    MalformedMessage,
    NotApplied,
    NotReplicated,
    OutcomeUnknown,
)
from dcounter.events import Feed, Wanted
from dcounter.links.address_book import AddressBook
from dcounter.links.link import NodeLink
from dcounter.protocol import codec, messages
from dcounter.protocol.batch import encode_batch
from dcounter.protocol.clock import HybridClock, SteadyWall
from dcounter.protocol.position import Position
from dcounter.protocol.token import TokenSeal
from dcounter.store import (
    Ack,
    Changes,
    ClusterStatus,
    Consistency,
    Count,
    Erased,
    Items,
    Readiness,
    Receipt,
)

_log = Logger()


class Coordinator(Service, Inquiries, Auditing):
    """
    Stores items on nodes and counts them there.

    :param address_book: how to reach the nodes.
    :param clock: the clock that gives the stamps.
    :param wall: the wall clock.
    :param seal: makes and reads position tokens, and cursors.
    :param jitter: gives a random number around 0, for the pauses between attempts to connect.
    :param view: makes its picture of the nodes.
    :param erasing: makes what deletes tenants; `compacting`, what has old deletions forgotten.
    :param stamp: gives the items of a request their stamps.
    :param troubles: gives what an operator must know about the processes of the nodes, one sentence each.
    :param watches: makes what tells watchers of changes.
    :ivar compacting: has old deletions forgotten.
    :ivar scraping: gathers its figures and those of the nodes.
    """

    def __init__(
        self,
        *,
        cluster: str,
        address_book: AddressBook,
        clock: HybridClock,
        wall: SteadyWall,
        seal: TokenSeal,
        jitter: Callable[[], float],
        view: Callable[..., View] = View,
        stamp: Callable[[Items, HybridClock], StampedItems] = stamped,
        erasing: Callable[..., Erasing] = Erasing,
        compacting: Callable[..., Compacting] = Compacting,
        troubles: Callable[[], Sequence[str]] = tuple,
        watches: Callable[..., Watches] = Watches,
    ) -> None:
        Inquiries.__init__(self, address_book.limits, seal.cursors)
        self._troubles = troubles
        self._cluster = cluster
        self._time = address_book.clock
        self._clock = clock
        self._wall = wall
        self._seal = seal
        self._started = self._time.seconds()
        nodes = sorted(address_book.addresses)
        self._stamp = stamp
        self._view = view(nodes, clock=clock, limits=self._limits, now=self._started)
        self._dispatch = Dispatch(
            nodes,
            limits=self._limits,
            writers=self._writers,
            receipts=lambda: self._receipts.givers(self._writers()),
            flush_soon=self._flush_soon,
        )
        self._links = {
            node: NodeLink(
                node,
                address_book=address_book,
                user=self,
                decode=codec.decode_to_coordinator,
                jitter=jitter,
            )
            for node in nodes
        }
        self._flushing: IDelayedCall | None = None
        self._receipts = Receipts(
            self._view, self._limits, features=lambda node: self._links[node].peer.features
        )
        self._acks = Acks(self._links, self._view, limits=self._limits, time=self._time)
        self._asking = Asking(
            self._links,
            self._view,
            clock=clock,
            seal=seal,
            limits=self._limits,
            time=self._time,
            flush_soon=self._flush_soon,
        )
        self._erasing = erasing(
            self._dispatch,
            self._acks,
            ask=partial(self._put, OwnedInquiry, "exact"),
            stamped=stamp,
            clock=clock,
            seal=seal,
            limits=self._limits,
            time=self._time,
            running=lambda: bool(self.running),
            floor=lambda: self._view.floor,
            compacted=lambda: self._view.compacted,
        )
        self.compacting = compacting(
            self._links, self._view, clock=clock, wall=wall, limits=self._limits, time=self._time
        )
        self._counts = Counts(self._limits, begin=self._asking.begin)
        self._audits = Audits(self._links, self._view, seal, clock, wall, self._limits, self._time)
        self._watches = watches(
            self._links,
            self._view,
            clock=clock,
            seal=seal,
            limits=self._limits,
            time=self._time,
            session=f"{wall():x}",
        )
        self.scraping = Scraping(
            self._links,
            self._view,
            self._dispatch,
            self._asking,
            self._audits,
            readiness=self.readiness,
            limits=self._limits,
            time=self._time,
            wall=wall,
        )
        self._last_beat = 0.0
        self._announced = False
        self._clock_watch = ClockWatch(clock, wall)
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = self._time

    # Service

    def startService(self) -> None:
        Service.startService(self)
        for link in self._links.values():
            link.startService()
        self._ticking.start(self._limits.heartbeat_s / 4, now=False).addErrback(
            lambda why: _log.failure("the heartbeat of the coordinator stopped", why)
        )

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._audits.stop()
        await self._watches.stop()
        until = self._time.seconds() + self._limits.drain_s
        while self._busy() and self._time.seconds() < until:
            await deferLater(self._time, self._limits.heartbeat_s / 4)
        if self._ticking.running:
            self._ticking.stop()
        self._dispatch.stop()
        self._asking.stop()
        self._counts.turn_ended()
        self._acks.stop()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        await gatherResults([link.stopService() for link in self._links.values() if link.running])

    def _busy(self) -> bool:
        """
        Whether a caller waits for an answer.
        """
        return bool(self._dispatch.busy or self._asking.busy or self._acks.busy or self._erasing.busy)

    # Store

    async def store(
        self, items: Items, *, ack: Ack, after: str | None = None, changes: bool = False
    ) -> Receipt:
        before = self._asking.move_past(after)
        if not len(items):
            token = self._seal.seal(before, self._clock.last)
            return Receipt(0, ack, token, changes=Changes([], {}) if changes else None)
        deadline = self._time.seconds() + self._limits.request_s
        stored: Deferred[None] = Deferred()
        if not self._view.takes_writes():
            await self._until_writes_begin(deadline)
        self._require_writers()
        if items.stamps is not None:
            self.compacting.admit(items.stamps)
        request = Request(self._stamp(items, self._clock), deadline, lambda _: stored.callback(None))
        told = wanted = None
        if changes:
            wanted = self._receipts.want(request.items, before, self._writers())
            request.receipt = wanted.message
            self._dispatch.admit_whole(request)
        else:
            self._dispatch.admit(request)
        await stored
        position = before.join(request.position)
        if wanted is not None and request.given is not None:
            position = position.join(request.given.position)
            told = self._receipts.changes(request.items, wanted, request.given)
        token = self._seal.seal(position, self._clock.last)
        if not request.complete:
            self._refuse(request, token)
        reached = await self._acks.wait(request.position, ack, deadline)
        if reached != ack:
            raise NotReplicated(
                f"all {len(items)} items are stored, but durable at '{reached}' instead of '{ack}' "
                f"within {self._limits.request_s:g} s",
                position=token,
                items=len(items),
                reached=reached,
                stamp=request.items.stamp_to_repeat(),
            )
        warning = None if items.stamps is None else self._clock_watch.warning_for_own_stamps()
        return Receipt(len(items), reached, token, warning, told)

    async def erase(
        self, tenant: str, *, ack: Ack, after: str | None = None, stamp: int | None = None
    ) -> Erased:
        self._asking.move_past(after)
        await self._until_writes_begin(self._time.seconds() + self._limits.request_s)
        self._require_writers()
        return await self._erasing.erase(tenant, ack, after, stamp)

    async def count(self, tenant: str, *, consistency: Consistency, after: str | None = None) -> Count:
        extra, _ = self._asking.read_token(after)
        answer: Deferred[Count] = Deferred()
        until = self._asking.until()
        if self.running:
            self._counts.count(tenant, answer, consistency, extra, until)
        else:
            question = CountQuestion(consistency, extra, until)
            question.join(tenant, answer)
            self._asking.expire(question)
        return await answer

    async def watch(self, wanted: Wanted, *, since: str | None = None) -> Feed:
        return await self._watches.watch(wanted, since=since)

    def join(self, first: str, second: str) -> str:
        return self._seal.join(first, second)

    def latest_stamp(self) -> int:
        return self._clock.latest_allowed()

    def status(self) -> ClusterStatus:
        return cluster_status(
            self._view,
            self._links,
            cluster=self._cluster,
            secrets_accepted=self._seal.accepted_secrets,
            now=self._time.seconds(),
            wall=self._wall(),
            warnings=self._warnings(),
        )

    def readiness(self) -> Readiness:
        view = self._view
        waited = self._time.seconds() - self._started >= self._limits.startup_s
        missing = view.missing(view.required)
        writers = view.writers()
        able = bool(writers and view.readers())
        return Readiness(
            # One that restarts later is no reason to send callers away.
            ready=able and (self._announced or waited or len(writers) == len(self._links)),
            exact=not missing,
            missing=missing,
            warnings=self._warnings(),
        )

    def _warnings(self) -> list[str]:
        """
        What an operator has to look at.
        """
        return [*self._troubles(), *self._clock_watch.warnings().values(), *self._audits.warnings()]

    async def remove(self, node: int) -> None:
        await remove(node, self._links, self._view, limits=self._limits, time=self._time)

    # Storing

    def _require_writers(self) -> None:
        """
        Refuse what changes something while no node would take it.

        :raises NotApplied: so it is.
        """
        if not self.running:
            raise NotApplied(f"the coordinator is stopping{NOTHING_STORED}", retry_after=1)
        if self._view.refusals():
            raise NotApplied(why_unplaced(self._view, self._writers()), retry_after=1)

    def _refuse(self, request: Request, token: str) -> None:
        """
        Say that a request has ended before all of it was stored.
        """
        if not request.maybe_stored:
            raise NotApplied(why_unplaced(self._view, self._writers()), retry_after=1)
        raise OutcomeUnknown(
            f"{request.items_stored} of {len(request.items.ids)} items are known to be stored, "
            "of the others nothing is known",
            position=token,
            items_stored=request.items_stored,
            stamp=request.items.stamp_to_repeat(),
        )

    def _writers(self) -> Sequence[int]:
        return [node for node in self._view.writers() if self._links[node].up]

    def _send(self, flight: Flight) -> None:
        batch = flight.batch()
        items = batch.items
        self._dispatch.batch_items.add(items)
        if items >= self._limits.packed_items:
            batch = batch.pack()
        raw = Raw(encode_batch(batch))
        # Only a batch that is full with one slice may have a receipt.
        receipt = flight.slices[0].request.receipt if flight.full else None
        try:
            answer = self._links[flight.node].ask(lambda number: messages.Store(number, raw, receipt))
        except LinkLost:
            self._dispatch.flight_failed(flight)
        else:
            answer.addCallback(self._stored, flight).addErrback(self._flight_lost, flight)
            answer.addErrback(lambda why: _log.failure("a batch was not settled", why))

    def _stored(self, answer: messages.Stored, flight: Flight) -> None:
        self._clock.observe(answer.stamp)
        position = Position()
        if answer.number:
            position = position.advance(flight.node, answer.run, answer.number)
            self._view.answered(flight.node, position)
            self._view.require(position)
        if answer.receipt is not None and not flight.slices[0].settled:
            flight.slices[0].request.given = answer.receipt
        self._dispatch.stored(flight, position, answer.refused, maybe_stored=answer.doubtful)

    def _flight_lost(self, why: Failure, flight: Flight) -> None:
        why.trap(LinkLost)
        self._dispatch.flight_failed(flight)

    # Links

    def link_up(self, link: NodeLink) -> None:
        self._view.connected(link.node, self._time.seconds())
        self.scraping.connected(link.node)

    def link_down(self, link: NodeLink) -> None:
        self._view.disconnected(link.node)
        self._dispatch.writer_gone(link.node)

    def link_writable(self, link: NodeLink) -> None:
        pass

    def link_received(self, link: NodeLink, message: messages.Report, line: bytes) -> None:
        if message.node != link.node:
            raise MalformedMessage(f"a report of node {message.node} from node {link.node}")
        if message.port:
            link.moved(message.port)
        lost_runs = self._view.reported(message, self._time.seconds())
        for node in self._view.removed & self._links.keys():
            _log.warn("node {node} was removed", node=node)
            self._links.pop(node).stopService().addErrback(
                lambda why: _log.failure("a link did not stop", why)
            )
        for lost in lost_runs:
            _log.error(
                "lost: batches of node {node}'s run {run} after number {last}; no member has them",
                node=lost.node,
                run=lost.run,
                last=lost.last,
            )
        if message.refuses is not None:
            self._dispatch.writer_gone(link.node)
            if self._view.refusals():
                self._dispatch.end_unsent()
        if not self._announced and self.readiness().ready:
            self._announced = True
            _log.info("ready to take items")
        self._dispatch.writers_changed()

    # Time

    def _flush_soon(self) -> None:
        """
        Send at the end of this turn of the reactor: all that comes in one turn shares batches and counts.
        """
        if self._flushing is None:
            self._flushing = self._time.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        for flight in self._dispatch.launch(self._time.seconds()):
            self._send(flight)
        self._counts.turn_ended()
        self._asking.flush()

    def _tick(self) -> None:
        now = self._time.seconds()
        self._view.look(now)
        for node in self._view.silent(now):
            self._links[node].cut(f"silent for {self._limits.suspicion_s:g} s")
        if now - self._last_beat >= self._limits.heartbeat_s:
            self._last_beat = now
            self._tell_of_clocks()
            beat = codec.encode(messages.Beat(self._clock.last))
            for link in self._links.values():
                link.send_line(beat)
        self._dispatch.tick(now)
        self._acks.tick(now)
        self._asking.tick(now)
        self._watches.tick(now)

    def _tell_of_clocks(self) -> None:
        news = self._clock_watch.news()
        for text in news.begun:
            _log.error("{text}", text=text)
        if news.over:
            _log.info("the wall clock and the stamps agree again")

    async def _until_writes_begin(self, deadline: float) -> None:
        """
        Wait until stamps can be given out.

        :raises NotApplied: they cannot before the deadline.
        """
        self._view.begin_writes(self._time.seconds())
        while not self._view.takes_writes():
            await self._pause(deadline)
            self._view.begin_writes(self._time.seconds())

    async def _pause(self, deadline: float) -> None:
        """
        Wait a little.

        :raises NotApplied: it is too late for that.
        """
        if self._time.seconds() >= deadline or not self.running:
            raise NotApplied(f"the nodes have not reported yet{NOTHING_STORED}", retry_after=1)
        await deferLater(self._time, self._limits.heartbeat_s / 4)
