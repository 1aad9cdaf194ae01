"""
Audits over a whole cluster in memory: nothing is found where nothing is wrong, and each difference is named.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dcounter.audits import (
    Audited,
    AuditNotFinished,
    AuditRuns,
    Differences,
    NodeCount,
    NodeRow,
    NotAudited,
    NotRepaired,
    Row,
)
from dcounter.coordinator.service import Coordinator
from dcounter.errors import NodeIsBusy, NotSupportedHere
from dcounter.ledger.ledger import Ledger
from dcounter.limits import Limits
from dcounter.protocol.abilities import ABILITIES, AUDITS, Abilities
from dcounter.protocol.position import Position
from dcounter.store import Items
from dcounter.testing import Cluster
from dcounter.testing.parts import Parts
from tests.support.planted import losing, older_row, other_owner, wrong_count

LIMITS = Limits(audit_wait_s=3.0, audit_pause_s=0.01)


class Audit:
    """
    A cluster that holds some items, and its audits.
    """

    def __init__(self, nodes: int = 3, *, parts: Parts | None = None, disks: bool = True) -> None:
        self.cluster = Cluster(nodes, seed=3, limits=LIMITS, disks=disks, parts=parts).start()
        for first in range(0, 40, 10):
            self.store(range(first, first + 10), ["a", "b", "c", "d", None] * 2)
        self.cluster.run(1)

    @property
    def coordinator(self) -> Coordinator:
        return self.cluster.coordinator

    def ledger(self, node: int) -> Ledger:
        return self.cluster.nodes[node].replica.ledger

    def store(self, ids: Sequence[int], tenants: Sequence[str | None]) -> None:
        self.cluster.result(self.coordinator.store(Items([*ids], tenants), ack="node"))

    def begin(self, tenants: Sequence[str] = (), by: Coordinator | None = None) -> Deferred[Audited]:
        return Deferred.fromCoroutine((by or self.coordinator).audit(tenants))

    def result(self, tenants: Sequence[str] = (), **kw: Any) -> Audited:
        return self.cluster.result(self.coordinator.audit(tenants, **kw), 120)

    def differences(self) -> Differences:
        found = self.result().differences
        assert found is not None
        return found

    async def rebuild(self, node: int) -> None:
        """
        What a daemon does with a node of its own.
        """
        await self.cluster.nodes[node].stopService()
        self.cluster.stopped(node)
        self.cluster.disks[node].wipe()
        self.cluster.start_node(node)


@pytest.fixture
def audit() -> Audit:
    return Audit()


def test_equal_nodes(audit: Audit) -> None:
    found = audit.result(["a", "nobody", "a"])
    assert (found.nodes, found.not_audited, found.differences) == ([0, 1, 2], [], None)
    assert (found.items, found.tombstones) == (32, 8)
    assert found.counts == [("a", 8), ("nobody", 0)]
    state = audit.coordinator.audits()
    assert (state.running, state.last, state.failure) == (None, found, None)
    again = audit.result()
    assert (again.digest, again.counts) == (found.digest, [])
    audit.store([1], ["a"])
    assert audit.result().digest != found.digest
    assert audit.coordinator.readiness().warnings == []
    # A later read sees at least as much.
    count = audit.coordinator.count("a", consistency="exact", after=found.position)
    assert audit.cluster.result(count).counter == 9


def test_nodes_are_left_as_they_were(audit: Audit) -> None:
    audit.result()
    audit.cluster.run(1)
    for node in audit.cluster.nodes.values():
        ledger = node.replica.ledger
        assert ledger._entries.watchers == []  # noqa: SLF001 - it shows nowhere else
        assert node.replica.contents.watcher is None


def test_nothing_is_found_while_items_are_stored(audit: Audit) -> None:
    audit.cluster.network.slowest = 0.05
    done: list[Audited] = []
    for number in range(400):
        ids = [number % 37, number % 11, 1000 + number]
        storing = audit.coordinator.store(Items(ids, ["a", None, f"t{number % 7}"]), ack="node")
        Deferred.fromCoroutine(storing).addErrback(lambda why: why.trap(CancelledError))
        audit.cluster.run(0.003)
        if audit.coordinator.audits().running is None:
            audit.begin().addCallback(done.append)
    audit.cluster.run(2)
    assert len(done) > 5
    assert [each.differences for each in done] == [None] * len(done)
    assert len({each.digest for each in done}) > 3


@pytest.mark.parametrize("tenant", ["b", None])
def test_a_wrong_count(audit: Audit, tenant: str | None) -> None:
    wrong_count(audit.ledger(1), tenant)
    found = audit.differences()
    assert (found.wrong_nodes, found.undecided, found.more) == ([1], False, False)
    assert (found.items, found.all_items, found.all_tenants) == ([], 0, 1)
    [wrong] = found.tenants
    assert (wrong.tenant, wrong.right, wrong.wrong) == (tenant, 8, [1])
    assert wrong.nodes == [NodeCount(0, 8, 8), NodeCount(1, 9, 8), NodeCount(2, 8, 8)]


def test_a_row_that_is_too_old(audit: Audit) -> None:
    right = audit.ledger(0).get(11)
    assert right is not None
    older_row(audit.ledger(2), 11)
    found = audit.differences()
    assert (found.wrong_nodes, found.undecided, found.more) == ([2], False, False)
    [wrong] = found.items
    newest = Row("b", right.stamp)
    assert (wrong.id, wrong.right, wrong.decided, wrong.wrong) == (11, newest, True, [2])
    assert wrong.nodes[2] == NodeRow(2, Row("b", right.stamp - 1))
    # It is counted all the same.
    assert (found.tenants, found.all_items) == ([], 1)


def test_a_row_with_another_owner(audit: Audit) -> None:
    other_owner(audit.ledger(0), 11, "c")
    found = audit.differences()
    assert found.wrong_nodes == [0]
    [wrong] = found.items
    assert (wrong.id, wrong.right.tenant, wrong.nodes[0].row.tenant) == (11, "b", "c")
    counts = {each.tenant: (each.right, each.nodes[0].counted, each.wrong) for each in found.tenants}
    assert counts == {"b": (8, 7, [0]), "c": (8, 9, [0])}


def test_a_lost_tombstone() -> None:
    audit = Audit(parts=Parts(replica=losing(1, 4)))
    found = audit.differences()
    assert found.wrong_nodes == [1]
    [wrong] = found.items
    assert (wrong.id, wrong.right.tenant) == (4, None)
    assert wrong.right.stamp is not None
    assert wrong.nodes[1] == NodeRow(1, Row(None, None))
    [deleted] = found.tenants
    assert (deleted.tenant, deleted.right, deleted.nodes[1].counted, deleted.wrong) == (None, 8, 7, [1])


def test_more_differences_than_are_named(audit: Audit) -> None:
    audit.store(range(100, 100_000), ["e"] * 99_900)
    audit.cluster.run(2)
    for item in range(100, 1_100):
        older_row(audit.ledger(1), item)
    found = audit.differences()
    assert found.wrong_nodes == [1]
    assert len(found.items) == 100
    assert 100 < found.all_items <= 1_000
    assert found.more


def test_a_difference_is_told_to_operators(audit: Audit) -> None:
    other_owner(audit.ledger(0), 11, "c")
    audit.result()
    [warning] = audit.coordinator.readiness().warnings
    # Everybody may read it, so it names no tenants and IDs.
    assert warning == (
        "the last audit found a difference: wrong nodes: [0]; wrong counts: 2; IDs that differ: 1; "
        "see GET /audit"
    )
    assert audit.coordinator.status().warnings == [warning]
    other_owner(audit.ledger(0), 11, "b")
    audit.result()
    assert audit.coordinator.readiness().warnings == []


def test_of_two_nodes_it_cannot_be_told_which_is_wrong() -> None:
    audit = Audit(2)
    older_row(audit.ledger(1), 11)
    found = audit.differences()
    assert (found.wrong_nodes, found.undecided) == ([], True)
    [wrong] = found.items
    # The newest is shown as the likely one.
    assert (wrong.decided, wrong.wrong, wrong.right) == (False, [], wrong.nodes[0].row)
    with pytest.raises(NotRepaired, match="it cannot be told which node is wrong"):
        audit.result(rebuild=audit.rebuild)
    assert audit.coordinator.audits().failure is not None


def test_a_single_node() -> None:
    audit = Audit(1)
    assert audit.result().differences is None
    wrong_count(audit.ledger(0), "b")
    assert audit.differences().wrong_nodes == [0]
    with pytest.raises(NotRepaired, match="there is no other node"):
        audit.result(rebuild=audit.rebuild)


# What comes between


def test_a_node_that_is_down_is_named(audit: Audit) -> None:
    audit.cluster.kill_node(1)
    audit.cluster.run(3)
    found = audit.result()
    assert (found.nodes, found.differences) == ([0, 2], None)
    assert found.not_audited == [NotAudited(1, "it is down")]


def test_it_begins_anew_without_a_node_that_has_died(audit: Audit) -> None:
    audit.cluster.network.slowest = 0.5
    result = audit.begin()
    audit.cluster.run(0.2)
    audit.cluster.kill_node(1)
    found = audit.cluster.result(result)
    assert (found.nodes, found.differences) == ([0, 2], None)


def test_it_begins_anew_without_a_node_that_is_frozen(audit: Audit) -> None:
    audit.cluster.network.slowest = 0.5
    result = audit.begin()
    audit.cluster.run(0.2)
    audit.cluster.freeze("node 1")
    found = audit.cluster.result(result)
    assert (found.nodes, found.differences) == ([0, 2], None)
    audit.cluster.thaw("node 1")


def test_a_node_that_does_not_reach_the_others_ends_it(audit: Audit) -> None:
    for other in (0, 2):
        audit.cluster.part("node 1", f"node {other}")
    audit.store(range(50), ["a"] * 50)
    with pytest.raises(AuditNotFinished, match="has not reached the position of the others within 3 s"):
        audit.result()
    state = audit.coordinator.audits()
    assert state.failure is not None
    assert state.last is None
    assert state.running is None


def test_no_node_at_all(audit: Audit) -> None:
    for node in list(audit.cluster.nodes):
        audit.cluster.kill_node(node)
    audit.cluster.run(3)
    with pytest.raises(AuditNotFinished, match="no node is up"):
        audit.result()


def test_there_is_one_at_a_time(audit: Audit) -> None:
    first = audit.begin()
    with pytest.raises(AuditRuns):
        audit.result()
    running = audit.coordinator.audits().running
    assert running is not None
    assert running.phase == "counting"
    audit.cluster.result(first)
    assert audit.coordinator.audits().running is None
    audit.result()


def test_one_of_another_coordinator_is_waited_for(audit: Audit) -> None:
    other = audit.cluster.start_coordinator()
    audit.cluster.wait_for(lambda: other.readiness().ready)
    audits = [audit.begin(), audit.begin(by=other)]
    assert [audit.cluster.result(each).differences for each in audits] == [None, None]


def test_it_goes_on_without_its_caller(audit: Audit) -> None:
    left = audit.begin()
    failures: list[Failure] = []
    left.addErrback(failures.append)
    left.cancel()
    assert failures[0].check(CancelledError)
    audit.cluster.wait_for(lambda: audit.coordinator.audits().last is not None)
    assert audit.coordinator.audits().running is None


def test_it_ends_with_the_coordinator(audit: Audit) -> None:
    result = audit.begin()
    failures: list[Failure] = []
    result.addErrback(failures.append)
    audit.cluster.stop()
    assert failures[0].check(AuditNotFinished)
    assert "stopping" in failures[0].getErrorMessage()


# Older releases


def _older(processes: Sequence[str]) -> Callable[[str], Abilities]:
    features = [each for each in ABILITIES.features if each != AUDITS]
    older = Abilities(ABILITIES.lowest, ABILITIES.highest, features)
    return lambda process: older if process in processes else ABILITIES


def test_nodes_of_an_older_release_are_named() -> None:
    audit = Audit(parts=Parts(abilities=_older(["node 1"])))
    found = audit.result()
    assert found.nodes == [0, 2]
    assert found.not_audited == [NotAudited(1, "it runs a release of dcounter without audits")]


def test_a_cluster_of_an_older_release_has_no_audits() -> None:
    audit = Audit(parts=Parts(abilities=_older(["node 0", "node 1", "node 2"])))
    with pytest.raises(NotSupportedHere, match="upgrade them"):
        audit.result()


# Repair


def test_a_wrong_node_is_made_anew(audit: Audit) -> None:
    other_owner(audit.ledger(1), 11, "c")
    found = audit.result(["c"], rebuild=audit.rebuild)
    assert (found.repaired, found.differences, found.counts) == ([1], None, [("c", 8)])
    assert found.nodes == [0, 1, 2]
    assert audit.ledger(1).count("c") == 8


def test_nodes_are_made_anew_one_after_the_other(audit: Audit) -> None:
    wrong_count(audit.ledger(0), "b")
    other_owner(audit.ledger(2), 11, "c")
    at_once: list[int] = []

    async def rebuild(node: int) -> None:
        at_once.append(len(audit.cluster.nodes))
        await audit.rebuild(node)

    found = audit.result(rebuild=rebuild)
    # Node 0 gets its rows from the others: those of node 2 are right by then.
    assert (found.repaired, found.differences, at_once) == ([2, 0], None, [3, 3])


def test_what_a_node_said_in_a_former_life_is_not_relied_on() -> None:
    audit = Audit(2)
    assert audit.coordinator.durable_elsewhere(0) != Position()
    # It may have come back without a disk.
    audit.coordinator._view.connected(1, audit.cluster.clock.seconds())  # noqa: SLF001 - no report between
    assert audit.coordinator.durable_elsewhere(0) == Position()
    audit.cluster.run(1)
    assert audit.coordinator.durable_elsewhere(0) != Position()


def test_what_was_made_anew_before_is_told(audit: Audit) -> None:
    wrong_count(audit.ledger(0), "b")
    wrong_count(audit.ledger(2), "b")

    async def rebuild(node: int) -> None:
        if node == 2:
            raise NodeIsBusy("node 2 is being restarted already")
        await audit.rebuild(node)

    with pytest.raises(NotRepaired, match=r"already\. Nodes \[0\] were made anew before") as refused:
        audit.result(rebuild=rebuild)
    assert refused.value.outcome == "partial"
    # Nothing has changed since.
    with pytest.raises(NodeIsBusy):
        audit.result(rebuild=rebuild)


def test_a_node_that_is_removed_meanwhile_is_not_waited_for(audit: Audit) -> None:
    wrong_count(audit.ledger(1), "b")

    async def rebuild(node: int) -> None:
        audit.cluster.kill_node(node)
        await deferLater(audit.cluster.clock, 3)
        await audit.coordinator.remove(node)

    with pytest.raises(AuditNotFinished, match="node 1 was removed"):
        audit.result(rebuild=rebuild)
    assert audit.result().nodes == [0, 2]


def test_nothing_is_made_anew_if_nothing_is_wrong(audit: Audit) -> None:
    assert audit.result(rebuild=audit.rebuild).repaired == []


def test_nothing_is_made_anew_from_a_node_that_may_be_wrong(audit: Audit) -> None:
    audit.cluster.kill_node(2)
    audit.cluster.run(3)
    wrong_count(audit.ledger(1), "b")
    with pytest.raises(NotRepaired, match=r"nodes \[2\] were not audited"):
        audit.result(rebuild=audit.rebuild)


def test_of_several_nodes_with_wrong_rows_none_is_made_anew() -> None:
    audit = Audit(5)
    older_row(audit.ledger(1), 11)
    older_row(audit.ledger(3), 12)
    with pytest.raises(NotRepaired, match="--rebuild 1 --rebuild 3"):
        audit.result(rebuild=audit.rebuild)


def test_one_that_is_wrong_again_is_not_made_anew_again() -> None:
    audit = Audit(parts=Parts(replica=losing(1, 4)))
    with pytest.raises(NotRepaired, match=r"nodes \[1\] were made anew, and are wrong again"):
        audit.result(rebuild=audit.rebuild)
