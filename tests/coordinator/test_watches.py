"""
Watchers of a whole cluster in memory.
"""

from collections.abc import Iterator
from dataclasses import replace
from errno import EIO

import pytest
from twisted.internet.defer import Deferred

from dcounter.coordinator.watches import WatcherFeed
from dcounter.errors import NotSupportedHere
from dcounter.events import CountChanged, Dropped, Event, NodeChanged, Reset, Wanted
from dcounter.limits import Limits
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.store import Items
from dcounter.testing.cluster import Cluster
from dcounter.testing.parts import Parts

OLD = Abilities(2, 2, ["needs", "receipt", "ask"])


class Reading:
    """
    One watcher that reads all events as they come.
    """

    def __init__(self, feed: WatcherFeed) -> None:
        self.feed = feed
        self.events: list[Event] = []
        self.ids: list[str | None] = []
        self.quiet = 0
        self.ended = False
        self.reading = Deferred.fromCoroutine(self._read())

    async def _read(self) -> None:
        async for news in self.feed:
            self.events += news.events
            self.quiet += not news.events
            self.ids.append(news.id)
        self.ended = True

    def counts(self) -> dict[str, int]:
        return {event.tenant: event.counter for event in self.events if isinstance(event, CountChanged)}

    def node_changes(self) -> list[NodeChanged]:
        return [event for event in self.events if isinstance(event, NodeChanged)]


class Watched:
    def __init__(
        self, nodes: int = 2, *, old: bool = False, limits: Limits | None = None, disks: bool = False
    ) -> None:
        parts = Parts(abilities=lambda process: OLD if old and process != "coordinator" else ABILITIES)
        self.cluster = Cluster(nodes, limits=limits, parts=parts, disks=disks)
        self.cluster.start()
        self.cluster.run(1)
        self.watches = self.cluster.coordinator._watches  # noqa: SLF001 - what it keeps shows nowhere else

    def watch(self, wanted: Wanted | None = None, since: str | None = None) -> Reading:
        watching = self.cluster.coordinator.watch(wanted or Wanted(), since=since)
        feed = self.cluster.result(watching)
        assert isinstance(feed, WatcherFeed)
        return Reading(feed)

    def store(self, tenant: str, *ids: int) -> None:
        items = Items(ids, [tenant] * len(ids))
        self.cluster.result(self.cluster.coordinator.store(items, ack="node"))

    def watching_nodes(self) -> int:
        ledgers = [node.replica.ledger for node in self.cluster.nodes.values()]
        return sum(bool(each._tenants.count_watchers) for each in ledgers)  # noqa: SLF001 - the same


@pytest.fixture
def world() -> Iterator[Watched]:
    world = Watched()
    yield world
    world.cluster.stop()


def test_a_watcher_is_told_of_each_change_soon(world: Watched) -> None:
    reading = world.watch()
    world.store("a", 1, 2)
    world.cluster.wait_for(lambda: reading.counts() == {"a": 2}, 0.5)
    world.store("b", 2)
    world.cluster.wait_for(lambda: reading.counts() == {"a": 1, "b": 1}, 0.5)


def test_no_tenant_is_told_of_more_than_ten_times_in_a_second(world: Watched) -> None:
    reading = world.watch()
    for number in range(100):
        world.store("a", number)
        world.cluster.run(0.01)
    world.cluster.run(0.3)
    assert reading.counts() == {"a": 100}
    assert 3 <= len(reading.events) <= 14


def test_one_node_is_watched_while_somebody_watches(world: Watched) -> None:
    assert world.watching_nodes() == 0
    reading = world.watch()
    assert world.watching_nodes() == 1
    reading.feed.close()
    world.cluster.run(1)
    assert reading.ended
    limits = world.cluster.limits
    world.cluster.run(limits.watch_linger_s + limits.idle_s + 1)
    assert world.watching_nodes() == 0


def test_the_position_of_the_feed_covers_what_it_does_not_tell(world: Watched) -> None:
    world.store("a", 1)
    world.cluster.run(1)
    reading = world.watch()
    counting = world.cluster.coordinator.count("a", consistency="exact", after=reading.feed.position)
    assert world.cluster.result(counting).counter == 1
    assert reading.events == []


def test_if_the_watched_node_dies_watchers_are_told_to_ask_anew(world: Watched) -> None:
    reading = world.watch()
    world.store("a", 1)
    world.cluster.run(1)
    world.cluster.kill_node(0)
    world.cluster.run(3)
    world.store("a", 2)
    world.cluster.run(1)
    kinds = [event for event in reading.events if not isinstance(event, CountChanged)]
    assert kinds[:2] == [NodeChanged(0, "down"), NodeChanged(1, "primary")]
    assert isinstance(kinds[2], Reset)
    assert reading.events[-1] == CountChanged("a", 2)
    world.cluster.start_node(0)
    world.cluster.wait_for(lambda: NodeChanged(0, "up") in reading.events)


