"""
The clock of a process: it freezes, thaws and dies with it.
"""

from twisted.internet.task import Clock

from dcounter.testing import ProcessClock


def test_a_frozen_process_does_nothing_until_it_thaws() -> None:
    clock = Clock()
    process = ProcessClock(clock)
    happened: list[str] = []
    process.callLater(1, happened.append, "a")
    given_up = process.callLater(1, happened.append, "b")
    process.callLater(9, happened.append, "c")
    process.freeze()
    clock.advance(5)
    assert happened == []
    given_up.cancel()
    process.thaw()
    clock.advance(0)
    assert happened == ["a"]
    clock.advance(4)
    assert happened == ["a", "c"]
