"""
What callers ask for.
"""

from collections.abc import Sequence
from random import Random
from typing import cast

from dcounter.coordinator.service import Coordinator
from dcounter.protocol.clock import CLOCK_TOLERANCE
from dcounter.store import Ack, Consistency, Items, Order
from dcounter.testing.asked import GROWING
from dcounter.testing.requests import Known
from dcounter.testing.setting import SECOND
from dcounter.testing.world import World

TENANTS = ("a", "b", "c", "d", "é")
"""
Tenants between which items move.
"""


ACKS: Sequence[Ack] = ("node", "node", "node", "primary", "majority", "all")
"""
How callers want what they change to be written, and how often.
"""

_HOW: Sequence[Consistency] = ("exact", "exact", "exact", "exact", "available", "eventual")
"""
How callers ask, and how often.
"""


def store(world: World) -> None:
    """
    A caller stores items: new ones, and some of a few that are moved again and again.
    """
    random = world.random
    size = random.choice([1, 1, 2, 3, 4, 5, 11, 30])
    ids = [random.randrange(40) for _ in range(size)]
    tenants: list[str | None] = [random.choice(TENANTS) for _ in range(size)]
    for i in range(size):
        if random.random() < 0.3:
            ids[i], tenants[i] = world.new_id(), GROWING
    for i in range(size):
        if world.setting.deleted and random.random() < world.setting.deleted:
            tenants[i] = None
    coordinator = random.choice(world.history.running())
    stamps = None
    if random.random() < 0.25:
        latest = world.cluster.wall.believed[world.process_of(coordinator)]() + CLOCK_TOLERANCE
        world.fixed_stamps.append(latest - random.randrange(20 * SECOND))
        # Old ones again: ties.
        same = [stamp for stamp in world.fixed_stamps[-3:] if stamp <= latest]
        choices = [None, latest, latest - 10 * SECOND, latest - random.randrange(3600 * SECOND), *same]
        stamps = [random.choice(choices) for _ in range(size)]
    ack = random.choice(ACKS)
    after = _token(world) if random.random() < 0.2 else None
    items = Items(ids, tenants, stamps)
    retries = Retries(world, items, ack)
    if random.random() < 0.2:
        items = retries.stamped(coordinator)
    changes = random.random() < 0.2
    answer = world.history.store(coordinator, items, ack, after, retries.told, changes=changes)
    if random.random() < 0.03:
        world.after(random.random() / 10, lambda: world.history.hang_up(answer))


class Retries:
    """
    How one caller repeats a request, as docs/http.md says.
    """

    def __init__(self, world: World, items: Items, ack: Ack) -> None:
        self._world = world
        self._items = items
        self._ack = ack
        # What happens later must not draw from the randomness of another event.
        self._random = Random(world.random.random())  # noqa: S311 - chance, not a secret
        self._left = 3

    def stamped(self, coordinator: Coordinator) -> Items:
        """
        The items with a stamp that the caller takes before its first attempt; it then repeats it at any time.
        """
        latest = coordinator.latest_stamp()
        self._items = self._items.stamped(latest - self._random.randrange(CLOCK_TOLERANCE))
        for _ in range(self._random.choice([0, 1, 1, 2])):
            self._world.after(self._random.uniform(0, 10), self._repeat)
        return self._items

    def told(self, stamp: int | None) -> None:
        """
        An answer says that the outcome is unknown, and with which stamp to repeat the request.
        """
        self._left -= 1
        if self._left and self._random.random() < 0.8:
            self._items = self._items.stamped(stamp)
            self._world.after(self._random.uniform(0, 3), self._repeat)

    def _repeat(self) -> None:
        running = self._world.history.running()
        if not running:
            return
        coordinator = self._random.choice(running)
        # HTTP refuses stamps that are too far ahead.
        if max(own for own in self._items.stamps or () if own is not None) <= coordinator.latest_stamp():
            self._world.history.note("once more:")
            # The history knows requests by the identity of their items.
            items = Items(self._items.ids, self._items.tenants, self._items.stamps)
            self._world.history.store(coordinator, items, self._ack, None, self.told)


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


def count_many(world: World) -> None:
    """
    A caller asks for several counts.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    tenants = random.sample([*TENANTS, GROWING], random.choice([1, 2, 5]))
    world.history.count_many(coordinator, tenants, random.choice(_HOW), _after(world))


def look_up(world: World) -> None:
    """
    A caller looks up items.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    ids = [random.randrange(45) for _ in range(random.choice([1, 2, 5, 20]))]
    answer = world.history.look_up(coordinator, ids, random.choice(_HOW), _after(world))
    if random.random() < 0.03:
        world.after(random.random() / 10, lambda: world.history.hang_up(answer))


def list_tenants(world: World) -> None:
    """
    A caller lists tenants, perhaps from where an earlier page ended.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    order = cast(Order, random.choice(["name", "-count"]))
    page = random.choice(world.history.tenant_pages) if world.history.tenant_pages else None
    if page is not None and page.order != order:
        page = None
    world.history.list_tenants(
        coordinator, order, random.choice([1, 2, 9]), page, random.choice(_HOW), _after(world)
    )


def list_items(world: World) -> None:
    """
    A caller lists the IDs that a tenant owns.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    tenant, limit = random.choice([*TENANTS, GROWING]), random.choice([1, 3, 100])
    world.history.list_items(coordinator, tenant, limit, random.choice(_HOW), _after(world))


def erase(world: World) -> None:
    """
    A caller deletes a tenant.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    tenant, ack = random.choice(TENANTS), random.choice(ACKS)
    after = _after(world)
    if world.history.erasures.is_under_way(tenant):
        return
    answer = world.history.erase(coordinator, tenant, ack, after)
    if random.random() < 0.1:
        world.after(random.random() / 10, lambda: world.history.hang_up(answer))


def export(world: World) -> None:
    """
    A caller exports everything, and reads fast or slowly.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    pause = random.choice([0.0, 0.0, 0.001, 0.03])
    deleted = random.random() < 0.7
    answer = world.history.export(coordinator, deleted, pause, random.choice(_HOW), _after(world))
    if random.random() < 0.1:
        world.after(random.random() / 10, lambda: world.history.hang_up(answer))


def audit(world: World) -> None:
    """
    An operator audits the nodes.
    """
    coordinator = world.random.choice(world.history.running())
    answer = world.history.audit(coordinator, [*TENANTS, GROWING])
    if world.random.random() < 0.1:
        world.after(world.random.random() / 10, lambda: world.history.hang_up(answer))


def compact(world: World) -> None:
    """
    An operator has old deletions forgotten.
    """
    random = world.random
    coordinator = random.choice(world.history.running())
    before = coordinator.latest_stamp() - CLOCK_TOLERANCE - random.choice([0, 0, 1, 5]) * SECOND
    world.history.compact(coordinator, before)


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


def _after(world: World) -> tuple[str, Known] | None:
    return _token(world) if world.random.random() < 0.3 else None


def _token(world: World) -> tuple[str, Known] | None:
    return world.random.choice(world.history.tokens) if world.history.tokens else None
