"""
What happens to wall clocks.
"""

from dcounter.testing.history import YEAR
from dcounter.testing.setting import SECOND
from dcounter.testing.world import World


def jump(world: World) -> None:
    """
    All wall clocks jump, or that of one process.
    """
    jump = world.random.choice([-3600, -15, -1, 1, 5, 3600])
    if world.random.random() < 0.5:
        world.cluster.wall.skew += jump * SECOND
        world.history.note(f"all wall clocks jump by {jump} s")
    else:
        process = world.random.choice(world.processes())
        skews = world.cluster.wall.skews
        skews[process] = skews.get(process, 0) + jump * SECOND
        world.history.note(f"the wall clock of {process} jumps by {jump} s")


def jump_briefly(world: World) -> None:
    """
    The wall clock of a running coordinator is years off for a moment.
    """
    process = world.process_of(world.random.choice(world.history.running()))
    jump = world.random.choice([-10, 10]) * YEAR
    seconds = world.random.choice([0.01, 0.1, 0.4])
    world.history.note(f"the wall clock of {process} is {jump} ns off for {seconds}")
    skews = world.cluster.wall.skews
    skews[process] = skews.get(process, 0) + jump

    def undo() -> None:
        skews[process] -= jump

    world.after(seconds, undo)


def drift(world: World) -> None:
    """
    From now on the wall clock of a process goes too fast or too slow.
    """
    process = world.random.choice(world.processes())
    world.cluster.wall.drifts[process] = world.random.choice([-0.1, -1e-3, 1e-3, 0.1])
    world.history.note(f"the wall clock of {process} drifts")
