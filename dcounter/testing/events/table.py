"""
All events, and how often each happens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dcounter.testing.events import (
    callers,
    copies,
    disks,
    members,
    network,
    processes,
    secrets,
    wall_clocks,
    watchers,
)
from dcounter.testing.world import World


@dataclass(frozen=True, slots=True)
class Event:
    """
    Something that may happen.

    :ivar happen: lets it happen.
    :ivar often: how often, compared to everything else.
    :ivar needs_disks: it makes sense only if nodes have disks.
    """

    happen: Callable[[World], None]
    often: int
    needs_disks: bool = False


# The order is part of every story: a seed chooses by it.
EVENTS: Mapping[str, Event] = {
    "store": Event(callers.store, 45),
    "count": Event(callers.count, 25),
    "cut": Event(network.cut, 4),
    "part": Event(network.part, 3),
    "silence": Event(network.silence, 2),
    "slow": Event(network.slow, 2),
    "freeze": Event(processes.freeze, 2),
    "lose_listener": Event(network.lose_listener, 2),
    "restart": Event(processes.restart, 4),
    "kill": Event(processes.kill, 3),
    "lose_power": Event(processes.lose_power, 4, needs_disks=True),
    "lose_power_soon": Event(processes.lose_power_soon, 3, needs_disks=True),
    "wipe": Event(disks.wipe, 1, needs_disks=True),
    "remove_member": Event(members.remove_member, 1, needs_disks=True),
    "fail_disk": Event(disks.fail_disk, 3, needs_disks=True),
    "slow_disk": Event(disks.slow_disk, 2, needs_disks=True),
    "start_badly": Event(disks.start_badly, 2, needs_disks=True),
    "mend_badly": Event(disks.mend_badly, 2, needs_disks=True),
    "lose_tail": Event(disks.lose_tail, 1, needs_disks=True),
    "split": Event(network.split, 2),
    "take_sides": Event(network.take_sides, 2),
    "jump": Event(wall_clocks.jump, 2),
    "jump_briefly": Event(wall_clocks.jump_briefly, 2),
    "drift": Event(wall_clocks.drift, 1),
    "change_coordinator": Event(processes.change_coordinator, 2),
    "kill_coordinator": Event(processes.kill_coordinator, 1),
    "second_process": Event(processes.second_process, 1, needs_disks=True),
    "rebuild": Event(processes.rebuild, 1, needs_disks=True),
    "copy_directory": Event(copies.copy_directory, 2, needs_disks=True),
    "look_up": Event(callers.look_up, 10),
    "count_many": Event(callers.count_many, 5),
    "list_tenants": Event(callers.list_tenants, 5),
    "list_items": Event(callers.list_items, 5),
    "change_secret": Event(secrets.change_secret, 4),
    "erase": Event(callers.erase, 3),
    "export": Event(callers.export, 4),
    "audit": Event(callers.audit, 4),
    "watch": Event(watchers.watch, 4),
    "interrupt": Event(watchers.interrupt, 2),
    "compact": Event(callers.compact, 3),
    "keep_directory": Event(disks.keep_directory, 2, needs_disks=True),
    "put_back": Event(disks.put_back, 2, needs_disks=True),
}