def test_without_a_node_a_watcher_waits_and_is_told_when_there_is_one(world: Watched) -> None:
    for node in (0, 1):
        world.cluster.kill_node(node)
    world.cluster.run(2)
    before = world.cluster.clock.seconds()
    reading = world.watch()
    assert world.cluster.clock.seconds() - before == pytest.approx(world.cluster.limits.read_wait_s, abs=0.2)
    for node in (0, 1):
        world.cluster.start_node(node)
    world.cluster.wait_for(lambda: any(isinstance(event, Reset) for event in reading.events))
    world.cluster.wait_for(lambda: NodeChanged(1, "up") in reading.events)


def test_one_that_comes_back_misses_nothing(world: Watched) -> None:
    reading = world.watch()
    world.store("a", 1)
    world.cluster.run(1)
    reading.feed.close()
    world.store("b", 2)
    world.cluster.run(world.cluster.limits.watch_linger_s - 5)
    again = world.watch(since=reading.ids[-1])
    assert again.feed.resumed
    world.cluster.run(0.1)
    assert again.counts() == {"b": 1}


def test_one_that_comes_back_when_nobody_watched_begins_anew(world: Watched) -> None:
    reading = world.watch()
    world.store("a", 1)
    world.cluster.run(1)
    reading.feed.close()
    world.cluster.run(world.cluster.limits.watch_linger_s + 1)
    world.store("b", 2)
    assert not world.watch(since=reading.ids[-1]).feed.resumed


def test_one_that_hears_nothing_is_told_so(world: Watched) -> None:
    reading = world.watch(Wanted(("b",), nodes=False))
    for number in range(34):
        world.store("a", number)
        world.cluster.run(1)
    assert (reading.quiet, reading.events) == (2, [])


def test_at_the_stop_watchers_are_told_so(world: Watched) -> None:
    reading = world.watch()
    world.cluster.result(world.cluster.coordinator.stopService())
    [dropped] = reading.events
    assert isinstance(dropped, Dropped)
    assert (dropped.code, reading.ended) == ("stopping", True)
    later = world.watch()
    assert (len(later.events), later.ended) == (1, True)


def test_a_node_that_takes_no_writes_is_told_of() -> None:
    world = Watched(disks=True)
    reading = world.watch()
    disk = world.cluster.disks[0]
    disk.errors["sync"] = EIO
    world.store("a", *range(10))
    world.cluster.wait_for(lambda: len(reading.node_changes()) == 1)
    [refuses] = reading.node_changes()
    assert (refuses.node, refuses.change) == (0, "refuses")
    assert refuses.reason
    disk.errors.clear()
    world.cluster.wait_for(lambda: len(reading.node_changes()) > 1, 60)
    assert reading.node_changes()[1:] == [NodeChanged(0, "accepts")]
    world.cluster.stop()


def test_a_node_that_is_removed_is_told_of() -> None:
    world = Watched(3)
    reading = world.watch()
    world.cluster.kill_node(2)
    world.cluster.run(3)
    world.cluster.result(world.cluster.coordinator.remove(2))
    world.cluster.wait_for(lambda: NodeChanged(2, "removed") in reading.events)
    assert reading.node_changes() == [NodeChanged(2, "down"), NodeChanged(2, "removed")]
    world.cluster.stop()


def test_a_node_that_stops_is_told_of() -> None:
    world = Watched()
    reading = world.watch()
    stopping = world.cluster.nodes[1]
    world.cluster.result(stopping.stopService())
    world.cluster.stopped(1)
    world.cluster.run(3)
    assert NodeChanged(1, "down") in reading.events
    world.cluster.stop()


def test_nodes_of_an_older_release_cannot_be_watched() -> None:
    world = Watched(old=True)
    with pytest.raises(NotSupportedHere, match="upgrade"):
        world.watch()
    world.cluster.stop()


def test_a_caller_that_hangs_up_before_it_begins_leaves_nothing() -> None:
    world = Watched()
    for node in (0, 1):
        world.cluster.kill_node(node)
    world.cluster.run(2)
    watching = Deferred.fromCoroutine(world.cluster.coordinator.watch(Wanted()))
    watching.addErrback(lambda _: None)
    watching.cancel()
    world.cluster.run(3)
    assert not world.watches._feeds  # noqa: SLF001 - it shows nowhere else
    world.cluster.stop()


def test_rounds_that_take_long_become_rarer() -> None:
    world = Watched(limits=replace(Limits(), watch_rest=10))
    reading = world.watch()
    clock = world.cluster.clock
    took: list[float] = []

    class Slow(WatcherFeed):
        def wake(self) -> None:
            took.append(clock.seconds())
            world.watches._spent += 0.1  # noqa: SLF001 - the time of a simulated turn stands still
            super().wake()

    reading.feed.__class__ = Slow
    for number in range(300):
        world.store("a", number)
        world.cluster.run(0.01)
    assert 2 <= len(took) <= 5
    world.cluster.stop()
