"""
Audits of real daemons: nothing is found while items are stored, and what was planted in a node is named and
repaired.

Rows are planted in the journal of a stopped node. A count cannot be, since a node counts when it starts: a
module that Python imports at the start of each process plants that one.
"""

import json
import os
import signal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from dcounter.client import Answer
from tests.e2e.conftest import StartDaemon
from tests.e2e.harness import Client, Daemon, Json, eventually, items
from tests.e2e.test_http_page import examples, keep_token, run_shell, shown_alike
from tests.support.planted import Row, edit_journal

VICTIM = 1
FOUND = "DIFFERENCE FOUND"


async def _filled(daemon: Daemon) -> None:
    client = daemon.client()
    await client.store(items(range(100), "even"), ack="all")
    await client.store(items(range(1, 100, 2), "odd"), ack="all")
    await client.ask("POST", "/items/delete", json=list(range(0, 20, 2)), parameters={"ack": "all"})
    await client.close()


async def _post(daemon: Daemon, **how: Any) -> Answer:
    """
    `POST /audit`, as the operator.
    """
    client = daemon.client()
    headers = {"Authorization": f"Bearer {daemon.token.read_text().strip()}"}
    answer = await client.ask("POST", "/audit", headers=headers, within=60.0, **how)
    await client.close()
    return answer


async def _audit(daemon: Daemon, **body: Json) -> Json:
    return (await _post(daemon, json=body)).ok()


