"""
What the journal relies on, the same for the disk of this machine and the simulated one; then what only the
simulated one does.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from errno import EBADF, EIO, ENOSPC, EROFS
from functools import partial
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dcounter.errors import ConfigurationError
from dcounter.journal.disk import AppendFile, Disk, RealDisk, make_directory
from dcounter.testing import DiskOperation, PowerLoss, SimulatedDisk, SimulatedWriter


@pytest.fixture(params=["real", "simulated"])
def handles(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Disk]]:
    """
    Gives another process's view of the same disk each time.
    """
    given_out: list[Disk] = []
    simulated = SimulatedDisk()

    def handle() -> Disk:
        given_out.append(RealDisk(str(tmp_path / "some" / "disk")) if request.param == "real" else simulated)
        return given_out[-1]

    yield handle
    for each in given_out:
        each.close()


@pytest.fixture
def disk(handles: Callable[[], Disk]) -> Disk:
    disk = handles()
    disk.open()
    return disk


def _write(disk: Disk, name: str, data: bytes) -> None:
    file = disk.create(name)
    file.write(data)
    file.sync()
    file.close()


def test_a_new_disk_is_empty(disk: Disk) -> None:
    assert disk.list() == []


def test_a_file_is_written_at_its_end(disk: Disk) -> None:
    file = disk.create("a")
    assert disk.read("a") == b""
    file.write(b"one")
    file.write(b"")
    file.write(b"two")
    file.sync()
    assert disk.read("a") == b"onetwo"
    file.close()
    assert disk.read("a") == b"onetwo"


def test_names_are_listed_in_order(disk: Disk) -> None:
    for name in ("b", "a", "c"):
        _write(disk, name, b"")
    disk.sync()
    assert disk.list() == ["a", "b", "c"]


def test_a_file_that_is_there_is_not_made_anew(disk: Disk) -> None:
    _write(disk, "a", b"kept")
    with pytest.raises(FileExistsError):
        disk.create("a")
    assert disk.read("a") == b"kept"


def test_a_file_that_is_rewritten_keeps_its_end(disk: Disk) -> None:
    _write(disk, "a", b"onetwo")
    disk.rewrite("a", b"one")
    assert disk.read("a") == b"onetwo"
    with pytest.raises(FileNotFoundError):
        disk.rewrite("b", b"")


def test_what_a_sync_failed_to_keep_is_kept_when_it_is_rewritten() -> None:
    disk = SimulatedDisk()
    disk.open()
    disk.errors["sync"] = EIO
    file = disk.create("a")
    file.write(b"onetwo")
    for fails in (file.sync, partial(disk.rewrite, "a", b"one")):
        with pytest.raises(OSError, match="error"):
            fails()
    disk.errors.clear()
    disk.sync()
    disk.capacity = 0
    disk.rewrite("a", b"one")
    file.sync()
    disk.lose_power(Random(2))
    disk.open()
    assert disk.read("a") == b"one"


@pytest.mark.parametrize(("size", "left"), [(0, b""), (2, b"on"), (3, b"one")])
def test_a_file_can_be_cut(disk: Disk, size: int, left: bytes) -> None:
    _write(disk, "a", b"one")
    disk.truncate("a", size)
    assert disk.read("a") == left


def test_a_file_that_is_cut_while_it_is_written_goes_on_at_its_end(disk: Disk) -> None:
    file = disk.create("a")
    file.write(b"onetwo")
    disk.truncate("a", 3)
    file.write(b"four")
    assert disk.read("a") == b"onefour"
    file.close()


def test_a_file_takes_the_place_of_another_one(disk: Disk) -> None:
    _write(disk, "a", b"new")
    _write(disk, "b", b"old")
    disk.rename("a", "b")
    assert disk.list() == ["b"]
    assert disk.read("b") == b"new"


def test_a_file_that_is_renamed_can_still_be_written(disk: Disk) -> None:
    file = disk.create("a")
    disk.rename("a", "b")
    file.write(b"more")
    file.close()
    assert disk.read("b") == b"more"


def test_a_file_can_be_removed_twice(disk: Disk) -> None:
    _write(disk, "a", b"")
    disk.remove("a")
    disk.remove("a")
    assert disk.list() == []


def test_a_file_is_taken_away_from_its_end(disk: Disk) -> None:
    _write(disk, "a", b"12345")
    assert not disk.shorten("a", 2)
    assert disk.read("a") == b"123"
    assert not disk.shorten("a", 2)
    assert disk.shorten("a", 2)
    assert disk.list() == []


@pytest.mark.parametrize("act", ["read", "truncate", "rename", "shorten"])
def test_what_is_not_there_is_said(disk: Disk, act: str) -> None:
    acts: dict[str, Callable[[], object]] = {
        "read": lambda: disk.read("a"),
        "truncate": lambda: disk.truncate("a", 0),
        "rename": lambda: disk.rename("a", "b"),
        "shorten": lambda: disk.shorten("a", 1),
    }
    with pytest.raises(FileNotFoundError):
        acts[act]()


def test_a_closed_file_takes_nothing(disk: Disk) -> None:
    file = disk.create("a")
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(b"x")


def test_one_process_at_a_time_uses_a_disk(handles: Callable[[], Disk]) -> None:
    one, other = handles(), handles()
    one.open()
    _write(one, "a", b"kept")
    with pytest.raises(ConfigurationError, match="is used by"):
        other.open()
    one.close()
    other.open()
    assert other.read("a") == b"kept"


def test_a_disk_is_used_only_when_it_is_open(handles: Callable[[], Disk]) -> None:
    with pytest.raises(AssertionError, match="not open"):
        handles().list()


# The disk of this machine


def test_a_lock_holds_between_processes(tmp_path: Path) -> None:
    code = """
