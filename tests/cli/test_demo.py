"""
The load of the demo: it is bounded, moves, and leaves alone what it did not store.
"""

from random import Random

import pytest_twisted

from dcounter.cli.demo_load import FIRST_ID, PREFIX, DemoLoad
from dcounter.cli.demonstrating import demo
from tests.support.commands import Terminal


def test_the_rate_and_the_number_of_items_are_bounded() -> None:
    load = DemoLoad(Random(1), most=500)
    owners: dict[int, str] = {}
    kinds = {"new": 0, "moved": 0, "deleted": 0}
    stored = 0
    for second in range(60):
        updates = load.updates(float(second), 1.0, 100)
        assert len(updates) <= 101
        stored += len(updates)
        for each in updates:
            assert FIRST_ID <= each["ID"] < FIRST_ID + 10_000
            if each.get("deleted"):
                del owners[each["ID"]]
                kinds["deleted"] += 1
            else:
                assert each["tenant"] in load.tenants
                kinds["moved" if each["ID"] in owners else "new"] += 1
                owners[each["ID"]] = each["tenant"]
        assert len(owners) <= 501
    assert stored > 60 * 100 * 0.4 * 0.9
    assert min(kinds.values()) > 100
    assert all(each.startswith(PREFIX) for each in load.tenants)


def test_a_fraction_of_an_update_comes_in_time() -> None:
    load = DemoLoad(Random(2), most=100)
    assert 50 < sum(len(load.updates(each / 10, 0.1, 1)) for each in range(1_000)) < 150


@pytest_twisted.ensureDeferred
async def test_the_command_and_what_cleans_up_after_it(terminal: Terminal) -> None:
    await terminal.client.store([{"ID": 1, "tenant": "mine"}, {"ID": 2, "tenant": "demo"}])
    text = await terminal.type(demo, "--seconds", "0.6", "--rate", "1000")
    assert text.startswith("stored ")
    owners = set(terminal.store.tenants.values())
    assert len(owners) > 3
    [cleaned] = await terminal.type_json(demo, "--clean")
    assert cleaned["deleted"] > 10
    assert terminal.store.tenants == {1: "mine", 2: "demo"}
