"""
The checks of what nodes hold at rest fail when it is not what callers were told.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from dcounter.ledger.ledger import Ledger
from dcounter.node.replica import Replica
from dcounter.store import Items
from dcounter.testing import Cluster
from dcounter.testing.at_rest import check_counts, check_ledger, equal
from dcounter.testing.history import History
from dcounter.testing.parts import Parts


class MiscountingLedger(Ledger):
    """
    Says that a tenant has more items than it has.
    """

    def tenants(self) -> Iterator[tuple[str, int]]:
        yield from [("a", 3), ("b", 1)]


class MiscountingReplica(Replica):
    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.contents.ledger = MiscountingLedger()


def _history(parts: Parts | None = None) -> History:
    """
    Two nodes, on which one request has stored three items.
    """
    cluster = Cluster(2, seed=3, parts=parts).start()
    history = History(cluster, lossy=False)
    history.watch(cluster.coordinator)
    cluster.result(history.store(cluster.coordinator, Items([1, 2, 3], ["a", "a", "b"]), "all", None))
    return history


@pytest.fixture
def history() -> Iterator[History]:
    history = _history()
    yield history
    history.cluster.stop()


def _problems(history: History) -> list[str]:
    check_ledger(history)
    check_counts(history, history.cluster.coordinator)
    return [problem.partition(": ")[2] for problem in history.problems]


def test_nothing_is_wrong(history: History) -> None:
    assert equal(history)
    assert _problems(history) == []


def test_what_was_acknowledged_is_missing(history: History) -> None:
    [write] = history.writes
    assert write.rows is not None
    stamp = write.latest() + 1
    write.rows[4] = stamp, "a"
    assert _problems(history) == [
        f"write 1 was acknowledged, but of ID 4 (0, '') is there, not ({stamp}, 'a')"
    ]


def test_what_was_not_acknowledged_may_be_missing(history: History) -> None:
    [write] = history.writes
    assert write.rows is not None
    write.rows[4] = write.latest() + 1, "a"
    write.at_risk.add(4)
    assert _problems(history) == []


def test_something_is_there_that_nobody_stored(history: History) -> None:
    [write] = history.writes
    write.void = True
    assert [problem.partition(" for")[0] for problem in _problems(history)] == [
        f"nobody stored ID {item}" for item in (1, 2, 3)
    ]


def test_the_counts_are_not_those_of_the_items() -> None:
    history = _history(Parts(replica=MiscountingReplica))
    assert _problems(history) == ["a recount gives Counter({'a': 2, 'b': 1})"]
    history.cluster.stop()


def test_a_coordinator_counts_what_other_nodes_do_not_have(history: History) -> None:
    nodes = history.cluster.nodes
    primary = nodes.pop(0)
    primary.replica.ledger.merge([4], [1], ["a"])
    # Node 1 is the one that is looked at.
    nodes[0] = primary
    assert not equal(history)
    assert _problems(history) == ["'a' counts 3 instead of 2"]


def test_a_member_is_missing(history: History) -> None:
    history.removed.add(1)
    assert not equal(history)
    assert _problems(history) == ["at rest a coordinator takes nodes [0, 1] for members, not [0]"]
