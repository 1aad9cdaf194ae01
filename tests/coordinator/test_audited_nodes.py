"""
What nodes are asked in an audit, and when.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dcounter.coordinator.audited_nodes import AuditedNodes, Disturbed
from dcounter.coordinator.view import View
from dcounter.errors import LinkLost
from dcounter.limits import Limits
from dcounter.links.link import NodeLink
from dcounter.node.auditing import IDLE_S
from dcounter.protocol.position import Position
from dcounter.protocol.questions import Ask, AuditCounted, Told


class CountingNode:
    """
    A node whose recount takes some questions, one after the other.

    :ivar asked: when (s) it was asked.
    """

    def __init__(self, clock: Clock, questions: int, *, lost_at: int = -1) -> None:
        self._clock = clock
        self._questions = questions
        self._lost_at = lost_at
        self.asked: list[float] = []

    def ask(self, make: Callable[[int], Ask]) -> Deferred[Told]:
        self.asked.append(self._clock.seconds())
        if len(self.asked) == self._lost_at:
            return fail(LinkLost("the node is gone"))
        counted = min(len(self.asked), self._questions)
        return succeed(Told(1, AuditCounted(counted, self._questions), True, Position(), 0))


def _count(clock: Clock, nodes: Mapping[int, CountingNode]) -> Deferred[Any]:
    links = cast(Mapping[int, NodeLink], nodes)
    audited = AuditedNodes(links, cast(View, None), Limits(audit_pause_s=0.5), clock)
    return Deferred.fromCoroutine(audited.count(list(nodes), None))


def _gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def test_a_node_that_has_counted_does_not_forget_the_audit_while_others_count() -> None:
    clock = Clock()
    fast, slow = CountingNode(clock, 1), CountingNode(clock, 400)
    done = _count(clock, {0: fast, 1: slow})
    while not done.called:
        clock.advance(0.5)
    assert clock.seconds() > 3 * IDLE_S
    assert max(_gaps([*fast.asked, clock.seconds()])) < IDLE_S / 2
    # It has better things to do.
    assert len(fast.asked) < len(slow.asked) / 10


def test_a_node_that_is_lost_is_not_waited_for() -> None:
    clock = Clock()
    done = _count(clock, {0: CountingNode(clock, 1), 1: CountingNode(clock, 10, lost_at=5)})
    clock.pump([0.5] * 10)
    failures: list[Failure] = []
    done.addErrback(failures.append)
    with pytest.raises(Disturbed, match="the node is gone"):
        failures[0].raiseException()


def test_a_short_recount_takes_no_longer() -> None:
    clock = Clock()
    done = _count(clock, {0: CountingNode(clock, 1), 1: CountingNode(clock, 1)})
    clock.advance(0.002)
    assert done.called
