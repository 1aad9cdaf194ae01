import os
from pathlib import Path

from twisted.internet.task import Clock

from dcounter.daemon import process_figures
from dcounter.daemon.process_figures import ProcessFigures, ReactorDelay, build
from dcounter.figures import Histogram


def test_a_reactor_that_is_late_is_noticed() -> None:
    reactor, wall = Clock(), Clock()
    delay = ReactorDelay(reactor, wall.seconds)
    delay.start()
    for late in (0, 0, 0.3):
        wall.advance(0.1 + late)
        reactor.advance(0.1)
    assert sum(delay.delays.counts) == 3
    assert round(delay.delays.total, 6) == 0.3
    delay.stop()
    assert not reactor.getDelayedCalls()


def test_a_process_tells_what_it_takes(tmp_path: Path) -> None:
    reactor = Clock()
    figures = ProcessFigures(reactor, "node-3", str(tmp_path))
    figures.startService()

    found = {each.family.name: dict(each.values) for each in [*figures.samples(), build()]}

    assert found.keys() == {each.name for each in process_figures.FAMILIES}
    assert all(
        values.keys() == {("node-3",)} for name, values in found.items() if name != "dcounter_build_info"
    )
    with open("/proc/self/stat", encoding="ascii") as file:
        assert str(os.getpid()) == file.read().split()[0]
    for name, least, most in (
        ("process_resident_memory_bytes", 2**20, 2**34),
        ("process_virtual_memory_bytes", 2**20, 2**44),
        ("process_open_fds", 3, 10_000),
        ("process_start_time_seconds", 1.7e9, 1e11),
        ("dcounter_disk_size_bytes", 2**20, 2**70),
    ):
        value = found[name]["node-3",]
        assert not isinstance(value, Histogram)
        assert least < value < most, name
    figures.stopService()
    assert not reactor.getDelayedCalls()


def test_without_a_directory_there_is_no_disk_to_tell_of() -> None:
    names = {each.family.name for each in ProcessFigures(Clock(), "coordinator", None).samples()}
    assert not {name for name in names if "disk" in name}
