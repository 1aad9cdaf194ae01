"""
What happens to the processes of nodes and coordinators.
"""

from collections.abc import Collection

from dcounter.testing.world import World


def freeze(world: World) -> None:
    """
    A process does nothing for a while, as after SIGSTOP.
    """
    process = world.random.choice(world.processes())
    frozen = world.cluster.network.frozen
    if process in frozen or len(frozen) >= max(1, len(world.cluster.nodes) // 2):
        return
    seconds = world.random.choice([0.1, 0.9, 1.5, 3.0])
    for coordinator in world.history.known:
        if world.process_of(coordinator) == process:
            world.history.frozen(coordinator, seconds)
    world.fault(f"freeze {process} for {seconds}", seconds)
    world.cluster.freeze(process)
    world.after(seconds, lambda: _thaw(world, process))


def restart(world: World) -> None:
    """
    A node stops cleanly: what it acknowledged must be on its disk or at other nodes then.
    """
    up = world.stoppable()
    healthy = not world.faulty()
    if not up or not (healthy or world.setting.kills):
        return
    node = world.random.choice(up)
    world.down.add(node)
    world.history.note(f"stop node {node}, healthy={healthy}")
    service = world.cluster.nodes[node]
    pause = world.random.choice([0.0, 0.3, 2.0])
    stopping = service.stopService()
    # From here until it is back no fault may keep it from handing over.
    world.faulty_until = max(world.faulty_until, world.now + 1)

    def stopped(_: object) -> None:
        world.history.note(f"stopped node {node}")
        if world.cluster.nodes.get(node) is not service:
            # It died before it had stopped.
            return
        world.cluster.stopped(node)
        world.gone(node, pause, allowed=world.history.lossy)

    stopping.addCallback(stopped).addErrback(world.history.failed)


def kill(world: World) -> None:
    """
    Nodes die, as after SIGKILL.
    """
    if not world.setting.kills:
        return
    for node in _some(world):
        world.fault(f"kill node {node}", 3)
        world.cluster.kill_node(node)
        world.gone(node, world.random.choice([0.0, 0.3, 2.0]), allowed=True)


def lose_power(world: World) -> None:
    """
    One or more machines lose power.
    """
    for node in _some(world):
        world.fault(f"node {node} loses power", 3)
        world.cluster.lose_power(node)
        world.gone(node, world.random.choice([0.0, 0.3, 2.0]), allowed=True)


def lose_power_soon(world: World) -> None:
    """
    Machines lose power soon, in the middle of what their disks do.
    """
    for node in _some(world):
        disk = world.cluster.disks[node]
        disk.power_fails_at = disk.points + world.random.randrange(20)
        world.history.note(f"node {node} is about to lose power")


def change_coordinator(world: World) -> None:
    """
    One of two coordinators stops, or a second one starts.
    """
    running = world.history.running()
    if len(running) > 1:
        world.history.note("stop a coordinator")
        world.random.choice(running).stopService().addErrback(world.history.failed)
    else:
        world.history.note("start a coordinator")
        world.history.watch(world.cluster.start_coordinator())


def kill_coordinator(world: World) -> None:
    """
    A coordinator is killed, and another one takes over.
    """
    going = world.random.choice(world.history.running())
    world.fault(f"kill {world.process_of(going)}, and start another")
    world.cluster.kill_coordinator(going)
    world.history.gone(going)
    world.history.watch(world.cluster.start_coordinator())


def second_process(world: World) -> None:
    """
    A second process of a node is started on the same disk; one of the two dies first.
    """
    disks, seconds = world.cluster.disks, world.cluster.second_processes
    # One without the disk was a second process itself, and has not noticed yet that the first has ended.
    up = [node for node in world.stoppable() if disks[node].used and node not in seconds]
    if not up:
        return
    node = world.random.choice(up)
    pause = world.random.choice([0.1, 1.0, 3.0])
    world.history.note(f"a second process of node {node} is started")
    world.cluster.start_second(node)
    if world.random.random() < 0.5:
        world.after(pause, lambda: world.die_if_up(node, world.cluster.kill_node))
    # If the first process has died before, there is no second one now.
    world.after(pause + world.random.choice([-0.05, 1.0]), lambda: world.cluster.kill_second(node))


def rebuild(world: World) -> None:
    """
    All nodes die and start again, some of them with empty disks if that is permitted (`--rebuild`).
    """
    members = world.history.members
    chosen = world.random.sample(members, min(len(members), world.random.choice([1, 1, 2, 3, 5])))
    pause = world.random.choice([0.0, 0.0, 0.01, 0.3])
    world.fault(f"all nodes end, to rebuild {sorted(chosen)}", 3)
    if world.random.random() < 0.5:
        kill_coordinator(world)
    if pause:
        # Told to stop, but killed before they are done.
        for node in world.stoppable():
            if node not in world.down:
                world.cluster.nodes[node].stopService().addErrback(world.history.failed)
    world.after(pause, lambda: _rebuild(world, chosen))


def _thaw(world: World, process: str) -> None:
    if process in world.cluster.network.frozen:
        world.history.note(f"thaw {process}")
        world.cluster.thaw(process)


def _some(world: World) -> list[int]:
    """
    Nodes to which something happens; with disks it may be all of them.
    """
    up = world.stoppable()
    if not world.setting.disks:
        return [world.random.choice(up)] if up else []
    several = world.random.choice([1, 1, 1, 2, 2, len(up)])
    return world.random.sample(up, min(several, len(up)))


def _rebuild(world: World, chosen: Collection[int]) -> None:
    cluster = world.cluster
    for node in sorted(cluster.nodes):
        cluster.kill_second(node)
        cluster.kill_node(node)
        world.gone(node, 0.0, allowed=True)
    for disk in cluster.disks.values():
        disk.power_fails_at = None
    found = cluster.rebuild(chosen)
    refused = [*found.never, *found.losses]
    world.history.note(f"rebuild {sorted(chosen)}: {'; '.join(refused) or 'done'}")
