"""
Plays the story of a seed: events happen, faults end, and the nodes are compared.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from dcounter.testing.at_rest import (
    check_audit,
    check_counts,
    check_ledger,
    equal,
    sees_all_nodes,
    watchers_at_rest,
)
from dcounter.testing.disk import PowerLoss
from dcounter.testing.events.table import EVENTS
from dcounter.testing.history import History
from dcounter.testing.setting import Setting, chance
from dcounter.testing.world import World

_PATIENCE = 60.0
"""
Time (s) within which all nodes must become equal after the last fault.
"""


def play(seed: int, setting: Setting | None = None, *, trace: bool = False) -> History:
    """
    Play the story of a seed; its problems say what went wrong.

    :param trace: put everything that is logged into the story.
    :raises ValueError: the setting names an event that does not exist.
    """
    setting = setting or Setting()
    if unknown := setting.frequencies.keys() - EVENTS.keys():
        raise ValueError(f"no such events: {sorted(unknown)}")
    world = World(seed, setting)
    history = world.history

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        failure = cast("Failure | None", event.get("log_failure"))
        if failure is not None and not failure.check(PowerLoss):
            history.problem(f"logged: {failure.getTraceback()}")
        elif trace:
            history.note(f"    {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    try:
        with _nothing_collected():
            _run(world)
    except Exception:  # noqa: BLE001 - a finding like any other
        history.problem(f"the world ended: {Failure().getTraceback()}")
    finally:
        globalLogPublisher.removeObserver(observe)
        for answer in list(history.under_way):
            _swallow(answer)
    return history


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """
    Keep the garbage collector away, and let it look for unhandled errors afterwards.

    It would end the coroutines of processes that have died, at moments that no seed repeats; and what these
    do as they end is nothing that a dead process does.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
        gc.collect()


def _swallow(answer: Deferred[Any]) -> None:
    answer.addErrback(lambda _: None)


def _run(world: World) -> None:
    """
    Let the events happen, end all faults, and compare the nodes.
    """
    world.cluster.start()
    world.history.watch(world.cluster.coordinator)
    world.fault("not all nodes may have found each other yet")
    _let_things_happen(world)
    world.random = chance(world.seed, "end")
    world.history.note("calm")
    _heal(world)
    if _settle(world) and world.setting.disks:
        _go_off_and_on(world)
    world.history.overdue()
    _stop(world)


def _let_things_happen(world: World) -> None:
    setting = world.setting
    events = {name: event for name, event in EVENTS.items() if setting.disks or not event.needs_disks}
    often = [setting.frequencies.get(name, event.often) for name, event in events.items()]
    for number in range(setting.events):
        world.random = chance(world.seed, number)
        event = world.random.choices(list(events.values()), often)[0]
        pause = world.random.choice([0.0, 0.0, 0.001, 0.01, 0.1, 0.5])
        if number not in setting.without:
            event.happen(world)
            world.advance(pause)


def _heal(world: World) -> None:
    for disk in world.cluster.disks.values():
        disk.power_fails_at = None
    while world.scheduled or world.down:
        world.advance(0.5)
    network = world.cluster.network
    network.parted.clear()
    network.silent.clear()
    network.release()


_ABSENCE = 40
"""
Time (s) within which each watcher that hung up comes back.
"""


_REUNION = 5
"""
Time (s) within which each coordinator is connected with all nodes that are equal.
"""


def _settle(world: World) -> bool:
    """
    Wait until all nodes are equal and all requests are answered; whether that is so.
    """
    cluster, history = world.cluster, world.history
    until, at_last = world.now + _PATIENCE, world.now + 10 * _PATIENCE
    while history.under_way or not equal(history):
        if any(service.replica.contents.loading for service in cluster.nodes.values()):
            # Line by line, and a log of few bytes makes many copies: that may take longer.
            until = min(world.now + _PATIENCE, at_last)
        if world.now >= until:
            history.problem("the nodes do not become equal, or requests are never answered")
            for node, service in sorted(cluster.nodes.items()):
                replica = service.replica
                history.note(f"node {node}: {replica.ledger.digest()} {replica.status.refuses()}")
                history.note(f"  applied {replica.applied.nodes}")
                history.note(f"  durable {replica.durable.nodes}")
            return False
        cluster.run(0.25)
    cluster.run(3)
    # One that called a node that was silent tries again only when that attempt has failed.
    until = world.now + _REUNION
    while world.now < until and not all(map(sees_all_nodes, history.running())):
        cluster.run(0.25)
    if not equal(history):
        history.problem("the nodes were equal, and then not any more")
    check_ledger(history)
    for coordinator in history.running():
        check_counts(history, coordinator)
        check_audit(history, coordinator)
    # Those that hung up come back within that time, and then hear of all changes.
    until = world.now + _ABSENCE
    while world.now < until and watchers_at_rest(history):
        cluster.run(0.25)
    for problem in watchers_at_rest(history):
        history.problem(problem)
    return True


def _go_off_and_on(world: World) -> None:
    """
    What the nodes call durable is there after all machines were off.
    """
    cluster, history = world.cluster, world.history
    history.note("all machines go off, and on again")
    nodes = cluster.nodes
    before = next(iter(nodes.values())).replica.ledger.digest()
    for node in sorted(nodes):
        cluster.lose_power(node)
    for node in history.members:
        cluster.start_node(node)
    if _settle(world):
        after = next(iter(nodes.values())).replica.ledger.digest()
        if after != before:
            history.problem("the nodes are not what they were before they went off")


def _stop(world: World) -> None:
    cluster, history = world.cluster, world.history
    try:
        cluster.stop()
    except Exception:  # noqa: BLE001 - a finding like any other
        history.problem(f"the cluster does not stop: {Failure().getTraceback()}")
    if cluster.clock.getDelayedCalls() or cluster.network.connections or cluster.network.ports:
        history.problem("something goes on after the stop")
