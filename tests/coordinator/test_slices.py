from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.coordinator.slices import assign, balanced

clusters = st.lists(st.integers(0, 65_535), min_size=1, max_size=9, unique=True)


@pytest.mark.parametrize(
    ("count", "parts", "sizes"),
    [
        (11, 4, [3, 3, 3, 2]),
        (12, 4, [3, 3, 3, 3]),
        (2, 4, [1, 1, 0, 0]),
        (0, 3, [0, 0, 0]),
        (5, 1, [5]),
    ],
)
def test_balanced(count: int, parts: int, sizes: list[int]) -> None:
    assert balanced(count, parts) == sizes


@given(st.integers(0, 10_000), st.integers(1, 100))
def test_sizes_are_complete_and_differ_by_at_most_one(count: int, parts: int) -> None:
    sizes = balanced(count, parts)

    assert len(sizes) == parts
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("count", "turn", "slices"),
    [
        (11, 0, [(0, 0, 3), (1, 3, 6), (2, 6, 9), (3, 9, 11)]),
        (11, 7, [(0, 0, 3), (1, 3, 6), (2, 6, 9), (3, 9, 11)]),
        (4, 3, [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 4)]),
        (1, 0, [(0, 0, 1)]),
        (1, 2, [(2, 0, 1)]),
        (3, 2, [(2, 0, 1), (3, 1, 2), (0, 2, 3)]),
        (1, 4, [(0, 0, 1)]),
        (0, 1, []),
    ],
)
def test_place_over_four_nodes(count: int, turn: int, slices: list[tuple[int, int, int]]) -> None:
    assert list(assign(count, [0, 1, 2, 3], turn)) == slices


@given(st.integers(0, 200), clusters, st.integers(0, 10**9))
def test_slices_are_balanced_contiguous_complete_and_in_order(
    count: int, nodes: list[int], turn: int
) -> None:
    slices = list(assign(count, nodes, turn))

    assert [i for _, first, end in slices for i in range(first, end)] == list(range(count))
    used = [node for node, _, _ in slices]
    assert len(used) == len(set(used)) == min(count, len(nodes))
    assert set(used) <= set(nodes)
    sizes = [end - first for _, first, end in slices]
    assert all(size > 0 for size in sizes)
    if sizes:
        assert max(sizes) - min(sizes) <= 1


@given(clusters, st.integers(0, 10**6), st.data())
def test_small_requests_load_all_nodes_evenly(nodes: list[int], turn: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(nodes) - 1))

    load = Counter(
        dict.fromkeys(nodes, 0)
        | Counter(
            node for each in range(turn, turn + len(nodes)) for node, _, _ in assign(count, nodes, each)
        )
    )

    assert set(load.values()) == {count}
