"""
What happens to connections and listeners.
"""

from typing import cast

from dcounter.testing.events.callers import count_growing, store_growing
from dcounter.testing.world import World


def cut(world: World) -> None:
    """
    A connection breaks, and some of what is under way arrives.
    """
    network = world.cluster.network
    ends = [end for each in world.processes() for end in network.joining(each) if end.connected]
    if ends:
        end = world.random.choice(ends)
        world.fault(f"cut {end.process} - {end.other and end.other.process}")
        end.cut(deliver=world.random.choice([0, 1, 50, 100_000]))


def part(world: World) -> None:
    """
    Two processes cannot connect to each other for a while, and find out at once.
    """
    one, other = world.two_processes()
    seconds = world.random.choice([0.1, 1.0, 3.0])
    world.fault(f"part {one} - {other} for {seconds}", seconds)
    world.cluster.part(one, other)
    world.after(seconds, lambda: world.cluster.heal(one, other))


def silence(world: World) -> None:
    """
    Nothing that one process sends reaches another one for a while.
    """
    one, other = world.two_processes()
    seconds = world.random.choice([0.1, 0.8, 2.0, 4.0])
    world.fault(f"silence {one} -> {other} for {seconds}", seconds)
    silent = world.cluster.network.silent

    def undo() -> None:
        silent.discard((one, other))
        world.cluster.network.release()

    silent.add((one, other))
    world.after(seconds, undo)


def slow(world: World) -> None:
    """
    What one process sends to another one takes longer for a while.
    """
    one, other = world.two_processes()
    seconds = world.random.choice([0.5, 2.0])
    world.fault(f"slow {one} -> {other} for {seconds}", seconds)
    slow = world.cluster.network.slow
    slow[one, other] = world.random.choice([0.05, 0.3])
    world.after(seconds, lambda: cast(None, slow.pop((one, other), None)))


def split(world: World) -> None:
    """
    Nodes fall into two groups; a coordinator reaches both for a while, and then only one.

    It counts before and after, while another coordinator stores.
    """
    groups = _groups(world)
    if groups is None or world.cluster.network.silent or world.cluster.network.parted:
        return
    if len(world.history.running()) == 1:
        world.history.watch(world.cluster.start_coordinator())
    seconds = world.random.choice([0.9, 2.0, 4.0])
    one, other = world.random.sample(world.history.running(), 2)
    process = world.process_of(one)
    world.fault(f"split {groups[0]} from {groups[1]} for {seconds}, and soon from {process}", seconds)
    _silence_between(world, *groups, seconds)
    # Before the nodes are taken for silent, so that both coordinators still use all of them.
    world.after(0.1, lambda: store_growing(world, other))
    world.after(0.3, lambda: count_growing(world, one))
    world.after(0.5, lambda: _part_between(world, [process], groups[0], seconds - 0.5))
    world.after(0.6, lambda: count_growing(world, one))


def take_sides(world: World) -> None:
    """
    Nodes and coordinators fall into two groups that hear nothing of each other; callers reach both.
    """
    groups = _groups(world)
    if groups is None:
        return
    if len(world.history.running()) == 1:
        world.history.watch(world.cluster.start_coordinator())
    seconds = world.random.choice([0.5, 2.0, 4.0])
    coordinators = [world.process_of(each) for each in world.history.running()]
    world.random.shuffle(coordinators)
    place = world.random.randrange(1, len(coordinators))
    left, right = groups[0] + coordinators[:place], groups[1] + coordinators[place:]
    world.fault(f"{left} and {right} take sides for {seconds}", seconds)
    if world.random.random() < 0.5:
        _silence_between(world, left, right, seconds)
    else:
        _part_between(world, left, right, seconds)


def lose_listener(world: World) -> None:
    """
    A node's port is shut down from outside.
    """
    live = [n for n in world.cluster.nodes if f"node {n}" not in world.cluster.network.frozen]
    if live:
        node = world.random.choice(sorted(live))
        cut = world.random.random() < 0.5
        world.fault(f"lose listener of node {node}, cut={cut}")
        world.cluster.lose_listener(node, cut=cut)


def _groups(world: World) -> tuple[list[str], list[str]] | None:
    members = [f"node {node}" for node in world.history.members]
    if len(members) == 1:
        return None
    world.random.shuffle(members)
    place = world.random.randrange(1, len(members))
    return members[:place], members[place:]


def _silence_between(world: World, left: list[str], right: list[str], seconds: float) -> None:
    network = world.cluster.network
    ways = {(one, other) for one in left for other in right}
    ways |= {(other, one) for one, other in ways}
    network.silent |= ways

    def undo() -> None:
        network.silent -= ways
        network.release()

    world.after(seconds, undo)


def _part_between(world: World, left: list[str], right: list[str], seconds: float) -> None:
    ways = [(one, other) for one in left for other in right]
    for one, other in ways:
        world.cluster.part(one, other)

    def heal() -> None:
        for one, other in ways:
            world.cluster.heal(one, other)

    world.after(seconds, heal)
