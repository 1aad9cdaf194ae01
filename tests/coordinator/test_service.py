"""
The coordinator as a `Store`: what its callers are told, over a whole cluster in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from errno import EIO
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dcounter.coordinator.service import Coordinator
from dcounter.errors import (
    Incomplete,
    InvalidPosition,
    NotApplied,
    NotReplicated,
    OutcomeUnknown,
    PositionLost,
    Refusal,
)
from dcounter.limits import Limits
from dcounter.protocol.secrets import Secrets
from dcounter.protocol.token import TokenSeal
from dcounter.stamps import show_stamp
from dcounter.store import Ack, Consistency, Count, Items, Receipt
from dcounter.testing import Cluster

SECOND = 1_000_000_000

_R = TypeVar("_R", bound=Refusal)


class CalledCluster:
    """
    A cluster and its first coordinator, with fewer words.
    """

    def __init__(
        self,
        nodes: int = 4,
        *,
        limits: Limits | None = None,
        started: bool = True,
        disks: bool = False,
        seed: int = 1,
    ) -> None:
        self.cluster = Cluster(nodes, seed=seed, limits=limits, disks=disks)
        if started:
            self.cluster.start()
            # All connections are there.
            self.cluster.run(1)

    @property
    def coordinator(self) -> Coordinator:
        return self.cluster.coordinator

    def storing(
        self,
        ids: Sequence[int],
        tenants: Sequence[str] | str = "a",
        *,
        stamps: Sequence[int | None] | None = None,
        ack: Ack = "node",
        after: str | None = None,
        by: Coordinator | None = None,
    ) -> Deferred[Receipt]:
        names = [tenants] * len(ids) if isinstance(tenants, str) else tenants
        what = (by or self.coordinator).store(Items(ids, names, stamps), ack=ack, after=after)
        return Deferred.fromCoroutine(what)

    def storing_items(self, items: Items) -> Deferred[Receipt]:
        return Deferred.fromCoroutine(self.coordinator.store(items, ack="node"))

    def store(self, ids: Sequence[int], tenants: Sequence[str] | str = "a", **kw: Any) -> Receipt:
        return self.cluster.result(self.storing(ids, tenants, **kw))

    def counting(
        self,
        tenant: str = "a",
        consistency: Consistency = "exact",
        *,
        after: str | None = None,
        by: Coordinator | None = None,
    ) -> Deferred[Count]:
        what = (by or self.coordinator).count(tenant, consistency=consistency, after=after)
        return Deferred.fromCoroutine(what)

    def count(self, tenant: str = "a", consistency: Consistency = "exact", **kw: Any) -> int:
        return self.cluster.result(self.counting(tenant, consistency, **kw)).counter

    def refused(self, kind: type[_R], what: Deferred[Any]) -> _R:
        with pytest.raises(kind) as caught:
            self.cluster.result(what)
        return caught.value

    def entry(self, item: int) -> tuple[int, str | None]:
        """
        The newest entry of an ID on any node.
        """
        entries = [node.replica.ledger.get(item) for node in self.cluster.nodes.values()]
        return max((entry.stamp, entry.tenant) for entry in entries if entry is not None)

    def batches(self) -> int:
        """
        How many batches all nodes have taken.
        """
        replicas = [node.replica for node in self.cluster.nodes.values()]
        return sum(
            number for each in replicas for node, _, number in each.applied.entries() if node == each.node
        )

    def taken(self) -> list[int]:
        return [node.replica.report().items_taken for _, node in sorted(self.cluster.nodes.items())]

    def freeze_all(self) -> None:
        for node in self.cluster.nodes:
            self.cluster.freeze(f"node {node}")

    def stop(self) -> None:
        self.cluster.stop()
        assert not self.cluster.clock.getDelayedCalls()
        assert not self.cluster.network.connections
        assert not self.cluster.network.ports


@pytest.fixture
def world() -> Iterator[CalledCluster]:
    world = CalledCluster()
    yield world
    world.stop()


@pytest.fixture
def two() -> Iterator[CalledCluster]:
    world = CalledCluster(2)
    yield world
    world.stop()


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """
    What a Deferred has told so far.
    """
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found


class TestStamps:
    def test_rise_in_the_order_of_the_requests_and_of_their_items(self, world: CalledCluster) -> None:
        for first in (0, 20):
            world.store(range(first, first + 11))
        stamps = [world.entry(item)[0] for item in (*range(11), *range(20, 31))]
        assert stamps == sorted(set(stamps))

    def test_of_one_turn_follow_each_other(self, world: CalledCluster) -> None:
        first, second = world.storing([1, 2], "a"), world.storing([2, 3], "b")
        world.cluster.result(first)
        world.cluster.result(second)
        assert (world.count("a"), world.count("b")) == (1, 2)

    def test_go_on_when_the_wall_clock_steps_back(self, world: CalledCluster) -> None:
        world.store([1], "old")
        world.cluster.wall.skew -= 3600 * SECOND
        receipt = world.store([1], "new")
        assert (world.count("old"), world.count("new")) == (0, 1)
        # The tokens are from this very clock: it takes them.
        world.store([1], "newest", after=receipt.position)
        assert world.count("newest") == 1
        # It is believed when it has lasted.
        assert world.coordinator.status().clock_skew_ms == 0
        world.cluster.run(31)
        assert world.coordinator.status().clock_skew_ms > 3_500_000

    @pytest.mark.parametrize("jump", [10 * 365 * 86_400, -10 * 365 * 86_400, 3600, -3600])
    def test_are_none_of_a_clock_that_jumps_for_a_moment(self, world: CalledCluster, jump: int) -> None:
        world.cluster.wall.skew += jump * SECOND
        world.store([1], "unrelated")
        [warning] = world.coordinator.readiness().warnings
        assert "the wall clock of this machine jumped" in warning
        world.cluster.run(20)
        world.cluster.wall.skew -= jump * SECOND
        world.store([2], "unstamped")
        assert world.coordinator.readiness().warnings == []
        world.cluster.run(1)
        receipt = world.store([2], "right", stamps=[world.cluster.wall()])
        assert receipt.warning is None
        assert (world.count("right"), world.count("unstamped")) == (1, 0)
        assert world.coordinator.status().clock_skew_ms < 1_000

    def test_from_the_future_are_reported(
        self, world: CalledCluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        year = 365 * 86_400 * SECOND
        world.cluster.wall.skew += year
        world.cluster.run(31)
        world.store([1], "future")
        world.cluster.wall.skew -= year
        # The clock was wrong for longer than can be told from being set right.
        world.cluster.run(31)
        receipt = world.store([1], "right", stamps=[world.cluster.wall()])
        assert world.count("right") == 0
        assert receipt.warning is not None
        assert "the newest stamp is 365 days ahead of this machine's clock" in receipt.warning
        assert world.store([2]).warning is None
        [warning] = world.coordinator.status().warnings
        assert warning.startswith("the newest stamp is 365 days ahead")
        assert caplog.text.count("jumped 365 days ahead") == 1
        assert caplog.text.count("the newest stamp is 365 days ahead") == 1

    def test_of_the_caller_are_the_items(self, world: CalledCluster) -> None:
        past, future = world.cluster.wall() - SECOND, world.cluster.wall() + 10 * SECOND
        world.store([1, 2], ["past", "future"], stamps=[past, future])
        assert world.entry(1) == (past, "past")
        assert world.entry(2) == (future, "future")

    def test_of_the_caller_undo_nothing_newer(self, world: CalledCluster) -> None:
        past = world.cluster.wall() - SECOND
        world.store([1], "new")
        world.store([1], "late", stamps=[past])
        assert (world.count("new"), world.count("late")) == (1, 0)

    def test_of_the_caller_move_the_clock(self, world: CalledCluster) -> None:
        future = world.cluster.wall() + 10 * SECOND
        world.store([1], "ahead", stamps=[future])
        world.store([1], "after")
        assert world.entry(1) == (future + 1, "after")

    def test_mix_in_one_request(self, world: CalledCluster) -> None:
        past, future = world.cluster.wall() - SECOND, world.cluster.wall() + 5 * SECOND
        world.store([1, 2, 3, 4], "a", stamps=[None, past, future, None])
        stamps = [world.entry(item)[0] for item in (1, 2, 3, 4)]
        assert stamps == [future + 1, past, future, future + 1]

    @pytest.mark.parametrize("tenants", [["z", "a"], ["a", "z"]])
    def test_that_are_equal_in_one_request_let_the_later_item_win(
        self, world: CalledCluster, tenants: list[str]
    ) -> None:
        stamp = world.cluster.wall()
        receipt = world.store([1, 1], tenants, stamps=[stamp, stamp], ack="all")
        assert receipt.items == 2
        assert world.count(tenants[0]) == 0
        assert world.count(tenants[1]) == 1

    def test_that_are_equal_in_two_requests_let_the_larger_tenant_win(self, world: CalledCluster) -> None:
        stamp = world.cluster.wall()
        world.store([1], "z", stamps=[stamp])
        world.store([1], "a", stamps=[stamp])
        assert (world.count("a"), world.count("z")) == (0, 1)

    def test_of_an_after_token_are_beaten(self, world: CalledCluster) -> None:
        other = world.cluster.start_coordinator()
        ahead = world.storing([1], "first", stamps=[world.cluster.wall() + 9 * SECOND], by=other)
        token = world.cluster.result(ahead).position
        world.store([1], "second", after=token)
        assert (world.count("first"), world.count("second")) == (0, 1)


class TestStarting:
    def test_waits_for_all_members_and_passes_what_they_have_heard_of(self, world: CalledCluster) -> None:
        future = world.cluster.wall() + 8 * SECOND
        world.store([1], "ahead", stamps=[future], ack="all")
        other = world.cluster.start_coordinator()
        world.cluster.result(world.storing([1], "after", by=other))
        stamp, tenant = world.entry(1)
        assert (tenant, stamp) == ("after", future + 1)

    def test_without_a_member_goes_past_all_that_was_allowed(self, world: CalledCluster) -> None:
        world.cluster.kill_node(3)
        now = world.cluster.clock.seconds()
        for _ in range(3):
            other = world.cluster.start_coordinator()
            world.cluster.result(world.storing([1], "a", by=other))
            world.cluster.result(other.stopService())
        assert world.cluster.clock.seconds() - now >= 3 * world.cluster.limits.suspicion_s
        # The maximum, not a sum.
        ahead = world.entry(1)[0] - world.cluster.wall()
        assert 9 * SECOND < ahead <= 10 * SECOND

    def test_is_not_exact_before_all_members_have_reported(self, world: CalledCluster) -> None:
        world.store([1])
        world.cluster.run(1)
        world.cluster.freeze("node 3")
        other = world.cluster.start_coordinator()
        error = world.refused(Incomplete, world.counting(by=other))
        assert error.counter_so_far == 1
        assert error.missing == (3,)
        assert error.retry_after
        count = world.cluster.result(world.counting("a", "available", by=other))
        assert (count.counter, count.complete, list(count.missing)) == (1, False, [3])
        world.cluster.thaw("node 3")
        world.cluster.run(3)
        assert world.count(by=other) == 1

    def test_requires_what_an_earlier_coordinator_was_told(self, world: CalledCluster) -> None:
        # Only node 0 has it, as far as the others can tell.
        for node in (1, 2, 3):
            world.cluster.network.silent.add(("node 0", f"node {node}"))
        receipts = [world.store([item]) for item in range(4)]
        assert len(receipts) == 4
        other = world.cluster.start_coordinator()
        assert world.count(by=other) == 4
        world.cluster.network.silent.clear()
        world.cluster.network.release()

    def test_is_ready_after_a_while_without_a_member(self, world: CalledCluster) -> None:
        world.cluster.kill_node(2)
        other = world.cluster.start_coordinator()
        world.cluster.run(2)
        assert not other.readiness().ready
        world.cluster.run(4)
        readiness = other.readiness()
        assert readiness.ready
        assert not readiness.exact
        assert readiness.missing == [2]


class TestStoring:
    def test_nothing_is_stored_at_once(self, world: CalledCluster) -> None:
        receipt = world.store([], ack="all")
        assert (receipt.items, receipt.ack) == (0, "all")
        assert world.batches() == 0
        assert world.count(after=receipt.position) == 0

    def test_is_shared_out_evenly_in_order(self, world: CalledCluster) -> None:
        world.store(range(11))
        assert world.taken() == [3, 3, 3, 2]

    def test_small_requests_take_turns(self, world: CalledCluster) -> None:
        for item in range(8):
            world.store([item])
        assert world.taken() == [2, 2, 2, 2]

    def test_moves_an_item(self, world: CalledCluster) -> None:
        world.store([1, 2], ["hello", "publicsonar"])
        assert (world.count("hello"), world.count("publicsonar")) == (1, 1)
        world.store([1], "publicsonar")
        assert (world.count("hello"), world.count("publicsonar")) == (0, 2)

    def test_of_duplicates_in_different_slices_the_last_wins(self, world: CalledCluster) -> None:
        world.store([5] * 11, [f"t{place}" for place in range(11)])
        assert [world.count(f"t{place}") for place in range(11)] == [0] * 10 + [1]

    @pytest.mark.parametrize("ack", ["node", "primary", "majority", "all"])
    def test_is_durable_as_widely_as_asked(self, world: CalledCluster, ack: Ack) -> None:
        receipt = world.store([1], ack=ack)
        assert receipt.ack == ack
        holders = [n for n, node in world.cluster.nodes.items() if node.replica.ledger.get(1)]
        least = {"node": 1, "primary": 1, "majority": 3, "all": 4}[ack]
        assert len(holders) >= least
        if ack == "primary":
            assert world.coordinator.status().primary in holders

    def test_is_refused_at_once_when_every_disk_is_full(self) -> None:
        world = CalledCluster(2, disks=True)
        world.store(range(4), ack="all")
        for disk in world.cluster.disks.values():
            disk.capacity = 0
        # The first request may be on a disk that could not sync it.
        first = world.refused(OutcomeUnknown, world.storing([5, 6]))
        assert first.items_stored == 0
        before = world.cluster.clock.seconds()
        error = world.refused(NotApplied, world.storing([7]))
        assert world.cluster.clock.seconds() - before < 0.1
        full = "the disk failed: [Errno 28] No space left on device"
        assert f"no node takes writes: node 0: {full}; node 1: {full}; nothing of the request" in str(error)
        for disk in world.cluster.disks.values():
            disk.capacity = None
        world.cluster.run(3)
        world.store([8])
        world.cluster.stop()

    def test_that_waits_is_refused_when_the_last_disk_fails(self) -> None:
        world = CalledCluster(
            2, disks=True, limits=replace(Limits(), window_batches=1, batch_bytes=1, small_items=0)
        )
        for node in (0, 1):
            world.cluster.lags[node] = 1.0
        sent = [world.storing([item]) for item in range(4)]
        waiting = world.storing([9])
        world.cluster.run(0.1)
        for disk in world.cluster.disks.values():
            disk.errors["write"] = EIO
        error = world.refused(NotApplied, waiting)
        assert "no node takes writes: node 0: the disk failed: " in str(error)
        for disk in world.cluster.disks.values():
            disk.errors.clear()
        world.cluster.lags.clear()
        for each in sent:
            each.addErrback(lambda why: why.trap(OutcomeUnknown, NotApplied))
        world.cluster.run(6)
        world.cluster.stop()

    def test_says_that_no_node_is_connected(self) -> None:
        world = CalledCluster(2)
        for node in (0, 1):
            world.cluster.kill_node(node)
        world.cluster.run(2)
        error = world.refused(NotApplied, world.storing([1]))
        assert str(error) == "no node is connected; nothing of the request was stored"

    def test_says_that_nodes_do_not_take_writes_yet(self) -> None:
        # Both are empty, and wait for a third one that may know more.
        world = CalledCluster(3)
        for node in range(3):
            world.cluster.kill_node(node)
        for node in range(2):
            world.cluster.start_node(node)
        world.cluster.run(2)
        error = world.refused(NotApplied, world.storing([1]))
        assert str(error) == "no node takes writes yet; nothing of the request was stored"

    def test_waits_for_a_node_that_is_being_restarted(self) -> None:
        world = CalledCluster(1, disks=True)
        world.cluster.lags[0] = 1.0
        first = world.storing([1])
        world.cluster.run(0.1)
        stopping = world.cluster.nodes.pop(0).stopService()
        world.cluster.run(0.1)
        # It refuses, but not for long.
        waiting = world.storing([2])
        world.cluster.lags.clear()
        world.cluster.result(stopping)
        world.cluster.start_node(0)
        assert world.cluster.result(first).items == world.cluster.result(waiting).items == 1
        world.cluster.stop()

    def test_does_not_wait_for_others_by_default(self, world: CalledCluster) -> None:
        for node in range(4):
            for peer in range(4):
                world.cluster.network.slow[f"node {node}", f"node {peer}"] = 0.5
        before = world.cluster.clock.seconds()
        world.store(range(11))
        assert world.cluster.clock.seconds() - before < 0.1

    @pytest.mark.parametrize(("ack", "reached"), [("all", "majority"), ("majority", None), ("primary", None)])
    def test_is_never_silently_less_than_asked(
        self, world: CalledCluster, ack: Ack, reached: str | None
    ) -> None:
        world.cluster.freeze("node 3")
        if reached is None:
            assert world.store([1, 2], ack=ack).ack == ack
        else:
            before = world.cluster.clock.seconds()
            error = world.refused(NotReplicated, world.storing([1, 2], ack=ack))
            assert error.stamp == world.entry(2)[0]
            assert world.cluster.clock.seconds() - before <= world.cluster.limits.request_s + 0.3
            assert (error.outcome, error.reached, error.items) == ("stored", reached, 2)
            assert world.count(after=error.position) == 2

    def test_reaches_only_its_node_while_nobody_replicates(self, world: CalledCluster) -> None:
        for node in range(4):
            for peer in range(node):
                world.cluster.part(f"node {node}", f"node {peer}")
        # The first goes to node 0, the primary; the second does not.
        acks = [world.refused(NotReplicated, world.storing([item], ack="all")).reached for item in (1, 2)]
        assert sorted(acks) == ["node", "primary"]

    def test_finds_the_new_primary_when_the_old_one_dies_meanwhile(self, world: CalledCluster) -> None:
        world.cluster.network.silent |= {(f"node {peer}", "node 0") for peer in (1, 2, 3)}
        storing = outcome(world.storing(range(2, 6), ack="primary"))
        world.cluster.run(0.1)
        assert storing == []
        before = world.cluster.clock.seconds()
        world.cluster.kill_node(0)
        world.cluster.wait_for(lambda: bool(storing))
        assert storing[0].ack == "primary"
        assert world.cluster.clock.seconds() - before < 2
        world.cluster.network.silent.clear()

    def test_is_answered_in_time_although_a_node_never_is(self, world: CalledCluster) -> None:
        for node in (2, 3):
            world.cluster.freeze(f"node {node}")
        asked = world.cluster.clock.seconds()
        world.refused(NotReplicated, world.storing([1, 2], ack="all"))
        assert world.cluster.clock.seconds() - asked <= world.cluster.limits.request_s + 0.1

    def test_goes_elsewhere_when_a_node_dies_under_it(self, world: CalledCluster) -> None:
        storing = world.storing(range(11))
        world.cluster.step()
        world.cluster.kill_node(1)
        assert world.cluster.result(storing).items == 11
        assert world.count() == 11

    def test_goes_elsewhere_when_a_node_is_slow(self, world: CalledCluster) -> None:
        world.cluster.freeze("node 1")
        before = world.cluster.clock.seconds()
        world.store(range(11))
        assert world.cluster.clock.seconds() - before < 1.5

    def test_says_that_nothing_was_stored_when_no_node_takes_writes(self, world: CalledCluster) -> None:
        for node in range(4):
            world.cluster.kill_node(node)
        before = world.cluster.clock.seconds()
        error = world.refused(NotApplied, world.storing([1]))
        assert error.outcome == "not_applied"
        assert error.retry_after
        assert world.cluster.clock.seconds() - before <= world.cluster.limits.request_s + 0.1

    def test_says_that_nothing_is_known_when_no_answer_comes(self, world: CalledCluster) -> None:
        world.freeze_all()
        error = world.refused(OutcomeUnknown, world.storing(range(8)))
        assert (error.outcome, error.items_stored) == ("unknown", 0)

    def test_says_what_is_known(self, world: CalledCluster) -> None:
        # Nodes 0 and 1 answer, what the others are asked is on its way for ever.
        for node in (2, 3):
            world.cluster.network.silent |= {("coordinator", f"node {node}")}
        limits = world.cluster.limits
        # What is slow goes elsewhere, so keep those from taking more.
        storing = world.storing(range(8))
        world.cluster.run(limits.slow_after_s / 2)
        for node in (0, 1):
            world.cluster.freeze(f"node {node}")
        error = world.refused(OutcomeUnknown, storing)
        assert error.items_stored == 4
        world.cluster.network.silent.clear()
        for node in (0, 1):
            world.cluster.thaw(f"node {node}")
        world.cluster.run(3)
        # It came in the end, and again from elsewhere: the same items with the same stamps.
        assert world.count(after=error.position) == 8

    @pytest.mark.parametrize("own", [None, [None, None, 0]])
    def test_names_the_stamp_to_repeat_with(self, world: CalledCluster, own: list[int | None] | None) -> None:
        # Tenants in falling order: the rule for equal stamps, the larger name, must not help.
        items = Items([5, 5, 6], ["z", "a", None], own)
        world.store([6], "z", stamps=[0])
        world.freeze_all()
        error = world.refused(OutcomeUnknown, world.storing_items(items))
        assert error.stamp is not None
        assert f"lastUpdateDt={show_stamp(error.stamp)}" in str(error)
        for node in world.cluster.nodes:
            world.cluster.thaw(f"node {node}")
        world.cluster.run(5)
        world.store([5], "later")
        world.cluster.result(world.storing_items(items.stamped(error.stamp)))
        assert [world.count(tenant) for tenant in ("z", "a", "later")] == [own is not None, 0, 1]

    def test_names_no_stamp_if_all_items_have_their_own(self, world: CalledCluster) -> None:
        world.freeze_all()
        assert world.refused(OutcomeUnknown, world.storing([5, 6], stamps=[0, 1])).stamp is None

    def test_coalesces_what_comes_together(self, world: CalledCluster) -> None:
        waiting = [world.storing([first, first + 1, first + 2, first + 3]) for first in range(0, 400, 4)]
        for each in waiting:
            world.cluster.result(each)
        assert world.batches() == 1
        assert world.count() == 400

    def test_refuses_more_than_may_wait(self) -> None:
        world = CalledCluster(2, limits=replace(Limits(), queue_requests=3, window_batches=1, batch_bytes=1))
        world.freeze_all()
        waiting = [outcome(world.storing([item])) for item in range(5)]
        # Two are on their way, three wait.
        error = world.refused(NotApplied, world.storing([9]))
        assert error.outcome == "not_applied"
        assert "waiting" in str(error)
        world.cluster.run(6)
        assert [type(each[0].value) for each in waiting] == [OutcomeUnknown] * 2 + [NotApplied] * 3
        world.stop()

    def test_refuses_more_bytes_than_may_wait(self) -> None:
        world = CalledCluster(1, limits=replace(Limits(), queue_bytes=100, window_batches=1, batch_bytes=1))
        world.freeze_all()
        waiting = [outcome(world.storing([item], "x" * 60)) for item in range(2)]
        world.refused(NotApplied, world.storing([9], "x" * 60))
        world.cluster.run(6)
        assert all(waiting)
        world.stop()


class TestCounting:
    def test_is_exact_after_each_store(self, world: CalledCluster) -> None:
        for item in range(50):
            world.store([item, 1000 - item])
            assert world.count() == 2 * (item + 1)

    def test_of_many_callers_is_asked_once(self, world: CalledCluster) -> None:
        world.store(range(5), ["a", "b", "b", "c", "c"])
        waiting = [world.counting(tenant) for tenant in "abcd" * 10]
        assert [world.cluster.result(each).counter for each in waiting] == [1, 2, 2, 0] * 10

    def test_of_many_long_names_at_once_fits_into_lines(self) -> None:
        # All names in one line would be longer than any that a node takes.
        world = CalledCluster(2, limits=Limits(line_bytes=60_000, batch_bytes=9_000, slice_bytes=9_000))
        names = [f"{number:03}{'x' * 3_000}" for number in range(40)]
        waiting = [world.counting(name) for name in names]
        assert [world.cluster.result(each).counter for each in waiting] == [0] * 40
        world.cluster.stop()

    @pytest.mark.parametrize("killed", [0, 1, 2, 3])
    def test_is_exact_from_any_node_that_is_left(self, world: CalledCluster, killed: int) -> None:
        world.store(range(40), ack="all")
        world.cluster.kill_node(killed)
        assert world.count() == 40

    def test_fails_closed_when_the_only_holder_is_unavailable(self, two: CalledCluster) -> None:
        two.cluster.part("node 0", "node 1")
        two.store([1, 2])
        two.cluster.kill_node(1)
        error = two.refused(Incomplete, two.counting())
        assert (error.counter_so_far, error.missing) == (1, (1,))
        assert "nodes [1]" in str(error)
        count = two.cluster.result(two.counting("a", "available"))
        assert (count.counter, count.complete, list(count.missing)) == (1, False, [1])
        assert two.count("a", "eventual") == 1
        assert two.coordinator.readiness().missing == [1]
        assert not two.coordinator.readiness().exact

    def test_names_whose_items_the_callers_position_needs(self, two: CalledCluster) -> None:
        # Another coordinator stored them: this one requires nothing of it by itself.
        other = two.cluster.start_coordinator()
        two.cluster.wait_for(lambda: other.readiness().exact)
        two.cluster.part("node 0", "node 1")
        receipt = two.cluster.result(other.store(Items([1, 2], ["a", "a"], None), ack="node"))
        two.cluster.kill_node(1)
        count = two.cluster.result(
            two.coordinator.count("a", consistency="available", after=receipt.position)
        )
        assert (count.complete, list(count.missing)) == (False, [1])

    def test_has_no_number_when_nobody_answers(self, two: CalledCluster) -> None:
        two.freeze_all()
        for consistency in ("exact", "available", "eventual"):
            error = two.refused(Incomplete, two.counting("a", consistency))
            assert error.counter_so_far is None
        for node in (0, 1):
            two.cluster.thaw(f"node {node}")

    def test_available_is_complete_if_it_can_be(self, world: CalledCluster) -> None:
        world.store([1])
        count = world.cluster.result(world.counting("a", "available"))
        assert (count.counter, count.complete, list(count.missing)) == (1, True, [])

    def test_does_not_wait_for_a_slow_primary(self, world: CalledCluster) -> None:
        world.store(range(8), ack="all")
        primary = world.coordinator.status().primary
        world.cluster.freeze(f"node {primary}")
        before = world.cluster.clock.seconds()
        assert world.count() == 8
        assert world.cluster.clock.seconds() - before < 2 * world.cluster.limits.hedge_after_s

    def test_survives_a_node_that_dies_under_it(self, world: CalledCluster) -> None:
        world.store(range(8), ack="all")
        counting = world.counting()
        world.cluster.step()
        world.cluster.kill_node(world.coordinator.status().primary or 0)
        assert world.cluster.result(counting).counter == 8

    def test_never_goes_back_across_coordinators(self, world: CalledCluster) -> None:
        for item in range(20):
            world.store([item])
            other = world.cluster.start_coordinator()
            assert world.count(by=other) == item + 1
            world.cluster.result(other.stopService())

    def test_waits_for_what_is_on_its_way(self, two: CalledCluster) -> None:
        two.cluster.network.slow |= {("node 1", "node 0"): 0.8, ("node 0", "node 1"): 0.8}
        two.store([1, 2])
        before = two.cluster.clock.seconds()
        assert two.count() == 2
        assert two.cluster.clock.seconds() - before > 0.3


class TestTokens:
    def test_make_another_coordinator_see_a_write(self, world: CalledCluster) -> None:
        other = world.cluster.start_coordinator()
        world.cluster.run(1)
        world.cluster.network.slow |= {(f"node {n}", f"node {m}"): 0.5 for n in range(4) for m in range(4)}
        receipt = world.store(range(8))
        assert world.count(by=other, after=receipt.position) == 8

    def test_of_a_count_make_another_coordinator_see_as_much(self, world: CalledCluster) -> None:
        other = world.cluster.start_coordinator()
        world.cluster.run(1)
        world.store(range(8))
        count = world.cluster.result(world.counting())
        assert world.count(by=other, after=count.position) == 8

    def test_of_a_write_after_another_cover_both(self, world: CalledCluster) -> None:
        other = world.cluster.start_coordinator()
        third = world.cluster.start_coordinator()
        world.cluster.run(1)
        first = world.store([1])
        second = world.cluster.result(world.storing([2], by=other, after=first.position))
        assert world.count(by=third, after=second.position) == 2

    def test_are_waited_for_but_bind_nobody_else(self, two: CalledCluster) -> None:
        other = two.cluster.start_coordinator()
        two.cluster.run(1)
        two.cluster.part("node 0", "node 1")
        receipts = [two.store([item], by=other) for item in range(2)]
        two.cluster.kill_node(1)
        two.store([5])
        for receipt in receipts:
            two.cluster.result(
                two.counting(after=receipt.position).addErrback(lambda why: why.trap(Incomplete))
            )
        # What a token named is not required of others.
        assert two.count() >= 1

    @pytest.mark.parametrize("token", ["", "?", "AAAA", "é", "A" * 200])
    def test_that_are_none_are_refused(self, world: CalledCluster, token: str) -> None:
        world.refused(InvalidPosition, world.counting(after=token))
        world.refused(InvalidPosition, world.storing([1], after=token))
        assert world.batches() == 0

    def test_that_were_altered_or_are_of_another_cluster_are_refused(self, world: CalledCluster) -> None:
        token = world.store([1]).position
        last = "B" if token[-1] != "B" else "C"
        strange = TokenSeal(Secrets(b"another"), "another").seal(world.cluster.nodes[0].replica.applied, 1)
        for each in (token[:-1] + last, token[1:], token + "=", strange):
            world.refused(InvalidPosition, world.counting(after=each))

    def test_that_were_answered_here_can_be_joined_whatever_became_of_the_secret(
        self, world: CalledCluster
    ) -> None:
        # So a load ends well that began before the secret was changed.
        first = world.store([1]).position
        secrets = world.cluster.processes.secrets
        for _ in range(3):
            secrets.begin_step()
            for process in secrets.behind:
                secrets.take_step(process)
        world.refused(InvalidPosition, world.counting(after=first))
        joined = world.coordinator.join(first, world.store([2]).position)
        assert world.count(after=joined) == 2

    def test_of_a_clock_far_ahead_are_not_believed(self, world: CalledCluster) -> None:
        for node in range(4):
            world.cluster.part("coordinator", f"node {node}")
        world.cluster.wall.skews["coordinator 1"] = 3600 * SECOND
        other = world.cluster.start_coordinator()
        token = world.cluster.result(world.storing([1], by=other)).position
        world.refused(InvalidPosition, world.storing([2], after=token))
        for node in range(4):
            world.cluster.heal("coordinator", f"node {node}")
        world.cluster.run(2)
        # From nodes it is believed, and then the token says nothing new.
        world.store([2], after=token)
        assert world.count(after=token) == 2

    def test_of_items_that_are_lost_are_refused(self, two: CalledCluster) -> None:
        other = two.cluster.start_coordinator()
        two.cluster.run(1)
        two.cluster.part("node 0", "node 1")
        tokens = [two.store([item]).position for item in range(2)]
        two.cluster.kill_node(1)
        two.cluster.heal("node 0", "node 1")
        two.cluster.start_node(1)
        two.cluster.run(3)
        assert [lost["node"] for lost in two.coordinator.status().lost] == [1]
        outcomes = []
        for token in tokens:
            for by in (two.coordinator, other):
                try:
                    outcomes.append(two.count(after=token, by=by))
                except PositionLost:
                    outcomes.append(-1)
        assert sorted(outcomes) == [-1, -1, 1, 1]
        # What is left counts exactly again.
        assert two.count() == 1

    def test_are_not_taken_for_lost_by_who_has_not_heard_yet(self, two: CalledCluster) -> None:
        other = two.cluster.start_coordinator()
        two.cluster.run(2)
        two.cluster.network.silent |= {(f"node {node}", "coordinator") for node in (0, 1)}
        token = two.cluster.result(two.storing([1, 2], by=other)).position
        storing = two.storing([3], after=token)
        two.cluster.run(0.3)
        two.cluster.network.silent.clear()
        two.cluster.network.release()
        assert two.cluster.result(storing).items == 1
        assert two.count(after=token) == 3


class TestLoss:
    def test_is_told_before_counts_are_exact_again(self, two: CalledCluster) -> None:
        two.cluster.part("node 0", "node 1")
        two.store([1, 2], ["a", "b"])
        two.cluster.kill_node(1)
        two.refused(Incomplete, two.counting("b"))
        two.cluster.heal("node 0", "node 1")
        two.cluster.start_node(1)
        # It takes writes before the loss is certain; they must not cover it up.
        while not two.coordinator.status().lost:
            two.cluster.result(two.storing([7, 8], "c").addErrback(lambda why: why.trap(NotApplied)))
            try:
                count = two.count("b")
            except Incomplete:
                continue
            assert two.coordinator.status().lost
            assert count == 0
        two.cluster.run(3)
        assert two.count("b") == 0

    def test_is_told_of_a_run_that_nobody_else_knew(self, two: CalledCluster) -> None:
        two.cluster.part("node 0", "node 1")
        two.store([1, 2], ["a", "b"])
        two.cluster.kill_node(1)
        two.cluster.heal("node 0", "node 1")
        # Two more runs, before anybody can be sure that the first one is lost: it is folded away.
        for first in (10, 20):
            two.cluster.start_node(1)
            two.cluster.run(0.5)
            two.store([first, first + 1], "c", ack="all")
            two.cluster.stop_node(1)
        two.cluster.start_node(1)
        two.cluster.run(0.5)
        two.store([30, 31], "c", ack="all")
        two.cluster.run(3)
        assert two.count("b") == 0
        assert [lost["node"] for lost in two.coordinator.status().lost] == [1]

    def test_is_not_reached_as_an_ack(self, two: CalledCluster) -> None:
        two.cluster.part("node 0", "node 1")
        waiting = []
        for item in range(2):
            # One at each node.
            waiting.append(outcome(two.storing([item], ack="all")))
            two.cluster.run(0.1)
        two.cluster.kill_node(1)
        two.cluster.heal("node 0", "node 1")
        two.cluster.start_node(1)
        two.cluster.run(1)
        two.store([7, 8], "c")
        two.cluster.wait_for(lambda: all(waiting))
        kinds = [each[0] for each in waiting]
        assert sum(isinstance(kind, Receipt) for kind in kinds) == 1
        assert [type(kind.value) for kind in kinds if isinstance(kind, Failure)] == [NotReplicated]


class TestCancelling:
    def test_a_store_hurts_no_other_in_its_batch(self, world: CalledCluster) -> None:
        first, second, third = (world.storing([item]) for item in (1, 2, 3))
        cancelled = outcome(second)
        second.cancel()
        assert cancelled[0].check(CancelledError)
        world.cluster.result(first)
        world.cluster.result(third)
        fourth = world.storing([4])
        world.cluster.step()
        fourth.addErrback(lambda why: None)
        fourth.cancel()
        assert world.count() >= 2

    def test_a_store_that_waits_for_others_leaves_nothing(self, world: CalledCluster) -> None:
        world.cluster.freeze("node 3")
        waiting = world.storing([1], ack="all")
        patient = world.storing([2], ack="majority")
        world.cluster.run(0.5)
        told = outcome(waiting)
        waiting.cancel()
        assert told[0].check(CancelledError)
        assert world.cluster.result(patient).ack == "majority"

    def test_a_store_that_waits_for_the_start(self) -> None:
        world = CalledCluster(started=False)
        world.cluster.coordinator = world.cluster.start_coordinator()
        waiting = world.storing([1])
        told = outcome(waiting)
        world.cluster.run(0.2)
        waiting.cancel()
        assert told[0].check(CancelledError)
        world.stop()

    def test_a_count_hurts_no_other_in_its_question(self, world: CalledCluster) -> None:
        world.store([1])
        first, second = world.counting(), world.counting()
        told = outcome(first)
        first.cancel()
        assert told[0].check(CancelledError)
        assert world.cluster.result(second).counter == 1


class TestStartingToCount:
    @pytest.mark.parametrize("seed", range(3))
    def test_a_report_that_comes_after_the_question_does_not_complete_the_answer(self, seed: int) -> None:
        """
        What only the last member to report holds is required only of what is asked after its report.
        """
        cluster = Cluster(seed=seed).start()
        cluster.run(1)
        for node in range(3):
            cluster.part("node 3", f"node {node}")
        for item in range(8):
            cluster.result(cluster.coordinator.store(Items([item], ["t"]), ack="node"))
        cluster.kill_coordinator(cluster.coordinator)
        cluster.part("coordinator 1", "node 3")
        later = cluster.start_coordinator()
        cluster.run(0.5)
        cluster.heal("coordinator 1", "node 3")
        asked: list[list[Any]] = []
        while 3 in later._view.unaccounted():  # noqa: SLF001 - the moment that matters
            asked.append(outcome(Deferred.fromCoroutine(later.count("t", consistency="exact"))))
            cluster.run(0.0002)
        cluster.run(3)
        assert asked
        for [answer] in asked:
            assert isinstance(answer, Failure) or answer.counter == 8
        for node in range(3):
            cluster.heal("node 3", f"node {node}")
        cluster.stop()

    def test_eventual_means_not_without_what_the_caller_knows(self) -> None:
        cluster = Cluster(seed=2).start()
        cluster.run(1)
        for node in range(3):
            cluster.part("node 3", f"node {node}")
        receipts = [
            cluster.result(cluster.coordinator.store(Items([item], ["t"]), ack="node")) for item in range(4)
        ]
        cluster.run(0.5)
        held = [node.items_taken for node in cluster.coordinator.status().nodes]
        plain = cluster.result(cluster.coordinator.count("t", consistency="eventual"))
        assert plain.counter == 4 - held[3] < 4
        last = next(
            receipt.position for node, receipt in enumerate(receipts) if self._is_of(cluster, receipt, 3)
        )
        # Only node 3 itself has that, and nothing else.
        count = cluster.result(cluster.coordinator.count("t", consistency="eventual", after=last))
        assert count.counter == held[3] == 1
        cluster.kill_node(3)
        with pytest.raises(Incomplete):
            cluster.result(cluster.coordinator.count("t", consistency="eventual", after=last))
        cluster.stop()

    def _is_of(self, cluster: Cluster, receipt: Receipt, node: int) -> bool:
        position, _ = cluster.coordinator._seal.open(receipt.position)  # noqa: SLF001
        return node in position.nodes


class TestStopping:
    def test_answers_everybody(self) -> None:
        world = CalledCluster()
        for node in range(4):
            world.cluster.part(f"node {node}", f"node {(node + 1) % 4}")
            world.cluster.part(f"node {node}", f"node {(node + 2) % 4}")
        wide = outcome(world.storing([1], ack="all"))
        world.cluster.run(0.1)
        world.freeze_all()
        sent = outcome(world.storing([2]))
        counting = outcome(world.counting())
        world.cluster.run(0.1)
        unsent = outcome(world.storing([3]))
        unasked = outcome(world.counting())
        world.coordinator.stopService()
        # What was begun may still end well; nobody waits for longer than that may take.
        world.cluster.run(world.cluster.limits.drain_s + 0.1)
        told = [each[0].value for each in (wide, sent, unsent, counting, unasked)]
        assert [type(each) for each in told] == [
            NotReplicated,
            OutcomeUnknown,
            OutcomeUnknown,
            Incomplete,
            Incomplete,
        ]
        late = (outcome(world.storing([4])), outcome(world.counting()), outcome(world.counting()))
        assert [type(each[0].value) for each in late] == [NotApplied, Incomplete, Incomplete]
        for node in range(4):
            world.cluster.thaw(f"node {node}")
        world.cluster.run(2)
        world.stop()

    def test_answers_who_waits_for_the_start(self) -> None:
        world = CalledCluster(started=False)
        world.cluster.coordinator = world.cluster.start_coordinator()
        waiting = outcome(world.storing([1]))
        world.cluster.run(0.5)
        world.coordinator.stopService()
        world.cluster.run(0.7)
        assert waiting[0].check(NotApplied)
        world.stop()


class TestStatus:
    def test_tells_how_the_nodes_are(self, world: CalledCluster) -> None:
        world.store(range(11), ack="all")
        world.cluster.run(1)
        status = world.coordinator.status()
        assert status.primary == 0
        assert status.cluster == world.cluster.identity.cluster
        assert status.lost == []
        assert [node.id for node in status.nodes] == [0, 1, 2, 3]
        assert [node.role for node in status.nodes] == ["primary", "backup", "backup", "backup"]
        assert [node.items_taken for node in status.nodes] == [3, 3, 3, 2]
        for node in status.nodes:
            assert node.state == "up"
            assert (node.items, node.lag, node.refuses, node.pid) == (11, 0, None, 0)
            assert node.address == f"memory:{8090 + node.id}"
            assert node.run is not None
            assert node.applied == node.durable
            assert node.applied[str(node.id)] == {node.run: 1}
            # It may lag by one heartbeat.
            assert node.reported_ms_ago is not None
            assert 0 <= node.reported_ms_ago <= 1_000 * world.cluster.limits.heartbeat_s * 1.25 + 10

    def test_tells_how_old_a_report_is(self, two: CalledCluster) -> None:
        two.cluster.run(1)
        two.cluster.part("node 1", "coordinator")
        before = two.coordinator.status().nodes[1].reported_ms_ago
        two.cluster.run(0.5)
        now = two.coordinator.status().nodes[1].reported_ms_ago
        assert before is not None
        assert now is not None
        assert abs(now - before - 500) <= 1

    def test_tells_lag_and_who_is_away(self, two: CalledCluster) -> None:
        two.cluster.part("node 0", "node 1")
        for item in range(6):
            two.store([item])
        two.cluster.run(1)
        assert [node.lag for node in two.coordinator.status().nodes] == [3, 3]
        two.cluster.kill_node(1)
        two.cluster.run(0.1)
        status = two.coordinator.status()
        assert [node.state for node in status.nodes] == ["up", "down"]
        assert not two.coordinator.readiness().exact

    def test_tells_who_takes_no_writes_and_why(self, two: CalledCluster) -> None:
        two.store([1, 2], ack="all")
        two.cluster.kill_node(0)
        two.cluster.part("node 0", "node 1")
        two.cluster.start_node(0)
        two.cluster.run(2)
        refuses = [node.refuses for node in two.coordinator.status().nodes]
        assert refuses == ["the node starts empty and has not heard from nodes [1]", None]
        assert two.coordinator.readiness().ready
        two.store([3, 4, 5])
        assert two.coordinator.status().nodes[0].items_taken == 0

    def test_tells_of_nodes_never_seen(self) -> None:
        world = CalledCluster(started=False)
        coordinator = world.cluster.coordinator = world.cluster.start_coordinator()
        status = coordinator.status()
        assert status.primary is None
        assert {node.state for node in status.nodes} == {"new"}
        assert not coordinator.readiness().ready
        world.stop()

    def test_tells_how_far_clocks_are_apart(self, world: CalledCluster) -> None:
        assert world.coordinator.status().clock_skew_ms == 0
        world.store([1], stamps=[world.cluster.wall() + 7 * SECOND])
        assert 6_900 <= world.coordinator.status().clock_skew_ms <= 7_000

    def test_the_primary_stays_until_it_is_gone(self, world: CalledCluster) -> None:
        world.store(range(8), ack="all")
        world.cluster.kill_node(0)
        world.cluster.run(0.1)
        assert world.coordinator.status().primary == 1
        world.cluster.start_node(0)
        world.cluster.run(3)
        assert world.coordinator.status().primary == 1
        assert world.coordinator.readiness().exact


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_callers_who_were_answered_by_a_tick_are_shared(seed: int) -> None:
    world = CalledCluster(disks=True, seed=seed)
    world.store([1, 2, 3], ["a", "a", "b"], ack="all")
    for disk in world.cluster.disks.values():
        disk.errors["write"] = EIO
    counts: list[Deferred[Count]] = []

    def ask(_: Failure) -> None:
        # This caller had sent its next request already; another one's comes before the turn is over.
        world.cluster.clock.callLater(0, lambda: counts.append(world.counting("b")))
        counts.append(world.counting("a"))

    world.storing([4], "a").addErrback(ask)
    world.cluster.wait_for(lambda: len(counts) == 2)
    assert [world.cluster.result(each).counter for each in counts] == [2, 1]
    world.stop()
