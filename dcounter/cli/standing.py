"""
The state of a cluster, as `dcounter status` shows it: from two looks at it, a moment apart.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from dcounter.store import ClusterStatus, NodeStatus

_MS: Final = 1_000


class Look(Struct, frozen=True):
    """
    What the daemon said at one moment.

    :ivar at: when (s, on any clock).
    :ivar ready: whether it is ready for requests.
    :ivar exact: whether counts are exact.
    :ivar warnings: what an operator should look at, one sentence each.
    :ivar cluster: its nodes; `None` if it does not show them.
    """

    at: float
    ready: bool
    exact: bool
    warnings: Sequence[str]
    cluster: ClusterStatus | None


class NodeStanding(Struct, frozen=True):
    """
    A node.

    :ivar role: `primary` or `backup`.
    :ivar state: `up`, `down` or `new`.
    :ivar lag: batches that it lacks.
    :ivar items: IDs that have a tenant there.
    :ivar writes_per_s: items that it takes from the coordinator; `None` if that is not known.
    :ivar remarks: what is not as usual.
    """

    id: int
    role: str
    state: str
    lag: int
    items: int
    writes_per_s: float | None
    address: str
    remarks: Sequence[str]


class Standing(Struct, frozen=True):
    """
    The state of a cluster.

    :ivar exact: whether counts are exact.
    :ivar writes: whether items are stored.
    :ivar may_be_lost: how many more nodes may be lost for good, whichever they are, until something that was
        stored at the first look is lost; `None` if that is not known.
    """

    exact: bool
    writes: bool
    may_be_lost: int | None
    warnings: Sequence[str]
    nodes: Sequence[NodeStanding]


def standing(first: Look, second: Look) -> Standing:
    """
    The state of the cluster.
    """
    before = {each.id: each for each in first.cluster.nodes} if first.cluster else {}
    nodes = second.cluster.nodes if second.cluster else []
    takes = [each for each in nodes if each.state == "up" and each.refuses is None]
    return Standing(
        exact=second.exact,
        writes=second.ready and bool(takes or second.cluster is None),
        may_be_lost=_may_be_lost(first.cluster, second.cluster) if second.exact else 0,
        warnings=second.warnings,
        nodes=[
            NodeStanding(
                each.id,
                each.role,
                each.state,
                each.lag,
                each.items,
                _rate(before.get(each.id), each, second.at - first.at),
                each.address,
                _remarks(each),
            )
            for each in nodes
        ],
    )


def _rate(before: NodeStatus | None, now: NodeStatus, elapsed: float) -> float | None:
    if (
        before is None
        or before.pid != now.pid
        or before.reported_ms_ago is None
        or now.reported_ms_ago is None
    ):
        return None
    # Between the two reports, not between the two looks.
    seconds = elapsed + (before.reported_ms_ago - now.reported_ms_ago) / _MS
    return max(0, now.items_taken - before.items_taken) / seconds if seconds > 0.05 else None


def _remarks(node: NodeStatus) -> Sequence[str]:
    return [
        *([f"takes no writes: {node.refuses}"] if node.refuses is not None else []),
        *(["loads its ledger"] if node.loading else []),
        *(["in doubt about its disk"] if node.in_doubt else []),
    ]


def _may_be_lost(first: ClusterStatus | None, second: ClusterStatus | None) -> int | None:
    if first is None or second is None:
        return None
    live = [each for each in second.nodes if each.state == "up" and not (each.loading or each.in_doubt)]
    required: dict[tuple[str, str], int] = {}
    for node in first.nodes:
        for origin, run, number in _numbers(node.durable):
            required[origin, run] = max(number, required.get((origin, run), 0))
    # A run is folded, and no longer shown, once every member has all of it on disk.
    shown = {(origin, run) for node in second.nodes for origin, run, _ in _numbers(node.durable)}
    holders = [
        sum(_has(node, origin, run, number) for node in live)
        for (origin, run), number in required.items()
        if (origin, run) in shown
    ]
    return max(0, min(holders, default=len(live)) - 1)


def _numbers(position: Mapping[str, Mapping[str, int]]) -> Sequence[tuple[str, str, int]]:
    return [(origin, run, number) for origin, runs in position.items() for run, number in runs.items()]


def _has(node: NodeStatus, origin: str, run: str, number: int) -> bool:
    runs = node.durable.get(origin, {})
    if run in runs:
        return runs[run] >= number
    # This node has folded it already.
    return any(int(later) > int(run) for later in runs)
