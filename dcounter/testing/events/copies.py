"""
Copies of a data directory that are started beside the original.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

from twisted.internet.defer import Deferred

from dcounter.errors import Refusal
from dcounter.store import Items
from dcounter.testing.copies import Copy
from dcounter.testing.events.callers import count, store
from dcounter.testing.events.network import cut
from dcounter.testing.world import World

_CALM = 15.0
"""
Time (s) within which all faults must have ended, or the event does not happen.
"""

_FOREIGN = "stored in a copy"
"""
A tenant of which the original must never hear.
"""


def copy_directory(world: World) -> None:
    """
    A copy of the data directory is started beside the original.
    """
    if any(copy.in_use for copy in world.cluster.copies):
        return
    if world.cluster.identity.boot:
        _copy_daemon(world)
    else:
        _copy_node(world)


def _copy_daemon(world: World) -> None:
    """
    The copy is a daemon of its own: what is stored there must not reach the original.
    """
    seconds = world.random.choice([0.5, 2.0, 4.0])
    world.history.note(f"a copy of the data directory is in use for {seconds}")
    copy = world.cluster.copy(world.history.members)
    for part in range(1, 6):
        ids = [world.random.randrange(40) for _ in range(5)]
        world.after(seconds * part / 6, partial(_use, world, copy, ids))
    world.after(seconds, copy.kill)


def _use(world: World, copy: Copy, ids: list[int]) -> None:
    assert copy.coordinator is not None
    storing = copy.coordinator.store(Items(ids, [_FOREIGN] * len(ids), None), ack="node")
    counting = copy.coordinator.count(_FOREIGN, consistency="exact")
    for asking in (Deferred.fromCoroutine(storing), Deferred.fromCoroutine(counting)):
        asking.addErrback(lambda why: cast(None, why.trap(Refusal))).addErrback(world.history.failed)


def _copy_node(world: World) -> None:
    """
    A second process holds the id of a node, whose listener and connections are lost meanwhile.

    What nodes cannot know is left out: that the first process is alive when they have not heard from it
    for the suspicion time. They let the second one in then, which ends in that moment. But no node may
    have both at once.
    """
    for disk in world.cluster.disks.values():
        disk.power_fails_at = None
    until = world.now + _CALM
    while (world.scheduled or world.faulty()) and world.now < until:
        world.advance(0.25)
    up = world.stoppable()
    if world.scheduled or world.faulty() or len(up) < 2 or len(up) < len(world.history.members):
        return
    node = world.random.choice(up)
    world.history.note(f"a copy of the journal of node {node} is in use")
    copy = world.cluster.copy([node])
    replica = copy.nodes[node].replica

    def let_in() -> bool:
        for other, service in world.cluster.nodes.items():
            if len(service.holders.processes(node)) > 1 and not world.history.problems:
                world.history.problem(f"node {other} has let in two processes of node {node}")
        return replica.status.refuses() is None

    for _ in range(20):
        world.advance(0.05)
        if not let_in():
            break
    for _ in range(world.random.choice([3, 6, 12])):
        if let_in():
            world.history.note("the copy is let in")
            break
        lose = partial(_lose_listener, node=node)
        happenings: list[Callable[[World], None]] = [store, store, count, cut, lose]
        world.random.choice(happenings)(world)
        world.advance(world.random.choice([0.0, 0.01, 0.1, 0.5, 1.2]), stop=let_in)
    world.history.note("the copy is in use no longer")
    copy.kill()


def _lose_listener(world: World, node: int) -> None:
    cut = world.random.random() < 0.7
    world.fault(f"lose listener of node {node}, which has a copy, cut={cut}")
    world.cluster.lose_listener(node, cut=cut)
