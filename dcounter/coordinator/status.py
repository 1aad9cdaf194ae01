"""
What a coordinator shows of the nodes.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from dcounter.coordinator.view import View
from dcounter.protocol.position import NodeId, Position
from dcounter.stamps import show_stamp
from dcounter.store import ClusterStatus, NodeStatus


class _Addressed(Protocol):
    @property
    def address(self) -> str:
        """
        Where the node listens.
        """
        ...


def cluster_status(
    view: View,
    links: Mapping[NodeId, _Addressed],
    *,
    cluster: str,
    secrets_accepted: int,
    now: float,
    wall: int,
    warnings: Sequence[str],
) -> ClusterStatus:
    """
    The cluster, as `GET /cluster` shows it.

    :param links: node -> the link to it.
    :param secrets_accepted: how many secrets this process accepts.
    :param now: s.
    :param wall: the wall clock (ns since 1970).
    """
    # A primary that was shown stays until it is gone.
    view.elect()
    primary = view.primary()
    everything = view.everything()
    nodes = [
        _node_status(view, node, link.address, now, primary=primary, everything=everything)
        for node, link in sorted(links.items())
    ]
    return ClusterStatus(
        primary=primary,
        nodes=nodes,
        clock_skew_ms=view.clock_skew_ms(wall),
        cluster=cluster,
        secrets_accepted=secrets_accepted,
        lost=[{"node": lost.node, "run": str(lost.run), "last": lost.last} for lost in sorted(view.lost)],
        warnings=warnings,
    )


def _node_status(
    view: View, node: NodeId, address: str, now: float, *, primary: NodeId | None, everything: Position
) -> NodeStatus:
    report = view.report(node)
    age = view.report_age(node, now)
    return NodeStatus(
        id=node,
        address=address,
        pid=report.pid if report else None,
        state=view.state(node),
        role="primary" if node == primary else "backup",
        run=str(report.run) if report and report.run else None,
        items=report.items if report else 0,
        items_taken=report.items_taken if report else 0,
        applied=view.applied(node).shown(),
        durable=view.durable(node).shown(),
        lag=view.lag(node, everything),
        reported_ms_ago=None if age is None else round(1000 * age),
        refuses=report.refuses if report else None,
        loading=report.loading if report else False,
        in_doubt=report.in_doubt if report else False,
        secrets_accepted=report.secrets if report else None,
        tombstones=report.tombstones if report else 0,
        compacted=show_stamp(report.compacted.stamp) if report and report.compacted else None,
    )
