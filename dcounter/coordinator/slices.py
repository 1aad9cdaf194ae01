"""
How the items of a request are cut into slices, and which node each slice prefers.
"""

from collections.abc import Iterator, Sequence


def balanced(count: int, parts: int) -> list[int]:
    """
    Sizes of `parts` slices of `count` items that differ by at most one, the larger ones first.
    """
    size, larger = divmod(count, parts)
    return [size + 1] * larger + [size] * (parts - larger)


def assign(count: int, nodes: Sequence[int], turn: int) -> Iterator[tuple[int, int, int]]:
    """
    Cut `count` items into contiguous slices, one per node.

    A request smaller than the number of nodes would always load the first ones: it starts at the node
    whose turn it is.

    :param nodes: ids of the nodes to use, at least one.
    :param turn: any number: with another one a small request begins at another node.
    :returns: node id, first item and end (exclusive) of each slice that is not empty, in order.
    """
    start = turn % len(nodes) if count < len(nodes) else 0
    first = 0
    for i, size in enumerate(balanced(count, len(nodes))):
        if size == 0:
            return
        yield nodes[(start + i) % len(nodes)], first, first + size
        first += size
