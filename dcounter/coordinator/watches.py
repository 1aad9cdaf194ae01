"""
Watches a node, and tells all watchers what has changed there.

Any node will do, since each has everything in the end. The primary is preferred, because it is asked for
counts as well. If it is lost, another one is watched; nobody knows which counts have changed between what the
one told last and what the other tells first, so all watchers are told to ask anew.

While nobody watches, no node is watched.
"""

from collections import deque
from collections.abc import Mapping
from typing import Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcounter.coordinator.view import View
from dcounter.coordinator.watching import Board, NodeStates, Reader
from dcounter.errors import LinkLost, NotSupportedHere
from dcounter.events import Dropped, Feed, News, Wanted
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.protocol.abilities import WATCHES
from dcounter.protocol.clock import HybridClock
from dcounter.protocol.position import NodeId, Position
from dcounter.protocol.token import TokenSeal
from dcounter.protocol.watching import Changed, Watch

_log = Logger()

_LOOK_S = 1.0
"""
Time (s) between two looks for watchers that have been told nothing for long.
"""


class Watches:
    """
    The watchers of a coordinator.

    :param links: node -> the link to it; removed members are deleted from it.
    :param view: the coordinator's picture of the nodes.
    :param clock: the coordinator's clock, moved past every stamp that a node has heard of.
    :param seal: makes tokens of positions.
    :param session: a text that no other coordinator has.
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
        session: str,
    ) -> None:
        self._links = links
        self._view = view
        self._clock = clock
        self._seal = seal
        self._limits = limits
        self._time = time
        self._board = Board(session, limits)
        self._feeds: dict[Reader, WatcherFeed] = {}
        self._due: dict[WatcherFeed, None] = {}
        self._handing_out: IDelayedCall | None = None
        self._spent = 0.0
        self._states: NodeStates | None = None
        # The node that is watched, what it included last, and one that could not be watched.
        self._source: NodeId | None = None
        self._position = Position()
        self._unable: NodeId | None = None
        self._asked = False
        self._ask_after = self._look_after = self._wanted_until = float("-inf")
        self._starting: deque[tuple[float, Deferred[None]]] = deque()
        self._stopping = False

    # Watchers

    async def watch(self, wanted: Wanted, *, since: str | None = None) -> Feed:
        """
        See `Store.watch`.

        :raises NotSupportedHere: no node that could be watched knows how.
        """
        readers = [node for node in self._view.readers() if node in self._links]
        if readers and not any(self._able(node) for node in readers):
            raise NotSupportedHere(
                f"nodes {readers} run a release of dcounter that cannot do this: upgrade them"
            )
        now = self._time.seconds()
        self._wanted_until = now + self._limits.watch_linger_s
        if self._states is None:
            self._states = NodeStates(self._view)
        if self._source is None and not self._stopping:
            # It begins in a moment. If it cannot, the watcher is told when it does.
            starting: Deferred[None] = Deferred()
            self._starting.append((now + self._limits.read_wait_s, starting))
            await starting
        reader, resumed = self._board.join(wanted, since)
        position = self._view.required if self._source is None else self._position
        feed = self._feeds[reader] = WatcherFeed(
            self,
            reader,
            position=self._token(position),
            id=self._board.id_at(reader.place),
            resumed=resumed,
            now=self._time.seconds(),
        )
        return feed

    def news(self, feed: "WatcherFeed") -> News | None:
        """
        What a watcher is told next; `None` if it has to wait.
        """
        now = self._time.seconds()
        if self._stopping:
            news: News | None = News([Dropped("stopping", "the daemon is stopping")], None)
        else:
            news = self._board.news(feed.reader, now)
        if news is None and feed.quiet:
            news = News((), None)
        if news is not None:
            feed.told_at, feed.quiet = now, False
        return news

    def leave(self, feed: "WatcherFeed") -> None:
        """
        A watcher goes.
        """
        self._board.leave(feed.reader)
        self._feeds.pop(feed.reader, None)
        self._due.pop(feed, None)

    def _token(self, position: Position) -> str:
        return self._seal.seal(position, self._clock.last)

    # Time

    def tick(self, now: float) -> None:
        """
        Time has passed: to be called a few times per heartbeat.
        """
        while self._starting and now >= self._starting[0][0]:
            self._start(self._starting.popleft()[1])
        if self._feeds:
            self._wanted_until = now + self._limits.watch_linger_s
        elif now >= self._wanted_until:
            # What changes from now on is not noticed.
            self._source = self._states = None
            return
        if self._states is not None:
            self._board.node_changed(self._states.changes())
        if now >= self._look_after:
            self._look_after = now + _LOOK_S
            self._find_quiet(now)
        self._begin_round(now)
        if not self._asked and not self._due and now >= self._ask_after:
            self._ask(now)

    async def stop(self) -> None:
        """
        End all feeds.
        """
        self._stopping = True
        while self._starting:
            self._start(self._starting.popleft()[1])
        if self._handing_out is not None:
            self._handing_out.cancel()
            self._handing_out = None
        for feed in list(self._feeds.values()):
            self._due[feed] = None
        while self._due:
            self._hand_out_some()
            await deferLater(self._time, 0)

    @staticmethod
    def _start(starting: Deferred[None]) -> None:
        # A caller that has hung up has cancelled it.
        if not starting.called:
            starting.callback(None)

    def _find_quiet(self, now: float) -> None:
        for feed in self._feeds.values():
            if now - feed.told_at >= self._limits.watch_quiet_s:
                feed.quiet = True
                self._due[feed] = None

    # The node that is watched

    def _able(self, node: NodeId) -> bool:
        return WATCHES in self._links[node].peer.features

    def _choose(self) -> NodeId | None:
        """
        The best node to watch; another one than the last that could not be watched, if there is one.
        """
        able = [
            node
            for node in self._view.candidates(self._view.required)
            if node in self._links and self._links[node].up and self._able(node)
        ]
        return next((node for node in able if node != self._unable), able[0] if able else None)

    def _ask(self, now: float) -> None:
        """
        Ask the node that is watched what has changed, or another one from when on it can tell.
        """
        goes_on = self._source in self._links
        node = self._source if goes_on else self._choose()
        if node is None:
            return
        required = Position() if goes_on else self._view.required
        wait = round(1000 * self._limits.watch_wait_s)
        try:
            answer = self._links[node].ask(lambda number: Watch(number, goes_on, required, wait))
        except LinkLost:
            self._source = None
            return
        self._asked = True
        self._ask_after = now + self._limits.watch_pace_s
        answer.addCallback(self._answered, node).addErrback(self._not_answered)
        answer.addErrback(lambda why: _log.failure("changes were not told", why))

    def _answered(self, changed: Changed, node: NodeId) -> None:
        self._asked = False
        self._clock.observe(changed.stamp)
        self._view.answered(node, changed.position)
        if not changed.complete:
            self._source, self._unable = None, node
            return
        now = self._time.seconds()
        self._unable = None
        self._position = changed.position
        if changed.begins or changed.tenants:
            # What is told later, by another node as well, does not go back behind this.
            self._view.require(changed.position)
        if changed.begins:
            self._begin_at(node)
        self._board.changed(changed.tenants, changed.counts)
        self._begin_round(now)

    def _begin_at(self, node: NodeId) -> None:
        """
        From now on it is known what changes.
        """
        self._source = node
        self._board.begin(self._token(self._position))
        while self._starting:
            self._start(self._starting.popleft()[1])

    def _not_answered(self, why: Failure) -> None:
        why.trap(LinkLost)
        self._asked = False
        self._source = None

    # Rounds

    def _begin_round(self, began: float) -> None:
        """
        Tell the watchers for whom something has come.

        :param began: since when (s) this costs time.
        """
        for reader in self._board.take_touched(began):
            self._due[self._feeds[reader]] = None
        self._spent += self._time.seconds() - began
        if self._due and self._handing_out is None:
            self._hand_out()

    def _hand_out(self) -> None:
        self._handing_out = None
        now = self._hand_out_some()
        if self._due:
            self._handing_out = self._time.callLater(0, self._hand_out)
        else:
            self._ask_after = max(self._ask_after, now + self._limits.watch_rest * self._spent)
            self._spent = 0.0

    def _hand_out_some(self) -> float:
        """
        Tell some watchers; returns when (s) that was done.
        """
        began = now = self._time.seconds()
        while self._due and now - began < self._limits.watch_turn_s:
            feed = next(iter(self._due))
            del self._due[feed]
            feed.wake()
            now = self._time.seconds()
        self._spent += now - began
        return now


class WatcherFeed:
    """
    The events for one watcher.

    :ivar reader: its place in the list.
    :ivar quiet: whether it is to be told that there is nothing new.
    :ivar told_at: when (s) it was told something last.
    """

    def __init__(
        self, watches: Watches, reader: Reader, *, position: str, id: str, resumed: bool, now: float
    ) -> None:
        self._watches = watches
        self.reader = reader
        self.position = position
        self.id = id
        self.resumed = resumed
        self.quiet = False
        self.told_at = now
        self._waiting: Deferred[None] | None = None
        self._open = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> News:
        while self._open:
            news = self._watches.news(self)
            if news is not None:
                if any(isinstance(event, Dropped) for event in news.events[-1:]):
                    self.close()
                return news
            self._waiting = Deferred()
            await self._waiting
        raise StopAsyncIteration

    def wake(self) -> None:
        """
        Look whether there is something to tell.
        """
        waiting, self._waiting = self._waiting, None
        # A reader that no longer waits has cancelled it.
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._watches.leave(self)
            self.wake()
