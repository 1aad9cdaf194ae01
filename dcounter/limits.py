"""
Every bound of the node protocol, by name, with its default and its reason.

`docs/limits.md` has the same table for people, together with the bounds of HTTP.
"""

from dataclasses import dataclass

MEBIBYTE = 2**20

ITEM_BYTES = 24
"""
About the bytes on the wire of an ID, its stamp and what is around them.
"""

LONGEST_TENANT = MEBIBYTE
"""
Bytes that the name of a tenant may have under any option: with one item of such a tenant a line is far below
its limit.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The bounds. A name ends with its unit: `_s` is seconds.

    :ivar heartbeat_s: time between two heartbeats; a fifth of the suspicion, so that one lost is no alarm.
    :ivar suspicion_s: silence after which a node is taken for gone.
    :ivar handshake_s: time for a handshake; a stranger cannot hold a connection for longer.
    :ivar idle_s: silence after which a node gives up a coordinator's connection.
    :ivar request_s: time a caller waits for a store.
    :ivar slow_after_s: time after which a slice is sent to another node as well.
    :ivar read_wait_s: time a count may wait until a node has all that it requires.
    :ivar hedge_after_s: time after which a count is asked of another node as well.
    :ivar window_batches: batches under way per node; enough to keep it busy, few enough to notice.
    :ivar window_bytes: the same in bytes.
    :ivar batch_bytes: size from which an open batch takes no further slice, and a question no further
        tenant.
    :ivar slice_bytes: size from which a slice, or a chunk of a copy, is cut in several; six times that, its
        longest form in JSON, fits a line.
    :ivar small_items: items up to which a request waits for others, and for a node that has nothing under
        way, rather than be cut over nodes that are busy.
    :ivar packed_items: items from which a batch is sent, copied and kept as packed columns, which people
        cannot read but which cost a quarter of the time.
    :ivar queue_requests: requests that may wait for room in a window, per coordinator.
    :ivar queue_bytes: the same in bytes.
    :ivar line_bytes: longest line between nodes; larger than any batch or chunk, whatever options they were
        stored under.
    :ivar waits: counts and awaits that may wait at one node.
    :ivar connections: connections one node accepts.
    :ivar backlog_bytes: bytes of log kept in memory for followers that lag; further behind they get a copy.
    :ivar unfolded_runs: runs of one node that not everybody has; above that it takes no writes.
    :ivar chunk_rows: rows in one chunk of a copy, at most.
    :ivar stream_bytes: bytes of log handed to a follower's connection at a time.
    :ivar stream_pace_s: shortest time between two writes of log to one follower: under load they become
        fewer and larger, at rest nothing is delayed. It is also the time for which only one node holds a
        batch.
    :ivar commit_pace_s: shortest time between two commits that nobody waits for: a node's own batches take
        along what it follows, and commits compete for the disk with those that callers wait for.
    :ivar ports: ports tried from the first one on, at the start and after a listener is lost.
    :ivar drain_s: time a stopping node waits for its followers to have all it has.
    :ivar startup_s: time after which a coordinator is ready although a member has not reported.
    :ivar segment_bytes: size from which a journal begins a new segment.
    :ivar snapshot_bytes: size of all segments from which a node takes a snapshot, unless half of the last
        is more.
    :ivar load_s: time a node loads its ledger at a time, before it lets others work.
    :ivar load_pause_s: time it lets pass then, besides the work of others.
    :ivar search_s: time between two searches of a node on all ports of its range.
    """

    heartbeat_s: float = 0.2
    suspicion_s: float = 1.0
    handshake_s: float = 5.0
    idle_s: float = 30.0
    request_s: float = 5.0
    slow_after_s: float = 1.0
    read_wait_s: float = 2.0
    hedge_after_s: float = 0.2
    window_batches: int = 64
    window_bytes: int = 32 * MEBIBYTE
    batch_bytes: int = MEBIBYTE
    slice_bytes: int = 2 * MEBIBYTE
    small_items: int = 1_000
    packed_items: int = 128
    queue_requests: int = 10_000
    queue_bytes: int = 64 * MEBIBYTE
    line_bytes: int = 16 * MEBIBYTE
    waits: int = 10_000
    connections: int = 1_000
    backlog_bytes: int = 64 * MEBIBYTE
    unfolded_runs: int = 64
    chunk_rows: int = 5_000
    stream_bytes: int = 256 * 1024
    stream_pace_s: float = 0.002
    commit_pace_s: float = 0.02
    ports: int = 100
    drain_s: float = 5.0
    startup_s: float = 5.0
    segment_bytes: int = 16 * MEBIBYTE
    snapshot_bytes: int = 16 * MEBIBYTE
    load_s: float = 0.01
    load_pause_s: float = 0.0
    search_s: float = 1.0
