"""
Every bound of the HTTP server, by name, with its default and its reason.

`docs/http.md` has the same table for people.
"""

from dataclasses import dataclass

from dcounter.limits import GIBIBYTE, MEBIBYTE


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """
    The bounds. A name ends with its unit: `_s` is seconds.

    :ivar max_body_bytes: largest body; a larger one is refused before it arrives, or cut off while it does.
    :ivar max_items: items in one request. No body of the default size has as many: this bound matters only
        where `max_body_bytes` is raised.
    :ivar max_receipt_items: items in one request with `receipt=1`: one node decides about all of them in one
        piece, and one answer names all tenants that they were taken from.
    :ivar max_listed: IDs or tenants in a question or in its answer.
    :ivar max_tenant_bytes: length of a tenant name as UTF-8.
    :ivar max_connections: connections served at once. Together with those to nodes, they stay below the 1,024
        descriptors that a process usually has.
    :ivar reserved_connections: connections beyond `max_connections` whose first request is read: one for
        `/healthz` or `/readyz` is answered; for another one a connection that waits for a request makes
        room, or it gets an error. Further connections are closed without an answer.
    :ivar yield_after_s: time for which a connection has waited for a request, or for the rest of its head,
        when it has to make room.
    :ivar max_watchers: connections that read events, besides `max_connections`.
    :ivar max_bodies_bytes: all bodies in memory together.
    :ivar small_body_bytes: a body up to this size is accepted even then, so that slow uploads of large bodies
        cannot block small requests.
    :ivar idle_s: silence, between requests or within one, after which a connection is closed. Longer than the
        60 s for which load balancers keep an idle connection, so that they do not send a request on one that
        is just being closed.
    :ivar linger_s: time that a refused caller has to read the answer before its connection is aborted.
    :ivar max_head_bytes: request line and headers of one request; also the headers after a body in chunks.
    :ivar max_request_line_bytes: the request line alone.
    :ivar max_headers: headers of one request.
    :ivar max_chunk_line_bytes: the line that tells how long a chunk is, with what a caller adds to it.
    :ivar head_s: time from the first byte of a request to the end of its headers.
    :ivar read_ahead_bytes: what has come of the next requests while one is answered; beyond that, nothing
        more is read.
    :ivar stream_buffer_bytes: what has come of a body that a route reads while it arrives, and has not been
        taken yet; beyond that, nothing more is read.
    :ivar turn_s: time after which a connection with more requests at hand lets others have their turn.
    :ivar load_piece_bytes: bytes of a load that are parsed and stored together; no line may be longer. A few
        of the longest tenants fit it in any case.
    :ivar load_piece_lines: the same in lines. As many items share a batch with other requests; to parse more
        would keep others waiting.
    :ivar load_pieces: pieces of one load that are being stored; the next one waits. With more of them, counts
        wait longer, and the load is no faster.
    :ivar loads_pieces: pieces of all loads that are being stored.
    :ivar exports: exports at once. Each keeps a node and this process busy as long as its caller reads.
    :ivar load_s: time from the head of a load to the end of its body.
    :ivar max_decoded_bytes: what may come of a compressed body.
    :ivar max_expansion: how many times as large as a compressed body that may be, from 1 MiB.
    :ivar max_window_bytes: what a body that zstd has compressed may refer back to, which is kept in memory; a
        power of 2. RFC 9659 allows no more.
    """

    max_body_bytes: int = 16 * MEBIBYTE
    max_items: int = 1_000_000
    max_receipt_items: int = 1_000
    max_listed: int = 1_000
    max_tenant_bytes: int = 256
    max_connections: int = 800
    reserved_connections: int = 64
    yield_after_s: float = 1.0
    max_watchers: int = 1_000
    max_bodies_bytes: int = 512 * MEBIBYTE
    small_body_bytes: int = 64 * 1024
    idle_s: float = 75.0
    linger_s: float = 2.0
    max_head_bytes: int = 16 * 1024
    max_request_line_bytes: int = 8 * 1024
    max_headers: int = 500
    max_chunk_line_bytes: int = 256
    head_s: float = 20.0
    read_ahead_bytes: int = 64 * 1024
    stream_buffer_bytes: int = 256 * 1024
    turn_s: float = 0.001
    load_piece_bytes: int = 64 * 1024
    load_piece_lines: int = 1_000
    load_pieces: int = 4
    loads_pieces: int = 64
    exports: int = 4
    load_s: float = 3_600.0
    max_decoded_bytes: int = 64 * GIBIBYTE
    max_expansion: int = 500
    max_window_bytes: int = 8 * MEBIBYTE
