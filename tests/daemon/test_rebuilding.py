"""
A node is made anew only if the others have all that its journal holds, and otherwise starts as it was.
"""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dcounter.audits import NotRepaired
from dcounter.daemon.data_directory import DataDirectory, open_data_directory
from dcounter.daemon.rebuilding import Rebuilding
from dcounter.limits import Limits
from dcounter.protocol.position import Position, join_all
from dcounter.store import Items
from dcounter.testing import Cluster

_T = TypeVar("_T")


class Here:
    """
    Does what a writer's thread would do, at once.
    """

    stopped = 0

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]:
        return maybeDeferred(work)

    def stop(self) -> None:
        Here.stopped += 1


class Daemon:
    """
    The directory of three nodes that have stopped, and what a coordinator knows of them.
    """

    def __init__(self, path: Path) -> None:
        cluster = Cluster(3, disks=True).start()
        cluster.result(cluster.coordinator.store(Items(range(9), ["t"] * 9), ack="all"))
        cluster.run(1)
        self.applied = {node: each.replica.applied for node, each in cluster.nodes.items()}
        self.durable = dict(self.applied)
        cluster.stop()
        self.directory: DataDirectory = open_data_directory(str(path), 3, bytes)
        self.directory.begin(1)
        for node, disk in cluster.disks.items():
            disk.open()
            there = Path(self.directory.node(node))
            there.mkdir()
            for name in disk.list():
                (there / name).write_bytes(disk.read(name))
        self.clock = Clock()
        self.stopped: list[int] = []
        self.started: list[int] = []
        self.rebuilding = self.make(self.directory)

    def make(self, directory: DataDirectory | None) -> Rebuilding:
        return Rebuilding(
            self,
            self,
            directory,
            owner=lambda node: f"node {node}",
            limits=Limits(),
            wall=lambda: 7,
            time=self.clock,
            new_thread=Here,
        )

    async def restart(self, node: int, between: Callable[[], Awaitable[None]] | None = None) -> None:
        self.stopped.append(node)
        try:
            assert between is not None
            await between()
        finally:
            self.started.append(node)

    def applied_at(self, node: int) -> Position:
        return self.applied[node]

    def durable_elsewhere(self, node: int) -> Position:
        return join_all(position for other, position in self.durable.items() if other != node)

    def rebuild(self, node: int) -> list[object]:
        done: list[object] = []
        Deferred.fromCoroutine(self.rebuilding.rebuild(node)).addBoth(done.append)
        return done

    def refusal(self, node: int) -> str:
        done = self.rebuild(node)
        self.clock.pump([0.1] * 120)
        [failure] = done
        assert isinstance(failure, Failure)
        assert failure.check(NotRepaired), failure
        return failure.getErrorMessage()

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in Path(self.directory.path).glob("node-*"))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.directory.close()


WHOLE = ["node-0", "node-1", "node-2"]


def test_its_journal_is_set_aside(daemon: Daemon) -> None:
    assert daemon.rebuild(1) == [None]
    assert daemon.names == ["node-0", "node-1.set-aside-7", "node-2"]
    assert (daemon.stopped, daemon.started) == ([1], [1])
    assert list(Path(f"{daemon.directory.node(1)}.set-aside-7").glob("*.journal"))


def test_others_have_some_time(daemon: Daemon) -> None:
    durable, daemon.durable = daemon.durable, dict.fromkeys(range(3), Position())
    done = daemon.rebuild(1)
    daemon.clock.pump([0.1] * 20)
    assert (done, daemon.stopped) == ([], [])
    daemon.durable = durable
    daemon.clock.pump([0.1])
    assert done == [None]


def test_what_others_lack_keeps_it_running(daemon: Daemon) -> None:
    daemon.durable = dict.fromkeys(range(3), Position())
    assert "no other node has 3 of its batches on its disk" in daemon.refusal(1)
    assert (daemon.stopped, daemon.names) == ([], WHOLE)


def test_what_only_its_journal_holds_keeps_that(daemon: Daemon) -> None:
    # As far as the coordinator knows, it has nothing.
    daemon.applied[1] = Position()
    daemon.durable = dict.fromkeys(range(3), Position())
    assert "no other node has 3 of its batches" in daemon.refusal(1)
    assert (daemon.stopped, daemon.started, daemon.names) == ([1], [1], WHOLE)


def test_of_a_damaged_journal_it_cannot_be_told(daemon: Daemon) -> None:
    [path] = [each for each in Path(daemon.directory.node(1)).glob("*.journal") if each.stat().st_size]
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)
    text = daemon.refusal(1)
    assert "its journal is damaged" in text
    assert "--rebuild 1" in text
    assert (daemon.started, daemon.names) == ([1], WHOLE)


def test_a_directory_that_cannot_be_renamed_stays(daemon: Daemon) -> None:
    in_the_way = Path(f"{daemon.directory.node(1)}.set-aside-7")
    in_the_way.mkdir()
    (in_the_way / "something").touch()
    # It says nothing of an option that nobody gave.
    assert daemon.refusal(1).startswith(
        f"node 1 is not made anew: {daemon.directory.node(1)}: Directory not empty"
    )
    assert daemon.started == [1]


def test_a_node_without_a_journal_only_starts_again(daemon: Daemon) -> None:
    daemon.rebuilding = daemon.make(None)
    assert daemon.rebuild(1) == [None]
    assert (daemon.stopped, daemon.started, daemon.names) == ([1], [1], WHOLE)


def test_the_thread_ends(daemon: Daemon) -> None:
    before = Here.stopped
    daemon.rebuild(1)
    assert Here.stopped == before + 1
