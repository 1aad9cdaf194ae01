"""
How a cluster stands, as `dcounter status` says it.
"""

from typing import Any

import pytest
import pytest_twisted

from dcounter.cli.exits import Exit
from dcounter.cli.standing import Look, standing
from dcounter.cli.statuses import status
from dcounter.store import ClusterStatus, NodeStatus
from tests.support.commands import Terminal


def node(id: int, durable: dict[str, dict[str, int]], **more: Any) -> NodeStatus:
    fields = {
        "address": f"127.0.0.1:{8090 + id}",
        "pid": 100 + id,
        "state": "up",
        "role": "backup",
        "run": None,
        "items": 7,
        "items_taken": 0,
        "applied": durable,
        "lag": 0,
        "reported_ms_ago": 0,
        **more,
    }
    return NodeStatus(id=id, durable=durable, **fields)


def look(*nodes: NodeStatus, at: float = 0.0, **more: Any) -> Look:
    fields = {"ready": True, "exact": True, "warnings": (), **more}
    return Look(at, cluster=ClusterStatus(primary=0, nodes=nodes, clock_skew_ms=0), **fields)


def spare(first: Look, second: Look) -> int | None:
    return standing(first, second).may_be_lost


class TestNodesThatMayBeLost:
    def test_of_equal_nodes_one_must_stay(self) -> None:
        all_of_it = {"0": {"5": 9}, "1": {"6": 3}}
        same = look(*(node(each, all_of_it) for each in range(4)))
        assert spare(same, same) == 3

    def test_what_was_on_its_way_at_the_first_look_has_arrived_at_the_second(self) -> None:
        first = look(node(0, {"0": {"5": 9}}), node(1, {"0": {"5": 8}}))
        assert spare(first, first) == 0
        # What came since does not count.
        assert spare(first, look(node(0, {"0": {"5": 20}}), node(1, {"0": {"5": 9}}))) == 1

    @pytest.mark.parametrize("trouble", [{"state": "down"}, {"loading": True}, {"in_doubt": True}])
    def test_a_node_that_is_not_well_keeps_nothing(self, trouble: dict[str, Any]) -> None:
        here = {"0": {"5": 9}}
        now = look(node(0, here), node(1, here), node(2, here, **trouble))
        assert spare(now, now) == 1

    def test_the_batch_with_the_fewest_copies_decides(self) -> None:
        now = look(
            node(0, {"0": {"5": 9}, "1": {"6": 3}}),
            node(1, {"0": {"5": 9}, "1": {"6": 2}}),
            node(2, {"0": {"5": 9}}),
        )
        assert spare(now, now) == 0

    def test_a_run_that_is_folded_is_everywhere(self) -> None:
        first = look(node(0, {"0": {"5": 9}}), node(1, {"0": {"5": 9}}))
        # The second node has folded it, the first one not yet; and then both.
        assert spare(first, look(node(0, {"0": {"5": 9, "7": 1}}), node(1, {"0": {"7": 1}}))) == 1
        assert spare(first, look(node(0, {"0": {"7": 1}}), node(1, {"0": {"7": 1}}))) == 1
        # It has nothing of that node yet.
        assert spare(first, look(node(0, {"0": {"5": 9}}), node(1, {}))) == 0

    def test_nothing_is_stored_yet(self) -> None:
        now = look(node(0, {}), node(1, {}))
        assert spare(now, now) == 1

    def test_it_is_not_known_without_nodes_and_none_if_counts_are_not_exact(self) -> None:
        alone = Look(0.0, ready=True, exact=True, warnings=(), cluster=None)
        assert spare(alone, alone) is None
        assert standing(alone, alone).writes
        here = look(node(0, {}), node(1, {}), exact=False)
        assert spare(here, here) == 0


def test_writes_need_a_node_that_takes_them() -> None:
    full = node(0, {}, refuses="its disk is full")
    now = look(full, node(1, {}))
    assert standing(now, now).writes
    now = look(full, node(1, {}, state="down"))
    found = standing(now, now)
    assert not found.writes
    assert found.nodes[0].remarks == ["takes no writes: its disk is full"]
    assert not standing(now, look(node(0, {}), ready=False)).writes


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [
        ({"items_taken": 100}, {"items_taken": 600}, 500.0),
        # Between the reports there was more time than between the looks.
        ({"items_taken": 100, "reported_ms_ago": 200}, {"items_taken": 700, "reported_ms_ago": 0}, 500.0),
        ({"items_taken": 100}, {"items_taken": 5, "pid": 9}, None),
        ({"reported_ms_ago": None}, {}, None),
        ({"reported_ms_ago": 0}, {"reported_ms_ago": 1_000}, None),
    ],
)
def test_rates(before: dict[str, Any], after: dict[str, Any], rate: float | None) -> None:
    found = standing(look(node(0, {}, **before)), look(node(0, {}, **after), at=1.0))
    assert found.nodes[0].writes_per_s == (rate if rate is None else pytest.approx(rate))


@pytest_twisted.ensureDeferred
async def test_the_command(terminal: Terminal) -> None:
    text = await terminal.type(status)
    assert text.startswith("exact: yes  writes: no  nodes that may still be lost: 0 of 4\n\nnode  role ")
    assert terminal.exit == Exit.NO
    terminal.store.ready = False
    terminal.store.missing = (1,)
    [found] = await terminal.type_json(status)
    assert (found["exact"], found["writes"], len(found["nodes"])) == (False, False, 4)
