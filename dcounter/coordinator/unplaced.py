"""
Why no node takes what it is given.
"""

from collections.abc import Sequence

from dcounter.coordinator.view import View
from dcounter.errors import NOTHING_STORED
from dcounter.protocol.position import NodeId


def why_unplaced(view: View, writers: Sequence[NodeId]) -> str:
    """
    The reason, for people.

    :param writers: nodes that take writes, and to which there is a link.
    """
    refusals = view.refusals()
    if refusals:
        why = "; ".join(f"node {node}: {reason}" for node, reason in refusals.items())
        why = f"no node takes writes: {why}"
    elif not view.up():
        why = "no node is connected"
    elif not writers:
        why = "no node takes writes yet"
    else:
        why = "no node had room in time"
    return f"{why}{NOTHING_STORED}"
