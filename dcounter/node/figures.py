"""
What a node counts and measures about itself.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from dcounter.figures import Family, Samples, Value
from dcounter.journal.figures import JournalFigures
from dcounter.node.channels import Channels
from dcounter.node.contents import Contents
from dcounter.node.effects import Outbox
from dcounter.node.members import Members
from dcounter.node.status import Status
from dcounter.protocol.position import NodeId, Position
from dcounter.protocol.scraping import Scraped

_NODE: Final = ("node",)

ITEMS: Final = Family("dcounter_node_items", "gauge", "IDs that have a tenant in the node's ledger.", _NODE)
TENANTS: Final = Family(
    "dcounter_node_tenants", "gauge", "Tenants that own items in the node's ledger.", _NODE
)
TOMBSTONES: Final = Family(
    "dcounter_node_tombstones", "gauge", "IDs in the node's ledger that are deleted and not forgotten.", _NODE
)
LEDGER_BYTES: Final = Family(
    "dcounter_node_ledger_bytes", "gauge", "Memory that the node's ledger takes.", _NODE
)
JOURNAL_BYTES: Final = Family(
    "dcounter_node_journal_bytes", "gauge", "What the node's journal takes on its disk.", _NODE
)
CHANGES: Final = Family(
    "dcounter_node_items_changed_total",
    "counter",
    "IDs that got a tenant (created), went from one tenant to another (moved) or lost theirs (deleted) in the"
    " node's ledger. Of several changes of one ID that are merged together only the last one counts.",
    ("node", "change"),
)
TAKEN: Final = Family(
    "dcounter_node_items_taken_total", "counter", "Items that the node stored for coordinators.", _NODE
)
BATCHES: Final = Family(
    "dcounter_node_batches_taken_total", "counter", "Batches that the node stored for coordinators.", _NODE
)
UNFOLDED: Final = Family(
    "dcounter_node_unfolded_runs",
    "gauge",
    "Runs of the node that not every member has; it takes no writes above the limit `unfolded_runs`.",
    _NODE,
)
CONNECTIONS: Final = Family(
    "dcounter_node_connections", "gauge", "Connections of the node with coordinators and other nodes.", _NODE
)
LAG: Final = Family(
    "dcounter_replication_lag_seconds",
    "gauge",
    "For how long the node has known of the oldest batch of `origin` that it has not applied; 0 if there is"
    " none.",
    ("node", "origin"),
)
COMMITS: Final = Family(
    "dcounter_journal_commit_duration_seconds",
    "histogram",
    "Time from the moment at which the journal hands lines to its thread until the node learns that they are"
    " durable.",
    _NODE,
)
SYNCS: Final = Family(
    "dcounter_journal_sync_duration_seconds", "histogram", "Time that the disk takes for a sync.", _NODE
)
LINES: Final = Family(
    "dcounter_journal_lines_per_sync", "histogram", "Lines of the journal that share a sync.", _NODE
)
SNAPSHOTS: Final = Family(
    "dcounter_journal_snapshots_total", "counter", "Snapshots that took the place of journal segments.", _NODE
)
FAILURES: Final = Family(
    "dcounter_journal_failures_total", "counter", "How often the disk of the journal failed.", _NODE
)
FAMILIES: Final = (
    *(
        ITEMS,
        TENANTS,
        TOMBSTONES,
        LEDGER_BYTES,
        JOURNAL_BYTES,
        CHANGES,
        TAKEN,
        BATCHES,
        UNFOLDED,
        CONNECTIONS,
    ),
    *(LAG, COMMITS, SYNCS, LINES, SNAPSHOTS, FAILURES),
)

_KEPT: Final = 128
"""
How many moments are remembered for the lag. When there are more, every second one is forgotten.
"""


class MeasuredJournal(Protocol):
    """
    What is measured of a journal. Its whole interface speaks of Deferreds, which nothing here needs.

    :ivar figures: what it counts and measures about itself.
    """

    figures: JournalFigures

    @property
    def size(self) -> int:
        """
        The bytes that it takes on its disk.
        """
        ...


class Lag:
    """
    How long a node has known of batches that it has not applied.
    """

    def __init__(self) -> None:
        # When something that was not applied then was known, the earliest first.
        self._known: list[tuple[float, Position]] = []

    def look(self, known: Position, applied: Position, now: float) -> None:
        """
        Take note of what is known now.
        """
        self._known = [each for each in self._known if not applied.covers(each[1])]
        if not applied.covers(known):
            self._known.append((now, known))
        if len(self._known) > _KEPT:
            # The first one says since when.
            self._known = self._known[::2]

    def seconds(self, origin: NodeId, applied: Position, now: float) -> float:
        """
        For how long (s) a batch of this node has been known and not applied.
        """
        for since, known in self._known:
            if not applied.covers(Position({origin: known.of(origin)})):
                return max(0.0, now - since)
        return 0.0


class Changes:
    """
    What happened to the items of a ledger since the node started, apart from its loading.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.created = self.moved = self.deleted = 0
        self._seen = self._now()

    def _now(self) -> tuple[object, int, int, int]:
        ledger = self._contents.ledger
        return ledger, len(ledger), ledger.tally.moved, ledger.tally.deleted

    def look(self) -> None:
        """
        Take note of what happened since the last time.
        """
        before, self._seen = self._seen, self._now()
        ledger, items, moved, deleted = self._seen
        if self._contents.loading or ledger is not before[0]:
            # Another ledger, or one that is not complete: what comes into it happened before.
            return
        self.moved += moved - before[2]
        self.deleted += deleted - before[3]
        self.created += max(0, items - before[1] + deleted - before[3])


