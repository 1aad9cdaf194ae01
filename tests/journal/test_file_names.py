from errno import EIO, ENOSPC
from random import Random

import pytest

from dcounter.journal.file_names import Inventory, covered_by, put, remove_all, take_inventory, try_disk
from dcounter.testing import DiskOperation, PowerLoss, SimulatedDisk

_S1, _S2, _S3 = (f"00000000000{number}.journal" for number in (1, 2, 3))
_SNAP2, _SNAP3 = "000000000002.snapshot", "000000000003.snapshot"


@pytest.fixture
def disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.open()
    return disk


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], Inventory(None, (), (), 0)),
        ([_S2, _S1], Inventory(None, (_S1, _S2), (), 2)),
        ([_SNAP2], Inventory(_SNAP2, (), (), 2)),
        # A snapshot covers the segments before its number, not the one that has it.
        ([_S1, _S2, _SNAP2, _S3], Inventory(_SNAP2, (_S2, _S3), (_S1,), 3)),
        ([_SNAP2, _S2, _SNAP3, _S3], Inventory(_SNAP3, (_S3,), (_S2, _SNAP2), 3)),
        # What was left unfinished is never used, but its number is.
        (["000000000007.unfinished", _S1], Inventory(None, (_S1,), ("000000000007.unfinished",), 7)),
        (["000000000000.unfinished"], Inventory(None, (), ("000000000000.unfinished",), 0)),
        # Not ours.
        (["owner", "lost+found", "notes.journal", "1.snapshot", f"{_S1}.gz"], Inventory(None, (), (), 0)),
    ],
)
def test_names_say_what_counts(names: list[str], expected: Inventory) -> None:
    assert take_inventory(names) == expected


def test_a_snapshot_replaces_what_has_a_lower_number() -> None:
    names = [
        _S1,
        "000000000001.unfinished",
        _S2,
        _SNAP2,
        _S3,
        "owner",
        "000000000000.unfinished",
        "0.journal",
    ]
    assert covered_by(2, names) == (_S1, "000000000001.unfinished", "000000000000.unfinished")


def test_a_file_is_replaced_as_a_whole_or_not_at_all() -> None:
    endings = set()
    for point in range(20):
        disk = SimulatedDisk()
        disk.open()
        put(disk, "a", b"old")
        disk.power_fails_at = disk.points + point
        try:
            put(disk, "a", b"new")
        except PowerLoss:
            done = False
        else:
            done = True
        disk.lose_power(Random(point))
        disk.open()
        endings.add((done, disk.read("a")))
    assert endings == {(False, b"old"), (False, b"new"), (True, b"new")}


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename"])
def test_a_file_that_cannot_be_replaced_stays(disk: SimulatedDisk, operation: DiskOperation) -> None:
    put(disk, "a", b"old")
    disk.errors[operation] = EIO
    with pytest.raises(OSError, match="Input/output error"):
        put(disk, "a", b"new")
    assert disk.read("a") == b"old"
    disk.errors.clear()
    put(disk, "a", b"new")
    assert (disk.read("a"), disk.list()) == (b"new", ["a"])


def test_a_trial_that_fails_takes_no_room(disk: SimulatedDisk) -> None:
    disk.capacity = 10
    with pytest.raises(OSError, match="No space left"):
        try_disk(disk, bytes(11))
    assert disk.list() == []


def test_files_that_could_not_be_removed_are_still_on_the_list(disk: SimulatedDisk) -> None:
    for name in ("a", "b"):
        put(disk, name, b"")
    names = ["a", "b"]
    disk.errors["remove"] = ENOSPC
    with pytest.raises(OSError, match="No space left"):
        remove_all(disk, names)
    assert names == ["a", "b"]
    disk.errors.clear()
    remove_all(disk, names)
    assert (names, disk.list()) == ([], [])
