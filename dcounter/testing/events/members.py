"""
Members that never come back.
"""

from typing import cast

from twisted.internet.defer import Deferred

from dcounter.errors import NoAnswer, NodeIsUp, NotApplied, UnknownNode
from dcounter.testing.events.disks import dispensable
from dcounter.testing.world import World


def remove_member(world: World) -> None:
    """
    A machine is destroyed, if another node has all that it had, and an operator removes the member.
    """
    node = dispensable(world, any) if len(world.history.members) > 2 else None
    if node is not None:
        world.fault(f"node {node} is gone for good", 3)
        world.cluster.wipe(node)
        world.history.last_stop = world.now
        world.history.removed.add(node)
        world.after(world.random.choice([0.0, 0.5, 2.0]), lambda: _remove(world, node))


def _remove(world: World, node: int) -> None:
    """
    Ask a coordinator again and again, until all live nodes know.
    """
    live = world.cluster.nodes.values()
    if live and all(node in each.replica.members.removed for each in live):
        return
    coordinator = world.random.choice(world.history.running())
    world.history.note(f"forget node {node}, at {world.process_of(coordinator)}")
    asking = Deferred.fromCoroutine(coordinator.remove(node))
    asking.addErrback(lambda why: cast(None, why.trap(UnknownNode, NodeIsUp, NotApplied, NoAnswer)))
    asking.addErrback(world.history.failed)
    world.after(1.0, lambda: _remove(world, node))
