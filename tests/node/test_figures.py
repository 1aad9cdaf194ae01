"""
What a node counts and measures about itself.
"""

import pytest

from dcounter.figures import Family, Histogram, Samples
from dcounter.journal.figures import JournalFigures
from dcounter.node import figures
from dcounter.node.figures import Changes, Figures, Lag
from dcounter.protocol.scraping import Scraped
from tests.support.machines import Machines, has, report


class TestLag:
    def test_nothing_is_late_that_is_applied(self) -> None:
        lag = Lag()
        lag.look(has((1, 5, 3)), has((1, 5, 3)), 10.0)
        assert lag.seconds(1, has((1, 5, 3)), 11.0) == 0

    def test_it_is_as_old_as_the_first_batch_that_is_not_applied(self) -> None:
        lag = Lag()
        lag.look(has((1, 5, 4)), has((1, 5, 3)), 10.0)
        lag.look(has((1, 5, 9), (2, 6, 1)), has((1, 5, 3)), 12.0)
        applied = has((1, 5, 3))
        assert (lag.seconds(1, applied, 13.0), lag.seconds(2, applied, 13.0)) == (3.0, 1.0)
        # The first is there, and of those that became known later not all.
        applied = has((1, 5, 4))
        assert (lag.seconds(1, applied, 13.0), lag.seconds(2, applied, 13.0)) == (1.0, 1.0)
        lag.look(applied, has((1, 5, 9), (2, 6, 1)), 14.0)
        assert lag.seconds(1, has((1, 5, 9), (2, 6, 1)), 15.0) == 0

    def test_however_long_it_lasts_it_takes_the_same_memory(self) -> None:
        lag = Lag()
        for second in range(10_000):
            lag.look(has((1, 5, second + 1)), has(), second)
        assert len(lag._known) <= 200  # noqa: SLF001
        assert lag.seconds(1, has(), 10_000.0) == 10_000.0


class TestChanges:
    def test_what_happens_to_items_is_counted(self) -> None:
        node = Machines()
        changes = Changes(node.contents)
        ledger = node.contents.ledger
        ledger.merge([1, 2, 3], [10, 10, 10], ["a", "a", "b"])
        changes.look()
        ledger.merge([1, 2, 3, 4], [11, 11, 9, 11], ["b", None, None, None])
        changes.look()
        assert (changes.created, changes.moved, changes.deleted) == (3, 1, 1)

    def test_what_was_there_before_is_not(self) -> None:
        node = Machines()
        changes = Changes(node.contents)
        node.contents.loading = True
        node.contents.ledger.merge([1, 2], [10, 10], ["a", "a"])
        changes.look()
        node.contents.loading = False
        changes.look()
        node.contents.ledger = node.contents.new_ledger()
        node.contents.ledger.merge([1, 2, 3], [10, 10, 10], ["a", "a", "a"])
        changes.look()
        assert (changes.created, changes.moved, changes.deleted) == (0, 0, 0)
        node.contents.ledger.merge([3], [11], ["b"])
        changes.look()
        assert (changes.created, changes.moved, changes.deleted) == (0, 1, 0)


class Journal:
    """
    A journal that only has figures.
    """

    def __init__(self) -> None:
        self.figures = JournalFigures()
        self.size = 4_711


PROCESS = Samples(Family("process_cpu_seconds_total", "counter", "", ("process",)), [(("node-0",), 5.0)])


def told(
    node: Machines, watched: Figures, now: float
) -> dict[tuple[str, tuple[str, ...]], float | Histogram]:
    watched.tell(3, 8, now)
    [answer] = [message for channel, message in node.sent() if channel == 3]
    assert isinstance(answer, Scraped)
    assert answer.request == 8
    assert answer.applied == node.contents.applied
    return {(each.family.name, labels): value for each in answer.measured for labels, value in each.values}


@pytest.fixture
def node() -> Machines:
    return Machines()


def test_a_coordinator_is_told_all(node: Machines) -> None:
    watched = Figures(0, node.out, node.contents, node.members, node.status, node.channels)
    journal = Journal()
    watched.attach(journal, lambda: [PROCESS])
    node.contents.ledger.merge([1, 2, 3], [10, 10, 10], ["a", "b", None])
    journal.figures.committed(lines=4, commit_s=0.25, sync_s=0.125)
    node.hears(report(1, applied=has((1, 5, 3))))
    watched.look(10.0)

    found = told(node, watched, 12.0)

    assert found["dcounter_node_items", ("0",)] == 2
    assert found["dcounter_node_tenants", ("0",)] == 2
    assert found["dcounter_node_tombstones", ("0",)] == 1
    assert found["dcounter_node_journal_bytes", ("0",)] == 4_711
    assert found["dcounter_node_items_changed_total", ("0", "created")] == 2
    assert found["dcounter_replication_lag_seconds", ("0", "1")] == 2
    assert found["dcounter_replication_lag_seconds", ("0", "2")] == 0
    assert found["process_cpu_seconds_total", ("node-0",)] == 5
    for name, total in (
        ("dcounter_journal_commit_duration_seconds", 0.25),
        ("dcounter_journal_sync_duration_seconds", 0.125),
        ("dcounter_journal_lines_per_sync", 4),
    ):
        counted = found[name, ("0",)]
        assert isinstance(counted, Histogram)
        assert (sum(counted.counts), counted.total) == (1, total)
    assert {name for name, _ in found} == {each.name for each in figures.FAMILIES} | {PROCESS.family.name}
