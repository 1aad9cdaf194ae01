"""
The figures of a coordinator and its nodes, over a cluster in memory.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dcounter.coordinator import figures
from dcounter.coordinator.figures import CHANGES_OF_NODES, Changes
from dcounter.coordinator.service import Coordinator
from dcounter.figures import Family, Histogram, Samples
from dcounter.limits import Limits
from dcounter.node import figures as node_figures
from dcounter.protocol.abilities import ABILITIES, LOWEST_PROTOCOL, PROTOCOL, SCRAPES, Abilities
from dcounter.store import Items, Receipt
from dcounter.testing import Cluster
from dcounter.testing.parts import Parts

Found = Mapping[tuple[str, ...], float]
OLD = Abilities(LOWEST_PROTOCOL, PROTOCOL, [each for each in ABILITIES.features if each != SCRAPES])


class Scraped:
    """
    A cluster of three nodes that is scraped.
    """

    def __init__(self, **how: Any) -> None:
        self.cluster = Cluster(3, seed=1, **how).start()
        self.cluster.run(1)

    @property
    def coordinator(self) -> Coordinator:
        return self.cluster.coordinator

    def store(self, ids: list[int], tenants: list[str | None]) -> Receipt:
        what = self.coordinator.store(Items(ids, tenants), ack="all")
        return self.cluster.result(Deferred.fromCoroutine(what))

    def look(self) -> dict[str, dict[tuple[str, ...], Any]]:
        measured = self.cluster.result(Deferred.fromCoroutine(self.coordinator.scraping.measure()))
        found: dict[str, dict[tuple[str, ...], Any]] = {}
        for each in measured:
            found.setdefault(each.family.name, {}).update(each.values)
        return found

    def stop(self) -> None:
        self.cluster.stop()
        assert not self.cluster.clock.getDelayedCalls()


@pytest.fixture
def cluster() -> Any:
    found = Scraped()
    yield found
    found.stop()


def test_each_family_is_told(cluster: Scraped) -> None:
    known = {each.name for each in (*figures.FAMILIES, *node_figures.FAMILIES)}
    assert cluster.look().keys() == known


def test_items_are_counted_as_what_becomes_of_them(cluster: Scraped) -> None:
    cluster.store([1, 2, 3], ["a", "a", "b"])
    cluster.cluster.run(1)
    cluster.store([1, 2], ["b", None])
    cluster.cluster.run(1)

    found = cluster.look()

    assert found["dcounter_items_created_total"][()] == 3
    assert found["dcounter_items_moved_total"][()] == 1
    assert found["dcounter_items_deleted_total"][()] == 1
    assert found["dcounter_node_items"] == {("0",): 2, ("1",): 2, ("2",): 2}
    assert sum(found["dcounter_node_items_taken_total"].values()) == 5
    sizes = found["dcounter_batch_items"][()]
    assert isinstance(sizes, Histogram)
    assert sizes.total == 5
    assert found["dcounter_replication_lag_batches"] == {
        (str(node), str(origin)): 0 for node in range(3) for origin in range(3) if node != origin
    }


def test_a_node_that_does_not_answer_is_missing_and_holds_nothing_up(cluster: Scraped) -> None:
    primary = next(iter(key for key, value in cluster.look()["dcounter_node_primary"].items() if value))
    frozen = next(node for node in range(3) if (str(node),) != primary)
    cluster.cluster.freeze(f"node {frozen}")
    began = cluster.cluster.clock.seconds()

    found = cluster.look()

    assert Limits().scrape_s <= cluster.cluster.clock.seconds() - began < 1
    assert found["dcounter_node_up"] == {(str(node),): node != frozen for node in range(3)}
    assert found["dcounter_node_items"].keys() == {(str(node),) for node in range(3)} - {(str(frozen),)}
    cluster.cluster.thaw(f"node {frozen}")


def test_a_dead_primary_is_followed_by_another_one(cluster: Scraped) -> None:
    [primary] = [int(key[0]) for key, value in cluster.look()["dcounter_node_primary"].items() if value]
    assert cluster.look()["dcounter_failovers_total"] == {(): 0}
    cluster.cluster.kill_node(primary)
    cluster.cluster.run(2)

    found = cluster.look()

    assert found["dcounter_failovers_total"] == {(): 1}
    assert found["dcounter_node_up"][str(primary),] == 0
    assert found["dcounter_node_takes_writes"][str(primary),] == 0
    assert found["dcounter_node_report_age_seconds"][str(primary),] > 1
    cluster.cluster.start_node(primary)
    cluster.cluster.run(2)
    again = cluster.look()
    assert again["dcounter_failovers_total"] == {(): 1}
    assert again["dcounter_node_connections_made_total"][str(primary),] == 2


def test_an_older_node_is_up_and_has_no_figures() -> None:
    cluster = Scraped(parts=Parts(abilities=lambda process: OLD if process == "node 1" else ABILITIES))
    found = cluster.look()
    assert found["dcounter_node_up"] == {("0",): 1, ("1",): 1, ("2",): 1}
    assert found["dcounter_node_items"].keys() == {("0",), ("2",)}
    cluster.stop()


def _changed(**values: float) -> Samples:
    """
    Changes, by node and kind: `a0` are those of kind a at node 0.
    """
    family = Family(CHANGES_OF_NODES, "counter", "", ("node", "change"))
    kinds = {"c": "created", "m": "moved", "d": "deleted"}
    return Samples(family, [((name[1], kinds[name[0]]), value) for name, value in values.items()])


def totals(changes: Changes) -> list[float]:
    return [
        value for each in changes.samples() for _, value in each.values if not isinstance(value, Histogram)
    ]


def test_what_changes_is_counted_once_whichever_node_is_primary() -> None:
    changes = Changes()
    changes.look(0, [_changed(c0=5, m0=1, d0=0, c1=4, m1=1, d1=0)])
    assert totals(changes) == [5, 1, 0]
    changes.look(0, [_changed(c0=9, m0=1, d0=2, c1=9, m1=1, d1=2)])
    assert totals(changes) == [9, 1, 2]
    # The other one takes over, and begins where it was.
    changes.look(1, [_changed(c1=10, m1=3, d1=2)])
    assert totals(changes) == [10, 3, 2]
    # Started again, it begins at 0.
    changes.look(1, [_changed(c1=1, m1=0, d1=0)])
    assert totals(changes) == [11, 3, 2]
    changes.look(None, [_changed(c1=5, m1=0, d1=0)])
    assert totals(changes) == [11, 3, 2]
