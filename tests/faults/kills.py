"""
The kill loop: nodes and daemons die by `kill -9` under load, and nothing that was acknowledged is lost.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tests.faults.figures import Figures
from tests.faults.ledgers import read_ledgers
from tests.faults.load import Load, longest_silence
from tests.faults.processes import Caller, Daemon, is_alive, wait_until

Victim = Literal["backup", "primary", "two", "daemon"]

VICTIMS: tuple[Victim, ...] = ("backup", "primary", "two", "daemon")


def kill_loop(
    directory: Path,
    rounds: int,
    *,
    seed: int,
    name: str = "kill -9",
    requests: int = 20,
    options: Sequence[str] = (),
    limits: Mapping[str, int] | None = None,
) -> Figures:
    """
    Kill, in turn, a backup, the primary, two nodes, and the daemon with all of them, under six writers.

    :param requests: how many requests at most every writer stores between two rounds.
    """
    figures = Figures(name)
    chance = random.Random(seed)
    daemon = Daemon(directory, options, limits or {})
    caller = daemon.caller()
    try:
        daemon.start()
        daemon.until_ready()
        with Load(daemon.caller, seed) as load:
            for round_ in range(rounds):
                load.go_on(chance.randint(1, requests))
                victim = VICTIMS[round_ % len(VICTIMS)]
                _kill(daemon, caller, victim, chance, figures)
                figures.rounds += 1
                # Every other time the next one dies before the last one is as good as new.
                if chance.random() < 0.5:
                    caller.until_at_work()
            load.go_on(1)
        figures.acknowledged, figures.unknown = load.history.acknowledged, load.history.unknown
        load.check()
        caller.until_equal()
        load.history.check_counts(caller)
        assert caller.cluster()["lost"] == []
        assert daemon.running.bad_lines() == []
        assert daemon.running.stop() in {0, -15}
        load.history.check_ledgers(read_ledgers(daemon.data))
    finally:
        caller.close()
        daemon.close()
    return figures


def _kill(daemon: Daemon, caller: Caller, victim: Victim, chance: random.Random, figures: Figures) -> None:
    figures.faults[victim] += 1
    if victim == "daemon":
        orphans = daemon.kill_all()
        caller.close()
        # Often before the last of them is gone.
        daemon.start()
        wait_until(lambda: not any(map(is_alive, orphans.values())), "the end of all nodes")
        daemon.until_ready()
        return
    primary = caller.primary()
    others = [node for node in range(4) if node != primary]
    if victim == "primary":
        nodes = [primary]
    elif victim == "backup":
        nodes = [chance.choice(others)]
    else:
        nodes = [primary, chance.choice(others)] if chance.random() < 0.5 else chance.sample(others, 2)
    before = daemon.nodes()
    killed = daemon.kill(*nodes)

    def back() -> bool:
        there = caller.cluster()["nodes"]
        return all(there[node]["state"] == "up" and there[node]["pid"] != before[node] for node in nodes)

    silence = longest_silence(caller, killed, back)
    if len(nodes) == 1:
        figures.to_exact.append(silence)