import sys
from dcounter.journal.disk import RealDisk
RealDisk(sys.argv[1]).open()
print("locked", flush=True)
sys.stdin.read()
"""
    disk = RealDisk(str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == b"locked\n"
            with pytest.raises(ConfigurationError, match="is used by"):
                disk.open()
        finally:
            other.kill()
            other.wait()
    # However it ended, it holds nothing any more.
    disk.open()
    disk.close()


def test_a_write_that_is_taken_only_in_part_is_an_error(tmp_path: Path) -> None:
    code = """
import resource, sys
from dcounter.journal.disk import RealDisk
disk = RealDisk(sys.argv[1])
disk.open()
file = disk.create("a")
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
try:
    file.write(bytes(100))
except OSError as error:
    print(error.strerror, len(disk.read("a")))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "File too large 60\n"


def test_a_disk_is_closed_for_good_and_can_be_opened_again(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    disk.close()
    disk.open()
    disk.close()
    disk.close()
    disk.open()
    disk.close()


def test_only_the_owner_can_read_what_is_there(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path / "disk"))
    disk.open()
    _write(disk, "a", b"")
    disk.close()
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "disk" / "a").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_is_moved_away_stays_the_disk(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path / "disk"))
    disk.open()
    (tmp_path / "disk").rename(tmp_path / "aside")
    other = RealDisk(str(tmp_path / "disk"))
    other.open()

    _write(disk, "a", b"x")

    assert other.list() == []
    assert disk.list() == os.listdir(tmp_path / "aside") == ["a"]
    disk.close()
    other.close()


def test_a_file_in_the_place_of_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    with pytest.raises(FileExistsError):
        RealDisk(str(tmp_path / "disk")).open()
    with pytest.raises(FileExistsError):
        RealDisk(str(tmp_path / "disk" / "below")).open()


def test_all_directories_on_the_way_are_made(tmp_path: Path) -> None:
    make_directory(str(tmp_path / "a" / "b" / "c"))
    make_directory(str(tmp_path / "a" / "b" / "c"))
    assert (tmp_path / "a" / "b" / "c").is_dir()


# The simulated disk


@pytest.fixture
def simulated() -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.open()
    return disk


def _after_power_loss(disk: SimulatedDisk, seeds: int = 60) -> Iterator[dict[str, bytes]]:
    """
    What may be left, for many seeds.
    """
    for seed in range(seeds):
        copy = deepcopy(disk)
        copy.lose_power(Random(seed))
        copy.open()
        yield {name: copy.read(name) for name in copy.list()}


