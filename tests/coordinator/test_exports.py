"""
Exports from the nodes of a whole cluster in memory.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from dcounter.errors import AnswerBroken, NotSupportedHere
from dcounter.ledger.steps import finish
from dcounter.limits import Limits
from dcounter.protocol.abilities import Abilities
from dcounter.store import Export, ExportPiece, Items
from dcounter.testing.cluster import Cluster
from dcounter.testing.parts import Parts

OLD = Abilities(2, 2, ["needs", "receipt", "ask"])


class Exporting:
    """
    A cluster of two nodes, which hold the items 0 to 11 of tenant "a", and a deleted one.
    """

    def __init__(self, *, parts: Parts | None = None, **limits: Any) -> None:
        self.cluster = Cluster(2, limits=Limits(**{"export_rows": 2, **limits}), parts=parts or Parts())
        self.cluster.start()
        self.cluster.run(1)
        self.store([*range(12)], "a" * 12, range(1, 13))
        self.store([99], [None], [100])
        self.cluster.run(1)

    def store(self, ids: Sequence[int], tenants: Sequence[str | None], stamps: Sequence[int]) -> str:
        storing = self.cluster.coordinator.store(Items(ids, [*tenants], stamps), ack="node")
        return self.cluster.result(storing).position

    def export(self, *, deleted: bool = False, prefixes: Sequence[str] = ()) -> Export:
        asking = self.cluster.coordinator.export(deleted=deleted, prefixes=prefixes, consistency="exact")
        found: Export = self.cluster.result(asking)
        return found

    def next(self, export: Export) -> ExportPiece:
        piece: ExportPiece = self.cluster.result(anext(export.pieces))
        return piece

    def rest(self, export: Export) -> list[Any]:
        """
        All that is still to come.
        """

        async def read() -> list[Any]:
            return [row async for piece in export.pieces for row in rows(piece)]

        found: list[Any] = self.cluster.result(read())
        return found

    def asked(self) -> int:
        """
        How many questions of the coordinator are under way.
        """
        return sum(len(link._answers) for link in self.cluster.coordinator._links.values())  # noqa: SLF001


def rows(piece: ExportPiece) -> list[Any]:
    found = [msgspec.json.decode(line) for line in piece.lines.splitlines()]
    assert len(found) == piece.rows
    return found


def test_everything_is_there_once() -> None:
    world = Exporting()
    export = world.export(deleted=True)
    assert export.items == 13
    found = world.rest(export)
    assert sorted(each["ID"] for each in found) == [*range(12), 99]
    assert {each["lastUpdateDt"] for each in found if each["ID"] == 11} == {"1970-01-01T00:00:00.000000012Z"}
    assert {"ID": 99, "deleted": True, "lastUpdateDt": "1970-01-01T00:00:00.000000100Z"} in found
    assert len(world.rest(world.export())) == world.export().items == 12
    world.cluster.stop()


def test_only_some_tenants() -> None:
    world = Exporting()
    world.store([1000, 1001], "bc", [200, 200])
    export = world.export(deleted=True, prefixes=["b", "none"])
    # How many others there are is not told.
    assert export.items is None
    assert [(each["ID"], each["tenant"]) for each in world.rest(export)] == [(1000, "b")]
    world.cluster.stop()


def test_what_is_stored_meanwhile_hides_nothing() -> None:
    world = Exporting()
    export = world.export()
    found = rows(world.next(export))
    world.store([*range(12), *range(1000, 1010)], "b" * 22, [500] * 22)
    found += world.rest(export)
    # Those that are new since it began need not be there.
    assert {*range(12)} <= {each["ID"] for each in found}
    assert len({each["ID"] for each in found}) == len(found)
    assert {each["tenant"] for each in found} == {"a", "b"}
    world.cluster.stop()


def test_nothing_is_asked_for_while_the_caller_reads_nothing() -> None:
    world = Exporting(export_pieces=2)
    export = world.export()
    first = world.next(export)
    assert world.asked() == 0
    # The next one, and another one beside it.
    second = Deferred.fromCoroutine(anext(export.pieces))
    assert world.asked() == 2
    world.cluster.run(5)
    assert world.asked() == 0
    assert not {each["ID"] for each in rows(first)} & {
        each["ID"] for each in rows(world.cluster.result(second))
    }
    assert world.rest(export)
    world.cluster.stop()


def test_pieces_that_are_shorter_than_wanted() -> None:
    # No two lines fit.
    world = Exporting(slice_bytes=100, export_rows=5)
    assert [len(rows(world.next(world.export()))) for _ in range(2)] == [1, 1]
    assert sorted(each["ID"] for each in world.rest(world.export())) == [*range(12)]
    world.cluster.stop()


def test_a_caller_that_leaves() -> None:
    world = Exporting()
    export = world.export()
    world.next(export)
    second = Deferred.fromCoroutine(anext(export.pieces))
    assert world.asked() == 3
    second.cancel()
    world.cluster.run(1)
    assert world.asked() == 0
    second.addErrback(lambda _: None)
    world.cluster.result(export.pieces.aclose())
    world.cluster.stop()


class TestBroken:
    def broken(self, world: Exporting, export: Export) -> str:
        with pytest.raises(AnswerBroken) as caught:
            world.rest(export)
        return str(caught.value)

    @pytest.mark.parametrize("away_s", [0.0, 5.0])
    def test_by_the_end_of_its_node(self, away_s: float) -> None:
        world = Exporting()
        export = world.export()
        world.next(export)
        primary = world.cluster.coordinator.status().primary
        assert primary is not None
        world.cluster.kill_node(primary)
        world.cluster.run(away_s)
        # It comes back, with other numbers for its rows.
        world.cluster.start_node(primary)
        world.cluster.run(10 if away_s else 0)
        assert "the node that gives it is gone" in self.broken(world, export)
        world.cluster.run(10)
        assert len(world.rest(world.export())) == 12
        world.cluster.stop()

    def test_by_a_compaction(self) -> None:
        world = Exporting()
        export = world.export()
        world.next(export)
        for node in world.cluster.nodes.values():
            finish(node.replica.ledger.compact(10**9))
        assert "compaction" in self.broken(world, export)
        world.cluster.stop()

    def test_by_a_caller_that_takes_too_long(self) -> None:
        world = Exporting(export_s=10.0)
        export = world.export()
        world.next(export)
        world.cluster.run(11)
        assert "longer than 10 s" in self.broken(world, export)
        world.cluster.stop()


def test_a_node_that_is_busy_is_asked_again() -> None:
    world = Exporting(read_wait_s=0.5)
    export = world.export()
    world.next(export)
    [node] = [
        each
        for each in world.cluster.nodes.values()
        if each.node == world.cluster.coordinator.status().primary
    ]
    inquiries = node.replica.inquiries
    step, left = inquiries.step, [3]

    def late(now: float) -> Any:
        left[0] -= 1
        return step(now + 100 if left[0] >= 0 else now)

    inquiries.step = late  # type: ignore[method-assign]
    assert len(world.rest(export)) == 10
    assert left[0] < 0
    world.cluster.stop()


def test_older_nodes_are_not_asked() -> None:
    world = Exporting(
        parts=Parts(abilities=lambda process: OLD if process == "node 0" else Parts().abilities(process))
    )
    assert world.cluster.coordinator.status().primary == 0
    assert len(world.rest(world.export())) == 12
    world.cluster.kill_node(1)
    world.cluster.run(3)
    with pytest.raises(NotSupportedHere):
        world.export()
    world.cluster.stop()
