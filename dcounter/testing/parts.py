"""
What a cluster is made of.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from dcounter.coordinator.compacting import Compacting
from dcounter.coordinator.erasing import Erasing
from dcounter.coordinator.view import View
from dcounter.coordinator.watches import Watches
from dcounter.daemon.rebuild import NodeJournal, Objections, objections
from dcounter.journal.file import FileJournal
from dcounter.node.holders import Holders
from dcounter.node.replica import Replica
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.protocol.clock import HybridClock, SteadyWall
from dcounter.protocol.secrets import Secrets


def _abilities_now(process: str) -> Abilities:
    # Not a lambda: worlds of several seeds are played by several processes, which are sent this.
    return ABILITIES


@dataclass(frozen=True)
class Parts:
    """
    What a cluster is made of; a test of the tests swaps one for another that has a fault.

    :ivar abilities: what each process speaks.
    :ivar secrets: makes the secrets of a process.
    :ivar copies_boot: whether a copy of a daemon's data directory is another start of the daemon.
    """

    replica: Callable[..., Replica] = Replica
    erasing: Callable[..., Erasing] = Erasing
    compacting: Callable[..., Compacting] = Compacting
    journal: Callable[..., FileJournal] = FileJournal
    view: Callable[..., View] = View
    clock: Callable[[Callable[[], int]], HybridClock] = HybridClock
    wall: Callable[..., SteadyWall] = SteadyWall
    holders: Callable[..., Holders] = Holders
    watches: Callable[..., Watches] = Watches
    abilities: Callable[[str], Abilities] = _abilities_now
    secrets: Callable[..., Secrets] = Secrets
    copies_boot: bool = True
    objections: Callable[[Mapping[int, NodeJournal], Collection[int]], Objections] = objections
