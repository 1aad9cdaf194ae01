"""
What callers that watch do.
"""

from dcounter.events import Wanted
from dcounter.testing.asked import GROWING
from dcounter.testing.events.callers import TENANTS
from dcounter.testing.watchers import Watcher
from dcounter.testing.world import World


def watch(world: World) -> None:
    """
    A caller begins to watch: some tenants, or all.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    everyone = (*TENANTS, GROWING)
    some = tuple(random.sample(everyone, random.choice([1, 2])))
    wanted, tenants = random.choice(
        [(Wanted(), everyone), (Wanted(some, nodes=False), some), (Wanted(prefixes=("gr",)), (GROWING,))]
    )
    pause = random.choice([0.0, 0.0, 0.01, 0.3])
    Watcher(world.history, coordinator, wanted, tenants, pause).start()


def interrupt(world: World) -> None:
    """
    A caller that watches loses its connection, and makes another one.
    """
    if world.history.watchers:
        world.random.choice(world.history.watchers).interrupt(world.random)
