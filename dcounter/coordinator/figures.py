"""
What a coordinator counts and measures: batches and questions on their way, and the nodes as it sees them.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from dcounter.coordinator.dispatch import Dispatch
from dcounter.coordinator.view import View
from dcounter.figures import Family, Histogram, Samples, Value
from dcounter.limits import Limits
from dcounter.protocol.position import NodeId, Position, join_all

_NODE: Final = ("node",)

NODE_UP: Final = Family(
    "dcounter_node_up",
    "gauge",
    "1 if the node is connected and has told its figures; 0 if its other figures are missing.",
    _NODE,
)
PRIMARY: Final = Family("dcounter_node_primary", "gauge", "1 if the node is asked for counts first.", _NODE)
TAKES_WRITES: Final = Family("dcounter_node_takes_writes", "gauge", "1 if the node takes writes.", _NODE)
LOADING: Final = Family(
    "dcounter_node_loading", "gauge", "1 if the node loads its ledger and answers no exact count yet.", _NODE
)
REPORT_AGE: Final = Family(
    "dcounter_node_report_age_seconds", "gauge", "How long ago the node reported last.", _NODE
)
CONNECTED: Final = Family(
    "dcounter_node_connections_made_total", "counter", "How often the node was connected.", _NODE
)
WINDOW_BATCHES: Final = Family(
    "dcounter_window_batches", "gauge", "Batches that are under way to the node, or being filled.", _NODE
)
WINDOW_BYTES: Final = Family("dcounter_window_bytes", "gauge", "Bytes of those batches.", _NODE)
WINDOW_LIMIT: Final = Family(
    "dcounter_window_limit_batches", "gauge", "The most batches that may be under way to one node."
)
QUEUE: Final = Family("dcounter_queue_requests", "gauge", "Requests that wait for room in a window.")
QUEUE_BYTES: Final = Family("dcounter_queue_bytes", "gauge", "Bytes of those requests.")
QUEUE_LIMIT: Final = Family(
    "dcounter_queue_limit_requests", "gauge", "The most requests that may wait; further ones are refused."
)
OPEN_REQUESTS: Final = Family(
    "dcounter_write_requests_open", "gauge", "Requests to store that are not answered yet."
)
OPEN_QUESTIONS: Final = Family(
    "dcounter_questions_open", "gauge", "Questions to nodes that are not answered yet."
)
BATCH_ITEMS: Final = Family(
    "dcounter_batch_items", "histogram", "Items in the batches that were sent to nodes."
)
RETRIES: Final = Family(
    "dcounter_slice_retries_total",
    "counter",
    "Parts of requests that were given to another node, because the first one refused them, was lost, was"
    " slow, or stopped taking writes before they were sent (unsent).",
    ("reason",),
)
QUESTION_RETRIES: Final = Family(
    "dcounter_question_retries_total",
    "counter",
    "Questions that were asked again, because the first node was lost or slow, or lacked what was required.",
)
FAILOVERS: Final = Family("dcounter_failovers_total", "counter", "How often another node became primary.")
LAG_BATCHES: Final = Family(
    "dcounter_replication_lag_batches",
    "gauge",
    "Batches of `origin` that any node has and `node` has not applied.",
    ("node", "origin"),
)
EXACT: Final = Family(
    "dcounter_exact", "gauge", "1 if counts are exact: the items of no node are unaccounted for."
)
READY: Final = Family("dcounter_ready", "gauge", "1 if the daemon is ready for requests, as /readyz says.")
WARNINGS: Final = Family("dcounter_warnings", "gauge", "Warnings that GET /cluster shows.")
LOST_RUNS: Final = Family("dcounter_lost_runs", "gauge", "Runs of which a part is lost for good.")
AUDIT_AGE: Final = Family(
    "dcounter_audit_age_seconds",
    "gauge",
    "How long ago the last audit of this daemon ended; missing if there was none since its start.",
)
AUDIT_EQUAL: Final = Family(
    "dcounter_audit_equal", "gauge", "1 if the last audit found all nodes equal and all counts right; else 0."
)
SKEW: Final = Family(
    "dcounter_clock_skew_seconds",
    "gauge",
    "How far the largest stamp is ahead of the wall clock of the coordinator's machine.",
)
CREATED: Final = Family(
    "dcounter_items_created_total", "counter", "IDs that got a tenant, in the ledger of the primary."
)
MOVED: Final = Family(
    "dcounter_items_moved_total", "counter", "IDs that went from one tenant to another, in the same ledger."
)
DELETED: Final = Family(
    "dcounter_items_deleted_total", "counter", "IDs that lost their tenant, in the same ledger."
)
_CHANGES: Final = {"created": CREATED, "moved": MOVED, "deleted": DELETED}
CHANGES_OF_NODES: Final = "dcounter_node_items_changed_total"
"""
The family in which nodes tell of changes in their ledgers, with the labels `node` and `change`.
"""

FAMILIES: Final = (
    *(NODE_UP, PRIMARY, TAKES_WRITES, LOADING, REPORT_AGE, CONNECTED, LAG_BATCHES),
    *(WINDOW_BATCHES, WINDOW_BYTES, WINDOW_LIMIT, QUEUE, QUEUE_BYTES, QUEUE_LIMIT, OPEN_REQUESTS),
    *(OPEN_QUESTIONS, BATCH_ITEMS, RETRIES, QUESTION_RETRIES, FAILOVERS),
    *(EXACT, READY, WARNINGS, AUDIT_AGE, AUDIT_EQUAL, LOST_RUNS, SKEW, CREATED, MOVED, DELETED),
)


class Changes:
    """
    What happened to items, as the primary's ledger tells it, whichever node that is.
    """

    def __init__(self) -> None:
        self._totals: dict[str, float] = dict.fromkeys(_CHANGES, 0)
        self._seen: dict[tuple[str, str], float] = {}

    def look(self, primary: NodeId | None, told: Iterable[Samples]) -> None:
        """
        Nodes told their figures: take those that the primary has added since it told them last.
        """
        for each in told:
            if each.family.name != CHANGES_OF_NODES:
                continue
            for labels, value in each.values:
                assert not isinstance(value, Histogram)
                node, change = labels
                before, self._seen[node, change] = self._seen.get((node, change), 0), value
                if node == str(primary) and change in self._totals:
                    # A node that has started again begins at 0.
                    self._totals[change] += value - before if value >= before else value

    def samples(self) -> Iterable[Samples]:
        """
        The figures, with their names.
        """
        return [Samples(family, [((), self._totals[change])]) for change, family in _CHANGES.items()]


def of_dispatch(dispatch: Dispatch, limits: Limits) -> Iterable[Samples]:
    """
    The figures of batches on their way.
    """
    windows = [((str(node),), window) for node, window in dispatch.windows.items()]
    yield Samples(WINDOW_BATCHES, [(key, window.batches) for key, window in windows])
    yield Samples(WINDOW_BYTES, [(key, window.size) for key, window in windows])
    yield _one(WINDOW_LIMIT, limits.window_batches)
    yield _one(QUEUE, dispatch.queued)
    yield _one(QUEUE_BYTES, dispatch.queued_bytes)
    yield _one(QUEUE_LIMIT, limits.queue_requests)
    yield _one(OPEN_REQUESTS, len(dispatch.requests()))
    yield Samples(BATCH_ITEMS, [((), dispatch.batch_items)])
    yield Samples(RETRIES, [((reason,), number) for reason, number in dispatch.retries.items()])


def of_view(
    view: View, applied: Mapping[NodeId, Position], up: Iterable[NodeId], now: float, wall: int
) -> Iterable[Samples]:
    """
    The nodes as a coordinator sees them.

    :param applied: what nodes have just said that their counts include.
    :param up: the nodes that have told their figures, or are up and cannot.
    :param now: s.
    :param wall: the wall clock (ns since 1970).
    """
    members, told, primary = view.members(), {*up}, view.primary()
    writers = {*view.writers()}
    reports = {node: report for node in members if (report := view.report(node)) is not None}
    yield Samples(NODE_UP, [((str(node),), node in told) for node in members])
    yield Samples(PRIMARY, [((str(node),), node == primary) for node in members])
    yield Samples(TAKES_WRITES, [((str(node),), node in writers) for node in members])
    yield Samples(LOADING, [((str(node),), report.loading) for node, report in reports.items()])
    ages = [(node, view.report_age(node, now)) for node in members]
    yield Samples(REPORT_AGE, [((str(node),), max(0.0, age)) for node, age in ages if age is not None])
    yield Samples(LAG_BATCHES, _lags({node: applied.get(node, view.applied(node)) for node in reports}))
    yield _one(FAILOVERS, view.failovers)
    yield _one(LOST_RUNS, len(view.lost))
    yield _one(SKEW, view.clock_skew_ms(wall) / 1_000)


def _lags(applied: Mapping[NodeId, Position]) -> list[Value]:
    everything = join_all(applied.values())
    found: list[Value] = []
    for node, position in applied.items():
        missing = position.missing(everything)
        found += [((str(node), str(each)), missing.get(each, 0)) for each in applied if each != node]
    return found


def _one(family: Family, value: float) -> Samples:
    return Samples(family, [((), value)])
