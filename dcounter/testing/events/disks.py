"""
What happens to the disks of nodes.
"""

from collections.abc import Callable, Iterable
from errno import EIO, ENOSPC
from typing import cast

from dcounter.testing.disk import FAILING, DiskOperation
from dcounter.testing.world import World


def fail_disk(world: World) -> None:
    """
    A disk fails for a while, in one of many ways.
    """
    random = world.random
    node = random.choice(world.history.members)
    disk = world.cluster.disks[node]
    seconds = random.choice([0.05, 0.5, 2.0, 4.0])
    how = random.choice(["write", "sync", "full", "read only", *FAILING])
    world.fault(f"the disk of node {node} fails for {seconds}: {how}", seconds)
    if how == "full":
        disk.capacity = random.randrange(3_000)
    elif how == "read only":
        disk.read_only = True
    else:
        disk.errors[cast(DiskOperation, how)] = random.choice([EIO, ENOSPC])
    world.after(seconds, lambda: _mend(world, node))


def slow_disk(world: World) -> None:
    """
    A disk is slow for a while.
    """
    node = world.random.choice(world.history.members)
    seconds = world.random.choice([0.5, 2.0])
    lag = world.random.choice([0.02, 0.1, 1.0])
    world.fault(f"the disk of node {node} is slow for {seconds}: {lag}", seconds)
    world.cluster.lags[node] = lag
    world.after(seconds, lambda: cast(None, world.cluster.lags.pop(node, None)))


def start_badly(world: World) -> None:
    """
    A node dies while its disk cannot sync, starts on that disk, and then its machine loses power.
    """
    up = world.stoppable()
    if not up:
        return
    node = world.random.choice(up)
    world.fault(f"the disk of node {node} cannot sync, then it dies, starts and loses power", 2)
    world.cluster.disks[node].errors["sync"] = EIO
    world.after(world.random.choice([0.05, 0.3]), lambda: world.die_if_up(node, world.cluster.kill_node))
    until = world.random.choice([0.5, 0.9])
    world.after(until, lambda: world.die_if_up(node, world.cluster.lose_power))
    world.after(until, lambda: _mend(world, node))


def mend_badly(world: World) -> None:
    """
    A disk fails, then works slowly, and the node dies while it catches up with its writes.
    """
    node = world.random.choice(world.history.members)
    seconds = world.random.choice([0.5, 1.5])
    world.fault(f"the disk of node {node} fails for {seconds}, is slow, and then it dies", seconds + 2)
    world.cluster.disks[node].errors["write"] = EIO

    def slowly() -> None:
        _mend(world, node)
        world.cluster.lags[node] = 0.1

    def over() -> None:
        world.cluster.lags.pop(node, None)
        world.die_if_up(node, world.random.choice([world.cluster.kill_node, world.cluster.lose_power]))

    world.after(seconds, slowly)
    world.after(seconds + world.random.choice([1.0, 1.5, 2.0]), over)


def _mend(world: World, node: int) -> None:
    world.history.note(f"the disk of node {node} works")
    disk = world.cluster.disks[node]
    disk.errors.clear()
    disk.capacity = None
    disk.read_only = False


def wipe(world: World) -> None:
    """
    A node gets an empty disk, if another node has all that it had.
    """
    node = dispensable(world, any)
    if node is not None:
        world.fault(f"node {node} gets an empty disk", 3)
        world.cluster.wipe(node)
        world.gone(node, world.random.choice([0.0, 0.3, 2.0]), allowed=True)


def lose_tail(world: World) -> None:
    """
    A machine loses power, and the end of its journal although it was synced; all others have it.
    """
    node = dispensable(world, all)
    if node is not None:
        world.cluster.lose_power(node)
        size = world.cluster.lose_tail(node)
        world.fault(f"node {node} loses power, and {size} bytes that had been synced", 3)
        world.gone(node, world.random.choice([0.0, 0.3, 2.0]), allowed=True)


def keep_directory(world: World) -> None:
    """
    Somebody keeps a copy of a node's directory.
    """
    node = world.random.choice(sorted(world.cluster.disks))
    if node in world.cluster.nodes:
        world.kept_directories[node] = world.cluster.disks[node].copy()
        world.history.note(f"the directory of node {node} is copied")


def put_back(world: World) -> None:
    """
    A node's directory is put back to an earlier state; all others have what it had.
    """
    node = dispensable(world, all)
    if node is not None and node in world.kept_directories:
        world.cluster.lose_power(node)
        world.cluster.disks[node].put_back(world.kept_directories[node])
        world.fault(f"the directory of node {node} is put back to an earlier state", 3)
        world.gone(node, world.random.choice([0.0, 0.3, 2.0]), allowed=True)


def dispensable(world: World, others: Callable[[Iterable[bool]], bool]) -> int | None:
    """
    A node that can be spared: all that it has is durable at others.

    :param others: `any` or `all`: how many of the others must have it.
    :returns: `None` if there is none, or some node is not well.
    """
    nodes = world.cluster.nodes
    replicas = {node: service.replica for node, service in nodes.items()}
    if len(world.stoppable()) < max(2, len(world.history.members)):
        return None
    if any(each.status.refuses() is not None for each in replicas.values()):
        return None
    candidates = [
        node
        for node, mine in sorted(replicas.items())
        if others(each.durable.covers(mine.applied) for each in replicas.values() if each is not mine)
    ]
    return world.random.choice(candidates) if candidates else None
