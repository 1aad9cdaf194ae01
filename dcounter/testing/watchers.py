"""
Callers that watch: what they believe each tenant owns, as a page would that shows it.
"""

from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dcounter.coordinator.service import Coordinator
from dcounter.errors import Incomplete, InvalidPosition, NotSupportedHere, PositionLost
from dcounter.events import CountChanged, Dropped, Event, Feed, Reset, Wanted
from dcounter.testing.asked import GROWING
from dcounter.testing.cluster import Cluster

_PAUSE = 0.5
"""
Time (s) after which a watcher tries again what was refused.
"""


class Story(Protocol):
    """
    What a watcher needs of the history of its world.

    :ivar lossy: nodes have no disks, and some die.
    :ivar watchers: those that watch, or will again.
    """

    cluster: Cluster
    lossy: bool
    watchers: "list[Watcher]"

    def note(self, text: str) -> None: ...

    def problem(self, text: str) -> None: ...

    def failed(self, why: Failure) -> None: ...

    def running(self) -> list[Coordinator]: ...


class Watcher:
    """
    A caller that watches some tenants. It asks for their counts once, and again after a reset.

    :param tenants: all tenants that it wants to know of.
    :param pause: time (s) that it takes to read.
    :ivar coordinator: which one it watches, or watched last.
    :ivar believed: what each tenant owns, as far as it knows.
    :ivar sure: whether all of that was counted or told since the last reset.
    """

    def __init__(
        self, story: Story, coordinator: Coordinator, wanted: Wanted, tenants: Sequence[str], pause: float
    ) -> None:
        self.coordinator = coordinator
        self.believed: dict[str, int] = {}
        self.sure = False
        self._story = story
        self._wanted = wanted
        self._tenants = tenants
        self._pause = pause
        self._feed: Feed | None = None
        self._read_to: str | None = None
        self._fresh: set[str] = set()
        self._resets = 0
        story.watchers.append(self)

    def __str__(self) -> str:
        return f"watcher of {self._wanted.tenants or self._wanted.prefixes or 'all'}"

    def start(self) -> None:
        """
        Watch, and go on where it stopped, if that is possible.
        """
        self._run(self._watch(self.coordinator))

    def interrupt(self, random: Random) -> None:
        """
        Lose the connection, and make another one soon, perhaps to another coordinator.
        """
        feed, self._feed = self._feed, None
        if feed is None:
            return
        self._story.note(f"{self} hangs up at {self._read_to}")
        feed.close()
        self.sure = False
        self._run(self._come_back(random.choice([0.0, 0.3, 2.0, 35.0])))

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        done = Deferred.fromCoroutine(what)
        done.addErrback(lambda why: None if why.check(CancelledError) else self._story.failed(why))

    async def _come_back(self, seconds: float) -> None:
        await deferLater(self._story.cluster.clock, seconds)
        running = self._story.running()
        if self not in self._story.watchers or not running:
            self._gone()
            return
        if self.coordinator not in running:
            self.coordinator = running[0]
        await self._watch(self.coordinator)

    def _gone(self) -> None:
        if self in self._story.watchers:
            self._story.watchers.remove(self)

    async def _watch(self, coordinator: Coordinator) -> None:
        try:
            feed = await coordinator.watch(self._wanted, since=self._read_to)
        except NotSupportedHere:
            self._gone()
            return
        self._feed = feed
        resumed = feed.resumed and self._read_to is not None
        self._story.note(f"{self} {'goes on' if resumed else 'begins'} at {feed.id}")
        self._read_to = feed.id
        # What it had counted before it left, it still knows; what it had not, it asks for.
        self.sure = resumed and set(self._tenants) <= self.believed.keys()
        if not self.sure:
            self._begin(feed.position)
        async for news in feed:
            for event in news.events:
                self._told(event)
            self._read_to = news.id or self._read_to
            if self._pause:
                await deferLater(self._story.cluster.clock, self._pause)
        if self._feed is feed:
            # It was dropped.
            self._feed, self.sure = None, False
            await self._come_back(_PAUSE)

    def _told(self, event: Event) -> None:
        if isinstance(event, Reset):
            self._begin(event.position)
        elif isinstance(event, CountChanged):
            self._told_count(event.tenant, event.counter)
        elif isinstance(event, Dropped):
            self._story.note(f"{self} is dropped: {event.code}")

    def _told_count(self, tenant: str, counter: int) -> None:
        wanted = self._wanted
        if not tenant.startswith(wanted.prefixes or "") or tenant not in (wanted.tenants or [tenant]):
            self._story.problem(f"{self} is told of {tenant!r}")
        # A count that it asked for may be newer than an event that comes after the answer.
        before = self.believed[tenant] if tenant in self._fresh else 0
        if tenant == GROWING and counter < before and not self._story.lossy:
            self._story.problem(f"{self} is told of {counter} items of {GROWING!r} after {before}")
        self.believed[tenant] = counter
        self._fresh.add(tenant)

    def _begin(self, position: str) -> None:
        """
        Ask for all counts: events tell of what changes after a position.
        """
        self._resets += 1
        self.sure = False
        self.believed.clear()
        self._fresh.clear()
        self._run(self._ask(self.coordinator, self._resets, position))

    async def _ask(self, coordinator: Coordinator, resets: int, position: str | None) -> None:
        while resets == self._resets and coordinator in self._story.running():
            try:
                counted = await coordinator.count_many(self._tenants, consistency="exact", after=position)
            except (PositionLost, InvalidPosition):
                # The cluster has lost what it names, or has another secret by now.
                position = None
            except Incomplete:
                pass
            else:
                if resets == self._resets:
                    for tenant, counter in zip(self._tenants, counted.counters, strict=True):
                        if tenant not in self._fresh:
                            self.believed[tenant] = counter
                    self.sure = True
                return
            await deferLater(self._story.cluster.clock, _PAUSE)
