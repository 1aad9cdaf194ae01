"""
A data directory at rest is checked: what is damaged is named, with its file and its bytes, and nothing is
changed.
"""

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dcounter.daemon.checking import Checked, check
from dcounter.errors import ConfigurationError, DirectoryInUse
from dcounter.journal.disk import RealDisk
from dcounter.limits import Limits
from tests.support.data_directories import CLUSTER, NODES, make_data_directory
from tests.support.planted import edit_journal


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "data"
    make_data_directory(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def files(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def checked(path: Path) -> Checked:
    """
    The result, and the proof that nothing was changed.
    """
    before = files(path), {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    found = check(str(path), Limits())
    assert (files(path), {each: each.stat().st_mtime_ns for each in path.rglob("*")}) == before
    return found


def change(file: Path, edit: Callable[[bytes], bytes]) -> None:
    file.write_bytes(edit(file.read_bytes()))


def flip(file: Path, place: int, bit: int = 0) -> None:
    def edit(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        return bytes(changed)

    change(file, edit)


def wrong(found: Checked) -> list[int]:
    return [each.node for each in found.nodes if not each.whole]


def journal(path: Path, node: int) -> Path:
    """
    The last segment of a node.
    """
    return max((path / f"node-{node}").glob("*.journal"))


def snapshot(path: Path, node: int) -> Path:
    [found] = (path / f"node-{node}").glob("*.snapshot")
    return found


def test_a_whole_one(path: Path) -> None:
    found = checked(path)
    assert (found.cluster, found.directory) == (CLUSTER, str(path))
    assert (found.faults, found.remarks, found.advice) == ([], [], [])
    assert [(each.items, each.tombstones, each.tenants) for each in found.nodes] == [(450, 150, 3)] * NODES
    assert len({each.digest for each in found.nodes}) == 1
    assert all(each.files >= 3 and each.lines > 9 and each.bytes > 10_000 for each in found.nodes)


def test_that_of_a_node(path: Path) -> None:
    found = checked(path / "node-1")
    [node] = found.nodes
    assert (found.cluster, node.node, node.items, found.faults) == (CLUSTER, 1, 450, [])
    flip(journal(path, 1), 100)
    found = checked(path / "node-1")
    assert [each.file for each in found.faults] == [journal(path, 1).name]
    assert found.advice == ["check the directories of the other nodes, which may hold all of it"]
    (path / "node-1" / "owner").write_text("me\n")
    assert checked(path / "node-1").faults[0].why == "names no node, but 'me'"


@pytest.mark.parametrize("kind", ["journal", "snapshot"])
def test_a_bit_that_changed_is_named(path: Path, kind: str) -> None:
    file = min((path / "node-1").glob(f"*.{kind}"))
    whole = file.read_bytes()
    chance = random.Random(kind)
    newlines = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for place in [0, 8, 9, newlines[0], newlines[-1], *chance.sample(range(len(whole)), 20)]:
        file.write_bytes(whole)
        flip(file, place, chance.randrange(8))
        found = checked(path)
        assert wrong(found) == [1]
        fault = found.faults[0]
        assert fault.file == f"node-1/{file.name}"
        assert fault.begin is not None
        assert fault.end is not None
        assert fault.begin <= place < fault.end
        assert re.search(r"--rebuild 1: .* the other nodes have all of it", found.advice[0])


def owns(lines: bytes, node: int) -> bool:
    """
    Whether one of these lines is a batch of a node's own log.
    """
    return any(each.split(b" ", 3)[2] == b"%d" % node for each in lines.splitlines())


def test_a_segment_that_is_cut_short_is_found(path: Path) -> None:
    lost = set()
    for file in (path / "node-1").glob("*.journal"):
        whole = file.read_bytes()
        last = file == journal(path, 1)
        for size in range(0, len(whole), 43):
            file.write_bytes(whole[:size])
            found = checked(path)
            at_end_of_line = whole[:size].endswith(b"\n") or not size
            begin = whole.rfind(b"\n", 0, size) + 1
            if not last and not at_end_of_line:
                assert found.faults[0].file == f"node-1/{file.name}"
                assert (found.faults[0].begin, found.faults[0].end) == (begin, size)
                assert found.advice[0].startswith("keep a copy of this directory, and start the daemon with")
            # What other nodes have stored, they have: only what is missing of its own is a loss.
            elif owns(whole[begin:], 1):
                assert wrong(found) == [1]
                lost.add(found.faults[0].why.partition(" ")[0])
                assert found.faults[0].file == "node-1"
            else:
                assert found.faults == []
        file.write_bytes(whole)
    assert "lacks" in lost


def test_a_batch_that_is_missing_between_others_is_found(path: Path) -> None:
    segments = sorted((path / "node-1").glob("*.journal"))
    lines = b"".join(each.read_bytes() for each in segments).splitlines(keepends=True)
    missing = [each for each in lines if owns(each, 1)][-2]
    for each in segments:
        change(each, lambda data: data.replace(missing, b""))
    found = checked(path)
    assert found.faults[0].file == "node-1"
    assert re.fullmatch("cannot be used: number [0-9]+ of our own run [0-9]+ is missing", found.faults[0].why)
    assert "--rebuild 1" in found.advice[0]


def test_a_snapshot_that_is_cut_short_is_found(path: Path) -> None:
    file = snapshot(path, 1)
    whole = file.read_bytes()
    end = whole.index(b"\n", whole.index(b'"copy_end"')) + 1
    for size in range(0, end, 251):
        file.write_bytes(whole[:size])
        found = checked(path)
        assert wrong(found) == [1]
        assert found.faults[0].file == f"node-1/{file.name}"
    lines = whole[:end].splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    assert "is cut short: it ends at byte" in checked(path).faults[0].why


def test_what_a_node_lacks_of_its_own_the_others_give_back(path: Path) -> None:
    journal(path, 2).write_bytes(b"")
    found = checked(path)
    [fault] = found.faults
    assert re.fullmatch(r"lacks [0-9]+ batches of its own log, which node-0 has: its disk lost .*", fault.why)
    assert found.advice == ["start the daemon: node 2 gets from the others what it lacks"]


def test_an_incomplete_record_is_a_remark(path: Path) -> None:
    change(journal(path, 0), lambda data: data + b"0123abcd 77 0 ")
    found = checked(path)
    size = journal(path, 0).stat().st_size
    assert found.faults == []
    [remark] = found.remarks
    assert (
        f"an incomplete record, from byte {size - 14:,} to byte {size - 1:,}, as a crash leaves it" in remark
    )


def test_obsolete_files_and_strangers_are_remarks(path: Path) -> None:
    (path / "node-0" / "000000000001.journal").write_bytes(b"whatever")
    (path / "node-7").mkdir()
    found = checked(path)
    assert found.faults == []
    assert [each.partition(" ")[0] for each in found.remarks] == ["node-7", "node-0/000000000001.journal"]


def test_damage_at_several_nodes_and_what_would_be_lost(path: Path) -> None:
    for node in range(NODES):
        flip(snapshot(path, node), 500)
    found = checked(path)
    assert wrong(found) == [0, 1, 2]
    assert len(found.faults) == 3
    [advice] = found.advice
    assert "restore a backup: --rebuild 0 --rebuild 1 --rebuild 2 would lose data, since" in advice


def test_a_node_whose_rows_are_others_is_found(path: Path) -> None:
    # The checksums are right: only the other nodes tell.
    assert edit_journal(path / "node-1", lambda row: (row[0], row[1], "other"))
    found = checked(path)
    assert (found.faults[0].file, found.faults[0].why) == (
        "node-1",
        "holds other items than node-0, although both hold the same batches",
    )
    assert "dcounter audit" in found.advice[0]


def test_a_missing_node(path: Path) -> None:
    shutil.rmtree(path / "node-2")
    found = checked(path)
    assert [(each.file, each.why) for each in found.faults] == [("node-2", "is missing")]
    assert found.advice == ["start the daemon: node 2 gets from the others what it lacks"]
    assert (found.nodes[2].whole, found.nodes[2].items) == (False, None)


class TestIdentity:
    @pytest.mark.parametrize("text", ["node 2 of cluster c0ffee\n", "node 1 of cluster x\n", "?", None])
    def test_the_owner_of_a_journal(self, path: Path, text: str | None) -> None:
        owner = path / "node-1" / "owner"
        owner.unlink()
        if text is not None:
            owner.write_text(text)
        found = checked(path)
        assert wrong(found) == [1]
        assert found.faults[0].file == "node-1/owner"
        assert found.advice[0].startswith("write 'node 1 of cluster c0ffee' to node-1/owner")
        # All the rest is right.
        assert len(found.faults) == 1
        assert found.nodes[1].items == 450

    def test_the_cluster_is_what_most_journals_name(self, path: Path) -> None:
        change(path / "cluster.json", lambda data: data.replace(b"c0ffee", b"c0ffef"))
        found = checked(path)
        [fault] = found.faults
        assert (fault.file, found.cluster) == ("cluster.json", "c0ffee")
        assert "names the cluster c0ffef, and the nodes belong to c0ffee" in fault.why

    @pytest.mark.parametrize("data", [b"", b"{", b'{"version":9}', b'{"version":1,"cluster":"x"}'])
    def test_a_file_that_cannot_be_read(self, path: Path, data: bytes) -> None:
        (path / "cluster.json").write_bytes(data)
        found = checked(path)
        assert [each.file for each in found.faults] == ["cluster.json"]
        assert found.cluster == "c0ffee"
        assert [each.items for each in found.nodes] == [450] * NODES

    def test_one_that_is_missing(self, path: Path) -> None:
        (path / "cluster.json").unlink()
        assert [each.file for each in checked(path).faults] == ["cluster.json"]


class TestRefusals:
    def test_what_is_no_data_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"neither cluster\.json nor the journal of a node"):
            check(str(tmp_path), Limits())
        with pytest.raises(ConfigurationError, match="none"):
            check(str(tmp_path / "none"), Limits())
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("used", [".", "node-1"])
    def test_what_is_in_use(self, path: Path, used: str) -> None:
        disk = RealDisk(str(path / used))
        disk.open()
        with pytest.raises(DirectoryInUse, match=f"is used by process {os.getpid()}"):
            check(str(path), Limits())
        disk.close()
        assert checked(path).faults == []