@given(st.binary(min_size=1, max_size=50), st.binary(max_size=50), st.randoms(use_true_random=False))
def test_what_is_synced_survives(kept: bytes, more: bytes, random: Random) -> None:
    disk = SimulatedDisk()
    disk.open()
    file = disk.create("a")
    disk.sync()
    file.write(kept)
    file.sync()
    file.write(more)

    disk.lose_power(random)
    disk.open()

    assert disk.read("a")[: len(kept)] == kept
    assert len(disk.read("a")) <= len(kept + more)


def test_what_is_not_synced_may_be_there_or_torn_or_not(simulated: SimulatedDisk) -> None:
    file = simulated.create("a")
    simulated.sync()
    file.write(b"x" * 50)
    left = {each["a"] for each in _after_power_loss(simulated)}
    assert {b"", b"x" * 50} < left
    assert any(each.strip(b"x") for each in left)
    assert any(each and not each.strip(b"x") and len(each) < 50 for each in left)


def test_a_name_survives_when_names_were_synced(simulated: SimulatedDisk) -> None:
    _write(simulated, "a", b"x")
    assert {*map(str, _after_power_loss(simulated))} == {"{}", "{'a': b'x'}"}
    simulated.sync()
    assert {*map(str, _after_power_loss(simulated))} == {"{'a': b'x'}"}
    simulated.rename("a", "b")
    assert {*map(str, _after_power_loss(simulated))} == {"{'a': b'x'}", "{'b': b'x'}"}
    simulated.sync()
    simulated.remove("b")
    assert {*map(str, _after_power_loss(simulated))} == {"{}", "{'b': b'x'}"}


def test_later_names_may_survive_earlier_ones(simulated: SimulatedDisk) -> None:
    _write(simulated, "a", b"")
    _write(simulated, "b", b"")
    assert {"b": b""} in list(_after_power_loss(simulated))


def test_a_name_whose_file_is_gone_is_not_renamed_after_all(simulated: SimulatedDisk) -> None:
    _write(simulated, "a", b"")
    simulated.rename("a", "b")
    left = list(_after_power_loss(simulated))
    assert {tuple(each) for each in left} == {(), ("a",), ("b",)}


def test_a_process_that_dies_leaves_all_it_wrote(simulated: SimulatedDisk) -> None:
    file = simulated.create("a")
    file.write(b"x")
    simulated.kill()
    with pytest.raises(OSError, match="Bad file") as caught:
        file.write(b"y")
    assert caught.value.errno == EBADF
    simulated.open()
    assert simulated.read("a") == b"x"


def test_a_failed_sync_is_never_made_good(simulated: SimulatedDisk) -> None:
    file = simulated.create("a")
    simulated.sync()
    file.write(b"one")
    file.sync()
    file.write(b"two")
    simulated.errors["sync"] = EIO
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    del simulated.errors["sync"]
    file.sync()
    file.write(b"three")
    file.sync()
    simulated.truncate("a", 5)
    assert simulated.read("a") == b"onetw"
    assert b"one" in [each["a"] for each in _after_power_loss(simulated)]
    # Cut to what is durable, it is as good as new.
    simulated.truncate("a", 3)
    file.write(b"four")
    file.sync()
    assert {each["a"] for each in _after_power_loss(simulated)} == {b"onefour"}


def test_a_write_that_fails_leaves_some_of_it(simulated: SimulatedDisk) -> None:
    file = simulated.create("a")
    simulated.errors["write"] = EIO
    with pytest.raises(OSError, match="Input/output error"):
        file.write(b"four")
    assert simulated.read("a") == b"fo"


def test_a_full_disk_takes_what_it_can(simulated: SimulatedDisk) -> None:
    simulated.capacity = 5
    file = simulated.create("a")
    file.write(b"abc")
    with pytest.raises(OSError, match="No space left") as caught:
        file.write(b"def")
    assert caught.value.errno == ENOSPC
    assert simulated.read("a") == b"abcde"
    with pytest.raises(OSError, match="No space left"):
        simulated.create("b")
    simulated.truncate("a", 3)
    file.write(b"de")
    assert simulated.room() == 0
    simulated.remove("a")
    assert simulated.room() == 5


