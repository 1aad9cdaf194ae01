"""
What a node tells coordinators that watch it.
"""

import pytest

from dcounter.node.watching import Watching
from dcounter.protocol.position import Position
from dcounter.protocol.watching import Changed, Watch
from tests.support.machines import Machines, has

NEEDED = has((1, 5, 2))
NOTHING = Position()


class Watched(Machines):
    """
    Node 0, whose ledger has one item of tenant "t".
    """

    def __init__(self) -> None:
        super().__init__()
        self.exact = True
        self.contents.ledger.merge([1], [1], ["t"])
        self.all = Watching(
            self.out,
            self.contents,
            includes=lambda required: self.exact and self.contents.applied.covers(required),
            position=lambda: self.contents.applied,
            limits=self.limits,
        )

    def asks(
        self, request: int, *, goes_on: bool = True, required: Position = NOTHING, now: float = 0.0
    ) -> list[tuple[int, Changed]]:
        self.all.take(1, Watch(request, goes_on, required, 1_000), now)
        return self.changes_told()

    def told(self, now: float) -> list[tuple[int, Changed]]:
        self.all.tick(now)
        return self.changes_told()

    def changes_told(self) -> list[tuple[int, Changed]]:
        return [(channel, message) for channel, message in self.sent() if isinstance(message, Changed)]

    def changes(self, *items: int, tenant: str | None = "t") -> None:
        stamp = self.contents.stamp = self.contents.stamp + 1
        self.contents.ledger.merge(items, [1 + stamp] * len(items), [tenant] * len(items))


@pytest.fixture
def node() -> Watched:
    node = Watched()
    assert node.asks(1, goes_on=False) == [(1, Changed(1, True, Position(), 0, begins=True))]
    return node


def test_what_has_changed_is_told_at_once(node: Watched) -> None:
    node.changes(2, 3)
    node.changes(4, tenant="u")
    [(_, told)] = node.asks(2)
    assert dict(zip(told.tenants, told.counts, strict=True)) == {"t": 3, "u": 1}
    assert (told.complete, told.begins, told.stamp) == (True, False, 2)


def test_a_coordinator_waits_for_a_change(node: Watched) -> None:
    assert node.asks(2) == node.told(0.5) == []
    node.changes(1, tenant=None)
    assert node.told(0.6) == [(1, Changed(2, True, Position(), 1, tenants=["t"], counts=[0]))]
    assert node.told(0.7) == []


def test_without_a_change_the_answer_is_that_there_is_none(node: Watched) -> None:
    assert node.asks(2) == []
    assert node.told(1.0) == [(1, Changed(2, True, Position(), 0))]


def test_it_begins_only_with_what_is_required() -> None:
    node = Watched()
    assert node.asks(1, goes_on=False, required=NEEDED) == []
    node.changes(2)
    node.contents.applied = NEEDED
    assert node.told(0.1) == [(1, Changed(1, True, NEEDED, 1, begins=True))]
    node.changes(3)
    [(_, told)] = node.asks(2)
    assert told.counts == [3]


def test_it_does_not_begin_after_the_wait() -> None:
    node = Watched()
    node.asks(1, goes_on=False, required=NEEDED)
    assert node.told(1.0) == [(1, Changed(1, False, Position(), 0))]
    assert node.asks(2, goes_on=True, now=1.1) == [(1, Changed(2, True, Position(), 0, begins=True))]


def test_nothing_is_told_while_the_ledger_has_parts_of_a_copy(node: Watched) -> None:
    node.exact = False
    node.changes(2)
    assert node.asks(2) == []
    assert node.told(1.0) == [(1, Changed(2, False, Position(), 1))]
    node.exact = True
    [(_, told)] = node.asks(3, now=1.1)
    assert (told.complete, told.begins, told.tenants, told.counts) == (True, False, ["t"], [2])


def test_who_does_not_ask_for_long_is_forgotten_and_begins_anew(node: Watched) -> None:
    idle = node.limits.idle_s
    assert node.told(idle - 1) == []
    node.changes(2)
    assert node.asks(2, now=idle - 1)[0][1].counts == [2]
    node.told(2 * idle)
    assert not node.contents.ledger._tenants.count_watchers  # noqa: SLF001 - it shows nowhere else
    node.changes(3)
    assert node.asks(3, now=2 * idle)[0][1].begins


def test_a_connection_that_ends_costs_nothing_any_more(node: Watched) -> None:
    node.all.disconnected(1)
    assert not node.contents.ledger._tenants.count_watchers  # noqa: SLF001 - it shows nowhere else
    assert node.asks(2)[0][1].begins


def test_each_coordinator_is_told_everything(node: Watched) -> None:
    node.all.take(2, Watch(1), 0.0)
    node.sent()
    node.changes(2)
    assert node.asks(2)[0][1].counts == [2]
    node.all.take(2, Watch(2, True, wait=10), 0.0)
    assert node.changes_told()[0][1].counts == [2]


def test_every_question_is_answered(node: Watched) -> None:
    assert node.asks(2) == []
    assert node.asks(3) == [(1, Changed(2, False, Position(), 0))]


def test_if_too_much_has_gone_it_begins_anew(node: Watched) -> None:
    watcher = node.all._watchers[1]  # noqa: SLF001 - 100,000 tenants would take long
    assert watcher.touched is not None
    watcher.touched.overflown = True
    node.changes(2)
    assert node.asks(2) == [(1, Changed(2, True, Position(), 1, begins=True))]
    node.changes(3)
    assert node.asks(3)[0][1].counts == [3]


def test_many_changes_come_a_few_at_a_time(node: Watched) -> None:
    many = node.limits.changed_tenants + 10
    node.contents.ledger.merge(range(100, 100 + many), [1] * many, [f"t{each}" for each in range(many)])
    first, second = node.asks(2)[0][1], node.asks(3)[0][1]
    assert (len(first.tenants), len({*first.tenants, *second.tenants})) == (many - 10, many)
