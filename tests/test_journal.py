import pytest
from twisted.internet.task import Clock

from dcounter.journal import Journal, MemoryJournal


class Shell:
    """
    Whoever writes a journal.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[int] = []
        self.journal: Journal = MemoryJournal(self.clock)
        self.journal.open(self.told.append)


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_never_answers_at_once(shell: Shell) -> None:
    shell.journal.append(b"a")
    assert shell.told == []
    shell.clock.advance(0)
    assert shell.told == [1]


def test_all_lines_of_a_turn_are_synced_together(shell: Shell) -> None:
    for _ in range(3):
        shell.journal.append(b"a")
    assert len(shell.clock.getDelayedCalls()) == 1
    shell.clock.advance(0)
    shell.journal.append(b"b")
    shell.clock.advance(0)
    assert shell.told == [3, 1]
    assert shell.clock.getDelayedCalls() == []


def test_lines_that_come_while_it_tells_are_next(shell: Shell) -> None:
    journal = MemoryJournal(shell.clock)
    told: list[int] = []

    def synced(lines: int) -> None:
        told.append(lines)
        if len(told) == 1:
            journal.append(b"more")
            journal.append(b"more")

    journal.open(synced)
    journal.append(b"a")
    shell.clock.advance(0)
    assert told == [1, 2]


def test_closing_finishes_what_was_taken(shell: Shell) -> None:
    shell.journal.append(b"a")
    shell.journal.append(b"b")
    done: list[None] = []
    shell.journal.close().addCallback(done.append)
    assert done == [None]
    assert shell.told == [2]
    assert shell.clock.getDelayedCalls() == []


def test_closing_an_idle_one_tells_nothing(shell: Shell) -> None:
    done: list[None] = []
    shell.journal.close().addCallback(done.append)
    assert done == [None]
    assert shell.told == []
