import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.faults.conftest import Table
from tests.faults.figures import Figures
from tests.faults.ledgers import read_ledger
from tests.faults.load import Load, longest_silence
from tests.faults.network import Cluster, Network
from tests.faults.processes import Caller, wait_until

Cut = Callable[[Network, int], AbstractContextManager[None]]


@contextmanager
def unplugged(network: Network, node: int) -> Iterator[None]:
    network.unplug(str(node))
    yield
    network.plug(str(node))


@contextmanager
def deaf(network: Network, node: int) -> Iterator[None]:
    network.drop(str(node), arriving=True, leaving=False)
    yield
    network.heal(str(node))


@contextmanager
def mute(network: Network, node: int) -> Iterator[None]:
    network.drop(str(node), arriving=False, leaving=True)
    yield
    network.heal(str(node))


@contextmanager
def deaf_and_mute(network: Network, node: int) -> Iterator[None]:
    network.drop(str(node), arriving=True, leaving=True)
    yield
    network.heal(str(node))


@contextmanager
def hidden_from_the_coordinator(network: Network, node: int) -> Iterator[None]:
    network.drop(str(node), arriving=True, leaving=True, other="c")
    yield
    network.heal(str(node))


@contextmanager
def hidden_from_a_peer(network: Network, node: int) -> Iterator[None]:
    network.drop(str(node), arriving=True, leaving=True, other=str((node + 1) % 4))
    yield
    network.heal(str(node))


@contextmanager
def deaf_to_a_peer(network: Network, node: int) -> Iterator[None]:
    network.drop(str(node), arriving=True, leaving=False, other=str((node + 1) % 4))
    yield
    network.heal(str(node))


FROM_ALL: tuple[Cut, ...] = (unplugged, deaf, mute, deaf_and_mute, hidden_from_the_coordinator)
FROM_ONE: tuple[Cut, ...] = (hidden_from_a_peer, deaf_to_a_peer)


def state(caller: Caller, node: int) -> str:
    return str(caller.cluster()["nodes"][node]["state"])


def test_what_was_acknowledged_survives_every_cut(tmp_path: Path, table: Table) -> None:
    figures = Figures("cut links")
    with Network() as network:
        cluster = Cluster(network, tmp_path)
        caller = cluster.caller()
        try:
            cluster.start()
            with Load(cluster.caller, 5) as load:
                for turn in range(2):
                    for cut in (*FROM_ALL, *FROM_ONE):
                        primary = caller.primary()
                        node = primary if turn == 0 else (primary + 1) % 4
                        load.go_on(3)
                        with cut(network, node):
                            if cut in FROM_ALL:
                                wait_until(lambda: state(caller, node) == "down", f"node {node} down")  # noqa: B023
                            load.go_on(4)
                        wait_until(lambda: state(caller, node) == "up", f"node {node} up")  # noqa: B023
                        figures.rounds += 1
                        figures.faults[cut.__name__] += 1
            load.check()
            items = caller.until_equal()
            load.history.check_counts(caller)
            # At rest nobody holds anything alone: whoever is cut off is not missed.
            for cut in FROM_ALL:
                primary = caller.primary()
                with cut(network, primary):
                    since = time.monotonic()

                    def replaced() -> bool:
                        return caller.cluster()["primary"] not in {primary, None}  # noqa: B023

                    figures.to_exact.append(longest_silence(caller, since, replaced))
                    figures.faults[cut.__name__] += 1
                wait_until(lambda: state(caller, primary) == "up", f"node {primary} up")  # noqa: B023
            assert caller.until_equal() == items
            assert caller.cluster()["lost"] == []
            assert cluster.bad_lines() == []
            cluster.stop()
            load.history.check_ledgers([read_ledger(cluster.data(node), node) for node in range(4)])
        finally:
            caller.close()
            cluster.close()
    figures.acknowledged, figures.unknown = load.history.acknowledged, load.history.unknown
    table(figures)