class Figures:
    """
    The figures of one node.

    :param node: its id.
    """

    def __init__(
        self,
        node: NodeId,
        out: Outbox,
        contents: Contents,
        members: Members,
        status: Status,
        channels: Channels,
    ) -> None:
        self._journal: MeasuredJournal | None = None
        self._process: Callable[[], Sequence[Samples]] = tuple
        self._node = node
        self._out = out
        self._contents = contents
        self._members = members
        self._status = status
        self._channels = channels
        self._lag = Lag()
        self._changes = Changes(contents)

    def attach(self, journal: MeasuredJournal, process: Callable[[], Sequence[Samples]]) -> None:
        """
        Set what else has figures: the node's journal, and its process.
        """
        self._journal = journal
        self._process = process

    def look(self, now: float) -> None:
        """
        Take note of how things are; to be called at each heartbeat.
        """
        applied = self._contents.applied
        self._lag.look(self._members.known(applied), applied, now)
        self._changes.look()

    def tell(self, channel: int, request: int, now: float) -> None:
        """
        Answer a coordinator.
        """
        self.look(now)
        self._out.send(channel, Scraped(request, self._contents.applied, [*self._measured(now)]))

    def _measured(self, now: float) -> Iterable[Samples]:
        yield from self._of_ledger()
        yield from self._of_journal()
        applied, me = self._contents.applied, str(self._node)
        yield self._one(TAKEN, self._status.items_taken)
        yield self._one(BATCHES, self._status.batches_taken)
        yield self._one(UNFOLDED, len(applied.of(self._node).runs))
        yield self._one(CONNECTIONS, sum(1 for _ in self._channels))
        origins = sorted(self._members.peers)
        lags: list[Value] = [((me, str(each)), self._lag.seconds(each, applied, now)) for each in origins]
        yield Samples(LAG, lags)
        yield from self._process()

    def _of_ledger(self) -> Iterable[Samples]:
        found, changes, me = self._contents.ledger.statistics(), self._changes, str(self._node)
        yield self._one(ITEMS, found.items)
        yield self._one(TENANTS, found.tenants)
        yield self._one(TOMBSTONES, found.tombstones)
        yield self._one(LEDGER_BYTES, found.bytes)
        by_change = {"created": changes.created, "moved": changes.moved, "deleted": changes.deleted}
        yield Samples(CHANGES, [((me, change), number) for change, number in by_change.items()])

    def _of_journal(self) -> Iterable[Samples]:
        if self._journal is None:
            return
        journal, key = self._journal.figures, (str(self._node),)
        yield self._one(JOURNAL_BYTES, self._journal.size)
        yield Samples(COMMITS, [(key, journal.commits)])
        yield Samples(SYNCS, [(key, journal.syncs)])
        yield Samples(LINES, [(key, journal.lines)])
        yield self._one(SNAPSHOTS, journal.snapshots)
        yield self._one(FAILURES, journal.failures)

    def _one(self, family: Family, value: float) -> Samples:
        return Samples(family, [((str(self._node),), value)])
