from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from dcounter.journal.memory import MemoryJournal
from tests.support.journals import User, results


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> User:
    user = User(MemoryJournal(clock))
    assert list(user.journal.recover()) == []
    user.journal.open(user)
    return user


def test_memory_never_answers_at_once(memory: User, clock: Clock) -> None:
    memory.append(b"a")
    assert memory.told == []
    clock.advance(0)
    assert memory.told == [1]


def test_memory_takes_all_lines_of_a_turn_together(memory: User, clock: Clock) -> None:
    memory.append(b"a", b"a", b"a")
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    memory.append(b"b")
    clock.advance(0)
    assert memory.told == [3, 1]
    assert clock.getDelayedCalls() == []


def test_lines_that_come_while_memory_tells_are_next(memory: User, clock: Clock) -> None:
    memory.whenever = lambda: memory.append(b"more", b"more") if len(memory.told) == 1 else None
    memory.append(b"a")
    clock.advance(0)
    clock.advance(0)
    assert memory.told == [1, 2]


def test_closing_memory_finishes_what_was_taken(memory: User, clock: Clock) -> None:
    memory.append(b"a", b"b")
    assert results(memory.journal.close()) == [None]
    assert memory.told == [2]
    assert clock.getDelayedCalls() == []


def test_closing_idle_memory_tells_nothing(memory: User) -> None:
    assert results(memory.journal.close()) == [None]
    assert memory.told == []


def test_memory_takes_a_snapshot_line_by_line_and_keeps_none(memory: User, clock: Clock) -> None:
    assert not memory.journal.due
    taken: list[bytes] = []

    def lines() -> Iterator[bytes]:
        for line in [b"a", b"b"]:
            taken.append(line)
            yield line

    kept = results(memory.journal.snapshot(lines(), lambda: taken == [b"a", b"b"]))
    assert taken == [b"a"]
    # One at a time.
    assert results(memory.journal.snapshot(iter([b"c"]), lambda: True)) == [False]
    assert kept == []
    # Both in turns of the reactor that follow, for which a test's clock does not stop.
    clock.advance(0)
    assert kept == [True]
    assert clock.getDelayedCalls() == []


def test_a_snapshot_that_may_not_count_is_not_kept(memory: User, clock: Clock) -> None:
    kept = memory.journal.snapshot(iter([]), lambda: False)
    assert results(kept) == [False]
    assert clock.getDelayedCalls() == []


def test_closing_memory_ends_a_snapshot(memory: User, clock: Clock) -> None:
    kept = results(memory.journal.snapshot(iter([b"a", b"b"]), lambda: True))
    assert results(memory.journal.close()) == [None]
    assert kept == [False]
    assert clock.getDelayedCalls() == []
