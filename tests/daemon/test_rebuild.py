"""
Whether a node may be rebuilt, by the content of the disks.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dcounter.daemon.data_directory import DataDirectory, open_data_directory
from dcounter.daemon.kept import ProvingDisk, read_all
from dcounter.daemon.rebuild import NodeJournal, objections
from dcounter.daemon.setting_aside import prepare
from dcounter.errors import ConfigurationError, NewerJournal
from dcounter.journal.disk import RealDisk
from dcounter.journal.framing import JournalEntry, frame
from dcounter.limits import Limits
from dcounter.protocol.position import Position
from dcounter.store import Items
from dcounter.testing import Cluster, SimulatedDisk


def has(*batches: int) -> Position:
    """
    Of node 0 so many batches, of node 1 so many, ...
    """
    position = Position()
    for node, number in enumerate(batches):
        if number:
            position = position.advance(node, 100 + node, number)
    return position


ALL = NodeJournal(position=has(5, 5, 5))
DAMAGED = NodeJournal("damaged", why="000000000001.journal: damaged at byte 0")
NEWER = NodeJournal("newer", why="unknown line")
REFILLING = NodeJournal(position=has(1), complete=False)


class TestRule:
    @pytest.mark.parametrize(
        ("kept", "chosen"),
        [
            # The documented case: one is damaged, the others have everything.
            ([DAMAGED, ALL, ALL], [0]),
            ([DAMAGED, DAMAGED, ALL], [0, 1]),
            ([ALL, ALL, ALL], [0, 1]),
            # Together the others have all that it has.
            ([ALL, NodeJournal(position=has(5, 5)), NodeJournal(position=has(0, 0, 5))], [0]),
            # Nothing is lost where nothing is.
            ([NodeJournal(), NodeJournal()], [0, 1]),
            ([NodeJournal()], [0]),
            ([ALL, NodeJournal()], [1]),
            # The data of a removed member needs no other copy.
            ([NodeJournal(position=has(5, 5), removed=frozenset({2})), ALL, ALL], [2]),
            ([NodeJournal(position=has(5), removed=frozenset({1})), DAMAGED, ALL], [1]),
        ],
    )
    def test_allows(self, kept: list[NodeJournal], chosen: list[int]) -> None:
        found = objections(dict(enumerate(kept)), chosen)
        assert (list(found.never), list(found.losses)) == ([], [])

    @pytest.mark.parametrize(
        ("kept", "chosen", "why"),
        [
            ([ALL], [0], "node 0 has at least 15 batches that no other node has"),
            ([ALL, NodeJournal()], [0], "node 0 has at least 15 batches"),
            ([ALL, ALL], [0, 1], "one of nodes 0, 1 has at least 15 batches"),
            ([ALL, NodeJournal(position=has(5, 5, 4))], [0], "node 0 has at least 1 batch"),
            # One that only a damaged journal keeps, before the place where it is damaged.
            ([NodeJournal("damaged", has(6), why="x"), ALL], [0], "node 0 has at least 1 batch"),
            # What cannot be relied on is no copy.
            ([ALL, DAMAGED], [0], "node 0 has at least 15 batches"),
            ([ALL, NEWER], [0], "node 0 has at least 15 batches"),
            ([ALL, NodeJournal("doubtful", has(5, 5, 5))], [0], "node 0 has at least 15 batches"),
            ([ALL, NodeJournal("damaged", has(5, 5, 5), why="x")], [0], "node 0 has at least 15 batches"),
            (
                [ALL, NodeJournal(position=has(5, 5, 5), removed=frozenset({2})), ALL],
                [0, 1],
                "one of nodes 0, 1 has at least 15 batches",
            ),
            # Nobody knows what it had.
            (
                [DAMAGED],
                [0],
                "node 0 is damaged .*byte 0.*, and no other node can be relied on as",
            ),
            ([DAMAGED, DAMAGED], [0], "node 0 is damaged .* can be relied on"),
            ([DAMAGED, DAMAGED], [0, 1], "node 0 is damaged .*; the journal of node 1 is damaged"),
            ([DAMAGED, NodeJournal()], [0], "node 0 is damaged .* can be relied on"),
            ([DAMAGED, REFILLING], [0], "node 0 is damaged .*, and no other node is complete"),
            # A removed member must stay removed.
            (
                [
                    NodeJournal(position=has(1), removed=frozenset({2})),
                    NodeJournal(position=has(1)),
                    NodeJournal(),
                ],
                [0],
                "no other node knows that node 2 was removed",
            ),
        ],
    )
    def test_names_what_would_be_lost(self, kept: list[NodeJournal], chosen: list[int], why: str) -> None:
        found = objections(dict(enumerate(kept)), chosen)
        assert not found.never
        assert re.search(why, "; ".join(found.losses)), found.losses

    def test_never_takes_the_journal_of_a_newer_version(self) -> None:
        found = objections({0: NEWER, 1: ALL}, [0])
        [why] = found.never
        assert why == (
            "the journal of node 0 was written by a newer version of dcounter (unknown line): "
            "start that version"
        )
        assert not objections({0: NEWER, 1: ALL, 2: ALL}, [1]).never


def store(cluster: Cluster, first: int, ack: str = "all") -> None:
    items = Items(range(first, first + 12), ["t"] * 12)
    cluster.result(cluster.coordinator.store(items, ack=ack))  # type: ignore[arg-type]


def owner(node: int) -> str:
    return f"node {node}"


def off(cluster: Cluster) -> dict[int, SimulatedDisk]:
    """
    Let everything end; the disks, open.
    """
    for coordinator in cluster.coordinators:
        cluster.result(coordinator.stopService())
    for node in [*cluster.nodes]:
        cluster.kill_node(node)
    for disk in cluster.disks.values():
        disk.open()
    return cluster.disks


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(3, seed=3, disks=True).start()
    store(cluster, 0)
    return cluster


def read(disks: dict[int, SimulatedDisk]) -> dict[int, NodeJournal]:
    return read_all(range(3), disks, owner, Limits())


class TestReading:
    def test_tells_what_each_has(self, cluster: Cluster) -> None:
        applied = {node: service.replica.applied for node, service in cluster.nodes.items()}
        before = {node: disk.sizes() for node, disk in off(cluster).items()}
        kept = read(cluster.disks)
        assert {node: each.position for node, each in kept.items()} == applied
        assert all(each.condition == "whole" and each.holds and each.complete for each in kept.values())
        assert {node: disk.sizes() for node, disk in cluster.disks.items()} == before

    def test_tells_what_only_one_has(self, cluster: Cluster) -> None:
        cluster.part("node 0", "node 2")
        cluster.part("node 1", "node 2")
        store(cluster, 100, "node")
        kept = read(off(cluster))
        assert objections(kept, [2]).losses
        assert objections(kept, [0]).losses
        assert not objections({**kept, 2: kept[0]}, [2]).losses

    def test_knows_a_fold_that_only_some_kept(self) -> None:
        # A node that takes snapshots keeps that runs are folded; one that has not taken one yet has their
        # numbers, and has no less.
        cluster = Cluster(
            3, seed=3, disks=True, limits=Limits(snapshot_bytes=4_000, segment_bytes=1_000)
        ).start()
        for first in range(0, 600, 12):
            store(cluster, first)
        for _ in range(3):
            for node in range(3):
                cluster.stop_node(node)
                cluster.start_node(node)
                cluster.wait_for(lambda: cluster.coordinator.readiness().exact)
                store(cluster, 1_000 + 100 * node)
            cluster.run(2)
        cluster.run(2)
        kept = read(off(cluster))
        folded = {node: each.position.of(0).folded for node, each in kept.items()}
        assert any(folded.values())
        for node in range(3):
            assert not objections(kept, [node]).losses, folded
            assert not objections(kept, {0, 1, 2} - {node}).losses, folded

    def test_an_empty_disk_keeps_nothing(self, cluster: Cluster) -> None:
        off(cluster)[1].wipe()
        kept = read(cluster.disks)
        assert (kept[1].condition, kept[1].holds) == ("whole", False)
        del cluster.disks[1]
        assert read(cluster.disks)[1] == NodeJournal()

    def test_one_that_is_being_rebuilt_is_not_complete(self, cluster: Cluster) -> None:
        cluster.wipe(1)
        cluster.kill_node(2)
        cluster.start_node(1)
        cluster.run(1)
        kept = read(off(cluster))
        assert (kept[1].condition, kept[1].complete) == ("whole", False)
        assert kept[0].complete

    def test_which_members_were_removed(self, cluster: Cluster) -> None:
        cluster.kill_node(2)
        cluster.run(0.1)
        cluster.result(cluster.coordinator.remove(2))
        assert read(off(cluster))[0].removed == {2}

    def test_damage_and_strangers(self, cluster: Cluster) -> None:
        disks = off(cluster)
        disks[0].damage("000000000001.journal", 30)
        kept = read_all(range(3), disks, lambda node: owner(0 if node == 1 else node), Limits())
        assert [each.condition for each in kept.values()] == ["damaged", "unreadable", "whole"]
        assert "damaged at byte 0" in kept[0].why
        assert kept[1].why == "the journal belongs to node 1, not to node 0"

    def test_damage_to_what_the_ledger_is_made_of(self) -> None:
        limits = Limits(snapshot_bytes=500, segment_bytes=200)
        cluster = Cluster(3, seed=3, disks=True, limits=limits).start()
        for first in range(0, 360, 12):
            store(cluster, first)
        cluster.run(15)
        disks = off(cluster)
        [snapshot] = [name for name in disks[0].sizes() if name.endswith(".snapshot")]
        # The middle of the second line, which holds a piece.
        disks[0].damage(snapshot, disks[0].sizes()[snapshot] // 2)
        assert [each.condition for each in read(disks).values()] == ["damaged", "whole", "whole"]

    def test_an_end_that_was_not_written_whole_is_no_damage(
        self, cluster: Cluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        disks = off(cluster)
        segment = "000000000001.journal"
        disks[1].lose_end(segment, disks[1].sizes()[segment] - 5)
        caplog.clear()
        assert read(disks)[1].condition == "whole"
        # Nothing was cut, so nobody says so.
        assert not caplog.records

    def test_a_segment_behind_such_an_end_is_damage(self, cluster: Cluster) -> None:
        disks = off(cluster)
        segment = "000000000001.journal"
        disks[1].lose_end(segment, disks[1].sizes()[segment] - 5)
        content = disks[2].read(segment)
        file = disks[1].create("000000000002.journal")
        file.write(content)
        assert "the end is damaged, but 000000000002.journal follows" in read(disks)[1].why

    def test_a_disk_that_fails_is_not_relied_on(self, cluster: Cluster) -> None:
        disks = off(cluster)
        disks[0].errors["sync"] = 5
        kept = read(disks)
        assert [each.condition for each in kept.values()] == ["doubtful", "whole", "whole"]

    def test_a_journal_of_a_newer_version(self, cluster: Cluster) -> None:
        class Newer(SimulatedDisk):
            def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
                raise NewerJournal("a line of type 'tenant_limit'")

        off(cluster)
        newer = Newer()
        newer.open()
        newer.create("000000000001.journal")
        kept = read_all(range(3), {**cluster.disks, 2: newer}, owner, Limits())
        assert (kept[2].condition, kept[2].why) == ("newer", "a line of type 'tenant_limit'")

    @pytest.mark.parametrize(
        "line",
        [
            b'{"type":"tenant_limit","tenant":"t","most":5}',
            b'{"type":"record","node":0,"run":9,"number":1,"stamp":9,"batch":{"version":2}}',
        ],
    )
    def test_a_line_of_a_newer_version(self, line: bytes, cluster: Cluster) -> None:
        off(cluster)
        newer = SimulatedDisk()
        newer.open()
        newer.create("owner").write(b"node 2\n")
        file = newer.create("000000000001.journal")
        file.write(frame(JournalEntry(line, 0, 9, 1) if b"record" in line else JournalEntry(line)))
        kept = read_all(range(3), {**cluster.disks, 2: newer}, owner, Limits())
        assert kept[2].condition == "newer"
        assert objections(kept, [2]).never

    def test_what_cannot_be_read_may_be_whole(self, cluster: Cluster) -> None:
        kept = read_all(range(3), off(cluster), lambda node: owner(0 if node == 1 else node), Limits())
        [why] = objections(kept, [1]).losses
        assert why == (
            "the journal of node 1 cannot be read (the journal belongs to node 1, not to node 0): "
            "fix that first, it may be whole"
        )
        # Of nobody's else.
        assert not objections(kept, [0]).losses

    def test_changes_nothing(self) -> None:
        disk = SimulatedDisk()
        disk.open()
        disk.create("there").close()
        proving = ProvingDisk(disk)
        changes: list[Callable[[], object]] = [
            lambda: proving.create("new"),
            lambda: proving.truncate("there", 0),
            lambda: proving.rename("there", "new"),
            lambda: proving.shorten("there", 1),
        ]
        for change in changes:
            with pytest.raises(OSError, match="Read-only"):
                change()
        proving.remove("there")
        proving.close()
        assert disk.list() == ["there"]


class TestSettingAside:
    @pytest.fixture
    def directory(self, tmp_path: Path, cluster: Cluster) -> Iterator[DataDirectory]:
        """
        A data directory of three nodes, all of which have everything.
        """
        directory = open_data_directory(str(tmp_path), 3, bytes)
        directory.begin(1)
        for node, disk in off(cluster).items():
            there = Path(directory.node(node))
            there.mkdir()
            for name in disk.list():
                (there / name).write_bytes(disk.read(name))
        yield directory
        directory.close()

    @staticmethod
    def _prepare(directory: DataDirectory, *chosen: int, accept_loss: bool = False) -> None:
        aside = prepare(directory, chosen, accept_loss=accept_loss, owner=owner, limits=Limits())
        aside.perform(7)

    @staticmethod
    def _names(directory: DataDirectory) -> list[str]:
        return sorted(path.name for path in Path(directory.path).glob("node-*"))

    def test_is_done_if_others_have_everything(self, directory: DataDirectory) -> None:
        self._prepare(directory, 1, 2, 2)
        assert self._names(directory) == ["node-0", "node-1.set-aside-7", "node-2.set-aside-7"]
        # Once more, of nodes that have nothing yet.
        self._prepare(directory, 1, 2)
        assert self._names(directory) == ["node-0", "node-1.set-aside-7", "node-2.set-aside-7"]

    @pytest.mark.parametrize("first", [[], [1], [1, 2]])
    def test_of_all_is_refused_however_it_is_done(self, directory: DataDirectory, first: list[int]) -> None:
        if first:
            self._prepare(directory, *first)
        before = self._names(directory)
        with pytest.raises(
            ConfigurationError,
            match=r"--rebuild 0 --rebuild 1 --rebuild 2 is refused because data would be lost: .*"
            r"Nothing was changed.*--accept-data-loss as well$",
        ):
            self._prepare(directory, 2, 1, 0)
        assert self._names(directory) == before

    def test_of_all_is_done_if_the_loss_is_accepted(
        self, directory: DataDirectory, caplog: pytest.LogCaptureFixture
    ) -> None:
        self._prepare(directory, 2, 1, 0, accept_loss=True)
        assert self._names(directory) == [f"node-{node}.set-aside-7" for node in range(3)]
        assert "--accept-data-loss: one of nodes " in caplog.text

    def test_of_a_damaged_one(self, directory: DataDirectory) -> None:
        for node in (1, 2):
            path = Path(directory.node(node)) / "000000000001.journal"
            content = bytearray(path.read_bytes())
            content[30] ^= 1
            path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="because data would be lost"):
            self._prepare(directory, 0)
        self._prepare(directory, 1, 2)
        with pytest.raises(ConfigurationError, match="because data would be lost"):
            self._prepare(directory, 0)
        assert self._names(directory) == ["node-0", "node-1.set-aside-7", "node-2.set-aside-7"]

    def test_of_what_is_no_directory(self, directory: DataDirectory) -> None:
        there = Path(directory.node(1))
        there.rename(there.with_name("elsewhere"))
        there.touch()
        with pytest.raises(ConfigurationError, match=r"node 1 cannot be read .* fix that"):
            self._prepare(directory, 1)
        self._prepare(directory, 1, accept_loss=True)
        assert self._names(directory) == ["node-0", "node-1.set-aside-7", "node-2"]

    def test_is_refused_while_a_node_runs(self, directory: DataDirectory) -> None:
        for node in (0, 1):
            disk = RealDisk(directory.node(node))
            disk.open()
            with pytest.raises(ConfigurationError, match=rf"--rebuild: .*node-{node} is used by process \d+"):
                self._prepare(directory, 1)
            disk.close()
        self._prepare(directory, 1)

    def test_is_done_wholly_or_not_at_all(self, directory: DataDirectory) -> None:
        aside = prepare(directory, [1, 2], accept_loss=False, owner=owner, limits=Limits())
        in_the_way = Path(f"{directory.node(2)}.set-aside-7")
        in_the_way.mkdir()
        (in_the_way / "something").touch()
        with pytest.raises(ConfigurationError, match=r"--rebuild: .*node-2: Directory not empty: "):
            aside.perform(7)
        assert self._names(directory) == ["node-0", "node-1", "node-2", "node-2.set-aside-7"]

    def test_says_that_it_is_done_at_every_start(
        self, directory: DataDirectory, caplog: pytest.LogCaptureFixture
    ) -> None:
        Path(f"{directory.node(1)}.set-aside-5").mkdir()
        self._prepare(directory, 1)
        assert f"set {directory.node(1)} aside as {directory.node(1)}.set-aside-7" in caplog.text
        assert "was set aside 1 times before: is --rebuild still among the options?" in caplog.text
