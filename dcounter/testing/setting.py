"""
What kind of simulated world, and what a seed decides about it before anything happens.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from dcounter.limits import Limits
from dcounter.protocol.clock import CLOCK_PATIENCE
from dcounter.testing.network import Network
from dcounter.testing.parts import Parts

SECOND = 1_000_000_000
"""
Nanoseconds.
"""


@dataclass(frozen=True)
class Setting:
    """
    What kind of world.

    :ivar disks: nodes have disks; nothing that was acknowledged may ever be lost then.
    :ivar kills: nodes die, though they may have no disk.
    :ivar events: how much happens.
    :ivar frequencies: how often what happens, where it differs from `events.table.EVENTS`.
    :ivar parts: what the cluster is made of.
    :ivar nodes: the numbers of nodes to choose from.
    :ivar limits: bounds that are not left to chance.
    :ivar without: events that do not happen, by their number in the story.
    :ivar deleted: the share of items that are deletions.
    :ivar daemon: whether the nodes are those of one daemon; `None` leaves it to chance.
    """

    disks: bool = True
    kills: bool = True
    events: int = 50
    frequencies: Mapping[str, int] = field(default_factory=dict)
    parts: Parts = field(default_factory=Parts)
    nodes: Collection[int] = (1, 2, 3, 4, 4, 4, 5)
    limits: Mapping[str, Any] = field(default_factory=dict)
    without: frozenset[int] = frozenset()
    deleted: float = 0.1
    daemon: bool | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """
    What a seed has decided before anything happens.

    :ivar nodes: how many nodes.
    :ivar daemon: whether they are those of one daemon.
    :ivar limits: the bounds of nodes and coordinators.
    :ivar clock_patience: how long (ns) a wall clock's jump must last until a coordinator believes it.
    :ivar shred: the chance that what is written at once arrives in two pieces.
    :ivar slowest: the longest that bytes are under way (s).
    """

    nodes: int
    daemon: bool
    limits: Limits
    clock_patience: int
    shred: float
    slowest: float


def chance(seed: int, topic: int | str) -> Random:
    """
    The randomness of one topic: what is drawn for it does not change what is drawn for others.
    """
    return Random(f"{seed}/{topic}")  # noqa: S311 - chance, not a secret


def draw(seed: int, setting: Setting) -> Scene:
    """
    Let a seed decide what a setting leaves to chance.
    """
    # The order is part of every story.
    random = chance(seed, "begin")
    nodes = random.choice(list(setting.nodes))
    limits = replace(
        _limits(random, chance(seed, "load")), export_rows=chance(seed, "export").choice([1, 3, 20])
    )
    return Scene(
        nodes=nodes,
        daemon=chance(seed, "daemon").random() < 0.5 if setting.daemon is None else setting.daemon,
        limits=replace(
            limits,
            **{
                "erase_items": chance(seed, "erase").choice([1, 2, 5, limits.erase_items]),
                **_watch_limits(chance(seed, "watch")),
                **setting.limits,
            },
        ),
        clock_patience=chance(seed, "clocks").choice([SECOND // 2, CLOCK_PATIENCE]),
        shred=0.3 if random.random() < 0.5 else 0.0,
        slowest=0.05 if random.random() < 0.3 else Network.slowest,
    )


def _watch_limits(random: Random) -> Mapping[str, int]:
    # So small that watchers who read slowly lose their places, and changes come a few at a time.
    return {"watch_kept": random.choice([2, 20_000]), "changed_tenants": random.choice([1, 2, 5_000])}


def _limits(random: Random, loading: Random) -> Limits:
    limits = Limits(ports=12, audit_wait_s=5.0)
    if random.random() < 0.4:
        limits = replace(limits, backlog_bytes=random.choice([300, 2_000, 10_000]))
    if random.random() < 0.4:
        limits = replace(limits, chunk_rows=random.choice([1, 5, 20]), stream_bytes=400)
    if random.random() < 0.3:
        limits = replace(limits, window_batches=2, batch_bytes=200)
    if random.random() < 0.7:
        limits = replace(
            limits,
            segment_bytes=random.choice([100, 500, 2_000]),
            snapshot_bytes=random.choice([300, 1_000, 5_000]),
        )
    if random.random() < 0.5:
        limits = replace(limits, packed_items=random.choice([1, 4]))
    if loading.random() < 0.5:
        # Line by line, and others do something in between.
        limits = replace(limits, load_s=0.0, load_pause_s=loading.choice([0.0, 0.002, 0.02, 0.1]))
    return limits