def _everything(disk: SimulatedDisk, file: AppendFile) -> dict[DiskOperation, Callable[[], object]]:
    return {
        "list": disk.list,
        "read": lambda: disk.read("a"),
        "create": lambda: disk.create("b"),
        "truncate": lambda: disk.truncate("a", 0),
        "rename": lambda: disk.rename("a", "c"),
        "remove": lambda: disk.remove("a"),
        "sync names": disk.sync,
        "write": lambda: file.write(b"x"),
        "sync": file.sync,
        "close": file.close,
    }


def test_any_operation_fails_when_told_to(simulated: SimulatedDisk) -> None:
    file = simulated.create("a")
    for operation, act in _everything(simulated, file).items():
        simulated.errors[operation] = EIO
        with pytest.raises(OSError, match="Input/output error"):
            act()
        simulated.errors.clear()
    assert simulated.list() == ["a"]


def test_a_disk_that_can_only_be_read(simulated: SimulatedDisk) -> None:
    file = simulated.create("a")
    file.write(b"x")
    simulated.read_only = True
    for operation, act in _everything(simulated, file).items():
        if operation in ("create", "truncate", "rename", "remove", "write"):
            with pytest.raises(OSError, match="Read-only") as caught:
                act()
            assert caught.value.errno == EROFS
        else:
            act()
    assert simulated.list() == ["a"]
    assert simulated.read("a") == b"x"


def test_the_power_fails_before_or_after_an_operation(simulated: SimulatedDisk) -> None:
    file = simulated.create("a")
    assert simulated.points == 2
    simulated.power_fails_at = 2
    with pytest.raises(PowerLoss):
        file.write(b"x")
    assert simulated.read("a") == b""
    simulated.power_fails_at = 3
    with pytest.raises(PowerLoss):
        file.write(b"x")
    assert simulated.read("a") == b"x"
    with pytest.raises(PowerLoss):
        simulated.sync()
    simulated.lose_power(Random(0))
    simulated.open()
    simulated.sync()


def test_damage_and_loss(simulated: SimulatedDisk) -> None:
    _write(simulated, "a", b"\x00\x00")
    simulated.damage("a", 1)
    assert simulated.read("a") == b"\x00\x01"
    simulated.wipe()
    assert simulated.list() == []
    assert list(_after_power_loss(simulated, 3)) == [{}] * 3


# The simulated writer


def test_work_is_done_one_after_the_other_and_takes_its_time() -> None:
    clock = Clock()
    writer = SimulatedWriter(clock, lambda: 2.0, lambda: 0.5)
    told: list[str] = []
    worked: list[str] = []

    def work(name: str) -> str:
        worked.append(name)
        return name

    for name in "ab":
        writer(partial(work, name)).addCallback(told.append)
    clock.advance(1.9)
    assert worked == []
    clock.advance(0.1)
    assert (worked, told) == (["a"], [])
    clock.advance(0.5)
    assert told == ["a"]
    clock.pump([1.5, 0.5])
    assert (worked, told) == (["a", "b"], ["a", "b"])
    writer.stop()
    assert writer.stopped


def test_the_next_work_may_be_done_before_the_last_is_heard_of() -> None:
    clock = Clock()
    delays = [3.0, 0.0]
    writer = SimulatedWriter(clock, lambda: 1.0, lambda: delays.pop(0))
    told: list[int] = []
    worked: list[int] = []

    def work(number: int) -> int:
        worked.append(number)
        return number

    for number in (1, 2):
        writer(partial(work, number)).addCallback(told.append)
    clock.pump([1, 1])
    assert (worked, told) == ([1, 2], [])
    clock.pump([2, 0])
    assert told == [1, 2]


def test_what_goes_wrong_is_heard() -> None:
    clock = Clock()
    writer = SimulatedWriter(clock)
    told: list[Failure] = []

    def fail() -> None:
        raise OSError(EIO, "broken")

    writer(fail).addErrback(told.append)
    clock.pump([1, 0])
    assert told[0].check(OSError)


def test_nobody_hears_what_a_machine_does_that_is_off() -> None:
    clock = Clock()
    writer = SimulatedWriter(clock)
    told: list[object] = []

    def fail() -> None:
        raise PowerLoss

    writer(fail).addBoth(told.append)
    writer(lambda: told.append("went on"))
    clock.pump([1, 1, 1])
    assert told == []
    assert not clock.getDelayedCalls()
