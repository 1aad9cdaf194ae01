"""
Every bound of the node protocol, by name, with its default and its reason.

`docs/limits.md` has the same table for people, together with the bounds of HTTP.
"""

from dataclasses import dataclass

MEBIBYTE = 2**20
GIBIBYTE = 2**30

ITEM_BYTES = 24
"""
About how many bytes an ID and its stamp take on the wire, punctuation included.
"""

LONGEST_TENANT = MEBIBYTE
"""
The most bytes that a tenant's name may have, whatever the options. A line with one item of such a tenant
stays far below its limit.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The bounds. A name ends with its unit: `_s` is seconds.

    :ivar heartbeat_s: time between two heartbeats; a fifth of `suspicion_s`, so that one that is lost raises
        no alarm.
    :ivar suspicion_s: silence after which a node is considered down.
    :ivar handshake_s: time for a handshake; a stranger cannot hold a connection for longer.
    :ivar idle_s: silence after which a node closes a coordinator's connection.
    :ivar request_s: time a caller waits for a store, and a removal for each node.
    :ivar slow_after_s: time after which a slice is also sent to another node.
    :ivar read_wait_s: time a count may wait until a node has all that it requires.
    :ivar hedge_after_s: time after which a count is asked of another node as well.
    :ivar window_batches: batches under way to one node: enough to keep it busy, few enough to notice that it
        is not.
    :ivar window_bytes: the same in bytes.
    :ivar batch_bytes: size from which an open batch takes no further slice, and a question no further
        tenant.
    :ivar slice_bytes: size from which a slice, or a chunk of a copy, is cut in several; six times that, its
        longest form in JSON, fits a line.
    :ivar small_items: size (items) up to which a request waits for others, and for a node that has nothing
        under way, instead of being split over busy nodes.
    :ivar packed_items: size (items) from which a batch is sent, copied and kept as packed columns. People
        cannot read those, but they take a quarter of the time.
    :ivar queue_requests: requests that may wait for room in a window, per coordinator.
    :ivar queue_bytes: the same in bytes.
    :ivar line_bytes: longest line between nodes; larger than any batch or chunk, whatever options they were
        stored under.
    :ivar waits: counts and awaits that may wait at one node.
    :ivar questions: questions that one node answers in turns, such as lists: more than it can answer within
        `read_wait_s`. It declines further ones.
    :ivar connections: connections one node accepts.
    :ivar backlog_bytes: bytes of log kept in memory for followers that lag; a follower further behind gets a
        copy.
    :ivar unfolded_runs: runs of one node that not every member has; above that the node takes no writes.
    :ivar audit_bytes: bytes of batches that a node remembers for an audit, until the nodes were compared;
        most of them are in the backlog as well.
    :ivar audit_wait_s: time an audit waits for a node to reach the position at which nodes are compared.
    :ivar audit_pause_s: pause of an audit between two slices of a recount, so that it leaves the nodes time.
    :ivar chunk_rows: rows in one chunk of a copy, at most.
    :ivar export_rows: rows in one piece of an export, at most: a node needs 5 ms for them.
    :ivar export_pieces: pieces of one export that are asked for, or wait for its caller: enough to keep a
        node and a coordinator busy at once.
    :ivar export_s: time for an export, however slowly its caller reads.
    :ivar stream_bytes: bytes of log handed to a follower's connection at a time.
    :ivar stream_pace_s: shortest time between two writes of log to one follower: under load they become fewer
        and larger, at rest nothing is delayed. For this long, only one node may hold a batch.
    :ivar commit_pace_s: shortest time between two commits that no caller waits for: a node's own batches take
        along what it follows, and such commits compete for the disk with those that callers wait for.
    :ivar ports: ports tried from the first one on, at the start and after a listener is lost.
    :ivar drain_s: time a stopping node waits for its followers to have all it has, and a stopping coordinator
        for its callers to be answered.
    :ivar startup_s: time after which a coordinator is ready although a member has not reported.
    :ivar segment_bytes: size from which a journal begins a new segment.
    :ivar snapshot_bytes: size of all segments from which a node takes a snapshot, unless half of the last
        snapshot is more.
    :ivar load_s: longest time that a node loads its ledger without letting other work run.
    :ivar load_pause_s: pause after that, in addition to the other work.
    :ivar erase_items: entries that the deletion of a tenant asks for, and deletes, at once: few enough that a
        coordinator needs less than 10 ms for them.
    :ivar compact_age_s: least age of deletions that are forgotten without being asked for; items with older
        stamps put that off.
    :ivar compact_s: time that a compaction waits until every node has durably what was stored before.
    :ivar erasures: deletions of tenants at once, at one coordinator; further ones wait.
    :ivar search_s: time between two searches for a node on all ports of its range.
    :ivar changed_tenants: tenants whose changed counts a node tells in one message: it takes a few
        milliseconds to make, and to read.
    :ivar watch_pace_s: shortest time between two rounds of events: no tenant has more than one in each.
    :ivar watch_wait_s: time that a node may wait for a change before it answers that there is none.
    :ivar watch_rest: how many times as long as a round of events took is between it and the next, at least:
        events take 3 % of a coordinator's time, and if there are many watchers, the rounds become rarer.
    :ivar watch_turn_s: time after which a coordinator that hands out events lets other work run.
    :ivar watch_kept: tenants of which the last change is kept, for watchers that read slowly or come back.
    :ivar watch_part_bytes: about how many bytes of events are handed to a watcher at once.
    :ivar watch_behind_s: time after which a watcher that has not read all events so far is dropped.
    :ivar watch_quiet_s: time without an event after which a watcher is told that there is none: proxies close
        connections that are silent for longer, usually for 60 s.
    :ivar watch_linger_s: time for which a coordinator still keeps events when the last watcher has gone: it
        may come back for what it missed.
    :ivar scrape_s: time that a scrape of `GET /metrics` waits for a node, and for counts of tenants; it takes
        less than a second.
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
    questions: int = 256
    connections: int = 1_000
    backlog_bytes: int = 64 * MEBIBYTE
    unfolded_runs: int = 64
    audit_bytes: int = 64 * MEBIBYTE
    audit_wait_s: float = 30.0
    audit_pause_s: float = 0.1
    chunk_rows: int = 5_000
    export_rows: int = 4_000
    export_pieces: int = 3
    export_s: float = 3_600.0
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
    erase_items: int = 5_000
    compact_age_s: float = 86_400.0
    compact_s: float = 30.0
    erasures: int = 4
    search_s: float = 1.0
    changed_tenants: int = 5_000
    watch_pace_s: float = 0.1
    watch_wait_s: float = 1.0
    watch_rest: int = 32
    watch_turn_s: float = 0.002
    watch_kept: int = 20_000
    watch_part_bytes: int = 64 * 1024
    watch_behind_s: float = 10.0
    watch_quiet_s: float = 15.0
    watch_linger_s: float = 30.0
    scrape_s: float = 0.8
