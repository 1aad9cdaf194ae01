import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dcounter.node.backlog import Backlog

NODE = 3
RUN = 7


def _backlog(*lines: bytes, limit: int = 1_000, first: int = 1) -> Backlog:
    backlog = Backlog(limit)
    for number, line in enumerate(lines, first):
        backlog.append(NODE, RUN, number, line)
    return backlog


def _has(backlog: Backlog, node: int, run: int, after: int) -> bool:
    """
    Whether the line that follows is there.
    """
    return backlog.read(node, run, after, 1) != []


def test_gives_what_follows() -> None:
    backlog = _backlog(b"a", b"b", b"c")
    assert backlog.read(NODE, RUN, 0, 1_000) == [b"a", b"b", b"c"]
    assert backlog.read(NODE, RUN, 2, 1_000) == [b"c"]
    assert backlog.read(NODE, RUN, 3, 1_000) == []


@pytest.mark.parametrize(
    ("size", "lines"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 3), (1_000, 3)]
)
def test_gives_at_least_one_line_and_stops_at_a_size(size: int, lines: int) -> None:
    backlog = _backlog(b"aa", b"bb", b"cc")
    assert backlog.read(NODE, RUN, 0, size) == [b"aa", b"bb", b"cc"][:lines]


def test_gives_nothing_that_it_does_not_have() -> None:
    backlog = _backlog(b"a", b"b", first=5)
    assert [after for after in range(10) if _has(backlog, NODE, RUN, after)] == [4, 5]
    assert not _has(backlog, NODE, RUN + 1, 5)
    assert not _has(backlog, NODE + 1, RUN, 5)


def test_a_record_that_does_not_follow_starts_its_run_anew() -> None:
    backlog = _backlog(b"a", b"b")
    backlog.append(NODE, RUN, 9, b"ccc")
    assert [after for after in range(12) if _has(backlog, NODE, RUN, after)] == [8]
    assert backlog.read(NODE, RUN, 8, 1_000) == [b"ccc"]
    assert backlog.bytes == 3


def test_a_record_that_is_there_already_starts_its_run_anew() -> None:
    backlog = _backlog(b"a", b"bb")
    backlog.append(NODE, RUN, 2, b"cc")
    assert backlog.read(NODE, RUN, 1, 1_000) == [b"cc"]
    assert backlog.bytes == 2


def test_is_cut_up_to_a_number() -> None:
    backlog = _backlog(b"a", b"bb", b"ccc")
    backlog.cut(NODE, RUN, 2)
    assert backlog.bytes == 3
    assert not _has(backlog, NODE, RUN, 1)
    assert backlog.read(NODE, RUN, 2, 1_000) == [b"ccc"]
    backlog.cut(NODE, RUN, 1)
    assert backlog.bytes == 3
    # Cut to its end it goes on where it was.
    backlog.cut(NODE, RUN, 99)
    assert backlog.bytes == 0
    backlog.append(NODE, RUN, 4, b"dddd")
    assert backlog.read(NODE, RUN, 3, 1_000) == [b"dddd"]
    backlog.cut(NODE, RUN + 1, 99)
    assert backlog.bytes == 4


def test_folding_forgets_older_runs_of_that_node_only() -> None:
    backlog = Backlog(1_000)
    for node, run in [(0, 1), (0, 2), (0, 3), (1, 1)]:
        backlog.append(node, run, 1, b"x")
    backlog.fold(0, 3)
    assert [key for key in [(0, 1), (0, 2), (0, 3), (1, 1)] if _has(backlog, *key, 0)] == [(0, 3), (1, 1)]
    assert backlog.bytes == 2


def test_above_its_limit_the_oldest_lines_of_the_longest_run_go() -> None:
    backlog = Backlog(10)
    backlog.append(0, 1, 1, b"xxx")
    for number in range(1, 4):
        backlog.append(1, 1, number, b"yyy")
    assert backlog.bytes == 9
    assert _has(backlog, 0, 1, 0)
    assert not _has(backlog, 1, 1, 0)
    assert backlog.read(1, 1, 1, 1_000) == [b"yyy", b"yyy"]


