"""
What watchers are told, without nodes and sockets.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.coordinator.watching import Board, Reader
from dcounter.events import CountChanged, Dropped, Event, NodeChanged, Reset, Wanted
from dcounter.limits import Limits

LIMITS = replace(Limits(), watch_kept=5, watch_part_bytes=200)
NO_NODES = Wanted(nodes=False)


@pytest.fixture
def board() -> Board:
    board = Board("s", LIMITS)
    board.begin("p")
    return board


def told(board: Board, reader: Reader, now: float = 0.0) -> list[Event]:
    """
    All that a watcher is told now.
    """
    found: list[Event] = []
    while (news := board.news(reader, now)) is not None:
        found += news.events
        if isinstance(found[-1], Dropped):
            break
    return found


def join(board: Board, wanted: Wanted = NO_NODES, since: str | None = None) -> Reader:
    return board.join(wanted, since)[0]


def test_a_watcher_is_told_what_changes_after_it_came(board: Board) -> None:
    board.changed(["a"], [1])
    reader = join(board)
    assert told(board, reader) == []
    board.changed(["a", "b"], [2, 7])
    assert told(board, reader) == [CountChanged("a", 2), CountChanged("b", 7)]
    assert told(board, reader) == []


def test_a_later_change_replaces_one_that_was_not_read(board: Board) -> None:
    reader = join(board)
    board.changed(["a", "b"], [1, 1])
    board.changed(["a"], [2])
    assert told(board, reader) == [CountChanged("b", 1), CountChanged("a", 2)]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), ["a/x", "a", "b", "b/y"]),
        (Wanted(("b", "c", "b")), ["b"]),
        (Wanted(prefixes=("a/", "b/")), ["a/x", "b/y"]),
        (Wanted((), nodes=False), []),
    ],
)
def test_each_is_told_what_it_wants(board: Board, wanted: Wanted, names: list[str]) -> None:
    reader = join(board, wanted)
    board.changed(["a/x", "a", "b", "b/y"], [1, 2, 3, 4])
    assert (reader in board.take_touched(0.0)) == bool(names)
    assert [event.tenant for event in told(board, reader) if isinstance(event, CountChanged)] == names
    board.changed(["z"], [1])
    assert (reader in board.take_touched(0.0)) == (wanted == Wanted())


def test_those_who_want_the_same_share_the_news(board: Board) -> None:
    one, other = join(board), join(board)
    board.changed(["a"], [1])
    assert board.news(one, 0.0) is board.news(other, 0.0) is not None


def test_events_of_nodes_come_in_order_and_only_to_those_who_want_them(board: Board) -> None:
    reader, other = join(board, Wanted()), join(board)
    board.changed(["a"], [1])
    board.node_changed([NodeChanged(2, "down"), NodeChanged(1, "primary")])
    board.changed(["b"], [1])
    assert list(board.take_touched(0.0)) == [reader, other]
    down, primary = NodeChanged(2, "down"), NodeChanged(1, "primary")
    assert told(board, reader) == [CountChanged("a", 1), down, primary, CountChanged("b", 1)]
    assert told(board, other) == [CountChanged("a", 1), CountChanged("b", 1)]
    board.node_changed([NodeChanged(2, "up")])
    assert list(board.take_touched(0.0)) == [reader]


def test_a_reset_comes_before_what_is_known_after_it(board: Board) -> None:
    reader, other = join(board, Wanted()), join(board)
    board.changed(["a"], [1])
    board.node_changed([NodeChanged(2, "down")])
    board.begin("q")
    board.changed(["b"], [1])
    assert told(board, reader) == [NodeChanged(2, "down"), Reset("q"), CountChanged("b", 1)]
    assert told(board, other) == [Reset("q"), CountChanged("b", 1)]


def test_one_that_comes_back_goes_on(board: Board) -> None:
    reader = join(board)
    board.changed(["a"], [1])
    news = board.news(reader, 0.0)
    assert news is not None
    board.leave(reader)
    board.changed(["b"], [1])
    again, resumed = board.join(NO_NODES, news.id)
    assert resumed
    assert told(board, again) == [CountChanged("b", 1)]


@pytest.mark.parametrize("id", ["", "s-", "s-x", "s--1", "s-99", "s-1²", "t-1", "s-" + "1" * 5_000, "1"])
def test_one_that_names_an_unknown_place_begins_anew(board: Board, id: str) -> None:
    board.changed(["a"], [1])
    reader, resumed = board.join(NO_NODES, id)
    assert not resumed
    assert told(board, reader) == []


def test_one_that_comes_back_too_late_begins_anew(board: Board) -> None:
    first = board.id_at(board.last)
    board.changed([f"t{each}" for each in range(6)], [1] * 6)
    assert not board.join(NO_NODES, first)[1]
    assert board.join(NO_NODES, board.id_at(board.last - 5))[1]


def test_one_that_came_before_a_reset_begins_anew(board: Board) -> None:
    board.changed(["a"], [1])
    before = board.id_at(board.last)
    board.begin("q")
    assert not board.join(NO_NODES, before)[1]


def test_a_slow_one_is_dropped_when_events_are_gone_that_it_has_not_read(board: Board) -> None:
    reader = join(board)
    board.changed([f"t{each}" for each in range(5)], [1] * 5)
    board.changed(["t4"], [2])
    board.changed(["u"], [1])
    [dropped] = told(board, reader)
    assert isinstance(dropped, Dropped)
    assert dropped.code == "slow"


def test_a_slow_one_is_dropped_when_it_stays_behind(board: Board) -> None:
    reader = join(board)
    board.changed(["a" * 100, "b" * 100], [1, 1])
    board.take_touched(1.0)
    assert board.news(reader, 1.0) is not None
    behind = LIMITS.watch_behind_s
    board.changed(["a" * 100], [2])
    board.take_touched(5.0)
    assert board.news(reader, 1.0 + behind) is not None
    [dropped] = told(board, reader, 1.1 + behind)
    assert isinstance(dropped, Dropped)


def test_one_that_reads_to_the_end_is_not_behind(board: Board) -> None:
    reader = join(board)
    board.changed(["a"], [1])
    board.take_touched(1.0)
    assert len(told(board, reader, 2.0)) == 1
    board.changed(["a"], [2])
    board.take_touched(100.0)
    assert told(board, reader, 101.0) == [CountChanged("a", 2)]


def test_what_is_told_at_once_is_bounded(board: Board) -> None:
    reader = join(board)
    board.changed(["a" * 100, "b" * 100, "c"], [1, 1, 1])
    sizes = []
    while (news := board.news(reader, 0.0)) is not None:
        sizes.append(len(news.events))
    assert sizes == [1, 1, 1]


def test_news_for_those_who_come_back_while_nothing_happens_take_bounded_memory(board: Board) -> None:
    since = board.id_at(board.last)
    board.changed(["a"], [1])
    for i in range(1_000):
        reader = join(board, Wanted(("a", str(i)), nodes=False), since)
        assert told(board, reader) == [CountChanged("a", 1)]
        board.leave(reader)
    # It shows nowhere else.
    assert len(board._told) <= 256  # noqa: SLF001


def test_one_that_has_left_leaves_nothing(board: Board) -> None:
    # A token of the file may name a prefix twice.
    for wanted in (Wanted(), Wanted(("a", "b", "a")), Wanted(prefixes=("a", "b", "a"))):
        reader = join(board, wanted)
        board.changed(["a"], [1])
        board.leave(reader)
        board.leave(reader)
    assert not board.take_touched(0.0)
    assert not board.readers
    # These show nowhere else.
    assert not board._want_tenant  # noqa: SLF001
    assert not board._want_prefix  # noqa: SLF001


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.sampled_from(["read", "leave", ""])),
        max_size=30,
    )
)
def test_who_reads_to_the_end_knows_the_last_count_of_each_tenant(
    changes: list[tuple[str, int, str]],
) -> None:
    board = Board("s", LIMITS)
    board.begin("p")
    reader = join(board)
    counts: dict[str, int] = {}
    known: dict[str, int] = {}
    last = board.id_at(board.last)

    def read_some() -> bool:
        nonlocal last
        news = board.news(reader, 0.0)
        if news is None:
            return False
        for event in news.events:
            assert isinstance(event, CountChanged)
            known[event.tenant] = event.counter
        last = news.id or last
        return True

    for tenant, counter, then in changes:
        counts[tenant] = counter
        board.changed([tenant], [counter])
        if then:
            read_some()
        if then == "leave":
            board.leave(reader)
            reader, resumed = board.join(NO_NODES, last)
            assert resumed
    while read_some():
        pass
    assert known == counts


@pytest.mark.parametrize("wanted", [Wanted(("x",)), Wanted(prefixes=("x",)), Wanted(("x",), nodes=False)])
def test_one_that_wants_few_tenants_is_not_slow_because_others_change(board: Board, wanted: Wanted) -> None:
    reader = join(board, wanted)
    board.changed([f"t{each}" for each in range(20)], [1] * 20)
    assert board.news(reader, 0.0) is None
    board.changed([f"u{each}" for each in range(20)], [1] * 20)
    board.changed(["x"], [1])
    assert told(board, reader) == [CountChanged("x", 1)]


_WANTED = [
    NO_NODES,
    Wanted(),
    Wanted(("a",)),
    Wanted(("a", "zz")),
    Wanted(prefixes=("b", "c")),
    Wanted(("zz",)),
]
_steps = st.tuples(
    st.lists(st.sampled_from(["a", "b1", "b2", "c", "d", "e", "f"]), max_size=8, unique=True),
    st.sampled_from(["", "node", "begin"]),
    st.booleans(),
    st.sets(st.integers(0, len(_WANTED) - 1)),
)


@given(st.lists(_steps, max_size=20))
def test_only_one_that_lacks_something_that_it_wants_is_dropped(
    steps: list[tuple[list[str], str, bool, set[int]]],
) -> None:
    board = Board("s", LIMITS)
    board.begin("p")
    readers = [join(board, wanted) for wanted in _WANTED]
    # What each has yet to be told.
    lacks: list[dict[object, int | None]] = [{} for _ in _WANTED]
    for number, (tenants, more, taken, reading) in enumerate(steps):
        board.changed(tenants, [number] * len(tenants))
        if more == "node":
            board.node_changed([NodeChanged(number, "up")])
        if more == "begin":
            board.begin("q")
        for wanted, lack in zip(_WANTED, lacks, strict=True):
            lack.update((t, number) for t in tenants if t in (wanted.tenants or [t]))
            for tenant in [t for t in lack if isinstance(t, str) and not t.startswith(wanted.prefixes or "")]:
                del lack[tenant]
            if more == "node" and wanted.nodes:
                lack[number] = None
            if more == "begin":
                lack.clear()
                lack[Reset] = None
        if taken:
            board.take_touched(0.0)
        for each in reading:
            if readers[each] not in board.readers:
                continue
            found: dict[object, int | None] = {}
            for event in told(board, readers[each]):
                match event:
                    case CountChanged():
                        found[event.tenant] = event.counter
                    case NodeChanged():
                        found[event.node] = None
                    case Reset():
                        found = {Reset: None}
                    case Dropped():
                        assert lacks[each]
                        board.leave(readers[each])
            if readers[each] in board.readers:
                assert found == lacks[each]
            lacks[each].clear()
