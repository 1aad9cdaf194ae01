"""
What the cluster has lost for good, by what its members say: pure functions over their last reports.

A batch of a node is lost once that node came back without it and no member has it. Whether all members have
been connected for long enough to say so is for the caller to know.
"""

from collections.abc import Collection, Iterable, Mapping

from dcounter.protocol.messages import Report
from dcounter.protocol.position import LostRun, NodeId, NodePosition, Number, Position, Stamp


def reported_lost(
    reports: Iterable[Report], entries: Iterable[tuple[NodeId, Stamp, Number]]
) -> list[LostRun]:
    """
    What nodes say to be lost, of these nodes, runs and numbers.
    """
    known = {lost for report in reports for lost in report.lost}
    if not known:
        return []
    found = []
    for node, run, number in entries:
        named = next((lost for lost in known if lost.takes(node, run, number)), None)
        if named is not None:
            found.append(LostRun(node, run, named.last if named.run == run else 0, run + 1))
    return found


def concluded(
    reports: Mapping[NodeId, Report],
    position: Position,
    everything: Position,
    *,
    newer: bool,
    already: Collection[LostRun],
) -> list[LostRun]:
    """
    What a position names that no member has, and none will bring back.

    :param reports: of all members: each has reported.
    :param everything: what all of them have together.
    :param newer: whether each report is newer than what is known of the position.
    :param already: what is known to be lost of it.
    """
    found = []
    for node, part in position.nodes.items():
        together = everything.of(node)
        if (
            newer
            and part.folded > together.folded
            and node in reports
            and reports[node].refuses is None
            and not _reaches_fold(reports.values(), node, together, part.folded)
        ):
            # Only nodes that are empty now knew that it was folded so far.
            found.append(LostRun(node, together.folded, together.number(together.folded), part.folded))
    named = {(lost.node, lost.run) for lost in (*already, *found)}
    for node, run, number in position.entries():
        if (node, run) not in named:
            known = everything.number(node, run)
            if number > known and _came_back_without(reports, node, run, newer=newer):
                found.append(LostRun(node, run, known, run + 1))
    return found


def _reaches_fold(reports: Iterable[Report], node: NodeId, together: NodePosition, fold: Stamp) -> bool:
    """
    Whether live nodes have all of a node's runs up to a fold: folds are forgotten at a restart.

    What a node lost that came back empty does not count: the node that folded over it named it lost, and will
    do so again at its next fold.

    :param together: what they have together.
    """
    openings = {opening.run: opening for report in reports for opening in report.openings.get(node, [])}
    while fold > together.folded:
        opening = openings.pop(fold, None)
        if opening is None or together.number(opening.previous) < opening.last:
            return False
        fold = opening.previous
    return True


def _came_back_without(reports: Mapping[NodeId, Report], node: NodeId, run: Stamp, *, newer: bool) -> bool:
    """
    Whether a node will not bring back a run: it is back with another one, or never comes back.

    :param newer: whether its report is newer than what is known of the run.
    """
    if node not in reports:
        # What a member said before it knew may be older than what it has of that node.
        return all(node in each.removed for each in reports.values())
    report = reports[node]
    closed = report.run != run if newer else report.run > run
    return closed and report.refuses is None
