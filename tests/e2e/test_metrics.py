"""
What a real daemon with nodes in processes of their own shows at `GET /metrics`.
"""

import os
import signal
from collections.abc import Mapping

import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families

from dcounter.daemon.families import FAMILIES
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Daemon, Raw, eventually, items

Samples = Mapping[str, Mapping[tuple[str, ...], float]]


async def scrape(daemon: Daemon) -> Samples:
    """
    Family -> the values of its labels but `le` -> a value; of histograms, how many values they have.
    """
    connection = await Raw.connect(daemon.ports.http)
    connection.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    await connection.until_closed()
    head, _, text = bytes(connection.received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        samples = found.setdefault(name, {})
        for sample in family.samples:
            if family.type != "histogram" or sample.name.endswith("_count"):
                samples[tuple(sample.labels.values())] = sample.value
    return found


async def until(daemon: Daemon, name: str, **values: float) -> Samples:
    """
    Scrape until each node has these values in a family with the labels `change` and `node`.
    """
    wanted = {(change, str(node)): value for change, value in values.items() for node in range(3)}

    async def reached() -> Samples | None:
        found = await scrape(daemon)
        return found if found[name] == wanted else None

    found = await eventually(reached, what=f"{values} at all nodes")
    assert found is not None
    return found


@pytest_twisted.ensureDeferred
async def test_all_processes_are_shown_and_a_frozen_one_holds_nothing_up(start_daemon: StartDaemon) -> None:
    named = ("--metrics-tenants=hel*", "--metrics-tenants=nobody")
    daemon = await start_daemon("--nodes=3", *named, processes=True)
    client = daemon.client()
    await client.store(items(range(20), "hello"), ack="all")
    # What is merged together counts once.
    await until(daemon, "dcounter_node_items_changed_total", created=20, moved=0, deleted=0)
    await client.store(items(range(5), "other"), ack="all")
    assert await client.count("hello") == 15
    assert (await client.ask("GET", "/nothing")).status == 404
    await client.operate("/audit", {})

    found = await until(daemon, "dcounter_node_items_changed_total", created=20, moved=5, deleted=0)

    assert found.keys() == {each.name for families in FAMILIES.values() for each in families}
    assert not [name for name, values in found.items() if not values]
    assert found["dcounter_node_items"] == {(str(node),): 20 for node in range(3)}
    assert found["dcounter_items_stored_total"] == {(): 25}
    assert found["dcounter_audit_equal"] == {(): 1}
    assert found["dcounter_tenant_items"] == {("hello",): 15, ("nobody",): 0}
    assert found["process_cpu_seconds_total"].keys() == {
        ("coordinator",),
        *((f"node-{node}",) for node in range(3)),
    }
    assert all(number > 0 for number in found["dcounter_journal_sync_duration_seconds"].values())

    [node] = [each for each in await client.nodes() if each["id"] == 2]
    os.kill(node["pid"], signal.SIGSTOP)
    try:
        frozen = await scrape(daemon)
    finally:
        os.kill(node["pid"], signal.SIGCONT)
    assert frozen["dcounter_node_up"] == {("0",): 1, ("1",): 1, ("2",): 0}
    assert frozen["dcounter_node_items"].keys() == {("0",), ("1",)}
    await client.until_equal(20)
    await client.close()