def test_a_line_above_the_limit_is_not_kept() -> None:
    backlog = Backlog(10)
    backlog.append(0, 1, 1, b"xxx")
    backlog.append(1, 1, 1, b"y" * 11)
    assert not _has(backlog, 1, 1, 0)
    # Nor does it push out more than it must.
    assert backlog.bytes == 3


@given(st.lists(st.binary(max_size=5), min_size=1), st.integers(1, 10))
def test_reading_piece_by_piece_gives_every_line_once(lines: list[bytes], size: int) -> None:
    backlog = _backlog(*lines)
    found: list[bytes] = []
    while piece := backlog.read(NODE, RUN, len(found), size):
        assert sum(map(len, piece[:-1])) < size
        found += piece
    assert found == lines


@dataclass
class _Kept:
    """
    The model of a run: number -> line, and the number that comes next.
    """

    lines: dict[int, bytes] = field(default_factory=dict)
    end: int = 1


KEYS = st.tuples(st.integers(0, 1), st.integers(1, 3))


class Logs(RuleBasedStateMachine):
    """
    Against a model that keeps everything and forgets by the same rules, slowly.
    """

    @initialize(limit=st.integers(0, 40))
    def start(self, limit: int) -> None:
        self.limit = limit
        self.backlog = Backlog(limit)
        self.runs: dict[tuple[int, int], _Kept] = {}

    @rule(key=KEYS, line=st.binary(max_size=9), skip=st.sampled_from([0, 0, 0, 0, 1, 3]))
    def append(self, key: tuple[int, int], line: bytes, skip: int) -> None:
        kept = self.runs.setdefault(key, _Kept())
        if skip:
            kept.lines.clear()
            kept.end += skip
        self.backlog.append(*key, kept.end, line)
        kept.lines[kept.end] = line
        kept.end += 1
        while self.size() > self.limit:
            longest = max(self.runs.values(), key=lambda each: sum(map(len, each.lines.values())))
            del longest.lines[min(longest.lines)]

    @rule(key=KEYS, through=st.integers(0, 12))
    def cut(self, key: tuple[int, int], through: int) -> None:
        self.backlog.cut(*key, through)
        if key in self.runs:
            kept = self.runs[key]
            kept.lines = {number: line for number, line in kept.lines.items() if number > through}

    @rule(key=KEYS)
    def fold(self, key: tuple[int, int]) -> None:
        self.backlog.fold(*key)
        self.runs = {k: kept for k, kept in self.runs.items() if k[0] != key[0] or k[1] >= key[1]}

    def size(self) -> int:
        return sum(len(line) for kept in self.runs.values() for line in kept.lines.values())

    @invariant()
    def bytes_are_what_a_recount_gives(self) -> None:
        if not hasattr(self, "backlog"):
            return
        assert self.backlog.bytes == self.size() <= self.limit

    @invariant()
    def it_has_what_the_model_has(self) -> None:
        if not hasattr(self, "backlog"):
            return
        for key in [(node, run) for node in range(2) for run in range(1, 4)]:
            kept = self.runs.get(key)
            found = {after: self.backlog.read(*key, after, 1_000) for after in range(40)}
            lines = {} if kept is None else kept.lines
            assert found == {
                after: [line for number, line in lines.items() if number > after]
                if after + 1 in lines
                else []
                for after in range(40)
            }


TestLogs = Logs.TestCase


def test_lines_are_forgotten_one_by_one_as_fast_as_they_come() -> None:
    """
    A log that is full of small lines, as when a member is away.
    """
    backlog = Backlog(200_000)
    begin = time.process_time()
    for number in range(1, 400_001):
        backlog.append(0, 1, number, b"x")
    assert time.process_time() - begin < 5
    assert backlog.bytes == 200_000
    assert backlog.read(0, 1, 200_000, 3) == [b"x"] * 3
    assert backlog.read(0, 1, 199_999, 3) == []
