"""
What callers ask for.
"""

from typing import cast

from dcounter.coordinator.service import Coordinator
from dcounter.protocol.clock import CLOCK_TOLERANCE
from dcounter.store import Ack, Consistency, Items
from dcounter.testing.history import GROWING
from dcounter.testing.requests import Known
from dcounter.testing.setting import SECOND
from dcounter.testing.world import World

TENANTS = ("a", "b", "c", "d", "é")
"""
Tenants between which items move.
"""


def store(world: World) -> None:
    """
    A caller stores items: new ones, and some of a few that are moved again and again.
    """
    random = world.random
    size = random.choice([1, 1, 2, 3, 4, 5, 11, 30])
    ids = [random.randrange(40) for _ in range(size)]
    tenants = [random.choice(TENANTS) for _ in range(size)]
    for i in range(size):
        if random.random() < 0.3:
            ids[i], tenants[i] = world.new_id(), GROWING
    for i in range(size):
        if world.setting.deleted and random.random() < world.setting.deleted:
            # Nodes know deletions, although no caller can ask for one yet.
            tenants[i] = cast(str, None)
    coordinator = random.choice(world.history.running())
    stamps = None
    if random.random() < 0.25:
        latest = world.cluster.wall.believed[world.process_of(coordinator)]() + CLOCK_TOLERANCE
        world.fixed_stamps.append(latest - random.randrange(20 * SECOND))
        # Old ones again: ties.
        same = [stamp for stamp in world.fixed_stamps[-3:] if stamp <= latest]
        choices = [None, latest, latest - 10 * SECOND, latest - random.randrange(3600 * SECOND), *same]
        stamps = [random.choice(choices) for _ in range(size)]
    ack = cast(Ack, random.choice(["node", "node", "node", "primary", "majority", "all"]))
    after = _token(world) if random.random() < 0.2 else None
    answer = world.history.store(coordinator, Items(ids, tenants, stamps), ack, after)
    if random.random() < 0.03:
        world.after(random.random() / 10, lambda: world.history.hang_up(answer))


def count(world: World) -> None:
    """
    A caller asks for a count.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    tenant = random.choice([*TENANTS, GROWING])
    kinds: list[Consistency] = ["exact", "exact", "exact", "exact", "available", "eventual"]
    after = _token(world) if random.random() < 0.3 else None
    answer = world.history.count(coordinator, tenant, random.choice(kinds), after)
    if random.random() < 0.03:
        world.after(random.random() / 10, lambda: world.history.hang_up(answer))


def store_growing(world: World, coordinator: Coordinator) -> None:
    """
    Store new items of the tenant whose count never falls.
    """
    if coordinator in world.history.running():
        ids = [world.new_id() for _ in range(4)]
        world.history.store(coordinator, Items(ids, [GROWING] * len(ids), None), "node", None)


def count_growing(world: World, coordinator: Coordinator) -> None:
    """
    Count the items of that tenant.
    """
    if coordinator in world.history.running():
        world.history.count(coordinator, GROWING, "exact", None)


def _token(world: World) -> tuple[str, Known] | None:
    return world.random.choice(world.history.tokens) if world.history.tokens else None
