"""
The state of one node, as a coordinator shows it.
"""

from dcounter.coordinator.view import View
from dcounter.protocol.position import Position
from dcounter.store import NodeStatus


def node_status(
    view: View, node: int, address: str, *, primary: int | None, everything: Position, now: float
) -> NodeStatus:
    """
    What is shown of a node.

    :param address: where it was last known to listen.
    :param everything: what all live nodes have together.
    :param now: the time (s).
    """
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
    )