@pytest_twisted.ensureDeferred
async def test_examples_of_the_page(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = await start_daemon()
    keep_token(daemon, tmp_path)
    found = list(examples("Auditing"))
    assert len(found) == 2
    for command, shown in found:
        output = await run_shell(command, daemon, tmp_path)
        assert shown is not None
        assert shown_alike(shown, json.loads(output)), output


@pytest_twisted.ensureDeferred
async def test_nothing_is_found_while_items_are_stored(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon("--ack=node", processes=True)
    busy = True
    stored = 0

    async def write(tenant: str) -> None:
        nonlocal stored
        mine = daemon.client()
        while busy:
            # The same IDs again and again, by all writers.
            await mine.store(items(range(500), tenant))
            stored += 1
        await mine.close()

    writers = [Deferred.fromCoroutine(write(f"t{number}")) for number in range(4)]
    digests = set()
    for _ in range(8):
        found = await _audit(daemon, tenants=["t0", "t1", "t2", "t3"])
        assert found["equal"], found
        assert found["nodes"] == [0, 1, 2, 3]
        # Each ID belongs to one of them at any position.
        assert sum(each["counter"] for each in found["counts"]) == found["items"]
        digests.add(found["digest"])
    busy = False
    for writer in writers:
        await writer
    assert stored > 40
    assert len(digests) > 1


def _planted(row: Row) -> Row | None:
    """
    Of each thing that is stored in the journal of a wrong node: what is there instead.
    """
    item, stamp, tenant = row
    if (item, tenant) == (7, "odd"):
        return 7, stamp, "even"
    lost = [(9, "odd"), (4, None)]
    return None if (item, tenant) in lost else row


RIGHT = {4: ("deleted", None), 7: ("stored", "odd"), 9: ("stored", "odd")}
"""
The items that are planted.
"""

WRONG = ("stored", "even")
"""
What a wrong node has for each: another owner, or what was there before a row was lost, and a deletion.
"""


@pytest_twisted.ensureDeferred
async def test_what_was_planted_in_a_journal_is_named_and_repaired(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = await start_daemon(processes=True)
    await _filled(daemon)
    assert (await _audit(daemon))["equal"]
    await daemon.stop()
    assert edit_journal(tmp_path / "data" / f"node-{VICTIM}", _planted) == 3

    daemon = await start_daemon(processes=True)
    daemon.expected.append(FOUND)
    found = await _audit(daemon)
    assert not found["equal"]
    differences = found["differences"]
    assert (differences["wrong_nodes"], differences["undecided"], differences["more"]) == (
        [VICTIM],
        False,
        False,
    )
    assert [each["ID"] for each in differences["items"]] == sorted(RIGHT)
    for named in differences["items"]:
        right = RIGHT[named["ID"]]
        assert (named["decided"], named["wrong"]) == (True, [VICTIM])
        assert (named["right"]["state"], named["right"].get("tenant")) == right
        at = {each["node"]: (each["row"]["state"], each["row"].get("tenant")) for each in named["nodes"]}
        assert at == {0: right, 1: WRONG, 2: right, 3: right}
    # What the others have, and what callers would be told by that node.
    assert {
        each["tenant"]: (each["right"], each["nodes"][VICTIM]["kept"], each["wrong"])
        for each in differences["counts"]
    } == {"odd": (50, 48, [VICTIM]), "even": (40, 43, [VICTIM]), None: (10, 9, [VICTIM])}
    client = daemon.client()
    shown = (await client.ask("GET", "/audit")).ok()
    assert shown["last"]["differences"] == differences
    [warning] = (await client.ask("GET", "/readyz")).ok()["warnings"]
    assert f"wrong nodes: [{VICTIM}]" in warning
    assert (await client.ask("GET", "/cluster")).ok()["warnings"] == [warning]

    repaired = await _audit(daemon, repair=True)
    assert repaired["equal"]
    assert repaired["repaired"] == [VICTIM]
    assert repaired["nodes"] == [0, 1, 2, 3]
    assert (await client.ask("GET", "/readyz")).ok()["warnings"] == []
    assert await client.counts(["even", "odd"]) == {"even": 40, "odd": 50}
    assert len(list((tmp_path / "data").glob(f"node-{VICTIM}.set-aside-*"))) == 1
    await client.close()


@pytest.fixture
def planted_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The first audit at the victim finds a count that is wrong by one.
    """
    done = tmp_path / "planted"
    (tmp_path / "sitecustomize.py").write_text(
        dedent(f"""
        import os, sys
        from dcounter.ledger import ledger

        right, done = ledger.Ledger.audit, {str(done)!r}

        def audit(self, *how):
            if "--id {VICTIM} " in " ".join(sys.argv) and not os.path.exists(done):
                open(done, "w").close()
                self.settle()
                self._tenants.counts[self._tenants.numbers["even"]] += 1
            return right(self, *how)

        ledger.Ledger.audit = audit
        """)
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


@pytest_twisted.ensureDeferred
async def test_a_count_that_is_wrong_is_named_and_repaired(
    planted_count: None, start_daemon: StartDaemon
) -> None:
    daemon = await start_daemon(processes=True)
    daemon.expected.append(FOUND)
    await _filled(daemon)
    found = await _audit(daemon)
    assert found["differences"]["wrong_nodes"] == [VICTIM]
    assert found["differences"]["items"] == []
    [named] = found["differences"]["counts"]
    assert (named["tenant"], named["right"], named["wrong"]) == ("even", 40, [VICTIM])
    assert named["nodes"][VICTIM] == {"node": VICTIM, "kept": 41, "counted": 40}
    assert (await _audit(daemon, repair=True))["repaired"] == [VICTIM]


@pytest_twisted.ensureDeferred
async def test_nodes_in_one_process_are_repaired_as_well(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = await start_daemon("--inline", processes=True)
    await _filled(daemon)
    await daemon.stop()
    edit_journal(tmp_path / "data" / f"node-{VICTIM}", _planted)
    daemon = await start_daemon("--inline", processes=True)
    daemon.expected.append(FOUND)
    repaired = await _audit(daemon, repair=True)
    assert (repaired["equal"], repaired["repaired"]) == (True, [VICTIM])


@pytest_twisted.ensureDeferred
async def test_of_two_nodes_none_is_repaired(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = await start_daemon("--nodes=2", processes=True)
    await _filled(daemon)
    await daemon.stop()
    edit_journal(tmp_path / "data" / f"node-{VICTIM}", _planted)
    daemon = await start_daemon("--nodes=2", processes=True)
    daemon.expected += [FOUND, "audit: wrong nodes", "audit: it is not known which node is wrong"]
    client = daemon.client()
    answer = await _post(daemon, json={"repair": True})
    assert (answer.status, answer.code) == (409, "not_repaired")
    assert answer.content["outcome"] == "not_applied"
    shown = (await client.ask("GET", "/audit")).ok()
    assert shown["last"]["differences"]["undecided"]
    assert shown["failure"] == answer.content["detail"]
    assert not list((tmp_path / "data").glob("*set-aside*"))
    await client.close()


@pytest_twisted.ensureDeferred
async def test_only_an_operator_may_audit(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    stranger = Client(daemon.ports.http)
    answer = await stranger.ask("POST", "/audit", json={})
    assert (answer.status, answer.code) == (403, "forbidden")
    assert (await stranger.ask("GET", "/audit")).ok() == {}
    answer = await stranger.ask("POST", "/audit", body=b"[]")
    assert answer.status == 403
    await stranger.close()
    for body in (b"[]", b"", b'{"tenants":1}', b'{"more":1}', b'{"repair":"yes"}'):
        answer = await _post(daemon, body=body)
        assert (answer.status, answer.code) == (400, "malformed"), body
    answer = await _post(daemon, json={"tenants": ["a", 7]})
    assert (answer.status, answer.code) == (422, "invalid_item")


@pytest_twisted.ensureDeferred
async def test_one_by_schedule(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon("--audit-every=10")
    await daemon.until_logged(r"audit: nodes \[0, 1, 2, 3\] are equal: 0 items, 0 tombstones")


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_down_is_named(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon("--nodes=3", processes=True)
    await _filled(daemon)
    client = daemon.client()
    [pid] = [each["pid"] for each in (await client.ask("GET", "/cluster")).ok()["nodes"] if each["id"] == 2]
    os.kill(pid, signal.SIGSTOP)

    async def named() -> bool:
        found = await _audit(daemon)
        return bool(found["equal"] and found["not_audited"] == [{"node": 2, "why": "it is down"}])

    await eventually(named)
    os.kill(pid, signal.SIGCONT)
    await client.close()
